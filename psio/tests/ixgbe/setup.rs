//! Set-up, and what can be wrong with a card or a configuration.

use std::os::fd::OwnedFd;
use std::time::Duration;

use psio::ixgbe::{Bus, Dma, DmaMemory, Ixgbe, IxgbeConfig, Link, Registers, Vectors};
use psio::{Device, Error};

use super::bed::{MAC, Model, card, received};
use super::frames::numbered;

/// Why a card does not open.
fn refusal(model: &Model, config: IxgbeConfig) -> String {
    match Ixgbe::open(model.clone(), config) {
        Ok(_) => panic!("the card opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_card_is_set_up_in_the_order_that_the_model_demands_for_every_seed() {
    for seed in 0..100 {
        let (model, mut device) = card(seed, IxgbeConfig::default());
        assert_eq!(device.mac().0, MAC);
        assert_eq!(device.link(), Link::Up { speed: 10_000 });
        let capabilities = device.capabilities();
        assert!(capabilities.tx_checksum && capabilities.tx_segmentation);
        let mut queue = device.open_queue(0).unwrap();
        model.arrive([&numbered(seed, 64)]);
        assert_eq!(received(&mut *queue)[0].0, numbered(seed, 64));
    }
}

#[test]
fn all_64_queues_open_once_and_no_other_does() {
    let config = IxgbeConfig {
        queues: 64,
        rx_descriptors: 64,
        tx_descriptors: 64,
        ..IxgbeConfig::default()
    };
    let (_model, mut device) = card(1, config);
    let queues: Vec<_> = (0..64).map(|i| device.open_queue(i).unwrap()).collect();
    let again = device.open_queue(63).err().unwrap().to_string();
    assert!(again.contains("open already"), "{again}");
    let beyond = device.open_queue(64).err().unwrap().to_string();
    assert!(beyond.contains("no queue 64"), "{beyond}");
    drop(queues);
}

#[test]
fn a_damaged_eeprom_is_refused_wherever_it_is_damaged() {
    // In the first part, in its address, and in the part that it points to.
    for word in [0x05, 0x11, 0x82] {
        let model = Model::new(MAC, 7);
        model.card(|card| card.damage_eeprom(word));
        let text = refusal(&model, IxgbeConfig::default());
        assert!(text.contains("EEPROM is damaged"), "{text}");
    }
}

#[test]
fn a_card_whose_requests_hang_is_reset_twice() {
    let model = Model::new(MAC, 7);
    model.card(|card| card.hang());
    let device = Ixgbe::open(model.clone(), IxgbeConfig::default()).unwrap();
    assert!(!model.card(|card| card.hangs()));
    assert_eq!(device.mac().0, MAC);
}

#[test]
fn a_configuration_that_no_card_has_is_refused_by_name() {
    let model = Model::new(MAC, 7);
    let good = IxgbeConfig::default();
    for (config, what) in [
        (
            IxgbeConfig {
                queues: 0,
                ..good.clone()
            },
            "1 to 64 queues",
        ),
        (
            IxgbeConfig {
                queues: 65,
                ..good.clone()
            },
            "1 to 64 queues",
        ),
        (
            IxgbeConfig {
                mtu: 67,
                ..good.clone()
            },
            "68 to 9710",
        ),
        (
            IxgbeConfig {
                mtu: 9711,
                ..good.clone()
            },
            "68 to 9710",
        ),
        (
            IxgbeConfig {
                rx_descriptors: 100,
                ..good.clone()
            },
            "power of two",
        ),
        (
            IxgbeConfig {
                tx_descriptors: 8192,
                ..good.clone()
            },
            "power of two",
        ),
    ] {
        let text = refusal(&model, config);
        assert!(text.contains(what), "{text}");
    }
}

#[test]
fn a_queue_without_memory_says_so_and_gives_back_what_it_had() {
    let (model, mut device) = card(3, IxgbeConfig::default());
    let before = model.memory.regions();
    // Two rings, the buffers, and the room to build frames in: each in turn is refused.
    let mut failures = 0;
    for allowed in 0.. {
        model.memory.limit(Some(allowed));
        match device.open_queue(0) {
            Err(error) => assert!(error.to_string().contains("none left"), "{error}"),
            Ok(_) => break,
        }
        failures += 1;
        assert_eq!(model.memory.regions(), before);
    }
    assert!(failures >= 4, "{failures}");
    model.memory.limit(None);
    let mut queue = device.open_queue(0).unwrap();
    model.arrive([&numbered(1, 64)]);
    assert_eq!(received(&mut *queue).len(), 1);
}

#[test]
fn memory_is_given_back_only_after_the_card_has_stopped_using_it() {
    for seed in 0..50 {
        let (model, mut device) = card(seed, IxgbeConfig::default());
        let mut queue = device.open_queue(0).unwrap();
        for number in 0..300 {
            let frame = numbered(number, 600);
            assert!(super::bed::send(&mut *queue, &frame, Default::default()));
        }
        queue.flush().unwrap();
        model.work();
        model.card(|card| card.loop_back());
        // The model reads and writes on until each queue has stopped: were its memory gone, it would
        // say so.
        drop(queue);
        assert_eq!(model.memory.regions(), 0);
        for _ in 0..10 {
            model.work();
        }
        drop(device);
        model.settle();
    }
}

#[test]
fn memory_is_never_given_back_while_a_queue_does_not_stop() {
    let (model, mut device) = card(8, IxgbeConfig::default());
    let queue = device.open_queue(0).unwrap();
    let mapped = model.memory.regions();
    // Nothing that the driver writes stops the receive queue.
    model.tamper(|offset, value| match offset {
        0x1028 => value | 1 << 25,
        _ => value,
    });
    drop(queue);
    let kept = model.memory.regions();
    assert!(kept > 0 && kept < mapped, "{kept} of {mapped}");
    // The card goes on, and finds its memory.
    for number in 0..100 {
        model.arrive([&numbered(number, 64)]);
    }
}

/// Where there was a card: nobody answers.
#[derive(Clone)]
struct Gone;

impl Registers for Gone {
    fn read(&self, _offset: u32) -> u32 {
        !0
    }

    fn write(&self, _offset: u32, _value: u32) {}

    fn pause(&self, _time: Duration) {}
}

impl Dma for Gone {
    fn allocate(&self, _bytes: usize) -> Result<DmaMemory, Error> {
        unreachable!("nothing is set up")
    }
}

impl Vectors for Gone {
    fn vector(&self, _index: usize) -> Option<OwnedFd> {
        None
    }
}

impl Bus for Gone {
    fn name(&self) -> &str {
        "0000:03:00.0"
    }

    fn start_dma(&self) -> Result<(), Error> {
        Ok(())
    }
}

#[test]
fn a_card_that_does_not_answer_is_gone() {
    let error = Ixgbe::open(Gone, IxgbeConfig::default()).err().unwrap();
    assert_eq!(error.to_string(), "0000:03:00.0 is gone");
}
