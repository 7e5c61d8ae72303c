//! The model as the driver reaches it.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ixgbe_model::{Card, HostMemory, QUEUES};
use psio::Error;
use psio::ixgbe::{Bus, Dma, DmaMemory, Registers, Vectors};

/// What a test does to the driver's writes on their way.
pub type Tamper = Box<dyn FnMut(u32, u32) -> u32 + Send>;

/// A handle on the model, as a driver and a test hold one.
#[derive(Clone)]
pub struct Model {
    card: Arc<Mutex<Card>>,
    pub memory: HostMemory,
    bells: Arc<Vec<OwnedFd>>,
    /// Changes the driver's writes: register and value in, value out.
    pub tamper: Arc<Mutex<Option<Tamper>>>,
    /// The card was taken out: nobody answers.
    pub is_out: Arc<AtomicBool>,
}

impl Model {
    /// A card with an address of its own.
    pub fn new(mac: [u8; 6], seed: u64) -> Model {
        let memory = HostMemory::default();
        // SAFETY: no pointers; the result is checked and owned by nobody else.
        let bell = || unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            assert!(fd >= 0);
            OwnedFd::from_raw_fd(fd)
        };
        let bells = Arc::new((0..QUEUES).map(|_| bell()).collect::<Vec<_>>());
        let rung = Arc::clone(&bells);
        let ring = move |vector: usize| {
            let bell = rung[vector].try_clone().expect("a descriptor");
            std::io::Write::write_all(&mut std::fs::File::from(bell), &1u64.to_ne_bytes())
                .expect("an eventfd takes eight bytes");
        };
        Model {
            card: Arc::new(Mutex::new(Card::new(
                mac,
                Box::new(memory.clone()),
                Box::new(ring),
                seed,
            ))),
            memory,
            bells,
            tamper: Arc::default(),
            is_out: Arc::default(),
        }
    }

    /// Does something with the card. A card that has refused something is dead.
    pub fn card<T>(&self, action: impl FnOnce(&mut Card) -> T) -> T {
        action(&mut self.card.lock().expect("the card lives"))
    }
}

/// After a refusal the driver is being dropped: it reads zeros, which let it stop.
impl Registers for Model {
    fn read(&self, offset: u32) -> u32 {
        if self.is_out.load(Ordering::Relaxed) {
            return !0;
        }
        self.card.lock().map_or(0, |mut card| card.read(offset))
    }

    fn write(&self, offset: u32, value: u32) {
        if self.is_out.load(Ordering::Relaxed) {
            return;
        }
        let value = match &mut *self.tamper.lock().unwrap() {
            Some(tamper) => tamper(offset, value),
            None => value,
        };
        if let Ok(mut card) = self.card.lock() {
            card.write(offset, value);
        }
    }

    fn pause(&self, time: Duration) {
        if self.is_out.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(mut card) = self.card.lock() {
            card.pause(time);
        }
    }
}

impl Dma for Model {
    fn allocate(&self, bytes: usize) -> Result<DmaMemory, Error> {
        let allocation = self.memory.allocate(bytes).ok_or_else(|| Error::Missing {
            what: "memory".to_owned(),
            remedy: "the test has none left".to_owned(),
        })?;
        let (base, address) = (allocation.base(), allocation.address());
        // SAFETY: the allocation is `bytes` long, zeroed, aligned to 4 KB, touched by nobody but the
        // model, and valid until it is dropped.
        Ok(unsafe { DmaMemory::new(base, bytes, address, Box::new(allocation)) })
    }
}

impl Vectors for Model {
    fn vector(&self, index: usize) -> Option<OwnedFd> {
        self.bells.get(index)?.as_fd().try_clone_to_owned().ok()
    }
}

impl Bus for Model {
    fn name(&self) -> &str {
        "model"
    }

    fn start_dma(&self) -> Result<(), Error> {
        self.card(|card| card.set_bus_master(true));
        Ok(())
    }
}
