//! Leases: what lies under a descriptor of the stack that goes where this library may not be.

use crate::errno::{Errno, Result};
use crate::process::{close_private, make_private};
use crate::socket::SocketRef;
use crate::{log, placeholder, real, thread};
use context::control::Request;
use context::socket::flag;
use fdmap::Entry;
use std::os::fd::RawFd;

/// A fresh lease of a socket, with `FD_CLOEXEC`.
fn obtain(socket: SocketRef) -> Result<RawFd> {
    socket.mark_shared();
    let request = Request::Lease(socket.name());
    let (_, mut fds) = socket.process().ask(request, &[], &[])?;
    fds.pop().ok_or(Errno(libc::EMFILE))
}

/// Puts a lease under those of `fds`, descriptors of `socket`, under which the template lies.
///
/// # Errors
/// `ENETDOWN` if the engine is gone, `ENOBUFS` if it has no lease left, `EMFILE`.
pub fn lend(socket: SocketRef, fds: &[RawFd]) -> Result<()> {
    let is_template = |fd: &&RawFd| placeholder::is_template(**fd);
    let mut fds = fds.iter().filter(is_template).peekable();
    if fds.peek().is_none() {
        return Ok(());
    }
    let lease = obtain(socket)?;
    let result = fds.try_for_each(|fd| {
        let cloexec = real::is_cloexec(*fd)?;
        real::duplicate_to(lease, *fd, cloexec)?;
        // What a vfork child does to its descriptors does not concern its parent's.
        if !thread::is_guest() {
            placeholder::set_leased(*fd, true);
        }
        Ok(())
    });
    real::close(lease);
    result
}

/// Leases beside kernel sockets that listen for the stack as well, under descriptors of their own:
/// they go through exec(2) with them. Closed when dropped.
#[derive(Default)]
pub struct Companions(Vec<RawFd>);

impl Companions {
    fn add(&mut self, socket: SocketRef) -> Result<()> {
        let lease = obtain(socket)?;
        let companion = match thread::is_guest() {
            true => lease,
            false => make_private(lease)?,
        };
        self.0.push(companion);
        real::set_cloexec(companion, false)
    }
}

impl Drop for Companions {
    fn drop(&mut self) {
        for companion in self.0.drain(..) {
            match thread::is_guest() {
                true => real::close(companion),
                false => close_private(companion),
            }
        }
    }
}

/// Before this process executes a program, or has a child do so: puts leases under the descriptors
/// that the program will have. What fails is logged; those are lost to the program.
pub fn before_exec() -> Companions {
    let mut companions = Companions::default();
    let mut inherited: Vec<(SocketRef, RawFd)> = fdmap::entries()
        .filter_map(|(fd, entry)| match entry {
            Entry::Socket { index, generation } => Some((SocketRef::new(index, generation)?, fd)),
            _ => None,
        })
        // A vfork child may have closed some.
        .filter(|(socket, fd)| socket.is_current() && real::is_cloexec(*fd) == Ok(false))
        .collect();
    inherited.sort_unstable_by_key(|(socket, fd)| (socket.index, *fd));
    for of_one in inherited.chunk_by(|(a, _), (b, _)| a.index == b.index) {
        let socket = of_one[0].0;
        let fds: Vec<RawFd> = of_one.iter().map(|(_, fd)| *fd).collect();
        let lent = match socket.flags() & flag::BOTH {
            0 => lend(socket, &fds),
            _ => companions.add(socket),
        };
        if let Err(error) = lent {
            log::format(format_args!(
                "descriptor {} is lost to the program that is executed: {error}",
                fds[0]
            ));
        }
    }
    companions
}
