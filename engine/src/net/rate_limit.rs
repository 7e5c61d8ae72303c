//! A token bucket.

/// Lets through a burst, and after that so many events a second.
#[derive(Clone, Debug)]
pub struct RateLimit {
    /// Microseconds in which one event's credit is earned.
    cost: u64,
    /// Credit at most, in microseconds.
    burst: u64,
    credit: u64,
    last: u64,
}

impl RateLimit {
    /// At most `per_second` events (1 to 1,000,000) a second in the long run, `burst` at once.
    pub fn new(per_second: u32, burst: u32) -> RateLimit {
        let cost = 1_000_000 / u64::from(per_second.clamp(1, 1_000_000));
        let burst = cost * u64::from(burst);
        RateLimit {
            cost,
            burst,
            credit: burst,
            last: 0,
        }
    }

    /// Whether an event may happen at `now` (microseconds); if so, it is counted.
    pub fn allow(&mut self, now: u64) -> bool {
        let elapsed = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        self.credit = self.credit.saturating_add(elapsed).min(self.burst);
        if self.credit < self.cost {
            return false;
        }
        self.credit -= self.cost;
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
