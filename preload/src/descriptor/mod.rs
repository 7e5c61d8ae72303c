//! Descriptors: closing, duplicating, flags, requests, what they look like.

pub mod close;
pub mod duplicate;
pub mod fcntl;
pub mod ioctl;
pub mod status;

use crate::errno::{Errno, Result};
use crate::socket::SocketRef;
use crate::{real, thread};
use fdmap::Entry;
use std::ffi::c_int;

/// What stands behind a descriptor, as a call must take it.
#[derive(Clone, Copy)]
pub enum Behind {
    /// The kernel, or nothing.
    Kernel,
    /// A socket of the stack.
    Stack(SocketRef),
    /// An epoll descriptor of the kernel with sockets of the stack beside it: its slot.
    Epoll(u32),
    /// A descriptor of the library: to the program the number is closed (`EBADF`).
    Hidden,
}

/// What stands behind `fd`.
#[inline]
pub fn behind(fd: c_int) -> Behind {
    match fdmap::get(fd) {
        Entry::Kernel => Behind::Kernel,
        Entry::Epoll { slot } => Behind::Epoll(slot),
        Entry::Socket { index, generation } => match SocketRef::new(index, generation) {
            Some(socket) => Behind::Stack(socket),
            None => Behind::Hidden,
        },
        Entry::Pooled | Entry::Private => Behind::Hidden,
    }
}

/// Refuses a descriptor of the library.
///
/// # Errors
/// `EBADF` if `fd` is one.
#[inline]
pub fn visible(fd: c_int) -> Result<()> {
    match fdmap::get(fd) {
        Entry::Pooled | Entry::Private => Err(Errno(libc::EBADF)),
        _ => Ok(()),
    }
}

/// As [`thread::is_guest`], also where the child was made by other means than vfork(2).
fn is_guest() -> bool {
    thread::is_guest() || thread::id() != real::thread_id()
}

#[cfg(test)]
mod tests;
