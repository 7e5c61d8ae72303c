//! Sequence numbers modulo 2^32 (RFC 9293 section 3.4).

use core::ops::{Add, Sub};

/// A sequence number. Comparison is relative (`before`, `after`) and holds for numbers less than 2^31
/// apart, so the type is deliberately not `Ord`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// Whether `self` comes before `other`.
    pub const fn before(self, other: SeqNum) -> bool {
        self.offset_from(other) < 0
    }

    /// Whether `self` comes after `other`.
    pub const fn after(self, other: SeqNum) -> bool {
        self.offset_from(other) > 0
    }

    /// Whether `self` lies in the `len` numbers that begin at `start`.
    pub const fn in_window(self, start: SeqNum, len: u32) -> bool {
        self.0.wrapping_sub(start.0) < len
    }

    /// Signed distance from `other` to `self`, taking the shorter way round.
    pub const fn offset_from(self, other: SeqNum) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// The sequence number of byte `position` of a direction whose SYN has number `self`.
    pub(super) const fn at(self, position: u64) -> SeqNum {
        SeqNum(self.0.wrapping_add(position as u32))
    }

    /// The position, counted from the SYN numbered `initial`, that `self` names in the
    /// neighbourhood of `near`. `None` lies before the SYN.
    pub(super) const fn position(self, initial: SeqNum, near: u64) -> Option<u64> {
        near.checked_add_signed(self.offset_from(initial.at(near)) as i64)
    }
}

impl Add<u32> for SeqNum {
    type Output = SeqNum;
    fn add(self, count: u32) -> SeqNum {
        SeqNum(self.0.wrapping_add(count))
    }
}

impl Sub<u32> for SeqNum {
    type Output = SeqNum;
    fn sub(self, count: u32) -> SeqNum {
        SeqNum(self.0.wrapping_sub(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_holds_across_the_wrap() {
        let last = SeqNum(u32::MAX);
        assert!(last.before(last + 1));
        assert!((last + 10).after(last));
        assert!(!last.after(last) && !last.before(last));
    }

    #[test]
    fn a_window_spans_the_wrap_and_excludes_its_end() {
        let start = SeqNum(u32::MAX - 1);
        assert!((start + 3).in_window(start, 4));
        assert!(!(start + 4).in_window(start, 4));
        assert!(!start.in_window(start, 0));
        assert!(!(start - 1).in_window(start, 4));
    }

    #[test]
    fn positions_survive_any_number_of_wraps() {
        let iss = SeqNum(0xffff_fff0);
        for position in [0, 1, 15, 16, 17, 1 << 31, (1 << 32) + 5, (7 << 32) + 123] {
            let seq = iss.at(position);
            assert_eq!(seq.position(iss, position), Some(position));
            assert_eq!((seq + 100).position(iss, position), Some(position + 100));
            assert_eq!(
                (seq - 100).position(iss, position),
                position.checked_sub(100)
            );
        }
    }
}
