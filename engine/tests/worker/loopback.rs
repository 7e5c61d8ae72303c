//! 127.0.0.0/8, ::1 and the stack's own addresses, inside the stack.

use crate::app::App;
use crate::bed::{Bed, Setup, address, address6, mac};
use crate::frames::{TcpFrame, ethernet};
use crate::workers::two_workers;
use context::socket::state;
use engine::stats::Counter;
use engine::tcp::Flags;
use engine::wire::{Ipv6Header, protocol};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;

const ANY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
const OTHER_LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 1, 2, 3);

/// A connection of a process with itself.
fn connected(bed: &mut Bed, to: impl Into<IpAddr>) -> (App, u32, u32) {
    let mut app = bed.app(1);
    let listener = app.socket().unwrap();
    assert!(bed.listen_at(listener, (ANY, 80), false));
    let socket = app.socket().unwrap();
    app.connect(socket, (to.into(), 80));
    bed.settle();
    let accepted = app.accept(listener).expect("it waits");
    (app, socket, accepted)
}

fn names(bed: &Bed, socket: u32) -> (SocketAddr, SocketAddr) {
    let names = &bed.shared.segment.socket(socket).unwrap().names;
    (names.local(), names.remote())
}

#[test]
fn the_source_address_is_that_of_linux_routes() {
    let own = IpAddr::from(address(1));
    for (to, from) in [
        (
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv4Addr::LOCALHOST.into(),
        ),
        (OTHER_LOOPBACK.into(), Ipv4Addr::LOCALHOST.into()),
        (own, own),
        (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()),
        (address6(1).into(), address6(1).into()),
    ] {
        let mut bed = Setup::dual(1).build();
        let (_, socket, accepted) = connected(&mut bed, to);
        let (local, peer) = names(&bed, socket);
        assert_eq!((local.ip(), peer), (from, (to, 80).into()));
        assert_eq!(names(&bed, accepted), (peer, local));
    }
}

#[test]
fn both_ends_may_write_as_much_at_first() {
    let mut bed = Setup::dual(1).build();
    let (_, socket, accepted) = connected(&mut bed, Ipv4Addr::LOCALHOST);
    let limit = |socket| {
        let record = bed.shared.segment.socket(socket).unwrap();
        record.engine.tx_limit.load(Relaxed)
    };
    assert_eq!(limit(socket), limit(accepted));
    assert!(limit(socket) > bed.shared.config.send_buffer);
}

#[test]
fn a_loopback_address_does_not_lead_outside() {
    let mut bed = Setup::host(1).build();
    let mut app = bed.app(1);
    let socket = app.socket().unwrap();
    assert!(bed.bind_to(socket, (Ipv4Addr::LOCALHOST.into(), 5000), false));
    app.connect(socket, (address(2), 80));
    bed.settle();
    assert_eq!(app.take_error(socket), libc::EINVAL);
    assert!(bed.sent().is_empty());
}

#[test]
fn a_port_without_a_listener_refuses_at_once() {
    let mut bed = Setup::dual(1).build();
    let mut app = bed.app(1);
    for to in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ] {
        let socket = app.socket().unwrap();
        app.connect(socket, (to, 81));
        bed.settle();
        assert_eq!(app.take_error(socket), libc::ECONNREFUSED, "{to}");
    }
    assert!(bed.sent_segments().is_empty());
}

#[test]
fn a_segment_is_as_large_as_the_loopback_s_mtu() {
    for (to, mss) in [
        (IpAddr::from(Ipv4Addr::LOCALHOST), 65_535 - 40 - 12),
        (Ipv6Addr::LOCALHOST.into(), 65_536 - 60 - 12),
    ] {
        let mut setup = Setup::dual(1);
        setup.config.send_buffer = 1 << 20;
        setup.config.tcp.recv_buffer = 1 << 20;
        let mut bed = setup.build();
        let (mut app, socket, accepted) = connected(&mut bed, to);
        // No segment is longer than half of the largest window seen, and that of a SYN is small.
        app.send(socket, b"a segment to learn the window from");
        bed.settle();
        app.recv(accepted, 1 << 20);
        let before = bed.count(Counter::segments_in);
        assert_eq!(app.send(socket, &vec![7; mss]), mss);
        bed.settle();
        assert_eq!(bed.count(Counter::segments_in), before + 1, "{to}");
        assert_eq!(app.recv(accepted, 1 << 20), vec![7; mss]);
    }
}

