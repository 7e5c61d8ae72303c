//! The delivery rate: how fast the network delivers what is sent (draft-ietf-ccwg-bbr section 4.1).

use super::congestion::RateSample;
use super::time::{Duration, Instant};

/// The connection as it was when a segment left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) sent_at: Instant,
    /// Bytes delivered by then, and when the last of them were.
    pub(super) delivered: u64,
    delivered_at: Instant,
    /// When the flight of which it is a part began to leave.
    first_sent_at: Instant,
    /// Bytes found lost by then.
    pub(super) lost: u64,
    /// Bytes in flight, the segment included.
    pub(super) in_flight: u32,
    app_limited: bool,
}

/// The estimate of one connection.
#[derive(Clone, Debug)]
pub(super) struct DeliveryRate {
    /// Bytes delivered: acknowledged, or reported by SACK.
    pub(super) delivered: u64,
    /// The same in segments, as Linux counts them.
    pub(super) segments: u32,
    delivered_at: Instant,
    /// When the most recently delivered segment had left.
    first_sent_at: Instant,
    /// Bytes found lost.
    pub(super) lost: u64,
    /// The same in segments.
    pub(super) lost_segments: u32,
    /// While `delivered` is not beyond this, the application limits the rate; 0 if it does not.
    limited_until: u64,
    /// The last measurement in which the application was not the limit, or the best of those.
    best: Measured,
}

#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    bytes: u64,
    micros: u32,
    app_limited: bool,
}

impl DeliveryRate {
    pub(super) fn new() -> Self {
        DeliveryRate {
            delivered: 0,
            segments: 0,
            delivered_at: Instant::ZERO,
            first_sent_at: Instant::ZERO,
            lost: 0,
            lost_segments: 0,
            limited_until: 0,
            best: Measured::default(),
        }
    }

