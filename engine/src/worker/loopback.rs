//! The way back into the stack: datagrams for 127.0.0.0/8, ::1 and the stack's own addresses.
//!
//! They go from a worker's output to its own input by a queue, without a device and without
//! checksums: both ends of a connection belong to the worker that opened it. Only where both ends
//! connect do they cross to another worker.

use super::Stack;
use crate::net::Destination;
use crate::net::ipv6::Destination6;
use crate::shared::Message;
use crate::stats::Counter;
use crate::wire::{DropReason, Ipv4Packet, Ipv6Packet, protocol};
use psio::{RxChecksum, RxMeta};
use std::collections::VecDeque;

/// Largest datagram of the loopback, as on Linux's `lo`.
pub const MTU: u32 = 65_536;

/// Datagrams that wait.
const MAX_DATAGRAMS: usize = 1024;
/// Bytes that wait, so that they stay in the processor's caches; the last datagram may go beyond.
const MAX_BYTES: usize = 1 << 20;
/// Buffers that are kept for further datagrams.
const MAX_SPARE: usize = 64;

/// Datagrams on their way back.
#[derive(Default)]
pub struct Loopback {
    queue: VecDeque<Looped>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
}

/// A datagram on its way back.
struct Looped {
    /// IP header and payload, and perhaps old bytes behind them.
    buffer: Vec<u8>,
    len: usize,
    /// Segment size of a super-segment, or 0.
    gso_size: u16,
}

impl Loopback {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether no further datagram is to be added.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= MAX_DATAGRAMS || self.bytes >= MAX_BYTES
    }

    /// Adds a datagram of `len` bytes that `build` writes in full; `gso_size` is the segment size of
    /// a super-segment, or 0.
    pub fn push(&mut self, len: usize, gso_size: u16, build: impl FnOnce(&mut [u8])) {
        let mut buffer = self.spare.pop().unwrap_or_default();
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        build(&mut buffer[..len]);
        self.bytes += len;
        self.queue.push_back(Looped {
            buffer,
            len,
            gso_size,
        });
    }

    fn pop(&mut self) -> Option<Looped> {
        let looped = self.queue.pop_front()?;
        self.bytes -= looped.len;
        Some(looped)
    }

    fn recycle(&mut self, looped: Looped) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(looped.buffer);
        }
    }
}

/// What is sent back starts from its connection's worker, and needs no search.
const LOOPED: usize = usize::MAX;

impl Stack {
    /// Takes at most `budget` of the datagrams that were sent back; returns whether there was one.
    pub fn receive_looped(&mut self, budget: usize) -> bool {
        let waiting = self.looped.queue.len().min(budget);
        for _ in 0..waiting {
            if let Some(looped) = self.looped.pop() {
                self.on_looped(&looped.buffer[..looped.len], looped.gso_size);
                self.looped.recycle(looped);
            }
        }
        waiting > 0
    }

    /// Takes a datagram that this stack has sent to itself.
    pub fn on_looped(&mut self, datagram: &[u8], gso_size: u16) {
        self.count(Counter::frames_in);
        if let Err(reason) = self.try_looped(datagram, gso_size) {
            self.counters().drop_frame(reason);
        }
    }

    fn try_looped(&mut self, datagram: &[u8], gso_size: u16) -> Result<(), DropReason> {
        let meta = RxMeta {
            checksum: RxChecksum::Good,
            gso_size,
        };
        if datagram.first().is_some_and(|first| first >> 4 == 6) {
            let packet = Ipv6Packet::parse(datagram)?;
            let ends = (packet.dst.into(), packet.src.into());
            if packet.next_header == protocol::TCP
                && let Some(owner) = self.other_owner(ends.0, ends.1, packet.payload, LOOPED)
            {
                self.redirect(owner, Message::Looped(datagram.to_vec(), gso_size));
                return Ok(());
            }
            return self.on_ipv6_packet(&packet, Destination6::Ours, meta, true);
        }
        let packet = Ipv4Packet::parse(datagram)?;
        let ends = (packet.dst.into(), packet.src.into());
        if packet.protocol == protocol::TCP
            && let Some(owner) = self.other_owner(ends.0, ends.1, packet.payload(), LOOPED)
        {
            self.redirect(owner, Message::Looped(datagram.to_vec(), gso_size));
            return Ok(());
        }
        self.on_packet(&packet, Destination::Ours, meta, true)
    }

    /// Sends back a datagram that belongs to no connection, or drops it if too many wait.
    pub fn loop_back(&mut self, datagram: &[u8]) {
        self.loop_back_built(datagram.len(), |room| room.copy_from_slice(datagram));
    }

    /// Like [`loop_back`](Self::loop_back), for `len` bytes that `build` writes in full.
    pub fn loop_back_built(&mut self, len: usize, build: impl FnOnce(&mut [u8])) {
        if self.looped.is_full() {
            self.count(Counter::loopback_full);
        } else {
            self.looped.push(len, 0, build);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_in_number_and_bytes() {
        for (len, most) in [(40, MAX_DATAGRAMS), (65_000, MAX_BYTES.div_ceil(65_000))] {
            let mut looped = Loopback::default();
            let mut pushed = 0;
            while !looped.is_full() {
                looped.push(len, 0, |room| room.fill(1));
                pushed += 1;
            }
            assert_eq!(pushed, most);
            looped.pop().unwrap();
            assert!(!looped.is_full());
        }
    }

    #[test]
    fn a_buffer_that_is_used_again_shows_the_new_datagram_only() {
        let mut looped = Loopback::default();
        for (len, byte) in [(100, 1), (20, 2), (60_000, 3)] {
            looped.push(len, 0, |room| {
                assert_eq!(room.len(), len);
                room.fill(byte);
            });
            let taken = looped.pop().unwrap();
            assert_eq!(taken.buffer[..taken.len], vec![byte; len]);
            looped.recycle(taken);
        }
        assert!(looped.is_empty() && looped.bytes == 0);
    }
}
