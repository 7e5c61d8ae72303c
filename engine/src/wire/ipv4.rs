//! IPv4 datagrams (RFC 791). Options and fragments are rejected, each with its reason.

use std::net::Ipv4Addr;

use super::{DropReason, be16, checksum};

/// Bytes of an IPv4 header without options.
pub const HEADER_LEN: usize = 20;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x3fff;

/// A received datagram: unfragmented, without options, its header checksum verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Packet<'a> {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Protocol of the payload; see [`protocol`](super::protocol).
    pub protocol: u8,
    /// Time to live, in hops.
    pub ttl: u8,
    /// Type of service: DSCP (RFC 2474) and ECN (RFC 3168).
    pub tos: u8,
    /// Whether routers must not fragment it.
    pub df: bool,
    /// Identification (RFC 6864).
    pub id: u16,
    datagram: &'a [u8],
}

impl<'a> Ipv4Packet<'a> {
    /// Reads the payload of an Ethernet frame; padding may follow the datagram.
    ///
    /// # Errors
    /// The `Ipv4…` reasons that need no knowledge of our addresses: too short, bad version,
    /// lengths that lie, bad checksum, options, fragment, time to live 0.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(DropReason::Ipv4TooShort)?;
        if header[0] >> 4 != 4 {
            return Err(DropReason::Ipv4BadVersion);
        }
        let header_len = usize::from(header[0] & 0x0f) * 4;
        if header_len < HEADER_LEN || header_len > bytes.len() {
            return Err(DropReason::Ipv4BadHeaderLength);
        }
        let total_len = usize::from(be16(header, 2));
        if total_len < header_len {
            return Err(DropReason::Ipv4BadTotalLength);
        }
        let datagram = bytes.get(..total_len).ok_or(DropReason::Ipv4Truncated)?;
        let sum = match header_len {
            HEADER_LEN => checksum::sum_of_header(header),
            _ => checksum::sum(&datagram[..header_len]),
        };
        if !sum.is_valid() {
            return Err(DropReason::Ipv4BadChecksum);
        }
        if header_len > HEADER_LEN {
            return Err(DropReason::Ipv4Options);
        }
        let flags_and_offset = be16(header, 6);
        if flags_and_offset & MORE_FRAGMENTS_OR_OFFSET != 0 {
            return Err(DropReason::Ipv4Fragment);
        }
        if header[8] == 0 {
            return Err(DropReason::Ipv4TtlZero);
        }
        Ok(Self::of_checked(header, datagram))
    }

    /// A datagram whose `header` is known to be right.
    #[inline]
    pub(crate) fn of_checked(header: &[u8; HEADER_LEN], datagram: &'a [u8]) -> Self {
        Self {
            src: address_at(header, 12),
            dst: address_at(header, 16),
            protocol: header[9],
            ttl: header[8],
            tos: header[1],
            df: be16(header, 6) & DONT_FRAGMENT != 0,
            id: be16(header, 4),
            datagram,
        }
    }

    /// What the datagram carries, without padding.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        &self.datagram[HEADER_LEN..]
    }

    /// Header and payload, without padding: what an ICMP error quotes.
    pub fn datagram(&self) -> &'a [u8] {
        self.datagram
    }

    /// The sum of the pseudo-header for the payload's checksum.
    #[inline]
    pub fn pseudo_header(&self) -> checksum::Sum {
        // A datagram is at most 65,535 bytes long.
        let length = self.payload().len() as u16;
        checksum::pseudo_header_v4(self.src, self.dst, self.protocol, length)
    }
}

fn address_at(header: &[u8; HEADER_LEN], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3])
}

/// The header of a datagram to be sent, without options and unfragmented.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Header {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Protocol of the payload; see [`protocol`](super::protocol).
    pub protocol: u8,
    /// Time to live, in hops.
    pub ttl: u8,
    /// Type of service: DSCP (RFC 2474) and ECN (RFC 3168).
    pub tos: u8,
    /// Whether routers must not fragment it.
    pub df: bool,
    /// Identification (RFC 6864).
    pub id: u16,
    /// Bytes that follow the header.
    pub payload_len: u16,
}

impl Ipv4Header {
    /// The longest payload of a datagram, in bytes.
    pub const MAX_PAYLOAD: u16 = u16::MAX - HEADER_LEN as u16;

