//! A TAP interface: an Ethernet cable between the stack and the kernel of the same machine.
//!
//! The kernel sees an interface with an address of its own; the stack is its neighbour. Checksums
//! are left out and TCP super-segments go whole, in both directions (`IFF_VNET_HDR`).

mod address6;
mod interface;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, RawFd};

use crate::arena::Arena;
use crate::steering::Steering;
use crate::{
    Capabilities, Device, Error, MAX_FRAME, MacAddr, Queue, QueueStats, Rss, RxMeta, TxMeta,
    no_such_queue, vnet,
};
use interface::{Control, Interface};

/// Frames that the kernel keeps for one of our queues before it drops any; its own default of 500
/// is less than a thousand connections opened at once.
const KERNEL_QUEUE: u16 = 4096;

/// The most queues that the kernel gives to one TAP (`MAX_TAP_QUEUES`).
const MAX_QUEUES: usize = 256;

/// A TAP to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TapConfig {
    /// The interface's name, or `None` for the first of `mtcp0`, `mtcp1`, … that is free.
    pub name: Option<String>,
    /// Queue pairs, one to each worker.
    pub queues: usize,
    /// Largest IP packet, in bytes: 68 to 65,521.
    pub mtu: usize,
    /// The kernel's address on the interface, and the length of its network's prefix in bits.
    pub host_addr: Option<(Ipv4Addr, u8)>,
    /// The kernel's IPv6 address, likewise; where the kernel has no IPv6, there is none.
    pub host_addr6: Option<(Ipv6Addr, u8)>,
}

impl Default for TapConfig {
    /// One queue, 1,500 bytes, and the kernel at 10.77.0.1/24.
    fn default() -> TapConfig {
        TapConfig {
            name: None,
            queues: 1,
            mtu: 1500,
            host_addr: Some((Ipv4Addr::new(10, 77, 0, 1), 24)),
            host_addr6: None,
        }
    }
}

/// The stack's end of a TAP. The interface vanishes with the device and the last of its queues.
pub struct Tap {
    name: String,
    mac: MacAddr,
    capabilities: Capabilities,
    rss: Option<Rss>,
    queues: Vec<Option<File>>,
}

impl Tap {
    /// Makes the interface, sets it up and brings it up.
    ///
    /// # Errors
    /// [`Error::Missing`] without /dev/net/tun or CAP_NET_ADMIN, [`Error::Description`] for a
    /// configuration that no interface can have, else what the system says.
    pub fn open(config: &TapConfig) -> Result<Tap, Error> {
        crate::check_queue_count("a TAP", config.queues, MAX_QUEUES)?;
        if !(68..=65_521).contains(&config.mtu) {
            return Err(Error::Description(format!(
                "the MTU of a TAP is 68 to 65521 bytes, not {}",
                config.mtu
            )));
        }
        if let Some((_, prefix @ 33..)) = config.host_addr {
            return Err(Error::Description(format!(
                "a prefix of IPv4 has at most 32 bits, not {prefix}"
            )));
        }
        let name = config.name.as_deref().unwrap_or("mtcp%d");
        let interface = interface::create(name, config.queues)?;
        let control = Control::new()?;
        control.set_mtu(&interface.name, config.mtu)?;
        if let Err(error) = control.set_queue_len(&interface.name, KERNEL_QUEUE) {
            // Only root of the first user namespace may; the default length does, too.
            tracing::info!("{error}");
        }
        if let Some((address, prefix)) = config.host_addr {
            control.set_address(&interface.name, address, prefix)?;
        }
        if let Some((address, prefix)) = config.host_addr6
            && let Err(error) = address6::add(&interface.name, address, prefix)
        {
            tracing::info!(interface = interface.name, %address, "no IPv6 for the kernel: {error}");
        }
        let rss = steer(&interface);
        control.bring_up(&interface.name)?;
        Ok(Tap {
            name: format!("tap:{}", interface.name),
            mac: MacAddr::random_local()?,
            capabilities: Capabilities {
                mtu: config.mtu,
                tx_checksum: true,
                tx_segmentation: true,
                rx_coalescing: interface.coalescing,
                queues: config.queues,
            },
            rss,
            queues: interface.queues.into_iter().map(Some).collect(),
        })
    }

