//! Until when a call waits.

use crate::errno::{Errno, Result};
use std::ffi::c_int;
use std::time::{Duration, Instant};

/// The end of a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deadline {
    /// The call does not wait.
    Now,
    /// It waits until then.
    At(Instant),
    /// It waits for as long as it takes.
    Never,
}

impl Deadline {
    /// After `time` from now on. A time beyond what the clock can hold is no deadline.
    pub fn after(time: Duration) -> Deadline {
        if time.is_zero() {
            return Deadline::Now;
        }
        Instant::now()
            .checked_add(time)
            .map_or(Deadline::Never, Deadline::At)
    }

    /// As poll(2) and epoll_wait(2) count: milliseconds, negative for ever.
    pub fn from_millis(millis: c_int) -> Deadline {
        u64::try_from(millis).map_or(Deadline::Never, |millis| {
            Deadline::after(Duration::from_millis(millis))
        })
    }

    /// As ppoll(2) and epoll_pwait2(2) count; `None` for ever.
    ///
    /// # Errors
    /// `EINVAL` if it is no valid time.
    pub fn from_timespec(time: Option<libc::timespec>) -> Result<Deadline> {
        let Some(time) = time else {
            return Ok(Deadline::Never);
        };
        match (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec)) {
            (Ok(seconds), Ok(nanos @ 0..1_000_000_000)) => {
                Ok(Deadline::after(Duration::new(seconds, nanos)))
            }
            _ => Err(Errno(libc::EINVAL)),
        }
    }

    /// As select(2) counts, where microseconds may exceed a second; `None` for ever.
    ///
    /// # Errors
    /// `EINVAL` if a part is negative.
    pub fn from_timeval(time: Option<libc::timeval>) -> Result<Deadline> {
        let Some(time) = time else {
            return Ok(Deadline::Never);
        };
        match (u64::try_from(time.tv_sec), u64::try_from(time.tv_usec)) {
            (Ok(seconds), Ok(micros)) => Ok(Deadline::after(
                Duration::from_secs(seconds).saturating_add(Duration::from_micros(micros)),
            )),
            _ => Err(Errno(libc::EINVAL)),
        }
    }

    /// What is left; `None` for ever.
    pub fn remaining(self) -> Option<Duration> {
        match self {
            Deadline::Now => Some(Duration::ZERO),
            Deadline::At(end) => Some(end.saturating_duration_since(Instant::now())),
            Deadline::Never => None,
        }
    }

    /// What is left, but no more than `most`.
    pub fn slice(self, most: Duration) -> Duration {
        self.remaining().map_or(most, |left| left.min(most))
    }

    /// Whether the time is up.
    pub fn is_past(self) -> bool {
        self.remaining().is_some_and(|left| left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timespec(tv_sec: i64, tv_nsec: i64) -> Option<libc::timespec> {
        Some(libc::timespec { tv_sec, tv_nsec })
    }

    fn timeval(tv_sec: i64, tv_usec: i64) -> Option<libc::timeval> {
        Some(libc::timeval { tv_sec, tv_usec })
    }

    #[test]
    fn negative_milliseconds_and_no_time_at_all_mean_for_ever() {
        assert_eq!(Deadline::from_millis(-5), Deadline::Never);
        assert_eq!(Deadline::from_timespec(None), Ok(Deadline::Never));
        assert_eq!(Deadline::from_timeval(None), Ok(Deadline::Never));
        assert_eq!(Deadline::from_millis(0), Deadline::Now);
    }

    #[test]
    fn invalid_times_are_refused() {
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
            let result = Deadline::from_timespec(timespec(seconds, nanos));
            assert_eq!(result, Err(Errno(libc::EINVAL)));
        }
        for (seconds, micros) in [(-1, 0), (0, -1)] {
            let result = Deadline::from_timeval(timeval(seconds, micros));
            assert_eq!(result, Err(Errno(libc::EINVAL)));
        }
    }

    #[test]
    fn select_accepts_more_than_a_second_of_microseconds() {
        let deadline = Deadline::from_timeval(timeval(0, 3_000_000)).unwrap();
        assert!(deadline.remaining().unwrap() > Duration::from_secs(1));
    }

    #[test]
    fn the_longest_times_do_not_overflow() {
        assert_eq!(
            Deadline::from_timespec(timespec(i64::MAX, 999_999_999)),
            Ok(Deadline::Never)
        );
        assert_eq!(
            Deadline::from_timeval(timeval(i64::MAX, i64::MAX)),
            Ok(Deadline::Never)
        );
    }
}
