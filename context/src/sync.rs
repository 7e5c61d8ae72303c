//! The atomics of shared records. The tests in `interleavings/` put others in their place.

pub use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering, fence};
