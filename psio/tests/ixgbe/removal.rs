//! A card that is taken out of the machine while it runs: its registers read as ones, and nothing that
//! the driver waits for comes.

use psio::ixgbe::{IxgbeConfig, Link};
use psio::{Device, Error, Queue};

use super::bed::{Model, is_readable, one_queue, received, send};
use super::frames::numbered;

/// More rounds than a worker polls in a few milliseconds.
const ROUNDS: usize = 100_000;

fn is_gone<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Gone(name)) if name == "model")
}

fn receive(queue: &mut dyn Queue) -> Result<usize, Error> {
    queue.receive(64, &mut |frame, _| panic!("{} bytes came", frame.len()))
}

#[test]
fn a_worker_that_polls_hears_of_it_after_what_came_before() {
    let (model, _device, mut queue) = one_queue(1, IxgbeConfig::default());
    model.arrive([&numbered(1, 64), &numbered(2, 64)]);
    model.take_out();
    assert_eq!(received(&mut *queue).len(), 2);
    assert!((0..ROUNDS).any(|_| is_gone(&receive(&mut *queue))));
}

#[test]
fn a_worker_that_is_about_to_sleep_hears_of_it_and_stays_awake() {
    let (model, _device, mut queue) = one_queue(2, IxgbeConfig::default());
    assert!(queue.arm());
    queue.disarm(true);
    model.take_out();
    assert!(!queue.arm());
    assert!(is_gone(&receive(&mut *queue)));
}

#[test]
fn a_worker_that_sleeps_wakes_to_look_although_no_interrupt_comes() {
    let (model, _device, mut queue) = one_queue(3, IxgbeConfig::default());
    assert!(queue.arm());
    model.take_out();
    assert!(!is_readable(queue.wait_fd().unwrap()));
    let most = queue.longest_sleep().unwrap();
    assert!(most.as_secs() < 10, "{most:?}");
}

#[test]
fn what_is_sent_meanwhile_fills_the_ring_and_no_more() {
    let (model, _device, mut queue) = one_queue(4, IxgbeConfig::default());
    model.take_out();
    let fits = (0..ROUNDS).take_while(|n| {
        let fits = send(&mut *queue, &numbered(*n as u64, 600), Default::default());
        queue.flush().unwrap();
        fits
    });
    let count = fits.count();
    assert!((1..512).contains(&count), "{count}");
    assert!(!queue.arm());
    assert!(is_gone(&receive(&mut *queue)));
}

#[test]
fn its_statistics_stay_as_they_were() {
    let (model, device, mut queue) = one_queue(5, IxgbeConfig::default());
    model.arrive([&numbered(1, 64)]);
    assert_eq!(received(&mut *queue).len(), 1);
    let (port, counts) = (device.statistics(), queue.stats());
    model.take_out();
    assert_eq!(device.statistics(), port);
    assert_eq!(queue.stats(), counts);
    assert_eq!(device.link(), Link::Down);
}

#[test]
fn a_queue_that_is_dropped_then_keeps_its_memory_and_no_other_can_be_opened() {
    let (model, mut device, queue): (Model, _, _) = one_queue(6, IxgbeConfig::default());
    let mapped = model.memory.regions();
    model.take_out();
    drop(queue);
    assert_eq!(model.memory.regions(), mapped);
    assert!(is_gone(&device.open_queue(0)));
}
