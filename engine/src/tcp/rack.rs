//! Loss detection by time (RFC 8985): what left long enough before something that has arrived is lost.

use super::acknowledge::clamp_u32;
use super::congestion::CongestionControl;
use super::rate::DeliveryRate;
use super::record::Record;
use super::tcb::Tcb;
use super::time::{Duration, Instant};

/// Segments reported above a byte that make it lost while no reordering was seen (DupThresh).
pub(super) const DUP_THRESH: u16 = 3;

/// Highest degree of reordering that is believed, in segments; Linux's tcp_max_reordering.
const MAX_REORDERING: u16 = 300;

/// Recoveries for which a widened reordering window lasts (RFC 8985 section 6.2 step 4).
const PERSISTENCE: u8 = 16;

/// State of RACK on one connection.
#[derive(Clone, Debug)]
pub(super) struct Rack {
    /// When the most recently sent of the delivered segments had left, and its end.
    sent_at: Instant,
    end: u64,
    /// The last round-trip time measured, in microseconds.
    rtt: u32,
    /// Something was delivered since losses were last looked for.
    pub(super) advanced: bool,
}

/// What is known of reordering on one connection.
#[derive(Clone, Debug)]
pub(super) struct Reordering {
    /// Its degree in segments.
    pub(super) degree: u16,
    /// Times that it was seen.
    pub(super) seen: u32,
    /// The reordering window in quarters of the least round trip.
    steps: u8,
    /// Recoveries for which `steps` still holds.
    persist: u8,
    /// A DSACK asks for a wider window.
    pub(super) dsack: bool,
    /// Bytes delivered when the window was last widened.
    widened_at: u64,
}

impl Rack {
    pub(super) fn new() -> Self {
        Rack {
            sent_at: Instant::ZERO,
            end: 0,
            rtt: 0,
            advanced: false,
        }
    }

    /// Something that left at `sent_at` and ends at `end` was delivered, and last of all something
    /// that left at `last`: its round trip counts, however early it was (step 2).
    pub(super) fn advance(&mut self, now: Instant, (sent_at, end): (Instant, u64), last: Instant) {
        self.advanced = true;
        self.rtt = clamp_u32(now.since(last).as_micros());
        if (sent_at, end) > (self.sent_at, self.end) {
            (self.sent_at, self.end) = (sent_at, end);
        }
    }

    /// How much longer a record may take (step 5); `None` if nothing that left later has arrived.
    fn patience(&self, now: Instant, record: &Record, window: Duration) -> Option<Duration> {
        let sent = (record.stamp.sent_at, record.end);
        (sent < (self.sent_at, self.end)).then(|| self.remaining(now, record, window))
    }

    /// How much longer a record may take by its age alone.
    pub(super) fn remaining(&self, now: Instant, record: &Record, window: Duration) -> Duration {
        (record.stamp.sent_at + Duration::from_micros(self.rtt.into()) + window).since(now)
    }
}

impl Reordering {
    pub(super) const fn new() -> Self {
        Reordering {
            degree: DUP_THRESH,
            seen: 0,
            steps: 1,
            persist: 0,
            dsack: false,
            widened_at: 0,
        }
    }

    /// A never repeated segment at `low` arrived after one that ends at `high` (step 3).
    pub(super) fn on_reordering(&mut self, low: u64, high: u64, mss: u64) {
        let degree = high.saturating_sub(low).div_ceil(mss.max(1));
        let degree = u16::try_from(degree).unwrap_or(u16::MAX);
        self.degree = self.degree.max(degree.min(MAX_REORDERING));
        self.seen = self.seen.saturating_add(1);
    }

    /// After a timeout in spite of many reports the degree was overestimated.
    pub(super) fn doubt(&mut self) {
        self.degree = self.degree.min(DUP_THRESH);
    }

    /// Adapts the reordering window, at most once a round trip (step 4). `prior`: bytes delivered
    /// when the most recently delivered segment had left; `total`: until now.
    pub(super) fn adapt(&mut self, prior: u64, total: u64) {
        let waits = prior < self.widened_at;
        if core::mem::take(&mut self.dsack) && !waits {
            self.steps = self.steps.saturating_add(1);
            self.widened_at = total;
            self.persist = PERSISTENCE;
        } else if self.persist == 0 {
            self.steps = 1;
        }
    }

    /// A DSACK showed that a recovery was for nothing.
    pub(super) fn on_spurious_recovery(&mut self) {
        self.persist = (self.persist + 1).min(PERSISTENCE);
    }

