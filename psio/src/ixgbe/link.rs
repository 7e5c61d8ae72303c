//! The link (§4.6.4 of the datasheet): the EEPROM says which kind it is; the driver starts its
//! negotiation and looks at what came of it.

use super::access::Bus;
use super::regs::*;

/// The link's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// No partner, or the negotiation goes on.
    Down,
    /// Frames can pass.
    Up {
        /// In megabits a second: 100, 1,000 or 10,000.
        speed: u32,
    },
}

/// Starts the negotiation anew; frames pass some seconds later.
pub fn start<B: Bus>(bus: &B) {
    bus.set(AUTOC, AUTOC_RESTART);
}

/// The state now.
pub fn state<B: Bus>(bus: &B) -> Link {
    state_of(bus.read(LINKS))
}

/// The state as register LINKS has it.
pub fn state_of(links: u32) -> Link {
    // All ones: the card is gone.
    if links & LINKS_UP == 0 || links == !0 {
        return Link::Down;
    }
    match (links & LINKS_SPEED) >> LINKS_SPEED_SHIFT {
        3 => Link::Up { speed: 10_000 },
        2 => Link::Up { speed: 1_000 },
        1 => Link::Up { speed: 100 },
        _ => Link::Down,
    }
}
