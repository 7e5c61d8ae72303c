//! The control socket: what an application asks for rarely, and waits for.
//!
//! A SEQPACKET socket with an abstract name (`unix(7)`), told to the application in the
//! environment variable [`SOCKET_VARIABLE`]. A connection stands for a process: when it breaks, the
//! process is dead, and the engine closes what it held.

#![allow(unsafe_code)]

use crate::sys;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Names the control socket to the preload library.
pub const SOCKET_VARIABLE: &str = "MTCP_STACK_CONTROL";

/// Most descriptors in one message: the segment and a doorbell for each worker.
pub const MAX_FDS: usize = 1 + crate::MAX_WORKERS;

/// A request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// First message of a process. Answered with the segment's memfd and one doorbell (an eventfd)
    /// for each worker; `value` is the process's number.
    Hello {
        /// Process id, for logs.
        pid: u32,
    },
    /// A thread wants a context: `value` is its index; `ENOMEM` if there is none left.
    NewContext {
        /// Thread id, for logs.
        tid: u32,
    },
    /// A context is no longer used.
    FreeContext(u32),
    /// A ready set is wanted: `value` is its index; `ENOMEM` if there is none left. Comes with an
    /// eventfd by which threads that sleep in the kernel are woken.
    NewReadySet,
    /// A ready set is no longer used; its watches are dropped.
    FreeReadySet(u32),
    /// `bind(2)`; the address of a port 0 is chosen. The engine writes the socket's local address.
    Bind {
        /// The socket.
        socket: u32,
        /// Address, IPv4 never mapped.
        to: SocketAddr,
    },
    /// `listen(2)`; binds to a free port first if the socket is not bound.
    Listen {
        /// The socket.
        socket: u32,
        /// As given; the engine clamps it.
        backlog: u32,
    },
}

/// The answer to a request. `error` is an errno, or 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    /// 0, or the errno for the caller.
    pub error: i32,
    /// What was asked for.
    pub value: u32,
}

/// Bytes of a request on the wire.
pub const REQUEST_LEN: usize = 40;
/// Bytes of a reply on the wire.
pub const REPLY_LEN: usize = 8;

impl Request {
    /// As bytes: kind, two arguments, port, address.
    pub fn to_bytes(self) -> [u8; REQUEST_LEN] {
        let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
        let (kind, a, b, to) = match self {
            Request::Hello { pid } => (1, pid, 0, any),
            Request::NewContext { tid } => (2, tid, 0, any),
            Request::FreeContext(index) => (3, index, 0, any),
            Request::NewReadySet => (4, 0, 0, any),
            Request::FreeReadySet(index) => (5, index, 0, any),
            Request::Bind { socket, to } => (6, socket, 0, to),
            Request::Listen { socket, backlog } => (7, socket, backlog, any),
        };
        let ip = match to.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut bytes = [0; REQUEST_LEN];
        bytes[0..4].copy_from_slice(&u32::to_le_bytes(kind));
        bytes[4..8].copy_from_slice(&a.to_le_bytes());
        bytes[8..12].copy_from_slice(&b.to_le_bytes());
        bytes[12..14].copy_from_slice(&to.port().to_le_bytes());
        bytes[16..32].copy_from_slice(&ip.octets());
        bytes
    }

    /// From bytes; `None` if they are no request.
    pub fn from_bytes(bytes: &[u8]) -> Option<Request> {
        let bytes: &[u8; REQUEST_LEN] = bytes.try_into().ok()?;
        let word = |i: usize| u32::from_le_bytes(bytes[i..i + 4].try_into().unwrap_or_default());
        let ip: [u8; 16] = bytes[16..32].try_into().ok()?;
        let port = u16::from_le_bytes([bytes[12], bytes[13]]);
        let to = SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), port);
        let a = word(4);
        Some(match word(0) {
            1 => Request::Hello { pid: a },
            2 => Request::NewContext { tid: a },
            3 => Request::FreeContext(a),
            4 => Request::NewReadySet,
            5 => Request::FreeReadySet(a),
            6 => Request::Bind { socket: a, to },
            7 => Request::Listen {
                socket: a,
                backlog: word(8),
            },
            _ => return None,
        })
    }
}

impl Reply {
    /// As bytes.
    pub fn to_bytes(self) -> [u8; REPLY_LEN] {
        let mut bytes = [0; REPLY_LEN];
        bytes[..4].copy_from_slice(&self.error.to_le_bytes());
        bytes[4..].copy_from_slice(&self.value.to_le_bytes());
        bytes
    }

    /// From bytes; `None` if they are no reply.
    pub fn from_bytes(bytes: &[u8]) -> Option<Reply> {
        let bytes: &[u8; REPLY_LEN] = bytes.try_into().ok()?;
        Some(Reply {
            error: i32::from_le_bytes(bytes[..4].try_into().ok()?),
            value: u32::from_le_bytes(bytes[4..].try_into().ok()?),
        })
    }
}

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
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn requests_survive_the_socket() {
        let to = "10.77.0.2:80".parse().unwrap();
        for request in [
            Request::Hello { pid: 5 },
            Request::NewContext { tid: 6 },
            Request::FreeContext(7),
            Request::NewReadySet,
            Request::FreeReadySet(8),
            Request::Bind { socket: 9, to },
            Request::Listen {
                socket: 9,
                backlog: 511,
            },
        ] {
            assert_eq!(Request::from_bytes(&request.to_bytes()), Some(request));
        }
        assert_eq!(Request::from_bytes(&[0; REQUEST_LEN]), None);
        assert_eq!(Request::from_bytes(&[1; 3]), None);
    }

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
