//! A small lock for the application's own words of a socket record.
//!
//! It lives in shared memory because a socket can be shared by processes. Its holder may be killed
//! at any instant, so a waiter that has waited long asks whether the holder still lives and takes
//! the lock over if it does not. The engine never takes it.

#![allow(unsafe_code)]

use crate::{futex, sys};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const CONTENDED: u32 = 1 << 31;
const PATIENCE: Duration = Duration::from_millis(50);

/// The lock word: 0 when free, else the holder's thread id and a flag for waiters.
#[repr(transparent)]
#[derive(Default)]
pub struct Lock(AtomicU32);

/// Holds a [`Lock`] until dropped.
pub struct Guard<'a>(&'a AtomicU32);

impl Lock {
    /// Takes the lock for the thread `tid` (`gettid(2)`).
    #[inline]
    pub fn lock(&self, tid: u32) -> Guard<'_> {
        if self
            .0
            .compare_exchange(0, tid, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            self.lock_slow(tid);
        }
        Guard(&self.0)
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self, tid: u32) -> Option<Guard<'_>> {
        self.0
            .compare_exchange(0, tid, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| Guard(&self.0))
    }

    /// Frees the lock, whoever holds it; only when the record changes hands.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Release);
    }

    #[cold]
    fn lock_slow(&self, tid: u32) {
        for _ in 0..100 {
            if self
                .0
                .compare_exchange_weak(0, tid, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                return;
            }
            std::hint::spin_loop();
        }
        loop {
            let seen = self.0.load(Ordering::Relaxed);
            if seen == 0 {
                // Others may sleep on the word: keep their flag, at the price of one wake too many.
                if self
                    .0
                    .compare_exchange(0, tid | CONTENDED, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
                {
                    return;
                }
                continue;
            }
            if seen & CONTENDED == 0
                && self
                    .0
                    .compare_exchange(seen, seen | CONTENDED, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            let expected = seen | CONTENDED;
            if futex::wait(&self.0, expected, Some(PATIENCE)) == futex::Wait::TimedOut
                && !is_alive(seen & !CONTENDED)
                && self
                    .0
                    .compare_exchange(
                        expected,
                        tid | CONTENDED,
                        Ordering::Acquire,
                        Ordering::Relaxed,
                    )
                    .is_ok()
            {
                return;
            }
        }
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.0.swap(0, Ordering::Release) & CONTENDED != 0 {
            futex::wake(self.0, 1);
        }
    }
}

/// Whether a thread of this id exists. An id that was given out anew counts as alive: then the
/// waiter goes on waiting, as it would for a lock that is held long.
fn is_alive(tid: u32) -> bool {
    // SAFETY: signal 0 only asks; `kill` accepts any thread's id on Linux.
    let result = unsafe { sys::syscall(libc::SYS_kill, [tid as usize, 0, 0, 0, 0, 0]) };
    result != -libc::ESRCH as isize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::UnsafeCell;

    fn tid() -> u32 {
        // SAFETY: gettid cannot fail.
        unsafe { sys::syscall(libc::SYS_gettid, [0; 6]) as u32 }
    }

    struct Shared(Lock, UnsafeCell<u64>);
    // SAFETY: the cell is only touched under the lock.
    unsafe impl Sync for Shared {}

    #[test]
    fn it_excludes() {
        let shared = Shared(Lock::default(), UnsafeCell::new(0));
        let shared = &shared;
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(move || {
                    for _ in 0..20_000 {
                        let _guard = shared.0.lock(tid());
                        // SAFETY: under the lock.
                        unsafe { *shared.1.get() += 1 };
                    }
                });
            }
        });
        // SAFETY: all threads have ended.
        assert_eq!(unsafe { *shared.1.get() }, 80_000);
    }

    #[test]
    fn a_dead_holder_is_succeeded() {
        let lock = Lock::default();
        let dead = std::thread::scope(|s| s.spawn(tid).join().unwrap());
        std::mem::forget(lock.lock(dead));
        let _guard = lock.lock(tid());
    }
}
