//! What was sent and is not acknowledged yet: a record for each burst of segments, with all that loss
//! detection (RFC 6675, RFC 8985) and the estimate of the delivery rate need to know of it.

use alloc::collections::VecDeque;
use core::ops::Range;

use super::news::News;
use super::rate::Stamp;
use super::record::{Record, Tally};

/// Most records kept. At the bound a SACK block that would cut one more counts only for the records
/// that it covers as a whole, and what is sent joins the record before it.
pub(super) const MAX_RECORDS: usize = 4096;

/// What is known while something is reported or lost; there is one as well while something was sent
/// twice, or joined with what left at another time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Board {
    sacked: Tally,
    lost: Tally,
    resent: Tally,
    /// Bytes lost and not sent again; none of them lies before `repair_from`.
    to_repair: u32,
    repair_from: u64,
    highest_sacked: u64,
}

/// The records of one connection, in the order of their positions, without a gap.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    pub(super) records: VecDeque<Record>,
    /// All that is outstanding.
    pub(super) out: Tally,
    pub(super) board: Option<Box<Board>>,
}

/// Counts records looked at or moved, for tests that bound the work.
fn note_work(records: usize) {
    #[cfg(test)]
    tests::WORK.with(|work| work.set(work.get() + records));
    let _ = records;
}

impl Sent {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// All that is outstanding was sent once, and nothing of it was reported or lost.
    pub(super) fn is_plain(&self) -> bool {
        self.board.is_none()
    }

    pub(super) fn first(&self) -> Option<&Record> {
        self.records.front()
    }

    fn told<T: Default>(&self, what: impl FnOnce(&Board) -> T) -> T {
        self.board.as_deref().map_or_else(T::default, what)
    }

    /// Reported by SACK.
    pub(super) fn sacked(&self) -> Tally {
        self.told(|board| board.sacked)
    }

    /// Believed lost.
    pub(super) fn lost(&self) -> Tally {
        self.told(|board| board.lost)
    }

    /// Sent again and in flight.
    pub(super) fn resent(&self) -> Tally {
        self.told(|board| board.resent)
    }

    /// End of the highest report, 0 while there is none.
    pub(super) fn highest_sacked(&self) -> u64 {
        self.told(|board| board.highest_sacked)
    }

    fn count(&mut self, record: &Record) {
        self.out.add(record);
        if record.is_plain() {
            return;
        }
        let board = self.board.get_or_insert_default();
        if record.sacked {
            board.sacked.add(record);
        }
        if record.lost {
            board.lost.add(record);
        }
        if record.resent {
            board.resent.add(record);
        }
        if record.to_repair() {
            board.to_repair = board.to_repair.wrapping_add(record.bytes() as u32);
        }
    }

    pub(super) fn uncount(&mut self, record: &Record) {
        self.out.remove(record);
        let Some(board) = &mut self.board else {
            return;
        };
        if record.sacked {
            board.sacked.remove(record);
        }
        if record.lost {
            board.lost.remove(record);
        }
        if record.resent {
            board.resent.remove(record);
        }
        if record.to_repair() {
            board.to_repair = board.to_repair.wrapping_sub(record.bytes() as u32);
        }
    }

    /// Changes a record and keeps the tallies right.
    fn edit(&mut self, index: usize, change: impl FnOnce(&mut Record)) {
        let mut record = self.records[index].clone();
        self.uncount(&record);
        change(&mut record);
        self.count(&record);
        self.records[index] = record;
    }

    fn is_full(&self) -> bool {
        self.records.len() >= MAX_RECORDS
    }

    /// `range` leaves for the first time, as `segments` of `cut` bytes.
    pub(super) fn push(&mut self, range: Range<u64>, segments: u32, cut: u16, stamp: Stamp) {
        let record = Record {
            start: range.start,
            end: range.end,
            segments,
            cut,
            sacked: false,
            lost: false,
            resent: false,
            ever_resent: false,
            mixed: false,
            stamp,
        };
        self.out.add(&record);
        if self.records.capacity() == 0 {
            // Most connections never need another.
            self.records.reserve_exact(1);
        }
        self.records.push_back(record);
        if self.records.len() > 1 {
            self.join(self.records.len() - 1);
        }
    }

