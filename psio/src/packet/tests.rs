//! Each test makes a network namespace of its own with a veth pair, and so needs root.

use super::*;
use crate::cable::{ip, receive, run, send, take_away, with_cable};
use crate::segment::tests::tcp_frame;
use crate::segment::verify_checksum;
use crate::{ChecksumOffload, Gso, GsoKind, RxChecksum};
use std::collections::BTreeSet;

fn open(interface: &str) -> Box<dyn Queue> {
    let mut device = Packet::open(&PacketConfig::new(interface)).unwrap();
    device.open_queue(0).unwrap()
}

#[test]
fn frames_cross_in_order_and_in_both_directions() {
    with_cable(|| {
        let (mut from, mut to) = (open("west"), open("east"));
        for _ in 0..2 {
            for sequence in 0..1000 {
                let frame = tcp_frame(false, sequence, 0x10, &[7; 100]);
                send(from.as_mut(), &frame, TxMeta::default());
            }
            assert_eq!(from.flush().unwrap(), 1000);
            let frames = receive(to.as_mut(), 1000);
            for (sequence, (frame, _)) in frames.iter().enumerate() {
                assert_eq!(*frame, tcp_frame(false, sequence as u32, 0x10, &[7; 100]));
            }
            assert_eq!((from.stats().tx_frames, from.stats().tx_dropped), (1000, 0));
            assert_eq!(to.stats().rx_dropped, 0);
            std::mem::swap(&mut from, &mut to);
        }
    });
}

#[test]
fn super_segments_cross_whole_among_small_ones() {
    with_cable(|| {
        let (mut west, mut east) = (open("west"), open("east"));
        for v6 in [false, true] {
            let kind = if v6 { GsoKind::TcpV6 } else { GsoKind::TcpV4 };
            let tcp = if v6 { 54 } else { 34 };
            let big = tcp_frame(v6, 1, 0x10, &[3; 60_000]);
            let meta = TxMeta {
                checksum: Some(ChecksumOffload {
                    start: tcp,
                    offset: 16,
                }),
                gso: Some(Gso {
                    kind,
                    size: 1428,
                    header_len: tcp + 32,
                }),
            };
            let small = tcp_frame(v6, 2, 0x10, b"small");
            for _ in 0..3 {
                send(west.as_mut(), &big, meta);
                send(west.as_mut(), &small, TxMeta::default());
            }
            assert_eq!(west.flush().unwrap(), 6);
            for (i, (frame, meta)) in receive(east.as_mut(), 6).into_iter().enumerate() {
                if i % 2 == 0 {
                    assert_eq!(frame[tcp as usize + 32..], [3; 60_000]);
                    assert_eq!(meta.checksum, RxChecksum::Good);
                    assert_eq!(meta.gso_size, 1428);
                } else {
                    assert_eq!(frame, small);
                    assert_eq!(meta.gso_size, 0);
                    assert_eq!(verify_checksum(&frame), Some(true));
                }
            }
        }
    });
}

#[test]
fn an_interface_without_segmentation_is_not_asked_for_it() {
    with_cable(|| {
        let segments = || {
            let device = Packet::open(&PacketConfig::new("west")).unwrap();
            device.capabilities().tx_segmentation
        };
        for feature in ["tso", "tx-tcp-segmentation", "tx-tcp6-segmentation"] {
            assert!(segments(), "{feature}");
            run("ethtool", &format!("-K west {feature} off"));
            assert!(!segments(), "{feature}");
            run("ethtool", "-K west tso on");
        }
    });
}

