//! A kernel interface through packet sockets (packet(7)): frames come out of a memory-mapped ring
//! (`TPACKET_V2`) and go out in batches by sendmmsg(2), past the queueing discipline.
//!
//! The stack shares the interface and its MAC address with the kernel but has IP addresses of its own;
//! the kernel, unless it forwards, ignores what is for those. The two cannot talk to each other over
//! this device, only each with the rest of the network. Checksums and, if it can, segmentation are left
//! to the interface both ways (`PACKET_VNET_HDR`). With several queues the kernel spreads the flows over them
//! by a hash (`PACKET_FANOUT`) that the stack can follow where it may load a program for it.

mod ring;
mod socket;

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use crate::arena::Arena;
use crate::{
    BURST, Capabilities, Device, Error, MAX_FRAME, MacAddr, Queue, QueueStats, Rss, RxMeta, TxMeta,
    ethtool, interface, no_such_queue, vnet,
};
use ring::{RxRing, Slot};
use socket::{Fanout, PacketSocket};

/// The most queues: what one group of packet sockets takes (`PACKET_FANOUT_MAX`).
const MAX_QUEUES: usize = 256;

/// An interface to share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PacketConfig {
    /// The interface's name. It has to be up.
    pub interface: String,
    /// Queue pairs, one to each worker.
    pub queues: usize,
    /// Slots of each receive ring, 2 KB each.
    pub slots: usize,
}

impl PacketConfig {
    /// The interface of that name with one queue.
    pub fn new(interface: &str) -> PacketConfig {
        PacketConfig {
            interface: interface.into(),
            queues: 1,
            slots: 4096,
        }
    }
}

/// A kernel interface that the stack shares.
pub struct Packet {
    name: String,
    config: PacketConfig,
    index: u32,
    mac: MacAddr,
    mtu: usize,
    tso: bool,
    fanout: Option<Fanout>,
    open: Vec<bool>,
}

impl Packet {
    /// Looks the interface up. Its queues are opened one by one.
    ///
    /// # Errors
    /// [`Error::Missing`] without CAP_NET_RAW or without an interface of that name, or if it is no
    /// Ethernet interface or is down; [`Error::Description`] for a number of queues that cannot be.
    pub fn open(config: &PacketConfig) -> Result<Packet, Error> {
        crate::check_queue_count("a packet device", config.queues, MAX_QUEUES)?;
        let interface = interface::look_up(&config.interface)?;
        let fanout = (config.queues > 1)
            // `MAX_QUEUES` fits.
            .then(|| Fanout::new(config.queues as u16))
            .transpose()?;
        Ok(Packet {
            name: format!("packet:{}", config.interface),
            index: interface.index,
            mac: interface.mac,
            mtu: interface.mtu,
            // Past the queueing discipline the kernel does not segment for an interface, but drops
            // the frame (`__dev_direct_xmit`).
            tso: ethtool::segments_tcp(&config.interface),
            fanout,
            open: vec![false; config.queues],
            config: config.clone(),
        })
    }
}

impl Device for Packet {
    fn name(&self) -> &str {
        &self.name
    }

    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mtu: self.mtu,
            tx_checksum: true,
            tx_segmentation: self.tso,
            rx_coalescing: true,
            queues: self.config.queues,
        }
    }

    fn rss(&self) -> Option<Rss> {
        self.fanout.as_ref().and_then(Fanout::rss)
    }

    fn open_queue(&mut self, index: usize) -> Result<Box<dyn Queue>, Error> {
        let queues = self.open.len();
        match self.open.get_mut(index) {
            Some(open) if !*open => *open = true,
            _ => return Err(no_such_queue(&self.name, index, queues)),
        }
        let socket = PacketSocket::open(&self.name)?;
        let ring = RxRing::map(&socket, self.config.slots)
            .map_err(Error::io(format!("map the receive ring of {}", self.name)))?;
        // Frames come from here on.
        socket.bind(self.index, self.fanout.as_ref())?;
        Ok(Box::new(PacketQueue {
            name: self.name.clone(),
            index: self.index,
            socket,
            ring,
            big: vec![0; vnet::LEN + MAX_FRAME].into(),
            arena: Arena::new(),
            error: None,
            stats: QueueStats::default(),
        }))
    }
}

