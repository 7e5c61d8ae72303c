//! The queues' registers: where a ring lies, how far it was filled, and whether it runs.

use std::collections::VecDeque;

use crate::coalesce::Merge;
use crate::transmit::{Context, Flight, Piece};
use crate::{Card, refuse};

/// Bytes of a descriptor.
const DESCRIPTOR: u32 = 16;
/// Rings begin and end on a multiple of so many bytes.
const ALIGN: u32 = 128;
/// The longest ring, in bytes.
const LONGEST: u32 = 8192 * DESCRIPTOR;

const ENABLE: u32 = 1 << 25;
const DROP_EN: u32 = 1 << 28;

// Registers of a queue, from where its own begin.
const BAL: u32 = 0x0;
const BAH: u32 = 0x4;
const LEN: u32 = 0x8;
const HEAD: u32 = 0x10;
const SRRCTL: u32 = 0x14;
const TAIL: u32 = 0x18;
const CONTROL: u32 = 0x28;
const RSCCTL: u32 = 0x2c;
const WBAL: u32 = 0x38;

/// Whether a queue runs. It takes some readings of its control register until it does what it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    #[default]
    Off,
    Starting(usize),
    On,
    Stopping(usize),
}

impl State {
    /// What the control register shows, after one reading more.
    fn read(&mut self) -> u32 {
        match self {
            State::Starting(0) => *self = State::On,
            State::Stopping(0) => *self = State::Off,
            State::Starting(left) | State::Stopping(left) => *left -= 1,
            State::On | State::Off => {}
        }
        match self {
            State::On | State::Stopping(_) => ENABLE,
            State::Off | State::Starting(_) => 0,
        }
    }

    pub fn runs(self) -> bool {
        matches!(self, State::On | State::Stopping(_))
    }
}

/// Where a ring lies and how far it is.
#[derive(Clone, Copy, Default)]
pub struct Ring {
    pub base: u64,
    pub count: u32,
    /// The oldest descriptor that was not written back, and the first that the driver keeps.
    pub head: u32,
    pub tail: u32,
    /// The next to be fetched.
    pub fetched: u32,
}

impl Ring {
    pub fn next(&self, index: u32) -> u32 {
        if index + 1 == self.count {
            0
        } else {
            index + 1
        }
    }

    /// How far `to` is ahead of `from`.
    pub fn distance(&self, from: u32, to: u32) -> u32 {
        if to >= from {
            to - from
        } else {
            to + self.count - from
        }
    }

    pub fn address(&self, index: u32) -> u64 {
        self.base + u64::from(index * DESCRIPTOR)
    }

    /// Descriptors that can be fetched.
    pub fn waiting(&self) -> u32 {
        self.distance(self.fetched, self.tail)
    }

    /// The driver moves the tail; what lies between `known` and the old tail is the card's.
    fn advance(&mut self, known: u32, tail: u32, what: &str) {
        if tail >= self.count {
            refuse!(
                "the tail {tail} of {what} is beyond its {} descriptors",
                self.count
            );
        }
        let owned = self.distance(known, self.tail);
        if owned + self.distance(self.tail, tail) >= self.count {
            refuse!(
                "the tail of {what} goes from {} to {tail} past descriptor {known}, which is not done",
                self.tail
            );
        }
        self.tail = tail;
    }
}

/// A receive descriptor that was fetched.
pub struct Buffer {
    pub index: u32,
    /// The descriptor as the driver has left it.
    pub fetched: [u64; 2],
    pub address: u64,
    /// What was put at the buffer's beginning, to see whether somebody touches it.
    pub canary: [u8; 8],
    /// What is to be written back, once it is known.
    pub written: Option<[u64; 2]>,
}

#[derive(Default)]
pub struct RxQueue {
    pub state: State,
    pub ring: Ring,
    /// Fetched and not written back.
    pub buffers: VecDeque<Buffer>,
    /// How many of them hold something, and the number of the first since the start.
    pub used: usize,
    pub first: u64,
    pub merges: Vec<Merge>,
}

