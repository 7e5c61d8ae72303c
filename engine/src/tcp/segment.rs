//! The TCP header (RFC 9293 section 3.1): segments that came in, and segments to send.

use core::fmt;
use core::ops::{BitOr, BitOrAssign, Range};

use super::ecn::Codepoint;
use super::options::Options;
use super::seq::SeqNum;

/// Length of a header without options, in bytes.
pub const MIN_HEADER_LEN: usize = 20;

/// The control bits.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Flags = Flags(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Flags = Flags(0x02);
    /// Reset the connection.
    pub const RST: Flags = Flags(0x04);
    /// Deliver what has come so far.
    pub const PSH: Flags = Flags(0x08);
    /// The acknowledgement field counts.
    pub const ACK: Flags = Flags(0x10);
    /// The urgent pointer counts.
    pub const URG: Flags = Flags(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Flags = Flags(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Flags = Flags(0x80);

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    pub const fn intersects(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: &[u8; 8] = b"FSRP.UEC";
        for (bit, letter) in LETTERS.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                write!(f, "{}", char::from(*letter))?;
            }
        }
        Ok(())
    }
}

/// Why bytes are not a TCP segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseError {
    /// Fewer than 20 bytes.
    Truncated,
    /// The data offset is below 5 words or points past the bytes there are.
    DataOffset,
    /// An option of length 0 or 1.
    OptionLength,
    /// An option that reaches past the header.
    OptionOverrun,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ParseError::Truncated => "TCP header shorter than 20 bytes",
            ParseError::DataOffset => "TCP data offset outside the segment",
            ParseError::OptionLength => "TCP option of length 0 or 1",
            ParseError::OptionOverrun => "TCP option reaches past the header",
        })
    }
}

impl core::error::Error for ParseError {}

/// A segment that came in. Borrows its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment<'a> {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number of the SYN or else of the first payload byte.
    pub seq: SeqNum,
    /// Acknowledgement number; counts only with [`Flags::ACK`].
    pub ack: SeqNum,
    /// Control bits.
    pub flags: Flags,
    /// Window field as sent, not scaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options.
    pub options: Options,
    /// Data.
    pub payload: &'a [u8],
    /// What the IP header says of congestion. [`parse`](Self::parse) leaves it at the default.
    pub ecn: Codepoint,
    /// Payload size of the segments from which the device merged this one; 0 if it is a single one.
    /// [`parse`](Self::parse) leaves it 0, who knows the device sets it.
    pub gso_size: u16,
}

impl<'a> Segment<'a> {
    /// Reads a segment: header, options, and all that follows as payload. The checksum is the
    /// caller's business.
    ///
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Segment<'a>, ParseError> {
        let mut segment = Segment::default();
        segment.read(bytes)?;
        Ok(segment)
    }

    /// The same in place: over one of which nothing is set yet, and nothing counts after an error.
    ///
    /// # Errors
    /// See [`ParseError`].
    #[inline(always)]
    pub fn read(&mut self, bytes: &'a [u8]) -> Result<(), ParseError> {
        let Some((header, _)) = bytes.split_first_chunk::<MIN_HEADER_LEN>() else {
            return Err(ParseError::Truncated);
        };
        let header_len = usize::from(header[12] >> 4) * 4;
        if header_len < MIN_HEADER_LEN || header_len > bytes.len() {
            return Err(ParseError::DataOffset);
        }
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let long = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        (self.src_port, self.dst_port) = (word(0), word(2));
        (self.seq, self.ack) = (SeqNum(long(4)), SeqNum(long(8)));
        self.flags = Flags(header[13]);
        (self.window, self.urgent) = (word(14), word(18));
        self.payload = &bytes[header_len..];
        self.options.read(&bytes[MIN_HEADER_LEN..header_len])
    }

    /// SEG.LEN: sequence numbers that the segment occupies, SYN and FIN included.
    pub fn seq_len(&self) -> u32 {
        let syn = u32::from(self.flags.contains(Flags::SYN));
        let fin = u32::from(self.flags.contains(Flags::FIN));
        (self.payload.len() as u32).wrapping_add(syn + fin)
    }

    /// Payload bytes of one segment on the wire.
    pub(super) fn wire_payload(&self) -> usize {
        match usize::from(self.gso_size) {
            0 => self.payload.len(),
            size => size.min(self.payload.len()),
        }
    }
}

