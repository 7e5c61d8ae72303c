//! Pacing: data leaves at a rate rather than in bursts, where congestion control or the application
//! asks for one. ACKs and probes are not held back.

use super::tcb::Tcb;
use super::time::Instant;

/// A burst is what leaves in 2^-10 seconds, about a millisecond (Linux's sk_pacing_shift).
const BURST_SHIFT: u32 = 10;

/// Least burst in segments.
const LEAST_BURST: u64 = 2;

/// The pacing clock of one connection.
#[derive(Clone, Debug)]
pub(super) struct Pacer {
    /// When the next data may leave, in nanoseconds.
    release: u64,
    /// Upper bound of the rate in bytes a second (SO_MAX_PACING_RATE).
    limit: u64,
}

fn nanos(at: Instant) -> u64 {
    at.as_micros().saturating_mul(1000)
}

impl Pacer {
    /// A clock that never goes faster than `limit` bytes a second.
    pub(super) fn new(limit: u64) -> Self {
        Pacer { release: 0, limit }
    }

    /// The first microsecond at which data may leave.
    fn release(&self) -> Instant {
        Instant::from_micros(self.release.div_ceil(1000))
    }

    /// `bytes` leave at `rate`. Lateness is made up for, but by half of the pause at most.
    fn on_sent(&mut self, now: Instant, bytes: u64, rate: u64) {
        let pause = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let pause = u64::try_from(pause).unwrap_or(u64::MAX);
        let late = nanos(now).saturating_sub(self.release);
        let pause = pause - late.min(pause / 2);
        self.release = self.release.max(nanos(now)).saturating_add(pause);
    }
}

impl Tcb {
    /// Bytes a second at which data is to leave; `None` for as fast as the windows let it.
    pub(super) fn pacing_rate(&self) -> Option<u64> {
        let limit = self.rare.pacer.as_ref().map(|pacer| pacer.limit);
        let limit = limit.filter(|limit| *limit != u64::MAX);
        match (self.cc.pacing_rate(), limit) {
            (Some(rate), Some(limit)) => Some(rate.min(limit)),
            (rate, limit) => rate.or(limit),
        }
    }

    /// How much data may leave now in one piece, of at most `max` bytes in segments of `cut`;
    /// `None` before the pacing clock says so.
    pub(super) fn paced_burst(&self, now: Instant, max: u64, cut: u64) -> Option<u64> {
        let Some(rate) = self.pacing_rate() else {
            return Some(max);
        };
        if self.rare.pacer.as_ref().is_some_and(|p| now < p.release()) {
            return None;
        }
        Some(max.min((rate >> BURST_SHIFT).max(LEAST_BURST * cut)))
    }

    /// Data leaves: the clock goes on.
    #[inline]
    pub(super) fn pace(&mut self, now: Instant, bytes: u64) {
        if let Some(rate) = self.pacing_rate() {
            self.get_pacer().on_sent(now, bytes, rate);
        }
    }

    /// When data that pacing holds back may leave; [`Instant::NEVER`] if there is none.
    pub(super) fn release_at(&self) -> Instant {
        match &self.rare.pacer {
            Some(pacer) if self.recovery.paced => pacer.release(),
            _ => Instant::NEVER,
        }
    }

    /// Data never leaves faster than `limit` bytes a second.
    pub(super) fn limit_pacing(&mut self, limit: Option<u64>) {
        if limit.is_some() || self.rare.pacer.is_some() {
            self.get_pacer().limit = limit.unwrap_or(u64::MAX);
        }
    }

    fn get_pacer(&mut self) -> &mut Pacer {
        let pacer = &mut self.rare.make().pacer;
        pacer.get_or_insert_with(|| Box::new(Pacer::new(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::time::Duration;

    const T0: Instant = Instant::from_millis(1000);

    fn after(micros: u64) -> Instant {
        T0 + Duration::from_micros(micros)
    }

    #[test]
    fn bursts_are_as_far_apart_as_the_rate_says() {
        let mut pacer = Pacer::new(u64::MAX);
        pacer.on_sent(T0, 1000, 1_000_000);
        // The first one is late by an eternity, which counts for half a pause only.
        assert_eq!(pacer.release(), after(500));
        pacer.on_sent(after(500), 1000, 1_000_000);
        assert_eq!(pacer.release(), after(1500));
        pacer.on_sent(after(1600), 1000, 1_000_000);
        assert_eq!(pacer.release(), after(2500), "100 µs late are made up for");
    }

    #[test]
    fn parts_of_a_microsecond_are_not_lost() {
        let mut pacer = Pacer {
            release: nanos(T0),
            ..Pacer::new(u64::MAX)
        };
        for _ in 0..1000 {
            let now = pacer.release().max(T0);
            pacer.on_sent(now, 1 << 16, 1_250_000_000);
        }
        let took = pacer.release().since(T0).as_micros();
        assert!((52_427..=52_431).contains(&took), "{took}");
    }

    #[test]
    fn no_rate_is_too_low_or_too_high() {
        for rate in [0, 1, u64::MAX] {
            let mut pacer = Pacer::new(u64::MAX);
            pacer.on_sent(T0, u64::MAX, rate);
            assert!(pacer.release() >= T0);
        }
    }
}