#[derive(Default)]
pub struct TxQueue {
    pub state: State,
    pub ring: Ring,
    /// The first descriptor that the driver cannot know to be done.
    pub known: u32,
    pub contexts: [Option<Context>; 2],
    /// The pieces of the frame that is being fetched.
    pub pieces: Vec<Piece>,
    /// What its first descriptor says, which alone says how it is to be offloaded.
    pub bits: u64,
    /// Fetched and not written back.
    pub flights: VecDeque<Flight>,
}

impl Card {
    pub(crate) fn read_rx_queue(&mut self, queue: usize, register: u32, offset: u32) -> u32 {
        match register {
            HEAD => self.rx[queue].ring.head,
            CONTROL => {
                let enabled = self.rx[queue].state.read();
                if self.rx[queue].state == State::Off {
                    self.rx[queue].buffers.clear();
                    self.rx[queue].merges.clear();
                }
                self.file.get(offset) & !ENABLE | enabled
            }
            _ => self.file.get(offset),
        }
    }

    pub(crate) fn read_tx_queue(&mut self, queue: usize, register: u32, offset: u32) -> u32 {
        match register {
            HEAD => self.tx[queue].ring.head,
            CONTROL => {
                let enabled = self.tx[queue].state.read();
                self.file.get(offset) & !ENABLE | enabled
            }
            _ => self.file.get(offset),
        }
    }

    pub(crate) fn write_rx_queue(&mut self, queue: usize, register: u32, at: u32, value: u32) {
        // No text is made for the one register that is written all the time.
        if register == TAIL && self.rx[queue].state.runs() {
            let ring = &mut self.rx[queue].ring;
            return ring.advance(ring.head, value, "a receive queue");
        }
        let what = format_args!("receive queue {queue}").to_string();
        let state = self.rx[queue].state;
        // Dropping without descriptors can be switched at any time, as Linux's driver does.
        let only_drops = register == SRRCTL && (value ^ self.file.get(at)) & !DROP_EN == 0;
        if !only_drops && !self.is_head_as_it_is(register, value, self.rx[queue].ring) {
            check_write(register, value, state, &what);
        }
        match register {
            CONTROL if value & ENABLE != 0 && state == State::Off => self.start_rx(queue, &what),
            CONTROL if value & ENABLE == 0 && state.runs() => {
                self.rx[queue].state = State::Stopping(self.random.below(4));
            }
            _ => {}
        }
        self.file.set(at, value);
    }

    pub(crate) fn write_tx_queue(&mut self, queue: usize, register: u32, at: u32, value: u32) {
        if register == TAIL && self.tx[queue].state.runs() {
            let TxQueue { ring, known, .. } = &mut self.tx[queue];
            return ring.advance(*known, value, "a transmit queue");
        }
        let what = format_args!("transmit queue {queue}").to_string();
        let state = self.tx[queue].state;
        if !self.is_head_as_it_is(register, value, self.tx[queue].ring) {
            check_write(register, value, state, &what);
        }
        match register {
            CONTROL if value & ENABLE != 0 && state == State::Off => self.start_tx(queue, &what),
            CONTROL if value & ENABLE == 0 && state.runs() => {
                self.tx[queue].state = State::Stopping(self.random.below(4));
            }
            WBAL if value & 1 != 0 => refuse!("{what}: write-back of the head is not modelled"),
            _ => {}
        }
        self.file.set(at, value);
    }

    /// Whether a write tells the head of a ring that has just been started where it is, as DPDK's driver
    /// does.
    fn is_head_as_it_is(&self, register: u32, value: u32, ring: Ring) -> bool {
        self.file.tolerant && register == HEAD && value == 0 && ring.tail == 0 && ring.fetched == 0
    }

    /// The ring as the registers from `page` on describe it.
    fn ring(&mut self, page: u32, what: &str) -> Ring {
        let (low, high) = (self.file.get(page + BAL), self.file.get(page + BAH));
        let base = u64::from(low) | u64::from(high) << 32;
        let bytes = self.file.get(page + LEN);
        if bytes == 0 || bytes > LONGEST {
            refuse!("{what} starts with a ring of {bytes} bytes");
        }
        if !self.memory.is_mapped(base, bytes as usize) {
            refuse!("{what} starts with its ring outside mapped memory");
        }
        let (head, tail) = (self.file.get(page + HEAD), self.file.get(page + TAIL));
        if head != 0 || tail != 0 {
            refuse!("{what} starts with head {head} and tail {tail}, not 0");
        }
        Ring {
            base,
            count: bytes / DESCRIPTOR,
            ..Ring::default()
        }
    }

