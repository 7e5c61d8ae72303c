//! Descriptors in messages: SCM_RIGHTS on the kernel's UNIX sockets (unix(7)).

#![allow(unsafe_code)]

use super::inherit::{hold, may_be_lease, place};
use super::lease;
use crate::errno::{Errno, Result};
use crate::process::{self, Process};
use crate::socket::SocketRef;
use crate::socket::buffers::IOV_MAX;
use crate::{log, placeholder, real};
use context::control::Request;
use context::socket::flag;
use fdmap::Entry;
use libc::{c_int, mmsghdr, msghdr};
use std::os::fd::RawFd;

/// Before a message is sent to another process: the sockets of the stack in it get leases.
///
/// # Safety
/// `message` is null, or a header whose control data can be read.
pub unsafe fn before_send(message: *const msghdr) {
    // SAFETY: the caller's promise.
    unsafe { each_descriptor(message, give) };
}

/// As [`before_send`], for several messages.
///
/// # Safety
/// `messages` is null, or `count` headers stand there as for [`before_send`], of which the kernel takes
/// [`IOV_MAX`] at most.
pub unsafe fn before_send_many(messages: *const mmsghdr, count: usize) {
    if messages.is_null() {
        return;
    }
    for at in 0..count.min(IOV_MAX) {
        // SAFETY: the caller's promise.
        unsafe { before_send(&raw const (*messages.add(at)).msg_hdr) };
    }
}

/// After a message has come: the sockets of the stack in it are this process's, too.
///
/// # Safety
/// `message` is null, or a header that recvmsg(2) has filled.
pub unsafe fn after_receive(message: *const msghdr) {
    // SAFETY: the caller's promise.
    unsafe { each_descriptor(message, take) };
}

/// As [`after_receive`], for several messages.
///
/// # Safety
/// `messages` is null, or `count` headers stand there as for [`after_receive`].
pub unsafe fn after_receive_many(messages: *const mmsghdr, count: usize) {
    if messages.is_null() {
        return;
    }
    for at in 0..count {
        // SAFETY: the caller's promise.
        unsafe { after_receive(&raw const (*messages.add(at)).msg_hdr) };
    }
}

/// # Safety
/// As [`before_send`].
unsafe fn each_descriptor(message: *const msghdr, act: fn(&Process, RawFd)) {
    // SAFETY: the caller's promise.
    let Some(header) = (unsafe { message.as_ref() }) else {
        return;
    };
    if header.msg_control.is_null() || header.msg_controllen == 0 {
        return;
    }
    let Some(process) = process::process() else {
        return;
    };
    // SAFETY: the macros stay within the control data; what stands there need not be aligned.
    unsafe {
        let empty = libc::CMSG_LEN(0) as usize;
        let mut at = libc::CMSG_FIRSTHDR(header);
        while !at.is_null() {
            let head = at.read_unaligned();
            if head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_RIGHTS {
                let data = libc::CMSG_DATA(at).cast::<c_int>();
                let count = head.cmsg_len.saturating_sub(empty) / size_of::<c_int>();
                for i in 0..count {
                    act(process, data.add(i).read_unaligned());
                }
            }
            if head.cmsg_len < empty {
                return;
            }
            at = libc::CMSG_NXTHDR(header, at);
        }
    }
}

/// A descriptor is about to be sent.
fn give(process: &Process, fd: RawFd) {
    let Entry::Socket { index, generation } = fdmap::get(fd) else {
        return;
    };
    let Some(socket) = SocketRef::new(index, generation).filter(SocketRef::is_current) else {
        return;
    };
    let given = if socket.flags() & flag::BOTH == 0 {
        lease::lend(socket, &[fd])
    } else {
        // It travels as the kernel's socket, by whose inode the receiver will ask for it.
        socket.mark_shared();
        let pin = Request::Pin(socket.name());
        process.control(pin, &[]).map(drop)
    };
    if let Err(error) = given {
        log::format(format_args!(
            "descriptor {fd} is lost to the process that it is sent to: {error}"
        ));
    }
}

/// A descriptor has come.
fn take(process: &Process, fd: RawFd) {
    // What is none of the stack's stays the kernel's.
    let _ = adopt(process, fd);
}

fn adopt(process: &Process, fd: RawFd) -> Result<()> {
    let is_lease = may_be_lease(fd);
    if is_lease || may_be_beside(fd) {
        place(hold(process, fd)?, fd, is_lease);
    }
    Ok(())
}

/// Whether a descriptor is a TCP socket of the kernel that listens or may come to: one of the stack may
/// be bound beside it.
fn may_be_beside(fd: RawFd) -> bool {
    const CLOSE: u8 = 7;
    const LISTEN: u8 = 10;
    fdmap::get(fd) == Entry::Kernel
        && real::tcp_option(fd, libc::TCP_INFO)
            .is_ok_and(|info| [CLOSE, LISTEN].contains(&info.to_ne_bytes()[0]))
}

/// A descriptor that was taken from another process (pidfd_getfd(2)).
///
/// # Errors
/// `EOPNOTSUPP`, and `fd` is closed, if it is a placeholder, of which cannot be told what stands behind
/// it.
pub fn taken(fd: RawFd) -> Result<RawFd> {
    let Some(process) = process::process() else {
        return Ok(fd);
    };
    if placeholder::is_any_template(fd) {
        real::close(fd);
        log::line("pidfd_getfd: a socket of the stack cannot be taken from another process so");
        return Err(Errno(libc::EOPNOTSUPP));
    }
    take(process, fd);
    Ok(fd)
}
