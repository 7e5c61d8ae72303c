//! The model's flow director, which our driver does not use: programmed as Linux's ixgbe was seen to.

use psio::Queue;
use psio::ixgbe::{IxgbeConfig, Registers};

use super::bed::{Model, card, received};
use super::frames::Tcp;

const FDIRCTRL: u32 = 0xee00;
const FDIRIPSA: u32 = 0xee18;
const FDIRIPDA: u32 = 0xee1c;
const FDIRPORT: u32 = 0xee20;
const FDIRHASH: u32 = 0xee28;
const FDIRCMD: u32 = 0xee2c;
const FDIRFREE: u32 = 0xee38;
const FDIRTCPM: u32 = 0xee44;
const FDIRDIP4M: u32 = 0xee3c;
const FDIRSIP4M: u32 = 0xee40;
const FDIRMATCH: u32 = 0xee58;
const FDIRMISS: u32 = 0xee5c;
const FDIRHKEY: u32 = 0xee68;
const FDIRSKEY: u32 = 0xee6c;
const FDIRM: u32 = 0xee70;

const INIT_DONE: u32 = 1 << 3;
const PERFECT: u32 = 0x4a06_7f31;
const SIGNATURES: u32 = 0x4a06_0001;
const VALID: u32 = 1 << 2;

/// A card with four queues, and its director switched on.
fn directed(control: u32) -> (Model, Vec<Box<dyn Queue>>) {
    let config = IxgbeConfig {
        queues: 4,
        coalescing: false,
        ..IxgbeConfig::default()
    };
    let (model, mut device) = card(29, config);
    let queues = (0..4).map(|index| psio::Device::open_queue(&mut device, index).expect("a queue"));
    let queues = queues.collect();
    model.write(FDIRHKEY, 0x3dad_14e2);
    model.write(FDIRSKEY, 0x174d_3614);
    model.write(FDIRCTRL, control);
    while model.read(FDIRCTRL) & INIT_DONE == 0 {}
    (model, queues)
}

fn command(model: &Model, hash: u32, command: u32) -> u32 {
    model.write(FDIRHASH, hash);
    model.write(FDIRCMD, command);
    loop {
        let done = model.read(FDIRCMD);
        if done & 3 == 0 {
            return done;
        }
    }
}

/// The queue at which a segment from 10.0.0.1 to 10.0.0.2 arrives; `None` if it is dropped.
fn queue_of(model: &Model, queues: &mut [Box<dyn Queue>], ports: (u16, u16)) -> Option<usize> {
    let segment = Tcp {
        source: ([10, 0, 0, 1], ports.0),
        destination: ([10, 0, 0, 2], ports.1),
        ..Tcp::default()
    };
    model.arrive([&segment.frame()]);
    let counts = queues.iter_mut().map(|queue| received(&mut **queue).len());
    let counts: Vec<usize> = counts.collect();
    assert!(counts.iter().sum::<usize>() <= 1);
    counts.iter().position(|count| *count == 1)
}

fn name_flow(model: &Model, ports: u32) {
    model.write(FDIRM, 0x37);
    model.write(FDIRIPSA, 0x0100_000a);
    model.write(FDIRIPDA, 0x0200_000a);
    model.write(FDIRPORT, ports);
}

#[test]
fn a_signature_of_linux_sends_its_flow_to_the_queue() {
    let (model, mut queues) = directed(SIGNATURES);
    // Port 59150 to 5000, which Linux has hashed itself.
    let ports = (59150, 5000);
    for queue in [1, 3] {
        command(&model, 0x7be5_1ded, 0x8849 | queue << 16);
        let to = queue_of(&model, &mut queues, ports);
        assert_eq!(to, Some(queue as usize));
    }
    assert_eq!(model.read(FDIRMATCH), 2);
    assert_eq!(model.read(FDIRMISS), 0);
    queue_of(&model, &mut queues, (59151, 5000));
    assert_eq!((model.read(FDIRMATCH), model.read(FDIRMISS)), (0, 1));
}

#[test]
fn a_perfect_filter_of_linux_sends_its_flow_to_the_queue_until_it_is_removed() {
    let (model, mut queues) = directed(PERFECT);
    name_flow(&model, 5201 << 16 | 6000);
    let (number, ports) = (2 << 16 | 0x1152, (6000, 5201));
    assert_eq!(model.read(FDIRFREE), 2048);
    for queue in [3, 2] {
        command(&model, number, 0x8849 | queue << 16);
        assert_eq!(queue_of(&model, &mut queues, ports), Some(queue as usize));
        assert_eq!(model.read(FDIRFREE), 2047);
    }
    assert_ne!(command(&model, number, 3) & VALID, 0);
    command(&model, number, 2);
    assert_eq!(command(&model, number, 3) & VALID, 0);
    model.read(FDIRMATCH);
    queue_of(&model, &mut queues, ports).expect("RSS has a queue for it");
    assert_eq!(model.read(FDIRMATCH), 0);
}

#[test]
fn a_perfect_filter_under_another_hash_is_never_found() {
    let (model, mut queues) = directed(PERFECT);
    name_flow(&model, 5201 << 16 | 6000);
    command(&model, 2 << 16 | 0x1153, 0x1_8849);
    queue_of(&model, &mut queues, (6000, 5201)).expect("RSS has a queue for it");
    assert_eq!(model.read(FDIRMATCH), 0);
}

#[test]
fn a_filter_whose_mask_leaves_the_port_only_takes_all_flows_to_it_and_may_drop_them() {
    let (model, mut queues) = directed(PERFECT);
    name_flow(&model, 5201 << 16);
    model.write(FDIRSIP4M, !0);
    model.write(FDIRDIP4M, !0);
    model.write(FDIRTCPM, 0x0000_ffff);
    command(&model, 1 << 16 | 0x0655, 0x1_8849);
    for source in [6000, 6001, 50_000] {
        assert_eq!(queue_of(&model, &mut queues, (source, 5201)), Some(1));
    }
    command(&model, 1 << 16 | 0x0655, 0x7f_8a49);
    assert_eq!(queue_of(&model, &mut queues, (6000, 5201)), None);
    assert!(queue_of(&model, &mut queues, (6000, 5202)).is_some());
}

#[test]
#[should_panic(expected = "before its tables are clear")]
fn a_filter_before_the_director_is_ready_is_refused() {
    let (model, _device) = card(29, IxgbeConfig::default());
    model.write(FDIRCMD, 0x8849);
}
