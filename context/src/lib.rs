//! What application and engine share, and nothing else: one memory segment with per-thread
//! contexts, rings, socket records, byte streams in chunks, and doorbells.
//!
//! Who writes what is fixed for every word (see [`socket`]). The engine trusts none of the words
//! that an application may write: it loads each once, checks the copy, and uses the copy. An
//! application trusts the engine.

pub mod chunk;
pub mod command;
pub mod context;
pub mod control;
pub mod futex;
pub mod layout;
pub mod lock;
pub mod ready;
pub mod ring;
pub mod segment;
pub mod socket;
pub mod stream;
mod sync;
pub mod sys;
pub mod worker;

pub use layout::Geometry;
pub use segment::{Error, Segment};

/// Most workers (engine cores) of one stack.
pub const MAX_WORKERS: usize = 16;

/// The index that means "none" wherever a chunk, socket or set is named by a `u32`.
pub const NONE: u32 = u32::MAX;
