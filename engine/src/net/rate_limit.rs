//! A token bucket, exact or with jitter.

/// Lets through a burst, and after that so many events a second.
#[derive(Clone, Debug)]
pub struct RateLimit {
    /// Microseconds in which one event's credit is earned.
    cost: u64,
    /// Credit at most, in microseconds.
    burst: u64,
    /// Credit that an event may take at most.
    reserve: u64,
    credit: u64,
    last: u64,
    /// State of the jitter; 0 is none.
    jitter: u64,
}

impl RateLimit {
    /// At most `per_second` events (1 to 1,000,000) a second in the long run, `burst` at once.
    pub fn new(per_second: u32, burst: u32) -> RateLimit {
        let cost = 1_000_000 / u64::from(per_second.clamp(1, 1_000_000));
        let burst = cost * u64::from(burst);
        RateLimit {
            cost,
            burst,
            reserve: cost,
            credit: burst,
            last: 0,
            jitter: 0,
        }
    }

    /// The same on average, but an event takes nothing, one or two events' credit at random: whoever
    /// drains the bucket cannot count what others took from it (CVE-2016-5696). `seed` is secret.
    pub fn jittered(per_second: u32, burst: u32, seed: [u8; 8]) -> RateLimit {
        let exact = RateLimit::new(per_second, burst);
        let burst = exact.burst + exact.cost;
        RateLimit {
            jitter: u64::from_ne_bytes(seed) | 1,
            reserve: 2 * exact.cost,
            burst,
            credit: burst,
            ..exact
        }
    }

    /// What the next event takes.
    fn price(&mut self) -> u64 {
        if self.jitter == 0 {
            return self.cost;
        }
        // Xorshift: never zero, and nobody sees its output.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        self.cost * (self.jitter % 3)
    }

    /// Whether an event may happen at `now` (microseconds); if so, it is counted.
    pub fn allow(&mut self, now: u64) -> bool {
        let elapsed = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        self.credit = self.credit.saturating_add(elapsed).min(self.burst);
        if self.credit < self.reserve {
            return false;
        }
        self.credit -= self.price();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(limit: &mut RateLimit, now: u64) -> usize {
        (0..1000).filter(|_| limit.allow(now)).count()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut limit = RateLimit::new(1000, 50);
        assert_eq!(allowed(&mut limit, 0), 50);
        assert_eq!(allowed(&mut limit, 999), 0);
        assert_eq!(allowed(&mut limit, 1000), 1);
        assert_eq!(allowed(&mut limit, 11_000), 10);
    }

    #[test]
    fn with_jitter_the_rate_holds_and_the_burst_cannot_be_counted() {
        let mut bursts: Vec<usize> = (1..20u64)
            .map(|seed| allowed(&mut RateLimit::jittered(1000, 50, seed.to_ne_bytes()), 0))
            .collect();
        bursts.sort_unstable();
        bursts.dedup();
        assert!(bursts.len() > 5, "{bursts:?}");
        let mut limit = RateLimit::jittered(1000, 50, [7; 8]);
        let passed: usize = (0..10_000).map(|ms| allowed(&mut limit, ms * 1000)).sum();
        assert!((9_000..11_000).contains(&passed), "{passed} in ten seconds");
    }

    #[test]
    fn credit_is_not_saved_beyond_the_burst() {
        let mut limit = RateLimit::new(1000, 50);
        assert_eq!(allowed(&mut limit, u64::MAX / 2), 50);
        assert_eq!(allowed(&mut limit, u64::MAX), 50);
    }

    #[test]
    fn a_clock_that_steps_back_earns_nothing() {
        let mut limit = RateLimit::new(1000, 1);
        assert_eq!(allowed(&mut limit, 5_000), 1);
        assert_eq!(allowed(&mut limit, 1_000), 0);
        assert_eq!(allowed(&mut limit, 5_500), 0);
        assert_eq!(allowed(&mut limit, 6_000), 1);
    }
}
