//! The end of sockets.

use super::SocketRef;
use super::options;
use crate::errno::{Errno, Result};
use crate::section::Section;
use crate::{placeholder, readiness, real, wait};
use context::command::Op;
use context::socket::{flag, state};
use fdmap::Entry;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Closes a descriptor behind which `socket` stands, and the socket with its last one.
///
/// # Errors
/// `EBADF` if another thread was faster.
pub fn descriptor(fd: RawFd, socket: SocketRef) -> Result<()> {
    readiness::forget(fd);
    // Under a listener that both serve is a kernel socket, no placeholder.
    let is_placeholder = !socket.is_current() || socket.flags() & flag::BOTH == 0;
    let left = if is_placeholder {
        Entry::Pooled
    } else {
        Entry::Kernel
    };
    if !fdmap::replace(fd, socket.entry(), left) {
        return Err(Errno(libc::EBADF));
    }
    // As in the kernel, the number is free before a close lingers.
    if is_placeholder {
        placeholder::give_back(fd);
    } else {
        real::close(fd);
    }
    release(socket);
    Ok(())
}

/// Counts one descriptor of `socket` less, and ends it with the last one.
pub fn release(socket: SocketRef) {
    // Descriptors of an earlier life are not counted in this one.
    if socket.is_current() && fdmap::release(socket.index) == 0 {
        readiness::forget_socket(socket.index);
        last(socket);
    }
}

/// Ends a socket whose last descriptor in this process is gone, as `SO_LINGER` says.
fn last(socket: SocketRef) {
    let linger = socket.record().options.lingers();
    if let Some(seconds @ 1..) = linger
        && !is_shared(socket)
        && has_data_to_send(socket)
    {
        let flags = &socket.record().app.flags;
        flags.fetch_or(flag::SHUT_WR, Ordering::SeqCst);
        let time = Duration::from_secs(seconds.into());
        let is_done = || (!has_data_to_send(socket)).then_some(());
        // A signal or the time ends the waiting; the rest is sent in the background.
        let _ = socket
            .tell(Op::Shutdown, libc::SHUT_WR as u64)
            .and_then(|()| wait::until(socket, Some(time), is_done));
    }
    // What cannot be given back has been given back already, or there is nobody to take it.
    let _ = abandon(socket, linger == Some(0));
}

fn is_shared(socket: SocketRef) -> bool {
    socket.flags() & flag::SHARED != 0
}

fn has_data_to_send(socket: SocketRef) -> bool {
    let record = socket.record();
    let is_open = !matches!(
        record.tcp_state(),
        state::CLOSE | state::LISTEN | state::SYN_SENT | state::TIME_WAIT | state::FIN_WAIT2
    );
    is_open && record.unacked() > 0
}

/// Takes a socket away from all threads that use it and gives it back to the engine, which closes
/// the connection in order, or resets it.
///
/// # Errors
/// `EBADF` if that has been done already, `ENETDOWN` if the engine is gone.
pub fn abandon(socket: SocketRef, reset: bool) -> Result<()> {
    let app = &socket.record().app;
    if is_shared(socket) {
        // For others it goes on; the engine closes it when the last of them is done with it.
        options::forget(socket);
        return socket.tell(Op::Close, reset.into());
    }
    let _section = Section::enter();
    {
        let holder = socket.holder();
        let _reading = app.rx_lock.lock(holder);
        let _writing = app.tx_lock.lock(holder);
        if !socket.is_current() {
            return Err(Errno(libc::EBADF));
        }
        if app.flags.fetch_or(flag::CLOSED, Ordering::SeqCst) & flag::CLOSED != 0 {
            return Err(Errno(libc::EBADF));
        }
        // Here, while the record cannot change hands.
        socket.record().wake_waiters();
    }
    options::forget(socket);
    socket.tell(Op::Close, reset.into())
}

/// The descriptors of a socket in this process; `fd` is one of them.
pub fn descriptors_of(fd: RawFd, socket: SocketRef) -> Vec<RawFd> {
    if fdmap::references(socket.index) <= 1 {
        return vec![fd];
    }
    let entry = socket.entry();
    let all = fdmap::entries().filter(|(_, of)| *of == entry);
    all.map(|(fd, _)| fd).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::close::close as close_fd;
    use crate::socket::{create, find};
    use crate::testing::{commands, engine, fresh};

    fn open() -> (RawFd, SocketRef) {
        let socket = fresh();
        engine().establish(socket);
        (create::attach(socket, true).unwrap(), socket)
    }

    #[test]
    fn a_closed_socket_is_taken_from_all_who_use_it() {
        let (fd, socket) = open();
        close_fd(fd).unwrap();
        assert!(find(fd).is_none());
        assert_eq!(commands(), [socket.command(Op::Close, 0)]);
        assert!(socket.reader(true).is_err() && socket.writer(true).is_err());
    }

    #[test]
    fn a_socket_lives_as_long_as_one_of_its_descriptors() {
        let (fd, socket) = open();
        let copy = real::duplicate(fd, 0, true).unwrap();
        fdmap::retain(socket.index);
        fdmap::set(copy, socket.entry());
        let mut all = descriptors_of(fd, socket);
        all.sort_unstable();
        assert_eq!(all, if fd < copy { [fd, copy] } else { [copy, fd] });
        close_fd(fd).unwrap();
        assert_eq!(commands(), []);
        close_fd(copy).unwrap();
        assert_eq!(commands(), [socket.command(Op::Close, 0)]);
    }

    #[test]
    fn linger_of_no_time_resets() {
        let (fd, socket) = open();
        socket.record().options.linger.store(1, Ordering::Relaxed);
        close_fd(fd).unwrap();
        assert_eq!(commands(), [socket.command(Op::Close, 1)]);
    }

    #[test]
    fn linger_waits_until_all_is_acknowledged() {
        let (fd, socket) = open();
        let record = socket.record();
        record.options.linger.store(61, Ordering::Relaxed);
        record.app.tx_tail.store(10, Ordering::SeqCst);
        std::thread::scope(|s| {
            s.spawn(|| {
                while record.app.waiters.load(Ordering::SeqCst) == 0 {
                    std::thread::yield_now();
                }
                record.engine.tx_head.store(10, Ordering::SeqCst);
                record.wake_waiters();
            });
            close_fd(fd).unwrap();
        });
        let shutdown = socket.command(Op::Shutdown, libc::SHUT_WR as u64);
        assert_eq!(commands(), [shutdown, socket.command(Op::Close, 0)]);
    }
}
