//! What is left to the card of a frame to be sent: its layer 4 checksum, and its cutting (§7.2.4 and
//! §7.2.5 of the datasheet).

use super::descriptors::{self, Context};
use crate::segment::{complete_checksum, fold};
use crate::{ChecksumOffload, Gso, GsoKind, TxMeta};

/// Bytes of an Ethernet header.
const ETHERNET: u16 = 14;

/// Where the checksum stands in a TCP and in a UDP header.
const TCP_CHECKSUM: u16 = 16;
const UDP_CHECKSUM: u16 = 6;

/// What the card is to do.
#[derive(Clone, Copy, Default)]
pub struct Offloads {
    /// The headers, if the card must know them.
    pub context: Option<Context>,
    /// It cuts the frame.
    pub segments: bool,
    /// Bytes of headers that do not count as payload: none unless the frame is cut.
    pub headers: usize,
}

impl Offloads {
    /// The bits of the data descriptors, if the context is in `slot`.
    pub fn flags(self, slot: u64) -> u64 {
        match (self.segments, self.context) {
            (true, Some(context)) => descriptors::segmentation(slot, context.ipv4),
            _ => descriptors::checksum(slot),
        }
    }
}

/// Prepares a frame for the card; `None` if it cannot be sent as it is wanted.
pub fn prepare(frame: &mut [u8], meta: TxMeta) -> Option<Offloads> {
    match (meta.checksum, meta.gso) {
        (None, None) => Some(Offloads::default()),
        (Some(checksum), Some(gso)) => segmentation(frame, checksum, gso),
        (Some(checksum), None) => match context(frame, checksum) {
            Some(context) => Some(Offloads {
                context: Some(context),
                ..Offloads::default()
            }),
            // A checksum that the card does not know, such as ICMPv6's.
            None => complete_checksum(frame, checksum).then(Offloads::default),
        },
        (None, Some(_)) => None,
    }
}

/// The headers of a frame whose checksum the card can compute.
fn context(frame: &[u8], checksum: ChecksumOffload) -> Option<Context> {
    let ipv4 = match frame.get(12..14)? {
        [0x08, 0x00] => true,
        [0x86, 0xdd] => false,
        _ => return None,
    };
    let ip_len = checksum.start.checked_sub(ETHERNET)?;
    let shortest = if ipv4 { 20 } else { 40 };
    let tcp = match checksum.offset {
        TCP_CHECKSUM => true,
        UDP_CHECKSUM => false,
        _ => return None,
    };
    let field_end = usize::from(checksum.start) + usize::from(checksum.offset) + 2;
    let fits = (shortest..512).contains(&ip_len) && field_end <= frame.len();
    fits.then_some(Context {
        mac_len: ETHERNET,
        ip_len,
        ipv4,
        tcp,
        l4_len: 0,
        mss: 0,
    })
}

/// Readies a super-segment: the card adds each segment's length to the pseudo-header's sum, and fills
/// in lengths and checksums of the IP headers.
fn segmentation(frame: &mut [u8], checksum: ChecksumOffload, gso: Gso) -> Option<Offloads> {
    let context = context(frame, checksum)?;
    let headers = usize::from(gso.header_len);
    let l4_len = gso.header_len.checked_sub(checksum.start)?;
    let same = context.tcp && context.ipv4 == (gso.kind == GsoKind::TcpV4);
    if !same || !(20..=60).contains(&l4_len) || headers >= frame.len() || gso.size == 0 {
        return None;
    }
    let start = usize::from(checksum.start);
    let without_length = u64::from(!((frame.len() - start) as u16));
    let field = &mut frame[start + usize::from(TCP_CHECKSUM)..][..2];
    let seed = u64::from(u16::from_be_bytes([field[0], field[1]]));
    field.copy_from_slice(&fold(seed + without_length).to_be_bytes());
    let ip = &mut frame[usize::from(ETHERNET)..];
    if context.ipv4 {
        ip[2..4].fill(0);
        ip[10..12].fill(0);
    } else {
        ip[4..6].fill(0);
    }
    Some(Offloads {
        context: Some(Context {
            l4_len: l4_len as u8,
            mss: gso.size,
            ..context
        }),
        segments: true,
        headers,
    })
}
