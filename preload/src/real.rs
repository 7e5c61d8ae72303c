//! System calls made directly: libc's wrappers are what this library intercepts, and they touch
//! `errno`.

#![allow(unsafe_code)]

use crate::errno::{Errno, Result};
use std::ffi::{CStr, CString, c_int, c_long};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Makes system call `number`.
///
/// # Safety
/// As the system call.
///
/// # Errors
/// What the kernel says.
#[inline]
pub unsafe fn syscall(number: c_long, args: [usize; 6]) -> Result<usize> {
    // SAFETY: the caller answers for the call.
    match unsafe { context::sys::syscall(number, args) } {
        error @ -4095..=-1 => Err(Errno(-error as c_int)),
        result => Ok(result as usize),
    }
}

/// Closes a descriptor. The number is free afterwards whatever happens, so nothing is returned.
pub fn close(fd: RawFd) {
    // SAFETY: closing is safe for memory; that the descriptor is ours to close is the caller's.
    let _ = unsafe { syscall(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) };
}

/// Duplicates `fd` to the lowest free number from `minimum` on.
///
/// # Errors
/// `EBADF`, `EMFILE`, `EINVAL`.
pub fn duplicate(fd: RawFd, minimum: RawFd, cloexec: bool) -> Result<RawFd> {
    let command = if cloexec {
        libc::F_DUPFD_CLOEXEC
    } else {
        libc::F_DUPFD
    };
    fcntl(fd, command, minimum as usize).map(|n| n as RawFd)
}

/// Makes `to` a duplicate of `from` in one step; see dup3(2).
///
/// # Errors
/// As dup3(2).
pub fn duplicate_to(from: RawFd, to: RawFd, cloexec: bool) -> Result<()> {
    let flags = if cloexec { libc::O_CLOEXEC as usize } else { 0 };
    loop {
        // SAFETY: no memory is involved.
        match unsafe { syscall(libc::SYS_dup3, [from as usize, to as usize, flags, 0, 0, 0]) } {
            // Another thread is just opening that number.
            Err(Errno(libc::EBUSY | libc::EINTR)) => {}
            result => return result.map(drop),
        }
    }
}

/// fcntl(2) with an argument that is no pointer.
///
/// # Errors
/// As fcntl(2).
pub fn fcntl(fd: RawFd, command: c_int, arg: usize) -> Result<usize> {
    // SAFETY: the commands used here take numbers.
    unsafe {
        syscall(
            libc::SYS_fcntl,
            [fd as usize, command as usize, arg, 0, 0, 0],
        )
    }
}

/// Sets or clears `FD_CLOEXEC`.
///
/// # Errors
/// `EBADF`.
pub fn set_cloexec(fd: RawFd, on: bool) -> Result<()> {
    let flags = if on { libc::FD_CLOEXEC as usize } else { 0 };
    fcntl(fd, libc::F_SETFD, flags).map(drop)
}

/// Whether `FD_CLOEXEC` is set.
///
/// # Errors
/// `EBADF`.
pub fn is_cloexec(fd: RawFd) -> Result<bool> {
    Ok(fcntl(fd, libc::F_GETFD, 0)? & libc::FD_CLOEXEC as usize != 0)
}

/// Writes `bytes`; see write(2).
///
/// # Errors
/// As write(2).
pub fn write(fd: RawFd, bytes: &[u8]) -> Result<usize> {
    let (at, len) = (bytes.as_ptr() as usize, bytes.len());
    // SAFETY: the kernel only reads the bytes.
    unsafe { syscall(libc::SYS_write, [fd as usize, at, len, 0, 0, 0]) }
}

/// Reads into `bytes`; see read(2).
///
/// # Errors
/// As read(2).
pub fn read(fd: RawFd, bytes: &mut [u8]) -> Result<usize> {
    let (at, len) = (bytes.as_mut_ptr() as usize, bytes.len());
    // SAFETY: the kernel writes no more than `len` bytes there.
    unsafe { syscall(libc::SYS_read, [fd as usize, at, len, 0, 0, 0]) }
}

