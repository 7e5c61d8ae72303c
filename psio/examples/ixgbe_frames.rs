//! Frames of 64 bytes through the 82599's driver, for callgrind to count: `ixgbe_frames receive TIMES`
//! or `ixgbe_frames transmit TIMES`, in bursts of 64.

#[path = "../tests/ixgbe/model.rs"]
mod model;

use std::hint::black_box;

use ixgbe_model::Card;
use psio::ixgbe::{Ixgbe, IxgbeConfig};
use psio::{BURST, Device, Queue, TxMeta};

use model::Model;

/// The card's address.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Bytes of a frame.
const LEN: usize = 64;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let direction = arguments.next().unwrap_or_default();
    let times: usize = arguments
        .next()
        .and_then(|times| times.parse().ok())
        .expect("how many frames");
    let model = Model::new(MAC, 1);
    let mut device = Ixgbe::open(model.clone(), IxgbeConfig::default()).expect("a card");
    let mut queue = device.open_queue(0).expect("a queue");
    for _ in 0..32 {
        model.card(Card::work);
    }
    let mut frame = [0; LEN];
    frame[..6].copy_from_slice(&MAC);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    for _ in 0..times.div_ceil(BURST) {
        match direction.as_str() {
            "receive" => {
                model.card(|card| {
                    for _ in 0..BURST {
                        card.arrive(&frame);
                    }
                    card.settle();
                });
                assert_eq!(receive_burst(&mut *queue), BURST);
            }
            "transmit" => {
                assert_eq!(transmit_burst(&mut *queue, &frame), BURST);
                model.card(|card| {
                    card.settle();
                    while card.sent().front().is_some() {
                        card.sent().pop();
                    }
                });
            }
            _ => panic!("receive or transmit, not {direction:?}"),
        }
    }
}

/// What a worker does with the frames that have come, but for looking at them.
#[inline(never)]
fn receive_burst(queue: &mut dyn Queue) -> usize {
    let taken = queue.receive(BURST, &mut |frame, meta| {
        black_box((frame, meta));
    });
    taken.expect("the queue works")
}

/// What a worker does to send frames, building them included.
#[inline(never)]
fn transmit_burst(queue: &mut dyn Queue, frame: &[u8; LEN]) -> usize {
    for _ in 0..BURST {
        let room = queue.reserve(LEN).expect("room");
        room.copy_from_slice(frame);
        queue.commit(LEN, TxMeta::default());
    }
    queue.flush().expect("the queue works")
}
