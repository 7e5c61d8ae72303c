//! System calls that the standard library does not wrap.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Turns the -1 of a system call into what `errno` says.
pub fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Takes ownership of a descriptor that a system call has just made.
fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: `check` lets only a descriptor pass, fresh from the kernel: nobody else owns it.
    check(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Random bytes from the kernel (getrandom(2)).
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the pointer and the length are those of `bytes`.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    match usize::try_from(n) {
        Ok(n) if n == N => Ok(bytes),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// An IPv4 datagram socket without an address: something to set interfaces up with.
pub fn datagram_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked.
    owned(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })
}

/// A socket to the kernel's routing (rtnetlink(7)).
pub fn netlink_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the result is checked.
    owned(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) })
}

/// An eventfd(2): polls readable from the first ring until it is silenced.
#[derive(Debug)]
pub struct Bell(File);

impl Bell {
    pub fn new() -> io::Result<Bell> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        Ok(Bell(owned(fd)?.into()))
    }

    /// A bell whose other handle a peer holds.
    pub fn from_fd(fd: OwnedFd) -> Bell {
        Bell(fd.into())
    }

    /// Another handle on the same bell.
    pub fn share(&self) -> io::Result<OwnedFd> {
        Ok(self.0.try_clone()?.into())
    }

    /// Makes the descriptor readable.
    pub fn ring(&self) {
        // The one way to fail is a full counter: then it is readable already.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    /// Makes the descriptor unreadable.
    pub fn silence(&self) {
        // Fails if the bell has not been rung, which is as good.
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A timerfd(2) on the monotonic clock.
#[derive(Debug)]
pub struct Timer(File);

impl Timer {
    pub fn new() -> io::Result<Timer> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe {
            libc::timerfd_create(
                libc::CLOCK_MONOTONIC,
                libc::TFD_CLOEXEC | libc::TFD_NONBLOCK,
            )
        };
        Ok(Timer(owned(fd)?.into()))
    }

    /// Polls readable once, `after` from now; `None` stops the timer.
    pub fn set(&self, after: Option<Duration>) -> io::Result<()> {
        // Zero would stop the timer.
        let after = after.map_or(Duration::ZERO, |d| d.max(Duration::from_nanos(1)));
        // SAFETY: an all-zero itimerspec is valid.
        let mut spec: libc::itimerspec = unsafe { zeroed() };
        spec.it_value.tv_sec = after.as_secs().try_into().unwrap_or(libc::time_t::MAX);
        spec.it_value.tv_nsec = after.subsec_nanos().into();
        // SAFETY: `spec` lives through the call, and the kernel takes null for the old value.
        check(unsafe {
            libc::timerfd_settime(self.0.as_raw_fd(), 0, &spec, std::ptr::null_mut())
        })?;
        Ok(())
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// An epoll(7) set that polls readable while one of its members does.
#[derive(Debug)]
pub struct AnyReadable(OwnedFd);

impl AnyReadable {
    pub fn new(members: &[RawFd]) -> io::Result<AnyReadable> {
        // SAFETY: no pointers; the result is checked.
        let set = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        for &fd in members {
            let mut event = libc::epoll_event {
                events: libc::EPOLLIN as u32,
                u64: 0,
            };
            // SAFETY: `event` lives through the call.
            check(unsafe {
                libc::epoll_ctl(set.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event)
            })?;
        }
        Ok(AnyReadable(set))
    }
}

impl AsRawFd for AnyReadable {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Waits until one of `fds` is readable or hung up, or `timeout` has passed (for ever without);
/// says which.
pub fn wait_readable<const N: usize>(
    fds: [RawFd; N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN | libc::POLLRDHUP,
        revents: 0,
    });
    let millis = timeout.map_or(-1, |t| t.as_millis().try_into().unwrap_or(i32::MAX));
    // SAFETY: the pointer and the length are those of `polled`.
    match check(unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, millis) }) {
        Ok(_) => Ok(polled.map(|p| p.revents != 0)),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok([false; N]),
        Err(e) => Err(e),
    }
}

/// The effective user id of this process.
pub fn user_id() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// The user id of the process at the other end (unix(7), `SO_PEERCRED`).
pub fn peer_user_id(stream: &UnixStream) -> io::Result<u32> {
    // SAFETY: an all-zero ucred is valid.
    let mut cred: libc::ucred = unsafe { zeroed() };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of `cred`.
    check(unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &mut len,
        )
    })?;
    Ok(cred.uid)
}

/// Most descriptors that one message of ours carries.
pub const MAX_FDS: usize = 128;

/// Room for one control message with [`MAX_FDS`] descriptors, aligned as `cmsghdr` wants it.
type ControlBuffer = [u64; 2 + MAX_FDS / 2 + 1];

/// Sends `bytes` with descriptors attached (unix(7), `SCM_RIGHTS`).
pub fn send_with_fds(stream: &UnixStream, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
    assert!(!fds.is_empty() && fds.len() <= MAX_FDS);
    let mut control: ControlBuffer = [0; _];
    let mut iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let fd_bytes = size_of_val(fds) as libc::c_uint;
    // SAFETY: an all-zero msghdr is valid.
    let mut msg: libc::msghdr = unsafe { zeroed() };
    msg.msg_iov = &mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control.as_mut_ptr().cast();
    // SAFETY: computes a size only.
    msg.msg_controllen = unsafe { libc::CMSG_SPACE(fd_bytes) } as usize;
    assert!(msg.msg_controllen <= size_of::<ControlBuffer>());
    // SAFETY: `control` is aligned for a cmsghdr and, as asserted, has room for it and the
    // descriptors; all of it outlives the call.
    let sent = unsafe {
        let header = libc::CMSG_FIRSTHDR(&msg);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(fd_bytes) as usize;
        std::ptr::copy_nonoverlapping(fds.as_ptr(), libc::CMSG_DATA(header).cast(), fds.len());
        libc::sendmsg(stream.as_raw_fd(), &msg, libc::MSG_NOSIGNAL)
    };
    match usize::try_from(sent) {
        Ok(n) if n == bytes.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Receives at most `bytes.len()` bytes and the descriptors that come with them.
pub fn receive_with_fds(
    stream: &UnixStream,
    bytes: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control: ControlBuffer = [0; _];
    let mut iov = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: an all-zero msghdr is valid.
    let mut msg: libc::msghdr = unsafe { zeroed() };
    msg.msg_iov = &mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control.as_mut_ptr().cast();
    msg.msg_controllen = size_of::<ControlBuffer>();
    let n = loop {
        // SAFETY: the pointers and lengths in `msg` are those of `bytes` and `control`.
        let n = unsafe { libc::recvmsg(stream.as_raw_fd(), &mut msg, libc::MSG_CMSG_CLOEXEC) };
        match usize::try_from(n).map_err(|_| io::Error::last_os_error()) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    };
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled in `msg`; its headers lie in `control`, and each SCM_RIGHTS
    // message holds whole descriptors, which are ours alone from now on.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&msg);
        while !header.is_null() {
            let kind = ((*header).cmsg_level, (*header).cmsg_type);
            if kind == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                let len = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
                for i in 0..len / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&msg, header);
        }
    }
    Ok((n, fds))
}