    /// Writes the header with its checksum to the first [`HEADER_LEN`] bytes of `out`.
    ///
    /// # Panics
    /// If `out` is shorter, or `payload_len` is above [`MAX_PAYLOAD`](Self::MAX_PAYLOAD).
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        assert!(
            self.payload_len <= Self::MAX_PAYLOAD,
            "the payload does not fit into an IPv4 datagram"
        );
        let out: &mut [u8; HEADER_LEN] = out.first_chunk_mut().expect("room for an IPv4 header");
        let pair = |high: u16, low: u16| u32::from(high) << 16 | u32::from(low);
        let version_and_tos = 0x4500 | u16::from(self.tos);
        let flags = if self.df { DONT_FRAGMENT } else { 0 };
        let ttl_and_protocol = u16::from(self.ttl) << 8 | u16::from(self.protocol);
        let mut words = [
            pair(version_and_tos, HEADER_LEN as u16 + self.payload_len),
            pair(self.id, flags),
            pair(ttl_and_protocol, 0),
            self.src.to_bits(),
            self.dst.to_bits(),
        ];
        words[2] |= u32::from(checksum::sum_of_words(words).checksum());
        let (fields, _) = out.as_chunks_mut::<4>();
        for (field, word) in fields.iter_mut().zip(words) {
            *field = word.to_be_bytes();
        }
    }

    /// The sum of the pseudo-header for the payload's checksum.
    #[inline]
    pub fn pseudo_header(&self) -> checksum::Sum {
        checksum::pseudo_header_v4(self.src, self.dst, self.protocol, self.payload_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Ipv4Header {
        Ipv4Header {
            src: Ipv4Addr::new(10, 77, 0, 1),
            dst: Ipv4Addr::new(10, 77, 0, 2),
            protocol: 6,
            ttl: 64,
            tos: 0x02,
            df: true,
            id: 0x1234,
            payload_len: 8,
        }
    }

    fn datagram() -> [u8; 28] {
        let mut bytes = [7; 28];
        header().emit(&mut bytes);
        bytes
    }

    /// Writes one header byte and makes the checksum of all `header_len` bytes right again.
    fn with(mut bytes: [u8; 28], at: usize, value: u8, header_len: usize) -> [u8; 28] {
        bytes[at] = value;
        bytes[10..12].fill(0);
        let checksum = checksum::sum(&bytes[..header_len]).checksum();
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    #[test]
    fn a_header_has_the_bytes_of_rfc_791() {
        // The worked example of many textbooks: its checksum is b861.
        let header = Ipv4Header {
            src: Ipv4Addr::new(192, 168, 0, 1),
            dst: Ipv4Addr::new(192, 168, 0, 199),
            protocol: 17,
            ttl: 64,
            tos: 0,
            df: true,
            id: 0,
            payload_len: 0x73 - 20,
        };
        let mut bytes = [0xff; HEADER_LEN];
        header.emit(&mut bytes);
        assert_eq!(
            bytes,
            [
                0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
                0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7
            ]
        );
    }

    #[test]
    fn padding_after_the_datagram_is_not_payload() {
        let mut frame = [0xaa; 46];
        frame[..28].copy_from_slice(&datagram());
        let packet = Ipv4Packet::parse(&frame).unwrap();
        assert_eq!(packet.payload(), [7; 8]);
        assert_eq!(packet.datagram().len(), 28);
    }

    #[test]
    fn a_header_cut_short_is_dropped() {
        for len in 0..HEADER_LEN {
            assert_eq!(
                Ipv4Packet::parse(&datagram()[..len]),
                Err(DropReason::Ipv4TooShort)
            );
        }
    }

    #[test]
    fn another_version_is_dropped() {
        for version in [0, 5, 6, 15] {
            let bytes = with(datagram(), 0, version << 4 | 5, 20);
            assert_eq!(Ipv4Packet::parse(&bytes), Err(DropReason::Ipv4BadVersion));
        }
    }

    #[test]
    fn a_header_length_that_lies_is_dropped() {
        for words in 0..5 {
            let bytes = with(datagram(), 0, 0x40 | words, 20);
            assert_eq!(
                Ipv4Packet::parse(&bytes),
                Err(DropReason::Ipv4BadHeaderLength)
            );
        }
        let longer_than_the_frame = with(datagram(), 0, 0x4f, 20);
        assert_eq!(
            Ipv4Packet::parse(&longer_than_the_frame),
            Err(DropReason::Ipv4BadHeaderLength)
        );
    }

    #[test]
    fn a_total_length_that_lies_is_dropped() {
        for len in 0..20 {
            let bytes = with(datagram(), 3, len, 20);
            assert_eq!(
                Ipv4Packet::parse(&bytes),
                Err(DropReason::Ipv4BadTotalLength)
            );
        }
        for len in [29, 255] {
            let bytes = with(datagram(), 3, len, 20);
            assert_eq!(Ipv4Packet::parse(&bytes), Err(DropReason::Ipv4Truncated));
        }
        let shorter_than_its_options = with(with(datagram(), 3, 20, 20), 0, 0x46, 24);
        assert_eq!(
            Ipv4Packet::parse(&shorter_than_its_options),
            Err(DropReason::Ipv4BadTotalLength)
        );
    }

    #[test]
    fn any_bit_flipped_in_the_header_is_noticed() {
        for bit in 0..HEADER_LEN * 8 {
            let mut bytes = datagram();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Ipv4Packet::parse(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn options_are_rejected() {
        let bytes = with(datagram(), 0, 0x46, 24);
        assert_eq!(Ipv4Packet::parse(&bytes), Err(DropReason::Ipv4Options));
    }

    #[test]
    fn fragments_are_rejected() {
        for (at, value) in [
            (6, 0x20),
            (6, 0x60),
            (6, 0x01),
            (6, 0x1f),
            (7, 1),
            (7, 0xff),
        ] {
            let bytes = with(datagram(), at, value, 20);
            assert_eq!(
                Ipv4Packet::parse(&bytes),
                Err(DropReason::Ipv4Fragment),
                "byte {at} = {value:#x}"
            );
        }
    }

    #[test]
    fn time_to_live_0_is_dropped_and_1_is_not() {
        let dead = with(datagram(), 8, 0, 20);
        assert_eq!(Ipv4Packet::parse(&dead), Err(DropReason::Ipv4TtlZero));
        assert!(Ipv4Packet::parse(&with(datagram(), 8, 1, 20)).is_ok());
    }

    #[test]
    fn the_longest_datagram_fits() {
        let longest = Ipv4Header {
            payload_len: Ipv4Header::MAX_PAYLOAD,
            ..header()
        };
        let mut bytes = vec![1; usize::from(u16::MAX)];
        longest.emit(&mut bytes);
        let packet = Ipv4Packet::parse(&bytes).unwrap();
        assert_eq!(packet.payload().len(), usize::from(Ipv4Header::MAX_PAYLOAD));
        assert_eq!(packet.pseudo_header(), longest.pseudo_header());
    }
}
