//! The 82599's driver against a strict software model of the card.

mod bed;
mod coalescing;
mod director;
mod frames;
mod interrupts;
mod mistakes;
mod model;
mod offloads;
mod removal;
mod setup;
mod statistics;
mod steering;
mod traffic;
