//! The control connection: requests to the engine and their answers. It stands for the process: the
//! engine notices by it that a process is gone.

#![allow(unsafe_code)]

use super::Process;
use super::exchange::exchange;
use super::private::{close_private, make_private};
use crate::errno::{Errno, Result};
use crate::readiness::kernel;
use crate::{log, real, thread};
use context::control::{Name, Request};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Process {
    /// Asks the engine something and waits for the answer.
    ///
    /// # Errors
    /// The engine's answer; `ENETDOWN` if it is gone.
    pub fn control(&self, request: Request, fds: &[RawFd]) -> Result<u32> {
        let (value, came) = self.ask(request, &[], fds)?;
        came.into_iter().for_each(real::close);
        Ok(value)
    }

    /// As [`control`](Process::control), with the names of sockets behind the request, and the
    /// descriptors that come with the answer. The caller closes them.
    ///
    /// # Errors
    /// As [`control`](Process::control).
    pub fn ask(
        &self,
        request: Request,
        names: &[Name],
        fds: &[RawFd],
    ) -> Result<(u32, Vec<RawFd>)> {
        // A signal handler that comes here while the thread holds the lock would wait for itself.
        let _blocked = real::SignalsBlocked::new();
        let _guard = self.lock.lock(real::thread_id());
        let mut fd = self.control.load(Ordering::Relaxed);
        if fd < 0 {
            fd = self.attach_again().inspect_err(|error| {
                let is_gone = *error == Errno(libc::ECONNREFUSED);
                self.gone.fetch_or(is_gone, Ordering::Relaxed);
            })?;
        }
        let Ok((reply, fds)) = exchange(fd, request, names, fds) else {
            // A vfork child may only have closed its copy of the connection.
            if !thread::is_guest() {
                self.gone.store(true, Ordering::Relaxed);
            }
            return Err(Errno(libc::ENETDOWN));
        };
        match reply.error {
            0 => Ok((reply.value, fds)),
            error => {
                fds.into_iter().for_each(real::close);
                Err(Errno(error))
            }
        }
    }

    /// The child of a fork that the engine was not told of greets it as a process of its own, which
    /// holds nothing. The segment and the doorbells are the ones it inherited.
    fn attach_again(&self) -> Result<RawFd> {
        let control = connect(&self.name)?;
        match hello(control) {
            Ok((number, fds)) => {
                fds.as_slice().iter().for_each(|fd| real::close(*fd));
                self.number.store(number, Ordering::Relaxed);
                self.control.store(control, Ordering::Relaxed);
                Ok(control)
            }
            Err(error) => {
                close_private(control);
                Err(error)
            }
        }
    }

    /// In the child of a fork: the connection `own` stands for this process, which the engine knows by
    /// `number`. The parent's connection must not be held open.
    pub fn take_connection(&self, own: RawFd, number: u32) {
        self.lock.reset();
        self.number.store(number, Ordering::Relaxed);
        let parents = self.control.swap(own, Ordering::SeqCst);
        if parents >= 0 {
            close_private(parents);
        }
    }

    /// Whether the engine is still there. Waits ask once a second, so that none outlives it.
    pub fn is_engine_alive(&self) -> bool {
        if self.gone.load(Ordering::Relaxed) {
            return false;
        }
        let fd = self.control.load(Ordering::Relaxed);
        if fd < 0 {
            return true;
        }
        // poll(2) is what even a program that has locked itself in (seccomp(2)) may do.
        let mut polled = [libc::pollfd {
            fd,
            events: 0,
            revents: 0,
        }];
        let hung_up = kernel::poll(&mut polled, Some(Duration::ZERO), None).is_ok()
            && polled[0].revents & (libc::POLLHUP | libc::POLLERR) != 0;
        if hung_up && !self.gone.swap(true, Ordering::Relaxed) {
            log::line("mtcp-run is gone: sockets of the stack are dead");
        }
        !hung_up
    }
}

/// Connects to the control socket behind an abstract name.
pub(super) fn connect(name: &[u8]) -> Result<RawFd> {
    let name = name.strip_prefix(b"@").unwrap_or(name);
    // SAFETY: zero is a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    if name.len() >= address.sun_path.len() {
        return Err(Errno(libc::ENAMETOOLONG));
    }
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // The first byte stays 0: an abstract name.
    for (to, from) in address.sun_path[1..].iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    let fd = make_private(real::socket(libc::AF_UNIX, kind, 0)?)?;
    let len = std::mem::offset_of!(libc::sockaddr_un, sun_path) + 1 + name.len();
    let args = [fd as usize, &raw const address as usize, len, 0, 0, 0];
    loop {
        // SAFETY: the kernel reads `len` bytes of the address.
        match unsafe { real::syscall(libc::SYS_connect, args) } {
            Err(Errno(libc::EINTR)) => {}
            Ok(_) => return Ok(fd),
            Err(error) => {
                close_private(fd);
                return Err(error);
            }
        }
    }
}

/// The first message: answered with the process's number, the segment and the doorbells.
pub(super) fn hello(fd: RawFd) -> Result<(u32, Vec<RawFd>)> {
    let pid = real::process_id();
    let (reply, fds) = exchange(fd, Request::Hello { pid }, &[], &[])?;
    match reply.error {
        0 => Ok((reply.value, fds)),
        error => Err(Errno(error)),
    }
}
