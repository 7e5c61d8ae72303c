//! What Linux's driver does and ours does not, as it was seen in a virtual machine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ixgbe_model::{Allocation, Card, HostMemory, Memory};

const CTRL: u32 = 0;
const STATUS: u32 = 8;
const RESET: u32 = 1 << 26 | 1 << 3;

fn card(memory: &HostMemory) -> Card {
    Card::new(
        [0, 1, 2, 3, 4, 5],
        Box::new(memory.clone()),
        Box::new(|_| ()),
        3,
    )
}

/// A card whose first receive queue runs, with one buffer.
fn receiving(memory: &HostMemory) -> (Card, Allocation) {
    let mut card = card(memory);
    let ring = memory.allocate(4096).expect("memory");
    card.set_bus_master(true);
    card.write(0x2f00, 3 << 25);
    card.write(0x4240, 1);
    card.write(0x2200, 0);
    card.write(0x1000, ring.address() as u32);
    card.write(0x1004, (ring.address() >> 32) as u32);
    card.write(0x1008, 4096);
    card.write(0x2100, 2 | 1 << 25);
    card.write(0x1028, 1 << 25);
    while card.read(0x1028) >> 25 & 1 == 0 {}
    (card, ring)
}

fn refuses(action: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(action)).is_err()
}

#[test]
fn the_write_that_begins_a_reset_is_flushed_by_reading_the_status() {
    let mut card = card(&HostMemory::default());
    card.write(CTRL, RESET);
    card.read(STATUS);
    let other = || assert_ne!(card.read(0x18), 1);
    assert!(refuses(other), "another register");
}

#[test]
fn dropping_is_switched_while_a_queue_runs_and_nothing_else_of_its_buffers() {
    let memory = HostMemory::default();
    let (mut card, _ring) = receiving(&memory);
    card.write(0x2100, 2 | 1 << 25 | 1 << 28);
    assert_eq!(card.read(0x2100), 2 | 1 << 25 | 1 << 28);
    assert!(refuses(|| card.write(0x2100, 4 | 1 << 25)));
}

#[test]
fn causes_are_read_from_where_they_are_set_and_stay() {
    let mut card = card(&HostMemory::default());
    card.write(0x808, 1 << 20 | 1);
    assert_eq!(card.read(0x808), 1 << 20 | 1);
    assert_eq!(card.read(0x800), 1 << 20 | 1, "still there");
    assert_eq!(
        card.read(0x808),
        0,
        "reading the register of causes clears them"
    );
}

#[test]
fn the_eeprom_says_how_long_it_is() {
    let mut card = card(&HostMemory::default());
    // Linux reads no word beyond.
    let words = 1 << (6 + (card.read(0x10010) >> 11 & 0xf));
    assert_eq!(words, 256);
}

#[test]
fn a_register_that_is_not_modelled_is_held_by_a_tolerant_card_and_refused_by_others() {
    let memory = HostMemory::default();
    let mut tolerant = card(&memory);
    tolerant.set_tolerant();
    tolerant.write(0x5090, 7);
    assert_eq!(tolerant.read(0x5090), 7);
    assert_eq!(tolerant.unknown_registers(), [0x5090]);
    assert!(refuses(|| tolerant.write(0x5091, 7)), "no register at all");
    tolerant.write(CTRL, RESET);
    tolerant.pause(Duration::from_millis(10));
    assert_eq!(tolerant.read(0x5090), 0);
    let mut strict = card(&memory);
    assert!(refuses(|| strict.write(0x5090, 7)));
}

#[test]
fn a_functions_reset_needs_no_order_and_no_pause() {
    let memory = HostMemory::default();
    let (mut card, _ring) = receiving(&memory);
    card.reset_function();
    assert_eq!(card.read(0x1028), 0);
    assert_eq!(card.read(0x1008), 0);
}

#[test]
fn a_frames_first_descriptor_alone_says_how_it_is_offloaded_and_needs_no_check_of_its_context() {
    const DATA: u64 = 3 << 20 | 1 << 29 | 1 << 25;
    let mut memory = HostMemory::default();
    let mut card = card(&memory);
    let (ring, frame) = (
        memory.allocate(4096).expect("memory"),
        memory.allocate(4096).expect("memory"),
    );
    card.set_bus_master(true);
    card.write(0x42a0, 1 << 12 | 3 << 13);
    card.write(0x4a80, 1);
    card.write(0x6000, ring.address() as u32);
    card.write(0x6004, (ring.address() >> 32) as u32);
    card.write(0x6008, 4096);
    card.write(0x6028, 1 << 25);
    while card.read(0x6028) >> 25 & 1 == 0 || card.read(0x42a4) >> 30 == 0 {
        card.work();
    }
    // 20 bytes of IPv4 header, and 40 of nothing.
    let mut bytes = [0; 74];
    bytes[12..16].copy_from_slice(&[0x08, 0, 0x45, 0]);
    memory.write(frame.address(), &bytes).expect("mapped");
    let context = [14 << 9 | 20, 2 << 20 | 1 << 29 | 1 << 10];
    let first = [frame.address(), DATA | 30 | 1 << 40 | 74 << 46];
    let last = [frame.address() + 30, DATA | 44 | 1 << 24 | 1 << 27];
    for (at, words) in [context, first, last].into_iter().enumerate() {
        let at = ring.address() + 16 * at as u64;
        memory.write_descriptor(at, words).expect("mapped");
    }
    card.write(0x6018, 3);
    card.settle();
    let sent = card.sent().front().expect("a frame");
    assert_eq!(sent[24..26], [0xba, 0xff], "the checksum of the IP header");
}