/// A segment to send. Its payload is named by offsets in the send stream, 0 being the first byte
/// after the SYN; who holds the stream fills the bytes in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgement number.
    pub ack: SeqNum,
    /// Control bits.
    pub flags: Flags,
    /// Window field, already scaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options.
    pub options: Options,
    /// What the IP header is to say of congestion.
    pub ecn: Codepoint,
    /// Payload, as offsets in the send stream.
    pub payload: Range<u64>,
    /// Payload bytes per segment on the wire: a longer payload is a super-segment that is cut here,
    /// with FIN and PSH on its last piece.
    pub mss: u16,
}

impl Outgoing {
    /// Header length in bytes, options included: 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        MIN_HEADER_LEN + self.options.len()
    }

    /// Payload length in bytes.
    pub fn payload_len(&self) -> usize {
        self.payload.end.saturating_sub(self.payload.start) as usize
    }

    /// Writes header and options to the start of `out`, with a checksum field of 0; returns
    /// [`header_len`](Self::header_len).
    ///
    /// # Panics
    /// If `out` is shorter than [`header_len`](Self::header_len).
    #[inline]
    pub fn emit(&self, src_port: u16, dst_port: u16, out: &mut [u8]) -> usize {
        let (header, options) = out
            .split_first_chunk_mut::<MIN_HEADER_LEN>()
            .expect("room for a TCP header");
        let header_len = MIN_HEADER_LEN + self.options.emit(options);
        header[0..2].copy_from_slice(&src_port.to_be_bytes());
        header[2..4].copy_from_slice(&dst_port.to_be_bytes());
        header[4..8].copy_from_slice(&self.seq.0.to_be_bytes());
        header[8..12].copy_from_slice(&self.ack.0.to_be_bytes());
        header[12] = ((header_len / 4) as u8) << 4;
        header[13] = self.flags.0;
        header[14..16].copy_from_slice(&self.window.to_be_bytes());
        header[16..18].copy_from_slice(&[0, 0]);
        header[18..20].copy_from_slice(&self.urgent.to_be_bytes());
        header_len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing() -> Outgoing {
        Outgoing {
            seq: SeqNum(0xdead_beef),
            ack: SeqNum(7),
            flags: Flags::ACK | Flags::PSH,
            window: 0x1234,
            urgent: 3,
            ecn: Codepoint::NotEct,
            options: Options {
                timestamps: Some((5, 6)),
                ..Options::default()
            },
            payload: 0..4,
            mss: 1448,
        }
    }

    #[test]
    fn what_is_emitted_is_parsed_back() {
        let out = outgoing();
        let mut bytes = [0xff; 36];
        assert_eq!(out.header_len() + out.payload_len(), bytes.len());
        out.emit(80, 4000, &mut bytes);
        let segment = Segment::parse(&bytes).unwrap();
        assert_eq!((segment.src_port, segment.dst_port), (80, 4000));
        assert_eq!((segment.seq, segment.ack), (out.seq, out.ack));
        assert_eq!(
            (segment.flags, segment.window, segment.urgent),
            (out.flags, 0x1234, 3)
        );
        assert_eq!(segment.options, out.options);
        assert_eq!(segment.payload, &[0xff; 4]);
        assert_eq!(bytes[16..18], [0, 0], "the checksum is left to the caller");
    }

    #[test]
    fn a_short_header_is_refused() {
        assert_eq!(Segment::parse(&[0; 19]), Err(ParseError::Truncated));
    }

    #[test]
    fn a_data_offset_that_lies_is_refused() {
        let mut bytes = [0; 40];
        for (offset, fine) in [(0, false), (4, false), (5, true), (10, true), (11, false)] {
            bytes[12] = offset << 4;
            let parsed = Segment::parse(&bytes);
            assert_eq!(parsed.is_ok(), fine, "data offset {offset}: {parsed:?}");
        }
    }

    #[test]
    fn syn_and_fin_take_a_sequence_number_each() {
        let mut bytes = [0; 23];
        bytes[12] = 5 << 4;
        bytes[13] = (Flags::SYN | Flags::FIN).0;
        assert_eq!(Segment::parse(&bytes).unwrap().seq_len(), 5);
    }
}
