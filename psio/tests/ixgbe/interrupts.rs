//! Sleeping on a queue.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ixgbe_model::Card;
use psio::ixgbe::{IxgbeConfig, Protocol, Registers};
use psio::{Device, Queue};

use super::bed::{MAC, Model, card, is_readable, one_queue, received, wait_readable};
use super::frames::{Tcp, number, numbered};

fn fd(queue: &dyn Queue) -> RawFd {
    queue.wait_fd().expect("a descriptor to wait on")
}

#[test]
fn a_worker_that_sleeps_is_woken_by_each_frame() {
    let (model, _device, mut queue) = one_queue(17, IxgbeConfig::default());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let card = model.clone();
        let stop = &stop;
        // The card works by itself, and a new frame comes only when the last one was taken.
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                card.work();
                thread::yield_now();
            }
        });
        for expected in 0..300 {
            assert!(queue.arm(), "nothing waits");
            let arrival = numbered(expected, 64);
            model.card(|card| card.arrive(&arrival));
            wait_readable(fd(&*queue));
            queue.disarm(true);
            let frames = received(&mut *queue);
            assert_eq!(frames.len(), 1);
            assert_eq!(number(&frames[0].0), expected);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(model.card(|card| card.interrupts_signalled()), 300);
}

#[test]
fn a_worker_that_is_awake_is_not_interrupted() {
    let (model, _device, mut queue) = one_queue(17, IxgbeConfig::default());
    for round in 0..100 {
        model.arrive([&numbered(round, 64)]);
        assert_eq!(received(&mut *queue).len(), 1);
    }
    assert_eq!(model.card(|card| card.interrupts_signalled()), 0);
    assert!(!is_readable(fd(&*queue)));
}

#[test]
fn a_worker_does_not_go_to_sleep_on_frames_that_have_come() {
    let (model, _device, mut queue) = one_queue(17, IxgbeConfig::default());
    model.arrive([&numbered(1, 64)]);
    assert!(!queue.arm());
    assert_eq!(received(&mut *queue).len(), 1);
    assert!(queue.arm());
    queue.disarm(true);
    // Awake again: what comes now interrupts nobody.
    let before = model.card(|card| card.interrupts_signalled());
    model.arrive([&numbered(2, 64)]);
    assert_eq!(model.card(|card| card.interrupts_signalled()), before);
    assert!(!is_readable(fd(&*queue)));
}

#[test]
fn a_frame_between_the_last_look_and_the_sleep_wakes_at_once() {
    let (model, _device, mut queue) = one_queue(17, IxgbeConfig::default());
    // Its interrupt was masked when it came, and is let through by arming.
    model.card(|card| card.arrive(&numbered(1, 64)));
    assert!(queue.arm());
    model.settle();
    assert!(is_readable(fd(&*queue)));
}

/// Steps of the model's clock, a microsecond each, until a frame that arrives now interrupts.
fn steps_to_interrupt(model: &Model, queue: &mut dyn Queue) -> usize {
    assert!(queue.arm());
    model.card(|card| card.arrive(&numbered(1, 64)));
    let mut steps = 0;
    while !is_readable(fd(queue)) {
        model.work();
        steps += 1;
    }
    queue.disarm(true);
    assert_eq!(received(queue).len(), 1);
    steps
}

#[test]
fn interrupts_are_as_far_apart_as_was_configured() {
    for moderation in [100, 500, 1000] {
        let config = IxgbeConfig {
            moderation: Duration::from_micros(moderation),
            ..IxgbeConfig::default()
        };
        let (model, _device, mut queue) = one_queue(17, config);
        steps_to_interrupt(&model, &mut *queue);
        for _ in 0..5 {
            let steps = steps_to_interrupt(&model, &mut *queue);
            assert!(steps as u64 + 2 >= moderation, "{steps} of {moderation}");
        }
    }
}

#[test]
fn each_of_64_queues_has_an_interrupt_of_its_own() {
    let config = IxgbeConfig {
        queues: 64,
        rx_descriptors: 64,
        tx_descriptors: 64,
        ..IxgbeConfig::default()
    };
    let (model, mut device) = card(2, config);
    let mut queues: Vec<_> = (0..64).map(|i| device.open_queue(i).unwrap()).collect();
    let tcp = Tcp::default();
    let flow = psio::ixgbe::FiveTuple {
        protocol: Protocol::Tcp,
        source: None,
        destination: None,
    };
    for wanted in 0..64 {
        for queue in &mut queues {
            assert!(queue.arm());
        }
        let filter = device.steer(flow, wanted).unwrap();
        model.arrive([&tcp.frame()]);
        let rung = queues.iter().map(|queue| is_readable(fd(&**queue)));
        assert!(
            rung.enumerate()
                .all(|(index, rung)| rung == (index == wanted))
        );
        for queue in &mut queues {
            queue.disarm(true);
        }
        assert_eq!(received(&mut *queues[wanted]).len(), 1);
        assert!(device.release(filter));
    }
}

#[test]
fn a_tolerant_card_lets_interrupts_be_enabled_before_msi_x_is_and_signals_none() {
    let (eics, eims, gpie) = (0x808, 0x880, 0x898);
    let model = Model::new(MAC, 1);
    model.card(Card::set_tolerant);
    model.write(eims, 1);
    model.write(eics, 1);
    model.settle();
    assert_eq!(model.card(|card| card.interrupts_signalled()), 0);
    model.write(gpie, 1 << 4);
    model.settle();
    assert_eq!(model.card(|card| card.interrupts_signalled()), 1);
}
