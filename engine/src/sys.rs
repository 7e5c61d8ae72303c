//! The few system calls that the engine makes itself.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A non-blocking eventfd.
///
/// # Errors
/// What the system says.
pub fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor that nobody else owns.
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Says that what stands at `place` will be read soon, without waiting for it.
#[inline]
pub fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which cannot fault; the address is that of a reference.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Adds 1 to an eventfd. One that is full is rung already.
pub fn ring(fd: RawFd) {
    let one = 1u64;
    // SAFETY: writes 8 bytes from a local.
    unsafe { libc::write(fd, (&raw const one).cast(), 8) };
}

/// Resets an eventfd.
pub fn clear(fd: &OwnedFd) {
    let mut value = 0u64;
    // SAFETY: reads 8 bytes into a local.
    unsafe { libc::read(fd.as_raw_fd(), (&raw mut value).cast(), 8) };
}

/// Waits until one of the descriptors is readable, or the time is up; says of each whether it is.
pub fn wait_readable<const N: usize>(
    fds: [Option<RawFd>; N],
    timeout: Option<Duration>,
) -> [bool; N] {
    // The system passes over negative descriptors.
    let mut polled = fds.map(|fd| libc::pollfd {
        fd: fd.unwrap_or(-1),
        events: libc::POLLIN,
        revents: 0,
    });
    let ts = timeout.map(|t| libc::timespec {
        tv_sec: t.as_secs().min(i64::MAX as u64) as i64,
        tv_nsec: i64::from(t.subsec_nanos()),
    });
    let ts_ptr = ts.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `polled` and `ts` live through the call; an interrupted wait is a short one.
    let n = unsafe { libc::ppoll(polled.as_mut_ptr(), N as u64, ts_ptr, std::ptr::null()) };
    polled.map(|p| n > 0 && p.revents != 0)
}

/// Microseconds of the monotonic clock.
pub fn now_micros() -> u64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: fills the local; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut ts) };
    ts.tv_sec as u64 * 1_000_000 + ts.tv_nsec as u64 / 1000
}

/// Fills an array with random bytes.
///
/// # Panics
/// If the kernel has no randomness to give, without which no secret can be chosen.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // SAFETY: fills the local; N is far below the size from which calls may be partial.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    assert_eq!(n, N as isize, "getrandom failed");
    bytes
}

/// Binds the calling thread to a core.
///
/// # Errors
/// What the system says, e.g. that there is no such core.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    // SAFETY: a zeroed cpu_set_t is an empty set; CPU_SET checks its bound.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        if libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The core on which the caller runs just now, if the system says.
pub fn current_core() -> Option<u32> {
    // SAFETY: takes nothing.
    u32::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// An epoll descriptor: level-triggered, and each descriptor in it has a key.
pub struct Epoll(OwnedFd);

impl Epoll {
    /// With nothing in it.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: makes a descriptor that nobody else owns.
        unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Epoll(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Waits for `fd` to be readable or hung up, until it is closed.
    ///
    /// # Errors
    /// What the system says.
    pub fn add_readable(&self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        self.add(fd, libc::EPOLLIN as u32, key)
    }

    /// Waits for `fd` to be hung up.
    ///
    /// # Errors
    /// What the system says.
    pub fn add_hang_up(&self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        self.add(fd, 0, key)
    }

    fn add(&self, fd: BorrowedFd<'_>, events: u32, key: u64) -> io::Result<()> {
        let (op, fd) = (libc::EPOLL_CTL_ADD, fd.as_raw_fd());
        let mut event = libc::epoll_event { events, u64: key };
        // SAFETY: the event lives through the call.
        match unsafe { libc::epoll_ctl(self.0.as_raw_fd(), op, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits until something has happened, and returns the keys of what it has happened to.
    pub fn wait(&self) -> Vec<u64> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        let (at, room) = (events.as_mut_ptr(), events.len() as i32);
        // SAFETY: the array lives through the call and has the length given.
        let n = unsafe { libc::epoll_wait(self.0.as_raw_fd(), at, room, -1) };
        let n = usize::try_from(n).unwrap_or(0);
        events[..n].iter().map(|event| event.u64).collect()
    }
}

/// A pair of connected SEQPACKET sockets; the first does not block.
///
/// # Errors
/// What the system says.
pub fn seqpacket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    let mut pair = [-1; 2];
    // SAFETY: fills the pair with descriptors that nobody else owns.
    let (ours, theirs) = unsafe {
        if libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        (OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1]))
    };
    // SAFETY: a flag of our own socket.
    unsafe { libc::fcntl(ours.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    Ok((ours, theirs))
}

/// Whoever writes into the other end of a pair gets `EPIPE`.
pub fn refuse_input(end: &OwnedFd) {
    // SAFETY: a plain call on our own socket.
    unsafe { libc::shutdown(end.as_raw_fd(), libc::SHUT_RD) };
}

/// The inode behind a descriptor.
///
/// # Errors
/// What the system says.
pub fn inode(fd: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: fills the zeroed struct.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        match libc::fstat(fd.as_raw_fd(), &raw mut stat) {
            0 => Ok(stat.st_ino),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Makes a SEQPACKET socket that listens under an abstract name.
///
/// # Errors
/// What the system says.
pub fn listen_abstract(name: &str) -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor that nobody else owns.
    let fd = unsafe {
        let fd = libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: a zeroed sockaddr_un is valid; the name is copied within its bound.
    unsafe {
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as u16;
        let bytes = name.as_bytes();
        if bytes.len() + 1 > address.sun_path.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, from) in address.sun_path[1..].iter_mut().zip(bytes) {
            *to = *from as libc::c_char;
        }
        let len = std::mem::offset_of!(libc::sockaddr_un, sun_path) + 1 + bytes.len();
        let address = (&raw const address).cast();
        if libc::bind(fd.as_raw_fd(), address, len as u32) != 0
            || libc::listen(fd.as_raw_fd(), 1024) != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(fd)
}

/// Accepts a connection; it never blocks.
///
/// # Errors
/// What the system says.
pub fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: no address is asked for; the descriptor is new and ours.
    unsafe {
        let fd = libc::accept4(
            listener.as_raw_fd(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
        );
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Process and user at the other end of a UNIX socket (`SO_PEERCRED`).
///
/// # Errors
/// What the system says.
pub fn peer(fd: &OwnedFd) -> io::Result<(i32, u32)> {
    // SAFETY: getsockopt fills at most the struct's size.
    unsafe {
        let mut cred: libc::ucred = std::mem::zeroed();
        let mut len = size_of::<libc::ucred>() as u32;
        if libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut len,
        ) != 0
        {
            return Err(io::Error::last_os_error());
        }
        Ok((cred.pid, cred.uid))
    }
}

/// Closes a descriptor whose number was kept in an atomic; -1 is none.
pub fn close(fd: RawFd) {
    if fd >= 0 {
        // SAFETY: the caller took the number out of the only place that held it.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}