#[test]
fn what_does_not_fit_the_ring_is_counted_and_later_frames_come() {
    with_cable(|| {
        let mut device = Packet::open(&PacketConfig {
            slots: 64,
            ..PacketConfig::new("east")
        });
        let mut east = device.as_mut().unwrap().open_queue(0).unwrap();
        let mut west = open("west");
        let frame = |sequence| tcp_frame(false, sequence, 0x10, b"");
        for sequence in 0..500 {
            send(west.as_mut(), &frame(sequence), TxMeta::default());
        }
        assert_eq!(west.flush().unwrap(), 500);
        let mut came = 0;
        while east.receive(BURST, &mut |_, _| came += 1).unwrap() > 0 {}
        assert!((1..500).contains(&came), "{came}");
        assert!(east.stats().rx_dropped >= 500 - came);
        send(west.as_mut(), &frame(1000), TxMeta::default());
        west.flush().unwrap();
        let last = receive(east.as_mut(), 1).pop().unwrap();
        assert_eq!(last.0, frame(1000));
    });
}

#[test]
fn each_flow_keeps_to_one_queue() {
    with_cable(|| {
        let mut device = Packet::open(&PacketConfig {
            queues: 2,
            ..PacketConfig::new("east")
        })
        .unwrap();
        let mut queues = [0, 1].map(|index| device.open_queue(index).unwrap());
        assert!(device.open_queue(1).is_err() && device.open_queue(2).is_err());
        let mut west = open("west");
        for round in 0..4 {
            for port in 0..64u8 {
                let mut frame = tcp_frame(false, round, 0x10, b"");
                frame[35] = port;
                assert!(crate::segment::fill_checksum(&mut frame));
                send(west.as_mut(), &frame, TxMeta::default());
            }
        }
        assert_eq!(west.flush().unwrap(), 256);
        let mut flows = [BTreeSet::new(), BTreeSet::new()];
        let mut frames = 0;
        for (queue, flows) in queues.iter_mut().zip(&mut flows) {
            let mut sink = |frame: &[u8], _: RxMeta| {
                if frame[6..12] == [2, 0, 0, 0, 0, 2] {
                    flows.insert(frame[35]);
                    frames += 1;
                }
            };
            while queue.receive(BURST, &mut sink).unwrap() > 0 {}
        }
        assert_eq!(frames, 256);
        assert!(flows[0].is_disjoint(&flows[1]), "{flows:?}");
        assert!(flows.iter().all(|flows| !flows.is_empty()), "{flows:?}");
    });
}

#[test]
fn an_interface_that_is_removed_is_gone() {
    with_cable(|| {
        let mut east = open("east");
        take_away("east", east.as_mut());
    });
}

#[test]
fn an_interface_that_was_down_for_a_while_carries_frames_again() {
    with_cable(|| {
        let (mut west, mut east) = (open("west"), open("east"));
        ip("link set east down");
        assert!(east.receive(BURST, &mut |_, _| {}).is_ok());
        east.arm();
        assert!(east.receive(BURST, &mut |_, _| {}).is_ok());
        ip("link set east up");
        let frame = tcp_frame(false, 5, 0x10, b"again");
        // The cable carries nothing before both ends have noticed.
        let mut sink = |got: &[u8], _: RxMeta| assert!(got.len() >= 14);
        loop {
            send(west.as_mut(), &frame, TxMeta::default());
            west.flush().unwrap();
            east.arm();
            if east.receive(BURST, &mut sink).unwrap() > 0 {
                break;
            }
        }
    });
}

#[test]
fn what_cannot_be_shared_is_named_with_the_remedy() {
    with_cable(|| {
        ip("link add still type veth peer name other");
        for (interface, text, remedy) in [
            ("nowhere", "no interface \"nowhere\"", "ip link"),
            ("a-name-that-is-much-too-long", "no interface", "ip link"),
            ("still", "is down", "ip link set still up"),
        ] {
            let error = Packet::open(&PacketConfig::new(interface)).err().unwrap();
            assert!(matches!(error, Error::Missing { .. }), "{error:?}");
            let said = error.to_string();
            assert!(said.contains(text) && said.contains(remedy), "{said}");
        }
        for queues in [0, 257] {
            let config = PacketConfig {
                queues,
                ..PacketConfig::new("west")
            };
            let error = Packet::open(&config).err().unwrap();
            assert!(error.to_string().contains("1 to 256 queues"), "{error}");
        }
    });
}
