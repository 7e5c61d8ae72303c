//! Receive set-up (§4.6.7 of the datasheet): what all queues share, and a queue's start and stop.

use std::time::Duration;

use super::access::{Bus, poll};
use super::config::IxgbeConfig;
use super::regs::*;
use super::rx_ring::RxRing;
use crate::Error;

/// The packet buffer, all of it for one traffic class, in KB.
const PACKET_BUFFER: u32 = 512;

/// Room for headers in units of 64 bytes. No header is split off, but coalescing wants some.
const HEADER_ROOM: u32 = 4;

/// How long a queue takes to start or to stop, at most.
const QUEUE_STEP: (Duration, u32) = (Duration::from_millis(1), 100);

/// Sets up what all queues share; frames are taken from [`enable`] on.
pub fn set_up<B: Bus>(bus: &B, config: &IxgbeConfig) {
    bus.clear(RXCTRL, RXCTRL_RXEN);
    for (index, register) in RXPBSIZE.all().enumerate() {
        let size = if index == 0 { PACKET_BUFFER } else { 0 };
        bus.write(register, size << RXPBSIZE_SHIFT);
    }
    set_up_frames(bus, config);
    set_up_checksums(bus);
    set_up_coalescing(bus, config.coalescing);
}

/// Lengths, padding, and the frame check sequence, which is taken off.
fn set_up_frames<B: Bus>(bus: &B, config: &IxgbeConfig) {
    bus.set(HLREG0, HLREG0_TXCRCEN | HLREG0_RXCRCSTRP | HLREG0_TXPADEN);
    if config.mtu > 1500 {
        bus.set(HLREG0, HLREG0_JUMBOEN);
    } else {
        bus.clear(HLREG0, HLREG0_JUMBOEN);
    }
    bus.write(MAXFRS, (config.longest_frame() as u32) << MAXFRS_SHIFT);
    let control = bus.read(RDRXCTL) & !RDRXCTL_RSCFRSTSIZE;
    // §8.2.3.8.8: two bits read as zero and are to be written as one.
    let ones = RDRXCTL_CRCSTRIP | RDRXCTL_RSCACKC | RDRXCTL_FCOE_WRFIX;
    bus.write(RDRXCTL, control | ones);
}

fn set_up_checksums<B: Bus>(bus: &B) {
    // The hash takes the place of the fragment checksum in the descriptor.
    bus.write(RXCSUM, RXCSUM_IPPCSE | RXCSUM_PCSD);
}

/// Receive-side coalescing, RSC (§4.6.7.2.1).
fn set_up_coalescing<B: Bus>(bus: &B, coalescing: bool) {
    bus.set(RFCTL, RFCTL_NFSW_DIS | RFCTL_NFSR_DIS);
    if coalescing {
        bus.clear(RFCTL, RFCTL_RSC_DIS);
        bus.set(RSCDBU, RSCDBU_ACKDIS);
    } else {
        bus.set(RFCTL, RFCTL_RSC_DIS);
    }
    let headers = PSRTYPE_TCP | PSRTYPE_UDP | PSRTYPE_IPV4 | PSRTYPE_IPV6 | PSRTYPE_L2;
    bus.write(PSRTYPE.at(0), headers);
}

/// Lets frames in: with the path behind the MAC halted meanwhile (§4.6.7.1).
///
/// # Errors
/// The path did not halt.
pub fn enable<B: Bus>(bus: &B) -> Result<(), Error> {
    bus.set(SECRXCTRL, SECRXCTRL_RX_DIS);
    let halted = (SECRXSTAT, SECRXSTAT_RDY, SECRXSTAT_RDY);
    let step = (Duration::from_micros(10), 4000);
    poll(bus, halted, step, "the halt of the receive path")?;
    bus.set(RXCTRL, RXCTRL_RXEN);
    bus.clear(SECRXCTRL, SECRXCTRL_RX_DIS);
    Ok(())
}

/// Starts queue `queue` on its ring and hands all buffers over (§4.6.7.2).
///
/// # Errors
/// The queue did not start.
pub fn start_queue<B: Bus>(
    bus: &B,
    queue: usize,
    ring: &RxRing,
    config: &IxgbeConfig,
) -> Result<(), Error> {
    bus.write(RDBAL.at(queue), ring.address() as u32);
    bus.write(RDBAH.at(queue), (ring.address() >> 32) as u32);
    bus.write(RDLEN.at(queue), ring.count() as u32 * 16);
    // A queue that nobody empties must not hold up the others.
    let buffer = (1u32 << config.buffer_shift()) >> SRRCTL_BSIZEPKT_SHIFT;
    let header = HEADER_ROOM << SRRCTL_BSIZEHDR_SHIFT;
    let kind = SRRCTL_DESCTYPE_ADVANCED | SRRCTL_DROP_EN;
    bus.write(srrctl(queue), kind | header | buffer);
    let coalescing = match config.coalescing {
        true => RSCCTL_RSCEN | config.coalesced_descriptors() << RSCCTL_MAXDESC_SHIFT,
        false => 0,
    };
    bus.write(RSCCTL.at(queue), coalescing);
    bus.clear(dca_rxctrl(queue), DCA_RXCTRL_RESERVED);
    bus.write(RDH.at(queue), 0);
    bus.write(RDT.at(queue), 0);
    bus.set(RXDCTL.at(queue), RXDCTL_ENABLE | RXDCTL_VME);
    let started = (RXDCTL.at(queue), RXDCTL_ENABLE, RXDCTL_ENABLE);
    poll(bus, started, QUEUE_STEP, "the start of a receive queue")?;
    bus.write(RDT.at(queue), u32::from(ring.tail()));
    Ok(())
}

/// Stops queue `queue`: afterwards the card does not touch its ring or buffers (§4.6.7.1.2).
///
/// # Errors
/// It did not stop.
pub fn stop_queue<B: Bus>(bus: &B, queue: usize) -> Result<(), Error> {
    bus.clear(RXDCTL.at(queue), RXDCTL_ENABLE);
    let stopped = (RXDCTL.at(queue), RXDCTL_ENABLE, 0);
    poll(bus, stopped, QUEUE_STEP, "the stop of a receive queue")?;
    // What it had begun to write is written by then.
    bus.pause(Duration::from_micros(100));
    Ok(())
}