struct PacketQueue {
    name: String,
    index: u32,
    socket: PacketSocket,
    ring: RxRing,
    /// Where a frame goes that is longer than a slot.
    big: Box<[u8]>,
    arena: Arena,
    /// What the socket said when the worker was about to sleep.
    error: Option<io::Error>,
    stats: QueueStats,
}

impl PacketQueue {
    /// An interface that is down comes up again, one that was removed does not.
    fn after_error(&self, error: io::Error, what: &str) -> Result<(), Error> {
        match error.raw_os_error() {
            Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) if !interface::exists(self.index) => {
                Err(Error::Gone(self.name.clone()))
            }
            Some(libc::ENETDOWN | libc::ENOBUFS | libc::EAGAIN) => Ok(()),
            _ => Err(Error::io(format!("{what} {}", self.name))(error)),
        }
    }

    fn show(&mut self, sink: &mut dyn FnMut(&[u8], RxMeta)) -> bool {
        let Some(slot) = self.ring.first() else {
            return false;
        };
        let shown = match slot {
            Slot::Whole { header, frame } => vnet::decode(header).map(|meta| {
                sink(frame, meta);
                frame.len()
            }),
            Slot::Queued => {
                let received = self.socket.receive(&mut self.big);
                let frame = received
                    .ok()
                    .and_then(|len| self.big.get(vnet::LEN..len))
                    .zip(self.big.first_chunk().and_then(vnet::decode));
                frame.map(|(frame, meta)| {
                    sink(frame, meta);
                    frame.len()
                })
            }
            Slot::Bad => None,
        };
        self.ring.release();
        match shown {
            Some(len) => {
                self.stats.rx_frames += 1;
                self.stats.rx_bytes += len as u64;
            }
            None => self.stats.rx_dropped += 1,
        }
        true
    }
}

impl Queue for PacketQueue {
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&[u8], RxMeta),
    ) -> Result<usize, Error> {
        if let Some(error) = self.error.take() {
            self.after_error(error, "receive from")?;
        }
        let before = self.stats.rx_frames;
        for _ in 0..budget {
            if !self.show(sink) {
                break;
            }
        }
        Ok((self.stats.rx_frames - before) as usize)
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.arena.reserve(len)
    }

    fn commit(&mut self, len: usize, meta: TxMeta) {
        self.arena.commit(len, meta);
    }

    fn flush(&mut self) -> Result<usize, Error> {
        let mut taken = 0;
        while self.arena.first().is_some() {
            let sent = self.socket.send(self.arena.frames().take(BURST));
            let (sent, refused) = match sent {
                Ok(sent) => (sent, 0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::debug!(device = self.name, %error, "frame refused");
                    self.after_error(error, "send to")?;
                    // The first one was refused; those behind it may yet go.
                    (0, 1)
                }
            };
            for _ in 0..sent {
                let len = self.arena.first().map_or(0, <[u8]>::len) - vnet::LEN;
                self.stats.tx_bytes += len as u64;
                self.arena.pop();
            }
            for _ in 0..refused {
                self.arena.pop();
            }
            taken += sent;
            self.stats.tx_frames += sent as u64;
            self.stats.tx_dropped += refused;
        }
        Ok(taken)
    }

    fn wait_fd(&self) -> Option<RawFd> {
        Some(self.socket.as_raw_fd())
    }

    fn arm(&mut self) -> bool {
        // A descriptor with an error polls readable until somebody takes the error.
        self.error = self.socket.take_error();
        self.error.is_none() && self.ring.first().is_none()
    }

    fn stats(&self) -> QueueStats {
        let mut stats = self.stats;
        stats.rx_dropped += self.socket.drops();
        stats
    }
}

#[cfg(test)]
mod tests;
