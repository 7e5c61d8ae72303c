//! The modules of crate `context` by which two sides meet in shared memory, compiled a second time
//! with loom's atomics: its tests run them in all the orders that the rules of memory allow.

#[path = "../../src/ready.rs"]
pub mod ready;
#[path = "../../src/ring.rs"]
pub mod ring;
#[path = "../../src/socket.rs"]
pub mod socket;
#[path = "../../src/worker.rs"]
pub mod worker;

pub mod futex;
pub mod lock;
mod sync {
    pub use loom::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering, fence};
}

/// Few, because loom keeps a history of each word.
pub const MAX_WORKERS: usize = 1;
/// As in `context`.
pub const NONE: u32 = u32::MAX;