#[test]
fn a_stream_goes_as_fast_as_it_is_read_and_leaves_no_memory() {
    const TOTAL: usize = 30 << 20;
    let mut bed = Setup::host(1).build();
    let (mut app, socket, accepted) = connected(&mut bed, Ipv4Addr::LOCALHOST);
    let byte = |at: usize| (at ^ at >> 8 ^ at >> 16) as u8;
    let (mut sent, mut got) = (0, 0);
    let start = bed.now;
    while got < TOTAL {
        let data: Vec<u8> = (sent..TOTAL.min(sent + 50_000)).map(byte).collect();
        sent += app.send(socket, &data);
        bed.now += 10;
        bed.settle();
        for read in app.recv(accepted, 1 << 20) {
            assert_eq!(read, byte(got), "byte {got}");
            got += 1;
        }
        assert!(bed.now - start < 1_000_000, "{got} bytes in a second");
    }
    assert_eq!(bed.count_of("loopback_full"), 0);
    app.close(socket);
    app.close(accepted);
    bed.pass(10_000_000);
    bed.process_gone(1, &[app.context]);
    assert_eq!(bed.memory(), 0);
    assert!(bed.sent().is_empty(), "nothing leaves the stack");
}

/// RFC 1122 section 3.2.1.3 (g), RFC 4291 section 2.5.3.
#[test]
fn a_loopback_address_from_a_device_is_dropped() {
    let mut bed = Setup::dual(1).build();
    let mut app = bed.app(1);
    let listener = app.socket().unwrap();
    assert!(bed.listen_at(listener, (ANY, 80), false));
    bed.settle();
    bed.sent();
    for (src, dst, counter) in [
        (Ipv4Addr::LOCALHOST, address(1), "ipv4_source_loopback"),
        (address(2), OTHER_LOOPBACK, "ipv4_destination_loopback"),
        (address(1), address(1), "ipv4_source_ours"),
    ] {
        let syn = TcpFrame {
            src: (src.into(), 1000),
            dst: (dst.into(), 80),
            ..bed.segment_from(2, (1000, 80), Flags::SYN)
        };
        bed.inject(&syn.bytes());
        bed.settle();
        assert_eq!(bed.count_of(counter), 1, "{src} to {dst}");
    }
    let loopback = Ipv6Addr::LOCALHOST;
    for (src, dst, counter) in [
        (loopback, address6(1), "ipv6_bad_source"),
        (address6(2), loopback, "ipv6_not_for_us"),
    ] {
        let mut packet = vec![0; 60];
        Ipv6Header {
            src,
            dst,
            next_header: protocol::TCP,
            hop_limit: 64,
            traffic_class: 0,
            payload_len: 20,
        }
        .emit(&mut packet);
        bed.inject(&ethernet(mac(1), mac(2), 0x86dd, &packet));
        bed.settle();
        assert_eq!(bed.count_of(counter), 1, "{src} to {dst}");
    }
    assert!(bed.sent().is_empty(), "and not answered");
}

/// RFC 9293 section 3.5, with each end at a worker of its own.
#[test]
fn two_workers_sockets_may_connect_to_each_other_at_once() {
    let mut workers = two_workers(|_| ());
    let mut sockets = Vec::new();
    for (i, (bed, app)) in workers.iter_mut().enumerate() {
        let socket = app.socket().unwrap();
        assert!(bed.bind(socket, 5000 + i as u16));
        let peer = (Ipv4Addr::LOCALHOST, 5000 + (1 - i) as u16);
        app.connect(socket, SocketAddr::from(peer));
        sockets.push(socket);
    }
    let settle = |workers: &mut [(Bed, App); 2]| {
        for _ in 0..10 {
            for (bed, _) in workers.iter_mut() {
                bed.settle();
            }
        }
    };
    settle(&mut workers);
    for ((_, app), socket) in workers.iter().zip(&sockets) {
        assert_eq!(app.state(*socket), state::ESTABLISHED);
    }
    workers[0].1.send(sockets[0], b"across");
    settle(&mut workers);
    assert_eq!(workers[1].1.recv(sockets[1], 10), b"across");
}
