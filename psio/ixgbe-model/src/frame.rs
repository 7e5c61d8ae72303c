//! What the card sees in a frame: headers, and whether their checksums are right.

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum L4 {
    Tcp,
    Udp,
}

/// The headers of an IP packet.
#[derive(Clone, Copy, Debug)]
pub struct Ip {
    pub v4: bool,
    /// Where the header begins, and where the next one does.
    pub start: usize,
    pub next: usize,
    /// Where the packet ends; padding may follow.
    pub end: usize,
    pub protocol: u8,
    pub fragment: bool,
    /// The header carries options.
    pub options: bool,
    /// TCP or UDP, if its header is there.
    pub l4: Option<L4>,
}

pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

impl Ip {
    /// Parses a frame without a tag.
    pub fn of(frame: &[u8]) -> Option<Ip> {
        let ip = frame.get(ETHERNET..)?;
        let mut found = match u16_at(frame, 12) {
            0x0800 if ip.len() >= 20 && ip[0] >> 4 == 4 => {
                let header = usize::from(ip[0] & 0xf) * 4;
                let total = usize::from(u16_at(ip, 2));
                if header < 20 || total < header || total > ip.len() {
                    return None;
                }
                Ip {
                    v4: true,
                    start: ETHERNET,
                    next: ETHERNET + header,
                    end: ETHERNET + total,
                    protocol: ip[9],
                    fragment: u16_at(ip, 6) & 0x3fff != 0,
                    options: header > 20,
                    l4: None,
                }
            }
            0x86dd if ip.len() >= 40 && ip[0] >> 4 == 6 => {
                let total = 40 + usize::from(u16_at(ip, 4));
                if total > ip.len() {
                    return None;
                }
                Ip {
                    v4: false,
                    start: ETHERNET,
                    next: ETHERNET + 40,
                    end: ETHERNET + total,
                    protocol: ip[6],
                    fragment: ip[6] == 44,
                    options: false,
                    l4: None,
                }
            }
            _ => return None,
        };
        let room = found.end - found.next;
        found.l4 = match found.protocol {
            6 if !found.fragment && room >= 20 => Some(L4::Tcp),
            17 if !found.fragment && room >= 8 => Some(L4::Udp),
            _ => None,
        };
        Some(found)
    }

    /// Both addresses, as they follow each other in the header.
    pub fn addresses<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        match self.v4 {
            true => &frame[self.start + 12..self.start + 20],
            false => &frame[self.start + 8..self.start + 40],
        }
    }

    /// The IPv4 header's checksum is right; `None` for IPv6.
    pub fn header_is_good(&self, frame: &[u8]) -> Option<bool> {
        self.v4
            .then(|| sum(&frame[self.start..self.next], 0) == 0xffff)
    }

    /// The layer 4 checksum is right; `None` if there is none.
    pub fn l4_is_good(&self, frame: &[u8]) -> Option<bool> {
        let body = &frame[self.next..self.end];
        if self.l4? == L4::Udp && u16_at(body, 6) == 0 {
            return None;
        }
        Some(sum(body, self.pseudo(frame, body.len())) == 0xffff)
    }

    /// The pseudo-header's sum.
    fn pseudo(&self, frame: &[u8], len: usize) -> u16 {
        let rest = u32::from(self.protocol) + len as u32;
        sum(self.addresses(frame), fold(rest))
    }
}

/// The one's complement sum of big-endian words, begun with `seed`.
pub fn sum(bytes: &[u8], seed: u16) -> u16 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total = u64::from(seed);
    for word in words {
        total += u64::from(u32::from_be_bytes(*word));
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_be_bytes(last));
    while total > 0xffff_ffff {
        total = (total & 0xffff_ffff) + (total >> 32);
    }
    fold(total as u32)
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
