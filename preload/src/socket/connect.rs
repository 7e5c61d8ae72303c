//! connect(2) and shutdown(2).

#![allow(unsafe_code)]

use super::locks::Held;
use super::names::{Address, Raw};
use super::{SocketRef, demote, fast_open, listen, would_block};
use crate::errno::{Errno, Result};
use crate::section::Section;
use crate::{readiness, trace, wait};
use config::{Decision, Role};
use context::command::Op;
use context::socket::{flag, option, state};
use std::ffi::c_int;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What became of a connect(2) that the stack serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The connection is established.
    Connected,
    /// The kernel serves the socket from now on: the call goes to it.
    Kernel,
}

/// Where an attempt to connect stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Attempt {
    None,
    UnderWay,
    Established,
    Failed,
}

fn attempt(socket: SocketRef) -> Attempt {
    let bits = socket.state_bits();
    let is_connecting = socket.flags() & flag::CONNECTING != 0;
    match bits & state::MASK {
        state::SYN_SENT | state::SYN_RECV => Attempt::UnderWay,
        0 | state::CLOSE if bits & (state::RX_SHUT | state::TX_SHUT) != 0 => Attempt::Failed,
        0 | state::CLOSE if is_connecting => Attempt::UnderWay,
        0 | state::CLOSE => Attempt::None,
        _ => Attempt::Established,
    }
}

/// Whether an attempt to connect is under way.
pub(super) fn is_under_way(socket: SocketRef) -> bool {
    attempt(socket) == Attempt::UnderWay
}

/// connect(2).
///
/// # Errors
/// As connect(2).
pub fn connect(fd: RawFd, socket: SocketRef, address: Address) -> Result<Outcome> {
    let to = match address {
        Address::Internet(address) => address,
        Address::Unspecified => {
            disconnect(fd, socket)?;
            return Ok(Outcome::Connected);
        }
    };
    if socket.flags() & flag::DEFERRED != 0 {
        return Err(Errno(libc::EISCONN));
    }
    let how = How {
        early: socket.record().options.bits.load(Ordering::Relaxed) & option::FASTOPEN_CONNECT != 0,
        nonblocking: socket.is_nonblocking(0),
    };
    advance(fd, socket, Some(to), how)
}

/// How a connection is asked for.
#[derive(Clone, Copy)]
pub(super) struct How {
    /// Data may ride in the SYN, which is put off until there is some.
    pub early: bool,
    /// The call does not wait.
    pub nonblocking: bool,
}

/// What connect(2) does, by where the attempt stands; without an address where one is needed,
/// `EINVAL`.
pub(super) fn advance(
    fd: RawFd,
    socket: SocketRef,
    to: Option<SocketAddr>,
    how: How,
) -> Result<Outcome> {
    if socket.is_listening() {
        return Err(Errno(libc::EISCONN));
    }
    let begin = |socket| begin(fd, socket, to.ok_or(Errno(libc::EINVAL))?, how);
    let is_reported = socket.flags() & flag::CONNECTING == 0;
    match attempt(socket) {
        Attempt::None if has_failed_before(socket) => begin(start_over(fd, socket)?),
        Attempt::None => begin(socket),
        Attempt::UnderWay if socket.process().is_engine_gone() => Err(Errno(libc::ENETDOWN)),
        Attempt::UnderWay if how.nonblocking => would_block(libc::EALREADY),
        Attempt::UnderWay => finish(socket).map(|()| Outcome::Connected),
        Attempt::Established if is_reported => Err(Errno(libc::EISCONN)),
        Attempt::Established => {
            report(socket);
            Ok(Outcome::Connected)
        }
        Attempt::Failed if !is_reported => Err(failure(socket)),
        // A socket that was connected once stays so for Linux.
        Attempt::Failed if socket.state_bits() & state::WAS_CONNECTED != 0 => {
            Err(Errno(libc::EISCONN))
        }
        Attempt::Failed => begin(start_over(fd, socket)?),
    }
}

