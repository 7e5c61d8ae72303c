//! MSI-X: causes, masks, and moderation.

use std::time::Duration;

use crate::{Card, refuse};

const VECTORS: usize = 64;

const EICR: u32 = 0x800;
const EICS: u32 = 0x808;
const EIAC: u32 = 0x810;
const EIMS: u32 = 0x880;
const EIMC: u32 = 0x888;
const EIAM: u32 = 0x890;
const GPIE: u32 = 0x898;
const GPIE_MSIX: u32 = 1 << 4;
const IVAR: u32 = 0x900;
const IVAR_MISC: u32 = 0xa00;
const EIAM_EX: u32 = 0xad0;

pub struct Interrupts {
    signal: Box<dyn FnMut(usize) + Send>,
    /// Causes by vector, which are not yet cleared, and those that are let through.
    pending: u64,
    enabled: u64,
    /// Causes other than queues, bits 16 to 30.
    others: u32,
    others_enabled: u32,
    /// When each vector was last signalled.
    last: [Option<Duration>; VECTORS],
    pub signalled: u64,
}

impl Interrupts {
    pub fn new(signal: Box<dyn FnMut(usize) + Send>) -> Interrupts {
        Interrupts {
            signal,
            pending: 0,
            enabled: 0,
            others: 0,
            others_enabled: 0,
            last: [None; VECTORS],
            signalled: 0,
        }
    }

    pub fn reset(&mut self) {
        (self.pending, self.enabled) = (0, 0);
        (self.others, self.others_enabled) = (0, 0);
        self.last = [None; VECTORS];
    }
}

/// The interval of moderation of a vector.
fn eitr(vector: usize) -> u32 {
    match vector {
        0..24 => 0x820 + 4 * vector as u32,
        _ => 0x12300 + 4 * (vector as u32 - 24),
    }
}

impl Card {
    /// How often any vector was signalled.
    pub fn interrupts_signalled(&self) -> u64 {
        self.interrupts.signalled
    }

    /// The vector of a receive queue, if it has one.
    pub(crate) fn rx_vector(&self, queue: usize) -> Option<usize> {
        let entries = self.file.get(IVAR + 4 * (queue as u32 / 2));
        vector(entries >> (16 * (queue % 2)))
    }

    /// The interval of moderation of a receive queue's vector; zero if there is none.
    pub(crate) fn rx_interval(&self, queue: usize) -> Duration {
        let vector = self.rx_vector(queue);
        vector.map_or(Duration::ZERO, |vector| self.interval(vector))
    }

    fn interval(&self, vector: usize) -> Duration {
        let units = self.file.get(eitr(vector)) >> 3 & 0x1ff;
        Duration::from_micros(2) * units
    }

    /// A receive queue has something to tell.
    pub(crate) fn raise_rx(&mut self, queue: usize) {
        if let Some(vector) = self.rx_vector(queue) {
            self.interrupts.pending |= 1 << vector;
        }
    }

    /// A transmit queue has something to tell.
    pub(crate) fn raise_tx(&mut self, queue: usize) {
        let entries = self.file.get(IVAR + 4 * (queue as u32 / 2));
        if let Some(vector) = vector(entries >> (16 * (queue % 2) + 8)) {
            self.interrupts.pending |= 1 << vector;
        }
    }

    /// Something that is not a queue's has happened.
    pub(crate) fn raise_other(&mut self, cause: u32) {
        self.interrupts.others |= 1 << cause;
    }

    pub(crate) fn read_interrupts(&mut self, offset: u32) -> u32 {
        let interrupts = &mut self.interrupts;
        match offset {
            EICR => {
                let causes = interrupts.pending as u32 & 0xffff | interrupts.others;
                interrupts.pending &= !0xffff;
                interrupts.others = 0;
                causes
            }
            EICS => interrupts.pending as u32 & 0xffff | interrupts.others,
            EIMS => interrupts.enabled as u32 & 0xffff | interrupts.others_enabled,
            0xaa0 => interrupts.enabled as u32,
            _ => (interrupts.enabled >> 32) as u32,
        }
    }

    pub(crate) fn write_interrupts(&mut self, offset: u32, value: u32) {
        let low = u64::from(value & 0xffff);
        let others = value & 0x7fff_0000;
        let interrupts = &mut self.interrupts;
        match offset {
            EICR => {
                interrupts.pending &= !low;
                interrupts.others &= !others;
            }
            EICS => {
                interrupts.pending |= low;
                interrupts.others |= others;
            }
            EIMS => {
                interrupts.enabled |= low;
                interrupts.others_enabled |= others;
            }
            EIMC => {
                interrupts.enabled &= !low;
                interrupts.others_enabled &= !others;
            }
            0xa90 => interrupts.pending |= u64::from(value),
            0xa94 => interrupts.pending |= u64::from(value) << 32,
            0xaa0 => interrupts.enabled |= u64::from(value),
            0xaa4 => interrupts.enabled |= u64::from(value) << 32,
            0xab0 => interrupts.enabled &= !u64::from(value),
            0xab4 => interrupts.enabled &= !(u64::from(value) << 32),
            _ => self.file.set(offset, value),
        }
        let enables = matches!(offset, EIMS | 0xaa0 | 0xaa4);
        if enables && !self.has_vectors() && !self.file.tolerant {
            refuse!("interrupts are enabled before MSI-X is (GPIE)");
        }
    }

    /// Whether causes are told by MSI-X. If not, they would be by MSI or a wire, which this card has not.
    fn has_vectors(&self) -> bool {
        self.file.get(GPIE) & GPIE_MSIX != 0
    }

    /// Signals the vectors that have a cause, are let through, and whose interval is over.
    pub(crate) fn fire(&mut self) {
        if !self.has_vectors() {
            return;
        }
        let mut ready = self.interrupts.pending & self.interrupts.enabled;
        while ready != 0 {
            let vector = ready.trailing_zeros() as usize;
            ready &= ready - 1;
            let interval = self.interval(vector);
            let early = |last: Duration| self.now < last + interval;
            if self.interrupts.last[vector].is_some_and(early) {
                continue;
            }
            self.interrupts.last[vector] = Some(self.now);
            if vector >= 16 || self.file.get(EIAC) >> vector & 1 != 0 {
                self.interrupts.pending &= !(1 << vector);
            }
            let masks_itself = self.file.get(EIAM_EX + 4 * (vector as u32 / 32));
            if masks_itself >> (vector % 32) & 1 != 0 {
                self.interrupts.enabled &= !(1 << vector);
            }
            self.interrupts.signalled += 1;
            (self.interrupts.signal)(vector);
        }
        let others = self.interrupts.others & self.interrupts.others_enabled;
        if others != 0
            && let Some(vector) = vector(self.file.get(IVAR_MISC) >> 8)
        {
            self.interrupts.others_enabled &= !(others & self.file.get(EIAM));
            self.interrupts.signalled += 1;
            (self.interrupts.signal)(vector);
        }
    }
}

/// The vector that an entry of a table names, if it is valid.
fn vector(entry: u32) -> Option<usize> {
    (entry & 0x80 != 0).then_some((entry & 0x3f) as usize)
}
