//! One burst of segments as the sender remembers it until it is acknowledged.

use core::ops::Range;

use super::rate::Stamp;

/// Segments that left at one time and have had the same fate since.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Positions of the first byte and after the last.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) segments: u32,
    /// Payload of each segment but the last.
    pub(super) cut: u16,
    /// The peer reports to hold it.
    pub(super) sacked: bool,
    /// Believed lost; stays so once it is sent again.
    pub(super) lost: bool,
    /// Sent again, and that is in flight.
    pub(super) resent: bool,
    /// Sent more than once.
    pub(super) ever_resent: bool,
    /// Its parts left at different times, so that it measures nothing.
    pub(super) mixed: bool,
    /// The connection when it last left.
    pub(super) stamp: Stamp,
}

impl Record {
    pub(super) fn bytes(&self) -> u64 {
        self.end - self.start
    }

    /// Cuts off what lies before `ack`, inside the record: says how many segments that are. As in Linux,
    /// a segment counts with its last byte.
    pub(super) fn shorten(&mut self, ack: u64) -> u32 {
        self.start = ack;
        let left = self.bytes().div_ceil(self.cut.max(1).into());
        let left = self.segments.min(u32::try_from(left).unwrap_or(u32::MAX));
        let gone = self.segments - left;
        self.segments = left;
        gone
    }

    /// Neither reported nor lost nor sent again.
    pub(super) fn is_plain(&self) -> bool {
        !(self.sacked || self.lost || self.resent)
    }

    /// Lost and not yet sent again.
    pub(super) fn to_repair(&self) -> bool {
        self.lost && !self.resent
    }

    /// The whole segments of the record inside `range`.
    pub(super) fn whole_segments(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let cut = u64::from(self.cut.max(1));
        let up = |at: u64| self.start + (at - self.start).div_ceil(cut) * cut;
        let down = |at: u64| at - (at - self.start) % cut;
        let from = up(range.start.max(self.start)).min(self.end);
        let to = match range.end {
            end if end >= self.end => self.end,
            end => down(end.max(self.start)),
        };
        (from < to).then_some(from..to)
    }

    /// Whether `next`, which follows, could be part of this record.
    pub(super) fn takes(&self, next: &Record) -> bool {
        let state = |r: &Record| (r.sacked, r.lost, r.resent, r.ever_resent, r.cut);
        state(self) == state(next)
            && self.end == next.start
            && self.bytes().is_multiple_of(self.cut.max(1).into())
    }
}

/// Bytes and segments in one state. No window is as large as 32 bits (RFC 7323 section 2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    pub(super) bytes: u32,
    pub(super) segments: u32,
}

impl Tally {
    pub(super) fn add(&mut self, record: &Record) {
        self.bytes = self.bytes.wrapping_add(record.bytes() as u32);
        self.segments = self.segments.wrapping_add(record.segments);
    }

    pub(super) fn remove(&mut self, record: &Record) {
        self.bytes = self.bytes.wrapping_sub(record.bytes() as u32);
        self.segments = self.segments.wrapping_sub(record.segments);
    }
}
