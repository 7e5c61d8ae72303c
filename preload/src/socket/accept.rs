//! accept(2).

#![allow(unsafe_code)]

use super::{SocketRef, would_block};
use crate::errno::{Errno, Result};
use crate::readiness::deadline::Deadline;
use crate::readiness::{poll, stack};
use crate::sharing::guest;
use crate::{placeholder, real, thread, wait};
use context::command::Op;
use context::socket::{AcceptRing, Waiting, flag, state};
use fdmap::Entry;
use std::ffi::c_int;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Where both serve a listener, the kernel is asked first every so many times, so that a flood on the
/// stack does not keep the kernel's connections waiting.
const KERNEL_FIRST: u32 = 16;

/// What accept(2) has taken.
#[derive(Debug)]
pub struct Accepted {
    /// The connection's descriptor.
    pub fd: RawFd,
    /// The connection, unless the kernel serves it.
    pub socket: Option<SocketRef>,
}

/// accept4(2) without the address: [`names::remote`](super::names) and getpeername(2) know it.
///
/// # Errors
/// As accept4(2).
pub fn accept(fd: RawFd, listener: SocketRef, flags: c_int) -> Result<Accepted> {
    if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
        return Err(Errno(libc::EINVAL));
    }
    let options = &listener.record().options;
    let timeout = options.receive_timeout.load(Ordering::Relaxed);
    let timeout = (timeout > 0).then(|| Duration::from_micros(timeout));
    let deadline = timeout.map_or(Deadline::Never, Deadline::after);
    loop {
        if let Some(accepted) = try_accept(fd, listener, flags)? {
            return Ok(accepted);
        }
        if listener.is_nonblocking(0) {
            if listener.flags() & flag::BOTH == 0 && listener.process().is_engine_gone() {
                return Err(Errno(libc::ENETDOWN));
            }
            return would_block(libc::EAGAIN);
        }
        let is_ready = if listener.flags() & flag::BOTH == 0 {
            let ready = || (!listener.is_listening() || has_connection(listener)).then_some(());
            wait::until(listener, timeout, ready)?.is_some()
        } else {
            wait_for_both(fd, deadline)?
        };
        if !is_ready {
            return Err(Errno(libc::EAGAIN));
        }
    }
}

/// Whether a connection waits on the stack's side.
pub fn has_connection(listener: SocketRef) -> bool {
    let segment = &listener.process().segment;
    let rings = listener.record().accept_rings.iter();
    rings.into_iter().any(|ring| {
        let chunk = ring.load(Ordering::Acquire);
        chunk != 0
            && segment
                .accept_ring(chunk)
                .is_some_and(|ring| !ring.is_empty())
    })
}

/// Waits for a connection on either side of `fd`. False if the time is up.
fn wait_for_both(fd: RawFd, deadline: Deadline) -> Result<bool> {
    let stack = stack::current().ok_or(Errno(libc::ENETDOWN))?;
    let mut fds = [libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    }];
    match poll::poll(stack, &mut fds, deadline, None) {
        Err(Errno(libc::EINTR)) if deadline == Deadline::Never && wait::restarts() => Ok(true),
        Ok(0) => Ok(false),
        Ok(_) if fds[0].revents & libc::POLLNVAL != 0 => Err(Errno(libc::EBADF)),
        result => result.map(|_| true),
    }
}

fn try_accept(fd: RawFd, listener: SocketRef, flags: c_int) -> Result<Option<Accepted>> {
    if listener.flags() & flag::BOTH == 0 {
        return from_stack(listener, flags);
    }
    static TURN: AtomicU32 = AtomicU32::new(0);
    if is_kernel_first(TURN.fetch_add(1, Ordering::Relaxed), thread::id()) {
        match from_kernel(fd, flags)? {
            None => from_stack(listener, flags),
            accepted => Ok(accepted),
        }
    } else {
        match from_stack(listener, flags)? {
            None => from_kernel(fd, flags),
            accepted => Ok(accepted),
        }
    }
}

/// Processes that take one connection each all count from where their parent stands: the number of
/// the thread has them take turns as well.
fn is_kernel_first(turn: u32, thread: u32) -> bool {
    turn.wrapping_add(thread).is_multiple_of(KERNEL_FIRST)
}

