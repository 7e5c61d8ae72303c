//! How long a worker looks for work before it sleeps: as long as that was worth it lately.
//!
//! A sleep that ends soon would have been better spent looking, for a wake-up costs tens of
//! microseconds; one that lasts makes the looking before it waste.

/// The least share of the most that is allowed: enough to find out when work comes faster again.
const LEAST_SHARE: u64 = 8;

/// A worker's budget of time to look for work, in microseconds.
pub struct Spin {
    most: u64,
    budget: u64,
}

impl Spin {
    /// One of at most so many microseconds; it begins with all of them.
    pub fn at_most(most: u64) -> Self {
        Spin { most, budget: most }
    }

    /// How long to look before the next sleep.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// A sleep is over. `looked`: for how long there was nothing before it.
    pub fn slept(&mut self, looked: u64, slept: u64) {
        self.budget = match looked + slept < self.most {
            true => self.most,
            false => (self.budget / 2).max(self.most / LEAST_SHARE),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sleeps_shorten_the_search_to_an_eighth() {
        let mut spin = Spin::at_most(200);
        let mut budgets = vec![spin.budget()];
        for _ in 0..4 {
            spin.slept(spin.budget(), 5_000);
            budgets.push(spin.budget());
        }
        assert_eq!(budgets, [200, 100, 50, 25, 25]);
    }

    #[test]
    fn work_that_a_longer_search_had_found_restores_it() {
        let mut spin = Spin::at_most(200);
        spin.slept(200, 5_000);
        spin.slept(100, 99);
        assert_eq!(spin.budget(), 200);
    }

    #[test]
    fn without_leave_to_search_there_is_none() {
        let mut spin = Spin::at_most(0);
        spin.slept(0, 0);
        assert_eq!(spin.budget(), 0);
    }
}
