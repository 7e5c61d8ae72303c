//! `futex(2)` on words of the segment (shared between processes, so never `FUTEX_PRIVATE`).

#![allow(unsafe_code)]

use crate::sys;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Woken, or the word had already changed; check the condition.
    Woken,
    /// The time is up.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

/// Sleeps while `word` holds `expected`, at most `timeout`.
///
/// Leaves `errno` as it was.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Wait {
    let ts = timeout.map(|t| libc::timespec {
        tv_sec: t.as_secs().min(i64::MAX as u64) as i64,
        tv_nsec: i64::from(t.subsec_nanos()),
    });
    let ts_ptr = ts.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let args = [
        word.as_ptr() as usize,
        libc::FUTEX_WAIT as usize,
        expected as usize,
        ts_ptr as usize,
        0,
        0,
    ];
    // SAFETY: `word` and `ts` live through the call; FUTEX_WAIT reads both and writes neither.
    let result = unsafe { sys::syscall(libc::SYS_futex, args) };
    match -result as i32 {
        0 | libc::EAGAIN => Wait::Woken,
        libc::ETIMEDOUT => Wait::TimedOut,
        _ => Wait::Interrupted,
    }
}

/// Wakes at most `count` sleepers on `word`.
pub fn wake(word: &AtomicU32, count: i32) {
    let args = [
        word.as_ptr() as usize,
        libc::FUTEX_WAKE as usize,
        count as usize,
        0,
        0,
        0,
    ];
    // SAFETY: FUTEX_WAKE only uses the address as a key.
    unsafe { sys::syscall(libc::SYS_futex, args) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_changed_word_does_not_sleep() {
        assert_eq!(wait(&AtomicU32::new(1), 0, None), Wait::Woken);
    }

    #[test]
    fn an_unchanged_word_times_out() {
        let word = AtomicU32::new(0);
        assert_eq!(
            wait(&word, 0, Some(Duration::from_millis(1))),
            Wait::TimedOut
        );
    }

    #[test]
    fn a_sleeper_is_woken() {
        let word = AtomicU32::new(0);
        std::thread::scope(|s| {
            let sleeper = s.spawn(|| while wait(&word, 0, None) != Wait::Woken {});
            word.store(1, Ordering::SeqCst);
            wake(&word, 1);
            sleeper.join().unwrap();
        });
    }
}
