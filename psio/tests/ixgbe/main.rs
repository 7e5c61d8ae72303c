//! The 82599's driver against a strict software model of the card.

mod bed;
mod frames;
mod mistakes;
mod offloads;
mod setup;
mod traffic;
