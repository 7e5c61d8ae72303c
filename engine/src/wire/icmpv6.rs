//! ICMP messages for IPv6 (RFC 4443).

use std::net::Ipv6Addr;

use super::{DropReason, Ipv6Header, checksum, ipv6, protocol};

/// Bytes of an ICMPv6 header: type, code, checksum and four bytes that depend on the type.
pub const HEADER_LEN: usize = 8;

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

/// An ICMPv6 message, received or to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Icmpv6Message<'a> {
    /// Message type; see [`kind`].
    pub kind: u8,
    /// Subtype.
    pub code: u8,
    /// The header's last four bytes: identifier and sequence, MTU, pointer, flags or nothing.
    pub rest: [u8; 4],
    /// What follows the header.
    pub data: &'a [u8],
}

impl<'a> Icmpv6Message<'a> {
    /// Reads what the headers of a packet from `src` to `dst` lead to, and verifies its checksum.
    ///
    /// # Errors
    /// [`DropReason::IcmpTooShort`] or [`DropReason::IcmpBadChecksum`].
    pub fn parse(src: Ipv6Addr, dst: Ipv6Addr, bytes: &'a [u8]) -> Result<Self, DropReason> {
        let (header, data) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(DropReason::IcmpTooShort)?;
        let pseudo = checksum::pseudo_header_v6(src, dst, protocol::ICMPV6, bytes.len() as u32);
        if !pseudo.plus(checksum::sum(bytes)).is_valid() {
            return Err(DropReason::IcmpBadChecksum);
        }
        let [kind, code, _, _, r0, r1, r2, r3] = *header;
        Ok(Self {
            kind,
            code,
            rest: [r0, r1, r2, r3],
            data,
        })
    }

    /// Bytes of the whole message.
    #[expect(clippy::len_without_is_empty, reason = "a message is never empty")]
    pub fn len(&self) -> usize {
        HEADER_LEN + self.data.len()
    }

    /// Writes the message, with its checksum for a packet from `src` to `dst`, to the first
    /// [`len`](Self::len) bytes of `out`.
    ///
    /// # Panics
    /// If `out` is shorter.
    pub fn emit(&self, src: Ipv6Addr, dst: Ipv6Addr, out: &mut [u8]) {
        let len = self.len();
        let (header, data) = out[..len].split_at_mut(HEADER_LEN);
        header[..4].copy_from_slice(&[self.kind, self.code, 0, 0]);
        header[4..].copy_from_slice(&self.rest);
        let sum = checksum::copy_and_sum(data, self.data)
            .plus(checksum::sum(header))
            .plus(checksum::pseudo_header_v6(
                src,
                dst,
                protocol::ICMPV6,
                len as u32,
            ));
        header[2..4].copy_from_slice(&sum.checksum().to_be_bytes());
    }
}

/// A packet that carries the message.
pub fn packet(src: Ipv6Addr, dst: Ipv6Addr, hop_limit: u8, message: &Icmpv6Message<'_>) -> Vec<u8> {
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
    message.emit(src, dst, &mut bytes[ipv6::HEADER_LEN..]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHO: Icmpv6Message<'static> = Icmpv6Message {
        kind: kind::ECHO_REQUEST,
        code: 0,
        rest: [0x12, 0x34, 0, 1],
        data: b"abcde",
    };
    const SRC: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
    const DST: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);

    #[test]
    fn a_message_is_read_back_as_written() {
        let mut bytes = [0xee; 13];
        ECHO.emit(SRC, DST, &mut bytes);
        assert_eq!(Icmpv6Message::parse(SRC, DST, &bytes), Ok(ECHO));
        assert_eq!(
            Icmpv6Message::parse(SRC, SRC, &bytes),
            Err(DropReason::IcmpBadChecksum),
            "the addresses are part of the sum"
        );
    }

    #[test]
    fn a_message_cut_short_or_changed_is_dropped() {
        let mut bytes = [0; 13];
        ECHO.emit(SRC, DST, &mut bytes);
        for len in 0..HEADER_LEN {
            assert_eq!(
                Icmpv6Message::parse(SRC, DST, &bytes[..len]),
                Err(DropReason::IcmpTooShort)
            );
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                Icmpv6Message::parse(SRC, DST, &flipped),
                Err(DropReason::IcmpBadChecksum),
                "bit {bit}"
            );
        }
    }
}