/// Whether the record still shows an attempt that has failed, which the program knows of.
fn has_failed_before(socket: SocketRef) -> bool {
    let word = socket.record().engine.state.load(Ordering::Acquire);
    word & (state::RX_SHUT | state::TX_SHUT) != 0
}

/// Gives a socket whose attempt to connect is over a new life, at the address that it was bound to.
fn start_over(fd: RawFd, socket: SocketRef) -> Result<SocketRef> {
    let is_bound = attempt(socket) == Attempt::None && socket.state_bits() & state::BOUND != 0;
    let local = is_bound.then(|| socket.record().names.local());
    let asked = socket.flags() & (flag::ADDRESS_ASKED | flag::PORT_ASKED);
    let fresh = demote::renew(fd, socket, false)?;
    if let Some(local) = local {
        listen::stack_bind(fresh, local)?;
        let flags = &fresh.record().app.flags;
        flags.fetch_or(asked, Ordering::SeqCst);
    }
    Ok(fresh)
}

fn begin(fd: RawFd, socket: SocketRef, to: SocketAddr, how: How) -> Result<Outcome> {
    let (decision, reason) = listen::decide(socket, Role::Connect, to);
    trace::policy(fd, Role::Connect, to, decision, reason);
    let is_both = socket.flags() & flag::BOTH != 0;
    if decision == Decision::Kernel {
        if is_both {
            demote::leave_to_kernel(fd, socket)?;
        } else {
            let is_bound = socket.state_bits() & state::BOUND != 0;
            let local = is_bound.then(|| socket.show(socket.record().names.local()));
            demote::to_kernel(fd, socket)?;
            if let Some(local) = local {
                demote::kernel_bind(fd, &local)?;
            }
        }
        return Ok(Outcome::Kernel);
    }
    if is_both {
        demote::to_stack(fd, socket)?;
    }
    // As Linux: a connection to "any" is one to the loopback.
    let ip = match to.ip().to_canonical() {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let only_v6 = socket.record().options.bits.load(Ordering::Relaxed) & option::V6ONLY != 0;
    if only_v6 && ip.is_ipv4() {
        return Err(Errno(libc::ENETUNREACH));
    }
    let record = socket.record();
    record.names.request(SocketAddr::new(ip, to.port()));
    let flags = &record.app.flags;
    if how.early && fast_open::may_carry_data(socket)? {
        let deferred = flag::CONNECTING | flag::FASTOPEN | flag::DEFERRED;
        flags.fetch_or(deferred, Ordering::SeqCst);
        return Ok(Outcome::Connected);
    }
    // Without a cookie the SYN asks for one.
    let asks = if how.early { flag::FASTOPEN } else { 0 };
    let begun = flag::KNOWN | flag::CONNECTING | asks;
    {
        let _section = Section::enter();
        flags.fetch_or(begun, Ordering::SeqCst);
        socket.tell(Op::Connect, 0)?;
    }
    if how.nonblocking {
        return would_block(libc::EINPROGRESS);
    }
    finish(socket).map(|()| Outcome::Connected)
}

/// Waits until the attempt has an end.
pub(super) fn finish(socket: SocketRef) -> Result<()> {
    let timeout = socket.record().options.send_timeout.load(Ordering::Relaxed);
    let timeout = (timeout > 0).then(|| Duration::from_micros(timeout));
    let end = || match attempt(socket) {
        Attempt::UnderWay => None,
        end => Some(end),
    };
    match wait::until(socket, timeout, end)? {
        None => Err(Errno(libc::EINPROGRESS)),
        Some(Attempt::Established) => {
            report(socket);
            Ok(())
        }
        Some(_) => Err(failure(socket)),
    }
}

/// The outcome is told to the program, which is done once.
fn report(socket: SocketRef) {
    let flags = &socket.record().app.flags;
    flags.fetch_and(!flag::CONNECTING, Ordering::SeqCst);
}

fn failure(socket: SocketRef) -> Errno {
    report(socket);
    match socket.take_error() {
        0 => Errno(libc::ECONNABORTED),
        error => Errno(error),
    }
}

/// connect(2) to `AF_UNSPEC`: the socket is as new, only its options stay, and what of its name the
/// program has chosen.
fn disconnect(fd: RawFd, socket: SocketRef) -> Result<()> {
    if socket.flags() & flag::BOTH != 0 {
        demote::to_stack(fd, socket)?;
    }
    let asked = listen::asked_name(socket);
    let fresh = demote::renew(fd, socket, true)?;
    asked.map_or(Ok(()), |asked| listen::bind_again(fresh, asked))
}

/// shutdown(2).
///
/// # Errors
/// `EINVAL` for an unknown `how`, `ENOTCONN` unless connected.
pub fn shutdown(fd: RawFd, socket: SocketRef, how: c_int) -> Result<()> {
    if !matches!(how, libc::SHUT_RD | libc::SHUT_WR | libc::SHUT_RDWR) {
        return Err(Errno(libc::EINVAL));
    }
    if socket.record().take_deferred() {
        // As Linux in SYN-SENT: the attempt is given up.
        let attempt = flag::CONNECTING | flag::FASTOPEN | flag::KNOWN;
        let flags = &socket.record().app.flags;
        flags.fetch_and(!attempt, Ordering::SeqCst);
        return Ok(());
    }
    if matches!(attempt(socket), Attempt::None | Attempt::Failed) {
        return Err(Errno(libc::ENOTCONN));
    }
    if socket.is_listening() {
        // Only the reading half of a listener means anything.
        if how == libc::SHUT_WR {
            return Ok(());
        }
        if socket.flags() & flag::BOTH != 0 {
            // SAFETY: no memory is involved.
            unsafe {
                let args = [fd as usize, how as usize, 0, 0, 0, 0];
                crate::real::syscall(libc::SYS_shutdown, args)?;
            }
        }
        return listen::stop(socket);
    }
    let bits = match how {
        libc::SHUT_RD => flag::SHUT_RD,
        libc::SHUT_WR => flag::SHUT_WR,
        _ => flag::SHUT_RD | flag::SHUT_WR,
    };
    // A writer that is in the midst of a piece finishes it first, unless it has been stopped.
    let writing = match socket.writer(false) {
        Err(Errno(libc::EAGAIN)) => None,
        writing => Some(writing?),
    };
    let flags = &socket.record().app.flags;
    flags.fetch_or(bits, Ordering::SeqCst);
    let _section = writing.map(Held::unlock);
    socket.tell(Op::Shutdown, how as u64)?;
    // Other threads that wait for the socket must see it.
    socket.record().wake_waiters();
    readiness::raise(socket.index);
    Ok(())
}

/// connect(2) of the kernel socket that has taken over.
///
/// # Errors
/// As connect(2).
pub fn kernel_connect(fd: RawFd, to: &Raw) -> Result<()> {
    let args = [fd as usize, to.as_ptr() as usize, to.len as usize, 0, 0, 0];
    // SAFETY: the kernel reads the address, which is whole.
    unsafe { crate::real::syscall(libc::SYS_connect, args) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::close::close as close_fd;
    use crate::socket::{create, find};
    use crate::testing::{commands, engine, fresh};
    use fdmap::Entry;

    const PEER: &str = "10.77.0.1:80";

    fn open(nonblocking: bool) -> (RawFd, SocketRef) {
        engine();
        let socket = fresh();
        if nonblocking {
            let file_flags = &socket.record().app.file_flags;
            file_flags.store(libc::O_NONBLOCK as u32, Ordering::Relaxed);
        }
        (create::attach(socket, true).unwrap(), socket)
    }

    fn to(address: &str) -> Address {
        Address::Internet(address.parse().unwrap())
    }

    #[test]
    fn a_connection_in_progress_is_reported_as_the_kernel_does() {
        let (fd, socket) = open(true);
        let call = || connect(fd, socket, to(PEER));
        assert_eq!(call(), Err(Errno(libc::EINPROGRESS)));
        assert_eq!(commands(), [socket.command(Op::Connect, 0)]);
        assert_eq!(socket.record().names.requested(), PEER.parse().unwrap());
        assert_eq!(call(), Err(Errno(libc::EALREADY)));
        engine().establish(socket);
        assert_eq!(call(), Ok(Outcome::Connected));
        assert_eq!(call(), Err(Errno(libc::EISCONN)));
        close_fd(fd).unwrap();
    }

    #[test]
    fn a_blocking_connect_waits_for_the_answer() {
        let (fd, socket) = open(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                while socket.record().app.waiters.load(Ordering::SeqCst) == 0 {
                    std::thread::yield_now();
                }
                engine().establish(socket);
            });
            assert_eq!(connect(fd, socket, to(PEER)), Ok(Outcome::Connected));
        });
        close_fd(fd).unwrap();
    }

    #[test]
    fn a_refused_connection_fails_once_and_can_be_tried_again() {
        let (fd, socket) = open(true);
        let _ = connect(fd, socket, to(PEER));
        engine().fail(socket, libc::ECONNREFUSED);
        let refused = Err(Errno(libc::ECONNREFUSED));
        assert_eq!(connect(fd, socket, to(PEER)), refused);
        commands();
        assert_eq!(connect(fd, socket, to(PEER)), Err(Errno(libc::EINPROGRESS)));
        let renewed = find(fd).unwrap();
        assert_ne!(renewed.index, socket.index);
        let sent = [
            socket.command(Op::Close, 0),
            renewed.command(Op::Connect, 0),
        ];
        let mut got = commands();
        got.sort_by_key(|c| c.op as u8 == Op::Connect as u8);
        assert_eq!(got, sent);
        close_fd(fd).unwrap();
    }

    #[test]
    fn an_error_that_getsockopt_took_leaves_econnaborted() {
        let (fd, socket) = open(true);
        let _ = connect(fd, socket, to(PEER));
        engine().fail(socket, libc::ETIMEDOUT);
        assert_eq!(socket.take_error(), libc::ETIMEDOUT);
        let aborted = Err(Errno(libc::ECONNABORTED));
        assert_eq!(connect(fd, socket, to(PEER)), aborted);
        close_fd(fd).unwrap();
    }

    #[test]
    fn where_no_route_of_the_stack_leads_the_kernel_connects() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (fd, socket) = open(false);
        let address = listener.local_addr().unwrap();
        let outcome = connect(fd, socket, Address::Internet(address));
        assert_eq!(outcome, Ok(Outcome::Kernel));
        assert_eq!(fdmap::get(fd), Entry::Kernel);
        kernel_connect(fd, &Raw::new(address, false)).unwrap();
        crate::real::close(fd);
    }

    #[test]
    fn unspecified_makes_the_socket_new() {
        let (fd, socket) = open(false);
        engine().establish(socket);
        assert_eq!(
            connect(fd, socket, Address::Unspecified),
            Ok(Outcome::Connected)
        );
        let renewed = find(fd).unwrap();
        assert_eq!(attempt(renewed), Attempt::None);
        assert_eq!(commands(), [socket.command(Op::Close, 1)]);
        close_fd(fd).unwrap();
    }

    #[test]
    fn shutdown_needs_a_connection_and_a_known_half() {
        let (fd, socket) = open(false);
        assert_eq!(shutdown(fd, socket, 1), Err(Errno(libc::ENOTCONN)));
        engine().establish(socket);
        assert_eq!(shutdown(fd, socket, 3), Err(Errno(libc::EINVAL)));
        shutdown(fd, socket, libc::SHUT_WR).unwrap();
        assert_eq!(commands(), [socket.command(Op::Shutdown, 1)]);
        assert_eq!(socket.flags() & flag::SHUT_RD, 0);
        assert_ne!(socket.flags() & flag::SHUT_WR, 0);
        close_fd(fd).unwrap();
    }
}
