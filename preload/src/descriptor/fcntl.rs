//! fcntl(2).

use super::duplicate;
use crate::errno::{Errno, Result};
use crate::socket::SocketRef;
use crate::{log, placeholder, real, thread};
use context::socket::flag;
use std::ffi::c_int;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

/// asm-generic/fcntl.h
const F_SETSIG: c_int = 10;
/// asm-generic/fcntl.h
const F_SETOWN_EX: c_int = 15;

/// Flags of the open file that F_SETFL changes on a socket.
const CHANGEABLE: c_int = libc::O_NONBLOCK | libc::O_APPEND;

/// fcntl(2) on a socket of the stack.
///
/// # Errors
/// As fcntl(2) on a socket of the kernel; `EINVAL` for what would have `SIGIO` sent.
pub fn fcntl(socket: SocketRef, fd: RawFd, command: c_int, arg: usize) -> Result<c_int> {
    let word = &socket.record().app.file_flags;
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
            duplicate::duplicate(fd, arg as c_int, command == libc::F_DUPFD_CLOEXEC)
        }
        libc::F_SETFD => {
            set_cloexec(socket, fd, arg as c_int & libc::FD_CLOEXEC != 0)?;
            Ok(0)
        }
        libc::F_GETFL => Ok(libc::O_RDWR | word.load(Relaxed) as c_int),
        libc::F_SETFL => {
            let flags = arg as c_int;
            if flags & libc::O_DIRECT != 0 {
                return Err(Errno(libc::EINVAL));
            }
            if flags & libc::O_ASYNC != 0 {
                return Err(no_signals("O_ASYNC"));
            }
            word.store((flags & CHANGEABLE) as u32, Relaxed);
            Ok(0)
        }
        libc::F_SETOWN | F_SETOWN_EX if arg != 0 => Err(no_signals("F_SETOWN")),
        F_SETSIG if arg != 0 => Err(no_signals("F_SETSIG")),
        libc::F_SETLK | libc::F_SETLKW | libc::F_OFD_SETLK | libc::F_OFD_SETLKW => {
            log::line("fcntl: a socket of the stack cannot be locked");
            Err(Errno(libc::EINVAL))
        }
        // The placeholder is a TCP socket of the kernel and knows what such a socket answers.
        _ => real::fcntl(fd, command, arg).map(|n| n as c_int),
    }
}

/// The program asks to be told by a signal.
pub(super) fn no_signals(what: &str) -> Errno {
    log::format(format_args!(
        "{what}: the stack sends no SIGIO and no SIGURG"
    ));
    Errno(libc::EINVAL)
}

/// Sets or clears `FD_CLOEXEC`.
pub(super) fn set_cloexec(socket: SocketRef, fd: RawFd, on: bool) -> Result<()> {
    if socket.flags() & flag::BOTH != 0 || thread::is_guest() {
        real::set_cloexec(fd, on)
    } else {
        placeholder::set_cloexec(fd, on)
    }
}

/// Sets or clears `O_NONBLOCK`.
pub(super) fn set_nonblocking(socket: SocketRef, on: bool) {
    let word = &socket.record().app.file_flags;
    if on {
        word.fetch_or(libc::O_NONBLOCK as u32, AcqRel);
    } else {
        word.fetch_and(!(libc::O_NONBLOCK as u32), AcqRel);
    }
}
