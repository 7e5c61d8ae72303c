//! A strict software model of Intel's 82599 network card.
//!
//! It behaves as the card's datasheet says towards a driver that keeps to the rules, and panics with a
//! clear message where silicon would silently corrupt memory, hang, or do what nobody wanted: a ring
//! that is not aligned, a tail beyond the ring or past the head, DMA outside mapped memory, a buffer or
//! descriptor that is touched while the card owns it, a register that it does not know. What silicon
//! leaves open it does at random, from a seed: how many descriptors it fetches ahead, when it writes
//! them back, how many at a time, when a queue has started or stopped.
//!
//! It shares no code and no constant with the driver: what both have wrong, both had to get wrong.
//! The card works when it is told to: [`Card::work`] does a random bit, [`Card::settle`] all that it
//! can do.

mod carried;
mod coalesce;
mod control;
mod cut;
mod director;
mod filter;
mod frame;
mod frames;
mod interrupts;
mod memory;
mod queues;
mod random;
mod receive;
mod registers;
mod statistics;
mod transmit;

use std::time::Duration;

pub use carried::Carried;
pub use frames::Frames;
pub use memory::{Allocation, HostMemory, Memory};

use carried::Periods;
use control::Control;
use director::Director;
use interrupts::Interrupts;
use queues::{RxQueue, TxQueue};
use random::Random;
use receive::PacketBuffer;
use registers::File;
use statistics::Counters;

/// Queues of each direction that the model has.
pub const QUEUES: usize = 64;

/// Bytes that may wait on the wire before transmission stalls.
const WIRE: usize = 4 << 20;

/// Says why the driver must not do this, and stops everything.
macro_rules! refuse {
    ($($what:tt)*) => {
        panic!("82599 model: {}", format_args!($($what)*))
    };
}
pub(crate) use refuse;

/// The card.
pub struct Card {
    file: File,
    control: Control,
    memory: Box<dyn Memory>,
    interrupts: Interrupts,
    counters: Counters,
    director: Director,
    buffer: PacketBuffer,
    rx: Vec<RxQueue>,
    tx: Vec<TxQueue>,
    random: Random,
    /// Since the model was made.
    now: Duration,
    /// Frames that have left, until they are taken.
    sent: Frames,
    offloaded: Offloaded,
    carried: Periods,
}

/// What the card did that a driver does not see from its counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offloaded {
    /// Frames that others were cut into.
    pub cut: u64,
    /// Segments that were merged with others.
    pub merged: u64,
}

impl Card {
    /// A card with a MAC address in its EEPROM, that reaches the driver's memory through `memory` and
    /// calls `interrupt` with the number of a vector to signal it. All that is left open is decided
    /// by `seed`.
    pub fn new(
        mac: [u8; 6],
        memory: Box<dyn Memory>,
        interrupt: Box<dyn FnMut(usize) + Send>,
        seed: u64,
    ) -> Card {
        let mut card = Card {
            file: File::new(),
            control: Control::new(mac),
            memory,
            interrupts: Interrupts::new(interrupt),
            counters: Counters::default(),
            director: Director::default(),
            buffer: PacketBuffer::default(),
            rx: (0..QUEUES).map(|_| RxQueue::default()).collect(),
            tx: (0..QUEUES).map(|_| TxQueue::default()).collect(),
            random: Random::new(seed),
            now: Duration::ZERO,
            sent: Frames::default(),
            offloaded: Offloaded::default(),
            carried: Periods::default(),
        };
        card.load_eeprom();
        card
    }

    /// Lets time pass, and the card work meanwhile.
    pub fn pause(&mut self, time: Duration) {
        self.now += time;
        self.work();
    }

    /// Does a random bit of all that there is to do.
    pub fn work(&mut self) {
        self.now += Duration::from_micros(1);
        self.work_link();
        for queue in 0..QUEUES {
            self.work_tx(queue, false);
        }
        self.work_rx(false);
        self.fire();
    }

    /// Does all that can be done, until the driver does something or a frame arrives.
    pub fn settle(&mut self) {
        loop {
            self.now += Duration::from_millis(1);
            self.work_link();
            let mut busy = false;
            for queue in 0..QUEUES {
                busy |= self.work_tx(queue, true);
            }
            busy |= self.work_rx(true);
            self.fire();
            if !busy {
                return;
            }
        }
    }

    /// What was cut and merged so far.
    pub fn offloaded(&self) -> Offloaded {
        self.offloaded
    }

    /// The frames that have left, oldest first, without their check sequence.
    pub fn sent(&mut self) -> &mut Frames {
        &mut self.sent
    }

    /// Sends every frame that has left back to this card, as a plug on its port would that joins its
    /// two fibres; returns how many there were.
    pub fn loop_back(&mut self) -> usize {
        let mut sent = std::mem::take(&mut self.sent);
        let mut frames = 0;
        while let Some(frame) = sent.front() {
            self.arrive(frame);
            sent.pop();
            frames += 1;
        }
        self.sent = sent;
        frames
    }
}
