//! What the card itself knows it has carried, whatever a driver reads from its counters.

use crate::Card;

/// Frames, and bytes with the check sequences that the wire carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Carried {
    /// Frames that have left.
    pub frames_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Frames that have arrived and were for this card.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
}

/// From one reset to the next.
#[derive(Default)]
pub struct Periods {
    pub current: Carried,
    /// The last one in which there was something to carry.
    before: Carried,
}

impl Periods {
    pub fn end(&mut self) {
        let ended = std::mem::take(&mut self.current);
        if ended != Carried::default() {
            self.before = ended;
        }
    }
}

impl Card {
    /// What the card has carried since its last reset, or, if that is nothing, between two resets before.
    pub fn carried(&self) -> Carried {
        let Periods { current, before } = &self.carried;
        if *current == Carried::default() {
            *before
        } else {
            *current
        }
    }
}