/// Makes a kernel socket; see socket(2).
///
/// # Errors
/// As socket(2).
pub fn socket(domain: c_int, kind: c_int, protocol: c_int) -> Result<RawFd> {
    let args = [domain as usize, kind as usize, protocol as usize, 0, 0, 0];
    // SAFETY: no memory is involved.
    unsafe { syscall(libc::SYS_socket, args) }.map(|fd| fd as RawFd)
}

/// eventfd2(2), non-blocking and close-on-exec.
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn eventfd() -> Result<RawFd> {
    let flags = (libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) as usize;
    // SAFETY: no memory is involved.
    unsafe { syscall(libc::SYS_eventfd2, [0, flags, 0, 0, 0, 0]) }.map(|fd| fd as RawFd)
}

/// The inode behind a descriptor.
///
/// # Errors
/// `EBADF`.
pub fn inode(fd: RawFd) -> Result<u64> {
    // SAFETY: zero is a valid struct, and the kernel fills it.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        let args = [fd as usize, &raw mut stat as usize, 0, 0, 0, 0];
        syscall(libc::SYS_fstat, args)?;
        Ok(stat.st_ino)
    }
}

/// An option of a kernel socket (`SOL_SOCKET`) that is a number.
///
/// # Errors
/// As getsockopt(2).
pub fn socket_option(fd: RawFd, option: c_int) -> Result<c_int> {
    option_of(fd, libc::SOL_SOCKET, option)
}

/// An option of a kernel's TCP socket that is a number.
///
/// # Errors
/// As getsockopt(2).
pub fn tcp_option(fd: RawFd, option: c_int) -> Result<c_int> {
    option_of(fd, libc::IPPROTO_TCP, option)
}

/// An option of a kernel socket that is a number.
///
/// # Errors
/// As getsockopt(2).
pub fn option_of(fd: RawFd, level: c_int, option: c_int) -> Result<c_int> {
    let (mut value, mut len) = (0 as c_int, size_of::<c_int>() as libc::socklen_t);
    let (at, len_at) = (&raw mut value as usize, &raw mut len as usize);
    let args = [fd as usize, level as usize, option as usize, at, len_at, 0];
    // SAFETY: the kernel writes no more than an int, and its length.
    unsafe { syscall(libc::SYS_getsockopt, args) }?;
    Ok(value)
}

/// Sets an option of a kernel's TCP socket that is a number.
///
/// # Errors
/// As setsockopt(2).
pub fn set_tcp_option(fd: RawFd, option: c_int, value: c_int) -> Result<()> {
    let (level, option) = (libc::IPPROTO_TCP as usize, option as usize);
    let (at, len) = (&raw const value as usize, size_of::<c_int>());
    // SAFETY: the kernel reads an int.
    unsafe {
        syscall(
            libc::SYS_setsockopt,
            [fd as usize, level, option, at, len, 0],
        )
    }
    .map(drop)
}

/// Effective user and group.
pub fn effective_ids() -> (u32, u32) {
    // SAFETY: these calls take nothing and cannot fail.
    let id = |number| unsafe { syscall(number, [0; 6]) }.unwrap_or(0) as u32;
    (id(libc::SYS_geteuid), id(libc::SYS_getegid))
}

/// Whether this process may execute a file.
pub fn may_execute(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    let args = [
        libc::AT_FDCWD as usize,
        path.as_ptr() as usize,
        libc::X_OK as usize,
        0,
        0,
        0,
    ];
    // SAFETY: the path is a C string.
    unsafe { syscall(libc::SYS_faccessat, args) }.is_ok()
}

/// Whether a file has an extended attribute.
pub fn has_attribute(path: &Path, name: &CStr) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    let args = [path.as_ptr() as usize, name.as_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: both strings end with 0; with a size of 0 the call writes nothing.
    unsafe { syscall(libc::SYS_getxattr, args) }.is_ok()
}

/// Process id.
pub fn process_id() -> u32 {
    // SAFETY: cannot fail.
    unsafe { syscall(libc::SYS_getpid, [0; 6]) }.unwrap_or(0) as u32
}

/// Thread id.
pub fn thread_id() -> u32 {
    // SAFETY: cannot fail.
    unsafe { syscall(libc::SYS_gettid, [0; 6]) }.unwrap_or(0) as u32
}