    fn start_rx(&mut self, queue: usize, what: &str) {
        let page = 0x1000 + 0x40 * queue as u32;
        let ring = self.ring(page, what);
        self.check_rx_setup(queue, page, what);
        self.rx[queue] = RxQueue {
            state: State::Starting(self.random.below(4)),
            ring,
            ..RxQueue::default()
        };
    }

    /// What a receive queue depends on.
    fn check_rx_setup(&self, queue: usize, page: u32, what: &str) {
        let split = self.file.get(page + SRRCTL);
        let buffer = split & 0x1f;
        if split >> 25 & 7 != 1 {
            refuse!("{what}: only advanced descriptors with one buffer are modelled");
        }
        if !(1..=16).contains(&buffer) {
            refuse!("{what} has buffers of {buffer} KB");
        }
        let stripped = self.file.get(0x4240) >> 1 & 1;
        if self.file.get(0x2f00) >> 1 & 1 != stripped {
            refuse!("HLREG0 and RDRXCTL disagree on the check sequence");
        }
        let coalescing = self.file.get(page + RSCCTL);
        let coalesces = coalescing & 1 != 0 && self.file.get(0x5008) >> 5 & 1 == 0;
        // DPDK's driver leaves reserved bits alone, and silicon forgives that unless it coalesces.
        let strict = coalesces || !self.file.tolerant;
        let ones = if strict { 3 << 25 } else { 0 };
        let zeros = 0x1f << 17;
        if self.file.get(0x2f00) & ones != ones || self.file.get(0x2f00) & zeros != 0 {
            refuse!("RDRXCTL's reserved bits are not as they must be");
        }
        if strict && self.file.get(page + 0xc) >> 12 & 1 != 0 {
            refuse!("{what}: the reserved bit 12 of DCA_RXCTRL is still set");
        }
        if !coalesces {
            return;
        }
        let most = [1, 4, 8, 16][(coalescing >> 2 & 3) as usize];
        if most * buffer >= 64 {
            refuse!("{what} coalesces into {most} buffers of {buffer} KB: 64 KB or more");
        }
        let header = split >> 8 & 0x3f;
        if stripped == 0 || header < 2 || self.file.get(0x3028) >> 7 & 1 == 0 {
            refuse!("{what} coalesces without room for headers, CRC stripping, or RSCDBU.ACKDIS");
        }
        // Linux's driver sets the interval just after it has started its queues.
        let no_interval = self.rx_interval(queue).is_zero() && !self.file.tolerant;
        if self.file.get(0x5480) >> 4 & 1 == 0 || no_interval {
            refuse!("{what} coalesces without PSRTYPE's TCP, or a vector with an interval");
        }
    }

    fn start_tx(&mut self, queue: usize, what: &str) {
        let page = 0x6000 + 0x40 * queue as u32;
        let ring = self.ring(page, what);
        if self.file.get(0x4a80) & 1 == 0 {
            refuse!("{what} starts before DMATXCTL.TE is set");
        }
        if self.file.get(0x4900) >> 6 & 1 != 0 {
            refuse!("{what} starts while the arbiter is off (RTTDCS.ARBDIS)");
        }
        self.tx[queue] = TxQueue {
            state: State::Starting(self.random.below(4)),
            ring,
            ..TxQueue::default()
        };
    }
}

/// Refuses what the registers of no queue may hold, or not while it runs.
fn check_write(register: u32, value: u32, state: State, what: &str) {
    let aligned = value.is_multiple_of(ALIGN);
    if matches!(register, BAL | LEN) && !aligned {
        refuse!("the ring of {what} is not aligned to {ALIGN} bytes: {value:#x}");
    }
    let fixed = matches!(register, BAL | BAH | LEN | HEAD | SRRCTL | RSCCTL | WBAL);
    if fixed && state != State::Off {
        refuse!("register {register:#x} of {what} is written while it runs");
    }
    if register == TAIL && !state.runs() && value != 0 {
        refuse!("the tail of {what} is {value} before it runs");
    }
}
