//! A wire in shared memory between two stacks in different processes.
//!
//! Whoever opens its end first waits for the other, but is up at once: until the peer is there,
//! and after it is gone, frames sent are dropped and counted, as on a cable that is unplugged. A
//! peer that starts again is joined again.
//!
//! Super-segments cross whole and need no checksums. Nothing that the peer writes is trusted:
//! lengths and cursors are read once and checked, frames are copied out before the stack sees
//! them, and a peer that breaks the rules is unplugged.

mod link;
mod meeting;
mod ring;
mod shared;

use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{
    Capabilities, Device, Error, MAX_FRAME, MacAddr, Queue, QueueStats, RxChecksum, RxMeta, TxMeta,
    no_such_queue,
};
use link::Link;
use meeting::{Address, Session};
use ring::{Broken, Consumer, MIN_CAPACITY, Producer};
use shared::{MAX_CAPACITY, SharedRing};

/// The most queue pairs of one wire; their descriptors fit into one message.
const MAX_QUEUES: usize = 64;

/// One end of a wire to be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WireConfig {
    /// The UNIX socket where both ends meet, or `@` and a name in the abstract namespace, which
    /// belongs to the network namespace.
    pub path: PathBuf,
    /// Queue pairs; the same at both ends. What is sent on one arrives on the one with the same
    /// index.
    pub queues: usize,
    /// Largest IP packet, in bytes: 68 to 65,535. Super-segments are longer.
    pub mtu: usize,
    /// Bytes of each ring, of which there are two to each queue; rounded up to a power of two, at
    /// least 256 KB, at most 1 GB. The end that comes first decides.
    pub ring_bytes: usize,
    /// The station; a random one without it.
    pub mac: Option<MacAddr>,
    /// How long [`arm`](Queue::arm) watches the ring for frames before it lets the worker sleep.
    pub spin: Duration,
}

impl Default for WireConfig {
    /// One queue, 1,500 bytes, rings of 1 MB (larger ones leave the cache), a random station, no spinning; the path is empty.
    fn default() -> WireConfig {
        WireConfig {
            path: PathBuf::new(),
            queues: 1,
            mtu: 1500,
            ring_bytes: 1 << 20,
            mac: None,
            spin: Duration::ZERO,
        }
    }
}

/// One end of a wire.
pub struct Wire {
    name: String,
    mac: MacAddr,
    capabilities: Capabilities,
    spin: Duration,
    link: Arc<Link>,
    opened: Vec<bool>,
}

impl Wire {
    /// Opens one end. Does not wait for the other, unless that listens already.
    ///
    /// # Errors
    /// [`Error::Description`] for a configuration that no wire can have, [`Error::Refused`] if the
    /// wire has both ends already or the other does not fit, else what the system says of the socket.
    pub fn open(config: &WireConfig) -> Result<Wire, Error> {
        let name = format!("wire:{}", config.path.display());
        crate::check_queue_count(&format!("{name}: a wire"), config.queues, MAX_QUEUES)?;
        if !(68..=65_535).contains(&config.mtu) {
            return Err(Error::Description(format!(
                "{name}: the MTU of a wire is 68 to 65535 bytes, not {}",
                config.mtu
            )));
        }
        if config.ring_bytes > MAX_CAPACITY {
            return Err(Error::Description(format!(
                "{name}: a ring has at most {MAX_CAPACITY} bytes, not {}",
                config.ring_bytes
            )));
        }
        let capacity = config.ring_bytes.max(MIN_CAPACITY).next_power_of_two();
        let address = Address::parse(&config.path).map_err(Error::io(name.clone()))?;
        Ok(Wire {
            mac: match config.mac {
                Some(mac) => mac,
                None => MacAddr::random_local()?,
            },
            capabilities: Capabilities {
                mtu: config.mtu,
                tx_checksum: true,
                tx_segmentation: true,
                rx_coalescing: true,
                queues: config.queues,
            },
            spin: config.spin,
            link: Arc::new(Link::open(name.clone(), address, config.queues, capacity)?),
            opened: vec![false; config.queues],
            name,
        })
    }
}

impl Device for Wire {
    fn name(&self) -> &str {
        &self.name
    }

    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn open_queue(&mut self, index: usize) -> Result<Box<dyn Queue>, Error> {
        match self.opened.get_mut(index) {
            Some(opened) if !*opened => *opened = true,
            _ => return Err(no_such_queue(&self.name, index, self.opened.len())),
        }
        Ok(Box::new(WireQueue {
            name: self.name.clone(),
            link: Arc::clone(&self.link),
            index,
            spin: self.spin,
            generation: 0,
            ends: None,
            last: None,
            received: vec![0; MAX_FRAME].into(),
            unplugged: Vec::new(),
            reserved: None,
            committed: 0,
            armed: false,
            stats: QueueStats::default(),
        }))
    }
}

/// What a queue has of a session.
struct Ends {
    session: Arc<Session>,
    tx: Producer<SharedRing>,
    rx: Consumer<SharedRing>,
}

struct WireQueue {
    name: String,
    link: Arc<Link>,
    index: usize,
    spin: Duration,
    /// The generation that `ends` is of.
    generation: u64,
    ends: Option<Ends>,
    /// The last words of a peer that is gone.
    last: Option<Consumer<SharedRing>>,
    received: Box<[u8]>,
    /// Room that is lent while there is no peer.
    unplugged: Vec<u8>,
    /// Bytes lent; they are in the ring if its producer says so.
    reserved: Option<usize>,
    /// Frames committed to the ring since the last flush.
    committed: usize,
    armed: bool,
    stats: QueueStats,
}

