//! What an ACK takes from the records of what was sent.

use alloc::collections::VecDeque;

use super::news::News;
use super::rate::Stamp;
use super::sent::Sent;
use super::time::Instant;

/// What arrived of segments that were sent in order and once.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) bytes: u64,
    pub(super) segments: u32,
    /// When the first of them left.
    pub(super) first_left: Instant,
    /// End of the last of them, and the connection when it left.
    pub(super) end: u64,
    pub(super) last: Stamp,
}

impl Sent {
    /// Memory for a few records is kept from flight to flight; see [`give_back`](Self::give_back).
    pub(super) const KEPT: usize = 4;

    /// Like [`acknowledge`](Self::acknowledge) while [nothing](Self::is_plain) is to be told but what
    /// arrived; `None` if that is nothing.
    pub(super) fn take(&mut self, ack: u64) -> Option<Arrival> {
        let first = self.records.front().filter(|first| first.start < ack)?;
        let mut arrival = Arrival {
            bytes: 0,
            segments: 0,
            first_left: first.stamp.sent_at,
            end: ack,
            last: first.stamp,
        };
        while let Some(record) = self.records.front_mut()
            && record.start < ack
        {
            arrival.end = record.end.min(ack);
            arrival.bytes += arrival.end - record.start;
            arrival.last = record.stamp;
            if record.end > ack {
                arrival.segments += record.shorten(ack);
            } else {
                arrival.segments += record.segments;
                self.records.pop_front();
            }
        }
        self.out.bytes = self.out.bytes.wrapping_sub(arrival.bytes as u32);
        self.out.segments = self.out.segments.wrapping_sub(arrival.segments);
        if self.records.is_empty() {
            self.forget_flight();
        }
        Some(arrival)
    }

    /// Forgets what lies before `ack`. Once nothing is outstanding, most memory goes back.
    pub(super) fn acknowledge(&mut self, ack: u64, news: &mut News) {
        while self.first().is_some_and(|first| first.end <= ack)
            && let Some(record) = self.records.pop_front()
        {
            self.uncount(&record);
            if !record.sacked {
                news.deliver_by_ack(&record);
            }
        }
        match self.records.front() {
            None => self.forget_flight(),
            Some(record) if record.start < ack => self.trim(ack, news),
            Some(_) => {}
        }
    }

    /// Nothing is outstanding any more.
    fn forget_flight(&mut self) {
        if self.records.capacity() > Self::KEPT {
            self.records = VecDeque::new();
        }
        self.board = None;
    }

    /// The connection is idle: all memory goes back if nothing is outstanding.
    pub(super) fn give_back(&mut self) {
        if self.records.is_empty() {
            self.records = VecDeque::new();
        }
    }

    /// Of the next connection: nothing was sent, but memory for a few records is kept.
    pub(super) fn leave(&mut self) -> Sent {
        let mut records = core::mem::take(&mut self.records);
        records.clear();
        match records.capacity() {
            ..=Self::KEPT => Sent {
                records,
                ..Sent::default()
            },
            _ => Sent::default(),
        }
    }

    /// The first record is acknowledged in part.
    fn trim(&mut self, ack: u64, news: &mut News) {
        let record = &mut self.records[0];
        let mut gone = record.clone();
        gone.end = ack;
        gone.segments = record.shorten(ack);
        self.uncount(&gone);
        if !gone.sacked {
            news.deliver_by_ack(&gone);
        }
    }
}
