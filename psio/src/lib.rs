//! Packet I/O in the PacketShader tradition: bursts of Ethernet frames over rings.
//!
//! A [`Device`] hands out [`Queue`] pairs, one to each worker. A queue receives a burst in place,
//! lends out room for frames to be built in place, and sends what was built with one
//! [`flush`](Queue::flush). A frame may be a *super-segment*: a TCP frame of up to 64 KB with the
//! size at which the device is to cut it (TSO on the way out, coalesced on the way in).
//!
//! Devices: [`tap`], [`packet`], [`xdp`], [`ixgbe`], [`wire`], [`none`], and [`pair`] for tests; [`open`]
//! makes one from its description.
//! Around any device, outermost last: [`bundle`] makes one queue of several, [`offload`] gives it what
//! it lacks, [`fault`] makes things go wrong on it, [`pcapng`] records what the stack sees.

mod arena;
mod bpf;
#[cfg(test)]
mod cable;
mod ethtool;
mod interface;
mod sys;
mod vnet;

pub mod bundle;
pub mod describe;
pub mod fault;
pub mod ixgbe;
pub mod none;
pub mod numa;
pub mod offload;
pub mod packet;
pub mod pair;
pub mod pcapng;
pub mod rss;
pub mod segment;
mod steering;
pub mod tap;
pub mod wire;
pub mod xdp;

use std::net::Ipv4Addr;
use std::os::fd::RawFd;
use std::time::Duration;

pub use describe::{OpenOptions, open};
pub use rss::Rss;

/// Refuses a number of queues that a device, "a TAP" say, cannot have.
fn check_queue_count(device: &str, queues: usize, most: usize) -> Result<(), Error> {
    if (1..=most).contains(&queues) {
        return Ok(());
    }
    Err(Error::Description(format!(
        "{device} has 1 to {most} queues, not {queues}"
    )))
}

/// Frames taken or sent in one burst unless the caller says otherwise.
pub const BURST: usize = 64;

/// The longest frame that crosses a queue: an Ethernet header and an IP packet of 65,535 bytes.
pub const MAX_FRAME: usize = 14 + 65_535;

/// An Ethernet (EUI-48) address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The broadcast address, `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

    /// A random unicast address from the locally administered space (IEEE 802 §8.2).
    ///
    /// # Errors
    /// The system has no random bytes to give.
    pub fn random_local() -> Result<MacAddr, Error> {
        let mut bytes: [u8; 6] = sys::random().map_err(Error::io("getrandom"))?;
        bytes[0] = bytes[0] & 0xfc | 0x02;
        Ok(MacAddr(bytes))
    }
}

/// A station that is always the same for an address, so that a stack that starts anew is still the one that
/// others know: `02:6d`, and the address (locally administered, IEEE 802 §8.2).
impl From<Ipv4Addr> for MacAddr {
    fn from(address: Ipv4Addr) -> MacAddr {
        let [a, b, c, d] = address.octets();
        MacAddr([0x02, 0x6d, a, b, c, d])
    }
}

impl std::fmt::Display for MacAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What a device takes off the stack's hands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// Largest IP packet on the wire, in bytes (super-segments are cut to fit it).
    pub mtu: usize,
    /// Fills in TCP and UDP checksums of frames sent with [`TxMeta::checksum`].
    pub tx_checksum: bool,
    /// Cuts TCP super-segments sent with [`TxMeta::gso`].
    pub tx_segmentation: bool,
    /// May deliver TCP super-segments with [`RxMeta::gso_size`] set.
    pub rx_coalescing: bool,
    /// Queue pairs that can be opened.
    pub queues: usize,
}

/// What the device knows about the checksum of a received frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RxChecksum {
    /// Nothing: the stack verifies it.
    #[default]
    Unknown,
    /// Verified by the device, or the frame never left this machine's memory.
    Good,
}

/// What comes with a received frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RxMeta {
    /// State of the layer 4 checksum.
    pub checksum: RxChecksum,
    /// Payload bytes of each TCP segment that was merged into this frame; 0 if none were.
    pub gso_size: u16,
}

/// Where the device is to put a layer 4 checksum.
///
/// The field at `start + offset` holds the pseudo-header's sum; the device adds the sum of all
/// bytes from `start` to the end of the frame (virtio 1.2 §5.1.6.2, `VIRTIO_NET_HDR_F_NEEDS_CSUM`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChecksumOffload {
    /// First byte summed, counted from the start of the Ethernet frame.
    pub start: u16,
    /// Offset of the checksum field from `start`.
    pub offset: u16,
}

/// IP version of a super-segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GsoKind {
    /// TCP over IPv4 (TSO4).
    TcpV4,
    /// TCP over IPv6 (TSO6).
    TcpV6,
}

/// How the device is to cut a TCP super-segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gso {
    /// IP version.
    pub kind: GsoKind,
    /// TCP payload bytes in each frame but the last.
    pub size: u16,
    /// Bytes of Ethernet, IP and TCP headers together, repeated before each payload.
    pub header_len: u16,
}

/// What goes with a frame to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TxMeta {
    /// Checksum left to the device; only where [`Capabilities::tx_checksum`].
    pub checksum: Option<ChecksumOffload>,
    /// Segmentation left to the device; only where [`Capabilities::tx_segmentation`], and always
    /// together with `checksum`.
    pub gso: Option<Gso>,
}

/// Counters of one queue pair, from its opening on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueStats {
    /// Frames received (a super-segment counts once).
    pub rx_frames: u64,
    /// Bytes received, Ethernet header included.
    pub rx_bytes: u64,
    /// Frames that the device or this queue dropped before the stack saw them.
    pub rx_dropped: u64,
    /// Frames handed to the device.
    pub tx_frames: u64,
    /// Bytes handed to the device.
    pub tx_bytes: u64,
    /// Frames committed that the device refused.
    pub tx_dropped: u64,
}

