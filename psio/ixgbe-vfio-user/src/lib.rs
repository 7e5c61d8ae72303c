//! The software model of Intel's 82599 as a PCI device of another process: of a virtual machine, whose
//! kernel then drives it, or of a test.
//!
//! The other process reaches it over a Unix socket (vfio-user): PCI's configuration space, the registers
//! in BAR 0, its own memory that it maps for the card, and an eventfd for each vector of MSI-X.

mod backend;
mod configuration;
mod memory;
mod port;
mod wire;

pub use backend::serve;
pub use memory::GuestMemory;
pub use port::{Port, VECTORS};
pub use wire::{Wire, join};
