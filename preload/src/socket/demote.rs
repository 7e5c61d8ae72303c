//! Sockets that change sides: one of the stack's becomes the kernel's, or both serve it.

#![allow(unsafe_code)]

use super::names::Raw;
use super::options;
use super::{SocketRef, close, create};
use crate::errno::{Errno, Result};
use crate::{placeholder, readiness, real};
use context::socket::{Options, flag};
use fdmap::Entry;
use std::ffi::c_int;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

/// Hands a socket over to the kernel: a kernel socket with the same options takes the place of the
/// placeholder under each of its descriptors.
///
/// # Errors
/// What socket(2) says; then nothing has changed.
pub fn to_kernel(fd: RawFd, socket: SocketRef) -> Result<()> {
    let kernel = kernel_socket(socket)?;
    let flags = socket.record().app.file_flags.load(Ordering::Relaxed);
    real::fcntl(kernel, libc::F_SETFL, flags as usize)?;
    let fds = close::descriptors_of(fd, socket);
    let result = replace(fd, socket, kernel, Entry::Kernel);
    real::close(kernel);
    result?;
    for fd in fds {
        readiness::hand_over(fd, socket.index, socket.generation);
    }
    close::abandon(socket, false)
}

/// Lets a kernel socket that listens on both sides go on alone, with its own flags.
///
/// # Errors
/// `EBADF` if another thread closed the socket meanwhile.
pub fn leave_to_kernel(fd: RawFd, socket: SocketRef) -> Result<()> {
    let flags = socket.record().app.file_flags.load(Ordering::Relaxed);
    real::fcntl(fd, libc::F_SETFL, flags as usize)?;
    for fd in close::descriptors_of(fd, socket) {
        fdmap::replace(fd, socket.entry(), Entry::Kernel);
        readiness::hand_over(fd, socket.index, socket.generation);
    }
    close::abandon(socket, false)
}

/// Puts `kernel`, bound to the same address, under a socket of the stack: from now on both serve it.
///
/// # Errors
/// As dup3(2).
pub fn to_both(fd: RawFd, socket: SocketRef, kernel: RawFd) -> Result<()> {
    let record = socket.record();
    record.names.set_kernel_inode(real::inode(kernel)?);
    record.app.flags.fetch_or(flag::BOTH, Ordering::SeqCst);
    replace(fd, socket, kernel, socket.entry())?;
    for fd in close::descriptors_of(fd, socket) {
        readiness::share(fd, socket.index, socket.generation);
    }
    Ok(())
}

/// Takes the kernel socket away from under a socket that both served.
///
/// # Errors
/// As dup3(2).
pub fn to_stack(fd: RawFd, socket: SocketRef) -> Result<()> {
    for fd in close::descriptors_of(fd, socket) {
        placeholder::put_under(fd)?;
    }
    let flags = &socket.record().app.flags;
    flags.fetch_and(!flag::BOTH, Ordering::SeqCst);
    Ok(())
}

/// A fresh kernel socket with the options of `socket`, not blocking.
///
/// # Errors
/// As socket(2).
pub fn kernel_socket(socket: SocketRef) -> Result<RawFd> {
    let domain = if socket.is_inet6() {
        libc::AF_INET6
    } else {
        libc::AF_INET
    };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let kernel = placeholder::with_room(|| real::socket(domain, kind, 0))?;
    options::replay(socket, kernel);
    Ok(kernel)
}

/// bind(2) of a kernel socket.
///
/// # Errors
/// As bind(2).
pub fn kernel_bind(kernel: RawFd, to: &Raw) -> Result<()> {
    let args = [
        kernel as usize,
        to.as_ptr() as usize,
        to.len as usize,
        0,
        0,
        0,
    ];
    // SAFETY: the kernel reads the address, which is whole.
    unsafe { real::syscall(libc::SYS_bind, args) }.map(drop)
}

/// listen(2) of a kernel socket.
///
/// # Errors
/// As listen(2).
pub fn kernel_listen(kernel: RawFd, backlog: c_int) -> Result<()> {
    let args = [kernel as usize, backlog as usize, 0, 0, 0, 0];
    // SAFETY: no memory is involved.
    unsafe { real::syscall(libc::SYS_listen, args) }.map(drop)
}

