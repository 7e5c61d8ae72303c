//! Flows of the engine's TCP through one modelled bottleneck: capacity, propagation delay, queue,
//! marking threshold, random loss. Event-driven, in virtual time, and the same for the same seed.
//!
//! It is a crate of its own, over the public face of `engine::tcp` alone: neither worker, device nor
//! memory of the stack is in it, so that what it shows is the congestion control's.

mod bottleneck;
mod flow;
mod measure;
mod network;
pub mod reference;
mod rng;
pub mod scenarios;
pub mod svg;

pub use bottleneck::{Bottleneck, Loss};
pub use flow::FlowSpec;
pub use measure::{Outcome, Series, jain};
pub use network::{Network, run};

/// Payload of a full segment: an MTU of 1,500 bytes with timestamps.
pub const PAYLOAD: u64 = 1448;
/// The same segment as the bottleneck sees it, with its IP and TCP headers.
pub const PACKET: u64 = 1500;
