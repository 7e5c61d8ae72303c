//! The kernel's own epoll and poll, called directly.

#![allow(unsafe_code)]

use crate::errno::{Errno, Result};
use crate::real;
use std::ffi::c_int;
use std::os::fd::RawFd;
use std::time::Duration;

/// A signal mask as the C library passes it: the kernel reads the first 8 bytes. The address is the
/// program's, and the kernel checks it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignalMask(pub usize);

impl SignalMask {
    /// From a pointer that may be null, which means no mask.
    pub fn from_ptr(mask: *const libc::sigset_t) -> Option<SignalMask> {
        (!mask.is_null()).then_some(SignalMask(mask as usize))
    }

    fn address(mask: Option<SignalMask>) -> usize {
        mask.map_or(0, |mask| mask.0)
    }
}

/// Bytes of a signal mask, to the kernel.
const MASK_SIZE: usize = 8;

/// epoll_create1(2).
///
/// # Errors
/// As epoll_create1(2).
pub fn epoll_create(flags: c_int) -> Result<RawFd> {
    // SAFETY: no memory is involved.
    unsafe { real::syscall(libc::SYS_epoll_create1, [flags as usize, 0, 0, 0, 0, 0]) }
        .map(|fd| fd as RawFd)
}

/// epoll_ctl(2).
///
/// # Errors
/// As epoll_ctl(2).
pub fn epoll_ctl(epfd: RawFd, op: c_int, fd: RawFd, events: u32, data: u64) -> Result<()> {
    let event = libc::epoll_event { events, u64: data };
    let args = [
        epfd as usize,
        op as usize,
        fd as usize,
        &raw const event as usize,
        0,
        0,
    ];
    // SAFETY: the kernel reads the event.
    unsafe { real::syscall(libc::SYS_epoll_ctl, args) }.map(drop)
}

/// epoll_pwait2(2) into `out`; `None` waits for ever. A kernel before 5.11 counts milliseconds.
///
/// # Errors
/// As epoll_pwait2(2).
pub fn epoll_wait(
    epfd: RawFd,
    out: &mut [libc::epoll_event],
    timeout: Option<Duration>,
    mask: Option<SignalMask>,
) -> Result<usize> {
    let time = timeout.map(real::timespec);
    let time_at = time
        .as_ref()
        .map_or(0, |time| std::ptr::from_ref(time) as usize);
    let room = out.len().min(c_int::MAX as usize);
    let mut args = [
        epfd as usize,
        out.as_mut_ptr() as usize,
        room,
        time_at,
        SignalMask::address(mask),
        MASK_SIZE,
    ];
    // SAFETY: the kernel writes no more than `room` events, and reads the time and the mask.
    match unsafe { real::syscall(libc::SYS_epoll_pwait2, args) } {
        Err(Errno(libc::ENOSYS)) => {}
        result => return result,
    }
    args[3] = timeout.map_or(-1, |time| {
        let millis = time.as_nanos().div_ceil(1_000_000);
        i32::try_from(millis).unwrap_or(i32::MAX)
    }) as usize;
    // SAFETY: as above.
    unsafe { real::syscall(libc::SYS_epoll_pwait, args) }
}

/// ppoll(2); `None` waits for ever.
///
/// # Errors
/// As ppoll(2).
pub fn poll(
    fds: &mut [libc::pollfd],
    timeout: Option<Duration>,
    mask: Option<SignalMask>,
) -> Result<usize> {
    let mut time = timeout.map(real::timespec);
    let time_at = time
        .as_mut()
        .map_or(0, |time| std::ptr::from_mut(time) as usize);
    let args = [
        fds.as_mut_ptr() as usize,
        fds.len(),
        time_at,
        SignalMask::address(mask),
        MASK_SIZE,
        0,
    ];
    // SAFETY: the kernel writes the results and the time that is left, and reads the mask.
    unsafe { real::syscall(libc::SYS_ppoll, args) }
}

/// Adds 1 to an eventfd. It cannot be full: its reader drains it, or is woken by its edges.
pub fn ring(eventfd: RawFd) {
    // An error means that the descriptor is gone, and with it who would be woken.
    let _ = real::write(eventfd, &1u64.to_ne_bytes());
}

/// Takes all from an eventfd.
pub fn drain(eventfd: RawFd) {
    // Nothing to take is as good.
    let _ = real::read(eventfd, &mut [0; 8]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: libc::epoll_event = libc::epoll_event { events: 0, u64: 0 };

    #[test]
    fn an_eventfd_wakes_both_epoll_and_poll() {
        let epfd = epoll_create(libc::EPOLL_CLOEXEC).unwrap();
        let fd = real::eventfd().unwrap();
        epoll_ctl(epfd, libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN as u32, 5).unwrap();
        let mut out = [NOTHING; 2];
        assert_eq!(
            epoll_wait(epfd, &mut out, Some(Duration::ZERO), None),
            Ok(0)
        );
        ring(fd);
        assert_eq!(epoll_wait(epfd, &mut out, None, None), Ok(1));
        assert_eq!({ out[0].u64 }, 5);
        let mut fds = [libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        }];
        assert_eq!(poll(&mut fds, None, None), Ok(1));
        drain(fd);
        assert_eq!(poll(&mut fds, Some(Duration::ZERO), None), Ok(0));
        real::close(fd);
        real::close(epfd);
    }
}
