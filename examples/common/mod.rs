//! The few system calls that the standard library lacks: epoll, listeners that share a port,
//! connects that do not wait, and CPU affinity.
//!
//! Shared by the two examples and, as `bench::sys`, by the load programs.
#![allow(unsafe_code)]
#![allow(dead_code)] // Each example uses a part of it.

use std::io;
use std::mem;
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

pub use libc::{EPOLLIN, EPOLLOUT, epoll_event};

/// `errno` as an [`io::Error`] if a call answered -1.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Takes ownership of a descriptor that a call has just created.
fn own(result: libc::c_int) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the kernel has just handed us `fd`, nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An epoll instance; each registration carries a 64-bit token of the caller's.
pub struct Epoll(OwnedFd);

impl Epoll {
    /// Opens an epoll instance (`epoll_create1(2)`).
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers are passed.
        own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Epoll)
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: RawFd,
        events: i32,
        token: u64,
    ) -> io::Result<()> {
        let mut event = epoll_event {
            events: events as u32,
            u64: token,
        };
        // SAFETY: `event` lives through the call, which only reads it.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &mut event) }).map(drop)
    }

    /// Watches `fd` for `events` (`EPOLLIN | …`).
    pub fn add(&self, fd: impl AsFd, events: i32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd.as_fd().as_raw_fd(), events, token)
    }

    /// Changes what a watched `fd` is watched for.
    pub fn modify(&self, fd: impl AsFd, events: i32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd.as_fd().as_raw_fd(), events, token)
    }

    /// Fills `events` and answers how many came; 0 after `timeout_ms` (-1 waits for ever) or a signal.
    pub fn wait(&self, events: &mut [epoll_event], timeout_ms: i32) -> io::Result<usize> {
        let room = i32::try_from(events.len()).unwrap_or(i32::MAX);
        // SAFETY: the kernel writes at most `room` events into `events`, which has that many.
        let count = check(unsafe {
            libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), room, timeout_ms)
        });
        match count {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }
}

fn sockaddr(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*address.ip()).to_be(),
        },
        sin_zero: [0; 8],
    }
}

const SOCKADDR_LEN: libc::socklen_t = mem::size_of::<libc::sockaddr_in>() as libc::socklen_t;

fn set_option<T>(fd: BorrowedFd, level: i32, name: i32, value: T) -> io::Result<()> {
    // SAFETY: `value` lives through the call, and the length passed is its own.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            mem::size_of::<T>() as libc::socklen_t,
        )
    })
    .map(drop)
}

fn stream_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers are passed.
    own(unsafe { libc::socket(libc::AF_INET, kind, 0) })
}

/// A non-blocking listener; with `share_port` others may listen on the same port (SO_REUSEPORT).
pub fn listen(address: SocketAddrV4, backlog: i32, share_port: bool) -> io::Result<TcpListener> {
    let socket = stream_socket()?;
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if share_port {
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    let name = sockaddr(address);
    // SAFETY: `name` is a sockaddr_in of the length passed.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const name).cast(), SOCKADDR_LEN) })?;
    // SAFETY: no pointers are passed.
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) })?;
    Ok(TcpListener::from(socket))
}

/// Accepts one connection as a non-blocking stream (`accept4(2)`).
pub fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let nobody = std::ptr::null_mut();
    // SAFETY: null address and length mean that the peer's name is not wanted.
    let socket =
        own(unsafe { libc::accept4(listener.as_raw_fd(), nobody, std::ptr::null_mut(), flags) })?;
    Ok(TcpStream::from(socket))
}

/// Starts to connect and does not wait: EPOLLOUT says that it is done, `take_error` how it went.
pub fn connect(address: SocketAddrV4) -> io::Result<TcpStream> {
    let socket = stream_socket()?;
    let name = sockaddr(address);
    // SAFETY: `name` is a sockaddr_in of the length passed.
    let result =
        unsafe { libc::connect(socket.as_raw_fd(), (&raw const name).cast(), SOCKADDR_LEN) };
    match check(result) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from(socket)),
    }
}

/// Makes `close` send RST instead of FIN (SO_LINGER with a time of 0).
pub fn close_with_reset(stream: &TcpStream) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    set_option(stream.as_fd(), libc::SOL_SOCKET, libc::SO_LINGER, linger)
}

/// Pins the calling thread to one core.
pub fn pin(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: an all-zero cpu_set_t is the empty set; `core` is within it; the call only reads it.
    check(unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, mem::size_of::<libc::cpu_set_t>(), &set)
    })
    .map(drop)
}

/// The cores that the calling thread may run on, in order.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero cpu_set_t is the empty set; the call fills at most its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        check(libc::sched_getaffinity(
            0,
            mem::size_of::<libc::cpu_set_t>(),
            &mut set,
        ))?;
        set
    };
    // SAFETY: every number asked for is below CPU_SETSIZE.
    let allowed = |core: &usize| unsafe { libc::CPU_ISSET(*core, &set) };
    Ok((0..libc::CPU_SETSIZE as usize).filter(allowed).collect())
}

/// Raises the limit of open descriptors to what the system allows, and answers it.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` lives through the call, which fills it.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` lives through the call, which only reads it.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(limit.rlim_cur)
}

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn remember_to_stop(_signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// From now on SIGINT and SIGTERM only make [`stopping`] true (and interrupt waits).
pub fn stop_on_signals() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe; a zeroed
        // sigaction has an empty mask and no SA_RESTART, so waits return.
        check(unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = remember_to_stop as extern "C" fn(libc::c_int) as usize;
            libc::sigaction(signal, &action, std::ptr::null_mut())
        })?;
    }
    Ok(())
}

/// Whether a signal has asked the program to end.
pub fn stopping() -> bool {
    STOP.load(Ordering::Relaxed)
}
