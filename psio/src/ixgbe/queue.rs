//! A queue pair: what a worker holds.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::access::Bus;
use super::device::Card;
use super::regs::{RDT, TDT};
use super::rx_ring::RxRing;
use super::tx_ring::TxRing;
use super::watch::{IDLE_ROUNDS, LONGEST_SLEEP};
use super::{interrupts, receive, statistics, transmit};
use crate::sys::Bell;
use crate::{Error, MAX_FRAME, Queue, QueueStats, RxMeta, TxMeta};

/// How long a queue that stops waits for its last frames to leave.
const DRAIN_STEP: Duration = Duration::from_micros(100);
const DRAIN_STEPS: usize = 100;

/// One receive and one transmit ring of a card. When it is dropped the card stops using its memory
/// first.
pub struct IxgbeQueue<B: Bus> {
    card: Arc<Card<B>>,
    index: usize,
    rx: RxRing,
    tx: TxRing,
    /// Rung by the queue's interrupt.
    bell: Option<Bell>,
    /// Rounds since something was received.
    idle_rounds: u32,
    /// Why the worker must not go to sleep again.
    error: Option<Error>,
    /// Somebody was refused room: the queue is to be polled until there is some.
    starved: bool,
    /// Dropped by the card for want of descriptors; reading its counter clears it.
    missed: AtomicU64,
}

impl<B: Bus> IxgbeQueue<B> {
    /// Allocates the rings and starts them.
    pub(super) fn open(card: Arc<Card<B>>, index: usize) -> Result<IxgbeQueue<B>, Error> {
        let (bus, config) = (&card.bus, &card.config);
        let rx = RxRing::new(bus, config.rx_descriptors, config.buffer_shift())?;
        let tx = TxRing::new(bus, config.tx_descriptors, config.mtu + 14)?;
        let bell = bus.vector(index).map(Bell::from_fd);
        let queue = IxgbeQueue {
            index,
            rx,
            tx,
            bell,
            idle_rounds: 0,
            error: None,
            starved: false,
            missed: AtomicU64::new(0),
            card,
        };
        // From here on, dropping it stops it.
        let (bus, config) = (&queue.card.bus, &queue.card.config);
        transmit::start_queue(bus, index, &queue.tx)?;
        receive::start_queue(bus, index, &queue.rx, config)?;
        Ok(queue)
    }

    /// Nothing has come.
    fn idle(&mut self) -> Result<(), Error> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        self.idle_rounds += 1;
        if self.idle_rounds < IDLE_ROUNDS {
            return Ok(());
        }
        self.idle_rounds = 0;
        self.card.link.look(&self.card.bus)
    }

    /// Gives the last frames time to leave, then stops both rings; if one does not stop, its memory
    /// is never given back.
    fn stop(&mut self) {
        let bus = &self.card.bus;
        interrupts::mask(bus, self.index);
        for _ in 0..DRAIN_STEPS {
            self.tx.clean();
            if self.tx.is_idle() {
                break;
            }
            bus.pause(DRAIN_STEP);
        }
        if let Err(error) = receive::stop_queue(bus, self.index) {
            tracing::error!(queue = self.index, "{error}");
            self.rx.leak();
        }
        if let Err(error) = transmit::stop_queue(bus, self.index) {
            tracing::error!(queue = self.index, "{error}");
            self.tx.leak();
        }
    }
}

impl<B: Bus> Drop for IxgbeQueue<B> {
    fn drop(&mut self) {
        self.stop();
        self.card.close(self.index);
    }
}

impl<B: Bus> Queue for IxgbeQueue<B> {
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&[u8], RxMeta),
    ) -> Result<usize, Error> {
        let (shown, used) = self.rx.receive(budget, sink);
        if used == 0 {
            self.idle()?;
        } else {
            self.idle_rounds = 0;
            // One write to the card for all of them: it costs as much as dozens of frames.
            let tail = u32::from(self.rx.tail());
            self.card.bus.write(RDT.at(self.index), tail);
        }
        Ok(shown)
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        let room = self.tx.reserve(len);
        if room.is_none() {
            self.starved = true;
        }
        room
    }

    fn commit(&mut self, len: usize, meta: TxMeta) {
        self.tx.commit(len, meta);
    }

    fn flush(&mut self) -> Result<usize, Error> {
        let Some((frames, tail)) = self.tx.hand_over() else {
            return Ok(0);
        };
        self.card.bus.write(TDT.at(self.index), tail.into());
        Ok(frames)
    }

    fn wait_fd(&self) -> Option<RawFd> {
        self.bell.as_ref().map(AsRawFd::as_raw_fd)
    }

    fn arm(&mut self) -> bool {
        if let Err(error) = self.card.link.look(&self.card.bus) {
            self.error = Some(error);
            return false;
        }
        let Some(bell) = &self.bell else {
            return true;
        };
        // No interrupt tells of room to send.
        if self.starved {
            self.starved = !self.tx.make_room(MAX_FRAME);
            if self.starved {
                return false;
            }
        }
        bell.silence();
        interrupts::unmask(&self.card.bus, self.index);
        if self.rx.has_frames() {
            interrupts::mask(&self.card.bus, self.index);
            return false;
        }
        true
    }

    fn disarm(&mut self, rung: bool) {
        if let Some(bell) = &self.bell {
            interrupts::mask(&self.card.bus, self.index);
            if rung {
                bell.silence();
            }
        }
    }

    fn longest_sleep(&self) -> Option<Duration> {
        Some(LONGEST_SLEEP)
    }

    fn stats(&self) -> QueueStats {
        let drops = statistics::queue_drops(&self.card.bus, self.index, self.card.config.queues);
        let missed = self.missed.fetch_add(drops, Ordering::Relaxed) + drops;
        let (rx, tx) = (&self.rx.counts, &self.tx.counts);
        QueueStats {
            rx_frames: rx.frames,
            rx_bytes: rx.bytes,
            rx_dropped: rx.dropped + self.rx.lost() + missed,
            tx_frames: tx.frames,
            tx_bytes: tx.bytes,
            tx_dropped: tx.dropped,
        }
    }
}
