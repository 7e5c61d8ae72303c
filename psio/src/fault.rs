//! A queue on which frames are lost, doubled, damaged, reordered and delayed, the same way every
//! time for the same seed.

mod config;
mod lane;

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::offload::send;
use crate::segment::complete_checksum;
use crate::sys::{AnyReadable, Timer};
use crate::{
    Capabilities, Device, Error, MAX_FRAME, MacAddr, Queue, QueueStats, Rss, RxChecksum, RxMeta,
    TxMeta,
};
pub use config::{FaultConfig, Faults};
use lane::{Frame, Lane};

/// How soon to try again where the device had no room for a frame.
const RETRY: Duration = Duration::from_millis(1);

/// Frames that may wait for room in the device before the stack is lent no more.
const WAITING: usize = 256;

/// Tells the time since some fixed moment.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The monotonic clock of the system.
pub fn real_clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || start.elapsed())
}

/// A device with faults on all of its queues.
pub struct FaultyDevice<D> {
    inner: D,
    config: FaultConfig,
}

impl<D: Device> FaultyDevice<D> {
    /// Wraps a device.
    pub fn new(inner: D, config: FaultConfig) -> FaultyDevice<D> {
        FaultyDevice { inner, config }
    }
}

impl<D: Device> Device for FaultyDevice<D> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn mac(&self) -> MacAddr {
        self.inner.mac()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn rss(&self) -> Option<Rss> {
        self.inner.rss()
    }

    fn open_queue(&mut self, index: usize) -> Result<Box<dyn Queue>, Error> {
        let queue = self.inner.open_queue(index)?;
        // Queues with one seed would lose the same frames.
        let seed = self.config.seed.wrapping_add(index as u64 * 0x1_0000);
        let config = FaultConfig {
            seed,
            ..self.config
        };
        Ok(Box::new(Faulty::new(queue, config)?))
    }
}

/// A queue with faults. Where a direction has any, its super-segments are cut and its checksums
/// completed first, so that the faults act on the packets of a real wire.
pub struct Faulty<Q> {
    inner: Q,
    clock: Clock,
    receive: Lane,
    transmit: Lane,
    frame: Box<[u8]>,
    reserved: Option<usize>,
    /// Frames committed since the last flush.
    committed: usize,
    timer: Timer,
    wait: Option<AnyReadable>,
    /// What the stack has seen, in the directions that have faults.
    seen: QueueStats,
}

impl<Q: Queue> Faulty<Q> {
    /// Wraps a queue.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn new(inner: Q, config: FaultConfig) -> Result<Faulty<Q>, Error> {
        Faulty::with_clock(inner, config, real_clock())
    }

    /// Wraps a queue whose delays go by a clock of the caller's. What sleeps on
    /// [`wait_fd`](Queue::wait_fd) is woken by the real one.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn with_clock(inner: Q, config: FaultConfig, clock: Clock) -> Result<Faulty<Q>, Error> {
        let timer = Timer::new().map_err(Error::io("timerfd_create"))?;
        let wait = inner
            .wait_fd()
            .map(|fd| AnyReadable::new(&[fd, timer.as_raw_fd()]))
            .transpose()
            .map_err(Error::io("epoll_create"))?;
        Ok(Faulty {
            inner,
            clock,
            receive: Lane::new(config.receive, config.seed),
            transmit: Lane::new(config.transmit, !config.seed),
            frame: vec![0; MAX_FRAME].into(),
            reserved: None,
            committed: 0,
            timer,
            wait,
            seen: QueueStats::default(),
        })
    }

    /// Hands over the frames whose time has come, as long as the device has room.
    fn pump(&mut self) -> Result<(), Error> {
        self.transmit.advance((self.clock)());
        let mut sent = false;
        while let Some(frame) = self.transmit.first()
            && send(&mut self.inner, &frame.bytes, TxMeta::default())
        {
            self.transmit.pop();
            sent = true;
        }
        if sent {
            self.inner.flush()?;
        }
        Ok(())
    }

    /// When there will be something to do, without a frame from outside.
    fn next_due(&self, now: Duration) -> Option<Duration> {
        let retry = (self.transmit.arrived() > 0).then(|| now + RETRY);
        let due = [self.receive.next_due(), self.transmit.next_due(), retry];
        due.into_iter().flatten().min()
    }
}

