//! Marks that an application sets in its stream: the end of urgent data, and ends of records
//! (`MSG_EOR` of sendmsg(2)), of which no segment carries bytes from both sides, be it sent for the
//! first time or again.

use alloc::collections::VecDeque;
use core::ops::Range;

use super::tcb::Tcb;
use super::urgent::Urgent;

/// The marks of a connection. Most never have any.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    pub(super) urgent: Urgent,
    ends: Ends,
}

/// Ends that are remembered of one connection. At the bound later ones are not: the bytes around
/// them may share a segment.
const MOST: usize = 4096;

/// Ends of records that are not acknowledged yet, in order.
#[derive(Clone, Debug, Default)]
struct Ends(VecDeque<u64>);

impl Ends {
    /// Whether a record ends at a position.
    fn end_at(&self, position: u64) -> bool {
        self.0.binary_search(&position).is_ok()
    }

    /// A record ends at a position.
    fn push(&mut self, end: u64) {
        let ends = &mut self.0;
        if ends.len() < MOST && ends.back().is_none_or(|last| *last < end) {
            ends.push_back(end);
        }
    }

    /// What is below `una` is acknowledged.
    fn acknowledge(&mut self, una: u64) {
        while self.0.front().is_some_and(|end| *end <= una) {
            self.0.pop_front();
        }
        if self.0.is_empty() {
            // An idle connection keeps no memory for it.
            self.0 = VecDeque::new();
        }
    }

    /// Where a segment from the start of `range` has to end at the latest.
    fn cut(&self, range: &Range<u64>) -> u64 {
        let next = self.0.partition_point(|end| *end <= range.start);
        self.0
            .get(next)
            .map_or(range.end, |end| range.end.min(*end))
    }

    /// Where a segment up to the end of `range` has to begin at the earliest.
    fn cut_start(&self, range: &Range<u64>) -> u64 {
        let below = self.0.partition_point(|end| *end < range.end);
        let last = below.checked_sub(1).and_then(|i| self.0.get(i));
        last.map_or(range.start, |end| range.start.max(*end))
    }
}

impl Tcb {
    /// What was written up to offset `end` is a record of its own (`MSG_EOR`): no segment has bytes
    /// from before and after it. An offset that was not written, or is acknowledged, has no effect.
    pub fn end_record(&mut self, end: u64) {
        let end = end.saturating_add(1);
        if end > self.snd.una && end <= self.snd.end {
            self.rare
                .make()
                .marks
                .get_or_insert_default()
                .ends
                .push(end);
        }
    }

    /// Where a segment from the start of `range` has to end at the latest.
    pub(super) fn record_end(&self, range: &Range<u64>) -> u64 {
        let marks = self.rare.marks.as_ref();
        marks.map_or(range.end, |marks| marks.ends.cut(range))
    }

    /// Where a segment up to the end of `range` has to begin at the earliest.
    pub(super) fn record_start(&self, range: &Range<u64>) -> u64 {
        let marks = self.rare.marks.as_ref();
        marks.map_or(range.start, |marks| marks.ends.cut_start(range))
    }

    /// Whether a record ends at a position.
    pub(super) fn ends_record(&self, position: u64) -> bool {
        let marks = self.rare.marks.as_ref();
        marks.is_some_and(|marks| marks.ends.end_at(position))
    }

    /// What is below SND.UNA is acknowledged.
    pub(super) fn forget_records(&mut self) {
        if let Some(marks) = self.rare.if_any().and_then(|rare| rare.marks.as_mut()) {
            marks.ends.acknowledge(self.snd.una);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_at_the_ends_inside_it() {
        let mut ends = Ends::default();
        assert_eq!(ends.cut(&(1..100)), 100);
        assert_eq!(ends.cut_start(&(1..100)), 1);
        ends.push(10);
        ends.push(20);
        for (range, end, start) in [
            (1..100, 10, 20),
            (10..100, 20, 20),
            (20..100, 100, 20),
            (1..5, 5, 1),
            (1..20, 10, 10),
            (30..40, 40, 30),
        ] {
            assert_eq!((ends.cut(&range), ends.cut_start(&range)), (end, start));
        }
        assert_eq!([10, 15, 20].map(|at| ends.end_at(at)), [true, false, true]);
        ends.acknowledge(10);
        assert_eq!(ends.cut(&(11..100)), 20);
        ends.acknowledge(20);
        assert!(ends.0.is_empty(), "nothing is left of it");
    }

    #[test]
    fn ends_beyond_the_bound_or_out_of_order_are_not_remembered() {
        let mut ends = Ends::default();
        for end in 1..=MOST as u64 + 1 {
            ends.push(end);
            ends.push(end);
        }
        assert_eq!(ends.0.len(), MOST);
        let beyond = MOST as u64;
        assert_eq!(ends.cut(&(beyond..beyond + 9)), beyond + 9);
    }
}
