//! The Internet checksum (RFC 1071), its incremental update (RFC 1624), and the pseudo-headers of
//! IPv4 (RFC 9293 §3.1) and IPv6 (RFC 8200 §8.1).

use std::net::{Ipv4Addr, Ipv6Addr};

/// A one's complement sum of 16-bit words, folded but not yet complemented.
///
/// Words are added in the machine's byte order and swapped only on the way out, which RFC 1071 §2(B)
/// allows: it saves a swap per word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum(u16);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Sum = Sum(0);

    /// The sum that a checksum field holds, e.g. a pseudo-header's for the device to go on from.
    pub const fn from_value(value: u16) -> Sum {
        Sum(value.to_be())
    }

    /// The sum as a number: what a field for checksum offload takes in network byte order.
    pub const fn value(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The checksum to be stored in network byte order: the sum's complement.
    pub const fn checksum(self) -> u16 {
        !self.value()
    }

    /// As [`checksum`](Self::checksum), but 0xffff for 0, which means "none" in UDP (RFC 768).
    pub const fn udp_checksum(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    /// Whether data that includes its checksum field adds up.
    pub const fn is_valid(self) -> bool {
        self.0 == 0xffff
    }

    /// The sum of both parts, where the second begins at an even offset from the first.
    #[must_use]
    pub const fn plus(self, other: Sum) -> Sum {
        let sum = self.0 as u32 + other.0 as u32;
        Sum((sum + (sum >> 16)) as u16)
    }

    /// The sum of both parts, where the second begins `offset` bytes after the first: the bytes of
    /// a part that begins at an odd offset stand in the other half of their words (RFC 1071 §2(A)).
    #[must_use]
    pub const fn plus_at(self, offset: usize, other: Sum) -> Sum {
        if offset.is_multiple_of(2) {
            self.plus(other)
        } else {
            self.plus(Sum(other.0.swap_bytes()))
        }
    }
}

/// Bytes taken at a time; four words in lanes of their own let the compiler use vectors.
const BLOCK: usize = 32;

/// Lanes of 64 bits that take 32-bit halves: their sum cannot overflow below 16 GiB of data.
#[derive(Default)]
struct Lanes {
    low: [u64; 4],
    high: [u64; 4],
}

impl Lanes {
    #[inline(always)]
    fn add(&mut self, block: &[u8; BLOCK]) {
        let (words, _) = block.as_chunks::<8>();
        for (i, word) in words.iter().enumerate() {
            let word = u64::from_ne_bytes(*word);
            self.low[i] += word & 0xffff_ffff;
            self.high[i] += word >> 32;
        }
    }

    /// Adds what is left, fewer than [`BLOCK`] bytes; an odd last byte is padded with a zero.
    #[inline(always)]
    fn finish(self, rest: &[u8]) -> Sum {
        let mut sum: u64 = self.low.iter().chain(&self.high).sum();
        let (words, rest) = rest.as_chunks::<4>();
        for word in words {
            sum += u64::from(u32::from_ne_bytes(*word));
        }
        let (words, rest) = rest.as_chunks::<2>();
        for word in words {
            sum += u64::from(u16::from_ne_bytes(*word));
        }
        if let [last] = rest {
            sum += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        fold(sum)
    }
}

/// Folds the carries back in.
const fn fold(sum: u64) -> Sum {
    // Both halves of a word are added to each other at once: the carry out of the lower one is that of
    // their sum, and ends in the upper one, where it belongs.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    Sum((sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16)
}

/// The sum of `bytes`, as if padded with a zero to an even length.
#[inline]
pub fn sum(bytes: &[u8]) -> Sum {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let mut lanes = Lanes::default();
    for block in blocks {
        lanes.add(block);
    }
    lanes.finish(rest)
}

/// The sum of a header of `N` bytes, a multiple of four.
#[inline]
pub fn sum_of_header<const N: usize>(bytes: &[u8; N]) -> Sum {
    let (words, _) = bytes.as_chunks::<4>();
    let words = words
        .iter()
        .map(|word| u64::from(u32::from_ne_bytes(*word)));
    fold(words.sum())
}

/// The sum of a header whose words are given as numbers.
#[inline]
pub fn sum_of_words<const N: usize>(words: [u32; N]) -> Sum {
    let sum = fold(words.into_iter().map(u64::from).sum());
    Sum::from_value(sum.0)
}

/// Copies `from` to `to` and sums it in the same pass.
///
/// # Panics
/// If the lengths differ.
#[inline]
pub fn copy_and_sum(to: &mut [u8], from: &[u8]) -> Sum {
    assert_eq!(to.len(), from.len(), "copy between slices of one length");
    let (blocks, rest) = from.as_chunks::<BLOCK>();
    let (to_blocks, to_rest) = to.as_chunks_mut::<BLOCK>();
    let mut lanes = Lanes::default();
    for (to, block) in to_blocks.iter_mut().zip(blocks) {
        *to = *block;
        lanes.add(block);
    }
    to_rest.copy_from_slice(rest);
    lanes.finish(rest)
}

/// The sum of IPv4's pseudo-header; `length` is that of the transport header and its data.
#[inline]
pub fn pseudo_header_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, length: u16) -> Sum {
    fold(
        u64::from(u32::from_ne_bytes(src.octets()))
            + u64::from(u32::from_ne_bytes(dst.octets()))
            + u64::from(u16::from(protocol).to_be())
            + u64::from(length.to_be()),
    )
}

/// The sum of IPv6's pseudo-header; `length` is that of the upper-layer header and its data.
pub fn pseudo_header_v6(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8, length: u32) -> Sum {
    let numbers = u64::from(u16::from(next_header).to_be()) + u64::from(length.to_be());
    sum(&src.octets())
        .plus(sum(&dst.octets()))
        .plus(fold(numbers))
}

/// The checksum of data in which one word changed from `old` to `new` (RFC 1624, equation 3).
pub const fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = !checksum as u32 + !old as u32 + new as u32;
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 §4.1, word by word.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum: u32 = 0;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 151 + i / 251) as u8).collect()
    }

    #[test]
    fn the_example_of_rfc_1071_section_3_adds_up() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&bytes).value(), 0xddf2);
        assert_eq!(sum(&bytes).checksum(), !0xddf2);
    }

    #[test]
    fn every_length_and_alignment_equals_the_naive_sum() {
        let bytes = pattern(300);
        for start in 0..16 {
            for len in 0..=256 {
                let part = &bytes[start..start + len];
                assert_eq!(
                    sum(part).value(),
                    naive(part),
                    "start {start}, length {len}"
                );
            }
        }
    }

    #[test]
    fn copying_copies_and_sums_at_every_length_and_alignment() {
        let bytes = pattern(300);
        for start in 0..16 {
            for len in 0..=256 {
                let part = &bytes[start..start + len];
                let mut room = vec![0xee; len + 17];
                let copied = copy_and_sum(&mut room[16 - start..][..len], part);
                assert_eq!(copied, sum(part));
                assert_eq!(&room[16 - start..][..len], part);
                assert!(room[..16 - start].iter().all(|b| *b == 0xee));
                assert!(room[16 - start + len..].iter().all(|b| *b == 0xee));
            }
        }
    }

    #[test]
    fn the_longest_frame_of_ones_does_not_overflow() {
        let bytes = vec![0xff; 1 << 20];
        assert_eq!(sum(&bytes).value(), 0xffff);
        assert_eq!(naive(&bytes), 0xffff);
    }

    #[test]
    fn the_ipv4_pseudo_header_equals_its_bytes() {
        let (src, dst) = (
            Ipv4Addr::new(10, 77, 0, 1),
            Ipv4Addr::new(255, 255, 255, 254),
        );
        let bytes = [10, 77, 0, 1, 255, 255, 255, 254, 0, 6, 0xfe, 0xdc];
        assert_eq!(pseudo_header_v4(src, dst, 6, 0xfedc), sum(&bytes));
    }

    #[test]
    fn the_ipv6_pseudo_header_equals_its_bytes() {
        let src: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let dst: Ipv6Addr = "ff02::ffff:1".parse().unwrap();
        let mut bytes = Vec::new();
        bytes.extend(src.octets());
        bytes.extend(dst.octets());
        bytes.extend(0x0102_fffe_u32.to_be_bytes());
        bytes.extend([0, 0, 0, 17]);
        assert_eq!(pseudo_header_v6(src, dst, 17, 0x0102_fffe), sum(&bytes));
    }

    #[test]
    fn a_udp_checksum_is_never_zero() {
        assert_eq!(Sum::from_value(0xffff).udp_checksum(), 0xffff);
        assert_eq!(Sum::from_value(0x1234).udp_checksum(), !0x1234);
    }

    proptest! {
        #[test]
        fn any_bytes_equal_the_naive_sum(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(sum(&bytes).value(), naive(&bytes));
        }

        #[test]
        fn parts_add_up_to_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..500),
            cut in any::<prop::sample::Index>(),
        ) {
            let cut = cut.index(bytes.len() + 1);
            let (head, tail) = bytes.split_at(cut);
            prop_assert_eq!(sum(head).plus_at(cut, sum(tail)), sum(&bytes));
        }

        #[test]
        fn an_update_equals_a_new_checksum(
            mut bytes in prop::collection::vec(1..=255u8, 20),
            word in 0..10usize,
            new in any::<u16>(),
        ) {
            let before = sum(&bytes).checksum();
            let old = u16::from_be_bytes([bytes[2 * word], bytes[2 * word + 1]]);
            bytes[2 * word..][..2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(updated(before, old, new), sum(&bytes).checksum());
        }

        #[test]
        fn a_stored_checksum_makes_the_data_valid(
            mut bytes in prop::collection::vec(any::<u8>(), 2..200),
        ) {
            bytes[..2].fill(0);
            let checksum = sum(&bytes).checksum();
            bytes[..2].copy_from_slice(&checksum.to_be_bytes());
            prop_assert!(sum(&bytes).is_valid());
        }
    }
}
