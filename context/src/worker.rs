//! What a worker shows to applications: whether it sleeps, and which contexts have work for it.

use crate::ring::CacheLine;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// Words of 64 contexts each; one bit of the summary stands for each word.
pub const PENDING_WORDS: usize = 64;

/// The shared record of one worker.
#[repr(C, align(64))]
pub struct WorkerShared {
    sleeping: CacheLine<AtomicU32>,
    summary: CacheLine<AtomicU64>,
    pending: [AtomicU64; PENDING_WORDS],
    /// Threads that went to sleep so far, wrapping.
    sleeps: CacheLine<AtomicU32>,
    /// Whether somebody has rung who did not go to sleep.
    goes_on: AtomicU32,
    /// The core on which the worker runs, plus 1; 0 before it does.
    core: AtomicU32,
}

impl Default for WorkerShared {
    fn default() -> Self {
        WorkerShared {
            sleeping: CacheLine::default(),
            summary: CacheLine::default(),
            pending: std::array::from_fn(|_| AtomicU64::new(0)),
            sleeps: CacheLine::default(),
            goes_on: AtomicU32::new(0),
            core: AtomicU32::new(0),
        }
    }
}

impl WorkerShared {
    /// Application: says that context `index` has commands. The caller has published them.
    pub fn announce(&self, index: u32) {
        let (word, bit) = (index as usize / 64 % PENDING_WORDS, 1u64 << (index % 64));
        // The swap of the worker takes bit and summary in the opposite order, so a bit that is
        // still set has a summary bit to be found by.
        if self.pending[word].fetch_or(bit, Ordering::SeqCst) & bit == 0 {
            self.summary.0.fetch_or(1 << word, Ordering::SeqCst);
        }
    }

    /// Application: whether the doorbell must be rung; clears the flag, so that one rings for all.
    pub fn must_ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.sleeping.0.load(Ordering::Relaxed) != 0
            && self.sleeping.0.swap(0, Ordering::SeqCst) != 0
    }

    /// Application: says that this thread goes to sleep, before it rings.
    pub fn note_sleep(&self) {
        self.sleeps.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Application: says that this thread goes on, before it rings.
    pub fn note_going_on(&self) {
        self.goes_on.store(1, Ordering::Relaxed);
    }

    /// Worker: how many threads went to sleep so far, wrapping.
    pub fn sleeps(&self) -> u32 {
        self.sleeps.0.load(Ordering::Relaxed)
    }

    /// Worker: whether somebody has rung since the last call who did not go to sleep.
    pub fn take_going_on(&self) -> bool {
        self.goes_on.load(Ordering::Relaxed) != 0 && self.goes_on.swap(0, Ordering::Relaxed) != 0
    }

    /// Whether the worker sleeps or is about to.
    pub fn is_sleeping(&self) -> bool {
        self.sleeping.0.load(Ordering::SeqCst) != 0
    }

    /// Worker: calls `visit` with each context that has announced work since the last call.
    pub fn take_announced(&self, mut visit: impl FnMut(u32)) {
        if self.summary.0.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut words = self.summary.0.swap(0, Ordering::SeqCst);
        while words != 0 {
            let word = words.trailing_zeros();
            words &= words - 1;
            let mut bits = self.pending[word as usize].swap(0, Ordering::SeqCst);
            while bits != 0 {
                visit(word * 64 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
    }

    /// Worker: announces that it is about to sleep; false if there is work, and it must not.
    pub fn fall_asleep(&self) -> bool {
        self.sleeping.0.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.summary.0.load(Ordering::SeqCst) != 0 {
            self.sleeping.0.store(0, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// Worker: runs on this core now.
    pub fn runs_on(&self, core: u32) {
        let word = core.saturating_add(1);
        if self.core.load(Ordering::Relaxed) != word {
            self.core.store(word, Ordering::Relaxed);
        }
    }

    /// The core on which the worker runs, or ran when it last woke up.
    pub fn core(&self) -> Option<u32> {
        self.core.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Worker: is awake again.
    pub fn wake_up(&self) {
        self.sleeping.0.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> WorkerShared {
        WorkerShared::default()
    }

    #[test]
    fn each_announced_context_is_visited_once() {
        let worker = record();
        for index in [0, 63, 64, 4095, 63] {
            worker.announce(index);
        }
        let mut seen = Vec::new();
        worker.take_announced(|i| seen.push(i));
        assert_eq!(seen, [0, 63, 64, 4095]);
        worker.take_announced(|_| panic!("nothing is left"));
    }

    #[test]
    fn work_keeps_a_worker_awake_and_one_ring_is_enough() {
        let worker = record();
        worker.announce(5);
        assert!(!worker.fall_asleep());
        worker.take_announced(|_| ());
        assert!(worker.fall_asleep());
        worker.announce(5);
        assert!(worker.must_ring());
        assert!(!worker.must_ring());
    }
}
