//! Readiness: epoll, poll and select over descriptors of the kernel and sockets of the stack.
//!
//! Level is state: whether a socket is ready is read from its record ([`level`]). Edges are events,
//! which come through a ready set of the engine ([`channel`]): one for each epoll instance, and one
//! for each thread that polls.

pub mod channel;
pub mod deadline;
pub mod epoll;
pub mod guarded;
pub mod kernel;
pub mod level;
pub mod poll;
pub mod select;
mod spare;
pub mod stack;
#[cfg(test)]
pub(crate) mod testing;

use fdmap::Entry;
pub use stack::SocketId;
use std::os::fd::RawFd;

/// The number `fd` is about to be closed, or replaced: call it while the descriptor table still
/// says what stands behind it, and the descriptor is still counted. As in the kernel, watches live
/// until the last descriptor of their socket is closed.
pub fn forget(fd: RawFd) {
    match fdmap::get(fd) {
        Entry::Socket { index, .. } if fdmap::references(index) <= 1 => forget_socket(index),
        _ => {}
    }
}

/// The last descriptor of a socket in this process was closed: its watches end.
pub fn forget_socket(socket: u32) {
    if let Some(stack) = stack::current() {
        epoll::forget_socket(stack, socket);
    }
}

/// The application itself has made a socket ready (`shutdown(2)`, a lower `SO_RCVLOWAT`).
pub fn raise(socket: u32) {
    if let Some(stack) = stack::current() {
        epoll::raise(stack, socket);
    }
}

/// The kernel serves the socket that was behind `fd` from now on; the kernel's socket lies under
/// the number already. Call it for each of the socket's descriptors.
pub fn hand_over(fd: RawFd, index: u32, generation: u16) {
    if let Some(stack) = stack::current() {
        epoll::hand_over(stack, fd, SocketId { index, generation });
    }
}

/// A kernel socket listens beside the one behind `fd` from now on, and lies under the number
/// already. Call it for each of the socket's descriptors.
pub fn share(fd: RawFd, index: u32, generation: u16) {
    if let Some(stack) = stack::current() {
        epoll::share(stack, fd, SocketId { index, generation });
    }
}

/// Another record, `to`, stands behind the descriptors of `from` now.
pub fn renew(from: SocketId, to: SocketId) {
    if let Some(stack) = stack::current() {
        epoll::renew(stack, from, to);
    }
}

/// For pthread_atfork(3): before the fork.
pub fn before_fork() {
    if let Some(stack) = stack::current() {
        epoll::lock_for_fork(stack);
    }
}

/// For pthread_atfork(3): after the fork, in the parent or in the child.
pub fn after_fork(in_child: bool) {
    epoll::unlock_after_fork(in_child);
}
