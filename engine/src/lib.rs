//! The TCP/IP stack: a pure protocol core ([`tcp`]), the formats of the lower layers ([`wire`]),
//! what an IP host knows about its network ([`net`]), the [`worker`] that drives them, one thread
//! for each engine core, and the [`Engine`] that starts them and serves applications' requests.

extern crate alloc;

pub mod binds;
mod control;
mod engine;
pub mod few;
pub mod net;
mod placement;
pub mod port_use;
pub mod shared;
pub mod stats;
pub mod sys;
pub mod tcp;
pub mod wire;
pub mod worker;

pub use control::{is_descendant, parent_of};
pub use engine::{Engine, EngineReport, Error};
pub use shared::{EngineConfig, TimeWaitReuse};
