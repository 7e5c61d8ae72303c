//! The card's counters (§8.2.3.23 of the datasheet), which reading clears: they are added up here.

use super::access::{Bus, is_gone};
use super::regs::*;

/// What the port has counted since it was set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortStatistics {
    /// Good frames that passed the filters.
    pub rx_frames: u64,
    /// Their bytes, with the frame check sequence.
    pub rx_bytes: u64,
    /// All frames received, also bad ones and those for others.
    pub rx_total: u64,
    /// Frames for which the packet buffer had no room.
    pub rx_missed: u64,
    /// Frames with a wrong frame check sequence.
    pub crc_errors: u64,
    /// Frames whose length field was wrong.
    pub length_errors: u64,
    /// Good frames sent.
    pub tx_frames: u64,
    /// Their bytes, with the frame check sequence.
    pub tx_bytes: u64,
}

/// Counters that the card keeps apart for some queues.
pub const QUEUE_COUNTERS: usize = 16;

/// Gives each of the first sixteen queues counters of its own, and clears all.
pub fn set_up<B: Bus>(bus: &B) {
    for (base, register) in (0..).step_by(4).zip(RQSMR.all().zip(TQSM.all())) {
        // Queues beyond share the last.
        let map = [0, 1, 2, 3].map(|i| (base + i).min(QUEUE_COUNTERS - 1) as u8);
        bus.write(register.0, u32::from_le_bytes(map));
        bus.write(register.1, u32::from_le_bytes(map));
    }
    PortStatistics::default().collect(bus);
    for register in QPRC.all().chain(QPRDC.all()).chain(QPTC.all()) {
        bus.read(register);
    }
}

impl PortStatistics {
    /// Adds what the card has counted since it was last read; nothing if it is gone.
    pub fn collect<B: Bus>(&mut self, bus: &B) {
        let before = *self;
        self.add(bus);
        if is_gone(bus) {
            *self = before;
        }
    }

    fn add<B: Bus>(&mut self, bus: &B) {
        // Of 36 bits: the low half is read first, and keeps the high one for its reading.
        let wide = |low, high| u64::from(bus.read(low)) | u64::from(bus.read(high) & 0xf) << 32;
        self.rx_frames += u64::from(bus.read(GPRC));
        self.rx_bytes += wide(GORCL, GORCH);
        self.rx_total += u64::from(bus.read(TPR));
        self.rx_missed += RXMPC.all().map(|r| u64::from(bus.read(r))).sum::<u64>();
        self.crc_errors += u64::from(bus.read(CRCERRS));
        self.length_errors += u64::from(bus.read(RLEC));
        self.tx_frames += u64::from(bus.read(GPTC));
        self.tx_bytes += wide(GOTCL, GOTCH);
        bus.read(TPT);
    }
}

/// Frames that queue `queue` dropped for want of descriptors since this was last read; 0 for a queue
/// without a counter of its own.
pub fn queue_drops<B: Bus>(bus: &B, queue: usize, queues: usize) -> u64 {
    if queue >= QUEUE_COUNTERS - usize::from(queues > QUEUE_COUNTERS) {
        return 0;
    }
    match bus.read(QPRDC.at(queue)) {
        u32::MAX if is_gone(bus) => 0,
        drops => drops.into(),
    }
}
