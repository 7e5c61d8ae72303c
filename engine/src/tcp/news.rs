//! What one ACK tells of the segments under way, gathered record by record.

use super::rate::Stamp;
use super::record::Record;
use super::time::{Duration, Instant};

/// When segments left that an ACK newly acknowledges or reports, none of them sent twice.
#[derive(Clone, Copy, Debug, Default)]
struct Departures(Option<(Instant, Instant)>);

impl Departures {
    fn add(&mut self, at: Instant) {
        let (first, last) = self.0.unwrap_or((at, at));
        self.0 = Some((first.min(at), last.max(at)));
    }
}

/// The news of one ACK.
#[derive(Clone, Debug)]
pub(super) struct News {
    now: Instant,
    /// Where the last recovery ends.
    point: u64,
    min_rtt: Option<Duration>,
    /// End of the highest report before.
    pub(super) highest_sacked: u64,
    /// Bytes newly known to have arrived.
    pub(super) delivered: u64,
    /// The same in segments.
    pub(super) segments: u32,
    /// Of these, bytes reported by SACK.
    pub(super) sacked: u64,
    /// Something was delivered that left before recovery began and was never sent again.
    pub(super) original: bool,
    /// Of what was acknowledged, something was sent more than once.
    pub(super) resent: bool,
    acked_left: Departures,
    sacked_left: Departures,
    /// Stamp of the most recently sent delivered segment.
    pub(super) newest: Option<Stamp>,
    /// The latest departure among what was delivered, with its end (RFC 8985 section 6.2 step 2).
    pub(super) latest: Option<(Instant, u64)>,
    /// When the last of them in the order of the sequence had left.
    pub(super) last: Instant,
    /// Lowest position delivered after a higher one, without having been sent again.
    pub(super) reordered: Option<u64>,
    /// The segment has a DSACK block.
    pub(super) dsack: bool,
    /// It is for the tail loss probe.
    pub(super) dsack_of_probe: bool,
}

impl News {
    pub(super) fn new(
        now: Instant,
        point: u64,
        min_rtt: Option<Duration>,
        highest_sacked: u64,
    ) -> Self {
        News {
            now,
            point,
            min_rtt,
            highest_sacked,
            delivered: 0,
            segments: 0,
            sacked: 0,
            original: false,
            resent: false,
            acked_left: Departures::default(),
            sacked_left: Departures::default(),
            newest: None,
            latest: None,
            last: now,
            reordered: None,
            dsack: false,
            dsack_of_probe: false,
        }
    }

    pub(super) fn deliver_by_ack(&mut self, record: &Record) {
        if record.ever_resent {
            self.resent = true;
        } else if !record.mixed {
            self.acked_left.add(record.stamp.sent_at);
        }
        self.deliver(record);
    }

    pub(super) fn deliver_by_sack(&mut self, record: &Record) {
        if !record.ever_resent && !record.mixed {
            self.sacked_left.add(record.stamp.sent_at);
        }
        self.sacked += record.bytes();
        self.deliver(record);
    }

    fn deliver(&mut self, record: &Record) {
        let Record { start, end, .. } = *record;
        self.delivered += record.bytes();
        self.segments += record.segments;
        if !record.ever_resent {
            self.original |= end <= self.point;
            if start < self.highest_sacked {
                self.reordered = Some(self.reordered.map_or(start, |low| low.min(start)));
            }
        }
        let stamp = record.stamp;
        if self.newest.is_none_or(|newest| {
            (stamp.delivered, stamp.sent_at) >= (newest.delivered, newest.sent_at)
        }) {
            self.newest = Some(stamp);
        }
        // An answer faster than any before is one to an earlier transmission.
        let too_fast = |min| record.ever_resent && self.now.since(stamp.sent_at) < min;
        if !self.min_rtt.is_some_and(too_fast) {
            let departure = (stamp.sent_at, end);
            self.last = stamp.sent_at;
            self.latest = Some(
                self.latest
                    .map_or(departure, |latest| latest.max(departure)),
            );
        }
    }

    /// Round trips measured: of the segment that left first, for the timeout, and of the one that
    /// left last, for congestion control. None of something sent twice (Karn).
    pub(super) fn round_trips(&self) -> Option<(Duration, Duration)> {
        let acked = if self.resent { None } else { self.acked_left.0 };
        let (first, _) = acked.or(self.sacked_left.0)?;
        let (_, last) = self.sacked_left.0.or(acked)?;
        Some((self.now.since(first), self.now.since(last)))
    }
}
