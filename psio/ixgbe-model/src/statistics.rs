//! The counters, which reading clears.

use crate::{Card, QUEUES};

const RQSMR: u32 = 0x2300;
const TQSM: u32 = 0x8600;

/// Bytes that the wire carries with each frame and memory does not: its check sequence.
pub const FCS: u64 = 4;

/// What has not been read yet.
#[derive(Default)]
pub struct Counters {
    pub crc_errors: u32,
    pub length_errors: u32,
    pub missed: u32,
    rx_frames: u32,
    rx_bytes: u64,
    pub rx_total: u32,
    tx_frames: u32,
    tx_bytes: u64,
    tx_total: u32,
    queue_rx: [u32; 16],
    queue_drops: [u32; 16],
    queue_tx: [u32; 16],
    /// The upper half of a counter whose lower half has been read.
    upper: u32,
}

impl Card {
    /// The counter to which a queue is mapped.
    fn counter_of(&self, map: u32, queue: usize) -> usize {
        debug_assert!(queue < QUEUES);
        let word = self.file.get(map + 4 * (queue as u32 / 4));
        (word >> (8 * (queue % 4)) & 0xf) as usize
    }

    /// A good frame has passed the filters.
    pub(crate) fn count_rx(&mut self, len: usize) {
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += len as u64 + FCS;
    }

    /// A frame was written to a queue's buffers.
    pub(crate) fn count_queue_rx(&mut self, queue: usize) {
        let counter = self.counter_of(RQSMR, queue);
        self.counters.queue_rx[counter] += 1;
    }

    /// A frame was dropped because its queue had no descriptor.
    pub(crate) fn count_queue_drop(&mut self, queue: usize) {
        let counter = self.counter_of(RQSMR, queue);
        self.counters.queue_drops[counter] += 1;
    }

    /// A frame has left.
    pub(crate) fn count_tx(&mut self, queue: usize, len: usize) {
        let counter = self.counter_of(TQSM, queue);
        self.counters.queue_tx[counter] += 1;
        self.counters.tx_frames += 1;
        self.counters.tx_total += 1;
        self.counters.tx_bytes += len as u64 + FCS;
    }

    pub(crate) fn read_counter(&mut self, offset: u32) -> u32 {
        let counters = &mut self.counters;
        let take = std::mem::take::<u32>;
        let index = (offset as usize & 0x3ff) / 0x40;
        match offset {
            0x4000 => take(&mut counters.crc_errors),
            0x4040 => take(&mut counters.length_errors),
            0x3fa0 => take(&mut counters.missed),
            0x4074 => take(&mut counters.rx_frames),
            0x4080 => take(&mut counters.tx_frames),
            0x40d0 => take(&mut counters.rx_total),
            0x40d4 => take(&mut counters.tx_total),
            0x4088 | 0x4090 => {
                let bytes = match offset {
                    0x4088 => std::mem::take(&mut counters.rx_bytes),
                    _ => std::mem::take(&mut counters.tx_bytes),
                };
                counters.upper = (bytes >> 32) as u32 & 0xf;
                bytes as u32
            }
            0x408c | 0x4094 => take(&mut counters.upper),
            0x1000..0x1400 if offset & 0x3f == 0x30 => take(&mut counters.queue_rx[index]),
            0x1400..0x1800 if offset & 0x3f == 0x30 => take(&mut counters.queue_drops[index]),
            0x6000..0x6400 => take(&mut counters.queue_tx[index]),
            0xee4c..0xee60 => self.read_director_counter(offset),
            // Counted by the card, but not by the model.
            _ => 0,
        }
    }
}