    /// The reordering window (step 4).
    fn window(&self, min_rtt: Option<Duration>, srtt: Duration, impatient: bool) -> Duration {
        if self.seen == 0 && impatient {
            return Duration::ZERO;
        }
        let quarter = min_rtt.unwrap_or(Duration::ZERO) / 4;
        (quarter * u64::from(self.steps)).min(srtt)
    }

    /// A recovery is over.
    pub(super) fn on_recovered(&mut self) {
        self.persist = self.persist.saturating_sub(1);
    }
}

/// Counts a record as lost, and tells congestion control.
pub(super) fn count_lost(rate: &mut DeliveryRate, cc: &mut dyn CongestionControl, record: &Record) {
    rate.lost += record.bytes();
    rate.lost_segments = rate.lost_segments.wrapping_add(record.segments);
    let bytes = clamp_u32(record.bytes());
    let stamp = &record.stamp;
    let delivered = rate.delivered.saturating_sub(stamp.delivered);
    let lost = rate.lost.saturating_sub(stamp.lost);
    cc.on_lost(bytes, stamp.in_flight, delivered, lost);
}

impl Tcb {
    /// Marks what is lost if something was delivered since the last look. Says how long those take
    /// at most that may only be late.
    pub(super) fn detect_losses(&mut self, now: Instant) -> Option<Duration> {
        if !core::mem::take(&mut self.rack.advanced) {
            return None;
        }
        self.detect_losses_by_age(now)
    }

    /// Marks what is lost by now (RFC 8985 section 6.2 step 5).
    pub(super) fn detect_losses_by_age(&mut self, now: Instant) -> Option<Duration> {
        let min_rtt = self.rtt.min_rtt();
        let srtt = self.rtt.srtt().unwrap_or(Duration::ZERO);
        let many = self.sent.sacked().segments >= self.repair.reordering.degree.into();
        let window = self
            .repair
            .reordering
            .window(min_rtt, srtt, self.recovering() || many);
        let Tcb {
            sent,
            rack,
            rate,
            cc,
            ..
        } = self;
        let mut wait = None;
        sent.find_lost(
            |record| match rack.patience(now, record, window) {
                Some(Duration::ZERO) => Some(true),
                Some(left) => {
                    wait = wait.max(Some(left));
                    Some(false)
                }
                // Those behind it left later still, but for what was sent again.
                None if record.ever_resent => Some(false),
                None => None,
            },
            |record| count_lost(rate, cc.get_mut(), record),
        );
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Option<Duration> = Some(Duration::from_millis(40));
    const SRTT: Duration = Duration::from_millis(50);

    #[test]
    fn without_reordering_an_impatient_sender_does_not_wait() {
        let mut reordering = Reordering::new();
        assert_eq!(reordering.window(MIN, SRTT, true), Duration::ZERO);
        assert_eq!(
            reordering.window(MIN, SRTT, false),
            Duration::from_millis(10)
        );
        reordering.on_reordering(1, 1001, 100);
        assert_eq!(
            reordering.window(MIN, SRTT, true),
            Duration::from_millis(10)
        );
        assert_eq!((reordering.degree, reordering.seen), (10, 1));
    }

    #[test]
    fn the_window_widens_once_a_round_trip_and_no_further_than_srtt() {
        let mut reordering = Reordering::new();
        reordering.dsack = true;
        reordering.adapt(100, 200);
        assert_eq!(
            reordering.window(MIN, SRTT, false),
            Duration::from_millis(20)
        );
        reordering.dsack = true;
        reordering.adapt(150, 250);
        assert_eq!(
            reordering.window(MIN, SRTT, false),
            Duration::from_millis(20),
            "same round trip"
        );
        for round in 1..300 {
            reordering.dsack = true;
            reordering.adapt(1000 * round, 1000 * round + 1);
        }
        assert_eq!(reordering.window(MIN, SRTT, false), SRTT);
    }

    #[test]
    fn a_widened_window_lasts_for_sixteen_recoveries() {
        let mut reordering = Reordering::new();
        reordering.dsack = true;
        reordering.adapt(0, 100);
        for _ in 0..PERSISTENCE {
            reordering.adapt(200, 300);
            assert_eq!(
                reordering.window(MIN, SRTT, false),
                Duration::from_millis(20)
            );
            reordering.on_recovered();
        }
        reordering.adapt(200, 300);
        assert_eq!(
            reordering.window(MIN, SRTT, false),
            Duration::from_millis(10)
        );
    }

    #[test]
    fn reordering_is_believed_up_to_a_bound() {
        let mut reordering = Reordering::new();
        reordering.on_reordering(0, u64::MAX, 1);
        assert_eq!(reordering.degree, MAX_REORDERING);
        reordering.doubt();
        assert_eq!(reordering.degree, DUP_THRESH);
    }
}
