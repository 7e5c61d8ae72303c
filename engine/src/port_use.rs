//! How many connections have each local port, for a glance from other threads.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// One worker's counts, which only that worker changes.
pub struct PortUse(Box<[AtomicU32]>);

impl Default for PortUse {
    fn default() -> Self {
        PortUse((0..=u16::MAX).map(|_| AtomicU32::new(0)).collect())
    }
}

impl PortUse {
    /// A connection has the port.
    pub fn add(&self, port: u16) {
        self.0[usize::from(port)].fetch_add(1, Relaxed);
    }

    /// A connection does not have it any more.
    pub fn remove(&self, port: u16) {
        self.0[usize::from(port)].fetch_sub(1, Relaxed);
    }

    /// Whether a connection has the port.
    pub fn has(&self, port: u16) -> bool {
        self.0[usize::from(port)].load(Relaxed) != 0
    }
}
