//! The delivery rate: how fast the network delivers what is sent (draft-ietf-ccwg-bbr section 4.1).

use super::congestion::RateSample;
use super::news::News;
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

    /// Measures with an ACK whose news are counted already.
    pub(super) fn measure(
        &mut self,
        now: Instant,
        news: &News,
        min_rtt: Option<Duration>,
    ) -> Option<RateSample> {
        let newest = news.newest?;
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
