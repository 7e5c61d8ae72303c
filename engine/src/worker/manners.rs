//! Whether threads that the worker has woken still run: while none does, it may spin on a core that they
//! want as well, and waits for no answer of theirs.

use context::worker::WorkerShared;

/// What a worker knows of the threads that may want its core.
#[derive(Default)]
pub struct Manners {
    /// Threads that were woken and have not gone to sleep again.
    awake: u32,
    /// How many had gone to sleep when it was last asked.
    seen: u32,
}

impl Manners {
    /// The worker has woken a thread.
    pub fn woken(&mut self) {
        self.awake = self.awake.saturating_add(1);
    }

    /// Nothing has come for a while: who has not gone to sleep by now sleeps elsewhere, or is gone.
    pub fn forget(&mut self) {
        self.awake = 0;
    }

    /// Whether nobody who was woken still runs, as far as can be known.
    pub fn all_sleep(&mut self, record: &WorkerShared) -> bool {
        let sleeps = record.sleeps();
        let gone = sleeps.wrapping_sub(self.seen);
        self.seen = sleeps;
        self.awake = self.awake.saturating_sub(gone);
        if record.take_going_on() {
            self.awake = self.awake.max(1);
        }
        self.awake == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_spins_once_all_whom_it_woke_sleep_again() {
        let (mut manners, record) = (Manners::default(), WorkerShared::default());
        assert!(manners.all_sleep(&record));
        manners.woken();
        manners.woken();
        record.note_sleep();
        assert!(!manners.all_sleep(&record));
        record.note_sleep();
        assert!(manners.all_sleep(&record));
    }

    #[test]
    fn sleeps_that_no_wake_preceded_are_not_saved_up() {
        let (mut manners, record) = (Manners::default(), WorkerShared::default());
        record.note_sleep();
        record.note_sleep();
        assert!(manners.all_sleep(&record));
        manners.woken();
        assert!(!manners.all_sleep(&record));
    }

    #[test]
    fn it_leaves_the_core_to_one_who_rings_and_goes_on() {
        let (mut manners, record) = (Manners::default(), WorkerShared::default());
        record.note_going_on();
        assert!(!manners.all_sleep(&record));
        assert!(!manners.all_sleep(&record), "until it sleeps");
        record.note_sleep();
        assert!(manners.all_sleep(&record));
    }

    #[test]
    fn it_does_not_wait_for_ever_for_one_who_sleeps_elsewhere() {
        let (mut manners, record) = (Manners::default(), WorkerShared::default());
        manners.woken();
        assert!(!manners.all_sleep(&record));
        manners.forget();
        assert!(manners.all_sleep(&record));
    }
}
