//! The UDP header (RFC 768), read only: the stack answers port unreachable.

use super::{DropReason, be16, checksum, ipv4::Ipv4Packet};

/// Bytes of a UDP header.
pub const HEADER_LEN: usize = 8;

/// A received datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UdpDatagram<'a> {
    /// Source port; 0 if no answer is expected.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// What the datagram carries.
    pub payload: &'a [u8],
}

impl<'a> UdpDatagram<'a> {
    /// Reads the payload of `packet`. The checksum is verified unless the sender left it out or
    /// `checksum_known_good` says that the device has done so.
    ///
    /// # Errors
    /// [`DropReason::UdpTooShort`], [`DropReason::UdpBadLength`] or [`DropReason::UdpBadChecksum`].
    pub fn parse(packet: &Ipv4Packet<'a>, checksum_known_good: bool) -> Result<Self, DropReason> {
        let bytes = packet.payload();
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(DropReason::UdpTooShort)?;
        let length = be16(header, 4);
        let datagram = bytes
            .get(..usize::from(length))
            .ok_or(DropReason::UdpBadLength)?;
        let payload = datagram.get(HEADER_LEN..).ok_or(DropReason::UdpBadLength)?;
        if !checksum_known_good && be16(header, 6) != 0 {
            // The UDP length counts, not IP's: they may differ (RFC 768).
            let pseudo_header =
                checksum::pseudo_header_v4(packet.src, packet.dst, packet.protocol, length);
            if !pseudo_header.plus(checksum::sum(datagram)).is_valid() {
                return Err(DropReason::UdpBadChecksum);
            }
        }
        Ok(Self {
            src_port: be16(header, 0),
            dst_port: be16(header, 2),
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ipv4, ipv4::Ipv4Header, protocol};
    use super::*;
    use std::net::Ipv4Addr;

    /// An IPv4 datagram around `udp`.
    fn datagram(udp: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; ipv4::HEADER_LEN];
        Ipv4Header {
            src: Ipv4Addr::new(10, 77, 0, 1),
            dst: Ipv4Addr::new(10, 77, 0, 2),
            protocol: protocol::UDP,
            ttl: 64,
            tos: 0,
            df: false,
            id: 1,
            payload_len: udp.len() as u16,
        }
        .emit(&mut bytes);
        bytes.extend(udp);
        bytes
    }

    /// Port 5353 to 53, payload "hi!", with a right checksum.
    fn udp() -> Vec<u8> {
        let mut udp = vec![0x14, 0xe9, 0, 53, 0, 11, 0, 0, b'h', b'i', b'!'];
        let bytes = datagram(&udp);
        let packet = Ipv4Packet::parse(&bytes).unwrap();
        let checksum = packet
            .pseudo_header()
            .plus(checksum::sum(&udp))
            .udp_checksum();
        udp[6..8].copy_from_slice(&checksum.to_be_bytes());
        udp
    }

    fn parse(udp: &[u8], known_good: bool) -> Result<(u16, u16, Vec<u8>), DropReason> {
        let bytes = datagram(udp);
        let packet = Ipv4Packet::parse(&bytes).unwrap();
        UdpDatagram::parse(&packet, known_good)
            .map(|udp| (udp.src_port, udp.dst_port, udp.payload.to_vec()))
    }

    #[test]
    fn a_datagram_is_read() {
        assert_eq!(parse(&udp(), false), Ok((5353, 53, b"hi!".to_vec())));
    }

    #[test]
    fn bytes_after_the_udp_length_are_not_payload() {
        let mut longer = udp();
        longer.extend([0; 5]);
        assert_eq!(parse(&longer, false), Ok((5353, 53, b"hi!".to_vec())));
    }

    #[test]
    fn a_header_cut_short_is_dropped() {
        for len in 0..HEADER_LEN {
            assert_eq!(parse(&udp()[..len], false), Err(DropReason::UdpTooShort));
        }
    }

    #[test]
    fn a_length_that_lies_is_dropped() {
        for length in [0, 7, 12, 255] {
            let mut lying = udp();
            lying[5] = length;
            assert_eq!(parse(&lying, true), Err(DropReason::UdpBadLength));
        }
    }

    #[test]
    fn a_wrong_checksum_is_dropped_unless_the_device_vouches() {
        let mut wrong = udp();
        wrong[8] ^= 0x20;
        assert_eq!(parse(&wrong, false), Err(DropReason::UdpBadChecksum));
        assert!(parse(&wrong, true).is_ok());
    }

    #[test]
    fn a_checksum_may_be_left_out() {
        let mut without = udp();
        without[6..8].fill(0);
        assert!(parse(&without, false).is_ok());
    }
}
