//! What the messages of ICMP (RFC 792) and ICMPv6 (RFC 4443) have in common: all but their types,
//! and that the checksum of ICMPv6 takes in a pseudo-header.

use super::DropReason;
use super::checksum::{self, Sum};

/// Bytes of a header: type, code, checksum and four bytes that depend on the type.
pub const HEADER_LEN: usize = 8;

/// A message, received or to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpMessage<'a> {
    /// Message type; see [`icmpv4::kind`](super::icmpv4::kind) and
    /// [`icmpv6::kind`](super::icmpv6::kind).
    pub kind: u8,
    /// Subtype.
    pub code: u8,
    /// The header's last four bytes: identifier and sequence, MTU, pointer, flags or nothing.
    pub rest: [u8; 4],
    /// What follows the header: echo data, the quoted datagram, options.
    pub data: &'a [u8],
}

impl<'a> IcmpMessage<'a> {
    /// Reads a message and verifies its checksum; `pseudo_header` is [`Sum::ZERO`] for IPv4.
    ///
    /// # Errors
    /// [`DropReason::IcmpTooShort`] or [`DropReason::IcmpBadChecksum`].
    pub fn parse(pseudo_header: Sum, bytes: &'a [u8]) -> Result<Self, DropReason> {
        let (header, data) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(DropReason::IcmpTooShort)?;
        if !pseudo_header.plus(checksum::sum(bytes)).is_valid() {
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

    /// Writes the message with its checksum to the first [`len`](Self::len) bytes of `out`;
    /// `pseudo_header` is [`Sum::ZERO`] for IPv4.
    ///
    /// # Panics
    /// If `out` is shorter.
    pub fn emit(&self, pseudo_header: Sum, out: &mut [u8]) {
        let (header, data) = out[..self.len()].split_at_mut(HEADER_LEN);
        header[..4].copy_from_slice(&[self.kind, self.code, 0, 0]);
        header[4..].copy_from_slice(&self.rest);
        let sum = checksum::copy_and_sum(data, self.data)
            .plus(checksum::sum(header))
            .plus(pseudo_header);
        header[2..4].copy_from_slice(&sum.checksum().to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHO: IcmpMessage<'static> = IcmpMessage {
        kind: super::super::icmpv4::kind::ECHO_REQUEST,
        code: 0,
        rest: [0x12, 0x34, 0, 1],
        data: b"abcde",
    };
    const PSEUDO_HEADERS: [Sum; 2] = [Sum::ZERO, Sum::from_value(0x1234)];

    #[test]
    fn a_message_is_read_back_as_written() {
        for pseudo in PSEUDO_HEADERS {
            let mut bytes = [0xee; 13];
            ECHO.emit(pseudo, &mut bytes);
            assert_eq!(IcmpMessage::parse(pseudo, &bytes), Ok(ECHO));
            assert_eq!(bytes[..2], [8, 0]);
        }
    }

    #[test]
    fn a_message_cut_short_is_dropped() {
        for len in 0..HEADER_LEN {
            assert_eq!(
                IcmpMessage::parse(Sum::ZERO, &[0; HEADER_LEN][..len]),
                Err(DropReason::IcmpTooShort)
            );
        }
    }

    #[test]
    fn any_bit_flipped_is_noticed() {
        for pseudo in PSEUDO_HEADERS {
            let mut bytes = [0; 13];
            ECHO.emit(pseudo, &mut bytes);
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes;
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(
                    IcmpMessage::parse(pseudo, &flipped),
                    Err(DropReason::IcmpBadChecksum),
                    "bit {bit}"
                );
            }
        }
    }
}
