//! The IPv6 base header (RFC 8200 §3).

use std::net::Ipv6Addr;

use super::{DropReason, MacAddr, be16};

/// Bytes of the IPv6 base header.
pub const HEADER_LEN: usize = 40;

/// The least MTU of an IPv6 link (RFC 8200 §5), in bytes.
pub const MIN_MTU: u16 = 1280;

/// All nodes on the link (RFC 4291 §2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// All routers on the link (RFC 4291 §2.7.1).
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// The group that whoever has `address` is in (RFC 4291 §2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let (a, bc) = (u16::from(a), u16::from_be_bytes([b, c]));
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | a, bc)
}

/// The Ethernet group that a multicast packet is sent to (RFC 2464 §7).
pub fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// A received packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6Packet<'a> {
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// Protocol or extension header that the payload begins with.
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Traffic class: DSCP (RFC 2474) and ECN (RFC 3168).
    pub traffic_class: u8,
    /// Extension headers and upper-layer data, without padding.
    pub payload: &'a [u8],
    packet: &'a [u8],
}

impl<'a> Ipv6Packet<'a> {
    /// Reads the payload of an Ethernet frame; padding may follow the packet.
    ///
    /// # Errors
    /// [`DropReason::Ipv6TooShort`], [`DropReason::Ipv6BadVersion`] or
    /// [`DropReason::Ipv6Truncated`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let (header, rest) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(DropReason::Ipv6TooShort)?;
        if header[0] >> 4 != 6 {
            return Err(DropReason::Ipv6BadVersion);
        }
        let payload_len = usize::from(be16(header, 4));
        let payload = rest.get(..payload_len).ok_or(DropReason::Ipv6Truncated)?;
        let address_at =
            |at: usize| Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|i| header[at + i]));
        Ok(Self {
            src: address_at(8),
            dst: address_at(24),
            next_header: header[6],
            hop_limit: header[7],
            traffic_class: (be16(header, 0) >> 4) as u8,
            payload,
            packet: &bytes[..HEADER_LEN + payload_len],
        })
    }

    /// Header and payload, without padding: what an ICMP error quotes.
    pub fn packet(&self) -> &'a [u8] {
        self.packet
    }
}

/// The header of a packet to be sent, without extension headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6Header {
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// Protocol of the payload; see [`protocol`](super::protocol).
    pub next_header: u8,
    /// Hops that it may take.
    pub hop_limit: u8,
    /// Traffic class: DSCP (RFC 2474) and ECN (RFC 3168).
    pub traffic_class: u8,
    /// Bytes that follow the header.
    pub payload_len: u16,
}

impl Ipv6Header {
    /// Writes the header, with flow label 0, to the first [`HEADER_LEN`] bytes of `out`.
    ///
    /// # Panics
    /// If `out` is shorter.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        let out: &mut [u8; HEADER_LEN] = out.first_chunk_mut().expect("room for an IPv6 header");
        let word = 6 << 28 | u32::from(self.traffic_class) << 20;
        out[..4].copy_from_slice(&word.to_be_bytes());
        out[4..6].copy_from_slice(&self.payload_len.to_be_bytes());
        out[6] = self.next_header;
        out[7] = self.hop_limit;
        out[8..24].copy_from_slice(&self.src.octets());
        out[24..].copy_from_slice(&self.dst.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An echo request from ::1 to ff02::1 with four bytes of payload.
    fn packet() -> [u8; HEADER_LEN + 4] {
        let mut bytes = [0; HEADER_LEN + 4];
        bytes[0] = 0x60;
        bytes[5] = 4;
        bytes[6] = 58;
        bytes[7] = 255;
        bytes[23] = 1;
        bytes[24..26].copy_from_slice(&[0xff, 0x02]);
        bytes[39] = 1;
        bytes[40..].copy_from_slice(&[128, 0, 1, 2]);
        bytes
    }

    #[test]
    fn the_base_header_is_read_and_padding_left_out() {
        let mut padded = packet().to_vec();
        padded.extend([0; 6]);
        let packet = Ipv6Packet::parse(&padded).unwrap();
        assert_eq!(packet.src, Ipv6Addr::LOCALHOST);
        assert_eq!(packet.dst, "ff02::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!((packet.next_header, packet.hop_limit), (58, 255));
        assert_eq!(packet.payload, [128, 0, 1, 2]);
    }

    #[test]
    fn a_header_is_read_back_as_written() {
        let header = Ipv6Header {
            src: "fd77::1".parse().unwrap(),
            dst: "fd77::2".parse().unwrap(),
            next_header: 6,
            hop_limit: 64,
            traffic_class: 0xb9,
            payload_len: 3,
        };
        let mut bytes = [7; HEADER_LEN + 3];
        header.emit(&mut bytes);
        assert_eq!(bytes[..4], [0x6b, 0x90, 0, 0]);
        let packet = Ipv6Packet::parse(&bytes).unwrap();
        assert_eq!((packet.src, packet.dst), (header.src, header.dst));
        assert_eq!((packet.next_header, packet.hop_limit), (6, 64));
        assert_eq!((packet.traffic_class, packet.payload), (0xb9, &[7; 3][..]));
        assert_eq!(packet.packet(), bytes);
    }

    #[test]
    fn groups_are_derived_from_addresses() {
        let group = solicited_node("fd77::12:3456:789a".parse().unwrap());
        assert_eq!(group, "ff02::1:ff56:789a".parse::<Ipv6Addr>().unwrap());
        let mac = MacAddr([0x33, 0x33, 0xff, 0x56, 0x78, 0x9a]);
        assert_eq!(multicast_mac(group), mac);
    }

    #[test]
    fn a_packet_cut_short_is_dropped() {
        let bytes = packet();
        for len in 0..HEADER_LEN {
            assert_eq!(
                Ipv6Packet::parse(&bytes[..len]),
                Err(DropReason::Ipv6TooShort)
            );
        }
        for len in HEADER_LEN..bytes.len() {
            assert_eq!(
                Ipv6Packet::parse(&bytes[..len]),
                Err(DropReason::Ipv6Truncated)
            );
        }
    }

    #[test]
    fn another_version_is_dropped() {
        let mut bytes = packet();
        bytes[0] = 0x45;
        assert_eq!(Ipv6Packet::parse(&bytes), Err(DropReason::Ipv6BadVersion));
    }
}
