//! Mistakes on purpose: the model finds them.

use ixgbe_model::Memory;
use psio::ixgbe::{Ixgbe, IxgbeConfig, Registers};
use psio::{Device, Queue, TxMeta};

use super::bed::{MAC, Model, card, one_queue, received, send};
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
    Model::new(MAC, 1).read(0x5c);
}

#[test]
#[should_panic(expected = "within 10 ms of a reset")]
fn a_register_touched_too_soon_after_a_reset_is_refused() {
    let model = Model::new(MAC, 1);
    model.write(0x0, 1 << 2);
    model.write(0x0, 1 << 2 | 1 << 26);
    model.read(0x18);
}

/// Commits a frame, changes its descriptor's words, and hands it over.
fn send_changed(change: fn([u64; 2]) -> [u64; 2]) {
    let (model, _device, mut queue) = one_queue(1, IxgbeConfig::default());
    assert!(send(&mut *queue, &numbered(0, 64), TxMeta::default()));
    let ring = model.card(|card| u64::from(card.read(0x6000)) | u64::from(card.read(0x6004)) << 32);
    let mut memory = model.memory.clone();
    let words = memory.read_descriptor(ring).unwrap();
    memory.write_descriptor(ring, change(words)).unwrap();
    queue.flush().unwrap();
    model.settle();
}

#[test]
#[should_panic(expected = "says 65 bytes of payload")]
fn a_payload_length_that_does_not_fit_is_refused() {
    send_changed(|[address, bits]| [address, bits + (1 << 46)]);
}

#[test]
#[should_panic(expected = "flags that make no sense")]
fn a_report_on_a_descriptor_that_is_not_the_last_is_refused() {
    send_changed(|[address, bits]| [address, bits & !(1 << 24) | 1 << 27]);
}

#[test]
#[should_panic(expected = "refers to an empty slot 0")]
fn an_offload_without_a_context_is_refused() {
    send_changed(|[address, bits]| [address, bits | 1 << 41]);
}

#[test]
#[should_panic(expected = "refers to an empty slot 1")]
fn a_context_that_was_never_set_is_refused() {
    send_changed(|[address, bits]| [address, bits | 1 << 39 | 1 << 36]);
}

#[test]
#[should_panic(expected = "outside mapped memory")]
fn a_frame_outside_mapped_memory_is_refused() {
    send_changed(|[_, bits]| [0x1000, bits]);
}

#[test]
#[should_panic(expected = "handed over as it was written back")]
fn a_receive_descriptor_that_was_not_written_anew_is_refused() {
    let (model, _device, _queue) = one_queue(1, IxgbeConfig::default());
    let ring = model.card(|card| u64::from(card.read(0x1000)) | u64::from(card.read(0x1004)) << 32);
    let mut memory = model.memory.clone();
    memory.write(ring + 16 * 100 + 8, &[1]).unwrap();
    let frames: Vec<_> = (0..200).map(|number| numbered(number, 64)).collect();
    model.arrive(&frames);
}

#[test]
#[should_panic(expected = "is written while it runs")]
fn a_ring_that_is_moved_while_its_queue_runs_is_refused() {
    let (model, _device, _queue) = one_queue(1, IxgbeConfig::default());
    model.write(RDBAL, 0x1000);
}

#[test]
#[should_panic(expected = "cannot be written")]
fn a_write_to_a_status_register_is_refused() {
    Model::new(MAC, 1).write(0x8, 0);
}

#[test]
#[should_panic(expected = "disable the master first")]
fn a_reset_while_the_card_may_use_memory_is_refused() {
    let (model, _device) = card(1, IxgbeConfig::default());
    model.write(0x0, 1 << 26);
}

#[test]
#[should_panic(expected = "coalesces without room for headers")]
fn coalescing_without_what_it_depends_on_is_refused() {
    let model = Model::new(MAC, 1);
    model.tamper(|offset, value| if offset == 0x3028 { 0 } else { value });
    let mut device = Ixgbe::open(model.clone(), IxgbeConfig::default()).unwrap();
    device.open_queue(0).unwrap();
}

#[test]
#[should_panic(expected = "64 KB or more")]
fn coalescing_into_more_than_a_packet_holds_is_refused() {
    // Buffers of 4 KB, sixteen to a frame.
    open_with(0x2100, |value| value + 2);
}
