//! What the card takes and where it goes: address filters (§7.1.1 of the datasheet) and 5-tuple
//! filters (§7.1.2.5), which go before RSS.

use std::net::SocketAddrV4;

use super::access::Bus;
use super::regs::*;
use crate::Error;

/// 5-tuple filters of the card.
pub const FIVE_TUPLES: usize = 128;

/// The layer 4 protocol of a 5-tuple.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A flow of IPv4, or several: what is `None` may be anything. The card has no such filters for IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FiveTuple {
    /// The protocol.
    pub protocol: Protocol,
    /// The sender.
    pub source: Option<SocketAddrV4>,
    /// The receiver.
    pub destination: Option<SocketAddrV4>,
}

/// Takes frames to the card's own address, to all, and to any group: which groups the stack is in
/// (those of IPv6's neighbour discovery) the card is not told. Promiscuous only where wanted.
pub fn set_up<B: Bus>(bus: &B, promiscuous: bool) {
    let all = if promiscuous { FCTRL_UPE } else { 0 };
    bus.write(FCTRL, FCTRL_BAM | FCTRL_MPE | all);
    for register in RAH.all().skip(1) {
        bus.write(register, 0);
    }
    for register in MTA.all().chain(VFTA.all()) {
        bus.write(register, 0);
    }
    // Tagged frames are told from others when they are taken.
    bus.clear(VLNCTRL, VLNCTRL_VFE);
    for register in FTQF.all() {
        bus.write(register, 0);
    }
}

/// Sends the frames of a flow to a queue, by filter `index`.
pub fn steer<B: Bus>(bus: &B, index: usize, flow: FiveTuple, queue: usize) {
    let address =
        |end: Option<SocketAddrV4>| end.map_or(0, |end| u32::from_le_bytes(end.ip().octets()));
    let port = |end: Option<SocketAddrV4>| end.map_or(0, |end| u32::from(end.port().to_be()));
    // A filter is switched on last, when all of it is there.
    bus.write(SAQF.at(index), address(flow.source));
    bus.write(DAQF.at(index), address(flow.destination));
    bus.write(
        SDPQF.at(index),
        port(flow.destination) << 16 | port(flow.source),
    );
    bus.write(
        L34T_IMIR.at(index),
        L34T_IMIR_BASE | (queue as u32) << L34T_IMIR_QUEUE_SHIFT,
    );
    // Ignored: source address and port (bits 0 and 2), destination address and port (1 and 3).
    let mut ignored = 0;
    if flow.source.is_none() {
        ignored |= 0b00101;
    }
    if flow.destination.is_none() {
        ignored |= 0b01010;
    }
    let protocol = match flow.protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
    };
    bus.write(
        FTQF.at(index),
        FTQF_ENABLE
            | FTQF_ANY_POOL
            | ignored << FTQF_IGNORE_SHIFT
            | 1 << FTQF_PRIORITY_SHIFT
            | protocol,
    );
}

/// Switches filter `index` off.
pub fn release<B: Bus>(bus: &B, index: usize) {
    bus.write(FTQF.at(index), 0);
}

/// Which filters are taken.
#[derive(Default)]
pub struct Taken(u128);

impl Taken {
    /// A filter that is free.
    ///
    /// # Errors
    /// None is.
    pub fn take(&mut self, card: &str) -> Result<usize, Error> {
        let index = self.0.trailing_ones() as usize;
        if index >= FIVE_TUPLES {
            return Err(Error::Refused {
                name: card.to_owned(),
                reason: format!("all {FIVE_TUPLES} 5-tuple filters are taken"),
            });
        }
        self.0 |= 1 << index;
        Ok(index)
    }

    /// Whether the filter was taken; it is free afterwards.
    pub fn give_back(&mut self, index: usize) -> bool {
        let taken = index < FIVE_TUPLES && self.0 >> index & 1 != 0;
        if taken {
            self.0 &= !(1 << index);
        }
        taken
    }
}
