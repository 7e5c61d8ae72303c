//! One message on the control socket, and the descriptors that go with it.

#![allow(unsafe_code)]

use super::MAX_FDS;
use crate::sys;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Sends one message with descriptors, by `sendmsg` as a raw system call (a hooked one would come
/// back to the preload library).
///
/// # Errors
/// What the system says; `EINTR` is retried.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
    assert!(fds.len() <= MAX_FDS);
    let mut iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut space = ControlSpace::default();
    // SAFETY: a zeroed msghdr is valid; all pointers set here outlive the call; the control buffer
    // holds MAX_FDS descriptors.
    unsafe {
        let mut msg: libc::msghdr = std::mem::zeroed();
        msg.msg_iov = &raw mut iov;
        msg.msg_iovlen = 1;
        if !fds.is_empty() {
            let len = size_of_val(fds) as u32;
            msg.msg_control = (&raw mut space).cast();
            msg.msg_controllen = libc::CMSG_SPACE(len) as usize;
            let header = libc::CMSG_FIRSTHDR(&raw const msg);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(len) as usize;
            std::ptr::copy_nonoverlapping(
                fds.as_ptr().cast::<u8>(),
                libc::CMSG_DATA(header),
                len as usize,
            );
        }
        loop {
            let args = [
                fd.as_raw_fd() as usize,
                &raw const msg as usize,
                libc::MSG_NOSIGNAL as usize,
                0,
                0,
                0,
            ];
            let result = sys::syscall(libc::SYS_sendmsg, args);
            if result >= 0 {
                return Ok(());
            }
            if result != -libc::EINTR as isize {
                return Err(sys::error(result));
            }
        }
    }
}

/// Receives one message and the descriptors that came with it (all `O_CLOEXEC`), by a raw system
/// call. No bytes mean that the other side is gone.
///
/// # Errors
/// What the system says; `EINTR` is retried.
pub fn receive(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut iov = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut space = ControlSpace::default();
    let mut fds = Vec::new();
    // SAFETY: as in `send`; received descriptors are owned by nobody else, and every header that
    // CMSG_NXTHDR yields lies in the buffer.
    unsafe {
        let mut msg: libc::msghdr = std::mem::zeroed();
        msg.msg_iov = &raw mut iov;
        msg.msg_iovlen = 1;
        msg.msg_control = (&raw mut space).cast();
        msg.msg_controllen = size_of::<ControlSpace>();
        let n = loop {
            let args = [
                fd.as_raw_fd() as usize,
                &raw mut msg as usize,
                libc::MSG_CMSG_CLOEXEC as usize,
                0,
                0,
                0,
            ];
            let result = sys::syscall(libc::SYS_recvmsg, args);
            if result >= 0 {
                break result as usize;
            }
            if result != -libc::EINTR as isize {
                return Err(sys::error(result));
            }
        };
        let mut header = libc::CMSG_FIRSTHDR(&raw const msg);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let count = ((*header).cmsg_len - libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for i in 0..count {
                    fds.push(OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const msg, header);
        }
        Ok((n, fds))
    }
}

/// A buffer for the control part of a message, aligned as `cmsghdr` wants it.
#[repr(C, align(8))]
struct ControlSpace(MaybeUninit<[u8; 256]>);

impl Default for ControlSpace {
    fn default() -> Self {
        ControlSpace(MaybeUninit::zeroed())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reply;
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn descriptors_travel_with_a_message() {
        let mut pair = [0; 2];
        // SAFETY: fills the two descriptors, which we own then.
        let (a, b) = unsafe {
            assert_eq!(
                libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, pair.as_mut_ptr()),
                0
            );
            (OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1]))
        };
        let reply = Reply {
            error: libc::ENOMEM,
            value: 3,
        };
        let many = [a.as_raw_fd(); MAX_FDS];
        send(a.as_fd(), &reply.to_bytes(), &many).unwrap();
        let mut buffer = [0; 64];
        let (n, fds) = receive(b.as_fd(), &mut buffer).unwrap();
        assert_eq!(Reply::from_bytes(&buffer[..n]), Some(reply));
        assert_eq!(fds.len(), MAX_FDS);
        drop((a, fds));
        assert_eq!(receive(b.as_fd(), &mut buffer).unwrap().0, 0);
    }
}
