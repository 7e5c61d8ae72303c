//! Which queue a frame goes to: RSS and 5-tuple filters.

use std::net::{Ipv4Addr, SocketAddrV4};

use psio::ixgbe::{FIVE_TUPLES, FiveTuple, Ixgbe, IxgbeConfig, Protocol, TABLE_LEN};
use psio::{Device, Queue};

use super::bed::{Model, card, received};
use super::frames::{Tcp, udp};

/// A card with `queues` queues, all open, and small rings.
fn queues(queues: usize) -> (Model, Ixgbe<Model>, Vec<Box<dyn Queue>>) {
    let config = IxgbeConfig {
        queues,
        rx_descriptors: 128,
        tx_descriptors: 64,
        coalescing: false,
        ..IxgbeConfig::default()
    };
    let (model, mut device) = card(13, config);
    let open = (0..queues).map(|i| device.open_queue(i).expect("a queue"));
    let open = open.collect();
    (model, device, open)
}

/// How many frames wait at each queue.
fn waiting(queues: &mut [Box<dyn Queue>]) -> Vec<usize> {
    queues
        .iter_mut()
        .map(|q| received(&mut **q).len())
        .collect()
}

/// The queue of the one frame that waits.
fn only(queues: &mut [Box<dyn Queue>]) -> usize {
    let waiting = waiting(queues);
    assert_eq!(waiting.iter().sum::<usize>(), 1);
    waiting.iter().position(|n| *n == 1).expect("one")
}

fn v4(ip: [u8; 4], port: u16) -> Option<SocketAddrV4> {
    Some(SocketAddrV4::new(Ipv4Addr::from(ip), port))
}

/// Source, destination, and the hash without and with ports: the verification suite of RSS.
type Vector = (([u8; 4], u16), ([u8; 4], u16), u32, u32);

const VECTORS: [Vector; 5] = [
    (
        ([66, 9, 149, 187], 2794),
        ([161, 142, 100, 80], 1766),
        0x323e_8fc2,
        0x51cc_c178,
    ),
    (
        ([199, 92, 111, 2], 14230),
        ([65, 69, 140, 83], 4739),
        0xd718_262a,
        0xc626_b0ea,
    ),
    (
        ([24, 19, 198, 95], 12898),
        ([12, 22, 207, 184], 38024),
        0xd2d0_a5de,
        0x5c2b_394a,
    ),
    (
        ([38, 27, 205, 30], 48228),
        ([209, 142, 163, 6], 2217),
        0x8298_9176,
        0xafc7_327f,
    ),
    (
        ([153, 39, 163, 191], 44251),
        ([202, 188, 127, 2], 1303),
        0x5d18_09c5,
        0x10e8_28a2,
    ),
];

#[test]
fn frames_go_where_the_device_says_that_they_do() {
    let (model, device, mut queues) = queues(5);
    let rss = device.rss().expect("several queues");
    for port in (1024..u16::MAX).step_by(1999) {
        let (source, destination) = (([192, 0, 2, 7], 80), ([10, 77, 0, 2], port));
        let tcp = Tcp {
            source,
            destination,
            ..Tcp::default()
        };
        model.arrive([&tcp.frame()]);
        let said = rss.queue_for(source.into(), destination.into());
        assert_eq!(only(&mut queues), usize::from(said), "port {port}");
    }
}

#[test]
fn frames_go_where_the_published_hashes_say() {
    let (model, _device, mut queues) = queues(16);
    for (source, destination, addresses, ports) in VECTORS {
        let tcp = Tcp {
            source,
            destination,
            ..Tcp::default()
        };
        model.arrive([&tcp.frame()]);
        assert_eq!(only(&mut queues), ports as usize & 15);
        // A datagram's fragments have no ports, and must meet in one queue.
        model.arrive([&udp(source, destination, b"payload")]);
        assert_eq!(only(&mut queues), addresses as usize & 15);
    }
}

