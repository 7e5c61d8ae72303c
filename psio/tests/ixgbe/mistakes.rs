//! Mistakes on purpose: the model finds them.

use psio::ixgbe::{Ixgbe, IxgbeConfig};
use psio::{Device, Queue, TxMeta};

use super::bed::{MAC, Model, one_queue, received, send};
use super::frames::numbered;

const RDBAL: u32 = 0x1000;
const RDT: u32 = 0x1018;
const TDT: u32 = 0x6018;
const TDLEN: u32 = 0x6008;

/// Opens a queue while what is written to `register` is changed.
fn open_with(register: u32, change: fn(u32) -> u32) {
    let model = Model::new(MAC, 1);
    let mut device = Ixgbe::open(model.clone(), IxgbeConfig::default()).unwrap();
    model.tamper(move |offset, value| match offset == register {
        true => change(value),
        false => value,
    });
    device.open_queue(0).unwrap();
}

/// A queue with frames on their way, some of which the card has fetched and not reported.
fn fetched(model: &Model, queue: &mut dyn Queue) {
    for number in 0..400 {
        assert!(send(queue, &numbered(number, 256), TxMeta::default()));
    }
    queue.flush().unwrap();
    while model.card(|card| card.in_flight(0)) == 0 {
        model.work();
    }
}

#[test]
#[should_panic(expected = "not aligned to 128 bytes")]
fn a_misaligned_ring_is_refused() {
    open_with(RDBAL, |value| value + 64);
}

#[test]
#[should_panic(expected = "not aligned to 128 bytes")]
fn a_ring_of_a_wrong_length_is_refused() {
    open_with(TDLEN, |value| value + 16);
}

#[test]
#[should_panic(expected = "ring outside mapped memory")]
fn a_ring_where_no_memory_is_mapped_is_refused() {
    open_with(RDBAL, |value| value ^ 0x8000_0000);
}

#[test]
#[should_panic(expected = "beyond its 512 descriptors")]
fn a_tail_beyond_the_ring_is_refused() {
    open_with(RDT, |value| if value > 0 { 512 } else { 0 });
}

#[test]
#[should_panic(expected = "which is not done")]
fn a_receive_tail_past_the_head_is_refused() {
    let (model, _device, mut queue) = one_queue(1, IxgbeConfig::default());
    model.arrive(&[numbered(0, 64), numbered(1, 64)]);
    model.tamper(|offset, value| if offset == RDT { value + 1 } else { value });
    received(&mut *queue);
}

#[test]
#[should_panic(expected = "which is not done")]
fn a_transmit_tail_past_what_is_reported_is_refused() {
    let (model, _device, mut queue) = one_queue(1, IxgbeConfig::default());
    fetched(&model, &mut *queue);
    // As if room were free that nobody has reported.
    model.tamper(|offset, value| {
        if offset == TDT {
            (value + 250) % 512
        } else {
            value
        }
    });
    send(&mut *queue, &numbered(0, 64), TxMeta::default());
    queue.flush().unwrap();
}

#[test]
#[should_panic(expected = "is a legacy one")]
fn a_tail_that_hands_descriptors_over_which_nobody_wrote_is_refused() {
    let (model, _device, mut queue) = one_queue(1, IxgbeConfig::default());
    model.tamper(|offset, value| if offset == TDT { value + 7 } else { value });
    send(&mut *queue, &numbered(0, 64), TxMeta::default());
    queue.flush().unwrap();
    model.settle();
}

/// Finds where in the model's memory a frame lies.
fn address_of(model: &Model, frame: &[u8]) -> u64 {
    model.memory.find(frame).expect("the frame is in memory")
}

#[test]
#[should_panic(expected = "a frame was changed before it was done")]
fn a_frame_that_is_used_again_before_it_was_reported_is_noticed() {
    use ixgbe_model::Memory;
    let (model, _device, mut queue) = one_queue(1, IxgbeConfig::default());
    fetched(&model, &mut *queue);
    for number in 0..400 {
        let address = address_of(&model, &numbered(number, 256));
        model.memory.clone().write(address + 100, &[0xee]).unwrap();
    }
    model.settle();
}

#[test]
#[should_panic(expected = "was changed before it was done")]
fn a_descriptor_that_is_used_again_before_it_was_reported_is_noticed() {
    use ixgbe_model::Memory;
    let (model, _device, mut queue) = one_queue(1, IxgbeConfig::default());
    fetched(&model, &mut *queue);
    let ring = model.card(|card| u64::from(card.read(0x6000)) | u64::from(card.read(0x6004)) << 32);
    let head = model.card(|card| u64::from(card.read(0x6010)));
    let mut memory = model.memory.clone();
    memory.write(ring + 16 * head, &[0; 8]).unwrap();
    model.settle();
}

#[test]
#[should_panic(expected = "was touched while the card owned it")]
fn a_receive_buffer_that_is_written_while_the_card_owns_it_is_noticed() {
    use ixgbe_model::Memory;
    let (model, _device, _queue) = one_queue(1, IxgbeConfig::default());
    model.arrive([&numbered(0, 64)]);
    let ring = model.card(|card| u64::from(card.read(0x1000)) | u64::from(card.read(0x1004)) << 32);
    for descriptor in 1..511 {
        let mut memory = model.memory.clone();
        let [buffer, _] = memory.read_descriptor(ring + 16 * descriptor).unwrap();
        memory.write(buffer, &[0xee; 8]).unwrap();
    }
    let more: Vec<_> = (0..64).map(|number| numbered(number, 64)).collect();
    model.arrive(&more);
}

#[test]
#[should_panic(expected = "there is no register at 0x5c")]
fn a_register_that_there_is_not_is_refused() {
    use psio::ixgbe::Registers;
    Model::new(MAC, 1).read(0x5c);
}

#[test]
#[should_panic(expected = "within 10 ms of a reset")]
fn a_register_touched_too_soon_after_a_reset_is_refused() {
    use psio::ixgbe::Registers;
    let model = Model::new(MAC, 1);
    model.write(0x0, 1 << 2);
    model.write(0x0, 1 << 2 | 1 << 26);
    model.read(0x8);
}