    /// A segment leaves, `in_flight` bytes being under way with it. `idle`: nothing was outstanding.
    pub(super) fn stamp(&mut self, now: Instant, in_flight: u64, idle: bool) -> Stamp {
        if idle {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        Stamp {
            sent_at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            lost: self.lost,
            in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
            app_limited: self.limited_until != 0,
        }
    }

    /// The application has written too little to fill the window, `in_flight` bytes being under way.
    pub(super) fn limit_by_application(&mut self, in_flight: u64) {
        self.limited_until = (self.delivered + in_flight).max(1);
    }

    pub(super) fn is_app_limited(&self) -> bool {
        self.limited_until != 0
    }

    /// An ACK delivered something.
    pub(super) fn on_delivered(&mut self, now: Instant, bytes: u64, segments: u32) {
        if bytes == 0 {
            return;
        }
        self.delivered += bytes;
        self.segments = self.segments.wrapping_add(segments);
        self.delivered_at = now;
        if self.delivered > self.limited_until {
            self.limited_until = 0;
        }
    }

    /// Measures with an ACK whose news are counted already. `newest` is of the segment delivered that
    /// was sent most recently.
    pub(super) fn measure(
        &mut self,
        now: Instant,
        newest: &Stamp,
        min_rtt: Option<Duration>,
    ) -> Option<RateSample> {
        self.first_sent_at = newest.sent_at;
        let sending = newest.sent_at.since(newest.first_sent_at);
        let acknowledging = now.since(newest.delivered_at);
        let sample = RateSample {
            delivered: self.delivered - newest.delivered,
            interval: sending.max(acknowledging),
            prior_delivered: newest.delivered,
            total_delivered: self.delivered,
            lost: self.lost - newest.lost,
            tx_in_flight: newest.in_flight,
            app_limited: newest.app_limited,
        };
        // No interval below a round trip: it would be that of a needless retransmission.
        if sample.interval == Duration::ZERO || min_rtt.is_some_and(|min| sample.interval < min) {
            return None;
        }
        self.keep_best(&sample);
        Some(sample)
    }

    fn keep_best(&mut self, sample: &RateSample) {
        let micros = u32::try_from(sample.interval.as_micros()).unwrap_or(u32::MAX);
        let faster = u128::from(sample.delivered) * u128::from(self.best.micros)
            >= u128::from(self.best.bytes) * u128::from(micros);
        if !sample.app_limited || faster {
            self.best = Measured {
                bytes: sample.delivered,
                micros,
                app_limited: sample.app_limited,
            };
        }
    }

    /// The rate last measured in bytes a second, 0 before that; and whether the application was its
    /// limit. Linux's tcpi_delivery_rate.
    pub(super) fn measured(&self) -> (u64, bool) {
        let Measured {
            bytes,
            micros,
            app_limited,
        } = self.best;
        let rate = bytes
            .saturating_mul(1_000_000)
            .checked_div(u64::from(micros))
            .unwrap_or(0);
        (rate, app_limited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::news::News;
    use crate::tcp::sent::Sent;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(1000 + millis)
    }

    /// A flight: the records, and the estimate.
    struct Flow {
        sent: Sent,
        rate: DeliveryRate,
        nxt: u64,
    }

    impl Flow {
        fn new() -> Flow {
            Flow {
                sent: Sent::default(),
                rate: DeliveryRate::new(),
                nxt: 1,
            }
        }

        fn send(&mut self, millis: u64, bytes: u64) {
            let idle = self.sent.is_empty();
            let stamp = self.rate.stamp(at(millis), bytes, idle);
            let range = self.nxt..self.nxt + bytes;
            self.nxt = range.end;
            self.sent.push(range, 1, bytes as u16, stamp);
        }

        fn acknowledge(&mut self, millis: u64, position: u64) -> Option<RateSample> {
            let mut news = News::new(at(millis), 0, None, 0);
            self.sent.acknowledge(position, &mut news);
            self.rate
                .on_delivered(at(millis), news.delivered, news.segments);
            let newest = news.newest.as_ref()?;
            self.rate
                .measure(at(millis), newest, Some(Duration::from_millis(20)))
        }
    }

    #[test]
    fn the_rate_is_that_of_a_round_trip() {
        let mut flow = Flow::new();
        for n in 0..10 {
            flow.send(n, 1000);
        }
        let mut last = None;
        for n in 0..10 {
            last = flow.acknowledge(40 + n, 1 + 1000 * (n + 1));
        }
        let sample = last.expect("a measurement");
        // The tenth left 9 ms after the first, when nothing was delivered yet.
        assert_eq!((sample.delivered, sample.prior_delivered), (10_000, 0));
        assert_eq!(sample.interval, Duration::from_millis(49));
        for n in 0..10 {
            flow.send(50 + n, 1000);
        }
        let sample = flow.acknowledge(95, 15_001).expect("a measurement");
        assert_eq!(sample.prior_delivered, 10_000);
        assert_eq!((sample.delivered, sample.total_delivered), (5000, 15_000));
    }

    #[test]
    fn compressed_acks_do_not_raise_the_rate() {
        let mut flow = Flow::new();
        for n in 0..50 {
            flow.send(n, 1000);
        }
        // All ACKs come at once, 60 ms after the first segment left.
        let sample = flow.acknowledge(60, 50_001).expect("a measurement");
        assert_eq!(sample.interval, Duration::from_millis(60));
        assert_eq!(flow.rate.measured().0, 50_000 * 1000 / 60);
    }

    #[test]
    fn an_interval_below_the_least_round_trip_measures_nothing() {
        let mut flow = Flow::new();
        flow.send(0, 1000);
        assert!(flow.acknowledge(19, 1001).is_none());
        assert_eq!(flow.rate.delivered, 1000);
    }

    #[test]
    fn what_the_application_limits_counts_only_if_it_is_faster() {
        let mut flow = Flow::new();
        flow.send(0, 10_000);
        flow.acknowledge(20, 10_001);
        assert_eq!(flow.rate.measured(), (500_000, false));
        flow.rate.limit_by_application(0);
        flow.send(100, 100);
        let sample = flow.acknowledge(120, 10_101).expect("a measurement");
        assert!(sample.app_limited);
        assert_eq!(flow.rate.measured(), (500_000, false));
        flow.send(200, 20_000);
        let sample = flow.acknowledge(220, 30_101).expect("a measurement");
        assert!(!sample.app_limited, "the bubble has passed");
        assert_eq!(flow.rate.measured(), (1_000_000, false));
    }
}
