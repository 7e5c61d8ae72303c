//! How the driver reaches a card: its registers, memory that it can read and write, and its
//! interrupts. Real access (VFIO, uio) and the software model each bring their own.

use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use super::dma::DmaMemory;
use super::regs::STATUS;
use crate::Error;

/// The card's registers, BAR 0.
pub trait Registers {
    /// Reads the register at `offset`.
    fn read(&self, offset: u32) -> u32;

    /// Writes the register at `offset`. What was stored to memory before is visible to the card
    /// by then.
    fn write(&self, offset: u32, value: u32);

    /// Lets the card have `time`, where the datasheet says how long something takes.
    fn pause(&self, time: Duration) {
        thread::sleep(time);
    }

    /// Sets `bits` and leaves the others of the register.
    fn set(&self, offset: u32, bits: u32) {
        self.write(offset, self.read(offset) | bits);
    }

    /// Clears `bits` and leaves the others of the register.
    fn clear(&self, offset: u32, bits: u32) {
        self.write(offset, self.read(offset) & !bits);
    }
}

/// Memory that the card can reach.
pub trait Dma {
    /// Allocates `bytes`, zeroed, in one piece for the card, at an address that is a multiple of
    /// 4,096.
    ///
    /// # Errors
    /// What the system says, or [`Error::Missing`] without huge pages or enough of them.
    fn allocate(&self, bytes: usize) -> Result<DmaMemory, Error>;
}

/// The card's interrupts, MSI-X.
pub trait Vectors {
    /// An eventfd that is rung by vector `index`, or `None` where the card cannot interrupt us: it
    /// must be polled then.
    fn vector(&self, index: usize) -> Option<OwnedFd>;
}

/// All of it; a handle that each queue has a copy of.
pub trait Bus: Registers + Dma + Vectors + Clone + Send + Sync + 'static {
    /// The card's PCI address, or what stands for it.
    fn name(&self) -> &str;

    /// Lets the card use memory. The driver calls it once the card has been reset: only then nothing
    /// that an earlier driver has left behind can be using memory still.
    ///
    /// # Errors
    /// What the system says.
    fn start_dma(&self) -> Result<(), Error>;
}

/// Whether nobody answers any more: reads give ones then, which STATUS never is.
pub(super) fn is_gone(bus: &impl Bus) -> bool {
    bus.read(STATUS) == !0
}

/// Polls a register until the `mask`ed bits are `wanted`, at intervals of `step`, at most `times`.
///
/// # Errors
/// [`Error::Refused`], saying what was awaited, or [`Error::Gone`] if the card does not answer at all.
pub(super) fn poll<B: Bus>(
    bus: &B,
    (offset, mask, wanted): (u32, u32, u32),
    (step, times): (Duration, u32),
    what: &str,
) -> Result<(), Error> {
    for _ in 0..times {
        let value = bus.read(offset);
        if value == !0 && is_gone(bus) {
            return Err(Error::Gone(bus.name().to_owned()));
        }
        if value & mask == wanted {
            return Ok(());
        }
        bus.pause(step);
    }
    Err(Error::Refused {
        name: bus.name().to_owned(),
        reason: format!("{what} did not happen within {:?}", step * times),
    })
}