    /// Makes one of a record and the one before it if nothing tells them apart; at the bound, if
    /// only the time does.
    fn join(&mut self, index: usize) {
        if index == 0 {
            return;
        }
        let (before, record) = (&self.records[index - 1], &self.records[index]);
        let same_time = before.stamp.sent_at == record.stamp.sent_at;
        if !(same_time || self.is_full()) || !before.takes(record) {
            return;
        }
        note_work(self.records.len().min(self.records.len() - index));
        if !same_time {
            self.board.get_or_insert_default();
        }
        if let Some(record) = self.records.remove(index) {
            let before = &mut self.records[index - 1];
            before.end = record.end;
            before.segments += record.segments;
            before.mixed |= record.mixed || !same_time;
            before.stamp = record.stamp;
        }
    }

    /// Cuts a record at `at`, inside it. Says whether there was room for one more.
    fn split(&mut self, index: usize, at: u64) -> bool {
        if self.is_full() {
            return false;
        }
        let mut left = self.records[index].clone();
        let mut right = left.clone();
        self.uncount(&left);
        left.end = at;
        right.start = at;
        let cut = u64::from(left.cut.max(1));
        left.segments = u32::try_from(left.bytes().div_ceil(cut)).unwrap_or(u32::MAX);
        right.segments = right.segments.saturating_sub(left.segments).max(1);
        self.count(&left);
        self.count(&right);
        self.records[index] = left;
        note_work(self.records.len() - index);
        self.records.insert(index + 1, right);
        true
    }

    /// The record that ends after `position`.
    fn find(&self, position: u64) -> usize {
        self.records
            .partition_point(|record| record.end <= position)
    }

    /// Notes a SACK block. Reports of parts of a segment count for none of it.
    pub(super) fn sack(&mut self, block: Range<u64>, news: &mut News) {
        let mut index = self.find(block.start);
        let mut fresh: Option<Range<usize>> = None;
        while let Some(record) = self.records.get(index) {
            if record.start >= block.end {
                break;
            }
            let part = record.whole_segments(&block);
            let sacked = record.sacked;
            note_work(1);
            if let Some(part) = part
                && !sacked
                && let Some(at) = self.isolate(index, part)
            {
                news.deliver_by_sack(&self.records[at]);
                self.edit(at, |record| {
                    record.sacked = true;
                    record.lost = false;
                    record.resent = false;
                });
                let first = fresh.map_or(at, |range| range.start);
                fresh = Some(first..at + 1);
                index = at;
            }
            index += 1;
        }
        if let Some(fresh) = fresh {
            let end = self.records[fresh.end - 1].end;
            let board = self.board.get_or_insert_default();
            board.highest_sacked = board.highest_sacked.max(end);
            self.join_sacked(fresh);
        }
    }

    /// Cuts `part` out of a record; says where it stands then.
    fn isolate(&mut self, mut index: usize, part: Range<u64>) -> Option<usize> {
        if part.start > self.records[index].start {
            if !self.split(index, part.start) {
                return None;
            }
            index += 1;
        }
        if part.end < self.records[index].end && !self.split(index, part.end) {
            return None;
        }
        Some(index)
    }

    /// Reported neighbours become one record, so that no report is walked through twice.
    fn join_sacked(&mut self, fresh: Range<usize>) {
        let sacked = |index: usize| self.records.get(index).is_some_and(|record| record.sacked);
        let first = match fresh.start {
            start if start > 0 && sacked(start - 1) => start - 1,
            start => start,
        };
        let last = (first..)
            .take_while(|index| sacked(*index))
            .last()
            .unwrap_or(first);
        if first == last {
            return;
        }
        let mut joined = self.records[first].clone();
        for record in self.records.drain(first + 1..=last) {
            joined.end = record.end;
            joined.segments += record.segments;
            joined.stamp = record.stamp;
            joined.ever_resent |= record.ever_resent;
        }
        joined.mixed = true;
        self.records[first] = joined;
        note_work(last - first + self.records.len() - first);
    }