    /// The name of the kernel's interface.
    pub fn interface(&self) -> &str {
        &self.name["tap:".len()..]
    }
}

/// Has the kernel spread flows over several queues by a hash that the stack can follow.
fn steer(interface: &Interface) -> Option<Rss> {
    let [first, _, ..] = &interface.queues[..] else {
        return None;
    };
    // `MAX_QUEUES` fits.
    let steering = Steering::load(interface.queues.len() as u16)
        .and_then(|steering| interface::steer(first, &steering).map(|()| steering.rss()));
    if let Err(error) = &steering {
        tracing::info!(
            interface = interface.name,
            "flows are spread by the kernel's hash: {error}"
        );
    }
    steering.ok()
}

impl Device for Tap {
    fn name(&self) -> &str {
        &self.name
    }

    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn rss(&self) -> Option<Rss> {
        self.rss.clone()
    }

    fn open_queue(&mut self, index: usize) -> Result<Box<dyn Queue>, Error> {
        let queues = self.queues.len();
        let file = self.queues.get_mut(index).and_then(Option::take);
        let file = file.ok_or_else(|| no_such_queue(&self.name, index, queues))?;
        Ok(Box::new(TapQueue {
            name: self.name.clone(),
            file,
            received: vec![0; vnet::LEN + MAX_FRAME].into(),
            arena: Arena::new(),
            stats: QueueStats::default(),
        }))
    }
}

struct TapQueue {
    name: String,
    file: File,
    /// Every frame is received here: it is hot in the cache when the next one comes.
    received: Box<[u8]>,
    arena: Arena,
    stats: QueueStats,
}

impl TapQueue {
    /// Reads or writes again when a signal has come between.
    fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match call() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl Queue for TapQueue {
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&[u8], RxMeta),
    ) -> Result<usize, Error> {
        let mut shown = 0;
        for _ in 0..budget {
            let len = match Self::retry(|| (&self.file).read(&mut self.received)) {
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => {
                    // Both say that the interface was taken away.
                    return Err(match e.raw_os_error() {
                        Some(libc::EBADFD | libc::EFAULT) => Error::Gone(self.name.clone()),
                        _ => Error::io(format!("read {}", self.name))(e),
                    });
                }
            };
            let meta = self.received.first_chunk().and_then(vnet::decode);
            match (self.received.get(vnet::LEN..len), meta) {
                (Some(frame), Some(meta)) if !frame.is_empty() => {
                    self.stats.rx_frames += 1;
                    self.stats.rx_bytes += frame.len() as u64;
                    shown += 1;
                    sink(frame, meta);
                }
                _ => self.stats.rx_dropped += 1,
            }
        }
        Ok(shown)
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.arena.reserve(len)
    }

    fn commit(&mut self, len: usize, meta: TxMeta) {
        self.arena.commit(len, meta);
    }

    fn flush(&mut self) -> Result<usize, Error> {
        let mut taken = 0;
        while let Some(frame) = self.arena.first() {
            match Self::retry(|| (&self.file).write(frame)) {
                Ok(_) => {
                    taken += 1;
                    self.stats.tx_frames += 1;
                    self.stats.tx_bytes += (frame.len() - vnet::LEN) as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.raw_os_error() == Some(libc::EBADFD) => {
                    return Err(Error::Gone(self.name.clone()));
                }
                // An interface that is down, or a frame that the kernel will not have.
                Err(error) => {
                    tracing::debug!(device = self.name, %error, "frame refused");
                    self.stats.tx_dropped += 1;
                }
            }
            self.arena.pop();
        }
        Ok(taken)
    }

    fn wait_fd(&self) -> Option<RawFd> {
        Some(self.file.as_raw_fd())
    }

    fn stats(&self) -> QueueStats {
        self.stats
    }
}

#[cfg(test)]
#[path = "tap/tests.rs"]
mod tests;
