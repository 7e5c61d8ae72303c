//! Looks after a card that runs: whether it is still there, and whether its link is up.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::access::{Bus, is_gone};
use super::link::{self, Link};
use super::regs::{LINKS, LINKS_SPEED, LINKS_UP};
use crate::Error;

/// How often a worker that sleeps looks, at least.
pub const LONGEST_SLEEP: Duration = Duration::from_secs(2);

/// A worker that polls looks when nothing has come so many times in a row: a register costs as much as
/// dozens of such rounds.
pub const IDLE_ROUNDS: u32 = 4096;

/// The link's state when somebody last looked, as the card has it.
pub struct LinkSeen(AtomicU32);

impl LinkSeen {
    /// Nobody has looked yet: the link is taken to be down.
    pub fn new() -> LinkSeen {
        LinkSeen(AtomicU32::new(0))
    }

    /// Looks, and writes to the log what has changed.
    ///
    /// # Errors
    /// [`Error::Gone`] if the card does not answer.
    pub fn look(&self, bus: &impl Bus) -> Result<(), Error> {
        let links = bus.read(LINKS);
        if links == !0 && is_gone(bus) {
            return Err(Error::Gone(bus.name().to_owned()));
        }
        let now = match links & LINKS_UP {
            0 => 0,
            _ => links & (LINKS_UP | LINKS_SPEED),
        };
        if self.0.swap(now, Ordering::Relaxed) != now {
            match link::state_of(links) {
                Link::Up { speed } => tracing::warn!(device = bus.name(), speed, "link up"),
                Link::Down => tracing::warn!(device = bus.name(), "link down"),
            }
        }
        Ok(())
    }
}
