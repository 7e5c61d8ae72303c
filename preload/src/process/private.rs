//! Descriptors of the library's own, out of the program's way.

#![allow(unsafe_code)]

use crate::errno::{Errno, Result};
use crate::real;
use fdmap::Entry;
use std::os::fd::RawFd;

/// The library's own descriptors lie at this number at most: the kernel's table grows to it.
const HIGHEST_PRIVATE: usize = 1 << 14;
/// Room above the lowest private descriptor.
const PRIVATE_ROOM: usize = 64;

/// Moves a descriptor to a high number, out of the way of the program's own, and protects it from
/// the program. Takes `fd` in any case.
///
/// # Errors
/// `EMFILE`.
pub fn make_private(fd: RawFd) -> Result<RawFd> {
    let mut minimum = lowest_private();
    let moved = loop {
        match real::duplicate(fd, minimum, true) {
            Err(Errno(libc::EMFILE | libc::EINVAL)) if minimum > 3 => minimum /= 2,
            result => break result,
        }
    };
    real::close(fd);
    let moved = moved?;
    fdmap::set(moved, Entry::Private);
    Ok(moved)
}

fn lowest_private() -> RawFd {
    let limit = (descriptor_limit() as usize).min(HIGHEST_PRIVATE);
    limit.saturating_sub(PRIVATE_ROOM).max(256) as RawFd
}

/// The soft limit on descriptors (`RLIMIT_NOFILE`).
pub fn descriptor_limit() -> u32 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let resource = libc::RLIMIT_NOFILE as usize;
    let args = [0, resource, 0, &raw mut limit as usize, 0, 0];
    // SAFETY: the kernel fills the struct.
    let _ = unsafe { real::syscall(libc::SYS_prlimit64, args) };
    u32::try_from(limit.rlim_cur).unwrap_or(u32::MAX)
}

/// Opens a file to append to, and makes its descriptor private.
pub(super) fn open_private(path: &std::path::Path) -> Option<RawFd> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
    let args = [
        libc::AT_FDCWD as usize,
        path.as_ptr() as usize,
        flags as usize,
        0o644,
        0,
        0,
    ];
    // SAFETY: the path is a C string.
    let fd = unsafe { real::syscall(libc::SYS_openat, args) }.ok()?;
    make_private(fd as RawFd).ok()
}

/// Closes a private descriptor.
pub fn close_private(fd: RawFd) {
    fdmap::take(fd);
    real::close(fd);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_descriptor_lies_high_and_is_known() {
        let fd = make_private(real::eventfd().unwrap()).unwrap();
        assert!(fd >= 256, "{fd}");
        assert_eq!(fdmap::get(fd), Entry::Private);
        assert_eq!(real::is_cloexec(fd), Ok(true));
        fdmap::take(fd);
        real::close(fd);
    }
}