fn from_kernel(fd: RawFd, flags: c_int) -> Result<Option<Accepted>> {
    let args = [fd as usize, 0, 0, flags as usize, 0, 0];
    // SAFETY: no address is asked for.
    let call = || unsafe { real::syscall(libc::SYS_accept4, args) };
    match placeholder::with_room(call) {
        Ok(fd) => Ok(Some(Accepted {
            fd: fd as RawFd,
            socket: None,
        })),
        Err(Errno(libc::EAGAIN)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn from_stack(listener: SocketRef, flags: c_int) -> Result<Option<Accepted>> {
    let reader = match listener.reader(false) {
        // Who takes a connection just now has been stopped.
        Err(Errno(libc::EAGAIN)) => return Ok(None),
        reader => reader?,
    };
    if listener.tcp_state() != state::LISTEN {
        return Err(Errno(libc::EINVAL));
    }
    if !has_connection(listener) {
        return Ok(None);
    }
    // The number first: without one, the connection stays in the queue.
    let cloexec = flags & libc::SOCK_CLOEXEC != 0;
    let fd = placeholder::with_room(|| placeholder::open(Entry::Pooled, cloexec))?;
    let Some(socket) = take(listener) else {
        drop(reader);
        placeholder::give_back(fd);
        return Ok(None);
    };
    let _section = reader.unlock();
    let app = &socket.record().app;
    let inet6 = listener.flags() & flag::INET6;
    app.flags.fetch_or(flag::KNOWN | inet6, Ordering::SeqCst);
    if flags & libc::SOCK_NONBLOCK != 0 {
        app.file_flags
            .store(libc::O_NONBLOCK as u32, Ordering::Relaxed);
    }
    if !fdmap::begin(socket.index) {
        placeholder::give_back(fd);
        socket.tell(Op::Close, 1)?;
        return Err(Errno(libc::ENFILE));
    }
    fdmap::set(fd, socket.entry());
    guest::note(fd, socket);
    socket.tell(Op::Adopt, 0)?;
    Ok(Some(Accepted {
        fd,
        socket: Some(socket),
    }))
}

/// Takes the connection that has waited longest off the workers' rings: a server that serves one after
/// the other relies on that. Of those that came at once, this thread's own worker's goes first. The
/// caller holds the reading lock.
fn take(listener: SocketRef) -> Option<SocketRef> {
    let segment = &listener.process().segment;
    let workers = segment.geometry().workers as usize;
    let own = thread::with_thread(|thread| thread.preferred_worker()).unwrap_or(0);
    let mut oldest: Option<(Waiting, &AcceptRing)> = None;
    for worker in (0..workers).map(|n| (own + n) % workers) {
        let chunk = listener.record().accept_rings[worker].load(Ordering::Acquire);
        let Some(ring) = (chunk != 0).then(|| segment.accept_ring(chunk)).flatten() else {
            continue;
        };
        let Ok(Some([word])) = ring.first(ring.head()) else {
            continue;
        };
        let waiting = Waiting::from_word(word);
        if oldest.is_none_or(|(first, _)| waiting.is_before(first)) {
            oldest = Some((waiting, ring));
        }
    }
    let (waiting, ring) = oldest?;
    let socket = SocketRef::current(waiting.socket);
    if let Some(socket) = &socket {
        let taker = &socket.record().app.taker;
        taker.store(listener.process().number(), Ordering::Relaxed);
    }
    ring.pop(&mut ring.head()).ok()?;
    socket
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::close::close as close_fd;
    use crate::socket::{create, listen};
    use crate::testing::{commands, engine, fresh};

    fn listener(address: &str) -> (RawFd, SocketRef) {
        engine();
        let socket = fresh();
        let fd = create::attach(socket, true).unwrap();
        listen::bind(fd, socket, address.parse().unwrap()).unwrap();
        listen::listen(fd, socket, 16).unwrap();
        (fd, socket)
    }

    #[test]
    fn connections_are_taken_in_the_order_in_which_they_came_to_any_worker() {
        let (fd, socket) = listener("10.77.0.2:7109");
        let engine = engine();
        let arrivals = [(1, u32::MAX - 5), (0, u32::MAX - 2), (1, 3), (0, 7)];
        let peer = "10.77.0.1:5000".parse().unwrap();
        let came = arrivals.map(|at| engine.incoming_at(socket, peer, at).index);
        let taken = arrivals.map(|_| accept(fd, socket, 0).unwrap());
        assert_eq!(taken.each_ref().map(|one| one.socket.unwrap().index), came);
        for one in taken {
            close_fd(one.fd).unwrap();
        }
        close_fd(fd).unwrap();
    }

    fn set_nonblocking(socket: SocketRef) {
        let file_flags = &socket.record().app.file_flags;
        file_flags.store(libc::O_NONBLOCK as u32, Ordering::Relaxed);
    }

    #[test]
    fn a_connection_gets_a_descriptor_the_flags_asked_for_and_no_others() {
        let (fd, socket) = listener("10.77.0.2:7101");
        set_nonblocking(socket);
        let empty = accept(fd, socket, 0).unwrap_err();
        assert_eq!(empty, Errno(libc::EAGAIN));
        let connection = engine().incoming(socket, "10.77.0.1:50000".parse().unwrap());
        let accepted = accept(fd, socket, libc::SOCK_CLOEXEC).unwrap();
        let got = accepted.socket.unwrap();
        assert_eq!(got.index, connection.index);
        assert!(!got.is_nonblocking(0), "the flag is not inherited");
        assert_eq!(real::is_cloexec(accepted.fd), Ok(true));
        assert_eq!(commands(), [got.command(Op::Adopt, 0)]);
        close_fd(accepted.fd).unwrap();
        close_fd(fd).unwrap();
    }

    #[test]
    fn a_connection_that_was_reset_meanwhile_is_delivered() {
        let (fd, socket) = listener("10.77.0.2:7102");
        let connection = engine().incoming(socket, "10.77.0.1:50001".parse().unwrap());
        engine().fail(connection, libc::ECONNRESET);
        let accepted = accept(fd, socket, 0).unwrap();
        assert_eq!(accepted.socket.unwrap().take_error(), libc::ECONNRESET);
        close_fd(accepted.fd).unwrap();
        close_fd(fd).unwrap();
    }

    #[test]
    fn only_a_listener_accepts_and_only_with_known_flags() {
        let socket = fresh();
        let result = accept(0, socket, 0).unwrap_err();
        assert_eq!(result, Errno(libc::EINVAL));
        assert_eq!(accept(0, socket, 1).unwrap_err(), Errno(libc::EINVAL));
    }

    #[test]
    fn a_blocking_accept_waits_and_gives_up_in_time() {
        let (fd, socket) = listener("10.77.0.2:7103");
        let options = &socket.record().options;
        options.receive_timeout.store(2000, Ordering::Relaxed);
        let late = accept(fd, socket, 0).unwrap_err();
        assert_eq!(late, Errno(libc::EAGAIN));
        options.receive_timeout.store(0, Ordering::Relaxed);
        let accepted = std::thread::scope(|s| {
            s.spawn(|| {
                while socket.record().app.waiters.load(Ordering::SeqCst) == 0 {
                    std::thread::yield_now();
                }
                engine().incoming(socket, "10.77.0.1:50002".parse().unwrap());
            });
            accept(fd, socket, 0).unwrap()
        });
        close_fd(accepted.fd).unwrap();
        close_fd(fd).unwrap();
    }

    #[test]
    fn processes_that_take_one_connection_each_take_turns() {
        let first = 1_000_000;
        let children = first..first + KERNEL_FIRST;
        let kernels = children.filter(|child| is_kernel_first(0, *child));
        assert_eq!(kernels.count(), 1);
    }

    #[test]
    fn where_both_serve_neither_side_starves() {
        let (fd, socket) = listener("0.0.0.0:0");
        set_nonblocking(socket);
        let port = socket.record().names.local().port();
        let _clients: Vec<_> = (0..3)
            .map(|_| std::net::TcpStream::connect(("127.0.0.1", port)).unwrap())
            .collect();
        for n in 0..64 {
            engine().incoming(socket, format!("10.77.0.1:{}", 51_000 + n).parse().unwrap());
        }
        let mut kernels = 0;
        for _ in 0..3 * KERNEL_FIRST {
            let accepted = accept(fd, socket, 0).unwrap();
            match accepted.socket {
                None => {
                    kernels += 1;
                    real::close(accepted.fd);
                }
                Some(_) => close_fd(accepted.fd).unwrap(),
            }
            commands();
        }
        assert!((1..=3).contains(&kernels), "{kernels}");
        close_fd(fd).unwrap();
    }
}
