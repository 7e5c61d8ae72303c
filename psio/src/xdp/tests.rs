#![allow(unsafe_code)]

use super::*;
use crate::cable::{PATIENCE, ip, receive, run, send, take_away, with_cable, with_wide_cable};
use crate::segment::tests::tcp_frame;
use crate::{BURST, RxMeta, TxMeta};
use std::process::Command;
use std::time::Instant;

fn open(interface: &str) -> Box<dyn Queue> {
    open_with(&XdpConfig::new(interface))
}

fn open_with(config: &XdpConfig) -> Box<dyn Queue> {
    Xdp::open(config).unwrap().open_queue(0).unwrap()
}

fn error(config: &XdpConfig) -> String {
    let opened = Xdp::open(config).and_then(|mut device| device.open_queue(0));
    let error = opened.err().unwrap();
    assert!(matches!(error, Error::Missing { .. }), "{error:?}");
    error.to_string()
}

fn shows(interface: &str, what: &str) -> bool {
    let arguments = ["-d", "link", "show", interface];
    let output = Command::new("ip").args(arguments).output().expect("ip(8)");
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().contains(what)
}

fn runs_a_program(interface: &str) -> bool {
    shows(interface, "prog/xdp")
}

fn frame(sequence: u32, payload: usize) -> Vec<u8> {
    tcp_frame(false, sequence, 0x10, &vec![sequence as u8; payload])
}

/// A whole burst from one end to the other.
fn exchange(from: &mut dyn Queue, to: &mut dyn Queue, frames: &[Vec<u8>]) {
    for frame in frames {
        send(from, frame, TxMeta::default());
    }
    assert_eq!(from.flush().unwrap(), frames.len());
    for (want, (got, meta)) in frames.iter().zip(receive(to, frames.len())) {
        assert!(*want == got);
        assert_eq!(meta, RxMeta::default());
    }
}

#[test]
fn bursts_cross_in_order_and_in_both_directions_while_the_rings_go_round() {
    with_cable(|| {
        let config = |interface| XdpConfig {
            slots: 256,
            ..XdpConfig::new(interface)
        };
        let (mut from, mut to) = (open_with(&config("west")), open_with(&config("east")));
        for _ in 0..2 {
            for burst in 0..20 {
                let frames = (0..BURST as u32).map(|i| frame(burst * 100 + i, 100));
                exchange(from.as_mut(), to.as_mut(), &frames.collect::<Vec<_>>());
            }
            let (sent, received) = (from.stats(), to.stats());
            assert_eq!((sent.tx_frames, sent.tx_dropped), (20 * BURST as u64, 0));
            assert_eq!(
                sent.tx_bytes,
                20 * BURST as u64 * frame(0, 100).len() as u64
            );
            assert_eq!(received.rx_dropped, 0);
            std::mem::swap(&mut from, &mut to);
        }
    });
}

#[test]
fn frames_of_every_size_up_to_the_mtu_cross() {
    with_cable(|| {
        for mtu in [1500, 1774, 3000] {
            ip(&format!("link set west mtu {mtu}"));
            ip(&format!("link set east mtu {mtu}"));
            let (mut west, mut east) = (open("west"), open("east"));
            let longest = mtu - 52;
            let frames = [0, 1, 2, 500, longest - 1, longest].map(|payload| frame(7, payload));
            assert_eq!(frames[5].len(), 14 + mtu);
            exchange(west.as_mut(), east.as_mut(), &frames);
        }
    });
}

#[test]
fn an_mtu_that_does_not_fit_a_frame_is_refused() {
    with_cable(|| {
        for mtu in [MAX_MTU + 1, 9000] {
            ip(&format!("link set west mtu {mtu}"));
            let said = error(&XdpConfig::new("west"));
            assert!(said.contains(&format!("an MTU of {mtu} bytes")), "{said}");
            assert!(
                said.contains(&format!("ip link set west mtu {MAX_MTU}")),
                "{said}"
            );
        }
    });
}

#[test]
fn what_finds_no_free_frame_is_counted_and_later_frames_come() {
    with_cable(|| {
        let mut east = open_with(&XdpConfig {
            slots: 64,
            ..XdpConfig::new("east")
        });
        let mut west = open("west");
        let start = Instant::now();
        while east.stats().rx_dropped == 0 {
            assert!(start.elapsed() < PATIENCE, "nothing was dropped");
            for sequence in 0..32 {
                send(west.as_mut(), &frame(sequence, 10), TxMeta::default());
            }
            west.flush().unwrap();
        }
        let mut came = 0;
        while east.receive(BURST, &mut |_, _| came += 1).unwrap() > 0 {}
        assert_eq!(came, 64);
        exchange(west.as_mut(), east.as_mut(), &[frame(1000, 10)]);
    });
}

#[test]
fn without_a_free_frame_there_is_no_room_until_some_were_sent() {
    with_cable(|| {
        let mut west = open_with(&XdpConfig {
            slots: 128,
            ..XdpConfig::new("west")
        });
        let _east = open("east");
        let start = Instant::now();
        for _ in 0..3 {
            let mut built = 0;
            while built < 64 {
                assert!(start.elapsed() < PATIENCE, "not all frames come back");
                if west.reserve(60).is_some() {
                    west.commit(60, TxMeta::default());
                    built += 1;
                }
            }
            assert!(west.reserve(60).is_none());
            assert_eq!(west.flush().unwrap(), 64);
        }
    });
}