/// Why packet I/O failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// The call and its object.
        what: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The device description cannot be understood; the text says what was expected.
    #[error("{0}")]
    Description(String),
    /// The machine lacks what the device needs, or this process may not use it.
    #[error("{what}: {remedy}")]
    Missing {
        /// What is missing.
        what: String,
        /// How to get it.
        remedy: String,
    },
    /// The other end of the device does not join with this one.
    #[error("{name}: {reason}")]
    Refused {
        /// The device.
        name: String,
        /// Why.
        reason: String,
    },
    /// The device, or its peer, is gone for good.
    #[error("{0} is gone")]
    Gone(String),
}

impl Error {
    /// For `map_err`: wraps what the system says with the call that failed.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::Io {
            what: what.into(),
            source,
        }
    }
}

/// A packet device: a factory of queue pairs.
pub trait Device: Send {
    /// A name for logs and captures, e.g. `tap:mtcp0`.
    fn name(&self) -> &str;
    /// The device's own address.
    fn mac(&self) -> MacAddr;
    /// What the device does in the stack's stead.
    fn capabilities(&self) -> Capabilities;
    /// How the device spreads flows over its queues, if it does so by a hash that can be followed.
    /// `None`: an answer to what was sent on one queue may arrive on another. A peer that sends on
    /// the queue of the same index that it received on needs none.
    fn rss(&self) -> Option<Rss> {
        None
    }

    /// Opens queue pair `index` (from 0, below [`Capabilities::queues`]); each can be opened once.
    ///
    /// # Errors
    /// What the system says, or [`Error::Description`] for an index that does not exist.
    fn open_queue(&mut self, index: usize) -> Result<Box<dyn Queue>, Error>;
}

/// One receive and one transmit ring, owned by one worker.
pub trait Queue: Send {
    /// Takes at most `budget` frames and shows each to `sink`, in place and in order; returns how
    /// many there were. Never blocks.
    ///
    /// # Errors
    /// Only what makes the queue useless; a bad frame is counted in [`QueueStats::rx_dropped`].
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&[u8], RxMeta),
    ) -> Result<usize, Error>;

    /// Lends `len` bytes (at most [`MAX_FRAME`]) in which to build the next frame, or `None` while
    /// the ring is full: flush, and try again later. The bytes hold old data. A later `reserve`
    /// without a [`commit`](Queue::commit) between takes the room back.
    ///
    /// The bytes are for writing: on a wire in shared memory the peer can change them, so nothing
    /// may be decided by what is read back.
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]>;

    /// Queues the first `len` bytes of the room last reserved.
    ///
    /// # Panics
    /// If nothing is reserved or `len` is longer than what is.
    fn commit(&mut self, len: usize, meta: TxMeta);

    /// Hands all committed frames to the device; returns how many it has taken. What it has not
    /// taken stays queued.
    ///
    /// # Errors
    /// Only what makes the queue useless.
    fn flush(&mut self) -> Result<usize, Error>;

    /// A descriptor that polls readable while frames wait, for a worker that goes to sleep.
    /// `None` for a device which must be polled, or where none ever arrive.
    fn wait_fd(&self) -> Option<RawFd>;

    /// Announces that the worker is about to sleep on [`wait_fd`](Queue::wait_fd). Returns false
    /// if frames have come meanwhile: do not sleep.
    fn arm(&mut self) -> bool {
        true
    }

    /// Announces that the worker is awake again. `rung`: [`wait_fd`](Queue::wait_fd) is readable.
    fn disarm(&mut self, rung: bool) {
        let _ = rung;
    }

    /// How long a worker may sleep at most, so that a device which cannot say by
    /// [`wait_fd`](Queue::wait_fd) that it is gone is looked after; `None`: for ever.
    fn longest_sleep(&self) -> Option<Duration> {
        None
    }

    /// Counters so far.
    fn stats(&self) -> QueueStats;
}

impl<D: Device + ?Sized> Device for Box<D> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn mac(&self) -> MacAddr {
        (**self).mac()
    }

    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    fn rss(&self) -> Option<Rss> {
        (**self).rss()
    }

    fn open_queue(&mut self, index: usize) -> Result<Box<dyn Queue>, Error> {
        (**self).open_queue(index)
    }
}

impl<Q: Queue + ?Sized> Queue for Box<Q> {
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&[u8], RxMeta),
    ) -> Result<usize, Error> {
        (**self).receive(budget, sink)
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        (**self).reserve(len)
    }

    fn commit(&mut self, len: usize, meta: TxMeta) {
        (**self).commit(len, meta);
    }

    fn flush(&mut self) -> Result<usize, Error> {
        (**self).flush()
    }

    fn wait_fd(&self) -> Option<RawFd> {
        (**self).wait_fd()
    }

    fn arm(&mut self) -> bool {
        (**self).arm()
    }

    fn disarm(&mut self, rung: bool) {
        (**self).disarm(rung);
    }

    fn longest_sleep(&self) -> Option<Duration> {
        (**self).longest_sleep()
    }

    fn stats(&self) -> QueueStats {
        (**self).stats()
    }
}

/// The error for a queue index that does not exist or is open already.
pub(crate) fn no_such_queue(device: &str, index: usize, queues: usize) -> Error {
    if index < queues {
        Error::Description(format!("{device}: queue {index} is open already"))
    } else {
        Error::Description(format!(
            "{device}: there is no queue {index}, only {queues} from 0 on"
        ))
    }
}
