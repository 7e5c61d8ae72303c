//! The card's descriptors, 16 bytes in two words, as the datasheet lays them out: advanced receive
//! (§7.1.6) and transmit (§7.2.3) descriptors.

/// A receive descriptor as the driver hands it over: where the frame goes, and no header buffer.
pub const fn receive_read(buffer: u64) -> [u64; 2] {
    [buffer, 0]
}

/// Word 1 of a receive descriptor as the card writes it back.
#[derive(Clone, Copy)]
pub struct Received(pub u64);

impl Received {
    const DONE: u64 = 1;
    const END_OF_PACKET: u64 = 1 << 1;
    const L4_CHECKED: u64 = 1 << 5;
    /// A layer 4 or an IP checksum that was wrong.
    const CHECKSUM_ERRORS: u64 = 1 << 30 | 1 << 31;
    const MAC_ERROR: u64 = 1 << 29;
    const VLAN: u64 = 1 << 3;

    /// The descriptor is the driver's again.
    pub const fn is_done(self) -> bool {
        self.0 & Self::DONE != 0
    }

    /// The frame ends in this buffer.
    pub const fn is_last(self) -> bool {
        self.0 & Self::END_OF_PACKET != 0
    }

    /// A frame that ends here, undamaged, and had no tag that was stripped, nor is empty.
    pub const fn is_plain(self) -> bool {
        let flags = Self::END_OF_PACKET | Self::MAC_ERROR | Self::VLAN;
        self.0 & flags == Self::END_OF_PACKET && self.len() > 0
    }

    /// The descriptor in which the frame goes on, if it does not end here and was coalesced.
    pub const fn next(self) -> u16 {
        (self.0 >> 4) as u16
    }

    /// The card has checked the layer 4 checksum and found nothing wrong.
    pub const fn is_checksum_good(self) -> bool {
        self.0 & (Self::L4_CHECKED | Self::CHECKSUM_ERRORS) == Self::L4_CHECKED
    }

    /// The frame was damaged on its way, or longer than is taken.
    pub const fn is_damaged(self) -> bool {
        self.0 & Self::MAC_ERROR != 0
    }

    /// The VLAN whose tag was stripped; 0 for none, or a tag that only carries a priority.
    pub const fn vlan(self) -> u16 {
        if self.0 & Self::VLAN == 0 {
            return 0;
        }
        (self.0 >> 48) as u16 & 0xfff
    }

    /// Bytes in this buffer.
    pub const fn len(self) -> usize {
        (self.0 >> 32) as u16 as usize
    }
}

/// TCP segments that were merged so far, from word 0 of a receive descriptor written back.
pub const fn coalesced(word: u64) -> u16 {
    (word >> 17) as u16 & 0xf
}

/// The longest piece of a frame that one transmit descriptor holds here, in bytes; the field has 16
/// bits, of which Linux's driver uses as much.
pub const MAX_PIECE: usize = 1 << 14;

const DATA: u64 = 3 << 20;
const CONTEXT: u64 = 2 << 20;
const END_OF_PACKET: u64 = 1 << 24;
const INSERT_FCS: u64 = 1 << 25;
const REPORT_STATUS: u64 = 1 << 27;
const ADVANCED: u64 = 1 << 29;
const SEGMENT: u64 = 1 << 31;
const CHECK_CONTEXT: u64 = 1 << 39;
const IP_CHECKSUM: u64 = 1 << 40;
const L4_CHECKSUM: u64 = 1 << 41;

/// Bits of every data descriptor.
pub const TRANSMIT_DATA: u64 = DATA | INSERT_FCS | ADVANCED;
/// Bits of a frame's last data descriptor.
pub const TRANSMIT_LAST: u64 = END_OF_PACKET;
/// Has the card write the descriptor back when it is done with it.
pub const TRANSMIT_REPORT: u64 = REPORT_STATUS;

/// Where the card sets "done".
pub const fn is_sent(word: u64) -> bool {
    word >> 32 & 1 != 0
}

/// What a frame's data descriptors say of its offloads.
pub const fn payload(bytes: usize) -> u64 {
    (bytes as u64) << 46
}

/// Layer 4 checksum by the context in slot `slot`.
pub const fn checksum(slot: u64) -> u64 {
    L4_CHECKSUM | CHECK_CONTEXT | slot << 36
}

/// Segmentation by the context in slot `slot`: with it go the layer 4 checksum and that of an IPv4
/// header, which IPv6 has not.
pub const fn segmentation(slot: u64, ipv4: bool) -> u64 {
    let ip = if ipv4 { IP_CHECKSUM } else { 0 };
    checksum(slot) | ip | SEGMENT
}

/// A context descriptor: the lengths of the headers, in bytes, and what they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// The Ethernet header.
    pub mac_len: u16,
    /// The IP header.
    pub ip_len: u16,
    /// IP version 4, else 6.
    pub ipv4: bool,
    /// TCP, else UDP.
    pub tcp: bool,
    /// The TCP header, if the frame is to be segmented.
    pub l4_len: u8,
    /// Payload of each segment, if the frame is to be segmented.
    pub mss: u16,
}

impl Context {
    /// The descriptor that puts it into slot `slot`, 0 or 1.
    pub const fn encode(self, slot: u64) -> [u64; 2] {
        let kind = (self.ipv4 as u64) << 10 | (self.tcp as u64) << 11;
        [
            self.ip_len as u64 | (self.mac_len as u64) << 9,
            CONTEXT
                | ADVANCED
                | kind
                | slot << 36
                | (self.l4_len as u64) << 40
                | (self.mss as u64) << 48,
        ]
    }
}
