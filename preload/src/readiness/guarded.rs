//! A value behind a lock that knows its holder: a signal handler that comes back to a value which
//! its own thread holds is told so, where it would wait for ever.

#![allow(unsafe_code)]

use context::futex;
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and somebody sleeps on the word.
const CONTENDED: u32 = 2;

/// A value behind a lock.
pub struct Guarded<T> {
    word: AtomicU32,
    /// Thread id of the holder, 0 for none.
    holder: AtomicU32,
    /// Held with no `Held` in use, because the process forks.
    over_fork: AtomicBool,
    value: UnsafeCell<T>,
}

impl<T: Default> Default for Guarded<T> {
    fn default() -> Self {
        Guarded::new(T::default())
    }
}

// SAFETY: the value is reached only by the holder of the lock.
unsafe impl<T: Send> Sync for Guarded<T> {}

/// Access to the value, until dropped.
pub struct Held<'a, T>(&'a Guarded<T>);

impl<T> Guarded<T> {
    /// Puts `value` behind a lock.
    pub const fn new(value: T) -> Guarded<T> {
        Guarded {
            word: AtomicU32::new(FREE),
            holder: AtomicU32::new(0),
            over_fork: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits for the lock. `None` if this thread, whose id is `tid`, holds it already.
    pub fn lock(&self, tid: u32) -> Option<Held<'_, T>> {
        if self.holder.load(Ordering::Relaxed) == tid {
            return None;
        }
        self.try_lock(tid).or_else(|| {
            self.wait();
            Some(self.held(tid))
        })
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self, tid: u32) -> Option<Held<'_, T>> {
        self.word
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| self.held(tid))
    }

    /// Takes the lock for the time of a fork, unless this thread holds it already.
    pub fn lock_for_fork(&self, tid: u32) {
        if let Some(held) = self.lock(tid) {
            held.keep_over_fork();
        }
    }

    /// Frees the lock that was taken for a fork, in the parent or in the child.
    pub fn unlock_after_fork(&self) {
        drop(self.regain(0));
    }

    /// The lock that was taken for a fork, in the parent or in the child, whose thread is `tid`.
    pub fn regain(&self, tid: u32) -> Option<Held<'_, T>> {
        let kept = self.over_fork.swap(false, Ordering::Relaxed);
        kept.then(|| self.held(tid))
    }

    fn free(&self) {
        self.holder.store(0, Ordering::Relaxed);
        if self.word.swap(FREE, Ordering::Release) == CONTENDED {
            futex::wake(&self.word, 1);
        }
    }

    #[cold]
    fn wait(&self) {
        for _ in 0..100 {
            if self.word.load(Ordering::Relaxed) == FREE {
                break;
            }
            std::hint::spin_loop();
        }
        while self.word.swap(CONTENDED, Ordering::Acquire) != FREE {
            futex::wait(&self.word, CONTENDED, None);
        }
    }

    fn held(&self, tid: u32) -> Held<'_, T> {
        self.holder.store(tid, Ordering::Relaxed);
        Held(self)
    }
}

impl<T> Held<'_, T> {
    /// Keeps the lock until [`Guarded::unlock_after_fork`].
    pub fn keep_over_fork(self) {
        self.0.over_fork.store(true, Ordering::Relaxed);
        std::mem::forget(self);
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        self.0.free();
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: there is one `Held` at a time.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: there is one `Held` at a time, and it is borrowed mutably.
        unsafe { &mut *self.0.value.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_comes_back_is_told_so() {
        let value = Guarded::new(1);
        let held = value.lock(7).unwrap();
        assert!(value.lock(7).is_none());
        assert!(value.try_lock(8).is_none());
        drop(held);
        assert_eq!(*value.lock(7).unwrap(), 1);
    }

    #[test]
    fn it_excludes() {
        let value = &Guarded::new(0);
        std::thread::scope(|s| {
            for tid in 1..=4 {
                s.spawn(move || {
                    for _ in 0..20_000 {
                        *value.lock(tid).unwrap() += 1;
                    }
                });
            }
        });
        assert_eq!(*value.lock(9).unwrap(), 80_000);
    }

    #[test]
    fn the_lock_can_be_held_over_a_fork() {
        let value = Guarded::new(1);
        value.lock_for_fork(7);
        assert!(value.try_lock(8).is_none());
        value.unlock_after_fork();
        let held = value.lock(8).unwrap();
        value.lock_for_fork(8);
        value.unlock_after_fork();
        assert!(value.try_lock(9).is_none(), "it was not held for the fork");
        drop(held);
    }
}
