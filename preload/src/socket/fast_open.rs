//! TCP Fast Open of clients (RFC 7413): connections whose SYN waits for data.
//!
//! The engine is asked whether there is a cookie for the server. Without one, the SYN goes at once and
//! asks for it, and the data waits for the handshake.

#![allow(unsafe_code)]

use super::buffers::Buffers;
use super::connect::{self, How, Outcome};
use super::names::Address;
use super::{SocketRef, find, send, would_block};
use crate::errno::{Errno, Result};
use crate::thread;
use config::fastopen;
use context::command::{EARLY, Op};
use context::socket::flag;
use std::ffi::c_int;
use std::os::fd::RawFd;

/// A call of the send(2) family with `MSG_FASTOPEN`: connects and sends. `kernel` is the call as the
/// kernel serves it, if the rules say that it does.
///
/// # Errors
/// As connect(2) and send(2); `EOPNOTSUPP` if the settings do not allow it.
pub fn send(
    fd: RawFd,
    socket: SocketRef,
    to: Option<Address>,
    buffers: &mut Buffers<'_>,
    flags: c_int,
    kernel: impl FnOnce() -> Result<usize>,
) -> Result<usize> {
    let allowed = socket.process().settings.tcp.fastopen & fastopen::CLIENT != 0;
    let to = match to {
        Some(Address::Unspecified) => return Err(Errno(libc::EOPNOTSUPP)),
        _ if !allowed => return Err(Errno(libc::EOPNOTSUPP)),
        Some(Address::Internet(to)) => Some(to),
        None => None,
    };
    let flags = flags & !libc::MSG_FASTOPEN;
    if socket.flags() & flag::DEFERRED != 0 {
        return send::send(socket, buffers, flags);
    }
    let how = How {
        early: true,
        nonblocking: socket.is_nonblocking(flags),
    };
    match connect::advance(fd, socket, to, how)? {
        Outcome::Kernel => kernel(),
        // After a failed attempt, the descriptor has a new socket.
        Outcome::Connected => send::send(find(fd).unwrap_or(socket), buffers, flags),
    }
}

/// Whether data can ride in the SYN to the address that stands in the record.
///
/// # Errors
/// `ENETDOWN` if the thread cannot ask.
pub(super) fn may_carry_data(socket: SocketRef) -> Result<bool> {
    let answer = thread::with_thread(|thread| thread.ask(Op::FastOpen, socket.index))?;
    Ok(answer.is_some_and(|words| words[0] == EARLY))
}

/// Sends the SYN that was put off, if one was. Whether this call did.
///
/// # Errors
/// `ENETDOWN` if the engine is gone.
pub fn launch(socket: SocketRef) -> Result<bool> {
    let is_ours = socket.record().take_deferred();
    if is_ours {
        socket.tell(Op::Connect, 0)?;
    }
    Ok(is_ours)
}