/// Sleeps; a signal ends it early.
pub fn sleep(time: Duration) {
    let time = timespec(time);
    // SAFETY: the kernel reads the time; no remaining time is asked for.
    let _ = unsafe {
        syscall(
            libc::SYS_nanosleep,
            [&raw const time as usize, 0, 0, 0, 0, 0],
        )
    };
}

/// A duration as C has it.
pub fn timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: time.as_secs().min(i64::MAX as u64) as i64,
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

/// Sends this thread a signal.
pub fn raise(signal: c_int) {
    signal_thread(thread_id(), signal);
}

/// Sends a thread of this process a signal.
pub fn signal_thread(tid: u32, signal: c_int) {
    let args = [
        process_id() as usize,
        tid as usize,
        signal as usize,
        0,
        0,
        0,
    ];
    // SAFETY: a signal as the kernel or libc would send it; a thread that is gone gets none.
    let _ = unsafe { syscall(libc::SYS_tgkill, args) };
}

/// Keeps all signals from this thread until dropped.
pub struct SignalsBlocked(u64);

impl SignalsBlocked {
    /// Blocks all signals.
    pub fn new() -> SignalsBlocked {
        SignalsBlocked(set_signal_mask(u64::MAX))
    }
}

impl Default for SignalsBlocked {
    fn default() -> Self {
        SignalsBlocked::new()
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        set_signal_mask(self.0);
    }
}

/// Sends this thread a signal with all that it came with before. Where the kernel has no room for that
/// (`RLIMIT_SIGPENDING`), the signal comes without.
pub fn signal_self(info: &libc::siginfo_t) {
    let (pid, tid) = (process_id() as usize, thread_id() as usize);
    let (signal, at) = (info.si_signo as usize, std::ptr::from_ref(info) as usize);
    // SAFETY: the kernel reads the struct.
    let sent = unsafe { syscall(libc::SYS_rt_tgsigqueueinfo, [pid, tid, signal, at, 0, 0]) };
    if sent.is_err() {
        raise(info.si_signo);
    }
}

/// Gives a signal its default action, as the kernel does when it calls a handler once: the rest of the
/// action stays as it is. Of its flags, those in `mask` become `flags`.
pub fn reset_action(signal: c_int, mask: c_int, flags: c_int) {
    // Handler, flags, restorer, mask: `struct sigaction` as the kernel has it.
    let mut action = [0u64; 4];
    // SAFETY: the kernel fills the struct and reads it.
    unsafe {
        let to = action.as_mut_ptr() as usize;
        let args = [signal as usize, 0, to, 8, 0, 0];
        let _ = syscall(libc::SYS_rt_sigaction, args);
        action[0] = libc::SIG_DFL as u64;
        action[1] = action[1] & !u64::from(mask as u32) | u64::from(flags as u32);
        let from = action.as_ptr() as usize;
        let args = [signal as usize, from, 0, 8, 0, 0];
        let _ = syscall(libc::SYS_rt_sigaction, args);
    }
}

/// Sets the mask of blocked signals (the kernel's 64 bits) and returns what it was.
pub fn set_signal_mask(mask: u64) -> u64 {
    let mut old = 0u64;
    let args = [
        libc::SIG_SETMASK as usize,
        &raw const mask as usize,
        &raw mut old as usize,
        size_of::<u64>(),
        0,
        0,
    ];
    // SAFETY: both masks have the size that is given.
    let _ = unsafe { syscall(libc::SYS_rt_sigprocmask, args) };
    old
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_the_kernels_and_errno_is_left_alone() {
        crate::errno::set(7);
        assert_eq!(write(-1, b"x"), Err(Errno(libc::EBADF)));
        assert_eq!(is_cloexec(-1), Err(Errno(libc::EBADF)));
        assert_eq!(crate::errno::get(), 7);
    }

    #[test]
    fn a_duplicate_has_the_flag_asked_for() {
        let fd = eventfd().unwrap();
        assert_eq!(is_cloexec(fd), Ok(true));
        let copy = duplicate(fd, 300, false).unwrap();
        assert!(copy >= 300);
        assert_eq!(is_cloexec(copy), Ok(false));
        close(fd);
        close(copy);
    }

    #[test]
    fn blocked_signals_are_let_through_again() {
        let before = set_signal_mask(0);
        drop(SignalsBlocked::new());
        assert_eq!(set_signal_mask(before), 0);
    }
}
