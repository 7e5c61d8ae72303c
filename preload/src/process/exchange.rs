//! One question and one answer on the control socket.

#![allow(unsafe_code)]

use crate::errno::{Errno, Result};
use context::control::{self, MAX_FDS, MAX_NAMES, Name, REPLY_LEN, Reply, Request};
use smallvec::SmallVec;
use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd, RawFd};

/// Sends `request` with `names` and `fds` and waits for the answer and the descriptors that come with it, at
/// most [`MAX_FDS`], all with `FD_CLOEXEC`; the caller closes them.
///
/// # Errors
/// What the system says; `ECONNRESET` if the other side is gone or answers nonsense.
pub fn exchange(
    fd: RawFd,
    request: Request,
    names: &[Name],
    fds: &[RawFd],
) -> Result<(Reply, Vec<RawFd>)> {
    if fds.len() > MAX_FDS || names.len() > MAX_NAMES {
        return Err(Errno(libc::EINVAL));
    }
    // SAFETY: the control descriptor stays open through the call: it is private, and its owner
    // holds the lock of the conversation.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let mut message = SmallVec::<[u8; 64]>::from_slice(&request.to_bytes());
    message.extend(names.iter().flat_map(|name| name.to_bytes()));
    control::send(fd, &message, fds).map_err(errno)?;
    let mut bytes = [0; REPLY_LEN];
    let (n, fds) = control::receive(fd, &mut bytes).map_err(errno)?;
    // Closing an `OwnedFd` would come back to this library's own close.
    let fds: Vec<RawFd> = fds.into_iter().map(IntoRawFd::into_raw_fd).collect();
    match Reply::from_bytes(&bytes[..n]) {
        Some(reply) => Ok((reply, fds)),
        None => {
            fds.into_iter().for_each(crate::real::close);
            Err(Errno(libc::ECONNRESET))
        }
    }
}

fn errno(error: io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::ECONNRESET))
}
