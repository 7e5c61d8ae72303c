//! socket(2).

use super::SocketRef;
use crate::errno::{Errno, Result};
use crate::sharing::guest;
use crate::{log, placeholder, process, thread};
use context::command::Op;
use context::socket::flag;
use std::ffi::c_int;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

/// Bits of a socket's type that are flags.
const KIND_FLAGS: c_int = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

/// Makes a socket of the stack and its descriptor. `None` if the kernel should make it: it is no TCP
/// socket, the process does not run under mtcp-run, or the engine has none left.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn socket(domain: c_int, kind: c_int, protocol: c_int) -> Result<Option<RawFd>> {
    if !is_tcp(domain, kind, protocol) {
        return Ok(None);
    }
    process::start();
    let Some(socket) = fresh(domain == libc::AF_INET6) else {
        return Ok(None);
    };
    if kind & libc::SOCK_NONBLOCK != 0 {
        let file_flags = &socket.record().app.file_flags;
        file_flags.store(libc::O_NONBLOCK as u32, Ordering::Relaxed);
    }
    attach(socket, kind & libc::SOCK_CLOEXEC != 0).map(Some)
}

fn is_tcp(domain: c_int, kind: c_int, protocol: c_int) -> bool {
    matches!(domain, libc::AF_INET | libc::AF_INET6)
        && kind & !KIND_FLAGS == libc::SOCK_STREAM
        && matches!(protocol, 0 | libc::IPPROTO_TCP)
}

/// A fresh socket without a descriptor; `None` if the engine has none left.
pub fn fresh(inet6: bool) -> Option<SocketRef> {
    process::process()?;
    let index = thread::with_thread(|thread| thread.socket()).ok().flatten();
    let Some(index) = index else {
        log::line("the engine has no socket left: the kernel serves a new one");
        return None;
    };
    let socket = SocketRef::current(index)?;
    if inet6 {
        let flags = &socket.record().app.flags;
        flags.fetch_or(flag::INET6, Ordering::SeqCst);
    }
    Some(socket)
}

/// Gives a socket that has none a descriptor. If that fails, the socket goes back to the engine.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn attach(socket: SocketRef, cloexec: bool) -> Result<RawFd> {
    let counted = fdmap::begin(socket.index);
    let fd = match placeholder::open(socket.entry(), cloexec) {
        Ok(fd) if counted => {
            guest::note(fd, socket);
            return Ok(fd);
        }
        Ok(fd) => {
            fdmap::set(fd, fdmap::Entry::Pooled);
            placeholder::give_back(fd);
            Err(Errno(libc::ENFILE))
        }
        Err(error) => Err(error),
    };
    socket.tell(Op::Close, 0)?;
    fd
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::close::close as close_fd;
    use crate::socket::find;
    use crate::testing::{commands, engine};

    #[test]
    fn only_tcp_is_ours() {
        engine();
        for (domain, kind, protocol) in [
            (libc::AF_UNIX, libc::SOCK_STREAM, 0),
            (libc::AF_INET, libc::SOCK_DGRAM, 0),
            (libc::AF_INET, libc::SOCK_STREAM, 132),
            (libc::AF_INET, libc::SOCK_STREAM | 1 << 20, 0),
        ] {
            assert_eq!(socket(domain, kind, protocol), Ok(None));
        }
    }

    #[test]
    fn a_socket_has_a_real_descriptor_and_the_flags_asked_for() {
        engine();
        commands();
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let fd = socket(libc::AF_INET6, kind, libc::IPPROTO_TCP)
            .unwrap()
            .unwrap();
        let socket = find(fd).unwrap();
        assert!(socket.is_nonblocking(0));
        assert!(socket.is_inet6());
        assert_eq!(crate::real::is_cloexec(fd), Ok(true));
        assert_eq!(fdmap::references(socket.index), 1);
        close_fd(fd).unwrap();
        assert_eq!(commands(), [socket.command(Op::Close, 0)]);
    }
}
