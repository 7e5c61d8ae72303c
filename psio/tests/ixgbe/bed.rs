//! A driver on the model, and what tests do with both.
#![allow(unsafe_code)]

use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

use ixgbe_model::{Card, Frames};
use psio::ixgbe::{Ixgbe, IxgbeConfig};
use psio::{Device, Queue, RxMeta, TxMeta};

pub use super::model::Model;

/// The card's address.
pub const MAC: [u8; 6] = [0x00, 0x1b, 0x21, 0x0a, 0x0b, 0x0c];

impl Model {
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

    /// Takes the card out of the machine.
    pub fn take_out(&self) {
        self.is_out.store(true, Ordering::Relaxed);
    }

    /// From now on the driver's writes are changed: register and value in, value out.
    pub fn tamper(&self, tamper: impl FnMut(u32, u32) -> u32 + Send + 'static) {
        *self.tamper.lock().unwrap() = Some(Box::new(tamper));
    }

    /// All frames that have left.
    pub fn sent(&self) -> Vec<Vec<u8>> {
        self.settle();
        self.card(|card| drain(card.sent()))
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

/// A card set up with its link up.
pub fn card(seed: u64, config: IxgbeConfig) -> (Model, Ixgbe<Model>) {
    let model = Model::new(MAC, seed);
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
