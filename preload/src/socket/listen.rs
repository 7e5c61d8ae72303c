//! bind(2) and listen(2): here it is decided who serves a listener.

use super::names::Raw;
use super::{SocketRef, demote};
use crate::errno::{Errno, Result};
use crate::{real, trace, wait};
use config::{Decision, Role};
use context::command::Op;
use context::control::Request;
use context::socket::{flag, option, state};
use std::ffi::c_int;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the engine may take to stop listening.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a free port is looked for that kernel and stack both have.
const ATTEMPTS: usize = 16;

/// bind(2).
///
/// # Errors
/// As bind(2): the kernel's if it serves the address (too), else the engine's.
pub fn bind(fd: RawFd, socket: SocketRef, address: SocketAddr) -> Result<()> {
    if socket.state_bits() & state::BOUND != 0 || socket.tcp_state() != state::CLOSE {
        return Err(Errno(libc::EINVAL));
    }
    let (decision, reason) = decide(socket, Role::Listen, address);
    trace::policy(fd, Role::Listen, address, decision, reason);
    let on_stack = SocketAddr::new(address.ip().to_canonical(), address.port());
    match decision {
        Decision::Mtcp => {
            stack_bind(socket, on_stack)?;
            note_asked(socket, on_stack);
            if on_stack.is_ipv6() && !on_stack.ip().is_unspecified() {
                // As Linux (`__inet6_bind`): from there no IPv4 address can be reached.
                let bits = &socket.record().options.bits;
                bits.fetch_or(option::V6ONLY, Ordering::SeqCst);
            }
            Ok(())
        }
        Decision::Kernel => {
            demote::to_kernel(fd, socket)?;
            demote::kernel_bind(fd, &socket.show(address))
        }
        Decision::Both => bind_both(fd, socket, address, on_stack),
    }
}

/// Who serves `socket` at `address`.
pub(super) fn decide(
    socket: SocketRef,
    role: Role,
    address: SocketAddr,
) -> (Decision, config::Reason) {
    let process = socket.process();
    let v6_only = socket.record().options.bits.load(Ordering::Relaxed) & option::V6ONLY != 0;
    let policy = &process.settings.policy;
    policy.decide(&process.program, role, address, v6_only)
}

/// Notes what of its name the program has chosen.
fn note_asked(socket: SocketRef, to: SocketAddr) {
    let mut asked = 0;
    if !to.ip().is_unspecified() {
        asked |= flag::ADDRESS_ASKED;
    }
    if to.port() != 0 {
        asked |= flag::PORT_ASKED;
    }
    let flags = &socket.record().app.flags;
    flags.fetch_or(asked, Ordering::SeqCst);
}

/// What of a socket's name the program has chosen, with zeros for the rest; `None` if it is nothing.
pub(super) fn asked_name(socket: SocketRef) -> Option<SocketAddr> {
    let flags = socket.flags();
    let (address, port) = (
        flags & flag::ADDRESS_ASKED != 0,
        flags & flag::PORT_ASKED != 0,
    );
    let mut name = socket.record().names.local();
    if !address {
        name.set_ip(socket.any_address().ip());
    }
    if !port {
        name.set_port(0);
    }
    (address || port).then_some(name)
}

/// Binds a socket that has taken another's place to what the program has chosen.
///
/// # Errors
/// As [`stack_bind`].
pub(super) fn bind_again(socket: SocketRef, asked: SocketAddr) -> Result<()> {
    stack_bind(socket, asked)?;
    note_asked(socket, asked);
    Ok(())
}

/// Binds a socket that the stack serves.
pub(super) fn stack_bind(socket: SocketRef, to: SocketAddr) -> Result<()> {
    let request = Request::Bind {
        socket: socket.index,
        to,
    };
    socket.process().control(request, &[]).map(drop)
}

/// As [`stack_bind`], but to a port that no connection has, not even one with which the socket might
/// share it: so Linux chooses (`inet_csk_find_open_port`), and a connect(2) from there succeeds.
fn stack_bind_alone(socket: SocketRef, to: SocketAddr) -> Result<()> {
    let bits = &socket.record().options.bits;
    let sharing = option::REUSEADDR | option::REUSEPORT;
    let set = bits.fetch_and(!sharing, Ordering::SeqCst) & sharing;
    let bound = stack_bind(socket, to);
    bits.fetch_or(set, Ordering::SeqCst);
    bound
}

/// Binds a kernel socket and the stack's to one port: the kernel chooses, if the program does not.
fn bind_both(
    fd: RawFd,
    socket: SocketRef,
    address: SocketAddr,
    mut on_stack: SocketAddr,
) -> Result<()> {
    let show = |address| Raw::new(address, socket.is_inet6());
    let mut failed = Errno(libc::EADDRINUSE);
    for attempt in 1..=ATTEMPTS {
        let kernel = demote::kernel_socket(socket)?;
        let bound = demote::kernel_bind(kernel, &show(address))
            .and_then(|()| demote::kernel_port(kernel))
            .and_then(|port| {
                on_stack.set_port(port);
                match address.port() {
                    0 if attempt < ATTEMPTS => stack_bind_alone(socket, on_stack),
                    _ => stack_bind(socket, on_stack),
                }
            })
            .and_then(|()| demote::to_both(fd, socket, kernel));
        real::close(kernel);
        match bound {
            Err(Errno(libc::EADDRINUSE)) if address.port() == 0 => {}
            Err(error) => failed = error,
            Ok(()) => return Ok(()),
        }
        if address.port() != 0 {
            break;
        }
    }
    Err(failed)
}

