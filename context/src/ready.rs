//! Ready sets: how edges reach an epoll instance (or a thread in poll or select).
//!
//! Each worker has a ring of its own in the set. An entry says "socket so-and-so, which you watch
//! under this cookie, has changed"; what its state is now stands in the socket record. While the
//! socket's bit in [`Socket::queued`](crate::socket::Socket::queued) is set, its entry still waits and
//! no second one is made. If a ring is full, the overflow flag tells the application to look at
//! every socket of the set.

use crate::futex;
use crate::ring::{CacheLine, Ring};
use crate::sync::{AtomicU32, Ordering, fence};

/// Events that fit into one worker's ring of one set.
pub const EVENTS: usize = 1024;

/// Watches of one socket that are coalesced; the others get an entry for each edge.
pub const COALESCED: u32 = 32;

/// Nobody sleeps on the set.
pub const AWAKE: u32 = 0;
/// A bit: somebody sleeps on the futex word.
pub const ASLEEP_FUTEX: u32 = 1;
/// A bit: somebody sleeps in the kernel, with the set's eventfd among its descriptors.
pub const ASLEEP_EVENTFD: u32 = 2;

/// One event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// The application's name for the watch, as given with `Watch`.
    pub cookie: u32,
    /// Which bit of the socket's `queued` word stands for it; [`COALESCED`] or more: none.
    pub slot: u32,
    /// The socket.
    pub socket: u32,
}

/// The shared record of a ready set. `R` rings follow, one per worker.
#[repr(C, align(64))]
#[derive(Default)]
pub struct ReadySet {
    /// Sleepers wait while this holds what they saw; the engine adds 1 for each wake-up.
    word: CacheLine<AtomicU32>,
    sleeping: CacheLine<AtomicU32>,
    overflow: AtomicU32,
}

/// The ring of one worker in one set.
pub type EventRing = Ring<2, EVENTS>;

impl Event {
    /// As ring words.
    pub fn to_words(self) -> [u64; 2] {
        [
            u64::from(self.cookie) | u64::from(self.slot) << 32,
            u64::from(self.socket),
        ]
    }

    /// From ring words.
    pub fn from_words(words: [u64; 2]) -> Event {
        Event {
            cookie: words[0] as u32,
            slot: (words[0] >> 32) as u32,
            socket: words[1] as u32,
        }
    }
}

impl ReadySet {
    /// Makes the record as new; only while nobody uses it.
    pub fn reset(&self) {
        self.word.0.store(0, Ordering::Relaxed);
        self.sleeping.0.store(AWAKE, Ordering::Relaxed);
        self.overflow.store(0, Ordering::Release);
    }

    /// Engine: a ring was full.
    pub fn set_overflow(&self) {
        self.overflow.store(1, Ordering::SeqCst);
    }

    /// Application: whether a ring was full since the last call.
    pub fn take_overflow(&self) -> bool {
        self.overflow.load(Ordering::Relaxed) != 0 && self.overflow.swap(0, Ordering::SeqCst) != 0
    }

    /// Application: announces a sleep of the given kind and returns the word to wait on. The
    /// caller then looks at the rings once more before it sleeps.
    pub fn fall_asleep(&self, kind: u32) -> u32 {
        let seen = self.word.0.load(Ordering::SeqCst);
        self.sleeping.0.fetch_or(kind, Ordering::SeqCst);
        // The other half of the fence in `wake`: one of the two sees what the other has written.
        fence(Ordering::SeqCst);
        seen
    }

    /// Application: sleeps on the futex while the word holds `seen`.
    pub fn sleep(&self, seen: u32, timeout: Option<std::time::Duration>) -> futex::Wait {
        futex::wait(&self.word.0, seen, timeout)
    }

    /// Engine: whether somebody sleeps, or is about to.
    pub fn is_asleep(&self) -> bool {
        self.sleeping.0.load(Ordering::SeqCst) != AWAKE
    }

    /// Application: is awake by itself. Only if no other thread may sleep on the set.
    pub fn wake_up(&self) {
        self.sleeping.0.store(AWAKE, Ordering::SeqCst);
    }

    /// Engine, after it has published events: wakes whoever sleeps. `ring_eventfd` is called when
    /// a sleeper waits in the kernel. Returns whether anybody slept.
    pub fn wake(&self, ring_eventfd: impl FnOnce()) -> bool {
        fence(Ordering::SeqCst);
        if self.sleeping.0.load(Ordering::Relaxed) == AWAKE {
            return false;
        }
        let kind = self.sleeping.0.swap(AWAKE, Ordering::SeqCst);
        if kind == AWAKE {
            return false;
        }
        self.word.0.fetch_add(1, Ordering::SeqCst);
        if kind & ASLEEP_FUTEX != 0 {
            futex::wake(&self.word.0, i32::MAX);
        }
        if kind & ASLEEP_EVENTFD != 0 {
            ring_eventfd();
        }
        true
    }

    /// Application: wakes the other threads that sleep on the set (after `EPOLL_CTL_ADD` of a
    /// socket that is ready already, or when an event is left for them).
    pub fn wake_sleepers(&self, ring_eventfd: impl FnOnce()) {
        self.wake(ring_eventfd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> ReadySet {
        ReadySet::default()
    }

    #[test]
    fn a_set_without_sleepers_costs_no_wake() {
        assert!(!set().wake(|| panic!("nobody sleeps in the kernel")));
    }

    #[test]
    fn a_wake_between_looking_and_sleeping_is_not_lost() {
        let set = set();
        let seen = set.fall_asleep(ASLEEP_FUTEX);
        assert!(set.wake(|| panic!("a futex sleeper")));
        assert_eq!(set.sleep(seen, None), futex::Wait::Woken);
    }

    #[test]
    fn a_kernel_sleeper_gets_the_eventfd() {
        let set = set();
        set.fall_asleep(ASLEEP_EVENTFD);
        set.fall_asleep(ASLEEP_FUTEX);
        let mut rung = false;
        set.wake(|| rung = true);
        assert!(rung);
    }

    #[test]
    fn overflow_is_reported_once() {
        let set = set();
        set.set_overflow();
        assert!(set.take_overflow());
        assert!(!set.take_overflow());
    }

    #[test]
    fn events_survive_the_ring() {
        let event = Event {
            cookie: u32::MAX,
            slot: 31,
            socket: 77,
        };
        assert_eq!(Event::from_words(event.to_words()), event);
    }
}