/// Connects with the `early` bytes that stand in the send stream, the end of which may be that of a
/// record. A call that blocks waits for the
/// connection. The bytes count as sent unless the attempt has failed.
///
/// # Errors
/// As connect(2): `EINPROGRESS` if the call must not block, or its time is up.
pub(super) fn connect_with(
    socket: SocketRef,
    early: usize,
    ends_record: bool,
    flags: c_int,
    sent: &mut usize,
) -> Result<()> {
    let record = if ends_record { early as u64 } else { 0 };
    // If another thread was first, the engine may have looked at the stream already.
    if !launch(socket)? || ends_record {
        socket.tell(Op::Send, record)?;
    }
    let outcome = if socket.is_nonblocking(flags) {
        would_block(libc::EINPROGRESS)
    } else {
        connect::finish(socket)
    };
    if matches!(
        outcome,
        Ok(()) | Err(Errno(libc::EINPROGRESS | libc::EINTR))
    ) {
        *sent = early;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::close::close;
    use crate::readiness::deadline::Deadline;
    use crate::readiness::level::{bit, level};
    use crate::readiness::poll::poll;
    use crate::readiness::stack::current;
    use crate::socket::connect::{connect, shutdown};
    use crate::socket::{create, names, recv};
    use crate::testing::{answer, engine, fresh};
    use context::command::{Command, NOT_EARLY};
    use context::socket::option;
    use std::sync::atomic::Ordering::SeqCst;

    fn open(nonblocking: bool, bits: u32) -> (RawFd, SocketRef) {
        engine();
        let socket = fresh();
        let file_flags = if nonblocking { libc::O_NONBLOCK } else { 0 };
        let record = socket.record();
        record.app.file_flags.store(file_flags as u32, SeqCst);
        record.options.bits.fetch_or(bits, SeqCst);
        (create::attach(socket, true).unwrap(), socket)
    }

    fn server() -> Address {
        Address::Internet("10.77.0.1:80".parse().unwrap())
    }

    fn buffers(bytes: &[u8]) -> Buffers<'_> {
        // SAFETY: the bytes live as long as the buffers.
        unsafe { Buffers::one(bytes.as_ptr().cast(), bytes.len()) }.unwrap()
    }

    fn send_to(socket: (RawFd, SocketRef), to: Option<Address>, bytes: &[u8]) -> Result<usize> {
        let flags = libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL;
        let kernel = || panic!("the stack serves it");
        send(socket.0, socket.1, to, &mut buffers(bytes), flags, kernel)
    }

    /// What the engine was told, but for the question.
    fn commands() -> Vec<Command> {
        let mut commands = crate::testing::commands();
        commands.retain(|command| command.op != Op::FastOpen);
        commands
    }

    /// The engine knows a cookie.
    fn known<T>(call: impl FnOnce() -> T) -> T {
        answer(Op::FastOpen, &[EARLY], call)
    }

    /// It knows none.
    fn unknown<T>(call: impl FnOnce() -> T) -> T {
        answer(Op::FastOpen, &[NOT_EARLY], call)
    }

    fn write(socket: SocketRef, bytes: &[u8]) -> Result<usize> {
        send::send(socket, &mut buffers(bytes), libc::MSG_NOSIGNAL)
    }

    fn connects(socket: SocketRef) -> [Command; 1] {
        [socket.command(Op::Connect, 0)]
    }

    fn written(socket: SocketRef) -> u64 {
        socket.record().app.tx_tail.load(SeqCst)
    }

    #[test]
    fn data_stands_in_the_stream_before_the_engine_is_asked_to_connect() {
        let (fd, socket) = open(true, 0);
        let sent = known(|| send_to((fd, socket), Some(server()), b"GET /"));
        assert_eq!(sent, Ok(5));
        assert_eq!(commands(), connects(socket));
        assert_eq!(written(socket), 5);
        let kept = flag::FASTOPEN | flag::CONNECTING | flag::KNOWN;
        assert_eq!(socket.flags() & (kept | flag::DEFERRED), kept);
        assert_eq!(engine().sent(socket), b"GET /");
        close(fd).unwrap();
    }

    #[test]
    fn without_a_cookie_a_call_that_must_not_block_connects_and_takes_nothing() {
        let (fd, socket) = open(true, 0);
        let sent = unknown(|| send_to((fd, socket), Some(server()), b"GET /"));
        assert_eq!(sent, Err(Errno(libc::EINPROGRESS)));
        assert_eq!(commands(), connects(socket));
        assert_eq!(written(socket), 0);
        let asks = flag::FASTOPEN | flag::DEFERRED;
        assert_eq!(
            socket.flags() & asks,
            flag::FASTOPEN,
            "the SYN asks for one"
        );
        close(fd).unwrap();
    }

    #[test]
    fn without_a_cookie_a_call_that_blocks_sends_behind_the_handshake() {
        let (fd, socket) = open(false, 0);
        std::thread::scope(|s| {
            s.spawn(|| {
                while socket.record().app.waiters.load(SeqCst) == 0 {
                    std::thread::yield_now();
                }
                assert_eq!(written(socket), 0);
                engine().establish(socket);
            });
            let sent = unknown(|| send_to((fd, socket), Some(server()), b"GET /"));
            assert_eq!(sent, Ok(5));
        });
        assert_eq!(engine().sent(socket), b"GET /");
        close(fd).unwrap();
    }

    #[test]
    fn without_a_cookie_connect_is_not_put_off() {
        let (fd, socket) = open(true, option::FASTOPEN_CONNECT);
        let outcome = unknown(|| connect(fd, socket, server()));
        assert_eq!(outcome, Err(Errno(libc::EINPROGRESS)));
        assert_eq!(commands(), connects(socket));
        close(fd).unwrap();
    }

    #[test]
    fn the_end_of_a_record_in_a_syn_is_told() {
        let (fd, socket) = open(true, 0);
        let flags = libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL | libc::MSG_EOR;
        let kernel = || panic!("the stack serves it");
        let to = Some(server());
        let sent = known(|| send(fd, socket, to, &mut buffers(b"GET /"), flags, kernel));
        assert_eq!(sent, Ok(5));
        let told = [socket.command(Op::Connect, 0), socket.command(Op::Send, 5)];
        assert_eq!(commands(), told);
        close(fd).unwrap();
    }

    #[test]
    fn a_second_open_is_told_how_the_first_one_stands() {
        let (fd, socket) = open(true, 0);
        let again = || send_to((fd, socket), Some(server()), b"x");
        assert_eq!(known(again), Ok(1));
        assert_eq!(again(), Err(Errno(libc::EALREADY)));
        engine().establish(socket);
        assert_eq!(again(), Ok(1), "the first one has not been told");
        assert_eq!(again(), Err(Errno(libc::EISCONN)));
        assert_eq!(written(socket), 2);
        close(fd).unwrap();
    }

    #[test]
    fn a_blocking_call_waits_for_the_connection_and_sends_all() {
        let (fd, socket) = open(false, 0);
        let bytes = vec![7; 40_000];
        std::thread::scope(|s| {
            s.spawn(|| {
                while socket.record().app.waiters.load(SeqCst) == 0 {
                    std::thread::yield_now();
                }
                assert!((1..40_000).contains(&written(socket)), "more than early");
                engine().establish(socket);
            });
            let sent = known(|| send_to((fd, socket), Some(server()), &bytes));
            assert_eq!(sent, Ok(40_000));
        });
        assert_eq!(engine().sent(socket), bytes);
        close(fd).unwrap();
    }

    #[test]
    fn a_refused_blocking_call_fails_whatever_it_has_written() {
        let (fd, socket) = open(false, 0);
        std::thread::scope(|s| {
            s.spawn(|| {
                while socket.record().app.waiters.load(SeqCst) == 0 {
                    std::thread::yield_now();
                }
                engine().fail(socket, libc::ECONNREFUSED);
            });
            let refused = known(|| send_to((fd, socket), Some(server()), b"x"));
            assert_eq!(refused, Err(Errno(libc::ECONNREFUSED)));
        });
        close(fd).unwrap();
    }

    #[test]
    fn what_is_no_server_or_has_no_data_is_told_so() {
        let (fd, socket) = open(true, 0);
        let call = |to, bytes| send_to((fd, socket), to, bytes);
        assert_eq!(call(None, b"x"), Err(Errno(libc::EINVAL)));
        let unspecified = call(Some(Address::Unspecified), b"x");
        assert_eq!(unspecified, Err(Errno(libc::EOPNOTSUPP)));
        assert_eq!(commands(), []);
        let empty = known(|| call(Some(server()), b""));
        assert_eq!(empty, Err(Errno(libc::EINPROGRESS)));
        assert_eq!(commands(), connects(socket));
        close(fd).unwrap();
    }

    #[test]
    fn where_no_route_of_the_stack_leads_the_kernel_is_called() {
        let (fd, socket) = open(true, 0);
        let loopback = Address::Internet("127.0.0.1:9".parse().unwrap());
        let flags = libc::MSG_FASTOPEN;
        let n = send(
            fd,
            socket,
            Some(loopback),
            &mut buffers(b"x"),
            flags,
            || Ok(77),
        );
        assert_eq!(n, Ok(77));
        assert_eq!(fdmap::get(fd), fdmap::Entry::Kernel);
        crate::real::close(fd);
    }

    #[test]
    fn a_deferred_connect_is_writable_and_sends_nothing_until_it_is_written_to() {
        let (fd, socket) = open(true, option::FASTOPEN_CONNECT);
        let deferred = known(|| connect(fd, socket, server()));
        assert_eq!(deferred, Ok(Outcome::Connected));
        assert_eq!(connect(fd, socket, server()), Err(Errno(libc::EISCONN)));
        let record = socket.record();
        let now = level(&socket.process().segment, record, u32::MAX);
        assert_eq!(now, bit::OUT | bit::WRNORM);
        assert!(names::local(socket).is_ok(), "nothing is waited for");
        assert_eq!(commands(), []);
        assert_eq!(write(socket, b"hello"), Ok(5));
        assert_eq!(commands(), connects(socket));
        assert_eq!(write(socket, b"more"), Err(Errno(libc::EAGAIN)));
        engine().establish(socket);
        assert_eq!(write(socket, b" you"), Ok(4));
        assert_eq!(engine().sent(socket), b"hello you");
        close(fd).unwrap();
    }

    #[test]
    fn a_read_or_a_wait_for_data_connects_without_data() {
        let (fd, socket) = open(true, option::FASTOPEN_CONNECT);
        known(|| connect(fd, socket, server())).unwrap();
        let mut bytes = [0u8; 4];
        // SAFETY: the bytes live through the call.
        let mut to = unsafe { Buffers::one(bytes.as_mut_ptr().cast(), bytes.len()) }.unwrap();
        assert_eq!(recv::receive(socket, &mut to, 0), Err(Errno(libc::EAGAIN)));
        assert_eq!(commands(), connects(socket));
        close(fd).unwrap();

        let (fd, socket) = open(true, option::FASTOPEN_CONNECT);
        known(|| connect(fd, socket, server())).unwrap();
        commands();
        let wait_for = |events| {
            let mut fds = [libc::pollfd {
                fd,
                events,
                revents: 0,
            }];
            poll(current().unwrap(), &mut fds, Deadline::Now, None).unwrap();
            fds[0].revents
        };
        assert_eq!(wait_for(libc::POLLIN | libc::POLLOUT), libc::POLLOUT);
        assert_eq!(commands(), []);
        assert_eq!(wait_for(libc::POLLIN), 0);
        assert_eq!(commands(), connects(socket));
        assert_eq!(written(socket), 0);
        close(fd).unwrap();
    }

    #[test]
    fn shutdown_gives_a_deferred_connect_up() {
        let (fd, socket) = open(true, option::FASTOPEN_CONNECT);
        known(|| connect(fd, socket, server())).unwrap();
        shutdown(fd, socket, libc::SHUT_WR).unwrap();
        assert_eq!(write(socket, b"x"), Err(Errno(libc::EPIPE)));
        let again = known(|| connect(fd, socket, server()));
        assert_eq!(again, Ok(Outcome::Connected));
        assert_eq!(commands(), []);
        close(fd).unwrap();
    }
}
