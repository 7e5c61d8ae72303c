//! Packet sockets (packet(7)).
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::steering::Steering;
use crate::sys::{check, random};
use crate::{BURST, Error, Rss, interface};

/// Options of linux/if_packet.h that the libc crate lacks.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const PACKET_FANOUT_DATA: libc::c_int = 22;
const PACKET_FANOUT_EBPF: u32 = 7;

/// Bytes of frames longer than a slot that may wait: 128 super-segments.
const LONG_FRAMES: libc::c_int = 8 << 20;

/// A group of sockets over which the kernel spreads the flows.
pub struct Fanout {
    group: u16,
    /// By what; `None` for a hash of the kernel's own.
    steering: Option<Steering>,
}

impl Fanout {
    /// A group of its own for so many sockets, by a random number: the numbers are shared by a
    /// network namespace.
    pub fn new(queues: u16) -> Result<Fanout, Error> {
        let group = random().map_err(Error::io("getrandom"))?;
        let steering = Steering::load(queues)
            .inspect_err(|error| tracing::info!("flows are spread by the kernel's hash: {error}"));
        Ok(Fanout {
            group: u16::from_ne_bytes(group),
            steering: steering.ok(),
        })
    }

    /// How flows are spread, if that is known.
    pub fn rss(&self) -> Option<Rss> {
        self.steering.as_ref().map(Steering::rss)
    }
}

/// A packet socket for whole Ethernet frames, each behind its virtio header.
pub struct PacketSocket {
    fd: OwnedFd,
    /// Drops that the kernel has told of; it forgets them when it has.
    drops: Cell<u64>,
}

impl PacketSocket {
    /// A socket that receives nothing before it is bound.
    pub fn open(device: &str) -> Result<PacketSocket, Error> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers; the result is checked.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) });
        let fd = fd.map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => Error::Missing {
                what: format!("CAP_NET_RAW is missing, without which {device} cannot be opened"),
                remedy: "run as root, or give mtcp-run the capability \
                         (`setcap cap_net_raw+ep mtcp-run`)"
                    .into(),
            },
            _ => Error::io(format!("open a packet socket for {device}"))(error),
        })?;
        // SAFETY: fresh from the kernel: nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let socket = PacketSocket {
            fd,
            drops: Cell::new(0),
        };
        let on: libc::c_int = 1;
        let version: libc::c_int = libc::tpacket_versions::TPACKET_V2 as libc::c_int;
        for (option, value, what) in [
            (libc::PACKET_VERSION, version, "the ring's version"),
            (libc::PACKET_VNET_HDR, on, "offloads"),
            (libc::PACKET_COPY_THRESH, on, "frames longer than a slot"),
            (PACKET_IGNORE_OUTGOING, on, "only what comes in"),
        ] {
            let failed = Error::io(format!("ask {device} for {what}"));
            socket.set(option, &value).map_err(failed)?;
        }
        // Without either, sending takes longer, and fewer long frames may wait.
        if let Err(error) = socket.set(libc::PACKET_QDISC_BYPASS, &on) {
            tracing::info!(device, %error, "the queueing discipline stays in between");
        }
        let force = socket.set_at(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &LONG_FRAMES);
        if force.is_err() {
            let _ = socket.set_at(libc::SOL_SOCKET, libc::SO_RCVBUF, &LONG_FRAMES);
        }
        Ok(socket)
    }

    /// Begins to receive all frames that come in on the interface.
    pub fn bind(&self, interface: u32, fanout: Option<&Fanout>) -> Result<(), Error> {
        // SAFETY: an all-zero sockaddr_ll is valid.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as libc::sa_family_t;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = interface as libc::c_int;
        let len = size_of_val(&address) as libc::socklen_t;
        let pointer = (&raw const address).cast();
        // SAFETY: the pointer and the length are those of `address`.
        check(unsafe { libc::bind(self.as_raw_fd(), pointer, len) })
            .map_err(Error::io("bind a packet socket"))?;
        interface::hear_all_multicast(self, interface).map_err(Error::io("ask for multicast"))?;
        if let Some(fanout) = fanout {
            self.join(fanout)
                .map_err(Error::io("spread flows over the queues"))?;
        }
        Ok(())
    }

    fn join(&self, fanout: &Fanout) -> io::Result<()> {
        let Some(steering) = &fanout.steering else {
            let value = u32::from(fanout.group) | libc::PACKET_FANOUT_HASH << 16;
            return self.set(libc::PACKET_FANOUT, &value);
        };
        let value = u32::from(fanout.group) | PACKET_FANOUT_EBPF << 16;
        self.set(libc::PACKET_FANOUT, &value)?;
        // The program is the group's: each member sets it anew.
        self.set(PACKET_FANOUT_DATA, &steering.as_raw_fd())
    }

    /// Sets an option of packet(7).
    pub fn set<T>(&self, option: libc::c_int, value: &T) -> io::Result<()> {
        self.set_at(libc::SOL_PACKET, option, value)
    }

    fn set_at<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        let len = size_of::<T>() as libc::socklen_t;
        let pointer = (&raw const *value).cast();
        // SAFETY: the pointer and the length are those of `value`, which is plain data.
        let result = unsafe { libc::setsockopt(self.as_raw_fd(), level, option, pointer, len) };
        check(result).map(drop)
    }

    /// Receives the oldest of the frames that were longer than a slot, its virtio header in front.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the pointer and the length are those of `buffer`.
        let len = unsafe {
            libc::recv(
                self.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(len).map_err(|_| io::Error::last_os_error())
    }

    /// Sends frames, each behind its virtio header; returns how many of the first ones went.
    pub fn send<'a>(&self, frames: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
        // SAFETY: all-zero iovecs and mmsghdrs are valid.
        let (mut parts, mut messages): ([libc::iovec; BURST], [libc::mmsghdr; BURST]) =
            unsafe { (zeroed(), zeroed()) };
        let mut count = 0;
        for ((frame, part), message) in frames.zip(&mut parts).zip(&mut messages) {
            part.iov_base = frame.as_ptr().cast_mut().cast();
            part.iov_len = frame.len();
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        // SAFETY: `count` messages are filled in; they point to `parts` and those to the frames, which
        // the kernel only reads; all outlive the call.
        let sent = check(unsafe {
            libc::sendmmsg(
                self.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
            )
        })?;
        Ok(sent as usize)
    }

    /// The error that waits, if there is one (`SO_ERROR`).
    pub fn take_error(&self) -> Option<io::Error> {
        let mut error: libc::c_int = 0;
        self.get(libc::SOL_SOCKET, libc::SO_ERROR, &mut error)
            .ok()?;
        (error != 0).then(|| io::Error::from_raw_os_error(error))
    }

    /// Frames that found the ring full, from the beginning on.
    pub fn drops(&self) -> u64 {
        let mut stats = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        if self
            .get(libc::SOL_PACKET, libc::PACKET_STATISTICS, &mut stats)
            .is_ok()
        {
            let drops = self.drops.get() + u64::from(stats.tp_drops);
            self.drops.set(drops);
        }
        self.drops.get()
    }

    fn get<T>(&self, level: libc::c_int, option: libc::c_int, value: &mut T) -> io::Result<()> {
        let mut len = size_of::<T>() as libc::socklen_t;
        let pointer = (&raw mut *value).cast();
        // SAFETY: the pointer and the length are those of `value`, which is plain data.
        let result =
            unsafe { libc::getsockopt(self.as_raw_fd(), level, option, pointer, &mut len) };
        check(result).map(drop)
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