impl WireQueue {
    /// Follows the link from one session to the next.
    fn follow(&mut self) {
        if self.link.generation() == self.generation {
            return;
        }
        let (generation, session) = self.link.session();
        self.generation = generation;
        self.committed = 0;
        if let Some(Ends { mut rx, .. }) = self.ends.take() {
            self.last = rx.close().is_ok().then_some(rx);
        }
        self.ends = session.map(|session| {
            let (to_second, to_first) = (2 * self.index, 2 * self.index + 1);
            let (tx, rx) = match session.first {
                true => (to_second, to_first),
                false => (to_first, to_second),
            };
            Ends {
                tx: Producer::new(SharedRing::new(&session.memory, tx)),
                rx: Consumer::new(SharedRing::new(&session.memory, rx)),
                session,
            }
        });
    }

    /// Unplugs a peer that does not keep the rules.
    fn unplug(&mut self, broken: Broken) {
        tracing::warn!(wire = self.name, queue = self.index, "{broken}: unplugged");
        self.ends = None;
        self.link.give_up(self.generation);
    }

    /// The next frame, in `received`.
    fn take(&mut self) -> Option<(usize, RxMeta)> {
        if let Some(last) = &mut self.last {
            if let Ok(Some(frame)) = last.take(&mut self.received) {
                return Some(frame);
            }
            self.last = None;
        }
        match self.ends.as_mut()?.rx.take(&mut self.received) {
            Ok(frame) => frame,
            Err(broken) => {
                self.unplug(broken);
                None
            }
        }
    }

    /// Whether a frame comes within the time to spin.
    fn spin(&mut self) -> Result<bool, Broken> {
        let Some(ends) = self.ends.as_mut().filter(|_| !self.spin.is_zero()) else {
            return Ok(false);
        };
        let start = Instant::now();
        loop {
            // The clock costs more than the look: look often.
            for _ in 0..64 {
                if !ends.rx.is_empty()? {
                    return Ok(true);
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= self.spin || self.link.generation() != self.generation {
                return Ok(false);
            }
        }
    }
}

impl Queue for WireQueue {
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&[u8], RxMeta),
    ) -> Result<usize, Error> {
        self.follow();
        let mut shown = 0;
        while shown < budget
            && let Some((len, meta)) = self.take()
        {
            shown += 1;
            self.stats.rx_frames += 1;
            self.stats.rx_bytes += len as u64;
            sink(&self.received[..len], meta);
        }
        if let Some(ends) = &mut self.ends {
            ends.rx.release();
        }
        Ok(shown)
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.follow();
        self.reserved = None;
        if len > MAX_FRAME {
            return None;
        }
        if let Some(ends) = &mut self.ends {
            match ends.tx.reserve(len) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(broken) => self.unplug(broken),
            }
        }
        self.reserved = Some(len);
        match &mut self.ends {
            Some(ends) => Some(ends.tx.room()),
            None => {
                self.unplugged.resize(MAX_FRAME, 0);
                Some(&mut self.unplugged[..len])
            }
        }
    }

    fn commit(&mut self, len: usize, meta: TxMeta) {
        let reserved = self.reserved.take();
        assert!(reserved.is_some_and(|room| len <= room), "nothing reserved");
        let meta = RxMeta {
            checksum: match meta.checksum {
                Some(_) => RxChecksum::Good,
                None => RxChecksum::Unknown,
            },
            gso_size: meta.gso.map_or(0, |gso| gso.size),
        };
        match &mut self.ends {
            // A frame of no bytes stands for nothing on the wire.
            Some(ends) if ends.tx.is_reserved() && len > 0 => {
                ends.tx.commit(len, meta);
                self.committed += 1;
                self.stats.tx_frames += 1;
                self.stats.tx_bytes += len as u64;
            }
            _ => self.stats.tx_dropped += 1,
        }
    }

    fn flush(&mut self) -> Result<usize, Error> {
        if let Some(ends) = &mut self.ends
            && ends.tx.publish()
        {
            ends.session.bells[self.index].ring();
        }
        Ok(std::mem::take(&mut self.committed))
    }

    fn wait_fd(&self) -> Option<RawFd> {
        Some(self.link.bell(self.index).as_raw_fd())
    }

    fn arm(&mut self) -> bool {
        self.follow();
        if self.last.is_some() {
            return false;
        }
        self.armed = true;
        // When a session begins or ends after this, the link rings the bell.
        let sleeps = match self.spin() {
            Ok(true) => Ok(false),
            Ok(false) => match &mut self.ends {
                Some(ends) => ends.rx.prepare_sleep(),
                None => Ok(true),
            },
            Err(broken) => Err(broken),
        };
        sleeps.unwrap_or_else(|broken| {
            self.unplug(broken);
            false
        })
    }

    fn disarm(&mut self, rung: bool) {
        if std::mem::take(&mut self.armed) {
            if let Some(ends) = &mut self.ends {
                ends.rx.awake();
            }
            if rung {
                self.link.bell(self.index).silence();
            }
        }
    }

    fn stats(&self) -> QueueStats {
        self.stats
    }
}

#[cfg(test)]
#[path = "wire/tests.rs"]
mod tests;
