//! Transmit set-up (§4.6.8 of the datasheet): what all queues share, and a queue's start and stop.

use std::time::Duration;

use super::access::{Bus, poll};
use super::regs::*;
use super::tx_ring::TxRing;
use crate::Error;

/// The packet buffer, all of it for one traffic class, in bytes.
const PACKET_BUFFER: u32 = 160 << 10;

/// Room in that buffer, in KB, beyond which no frame is fetched: that of the longest frame less.
const PACKET_THRESHOLD: u32 = 160 - 10;

/// Descriptors fetched ahead, and how many must wait before they are.
const PREFETCH: u32 = 32;
const PREFETCH_WHEN: u32 = 1;

/// How long a queue takes to start or to stop, at most.
const QUEUE_STEP: (Duration, u32) = (Duration::from_millis(1), 100);

/// Sets up what all queues share, and lets frames out.
pub fn set_up<B: Bus>(bus: &B) {
    // §4.6.8: the arbiter is off while the queues' layout changes: 64 queues, one buffer.
    bus.set(RTTDCS, RTTDCS_ARBDIS);
    bus.write(DTXMXSZRQ, DTXMXSZRQ_MAX);
    bus.write(MTQC, 0);
    for (index, register) in TXPBSIZE.all().enumerate() {
        bus.write(register, if index == 0 { PACKET_BUFFER } else { 0 });
    }
    for (index, register) in TXPBTHRESH.all().enumerate() {
        bus.write(register, if index == 0 { PACKET_THRESHOLD } else { 0 });
    }
    bus.clear(RTTDCS, RTTDCS_ARBDIS);
    bus.set(DMATXCTL, DMATXCTL_TE);
}

/// Starts queue `queue` on its ring.
///
/// # Errors
/// The queue did not start.
pub fn start_queue<B: Bus>(bus: &B, queue: usize, ring: &TxRing) -> Result<(), Error> {
    bus.write(TDBAL.at(queue), ring.address() as u32);
    bus.write(TDBAH.at(queue), (ring.address() >> 32) as u32);
    bus.write(TDLEN.at(queue), ring.count() as u32 * 16);
    // "Done" is written into the descriptors that ask for it, not kept apart.
    bus.write(TDWBAL.at(queue), 0);
    bus.write(TDWBAH.at(queue), 0);
    bus.write(TDH.at(queue), 0);
    bus.write(TDT.at(queue), 0);
    let thresholds = PREFETCH | PREFETCH_WHEN << TXDCTL_HTHRESH_SHIFT;
    bus.write(TXDCTL.at(queue), thresholds | TXDCTL_ENABLE);
    let started = (TXDCTL.at(queue), TXDCTL_ENABLE, TXDCTL_ENABLE);
    poll(bus, started, QUEUE_STEP, "the start of a transmit queue")
}

/// Stops queue `queue`: afterwards the card does not touch its ring or frames. What it has not sent by
/// then is not sent (§4.6.8.2).
///
/// # Errors
/// It did not stop.
pub fn stop_queue<B: Bus>(bus: &B, queue: usize) -> Result<(), Error> {
    bus.clear(TXDCTL.at(queue), TXDCTL_ENABLE);
    let stopped = (TXDCTL.at(queue), TXDCTL_ENABLE, 0);
    poll(bus, stopped, QUEUE_STEP, "the stop of a transmit queue")
}