/// listen(2). A socket that is not bound listens on a free port of any address.
///
/// # Errors
/// As listen(2).
pub fn listen(fd: RawFd, mut socket: SocketRef, backlog: c_int) -> Result<()> {
    let is_listening = match socket.tcp_state() {
        state::LISTEN => true,
        state::CLOSE if socket.flags() & flag::CONNECTING == 0 => false,
        _ => return Err(Errno(libc::EINVAL)),
    };
    if !is_listening && socket.state_bits() & state::WAS_CONNECTED != 0 {
        return Err(Errno(libc::EINVAL));
    }
    if !is_listening && socket.state_bits() & state::BOUND == 0 {
        let any = socket.any_address();
        bind(fd, socket, any)?;
        match super::find(fd) {
            Some(bound) => socket = bound,
            None => return demote::kernel_listen(fd, backlog),
        }
    }
    let flags = &socket.record().app.flags;
    flags.fetch_or(flag::KNOWN, Ordering::SeqCst);
    let request = Request::Listen {
        socket: socket.index,
        // As the kernel: a negative number is a very large one.
        backlog: backlog as u32,
    };
    socket.process().control(request, &[])?;
    // The kernel's side comes second: who sees it listen may rely on the stack's.
    if socket.flags() & flag::BOTH != 0
        && let Err(error) = demote::kernel_listen(fd, backlog)
    {
        stop(socket)?;
        return Err(error);
    }
    Ok(())
}

/// shutdown(2) of a listener: it stops listening, and may listen again.
///
/// # Errors
/// `ENETDOWN` if the engine is gone.
pub(super) fn stop(socket: SocketRef) -> Result<()> {
    socket.tell(Op::Shutdown, libc::SHUT_RDWR as u64)?;
    // Who looks at it next is to find it closed, as on Linux.
    let stopped = || (!socket.is_listening()).then_some(());
    let _ = wait::until(socket, Some(PATIENCE), stopped);
    socket.record().wake_waiters();
    Ok(())
}

impl SocketRef {
    /// The state, see [`context::socket::state`].
    pub fn tcp_state(&self) -> u32 {
        self.record().tcp_state()
    }

    /// "Any" of the socket's family, port 0.
    pub fn any_address(&self) -> SocketAddr {
        if self.is_inet6() {
            SocketAddr::from(([0u16; 8], 0))
        } else {
            SocketAddr::from(([0u8; 4], 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::close::close as close_fd;
    use crate::socket::{create, find};
    use crate::testing::{engine, fresh};
    use fdmap::Entry;

    fn open() -> (RawFd, SocketRef) {
        engine();
        let socket = fresh();
        (create::attach(socket, true).unwrap(), socket)
    }

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn the_stacks_own_address_is_served_by_the_stack() {
        let (fd, socket) = open();
        bind(fd, socket, at("10.77.0.2:7001")).unwrap();
        listen(fd, socket, 5).unwrap();
        assert!(socket.is_listening());
        assert_eq!(socket.flags() & flag::BOTH, 0);
        let again = bind(fd, socket, at("10.77.0.2:7002"));
        assert_eq!(again, Err(Errno(libc::EINVAL)));
        listen(fd, socket, 6).unwrap();
        let (other_fd, other) = open();
        let taken = bind(other_fd, other, at("10.77.0.2:7001"));
        assert_eq!(taken, Err(Errno(libc::EADDRINUSE)));
        close_fd(fd).unwrap();
        close_fd(other_fd).unwrap();
    }

    #[test]
    fn the_loopback_stays_with_the_kernel() {
        let (fd, socket) = open();
        bind(fd, socket, at("127.0.0.1:0")).unwrap();
        assert_eq!(fdmap::get(fd), Entry::Kernel);
        assert_ne!(demote::kernel_port(fd).unwrap(), 0);
        real::close(fd);
    }

    #[test]
    fn any_address_is_served_by_both_on_one_port() {
        let (fd, socket) = open();
        listen(fd, socket, 5).unwrap();
        assert_eq!(find(fd).unwrap().index, socket.index);
        assert_ne!(socket.flags() & flag::BOTH, 0);
        let port = demote::kernel_port(fd).unwrap();
        assert_eq!(socket.record().names.local().port(), port);
        let client = std::net::TcpStream::connect(("127.0.0.1", port));
        assert!(client.is_ok(), "the kernel listens");
        close_fd(fd).unwrap();
        assert!(real::is_cloexec(fd).is_err() || fdmap::get(fd) == Entry::Kernel);
    }

    #[test]
    fn the_kernels_refusal_is_the_programs() {
        let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let (fd, socket) = open();
        let result = bind(fd, socket, at(&format!("0.0.0.0:{port}")));
        assert_eq!(result, Err(Errno(libc::EADDRINUSE)));
        assert_eq!(
            find(fd).map(|s| s.index),
            Some(socket.index),
            "still unbound"
        );
        close_fd(fd).unwrap();
    }
}
