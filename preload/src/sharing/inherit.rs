//! What a process has come by without this library: descriptors that came through exec(2).

#![allow(unsafe_code)]

use crate::errno::{Errno, Result};
use crate::files::standard;
use crate::process::Process;
use crate::socket::SocketRef;
use crate::{placeholder, real};
use context::command::Op;
use context::control::Request;
use context::socket::flag;
use fdmap::Entry;
use std::os::fd::RawFd;

/// Finds the sockets of the stack among the descriptors that the program was started with.
pub fn adopt_all(process: &Process) {
    for fd in open_descriptors() {
        if !may_be_lease(fd) {
            continue;
        }
        let Ok(socket) = hold(process, fd) else {
            continue;
        };
        if socket.flags() & flag::BOTH == 0 {
            place(socket, fd, true);
        } else {
            adopt_listener(socket);
            real::close(fd);
        }
    }
}

/// Finds the kernel socket that listens beside `socket`.
fn adopt_listener(socket: SocketRef) {
    let inode = socket.record().names.kernel_inode();
    let is_beside = |fd: &RawFd| real::inode(*fd) == Ok(inode);
    let mut found = open_descriptors().into_iter().filter(is_beside).peekable();
    if found.peek().is_none() {
        // It was closed on the way. Without an engine nobody holds anything.
        let _ = socket.tell(Op::Close, 0);
    }
    found.for_each(|fd| place(socket, fd, false));
}

/// Shows the engine a lease: this process holds its socket from now on.
pub(super) fn hold(process: &Process, fd: RawFd) -> Result<SocketRef> {
    let index = process.control(Request::Hold, &[fd])?;
    SocketRef::current(index).ok_or(Errno(libc::EBADF))
}

/// Writes down that `socket` stands behind `fd`, under which a lease lies, or a kernel socket.
pub(super) fn place(socket: SocketRef, fd: RawFd, leased: bool) {
    if !fdmap::has_place(fd) {
        return;
    }
    if fdmap::entries().any(|(_, entry)| entry == socket.entry()) {
        fdmap::retain(socket.index);
    } else {
        fdmap::begin(socket.index);
    }
    socket.mark_shared();
    placeholder::remember(fd, real::is_cloexec(fd).unwrap_or(false));
    placeholder::set_leased(fd, leased);
    fdmap::set(fd, socket.entry());
    standard::cover(fd);
}

/// Whether a descriptor may be a lease: a SEQPACKET socket of the family AF_UNIX.
pub(super) fn may_be_lease(fd: RawFd) -> bool {
    fdmap::get(fd) == Entry::Kernel
        && real::socket_option(fd, libc::SO_DOMAIN) == Ok(libc::AF_UNIX)
        && real::socket_option(fd, libc::SO_TYPE) == Ok(libc::SOCK_SEQPACKET)
}

/// The numbers of all open descriptors, from `/proc`; none if that is not there.
fn open_descriptors() -> Vec<RawFd> {
    let path = c"/proc/self/fd".as_ptr() as usize;
    let flags = (libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC) as usize;
    let args = [libc::AT_FDCWD as usize, path, flags, 0, 0, 0];
    // SAFETY: the path is a C string.
    let Ok(folder) = (unsafe { real::syscall(libc::SYS_openat, args) }) else {
        return Vec::new();
    };
    let mut fds = Vec::new();
    let mut entries = [0u8; 4096];
    loop {
        let (at, len) = (entries.as_mut_ptr() as usize, entries.len());
        // SAFETY: the kernel writes no more than `len` bytes there.
        match unsafe { real::syscall(libc::SYS_getdents64, [folder, at, len, 0, 0, 0]) } {
            Ok(len @ 1..) => numbers(&entries[..len.min(entries.len())], &mut fds),
            _ => break,
        }
    }
    real::close(folder as RawFd);
    fds.retain(|fd| *fd != folder as RawFd);
    fds
}

/// The names in entries of a folder (`linux_dirent64`, getdents64(2)) that are numbers.
fn numbers(mut entries: &[u8], to: &mut Vec<RawFd>) {
    const LEN_AT: usize = 16;
    const NAME_AT: usize = 19;
    while let Some(len) = entries.get(LEN_AT..LEN_AT + 2) {
        let len = usize::from(u16::from_ne_bytes([len[0], len[1]])).max(NAME_AT);
        let Some((entry, rest)) = entries.split_at_checked(len) else {
            return;
        };
        let name = entry[NAME_AT..].split(|byte| *byte == 0).next();
        let name = name.and_then(|name| std::str::from_utf8(name).ok());
        to.extend(name.and_then(|name| name.parse::<RawFd>().ok()));
        entries = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_open_descriptors_are_found() {
        let fds: Vec<RawFd> = (0..300).map(|_| real::eventfd().unwrap()).collect();
        let open = open_descriptors();
        assert!(fds.iter().all(|fd| open.contains(fd)));
        fds.into_iter().for_each(real::close);
    }

    #[test]
    fn entries_that_are_cut_off_end_the_search() {
        let mut found = Vec::new();
        for len in 0..40 {
            numbers(&[0xff; 40][..len], &mut found);
            numbers(&[0; 40][..len], &mut found);
        }
        assert_eq!(found, []);
    }
}
