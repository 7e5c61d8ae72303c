//! A card that a driver in another process, the wire and a test have hold of.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ixgbe_model::Card;

use crate::GuestMemory;

/// Vectors of MSI-X.
pub const VECTORS: usize = 64;

/// The card, the memory that it reaches, and the eventfds that it rings. Clones are handles on the same.
#[derive(Clone)]
pub struct Port(Arc<Inner>);

struct Inner {
    card: Mutex<Clocked>,
    memory: GuestMemory,
    bells: Arc<Mutex<Vec<Option<File>>>>,
    /// Something was written to the card.
    written: Mutex<bool>,
    awake: Condvar,
}

/// A card that lives in real time.
struct Clocked {
    card: Card,
    last: Instant,
}

impl Port {
    /// A card with an address; what silicon leaves open is decided by `seed`.
    pub fn new(mac: [u8; 6], seed: u64) -> Port {
        let memory = GuestMemory::default();
        let none: Vec<Option<File>> = (0..VECTORS).map(|_| None).collect();
        let bells = Arc::new(Mutex::new(none));
        let rung = Arc::clone(&bells);
        let ring = move |vector: usize| {
            let bells = rung.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(mut bell) = bells[vector].as_ref() {
                // An eventfd refuses only if nobody has read it for 2^64 interrupts.
                let _ = bell.write_all(&1u64.to_ne_bytes());
            }
        };
        let card = Card::new(mac, Box::new(memory.clone()), Box::new(ring), seed);
        Port(Arc::new(Inner {
            card: Mutex::new(Clocked {
                card,
                last: Instant::now(),
            }),
            memory,
            bells,
            written: Mutex::new(false),
            awake: Condvar::new(),
        }))
    }

    /// The memory that the card reaches.
    pub fn memory(&self) -> &GuestMemory {
        &self.0.memory
    }

    /// Does something with the card, for which the time since the last time has passed. `None` once
    /// the card has refused something.
    pub fn card<T>(&self, action: impl FnOnce(&mut Card) -> T) -> Option<T> {
        let mut clocked = self.0.card.lock().ok()?;
        let now = Instant::now();
        let passed = now - clocked.last;
        clocked.last = now;
        clocked.card.pause(passed);
        Some(action(&mut clocked.card))
    }

    /// The driver has written something that the card may have to work on.
    pub(crate) fn wake(&self) {
        *self.lock_written() = true;
        self.0.awake.notify_one();
    }

    /// Waits until the driver writes something, but not longer than `most`.
    pub(crate) fn wait(&self, most: Duration) {
        let written = self.lock_written();
        let waited = self
            .0
            .awake
            .wait_timeout_while(written, most, |written| !*written);
        let (mut written, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *written = false;
    }

    fn lock_written(&self) -> MutexGuard<'_, bool> {
        self.0
            .written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Has vectors from `first` on ring these eventfds, or nothing.
    pub(crate) fn connect(&self, first: usize, bells: Vec<Option<File>>) {
        let mut all = self.0.bells.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, bell) in all.iter_mut().skip(first).zip(bells) {
            *place = bell;
        }
    }
}
