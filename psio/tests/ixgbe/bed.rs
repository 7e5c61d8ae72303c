//! The model as the driver reaches it, and a driver on it.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ixgbe_model::{Card, Frames, HostMemory, QUEUES};
use psio::ixgbe::{Bus, Dma, DmaMemory, Ixgbe, IxgbeConfig, Registers, Vectors};
use psio::{Device, Error, Queue, RxMeta, TxMeta};

/// The card's address.
pub const MAC: [u8; 6] = [0x00, 0x1b, 0x21, 0x0a, 0x0b, 0x0c];

/// What a test does to the driver's writes on their way.
type Tamper = Box<dyn FnMut(u32, u32) -> u32 + Send>;

/// A handle on the model, as a driver and a test hold one.
#[derive(Clone)]
pub struct Model {
    card: Arc<Mutex<Card>>,
    pub memory: HostMemory,
    bells: Arc<Vec<OwnedFd>>,
    tamper: Arc<Mutex<Option<Tamper>>>,
}

impl Model {
    pub fn new(seed: u64) -> Model {
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
                MAC,
                Box::new(memory.clone()),
                Box::new(ring),
                seed,
            ))),
            memory,
            bells,
            tamper: Arc::default(),
        }
    }

    /// Does something with the card. A card that has refused something is dead.
    pub fn card<T>(&self, action: impl FnOnce(&mut Card) -> T) -> T {
        action(&mut self.card.lock().expect("the card lives"))
    }

    pub fn work(&self) {
        self.card(Card::work);
    }

    pub fn settle(&self) {
        self.card(Card::settle);
    }

    /// Brings frames to the card and lets it do all it can.
    pub fn arrive<'a>(&self, frames: impl IntoIterator<Item = &'a Vec<u8>>) {
        self.card(|card| {
            for frame in frames {
                card.arrive(frame);
            }
            card.settle();
        });
    }

    /// All frames that have left.
    pub fn sent(&self) -> Vec<Vec<u8>> {
        self.settle();
        self.card(|card| drain(card.sent()))
    }

    /// From now on the driver's writes are changed: register and value in, value out.
    pub fn tamper(&self, tamper: impl FnMut(u32, u32) -> u32 + Send + 'static) {
        *self.tamper.lock().unwrap() = Some(Box::new(tamper));
    }
}

fn drain(frames: &mut Frames) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(frame) = frames.front() {
        all.push(frame.to_vec());
        frames.pop();
    }
    all
}

/// After a refusal the driver is being dropped: it reads zeros, which let it stop.
impl Registers for Model {
    fn read(&self, offset: u32) -> u32 {
        self.card.lock().map_or(0, |mut card| card.read(offset))
    }

    fn write(&self, offset: u32, value: u32) {
        let value = match &mut *self.tamper.lock().unwrap() {
            Some(tamper) => tamper(offset, value),
            None => value,
        };
        if let Ok(mut card) = self.card.lock() {
            card.write(offset, value);
        }
    }

    fn pause(&self, time: Duration) {
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

/// A card set up with its link up.
pub fn card(seed: u64, config: IxgbeConfig) -> (Model, Ixgbe<Model>) {
    let model = Model::new(seed);
    let device = Ixgbe::open(model.clone(), config).expect("the card is set up");
    model.settle();
    for _ in 0..32 {
        model.work();
    }
    (model, device)
}

/// A card with its first queue open.
pub fn one_queue(seed: u64, config: IxgbeConfig) -> (Model, Ixgbe<Model>, Box<dyn Queue>) {
    let (model, mut device) = card(seed, config);
    let queue = device.open_queue(0).expect("a queue");
    (model, device, queue)
}

/// Sends a frame; false if there is no room.
pub fn send(queue: &mut dyn Queue, frame: &[u8], meta: TxMeta) -> bool {
    let Some(room) = queue.reserve(frame.len()) else {
        return false;
    };
    room.copy_from_slice(frame);
    queue.commit(frame.len(), meta);
    true
}

/// All frames that wait.
pub fn received(queue: &mut dyn Queue) -> Vec<(Vec<u8>, RxMeta)> {
    let mut frames = Vec::new();
    queue
        .receive(usize::MAX, &mut |frame, meta| {
            frames.push((frame.to_vec(), meta))
        })
        .expect("the queue works");
    frames
}

fn poll(fd: RawFd, milliseconds: i32) -> bool {
    let mut polled = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: the pointer is to the one entry that the count says.
    unsafe { libc::poll(&mut polled, 1, milliseconds) > 0 }
}

/// Whether a descriptor is readable now.
pub fn is_readable(fd: RawFd) -> bool {
    poll(fd, 0)
}

/// Sleeps until a descriptor is readable.
pub fn wait_readable(fd: RawFd) {
    assert!(poll(fd, 30_000), "nothing came within 30 s");
}
