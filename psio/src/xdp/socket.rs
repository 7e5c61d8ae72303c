//! AF_XDP sockets (af_xdp.rst in the kernel's documentation).
#![allow(unsafe_code)]

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use super::Layout;
use super::program::missing_privileges;
use super::ring::{Consumer, Producer};
use super::umem::Umem;
use crate::Error;
use crate::sys::check;

/// How long a queue is waited for that has a socket.
const RELEASE: Duration = Duration::from_secs(1);

/// A socket for the frames of one queue.
pub struct XdpSocket {
    fd: OwnedFd,
}

/// The rings of a socket.
pub struct Rings {
    /// Frames that the kernel may receive into.
    pub fill: Producer<u64>,
    /// Frames received.
    pub received: Consumer<libc::xdp_desc>,
    /// Frames to be sent.
    pub send: Producer<libc::xdp_desc>,
    /// Frames that were sent, to be used again.
    pub sent: Consumer<u64>,
}

impl XdpSocket {
    /// A socket whose frames lie in `umem` as `layout` says, and its rings. It carries nothing before
    /// it is bound.
    pub fn open(device: &str, umem: &Umem, layout: Layout) -> Result<(XdpSocket, Rings), Error> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers; the result is checked.
        let fd = check(unsafe { libc::socket(libc::AF_XDP, kind, 0) });
        let fd = fd.map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => missing_privileges(device),
            _ => Error::io(format!("open an AF_XDP socket for {device}"))(error),
        })?;
        // SAFETY: fresh from the kernel: nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let socket = XdpSocket { fd };
        socket
            .register(umem, layout)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::ENOBUFS) => Error::Missing {
                    what: format!("{device} needs more locked memory than this process may have"),
                    remedy: "raise the limit (`ulimit -l unlimited`), or give mtcp-run \
                             CAP_IPC_LOCK"
                        .into(),
                },
                _ => Error::io(format!("register the memory of {device}"))(error),
            })?;
        let rings = socket.map_rings(layout);
        let rings = rings.map_err(Error::io(format!("map the rings of {device}")))?;
        // In copy mode what is being sent counts against the socket's buffer: it must never be the
        // bound, since nobody would say when there is room again.
        let most = layout.send * 2 * layout.frame;
        let most = libc::c_int::try_from(most).unwrap_or(libc::c_int::MAX);
        if let Err(error) = socket.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &most) {
            tracing::info!(device, %error, "the socket's send buffer stays as it is");
        }
        Ok((socket, rings))
    }

    fn register(&self, umem: &Umem, layout: Layout) -> io::Result<()> {
        // SAFETY: an all-zero xdp_umem_reg is valid.
        let mut memory: libc::xdp_umem_reg = unsafe { zeroed() };
        memory.addr = umem.address();
        memory.len = umem.len() as u64;
        memory.chunk_size = layout.frame as u32;
        // The memory outlives the socket's use of it: the kernel holds on to the pages.
        self.set(libc::SOL_XDP, libc::XDP_UMEM_REG, &memory)
    }

    fn map_rings(&self, layout: Layout) -> io::Result<Rings> {
        let (receive, send) = (layout.receive as u32, layout.send as u32);
        for (option, len) in [
            (libc::XDP_UMEM_FILL_RING, receive),
            (libc::XDP_RX_RING, receive),
            (libc::XDP_TX_RING, send),
            (libc::XDP_UMEM_COMPLETION_RING, send),
        ] {
            self.set(libc::SOL_XDP, option, &len)?;
        }
        // SAFETY: an all-zero xdp_mmap_offsets is valid.
        let mut parts: libc::xdp_mmap_offsets = unsafe { zeroed() };
        self.get(libc::XDP_MMAP_OFFSETS, &mut parts)?;
        let fill = libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t;
        let completion = libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t;
        let fd = &self.fd;
        Ok(Rings {
            fill: Producer::map(fd, fill, &parts.fr, receive)?,
            received: Consumer::map(fd, libc::XDP_PGOFF_RX_RING, &parts.rx, receive)?,
            send: Producer::map(fd, libc::XDP_PGOFF_TX_RING, &parts.tx, send)?,
            sent: Consumer::map(fd, completion, &parts.cr, send)?,
        })
    }

    /// Joins the socket with a queue of an interface; says whether the driver uses the frames where
    /// they lie, or the kernel copies them.
    pub fn bind(&self, device: &str, interface: u32, queue: usize) -> Result<bool, Error> {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            // The kernel takes the driver's zero copy where there is one.
            sxdp_flags: libc::XDP_USE_NEED_WAKEUP,
            sxdp_ifindex: interface,
            sxdp_queue_id: queue as u32,
            sxdp_shared_umem_fd: 0,
        };
        self.bind_when_free(&address).map_err(|error| {
            let missing = |what, remedy: &str| Error::Missing {
                what,
                remedy: remedy.into(),
            };
            match error.raw_os_error() {
                Some(libc::EBUSY) => missing(
                    format!("queue {queue} of {device} has an AF_XDP socket already"),
                    "end the process that it belongs to",
                ),
                Some(libc::EINVAL) => missing(
                    format!("the interface of {device} has no queue {queue}"),
                    "choose fewer `workers`, or give it more with `ethtool -L`",
                ),
                _ => Error::io(format!("bind to queue {queue} of {device}"))(error),
            }
        })?;
        let mut options = libc::xdp_options { flags: 0 };
        self.get(libc::XDP_OPTIONS, &mut options)
            .map_err(Error::io(format!("mode of {device}")))?;
        Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
    }

    /// The kernel lets go of a queue a moment after its socket was closed: a program that is started
    /// anew must not fail for that.
    fn bind_when_free(&self, address: &libc::sockaddr_xdp) -> io::Result<()> {
        let len = size_of_val(address) as libc::socklen_t;
        let pointer = (&raw const *address).cast();
        let deadline = Instant::now() + RELEASE;
        loop {
            // SAFETY: the pointer and the length are those of `address`.
            let bound = check(unsafe { libc::bind(self.as_raw_fd(), pointer, len) });
            match bound {
                Err(error)
                    if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline =>
                {
                    std::thread::sleep(RELEASE / 100);
                }
                result => return result.map(drop),
            }
        }
    }

    /// Has the kernel look at the frames to be sent; in copy mode it sends a few of them at a time.
    pub fn wake_sender(&self) -> io::Result<()> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: sends no bytes, from nowhere, to nobody.
        let result = unsafe {
            libc::sendto(
                self.as_raw_fd(),
                std::ptr::null(),
                0,
                flags,
                std::ptr::null(),
                0,
            )
        };
        check(result as libc::c_int).map(drop)
    }

    /// Has the driver look at the frames that it may receive into.
    pub fn wake_receiver(&self) -> io::Result<()> {
        // SAFETY: receives no bytes.
        let result = unsafe {
            libc::recv(
                self.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
            )
        };
        check(result as libc::c_int).map(drop)
    }

    /// The kernel's counters, from the beginning on.
    pub fn statistics(&self) -> Option<libc::xdp_statistics> {
        // SAFETY: an all-zero xdp_statistics is valid.
        let mut statistics: libc::xdp_statistics = unsafe { zeroed() };
        self.get(libc::XDP_STATISTICS, &mut statistics).ok()?;
        Some(statistics)
    }

    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        let len = size_of::<T>() as libc::socklen_t;
        let pointer = (&raw const *value).cast();
        // SAFETY: the pointer and the length are those of `value`, which is plain data. Memory that
        // it registers is the caller's to share.
        let result = unsafe { libc::setsockopt(self.as_raw_fd(), level, option, pointer, len) };
        check(result).map(drop)
    }

    fn get<T>(&self, option: libc::c_int, value: &mut T) -> io::Result<()> {
        let mut len = size_of::<T>() as libc::socklen_t;
        let pointer = (&raw mut *value).cast();
        // SAFETY: the pointer and the length are those of `value`, which is plain data.
        let result =
            unsafe { libc::getsockopt(self.as_raw_fd(), libc::SOL_XDP, option, pointer, &mut len) };
        check(result)?;
        if len as usize == size_of::<T>() {
            Ok(())
        } else {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}

impl AsRawFd for XdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for XdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
