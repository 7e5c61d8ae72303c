//! One question and one answer on the control socket.
//!
//! [`context::control`] has the same for the engine, but makes its system calls through `syscall(2)` of
//! libc, which is one of the functions that this library intercepts.

#![allow(unsafe_code)]

use crate::errno::{Errno, Result};
use crate::real;
use context::control::{MAX_FDS, REPLY_LEN, Reply, Request};
use libc::{cmsghdr, iovec, msghdr};
use std::os::fd::RawFd;

const FD_BYTES: usize = size_of::<RawFd>();

/// Room for the control part of a message, aligned as `cmsghdr` wants it.
#[repr(C, align(8))]
struct Space([u8; 256]);

const _: () = assert!(MAX_FDS * FD_BYTES + size_of::<cmsghdr>() <= size_of::<Space>());

/// The descriptors that came with an answer, at most [`MAX_FDS`]; all have `FD_CLOEXEC`.
pub struct Descriptors {
    fds: [RawFd; MAX_FDS],
    len: usize,
}

impl Descriptors {
    /// As they came.
    pub fn as_slice(&self) -> &[RawFd] {
        &self.fds[..self.len]
    }
}

/// Sends `request` with `fds` and waits for the answer.
///
/// # Errors
/// What the system says; `ECONNRESET` if the other side is gone or answers nonsense.
pub fn exchange(fd: RawFd, request: Request, fds: &[RawFd]) -> Result<(Reply, Descriptors)> {
    if fds.len() > MAX_FDS {
        return Err(Errno(libc::EINVAL));
    }
    send(fd, request, fds)?;
    receive(fd)
}

fn send(fd: RawFd, request: Request, fds: &[RawFd]) -> Result<()> {
    let mut bytes = request.to_bytes();
    let mut space = Space([0; 256]);
    let mut vector = iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut message = header(&mut vector, &mut space);
    let len = (fds.len() * FD_BYTES) as u32;
    // SAFETY: the space holds MAX_FDS descriptors, and no more are given.
    unsafe {
        message.msg_controllen = if fds.is_empty() {
            0
        } else {
            let control = libc::CMSG_FIRSTHDR(&raw const message);
            (*control).cmsg_level = libc::SOL_SOCKET;
            (*control).cmsg_type = libc::SCM_RIGHTS;
            (*control).cmsg_len = libc::CMSG_LEN(len) as usize;
            let data = libc::CMSG_DATA(control);
            std::ptr::copy_nonoverlapping(fds.as_ptr().cast(), data, len as usize);
            libc::CMSG_SPACE(len) as usize
        };
    }
    let flags = libc::MSG_NOSIGNAL as usize;
    call(libc::SYS_sendmsg, fd, &mut message, flags).map(drop)
}

fn receive(fd: RawFd) -> Result<(Reply, Descriptors)> {
    let mut bytes = [0; REPLY_LEN];
    let mut space = Space([0; 256]);
    let mut vector = iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut message = header(&mut vector, &mut space);
    let flags = libc::MSG_CMSG_CLOEXEC as usize;
    let n = call(libc::SYS_recvmsg, fd, &mut message, flags)?;
    let mut descriptors = Descriptors {
        fds: [-1; MAX_FDS],
        len: 0,
    };
    // SAFETY: the kernel has filled the header; every part that CMSG_NXTHDR yields lies in the space.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(&raw const message);
        while !control.is_null() {
            if (*control).cmsg_level == libc::SOL_SOCKET && (*control).cmsg_type == libc::SCM_RIGHTS
            {
                let count = ((*control).cmsg_len - libc::CMSG_LEN(0) as usize) / FD_BYTES;
                let data = libc::CMSG_DATA(control).cast::<RawFd>();
                for i in 0..count.min(MAX_FDS - descriptors.len) {
                    descriptors.fds[descriptors.len] = data.add(i).read_unaligned();
                    descriptors.len += 1;
                }
            }
            control = libc::CMSG_NXTHDR(&raw const message, control);
        }
    }
    match Reply::from_bytes(&bytes[..n]) {
        Some(reply) => Ok((reply, descriptors)),
        None => {
            descriptors
                .as_slice()
                .iter()
                .for_each(|fd| real::close(*fd));
            Err(Errno(libc::ECONNRESET))
        }
    }
}

fn header(vector: &mut iovec, space: &mut Space) -> msghdr {
    // SAFETY: zero is a valid header.
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vector;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut space.0).cast();
    message.msg_controllen = size_of::<Space>();
    message
}

fn call(number: libc::c_long, fd: RawFd, message: &mut msghdr, flags: usize) -> Result<usize> {
    let args = [fd as usize, &raw mut *message as usize, flags, 0, 0, 0];
    loop {
        // SAFETY: the header and all that it points to live through the call.
        match unsafe { real::syscall(number, args) } {
            Err(Errno(libc::EINTR)) => {}
            result => return result,
        }
    }
}
