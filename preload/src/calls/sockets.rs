//! Making and naming sockets, connecting and accepting.

use crate::descriptor::close::close;
use crate::descriptor::{Behind, behind};
use crate::errno::{self, Errno, Result, ret};
use crate::interpose::{run, run_cancellable};
use crate::socket::accept::{self as accepting, Accepted};
use crate::socket::connect::{self as connecting, Outcome};
use crate::socket::{SocketRef, create, listen as listening, names};
use crate::trace::{self, About, Line};
use crate::{placeholder, real};
use libc::{c_int, sockaddr, socklen_t};

crate::interpose! {
    family: "sockets";

    /// A TCP socket of IPv4 or IPv6 is the stack's until its address shows who serves it.
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
        trace::call(
            "socket",
            About::Opens,
            |line, _| {
                line.name(domain, FAMILIES).arg(kind).arg(protocol);
            },
            || {
                let fd = run(|| Ok(create::socket(domain, kind, protocol)?.unwrap_or(KERNELS)));
                match fd {
                    // SAFETY: numbers only.
                    KERNELS => with_room(|| unsafe { socket::real()(domain, kind, protocol) }),
                    fd => fd,
                }
            },
        )
    }

    /// The kernel's: pairs are of the family AF_UNIX.
    fn socketpair(domain: c_int, kind: c_int, protocol: c_int, pair: *mut c_int) -> c_int {
        // SAFETY: the caller's arguments, as they are.
        with_room(|| unsafe { socketpair::real()(domain, kind, protocol, pair) })
    }

    /// Decides by the rules who serves the address: the stack, the kernel, or both.
    fn bind(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
        trace::call("bind", fd, |line, _| show_address(line, address, len), || {
            over(
                fd,
                |socket| {
                    // SAFETY: the caller's address.
                    let to = unsafe { names::read_local(address, len, socket.is_inet6()) }?;
                    listening::bind(fd, socket, to)?;
                    Ok(0)
                },
                // SAFETY: the caller's arguments, as they are.
                || unsafe { bind::real()(fd, address, len) },
            )
        })
    }

    /// Listens on the stack, and on the kernel as well if both serve the address.
    fn listen(fd: c_int, backlog: c_int) -> c_int {
        let show = |line: &mut Line, _| {
            line.arg(backlog);
        };
        trace::call("listen", fd, show, || {
            over(
                fd,
                |socket| listening::listen(fd, socket, backlog).map(|()| 0),
                // SAFETY: numbers only.
                || unsafe { listen::real()(fd, backlog) },
            )
        })
    }

    /// Takes a connection from the stack or, where both serve the address, from the kernel.
    fn accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
        trace::call("accept", fd, |line, n| show_accepted(line, n, address, len), || {
            over_cancellable(
                fd,
                // SAFETY: the caller's address.
                |socket| unsafe { accept_from(fd, socket, address, len, 0) },
                // SAFETY: the caller's arguments, as they are.
                || with_room(|| unsafe { accept::real()(fd, address, len) }),
            )
        })
    }

    /// As `accept`, with `SOCK_NONBLOCK` and `SOCK_CLOEXEC`.
    fn accept4(fd: c_int, address: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int {
        let show = |line: &mut Line, n| {
            show_accepted(line, n, address, len);
            line.flags(flags, KIND_FLAGS);
        };
        trace::call("accept4", fd, show, || {
            over_cancellable(
                fd,
                // SAFETY: the caller's address.
                |socket| unsafe { accept_from(fd, socket, address, len, flags) },
                // SAFETY: the caller's arguments, as they are.
                || with_room(|| unsafe { accept4::real()(fd, address, len, flags) }),
            )
        })
    }

    /// Decides by rules and routes who connects: the stack or the kernel.
    fn connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
        trace::call("connect", fd, |line, _| show_address(line, address, len), || {
            // SAFETY: the caller's address.
            match over_cancellable(fd, |socket| unsafe { connect_to(fd, socket, address, len) }, || KERNELS) {
                // SAFETY: the caller's arguments, as they are.
                KERNELS => unsafe { connect::real()(fd, address, len) },
                result => result,
            }
        })
    }

    /// As `connect`.
    fn __connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
        // SAFETY: the caller's arguments, as they are.
        unsafe { connect(fd, address, len) }
    }

    /// Shuts one half or both; a listener stops listening.
    fn shutdown(fd: c_int, how: c_int) -> c_int {
        let show = |line: &mut Line, _| {
            line.name(how, HALVES);
        };
        trace::call("shutdown", fd, show, || {
            over(
                fd,
                |socket| connecting::shutdown(fd, socket, how).map(|()| 0),
                // SAFETY: numbers only.
                || unsafe { shutdown::real()(fd, how) },
            )
        })
    }

    /// The local address, IPv4-mapped on a socket of IPv6.
    fn getsockname(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
        trace::call("getsockname", fd, |line, n| show_named(line, n, address, len), || {
            over(
                fd,
                // SAFETY: the caller's address.
                |socket| unsafe { names::local(socket)?.write(address, len).map(|()| 0) },
                // SAFETY: the caller's arguments, as they are.
                || unsafe { getsockname::real()(fd, address, len) },
            )
        })
    }

    /// The peer's address, IPv4-mapped on a socket of IPv6.
    fn getpeername(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
        trace::call("getpeername", fd, |line, n| show_named(line, n, address, len), || {
            over(
                fd,
                // SAFETY: the caller's address.
                |socket| unsafe { names::remote(socket)?.write(address, len).map(|()| 0) },
                // SAFETY: the caller's arguments, as they are.
                || unsafe { getpeername::real()(fd, address, len) },
            )
        })
    }
}

