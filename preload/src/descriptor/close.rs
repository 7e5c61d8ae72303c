//! close(2), close_range(2), closefrom(3).

#![allow(unsafe_code)]

use crate::errno::{Errno, Result};
use crate::sharing::guest;
use crate::socket::SocketRef;
use crate::{log, placeholder, readiness, real, socket, thread};
use fdmap::Entry;
use std::ffi::{c_int, c_uint};
use std::os::fd::RawFd;

/// Closes a descriptor behind which the stack stands, or none that the program may close.
///
/// # Errors
/// `EBADF` for a descriptor of the library, and for all but the first of several that close at once.
pub fn close(fd: RawFd) -> Result<()> {
    let entry = fdmap::get(fd);
    match entry {
        Entry::Kernel => {
            real::close(fd);
            Ok(())
        }
        Entry::Socket { .. } | Entry::Epoll { .. } if thread::is_guest() => {
            if let Some(socket) = socket::find(fd) {
                guest::closed(fd, socket);
            }
            real::close(fd);
            Ok(())
        }
        Entry::Pooled | Entry::Private => Err(Errno(libc::EBADF)),
        Entry::Epoll { slot } => {
            if !fdmap::replace(fd, entry, Entry::Kernel) {
                return Err(Errno(libc::EBADF));
            }
            readiness::epoll::close(slot);
            real::close(fd);
            Ok(())
        }
        Entry::Socket { index, generation } => {
            let socket = SocketRef::new(index, generation).ok_or(Errno(libc::EBADF))?;
            socket::close::descriptor(fd, socket)
        }
    }
}

/// Closes all descriptors from `first` to `last`, except the library's own.
///
/// # Errors
/// As close_range(2).
pub fn close_range(first: c_uint, last: c_uint, flags: c_int) -> Result<()> {
    let to_close = flags & libc::CLOSE_RANGE_CLOEXEC as c_int == 0;
    let known = (libc::CLOSE_RANGE_CLOEXEC | libc::CLOSE_RANGE_UNSHARE) as c_int;
    if first > last || flags & !known != 0 {
        return in_kernel(first, last, flags);
    }
    let is_guest = super::is_guest();
    let is_inside = |fd: RawFd| (first..=last).contains(&(fd as c_uint));
    if !to_close {
        in_kernel(first, last, flags)?;
        if is_guest {
            return Ok(());
        }
        for (fd, entry) in fdmap::entries().filter(|(fd, _)| is_inside(*fd)) {
            if matches!(entry, Entry::Socket { .. } | Entry::Pooled) {
                placeholder::remember(fd, true);
            }
        }
        return Ok(());
    }
    let mut start = first;
    for (fd, entry) in fdmap::entries().filter(|(fd, _)| is_inside(*fd)) {
        match entry {
            Entry::Private => {
                let number = fd as c_uint;
                if start < number {
                    in_kernel(start, number - 1, flags)?;
                }
                start = number + 1;
            }
            // The kernel closes it with the others.
            _ if is_guest => {}
            Entry::Pooled => {
                fdmap::replace(fd, Entry::Pooled, Entry::Kernel);
            }
            _ => {
                // Another thread may have closed it meanwhile.
                let _ = close(fd);
                fdmap::replace(fd, Entry::Pooled, Entry::Kernel);
            }
        }
    }
    if start <= last {
        in_kernel(start, last, flags)?;
    }
    Ok(())
}

fn in_kernel(first: c_uint, last: c_uint, flags: c_int) -> Result<()> {
    let args = [first as usize, last as usize, flags as usize, 0, 0, 0];
    // SAFETY: closing is safe for memory; the range is the program's to close.
    let result = unsafe { real::syscall(libc::SYS_close_range, args) };
    if result == Err(Errno(libc::ENOSYS)) {
        log::line("close_range(2) needs Linux 5.9");
    }
    result.map(drop)
}
