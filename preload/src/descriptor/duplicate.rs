//! dup(2), dup2(2), dup3(2), F_DUPFD.

use crate::errno::{Errno, Result};
use crate::files::standard;
use crate::sharing::lease;
use crate::socket::{SocketRef, close};
use crate::{log, placeholder, readiness, real, thread};
use fdmap::Entry;
use std::ffi::c_int;
use std::os::fd::RawFd;

/// Duplicates `fd` to the lowest free number from `minimum` on.
///
/// # Errors
/// As dup(2) and fcntl(2) `F_DUPFD`.
pub fn duplicate(fd: RawFd, minimum: c_int, cloexec: bool) -> Result<RawFd> {
    let entry = fdmap::get(fd);
    super::visible(fd)?;
    if entry != Entry::Kernel && thread::is_guest() {
        lend_to_guest(fd, entry)?;
        return real::duplicate(fd, minimum, cloexec);
    }
    retain(entry)?;
    let result = placeholder::with_room(|| real::duplicate(fd, minimum, cloexec));
    let result = result.and_then(|copy| place(copy, fd, entry, cloexec));
    if result.is_err() {
        release(entry);
    }
    result
}

/// What a vfork child copies carries a lease to the program that the child becomes: of the copy,
/// nothing is known here.
fn lend_to_guest(fd: RawFd, entry: Entry) -> Result<()> {
    match entry {
        Entry::Socket { index, generation } => {
            let socket = SocketRef::new(index, generation).filter(SocketRef::is_current);
            lease::lend(socket.ok_or(Errno(libc::EBADF))?, &[fd])
        }
        _ => Ok(()),
    }
}

/// Writes down what stands behind a new descriptor.
fn place(copy: RawFd, of: RawFd, entry: Entry, cloexec: bool) -> Result<RawFd> {
    if entry == Entry::Kernel {
        return Ok(copy);
    }
    if !fdmap::has_place(copy) {
        real::close(copy);
        return Err(Errno(libc::EMFILE));
    }
    placeholder::remember(copy, cloexec);
    placeholder::set_leased(copy, placeholder::is_leased(of));
    fdmap::set(copy, entry);
    standard::cover(copy);
    Ok(copy)
}

/// Makes `to` a duplicate of `from`, closing first what is there, in one step. They differ.
///
/// # Errors
/// As dup2(2). `EBADF` also if `to` is a descriptor of the library: as beyond the limit.
pub fn duplicate_to(from: RawFd, to: RawFd, cloexec: bool) -> Result<()> {
    let entry = fdmap::get(from);
    if (entry, fdmap::get(to)) == (Entry::Kernel, Entry::Kernel) {
        return real::duplicate_to(from, to, cloexec);
    }
    super::visible(from)?;
    if thread::is_guest() {
        lend_to_guest(from, entry)?;
        return real::duplicate_to(from, to, cloexec);
    }
    // Nothing may be lost if `from` is not open at all.
    real::is_cloexec(from)?;
    if fdmap::get(to) == Entry::Private {
        log::format(format_args!(
            "dup2 to {to}, a descriptor that mtcp itself uses: EBADF is returned"
        ));
        return Err(Errno(libc::EBADF));
    }
    if entry != Entry::Kernel && !fdmap::has_place(to) {
        return Err(Errno(libc::EBADF));
    }
    retain(entry)?;
    readiness::forget(to);
    let before = fdmap::swap(to, entry);
    if let Err(error) = real::duplicate_to(from, to, cloexec) {
        fdmap::set(to, before);
        release(entry);
        return Err(error);
    }
    placeholder::remember(to, cloexec);
    placeholder::set_leased(to, placeholder::is_leased(from));
    if entry != Entry::Kernel {
        standard::cover(to);
    }
    release(before);
    Ok(())
}

/// dup2(2): as [`duplicate_to`], but a duplicate of itself is itself.
///
/// # Errors
/// As dup2(2).
pub fn dup2(from: RawFd, to: RawFd) -> Result<RawFd> {
    if from == to {
        super::visible(from)?;
        real::is_cloexec(from)?;
    } else {
        duplicate_to(from, to, false)?;
    }
    Ok(to)
}

/// dup3(2).
///
/// # Errors
/// As dup3(2).
pub fn dup3(from: RawFd, to: RawFd, flags: c_int) -> Result<RawFd> {
    if flags & !libc::O_CLOEXEC != 0 || from == to {
        return Err(Errno(libc::EINVAL));
    }
    duplicate_to(from, to, flags & libc::O_CLOEXEC != 0)?;
    Ok(to)
}

/// Counts one more descriptor of what stands behind it.
fn retain(entry: Entry) -> Result<()> {
    match entry {
        Entry::Socket { index, .. } => {
            fdmap::retain(index).ok_or(Errno(libc::EMFILE))?;
        }
        Entry::Epoll { slot } => readiness::epoll::duplicate(slot),
        Entry::Kernel | Entry::Pooled | Entry::Private => {}
    }
    Ok(())
}

/// Counts one descriptor less of what stood behind it.
fn release(entry: Entry) {
    match entry {
        Entry::Socket { index, generation } => {
            let socket = SocketRef::new(index, generation).filter(SocketRef::is_current);
            if let Some(socket) = socket
                && fdmap::release(index) == 0
            {
                readiness::forget_socket(index);
                // It fails if another thread has done it, or there is no engine to tell.
                let _ = close::abandon(socket, socket.record().options.lingers() == Some(0));
            }
        }
        Entry::Epoll { slot } => readiness::epoll::close(slot),
        Entry::Kernel | Entry::Pooled | Entry::Private => {}
    }
}