impl<Q: Queue> Queue for Faulty<Q> {
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&[u8], RxMeta),
    ) -> Result<usize, Error> {
        if self.transmit.any() {
            self.pump()?;
        }
        if !self.receive.any() {
            return self.inner.receive(budget, sink);
        }
        let now = (self.clock)();
        let wanted = budget.saturating_sub(self.receive.arrived());
        let lane = &mut self.receive;
        self.inner
            .receive(wanted, &mut |frame, meta| lane.enter(frame, meta, now))?;
        self.receive.advance(now);
        for shown in 0..budget {
            let Some(Frame { bytes, meta }) = self.receive.pop() else {
                return Ok(shown);
            };
            self.seen.rx_frames += 1;
            self.seen.rx_bytes += bytes.len() as u64;
            sink(&bytes, meta);
        }
        Ok(budget)
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        if !self.transmit.any() {
            return self.inner.reserve(len);
        }
        self.reserved = None;
        if len > MAX_FRAME || self.transmit.arrived() >= WAITING {
            return None;
        }
        self.reserved = Some(len);
        Some(&mut self.frame[..len])
    }

    fn commit(&mut self, len: usize, meta: TxMeta) {
        if !self.transmit.any() {
            return self.inner.commit(len, meta);
        }
        let reserved = self.reserved.take();
        assert!(reserved.is_some_and(|room| len <= room), "nothing reserved");
        let frame = &mut self.frame[..len];
        let gso_size = match (meta.gso, meta.checksum) {
            (Some(gso), _) => gso.size,
            (None, Some(offload)) => {
                complete_checksum(frame, offload);
                0
            }
            (None, None) => 0,
        };
        self.committed += 1;
        self.seen.tx_frames += 1;
        self.seen.tx_bytes += len as u64;
        let meta = RxMeta {
            checksum: RxChecksum::Unknown,
            gso_size,
        };
        self.transmit.enter(frame, meta, (self.clock)());
    }

    fn flush(&mut self) -> Result<usize, Error> {
        if !self.transmit.any() {
            return self.inner.flush();
        }
        self.pump()?;
        Ok(std::mem::take(&mut self.committed))
    }

    fn wait_fd(&self) -> Option<RawFd> {
        self.wait.as_ref().map(AsRawFd::as_raw_fd)
    }

    fn arm(&mut self) -> bool {
        let now = (self.clock)();
        self.receive.advance(now);
        if self.receive.arrived() > 0 {
            return false;
        }
        let after = match self.next_due(now) {
            Some(due) if due <= now => return false,
            Some(due) => Some(due - now),
            None => None,
        };
        // Without a timer the delayed frame would come late: better not to sleep at all.
        self.timer.set(after).is_ok() && self.inner.arm()
    }

    fn disarm(&mut self, rung: bool) {
        // Fails only for a time that is out of range, which none is not.
        let _ = self.timer.set(None);
        self.inner.disarm(rung);
    }

    fn longest_sleep(&self) -> Option<Duration> {
        self.inner.longest_sleep()
    }

    fn stats(&self) -> QueueStats {
        let mut stats = self.inner.stats();
        if self.receive.any() {
            stats.rx_frames = self.seen.rx_frames;
            stats.rx_bytes = self.seen.rx_bytes;
            stats.rx_dropped += self.receive.dropped();
        }
        if self.transmit.any() {
            stats.tx_frames = self.seen.tx_frames;
            stats.tx_bytes = self.seen.tx_bytes;
            stats.tx_dropped += self.transmit.dropped();
        }
        stats
    }
}

#[cfg(test)]
#[path = "fault/tests.rs"]
mod tests;
