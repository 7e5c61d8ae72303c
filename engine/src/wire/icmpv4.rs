//! ICMP messages for IPv4 (RFC 792).

use super::{DropReason, checksum};

/// Bytes of an ICMP header: type, code, checksum and four bytes that depend on the type.
pub const HEADER_LEN: usize = 8;

/// Message types (IANA "ICMP Parameters").
pub mod kind {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// Codes of "destination unreachable" (RFC 792, RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1).
pub mod unreachable {
    /// Network unreachable.
    pub const NETWORK: u8 = 0;
    /// Host unreachable.
    pub const HOST: u8 = 1;
    /// Protocol unreachable.
    pub const PROTOCOL: u8 = 2;
    /// Port unreachable.
    pub const PORT: u8 = 3;
    /// Fragmentation needed but DF set; carries the next hop's MTU (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Source route failed.
    pub const SOURCE_ROUTE_FAILED: u8 = 5;
    /// The highest code known.
    pub const PRECEDENCE_CUTOFF: u8 = 15;
}

/// An ICMP message, received or to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpMessage<'a> {
    /// Message type; see [`kind`].
    pub kind: u8,
    /// Subtype.
    pub code: u8,
    /// The header's last four bytes: identifier and sequence, next hop's MTU, pointer or nothing.
    pub rest: [u8; 4],
    /// What follows the header: echo data, or the quoted datagram.
    pub data: &'a [u8],
}

impl<'a> IcmpMessage<'a> {
    /// Reads the payload of an IPv4 datagram and verifies its checksum.
    ///
    /// # Errors
    /// [`DropReason::IcmpTooShort`] or [`DropReason::IcmpBadChecksum`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let (header, data) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(DropReason::IcmpTooShort)?;
        if !checksum::sum(bytes).is_valid() {
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

    /// Writes the message with its checksum to the first [`len`](Self::len) bytes of `out`.
    ///
    /// # Panics
    /// If `out` is shorter.
    pub fn emit(&self, out: &mut [u8]) {
        let (header, data) = out[..self.len()].split_at_mut(HEADER_LEN);
        header[..4].copy_from_slice(&[self.kind, self.code, 0, 0]);
        header[4..].copy_from_slice(&self.rest);
        let sum = checksum::copy_and_sum(data, self.data).plus(checksum::sum(header));
        header[2..4].copy_from_slice(&sum.checksum().to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHO: IcmpMessage<'static> = IcmpMessage {
        kind: kind::ECHO_REQUEST,
        code: 0,
        rest: [0x12, 0x34, 0, 1],
        data: b"abcde",
    };

    #[test]
    fn a_message_is_read_back_as_written() {
        let mut bytes = [0xee; 13];
        ECHO.emit(&mut bytes);
        assert_eq!(IcmpMessage::parse(&bytes), Ok(ECHO));
        assert_eq!(bytes[..2], [8, 0]);
    }

    #[test]
    fn a_message_cut_short_is_dropped() {
        for len in 0..HEADER_LEN {
            assert_eq!(
                IcmpMessage::parse(&[0; HEADER_LEN][..len]),
                Err(DropReason::IcmpTooShort)
            );
        }
    }

    #[test]
    fn any_bit_flipped_is_noticed() {
        let mut bytes = [0; 13];
        ECHO.emit(&mut bytes);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                IcmpMessage::parse(&flipped),
                Err(DropReason::IcmpBadChecksum),
                "bit {bit}"
            );
        }
    }
}
