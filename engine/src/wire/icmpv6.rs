//! ICMP messages for IPv6 (RFC 4443).

use std::net::Ipv6Addr;

use super::checksum::{self, Sum};
use super::{DropReason, IcmpMessage, Ipv6Header, ipv6, protocol};

/// Message types (IANA "ICMPv6 Parameters").
pub mod kind {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// The first type that is no error.
    pub const INFORMATIONAL: u8 = 128;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Multicast listener query (RFC 3810).
    pub const LISTENER_QUERY: u8 = 130;
    /// Router solicitation (RFC 4861).
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement (RFC 4861).
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation (RFC 4861).
    pub const NEIGHBOR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement (RFC 4861).
    pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
    /// Redirect (RFC 4861).
    pub const REDIRECT: u8 = 137;
    /// Multicast listener report, version 2 (RFC 3810).
    pub const LISTENER_REPORT: u8 = 143;
}

/// Code "port unreachable" of "destination unreachable".
pub const PORT_UNREACHABLE: u8 = 4;

fn pseudo_header(src: Ipv6Addr, dst: Ipv6Addr, len: usize) -> Sum {
    checksum::pseudo_header_v6(src, dst, protocol::ICMPV6, len as u32)
}

/// Reads what the headers of a packet from `src` to `dst` lead to, and verifies its checksum.
///
/// # Errors
/// [`DropReason::IcmpTooShort`] or [`DropReason::IcmpBadChecksum`].
pub fn parse(src: Ipv6Addr, dst: Ipv6Addr, bytes: &[u8]) -> Result<IcmpMessage<'_>, DropReason> {
    IcmpMessage::parse(pseudo_header(src, dst, bytes.len()), bytes)
}

/// Writes a message, with its checksum for a packet from `src` to `dst`, to the beginning of `out`.
///
/// # Panics
/// If `out` is shorter than the message.
pub fn emit(src: Ipv6Addr, dst: Ipv6Addr, message: &IcmpMessage<'_>, out: &mut [u8]) {
    message.emit(pseudo_header(src, dst, message.len()), out);
}

/// A packet that carries the message.
pub fn packet(src: Ipv6Addr, dst: Ipv6Addr, hop_limit: u8, message: &IcmpMessage<'_>) -> Vec<u8> {
    let mut bytes = vec![0; ipv6::HEADER_LEN + message.len()];
    let header = Ipv6Header {
        src,
        dst,
        next_header: protocol::ICMPV6,
        hop_limit,
        traffic_class: 0,
        payload_len: u16::try_from(message.len()).expect("no longer than a packet received"),
    };
    header.emit(&mut bytes);
    emit(src, dst, message, &mut bytes[ipv6::HEADER_LEN..]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_part_of_the_sum() {
        const SRC: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
        const DST: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
        let message = IcmpMessage {
            kind: kind::ECHO_REQUEST,
            code: 0,
            rest: [0x12, 0x34, 0, 1],
            data: b"abcde",
        };
        let mut bytes = vec![0; message.len()];
        emit(SRC, DST, &message, &mut bytes);
        assert_eq!(parse(SRC, DST, &bytes), Ok(message));
        assert_eq!(parse(SRC, SRC, &bytes), Err(DropReason::IcmpBadChecksum));
    }
}