/// The port that a kernel socket is bound to.
///
/// # Errors
/// As getsockname(2).
pub fn kernel_port(kernel: RawFd) -> Result<u16> {
    let mut raw = Raw::new(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 0], 0)), true);
    let (to, len) = (raw.as_mut_ptr() as usize, &raw mut raw.len as usize);
    let args = [kernel as usize, to, len, 0, 0, 0];
    // SAFETY: the storage takes an address of either family.
    unsafe { real::syscall(libc::SYS_getsockname, args) }?;
    // SAFETY: the port lies at the same place in both families' addresses.
    let port = unsafe { (*raw.as_ptr().cast::<libc::sockaddr_in>()).sin_port };
    Ok(u16::from_be(port))
}

fn replace(fd: RawFd, socket: SocketRef, kernel: RawFd, entry: Entry) -> Result<()> {
    for fd in close::descriptors_of(fd, socket) {
        if fdmap::get(fd) != socket.entry() {
            return Err(Errno(libc::EBADF));
        }
        let cloexec = real::is_cloexec(fd)?;
        real::duplicate_to(kernel, fd, cloexec)?;
        fdmap::replace(fd, socket.entry(), entry);
    }
    Ok(())
}

/// Puts a fresh record behind all descriptors of a socket, with the same options: a second attempt
/// to connect begins a new life.
///
/// # Errors
/// `ENOBUFS` if the engine has no record left.
pub fn renew(fd: RawFd, socket: SocketRef, reset: bool) -> Result<SocketRef> {
    let fresh = create::fresh(socket.is_inet6()).ok_or(Errno(libc::ENOBUFS))?;
    let (from, to) = (socket.record(), fresh.record());
    to.inherit(&from.options);
    copy_defer_accept(&from.options, &to.options);
    let flags = from.app.file_flags.load(Ordering::Relaxed);
    to.app.file_flags.store(flags, Ordering::Relaxed);
    fdmap::begin(fresh.index);
    let mut moved = 0;
    for fd in close::descriptors_of(fd, socket) {
        if fdmap::replace(fd, socket.entry(), fresh.entry()) {
            moved += 1;
        }
    }
    if moved == 0 {
        fresh.tell(context::command::Op::Close, 0)?;
        return Err(Errno(libc::EBADF));
    }
    for _ in 1..moved {
        fdmap::retain(fresh.index);
    }
    readiness::renew(id(socket), id(fresh));
    close::abandon(socket, reset)?;
    Ok(fresh)
}

fn id(socket: SocketRef) -> readiness::SocketId {
    readiness::SocketId {
        index: socket.index,
        generation: socket.generation,
    }
}

fn copy_defer_accept(from: &Options, to: &Options) {
    let value = from.defer_accept.load(Ordering::Relaxed);
    to.defer_accept.store(value, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::close::close as close_fd;
    use crate::socket::find;
    use crate::testing::{commands, engine, fresh};
    use context::command::Op;

    #[test]
    fn a_socket_of_the_kernel_keeps_number_and_flags() {
        engine();
        let socket = fresh();
        let file_flags = &socket.record().app.file_flags;
        file_flags.store(libc::O_NONBLOCK as u32, Ordering::Relaxed);
        let fd = create::attach(socket, true).unwrap();
        to_kernel(fd, socket).unwrap();
        assert_eq!(fdmap::get(fd), Entry::Kernel);
        assert_eq!(real::is_cloexec(fd), Ok(true));
        let flags = real::fcntl(fd, libc::F_GETFL, 0).unwrap();
        assert_ne!(flags & libc::O_NONBLOCK as usize, 0);
        let any = Raw::new("127.0.0.1:0".parse().unwrap(), false);
        kernel_bind(fd, &any).unwrap();
        assert_ne!(kernel_port(fd).unwrap(), 0);
        assert_eq!(commands(), [socket.command(Op::Close, 0)]);
        real::close(fd);
    }

    #[test]
    fn a_renewed_socket_has_its_options_and_all_its_descriptors() {
        engine();
        let socket = fresh();
        let fd = create::attach(socket, true).unwrap();
        let copy = real::duplicate(fd, 0, true).unwrap();
        fdmap::retain(socket.index);
        fdmap::set(copy, socket.entry());
        socket
            .record()
            .options
            .keep_idle
            .store(9, Ordering::Relaxed);
        let renewed = renew(fd, socket, true).unwrap();
        for fd in [fd, copy] {
            assert_eq!(find(fd).unwrap().index, renewed.index);
        }
        assert_eq!(fdmap::references(renewed.index), 2);
        assert_eq!(
            renewed.record().options.keep_idle.load(Ordering::Relaxed),
            9
        );
        assert_eq!(commands(), [socket.command(Op::Close, 1)]);
        close_fd(fd).unwrap();
        close_fd(copy).unwrap();
    }
}