#[test]
fn flows_of_both_versions_spread_over_all_queues_and_each_stays_on_its_own() {
    for v6 in [false, true] {
        let (model, _device, mut queues) = queues(4);
        let flow = |port: u16| Tcp {
            v6,
            source: ([10, 0, 0, 1], port),
            ..Tcp::default()
        };
        for port in 0..400 {
            let frame = flow(port).frame();
            model.arrive([&frame]);
            let queue = only(&mut queues);
            model.arrive([&frame, &frame]);
            assert_eq!(waiting(&mut queues)[queue], 2);
            for _ in 0..17 {
                model.arrive([&frame]);
                assert_eq!(only(&mut queues), queue);
            }
        }
        let frames: Vec<_> = queues.iter().map(|q| q.stats().rx_frames).collect();
        assert_eq!(frames.iter().sum::<u64>(), 400 * 20);
        // A quarter each, give or take a quarter of that.
        assert!(
            frames.iter().all(|n| (1500..2500).contains(n)),
            "{frames:?}"
        );
    }
}

#[test]
fn a_table_of_ones_own_decides_and_one_that_names_no_queue_is_refused() {
    let (model, device, mut queues) = queues(4);
    device.spread(&[2; TABLE_LEN]).unwrap();
    for (source, destination, ..) in VECTORS {
        let tcp = Tcp {
            source,
            destination,
            ..Tcp::default()
        };
        model.arrive([&tcp.frame()]);
    }
    assert_eq!(waiting(&mut queues), [0, 0, 5, 0]);
    let mut wrong = [0; TABLE_LEN];
    wrong[77] = 4;
    let text = device.spread(&wrong).unwrap_err().to_string();
    assert!(text.contains("no queue 4"), "{text}");
}

#[test]
fn a_filter_steers_its_flow_past_the_hash_to_any_queue_until_it_is_released() {
    let (model, device, mut queues) = queues(64);
    let tcp = Tcp::default();
    let flow = FiveTuple {
        protocol: Protocol::Tcp,
        source: v4(tcp.source.0, tcp.source.1),
        destination: v4(tcp.destination.0, tcp.destination.1),
    };
    model.arrive([&tcp.frame()]);
    let hashed = only(&mut queues);
    let filter = device.steer(flow, 40).unwrap();
    model.arrive([&tcp.frame()]);
    assert_eq!(only(&mut queues), 40);
    // Anything that differs is another flow.
    for other in [
        Tcp {
            source: ([10, 0, 0, 9], 40_000),
            ..tcp
        },
        Tcp {
            source: ([10, 0, 0, 1], 40_001),
            ..tcp
        },
        Tcp {
            destination: ([10, 0, 0, 3], 80),
            ..tcp
        },
        Tcp {
            destination: ([10, 0, 0, 2], 81),
            ..tcp
        },
    ] {
        model.arrive([&other.frame()]);
        assert_ne!(only(&mut queues), 40);
    }
    model.arrive([&udp(tcp.source, tcp.destination, b"not TCP")]);
    assert_ne!(only(&mut queues), 40);
    assert!(device.release(filter));
    assert!(!device.release(filter));
    model.arrive([&tcp.frame()]);
    assert_eq!(only(&mut queues), hashed);
}

#[test]
fn a_filter_without_a_source_takes_all_that_goes_to_a_port() {
    let (model, device, mut queues) = queues(20);
    let listener = FiveTuple {
        protocol: Protocol::Tcp,
        source: None,
        destination: v4([10, 0, 0, 2], 80),
    };
    device.steer(listener, 19).unwrap();
    for port in 1..50 {
        let tcp = Tcp {
            source: ([10, 0, 0, port as u8], port),
            ..Tcp::default()
        };
        model.arrive([&tcp.frame()]);
        assert_eq!(only(&mut queues), 19);
    }
}

#[test]
fn filters_beyond_the_last_and_to_queues_that_do_not_exist_are_refused() {
    let (_model, device, _queues) = queues(2);
    let flow = |port: u16| FiveTuple {
        protocol: Protocol::Udp,
        source: v4([10, 0, 0, 1], port),
        destination: None,
    };
    let text = device.steer(flow(1), 2).unwrap_err().to_string();
    assert!(text.contains("no queue 2"), "{text}");
    let filters: Vec<_> = (0..FIVE_TUPLES as u16)
        .map(|port| device.steer(flow(port), 1).unwrap())
        .collect();
    let text = device.steer(flow(999), 1).unwrap_err().to_string();
    assert!(text.contains("all 128"), "{text}");
    assert!(device.release(filters[77]));
    assert_eq!(device.steer(flow(999), 1).unwrap(), filters[77]);
}
