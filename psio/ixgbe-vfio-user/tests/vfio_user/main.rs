//! Our driver on the model, by vfio-user's socket: registers by messages, memory by descriptors, and
//! interrupts by eventfds.
#![allow(unsafe_code)]

mod remote;

use std::os::fd::RawFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ixgbe_vfio_user::{Port, Wire, join, serve};
use psio::ixgbe::{Dma, Ixgbe, IxgbeConfig, Link};
use psio::{Device, Queue, TxMeta};
use tempfile::TempDir;

use remote::Remote;

const MACS: [[u8; 6]; 2] = [[0x00, 0x1b, 0x21, 0, 0, 1], [0x00, 0x1b, 0x21, 0, 0, 2]];

/// How long anything may take that has no reason to fail.
const PATIENCE: Duration = Duration::from_secs(30);

/// A card that is served.
struct Served {
    port: Port,
    socket: PathBuf,
    server: JoinHandle<Result<(), vfio_user::Error>>,
    _directory: TempDir,
}

fn served(mac: [u8; 6]) -> Served {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("card");
    let port = Port::new(mac, 5);
    let server = thread::spawn({
        let (port, listener) = (port.clone(), UnixListener::bind(&socket).expect("a socket"));
        move || serve(&port, listener)
    });
    Served {
        port,
        socket,
        server,
        _directory: directory,
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < PATIENCE,
            "{what}, but not within {PATIENCE:?}"
        );
        thread::yield_now();
    }
}

/// Two cards on a wire, with a driver each and their links up.
struct Bed {
    drivers: [Ixgbe<Remote>; 2],
    _wire: Wire,
    _cards: [Served; 2],
}

fn bed() -> Bed {
    let cards = MACS.map(served);
    let wire = join(cards[0].port.clone(), cards[1].port.clone());
    let drivers = [0, 1].map(|side: usize| {
        let remote = Remote::connect(&cards[side].socket);
        Ixgbe::open(remote, IxgbeConfig::default()).expect("the card is set up")
    });
    for driver in &drivers {
        until("the link is up", || driver.link() != Link::Down);
    }
    Bed {
        drivers,
        _wire: wire,
        _cards: cards,
    }
}

fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![number as u8; len];
    frame[..6].copy_from_slice(&MACS[1]);
    frame[6..12].copy_from_slice(&MACS[0]);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame[14..18].copy_from_slice(&number.to_be_bytes());
    frame
}

fn send(queue: &mut dyn Queue, frame: &[u8]) {
    until("there is room", || {
        let there = match queue.reserve(frame.len()) {
            Some(room) => {
                room.copy_from_slice(frame);
                true
            }
            None => false,
        };
        if there {
            queue.commit(frame.len(), TxMeta::default());
        }
        queue.flush().expect("the queue works");
        there
    });
}

fn received(queue: &mut dyn Queue) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    queue
        .receive(usize::MAX, &mut |frame, _| frames.push(frame.to_vec()))
        .expect("the queue works");
    frames
}

fn wait_readable(fd: RawFd) {
    let mut polled = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: the pointer is to the one entry that the count says.
    let ready = unsafe { libc::poll(&mut polled, 1, PATIENCE.as_millis() as i32) };
    assert_eq!(ready, 1, "an interrupt");
}

#[test]
fn frames_cross_the_wire_between_two_drivers_and_are_counted_by_both() {
    const FRAMES: u32 = 2000;
    // Fewer than the receiver has descriptors for: none is dropped.
    const AHEAD: u32 = 256;
    let mut bed = bed();
    let mut from = bed.drivers[0].open_queue(0).expect("a queue");
    let mut to = bed.drivers[1].open_queue(0).expect("a queue");
    let mut seen = 0;
    let check = |frames: Vec<Vec<u8>>, seen: &mut u32| {
        for found in frames {
            assert_eq!(found, frame(*seen, 60 + (*seen as usize * 7) % 1454));
            *seen += 1;
        }
    };
    for number in 0..FRAMES {
        send(
            &mut *from,
            &frame(number, 60 + (number as usize * 7) % 1454),
        );
        until("the receiver keeps up", || {
            check(received(&mut *to), &mut seen);
            number + 1 - seen < AHEAD
        });
    }
    until("all have come", || {
        check(received(&mut *to), &mut seen);
        seen == FRAMES
    });
    let [sent, came] = [0, 1].map(|side: usize| bed.drivers[side].statistics());
    assert_eq!(
        (sent.tx_frames, came.rx_frames),
        (FRAMES.into(), FRAMES.into())
    );
    assert_eq!(sent.tx_bytes, came.rx_bytes);
}

#[test]
fn a_worker_that_sleeps_is_woken_by_the_eventfd_of_its_vector() {
    let mut bed = bed();
    let mut from = bed.drivers[0].open_queue(0).expect("a queue");
    let mut to = bed.drivers[1].open_queue(0).expect("a queue");
    for number in 0..50 {
        assert!(to.arm(), "nothing waits");
        send(&mut *from, &frame(number, 100));
        wait_readable(to.wait_fd().expect("a descriptor to wait on"));
        to.disarm(true);
        assert_eq!(received(&mut *to), [frame(number, 100)]);
    }
}

#[test]
fn configuration_space_is_that_of_an_82599_with_64_vectors() {
    let card = served(MACS[0]);
    let remote = Remote::connect(&card.socket);
    let mut bytes = [0; 256];
    remote.configuration(0, &mut bytes);
    assert_eq!(bytes[..4], [0x86, 0x80, 0xf7, 0x10]);
    let mut at = usize::from(bytes[0x34]);
    let mut seen = Vec::new();
    while at != 0 {
        seen.push(bytes[at]);
        if bytes[at] == 0x11 {
            assert_eq!(bytes[at + 2], 63);
        }
        at = usize::from(bytes[at + 1]);
    }
    assert_eq!(
        seen,
        [0x01, 0x11, 0x10],
        "power management, MSI-X, PCI Express"
    );
}

#[test]
fn memory_is_taken_away_when_it_is_unmapped_or_the_driver_is_gone() {
    use ixgbe_model::Memory;
    let card = served(MACS[0]);
    let remote = Remote::connect(&card.socket);
    let mut memory = card.port.memory().clone();
    let first = remote.allocate(8192).expect("memory");
    let second = remote.allocate(4096).expect("memory");
    let (one, two) = (first.address(), second.address());
    assert!(memory.is_mapped(one, 8192) && !memory.is_mapped(one, 8193));
    drop(first);
    assert!(!memory.is_mapped(one, 1) && memory.is_mapped(two, 4096));
    // The other side goes without a word.
    std::mem::forget(second);
    remote.shutdown();
    card.server.join().expect("no panic").expect("no error");
    assert!(!memory.is_mapped(two, 1));
}