/// A result that says: the kernel's turn. No call returns it.
const KERNELS: c_int = -2;

const FAMILIES: &[(c_int, &str)] = &[
    (libc::AF_UNIX, "AF_UNIX"),
    (libc::AF_INET, "AF_INET"),
    (libc::AF_INET6, "AF_INET6"),
    (libc::AF_NETLINK, "AF_NETLINK"),
];

const KIND_FLAGS: &[(c_int, &str)] = &[
    (libc::SOCK_NONBLOCK, "SOCK_NONBLOCK"),
    (libc::SOCK_CLOEXEC, "SOCK_CLOEXEC"),
];

const HALVES: &[(c_int, &str)] = &[
    (libc::SHUT_RD, "SHUT_RD"),
    (libc::SHUT_WR, "SHUT_WR"),
    (libc::SHUT_RDWR, "SHUT_RDWR"),
];

/// Runs a call on whoever stands behind the descriptor.
#[inline(always)]
fn over(
    fd: c_int,
    stack: impl FnOnce(SocketRef) -> Result<c_int>,
    kernel: impl FnOnce() -> c_int,
) -> c_int {
    match behind(fd) {
        Behind::Kernel | Behind::Epoll(_) => kernel(),
        Behind::Stack(socket) => run(|| stack(socket)),
        Behind::Hidden => ret(Err(Errno(libc::EBADF))),
    }
}

/// As [`over`], for calls that are cancellation points.
#[inline(always)]
fn over_cancellable(
    fd: c_int,
    stack: impl FnOnce(SocketRef) -> Result<c_int>,
    kernel: impl FnOnce() -> c_int,
) -> c_int {
    match behind(fd) {
        Behind::Stack(socket) => run_cancellable(|| stack(socket)),
        _ => over(fd, stack, kernel),
    }
}

/// A call of libc that makes descriptors: if there is no number left, the pool gives its own back.
fn with_room(call: impl Fn() -> c_int) -> c_int {
    match call() {
        -1 if errno::get() == libc::EMFILE && placeholder::flush() => call(),
        result => result,
    }
}

/// # Safety
/// As accept4(2).
unsafe fn accept_from(
    fd: c_int,
    listener: SocketRef,
    address: *mut sockaddr,
    len: *mut socklen_t,
    flags: c_int,
) -> Result<c_int> {
    let Accepted { fd, socket } = accepting::accept(fd, listener, flags)?;
    if address.is_null() {
        return Ok(fd);
    }
    let written = match socket {
        Some(socket) => {
            let remote = socket.show(socket.record().names.remote());
            // SAFETY: the caller's address.
            unsafe { remote.write(address, len) }
        }
        None => {
            let args = [fd as usize, address as usize, len as usize, 0, 0, 0];
            // SAFETY: as above.
            match unsafe { real::syscall(libc::SYS_getpeername, args) } {
                // The peer may have gone already; then there is no address.
                Err(Errno(libc::ENOTCONN)) => Ok(()),
                result => result.map(drop),
            }
        }
    };
    if written.is_err() {
        // As Linux: the connection is lost.
        let _ = close(fd);
    }
    written.map(|()| fd)
}

/// # Safety
/// As connect(2).
unsafe fn connect_to(
    fd: c_int,
    socket: SocketRef,
    address: *const sockaddr,
    len: socklen_t,
) -> Result<c_int> {
    // SAFETY: the caller's address.
    let to = unsafe { names::read(address, len, socket.is_inet6()) }?;
    Ok(match connecting::connect(fd, socket, to)? {
        Outcome::Connected => 0,
        Outcome::Kernel => KERNELS,
    })
}

fn show_address(line: &mut Line, address: *const sockaddr, len: socklen_t) {
    line.address(address, len as usize).arg(len);
}

fn show_accepted(line: &mut Line, result: i64, address: *mut sockaddr, len: *mut socklen_t) {
    show_named(line, i64::from(result < 0), address, len);
}

/// An address that a call has written, if it returned 0.
fn show_named(line: &mut Line, result: i64, address: *mut sockaddr, len: *mut socklen_t) {
    if result == 0 && !address.is_null() {
        // SAFETY: the call succeeded, so it has written the length.
        let len = unsafe { len.read_unaligned() };
        line.address(address, len as usize);
    } else {
        line.pointer(address);
    }
    line.pointee(len);
}
