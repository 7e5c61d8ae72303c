//! accept(2).

#![allow(unsafe_code)]

use super::{SocketRef, would_block};
use crate::errno::{Errno, Result};
use crate::readiness::deadline::Deadline;
use crate::readiness::{kernel, poll, stack};
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

/// A connection at the caller's own worker may overtake those that came at most so many microseconds
/// before it. All workers' queues advance together, so that none starves behind a busy one.
const LEAD: u32 = 1_000;

/// After so many accepts by one thread it counts as the only one that accepts from the listener.
const RIVALRY: u32 = 64;

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
    let waits = |worker| accept_ring(listener, worker).is_some_and(|ring| !ring.is_empty());
    (0..workers_of(listener)).any(waits)
}

fn workers_of(listener: SocketRef) -> usize {
    listener.process().segment.geometry().workers as usize
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
    // To find no connection costs the kernel's accept4 as much as to make a socket.
    let mut listener = [libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    }];
    if kernel::poll(&mut listener, Some(Duration::ZERO), None)? == 0 {
        return Ok(None);
    }
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
    let caller = Caller::current()?;
    // The number first: without one, the connection stays in the queue.
    let cloexec = flags & libc::SOCK_CLOEXEC != 0;
    let fd = placeholder::with_room(|| placeholder::open(Entry::Pooled, cloexec))?;
    let Some(socket) = take(listener, caller) else {
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

/// The thread that accepts.
#[derive(Clone, Copy)]
struct Caller {
    context: u32,
    /// Where its sockets are made.
    worker: usize,
}

impl Caller {
    fn current() -> Result<Caller> {
        thread::with_thread(|thread| Caller {
            context: thread.context(),
            worker: thread.preferred_worker(),
        })
    }
}

/// Takes a connection off the workers' rings. The caller holds the reading lock.
///
/// Where one thread takes all of them, they come in the order in which they arrived, as on Linux: a
/// server that serves one after the other relies on it. Among several threads there is no such order:
/// each goes to its own worker first, unless another connection has waited [`LEAD`] longer.
fn take(listener: SocketRef, caller: Caller) -> Option<SocketRef> {
    let first = |worker| first_at(listener, worker).map(|first| (first, worker));
    let waiting = (0..workers_of(listener)).filter_map(first);
    let (oldest, at) = waiting.reduce(|a, b| if b.0.is_before(a.0) { b } else { a })?;
    let lead = if has_rivals(listener, caller.context) {
        LEAD
    } else {
        0
    };
    let near = (at != caller.worker)
        .then(|| first(caller.worker))
        .flatten();
    let near = near.filter(|(first, _)| first.since.wrapping_sub(oldest.since) <= lead);
    let (waiting, worker) = near.unwrap_or((oldest, at));
    let socket = SocketRef::current(waiting.socket);
    if let Some(socket) = &socket {
        let taker = &socket.record().app.taker;
        taker.store(listener.process().number(), Ordering::Relaxed);
    }
    let ring = accept_ring(listener, worker)?;
    ring.pop(&mut ring.head()).ok()?;
    socket
}

/// The connection that has waited longest at one worker.
fn first_at(listener: SocketRef, worker: usize) -> Option<Waiting> {
    let ring = accept_ring(listener, worker)?;
    let [word] = ring.first(ring.head()).ok()??;
    Some(Waiting::from_word(word))
}

fn accept_ring(listener: SocketRef, worker: usize) -> Option<&'static AcceptRing> {
    let chunk = listener.record().accept_rings[worker].load(Ordering::Acquire);
    let segment = &listener.process().segment;
    (chunk != 0).then(|| segment.accept_ring(chunk)).flatten()
}

/// Whether others have lately accepted from this listener, too; notes that this context does now.
fn has_rivals(listener: SocketRef, context: u32) -> bool {
    let app = &listener.record().app;
    let last = app.acceptor.swap(context + 1, Ordering::Relaxed);
    let rivalry = match app.rivalry.load(Ordering::Relaxed) {
        _ if last != 0 && last != context + 1 => RIVALRY,
        left => left.saturating_sub(1),
    };
    app.rivalry.store(rivalry, Ordering::Relaxed);
    rivalry > 0
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

    /// A listener from which this thread and another have accepted, and the workers that this thread
    /// prefers and does not prefer.
    fn rivals(address: &str) -> (RawFd, SocketRef, [usize; 2]) {
        let (fd, socket) = listener(address);
        let accept_one = || {
            engine().incoming(socket, "10.77.0.1:5000".parse().unwrap());
            close_fd(accept(fd, socket, 0).unwrap().fd).unwrap();
            Caller::current().unwrap().worker
        };
        std::thread::scope(|s| s.spawn(accept_one).join().unwrap());
        let own = accept_one();
        (fd, socket, [own, 1 - own])
    }

    /// Connections that came at these workers and times, in the order in which they are accepted.
    fn order<const N: usize>(fd: RawFd, socket: SocketRef, came: [(usize, u32); N]) -> [usize; N] {
        let peer = "10.77.0.1:5000".parse().unwrap();
        let came = came.map(|at| engine().incoming_at(socket, peer, at).index);
        came.map(|_| {
            let accepted = accept(fd, socket, 0).unwrap();
            close_fd(accepted.fd).unwrap();
            let index = accepted.socket.unwrap().index;
            came.iter().position(|one| *one == index).unwrap()
        })
    }

    #[test]
    fn where_several_threads_accept_each_takes_first_what_came_to_its_own_worker() {
        let (fd, socket, [own, other]) = rivals("10.77.0.2:7110");
        let came = [(other, 10), (own, 20), (other, 30), (own, 40)];
        assert_eq!(order(fd, socket, came), [1, 3, 0, 2]);
        close_fd(fd).unwrap();
    }

    #[test]
    fn what_has_waited_much_longer_at_another_worker_goes_first() {
        let (fd, socket, [own, other]) = rivals("10.77.0.2:7111");
        let first = u32::MAX - 5;
        let late = first.wrapping_add(LEAD + 1);
        let came = [(other, first), (own, late), (other, late)];
        assert_eq!(order(fd, socket, came), [0, 1, 2]);
        close_fd(fd).unwrap();
    }

    #[test]
    fn a_thread_that_accepts_alone_again_takes_connections_in_order_again() {
        let (fd, socket, [own, other]) = rivals("10.77.0.2:7112");
        for _ in 0..RIVALRY {
            assert_eq!(order(fd, socket, [(own, 0)]), [0]);
        }
        assert_eq!(order(fd, socket, [(other, 10), (own, 20)]), [0, 1]);
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
