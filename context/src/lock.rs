//! A small lock for the application's own words of a socket record.
//!
//! It lives in shared memory because a socket can be shared by processes. Its holder may be killed
//! at any instant: a waiter that has waited long asks whether the holder still lives and frees the
//! lock if it does not, and the engine frees those of a process that is gone, whose threads' ids may
//! have been given out anew. The engine never takes it.

#![allow(unsafe_code)]

use crate::{futex, sys};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const CONTENDED: u32 = 1 << 31;
const PATIENCE: Duration = Duration::from_millis(50);
/// Linux gives out no thread id beyond these bits (`PID_MAX_LIMIT`).
const TID_BITS: u32 = 22;
const TID_MASK: u32 = (1 << TID_BITS) - 1;
const PROCESS_MASK: u32 = !(CONTENDED | TID_MASK);

/// The lock word: 0 when free, else its [`holder`] and a flag for waiters.
#[repr(transparent)]
#[derive(Default)]
pub struct Lock(AtomicU32);

/// Holds a [`Lock`] until dropped.
pub struct Guard<'a>(&'a AtomicU32);

/// What a thread leaves in the word of a lock that it holds: its id (`gettid(2)`), and the low bits of
/// the number by which the engine knows its process.
#[inline]
pub fn holder(process: u32, tid: u32) -> u32 {
    process << TID_BITS & PROCESS_MASK | tid & TID_MASK
}

/// Why a wait for a lock has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    /// The lock may be free now.
    Again,
    /// The holder has been stopped (`SIGSTOP`, a debugger): nobody can say for how long.
    Stopped,
}

impl Lock {
    /// Takes the lock for `holder`, however long that takes.
    #[inline]
    pub fn lock(&self, holder: u32) -> Guard<'_> {
        self.try_lock(holder)
            .unwrap_or_else(|| self.lock_slow(holder))
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self, holder: u32) -> Option<Guard<'_>> {
        self.0
            .compare_exchange(0, holder, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| Guard(&self.0))
    }

    /// As [`try_lock`](Lock::try_lock), for who has waited. Others may sleep on the word: their flag is
    /// kept, at the price of one wake too many.
    pub fn try_lock_again(&self, holder: u32) -> Option<Guard<'_>> {
        self.try_lock(holder | CONTENDED)
    }

    /// Frees the lock, whoever holds it; only when the record changes hands.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// Frees the lock if a thread of `process` holds it. That process is gone, and no other that may
    /// take the lock is [taken for](is_taken_for) it.
    pub fn free_of(&self, process: u32) {
        let seen = self.0.load(Ordering::Relaxed);
        let is_its = seen & TID_MASK != 0 && seen & PROCESS_MASK == holder(process, 0);
        if is_its && self.exchange(seen, 0) {
            futex::wake(&self.0, i32::MAX);
        }
    }

    /// Sleeps until the lock is free, at most a moment.
    #[cold]
    pub fn wait(&self) -> Waited {
        for _ in 0..100 {
            if self.0.load(Ordering::Relaxed) == 0 {
                return Waited::Again;
            }
            std::hint::spin_loop();
        }
        let seen = self.0.load(Ordering::Relaxed);
        let flagged = seen | CONTENDED;
        if seen == 0
            || seen != flagged && !self.exchange(seen, flagged)
            || futex::wait(&self.0, flagged, Some(PATIENCE)) != futex::Wait::TimedOut
        {
            return Waited::Again;
        }
        let tid = flagged & TID_MASK;
        if !is_alive(tid) {
            self.exchange(flagged, 0);
            return Waited::Again;
        }
        match is_stopped(tid) {
            true => Waited::Stopped,
            false => Waited::Again,
        }
    }

    #[cold]
    fn lock_slow(&self, holder: u32) -> Guard<'_> {
        loop {
            self.wait();
            if let Some(guard) = self.try_lock_again(holder) {
                return guard;
            }
        }
    }

    fn exchange(&self, from: u32, to: u32) -> bool {
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}

/// Whether locks of one process cannot be told from those of another.
pub fn is_taken_for(process: u32, other: u32) -> bool {
    holder(process, 0) == holder(other, 0)
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.0.swap(0, Ordering::Release) & CONTENDED != 0 {
            futex::wake(self.0, 1);
        }
    }
}

/// Whether a thread of this id exists; it may be another one that was given the id anew.
fn is_alive(tid: u32) -> bool {
    // SAFETY: signal 0 only asks; `kill` accepts any thread's id on Linux.
    let result = unsafe { sys::syscall(libc::SYS_kill, [tid as usize, 0, 0, 0, 0, 0]) };
    result != -libc::ESRCH as isize
}

/// Whether a thread is stopped, as far as proc(5) tells. Allocates nothing.
fn is_stopped(tid: u32) -> bool {
    let mut path = *b"/proc/0000000/stat\0";
    let mut rest = tid;
    for digit in path[6..13].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // proc(5) knows its directories without zeros in front.
    let zeros = path[6..13]
        .iter()
        .take_while(|digit| **digit == b'0')
        .count();
    path.copy_within(6 + zeros.., 6);
    let mut stat = [0u8; 64];
    // SAFETY: the path ends with 0, the kernel writes no more than the buffer holds, and the descriptor
    // is closed by who has opened it.
    let n = unsafe {
        let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
        let at = libc::AT_FDCWD as usize;
        let fd = sys::syscall(
            libc::SYS_openat,
            [at, path.as_ptr() as usize, flags, 0, 0, 0],
        );
        if fd < 0 {
            return false;
        }
        let to = stat.as_mut_ptr() as usize;
        let n = sys::syscall(libc::SYS_read, [fd as usize, to, stat.len(), 0, 0, 0]);
        sys::syscall(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]);
        usize::try_from(n).unwrap_or(0)
    };
    // "PID (NAME) STATE ...": the name may hold anything, and has 15 bytes at most.
    let after_name = stat[..n].iter().rposition(|byte| *byte == b')');
    let state = after_name.and_then(|at| stat.get(at + 2));
    matches!(state, Some(b'T' | b't'))
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

    #[test]
    fn a_process_that_is_gone_leaves_no_lock_though_its_threads_id_is_anothers() {
        let lock = Lock::default();
        std::mem::forget(lock.lock(holder(3, tid())));
        lock.free_of(4);
        assert!(lock.try_lock(holder(5, tid())).is_none());
        lock.free_of(3);
        assert!(lock.try_lock(holder(5, tid())).is_some());
        assert!(is_taken_for(3, 3 + 512) && !is_taken_for(3, 4));
    }

    #[test]
    fn who_waits_for_a_stopped_process_is_told_so() {
        let lock = Lock::default();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let signal = |signal: i32| {
            // SAFETY: the child is not reaped yet, so the number is its.
            unsafe { libc::kill(child.id() as i32, signal) };
        };
        std::mem::forget(lock.lock(child.id()));
        assert_eq!(lock.wait(), Waited::Again);
        signal(libc::SIGSTOP);
        while lock.wait() != Waited::Stopped {}
        signal(libc::SIGKILL);
        child.wait().unwrap();
        let _guard = lock.lock(tid());
    }
}
