//! Intel's 82599 (ixgbe), the card that mTCP was made for, driven from user space.
//!
//! The driver is generic over how it reaches the card ([`Registers`], [`Dma`], [`Vectors`]), so that
//! it runs on a card bound to VFIO or uio, and on a software model of it. Its parts follow the
//! sections of Intel's datasheet. A frame is shown where the card has put it, and built where the card
//! fetches it. docs/82599.md says what has been verified, and how.

mod access;
mod bar;
mod chain;
mod config;
mod descriptors;
mod device;
mod dma;
mod filters;
mod interrupts;
mod link;
mod offloads;
mod open;
mod pages;
mod pci;
mod queue;
mod receive;
mod regs;
mod reset;
mod rss;
mod rx_ring;
mod statistics;
mod transmit;
mod tx_ring;
mod uio;
mod vfio;
mod watch;

pub use access::{Bus, Dma, Registers, Vectors};
pub use config::{IxgbeConfig, MAX_MTU, MAX_QUEUES};
pub use device::Ixgbe;
pub use dma::DmaMemory;
pub use filters::{FIVE_TUPLES, FiveTuple, Protocol};
pub use link::Link;
pub use open::open;
pub use pci::{CARDS, INTEL};
pub use rss::{DEFAULT_KEY, KEY_LEN, TABLE_LEN, even_table};
pub use statistics::PortStatistics;
