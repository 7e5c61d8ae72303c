//! The header that goes before each frame on a TAP with `IFF_VNET_HDR` and on a packet socket with
//! `PACKET_VNET_HDR` (`struct virtio_net_hdr`, virtio 1.2 §5.1.6, in the byte order of the machine).

use crate::{Gso, GsoKind, RxChecksum, RxMeta, TxMeta};

/// Bytes of the header. With 10, the IP header of the frame behind it lies on a multiple of 8.
pub const LEN: usize = 10;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
/// Set beside the type when the frame has CWR set (RFC 3168).
const GSO_ECN: u8 = 0x80;

/// What the kernel says of a frame it hands over; `None` for a kind of super-segment that was
/// never asked for.
pub fn decode(header: &[u8; LEN]) -> Option<RxMeta> {
    let gso_size = u16::from_ne_bytes([header[4], header[5]]);
    let gso_size = match header[1] & !GSO_ECN {
        GSO_NONE => 0,
        GSO_TCPV4 | GSO_TCPV6 if gso_size > 0 => gso_size,
        _ => return None,
    };
    // A checksum that is still to be filled in belongs to a frame from this very machine.
    let checksum = if header[0] & (NEEDS_CSUM | DATA_VALID) != 0 {
        RxChecksum::Good
    } else {
        RxChecksum::Unknown
    };
    Some(RxMeta { checksum, gso_size })
}

/// The header for a frame to be sent.
pub fn encode(meta: TxMeta) -> [u8; LEN] {
    let mut header = [0; LEN];
    if let Some(checksum) = meta.checksum {
        header[0] = NEEDS_CSUM;
        header[6..8].copy_from_slice(&checksum.start.to_ne_bytes());
        header[8..10].copy_from_slice(&checksum.offset.to_ne_bytes());
    }
    if let Some(Gso {
        kind,
        size,
        header_len,
    }) = meta.gso
    {
        header[1] = match kind {
            GsoKind::TcpV4 => GSO_TCPV4,
            GsoKind::TcpV6 => GSO_TCPV6,
        };
        header[2..4].copy_from_slice(&header_len.to_ne_bytes());
        header[4..6].copy_from_slice(&size.to_ne_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChecksumOffload;

    #[test]
    fn what_is_sent_reads_back_as_received() {
        let checksum = Some(ChecksumOffload {
            start: 34,
            offset: 16,
        });
        for kind in [GsoKind::TcpV4, GsoKind::TcpV6] {
            let gso = Some(Gso {
                kind,
                size: 1448,
                header_len: 66,
            });
            let meta = decode(&encode(TxMeta { checksum, gso })).unwrap();
            assert_eq!(
                meta,
                RxMeta {
                    checksum: RxChecksum::Good,
                    gso_size: 1448
                }
            );
        }
        assert_eq!(decode(&encode(TxMeta::default())), Some(RxMeta::default()));
    }

    #[test]
    fn a_super_segment_with_ecn_is_one_like_others() {
        let header = [NEEDS_CSUM, GSO_TCPV4 | GSO_ECN, 0, 0, 1, 1, 0, 0, 0, 0];
        assert_eq!(decode(&header).unwrap().gso_size, 0x0101);
    }

    #[test]
    fn other_or_empty_segmentation_is_refused() {
        assert_eq!(decode(&[0, 3, 0, 0, 1, 1, 0, 0, 0, 0]), None);
        assert_eq!(decode(&[0, GSO_TCPV4, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