#[test]
fn each_queue_receives_what_the_interface_gives_it() {
    with_wide_cable(2, || {
        let queues = |interface: &str| {
            let mut device = Xdp::open(&XdpConfig {
                queues: 2,
                ..XdpConfig::new(interface)
            })
            .unwrap();
            let queues = [0, 1].map(|index| device.open_queue(index).unwrap());
            assert!(device.open_queue(1).is_err() && device.open_queue(2).is_err());
            queues
        };
        let (mut west, mut east) = (queues("west"), queues("east"));
        for round in 0..10 {
            for index in [0, 1] {
                // A veth hands a frame to the queue that it was sent by.
                let frames = [0, 1, 2].map(|i| frame(round * 10 + i, 10 + index));
                exchange(west[index].as_mut(), east[index].as_mut(), &frames);
            }
        }
    });
}

#[test]
fn an_interface_with_other_queues_is_refused_with_the_remedy() {
    with_wide_cable(2, || {
        let said = error(&XdpConfig::new("west"));
        assert!(said.contains("over 2 queues"), "{said}");
        assert!(said.contains("ethtool -L west"), "{said}");
        run("ethtool", "-L west rx 1 tx 1");
        let said = error(&XdpConfig::new("west"));
        assert!(said.contains("no queues left"), "east sends by two: {said}");
        run("ethtool", "-L east rx 1 tx 1");
        open("west");
    });
}

#[test]
fn an_interface_runs_a_program_only_while_a_queue_is_open() {
    with_cable(|| {
        let mut device = Xdp::open(&XdpConfig::new("west")).unwrap();
        assert!(!runs_a_program("west"), "no queue is open");
        let queue = device.open_queue(0).unwrap();
        assert!(runs_a_program("west") && shows("west", "allmulti 1"));
        drop(device);
        assert!(runs_a_program("west") && shows("west", "allmulti 1"));
        drop(queue);
        assert!(!runs_a_program("west") && shows("west", "allmulti 0"));
    });
}

#[test]
fn a_program_that_is_there_already_stays() {
    with_cable(|| {
        let index = interface::look_up("west").unwrap().index;
        let other = Program::load("other", 1).unwrap();
        let link = other.attach("other", index).unwrap();
        let said = error(&XdpConfig::new("west"));
        assert!(said.contains("west runs another XDP program"), "{said}");
        assert!(said.contains("ip link set west xdp off"), "{said}");
        assert!(runs_a_program("west"));
        drop(link);
        let _taken = open("west");
        let said = error(&XdpConfig::new("west"));
        assert!(said.contains("AF_XDP socket already"), "{said}");
    });
}

#[test]
fn missing_privileges_are_named() {
    with_cable(|| {
        let nobody: libc::c_long = 65_534;
        // SAFETY: the system call changes this thread's user alone, which has opened nothing.
        let result = unsafe { libc::syscall(libc::SYS_setresuid, nobody, nobody, nobody) };
        assert_eq!(result, 0);
        let said = error(&XdpConfig::new("west"));
        assert!(
            said.contains("CAP_BPF") && said.contains("setcap"),
            "{said}"
        );
    });
}

#[test]
fn what_cannot_be_is_refused() {
    with_cable(|| {
        let config = XdpConfig::new("west");
        for (config, text) in [
            (
                XdpConfig {
                    queues: 0,
                    ..config.clone()
                },
                "1 to 256 queues",
            ),
            (
                XdpConfig {
                    queues: 257,
                    ..config.clone()
                },
                "1 to 256 queues",
            ),
            (
                XdpConfig {
                    slots: 100,
                    ..config.clone()
                },
                "a power of two",
            ),
            (
                XdpConfig {
                    slots: 1,
                    ..config.clone()
                },
                "a power of two",
            ),
            (
                XdpConfig {
                    slots: 1 << 17,
                    ..config.clone()
                },
                "a power of two",
            ),
            (XdpConfig::new("nowhere"), "no interface \"nowhere\""),
        ] {
            let said = Xdp::open(&config).err().unwrap().to_string();
            assert!(said.contains(text), "{said}");
        }
    });
}

#[test]
fn an_interface_that_is_removed_is_gone() {
    with_cable(|| {
        let mut east = open("east");
        take_away("east", east.as_mut());
        send(east.as_mut(), &frame(1, 1), TxMeta::default());
        assert!(matches!(east.flush(), Err(Error::Gone(_))));
    });
}

#[test]
fn an_interface_that_was_down_for_a_while_carries_frames_again() {
    with_cable(|| {
        let (mut west, mut east) = (open("west"), open("east"));
        ip("link set east down");
        send(east.as_mut(), &frame(1, 1), TxMeta::default());
        assert!(east.flush().is_ok());
        assert!(east.receive(BURST, &mut |_, _| {}).is_ok());
        assert!(east.arm(), "nothing to do while it is down");
        ip("link set east up");
        let frame = frame(5, 10);
        let start = Instant::now();
        // The cable carries nothing before both ends have noticed.
        loop {
            send(west.as_mut(), &frame, TxMeta::default());
            west.flush().unwrap();
            east.arm();
            if east.receive(BURST, &mut |_, _| {}).unwrap() > 0 {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "nothing comes");
        }
    });
}