    /// Looks at each record that is in flight, in order; `judge` says whether it is lost, or that
    /// none of those that follow is. Each that is goes to `tell` as it was before.
    pub(super) fn find_lost(
        &mut self,
        mut judge: impl FnMut(&Record) -> Option<bool>,
        mut tell: impl FnMut(&Record),
    ) {
        for index in 0..self.records.len() {
            note_work(1);
            let record = &self.records[index];
            if record.sacked || record.to_repair() {
                continue;
            }
            match judge(record) {
                None => break,
                Some(false) => {}
                Some(true) => {
                    tell(record);
                    let start = record.start;
                    let board = self.board.get_or_insert_default();
                    board.repair_from = board.repair_from.min(start);
                    self.edit(index, |record| {
                        record.lost = true;
                        record.resent = false;
                    });
                }
            }
        }
    }

    /// The first segment is lost (RFC 6582), unless that is known.
    pub(super) fn lose_first(&mut self, tell: impl FnMut(&Record)) {
        let Some(first) = self.records.front() else {
            return;
        };
        let end = first.start + u64::from(first.cut.max(1));
        if first.lost || first.sacked {
            return;
        }
        if end < first.end {
            self.split(0, end);
        }
        let mut left = 1;
        self.find_lost(
            |_| {
                left -= 1;
                (left >= 0).then_some(true)
            },
            tell,
        );
    }

    /// No record counts as lost any more (RFC 4015).
    pub(super) fn forget_lost(&mut self) {
        for index in 0..self.records.len() {
            if self.records[index].lost {
                self.edit(index, |record| record.lost = false);
            }
        }
    }

    /// The peer may have discarded what it reported (RFC 2018 section 8).
    pub(super) fn forget_sacked(&mut self) {
        for index in 0..self.records.len() {
            self.edit(index, |record| record.sacked = false);
        }
        if let Some(board) = &mut self.board {
            board.highest_sacked = 0;
        }
    }

    /// Something is to be sent again.
    pub(super) fn is_repairing(&self) -> bool {
        self.board.as_ref().is_some_and(|board| board.to_repair > 0)
    }

    /// What is to be sent again next.
    pub(super) fn next_lost(&mut self) -> Option<Range<u64>> {
        let Board {
            to_repair,
            repair_from,
            ..
        } = **self.board.as_ref()?;
        if to_repair == 0 {
            return None;
        }
        let from = self.find(repair_from);
        let found = (from..self.records.len()).find(|index| self.records[*index].to_repair())?;
        note_work(found - from + 1);
        let record = &self.records[found];
        let lost = record.start..record.end;
        if let Some(board) = &mut self.board {
            board.repair_from = lost.start;
        }
        Some(lost)
    }

    /// The last segment sent.
    pub(super) fn last_segment(&self) -> Option<Range<u64>> {
        let last = self.records.back()?;
        let cut = u64::from(last.cut.max(1));
        let whole = last.bytes().saturating_sub(1) / cut * cut;
        Some(last.start + whole..last.end)
    }

    /// `range`, a record or the start of one, is sent again as `segments` of `cut` bytes.
    /// A `probe` does not count as in flight twice, since nothing is known to be lost.
    pub(super) fn resend(
        &mut self,
        range: &Range<u64>,
        segments: u32,
        cut: u16,
        stamp: Stamp,
        probe: bool,
    ) {
        let mut index = self.find(range.start);
        let Some(record) = self.records.get(index) else {
            return;
        };
        if record.start < range.start {
            if !self.split(index, range.start) {
                return;
            }
            index += 1;
        }
        if range.end < self.records[index].end {
            self.split(index, range.end);
        }
        self.board.get_or_insert_default();
        self.edit(index, |record| {
            record.segments = segments;
            record.cut = cut;
            record.resent = record.lost || !probe;
            record.ever_resent = true;
            record.stamp = stamp;
        });
        self.join(index);
    }

    /// Bytes in flight of `flight` outstanding ones (RFC 6675 section 2: pipe).
    pub(super) fn pipe(&self, flight: u64) -> u64 {
        let Some(board) = &self.board else {
            return flight;
        };
        let bytes = |tally: Tally| u64::from(tally.bytes);
        let out = bytes(board.sacked) + bytes(board.lost);
        (flight + bytes(board.resent)).saturating_sub(out)
    }
}

#[cfg(test)]
#[path = "tests/sent.rs"]
mod tests;
