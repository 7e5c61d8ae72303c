//! IPv6 as IPv4 is served, by the same stacks.

use crate::bed::{Bed, Setup, address, address6, exchange, mac, pass_together};
use crate::conversation::Conversation;
use crate::dice::Dice;
use crate::frames::{IP, ethernet};
use engine::net::ipv6::Prefix6;
use engine::wire::icmpv6::{self, kind};
use engine::wire::ipv6::ALL_NODES;
use engine::wire::{IcmpMessage, Ipv6Header, Ipv6Packet, extension, ndp};
use psio::pair::PairConfig;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const IPV6: u16 = 0x86dd;
const ANY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

fn pair(config: PairConfig) -> (Bed, Bed) {
    let build = |host| {
        Setup {
            pair: config,
            ..Setup::dual(host)
        }
        .build()
    };
    (build(1), build(2))
}

fn to(host: u8, port: u16) -> SocketAddr {
    (address6(host), port).into()
}

/// A packet from host 2 to this one with whatever behind its header.
fn packet(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 40];
    Ipv6Header {
        src: address6(2),
        dst: address6(1),
        next_header,
        hop_limit: 64,
        traffic_class: 0,
        payload_len: payload.len() as u16,
    }
    .emit(&mut bytes);
    bytes.extend(payload);
    ethernet(mac(1), mac(2), IPV6, &bytes)
}

/// A stack that knows the station of host 2.
fn acquainted() -> Bed {
    let mut bed = Setup::dual(1).build();
    let ends = (address6(2), address6(1));
    let asks = ndp::solicitation(ends, address6(1), Some(mac(2)));
    bed.inject(&ethernet(mac(1), mac(2), IPV6, &asks));
    bed.settle();
    bed.sent();
    bed
}

/// The ICMPv6 messages among frames: kind, code, and the rest of the header.
fn messages(frames: &[Vec<u8>]) -> Vec<(u8, u8, [u8; 4])> {
    let read = |frame: &Vec<u8>| {
        let packet = Ipv6Packet::parse(frame.get(IP..)?).ok()?;
        let upper = extension::walk(&packet).ok()?;
        let message = icmpv6::parse(packet.src, packet.dst, upper.payload).ok()?;
        Some((message.kind, message.code, message.rest))
    };
    frames.iter().filter_map(read).collect()
}

#[test]
fn every_byte_arrives_over_ipv6_with_and_without_offloads() {
    for config in [PairConfig::plain(), PairConfig::default()] {
        let (mut a, mut b) = pair(config);
        let mut talk = Conversation::start_at(&mut a, &mut b, (1, 2), ANY, to(2, 80));
        let mut dice = Dice::seeded(7);
        for _ in 0..60 {
            talk.go_on(&mut dice);
            exchange(&mut a, &mut b, |_, _| true);
        }
        talk.finish(&mut a, &mut b);
        assert!(talk.bytes() > 300_000, "{}", talk.bytes());
    }
}

#[test]
fn a_listener_of_both_families_serves_both() {
    let (mut a, mut b) = pair(PairConfig::plain());
    let mut server = b.app(2);
    let listener = server.socket().unwrap();
    assert!(b.listen_at(listener, (ANY, 80), false));
    for (to, from, mss) in [
        (to(2, 80), IpAddr::from(address6(1)), 1440u16),
        ((address(2), 80).into(), address(1).into(), 1460),
    ] {
        let mut client = a.app(1);
        let socket = client.socket().unwrap();
        client.connect(socket, to);
        let mut offered = 0;
        exchange(&mut a, &mut b, |from_a, frame| {
            let tcp = if to.is_ipv6() { IP + 40 } else { IP + 20 };
            let is_tcp = frame.get(tcp + 2..tcp + 4) == Some(&[0, 80]);
            if from_a && is_tcp && frame[tcp + 13] & 0x3f == 2 && frame[tcp + 20] == 2 {
                offered = u16::from_be_bytes([frame[tcp + 22], frame[tcp + 23]]);
            }
            true
        });
        assert!(client.is_connected(socket), "{to}");
        assert_eq!(offered, mss, "the MTU less the headers of the family");
        let accepted = server.accept(listener).unwrap();
        let record = b.shared.segment.socket(accepted).unwrap();
        assert_eq!(record.names.remote().ip(), from);
        assert_eq!(record.names.local(), to);
    }
}

#[test]
fn a_listener_for_ipv6_alone_leaves_ipv4_to_others() {
    let (mut a, mut b) = pair(PairConfig::plain());
    let (mut client, mut server) = (a.app(1), b.app(2));
    let [six, four] = [server.socket().unwrap(), server.socket().unwrap()];
    assert!(b.listen_at(six, (ANY, 80), true));
    let socket = client.socket().unwrap();
    client.connect(socket, (address(2), 80));
    exchange(&mut a, &mut b, |_, _| true);
    assert_eq!(client.take_error(socket), libc::ECONNREFUSED);
    assert!(b.listen(four, 80, 10));
    for to in [to(2, 80), (address(2), 80).into()] {
        let socket = client.socket().unwrap();
        client.connect(socket, to);
        exchange(&mut a, &mut b, |_, _| true);
        assert!(client.is_connected(socket), "{to}");
    }
    assert!(server.accept(six).is_some() && server.accept(four).is_some());
    assert!(server.accept(six).is_none() && server.accept(four).is_none());
}

#[test]
fn a_port_where_nobody_listens_refuses() {
    let (mut a, mut b) = pair(PairConfig::plain());
    let mut client = a.app(1);
    let socket = client.socket().unwrap();
    client.connect(socket, to(2, 81));
    exchange(&mut a, &mut b, |_, _| true);
    assert_eq!(client.take_error(socket), libc::ECONNREFUSED);
}

#[test]
fn a_neighbour_that_is_not_there_is_unreachable() {
    let mut bed = Setup::dual(1).build();
    let mut app = bed.app(1);
    let socket = app.socket().unwrap();
    app.connect(socket, to(9, 80));
    bed.pass(5_000_000);
    assert_eq!(app.take_error(socket), libc::EHOSTUNREACH);
    let asked = messages(&bed.sent());
    let solicitations = asked.iter().filter(|m| m.0 == kind::NEIGHBOR_SOLICITATION);
    assert_eq!(solicitations.count(), 3);
}

#[test]
fn without_a_route_or_without_ipv6_the_network_is_unreachable() {
    for setup in [Setup::dual(1), Setup::host(1)] {
        let mut bed = setup.build();
        let mut app = bed.app(1);
        for to in ["[2001:db8::1]:80", "[ff02::1]:80"] {
            let socket = app.socket().unwrap();
            app.connect(socket, to.parse::<SocketAddr>().unwrap());
            bed.settle();
            assert_eq!(app.take_error(socket), libc::ENETUNREACH, "{to}");
        }
    }
}

#[test]
fn loopback_connects_two_sockets_of_one_stack() {
    for address in [Ipv6Addr::LOCALHOST, address6(1)] {
        let mut bed = Setup::dual(1).build();
        let (mut client, mut server) = (bed.app(1), bed.app(2));
        let listener = server.socket().unwrap();
        assert!(bed.listen_at(listener, (ANY, 80), false));
        let socket = client.socket().unwrap();
        client.connect(socket, (address, 80));
        bed.settle();
        let accepted = server.accept(listener).unwrap();
        assert_eq!(client.send(socket, b"to ourselves"), 12);
        bed.settle();
        assert_eq!(server.recv(accepted, 100), b"to ourselves");
    }
}

#[test]
fn packet_too_big_makes_segments_smaller() {
    let (mut a, mut b) = pair(PairConfig::plain());
    let mut talk = Conversation::start_at(&mut a, &mut b, (1, 2), ANY, to(2, 80));
    talk.go_on(&mut Dice::seeded(3));
    let mut too_long = None;
    exchange(&mut a, &mut b, |from_a, frame| {
        let passes = !from_a || frame.len() - IP <= 1300;
        if !passes {
            too_long = Some(frame[IP..].to_vec());
        }
        passes
    });
    let quote = too_long.expect("a full segment");
    let message = IcmpMessage {
        kind: kind::PACKET_TOO_BIG,
        code: 0,
        rest: 1300u32.to_be_bytes(),
        data: &quote[..quote.len().min(1000)],
    };
    let error = icmpv6::packet(address6(7), address6(1), 64, &message);
    a.inject(&ethernet(mac(1), mac(2), IPV6, &error));
    for _ in 0..20 {
        a.now += 300_000;
        b.now = a.now;
        exchange(&mut a, &mut b, |from_a, frame| {
            !from_a || frame.len() - IP <= 1300
        });
    }
    talk.finish(&mut a, &mut b);
}

#[test]
fn an_echo_request_is_answered() {
    let mut bed = acquainted();
    let request = IcmpMessage {
        kind: kind::ECHO_REQUEST,
        code: 0,
        rest: [1, 2, 3, 4],
        data: b"hello",
    };
    let bytes = icmpv6::packet(address6(2), address6(1), 64, &request);
    bed.inject(&ethernet(mac(1), mac(2), IPV6, &bytes));
    bed.settle();
    let reply = (kind::ECHO_REPLY, 0, [1, 2, 3, 4]);
    assert_eq!(messages(&bed.sent()), [reply]);
}

#[test]
fn what_headers_cannot_be_taken_the_sender_is_told() {
    for (next_header, payload, code, pointer) in [
        (99, &[0; 8][..], 1, 6),
        (43, &[6, 0, 0, 1, 0, 0, 0, 0], 0, 42),
        (60, &[6, 0, 0x9e, 0, 1, 2, 0, 0], 2, 42),
    ] {
        let mut bed = acquainted();
        bed.inject(&packet(next_header, payload));
        bed.settle();
        let problem = (kind::PARAMETER_PROBLEM, code, [0, 0, 0, pointer]);
        assert_eq!(messages(&bed.sent()), [problem]);
    }
}

#[test]
fn neighbour_discovery_in_fragments_is_dropped() {
    let mut bed = Setup::dual(1).build();
    bed.settle();
    bed.sent();
    let asks = ndp::solicitation((address6(2), address6(1)), address6(1), Some(mac(2)));
    let mut fragment = vec![58, 0, 0, 0, 0, 0, 0, 9];
    fragment.extend(&asks[40..]);
    let mut frame = packet(44, &fragment);
    frame[IP + 7] = 255;
    bed.inject(&frame);
    bed.settle();
    assert_eq!(bed.count_of("ndp_fragmented"), 1);
    assert!(bed.sent().is_empty());
}

#[test]
fn any_bytes_behind_an_ipv6_header_leave_the_stack_alive() {
    let mut bed = acquainted();
    let mut dice = Dice::seeded(11);
    for _ in 0..20_000 {
        let next = [0, 6, 17, 43, 44, 58, 59, 60, 99][dice.index(9)];
        let len = dice.below(80) as usize;
        let payload: Vec<u8> = (0..len).map(|_| dice.word() as u8).collect();
        bed.inject(&packet(next, &payload));
        bed.settle();
        bed.sent();
    }
    let mut app = bed.app(1);
    let listener = app.socket().unwrap();
    assert!(bed.listen_at(listener, (ANY, 80), false), "it still works");
}

/// A stack whose addresses are probed for before they are used.
fn careful() -> Bed {
    let mut setup = Setup::dual(1);
    if let Some(ipv6) = &mut setup.config.ipv6 {
        ipv6.dad_probes = 1;
    }
    setup.build()
}

/// A router's advertisement of a /64 on the link whose hosts choose their addresses.
fn advertised(prefix: Ipv6Addr) -> Vec<u8> {
    let mut data = vec![0; 8];
    data.extend([3, 4, 64, 0xc0]);
    data.extend([0xff; 8]);
    data.extend([0; 4]);
    data.extend(prefix.octets());
    let message = IcmpMessage {
        kind: kind::ROUTER_ADVERTISEMENT,
        code: 0,
        rest: [64, 0, 7, 8],
        data: &data,
    };
    let router = Prefix6::LINK_LOCAL.with_identifier_of(mac(2));
    icmpv6::packet(router, ALL_NODES, 255, &message)
}

/// How many TCP segments over IPv6 are among frames.
fn segments(frames: &[Vec<u8>]) -> usize {
    let is_tcp = |frame: &&Vec<u8>| frame[12..14] == [0x86, 0xdd] && frame[IP + 6] == 6;
    frames.iter().filter(is_tcp).count()
}

#[test]
fn a_connect_waits_until_the_address_is_known_to_be_ours() {
    let mut a = careful();
    let mut b = Setup::dual(2).build();
    let (mut client, mut server) = (a.app(1), b.app(2));
    let listener = server.socket().unwrap();
    assert!(b.listen_at(listener, (ANY, 80), false));
    let [free, bound, shut] = [0; 3].map(|_| client.socket().unwrap());
    assert!(a.bind_at(bound, (address6(1).into(), 4000)));
    for socket in [free, bound, shut] {
        client.connect(socket, to(2, 80));
    }
    a.settle();
    assert_eq!(segments(&a.sent()), 0);
    client.shutdown_write(shut);
    pass_together(&mut a, &mut b, 2_500_000);
    for socket in [free, bound] {
        assert!(client.is_connected(socket));
    }
    assert!(!client.is_connected(shut));
    let record = a.shared.segment.socket(bound).unwrap();
    assert_eq!(record.names.local(), (address6(1), 4000).into());
}

#[test]
fn a_connect_does_not_use_an_address_that_another_station_has() {
    let mut bed = careful();
    let mut app = bed.app(1);
    let [free, bound, closed] = [0; 3].map(|_| app.socket().unwrap());
    assert!(bed.bind_at(bound, (address6(1).into(), 4000)));
    for socket in [free, bound, closed] {
        app.connect(socket, to(2, 80));
        // The same again is nothing new.
        app.connect(socket, to(2, 80));
    }
    bed.settle();
    app.close(closed);
    let claim = ndp::advertisement((address6(1), ALL_NODES), address6(1), mac(7), false);
    bed.inject(&ethernet(mac(1), mac(7), IPV6, &claim));
    bed.pass(2_500_000);
    assert_eq!(app.take_error(bound), libc::EADDRNOTAVAIL);
    let own = Prefix6::LINK_LOCAL.with_identifier_of(mac(1));
    let record = bed.shared.segment.socket(free).unwrap();
    assert_eq!(record.names.local().ip(), IpAddr::from(own));
}

#[test]
fn a_connect_waits_for_the_first_router_and_no_longer() {
    let autoconf = || {
        let mut setup = Setup::dual(1);
        let ipv6 = setup.config.ipv6.as_mut().unwrap();
        (ipv6.autoconf, ipv6.dad_probes) = (true, 1);
        ipv6.addresses.clear();
        setup.build()
    };
    let remote: SocketAddr = "[2001:db8::1]:80".parse().unwrap();
    for answered in [true, false] {
        let mut bed = autoconf();
        let mut app = bed.app(1);
        let socket = app.socket().unwrap();
        app.connect(socket, remote);
        bed.pass(2_500_000);
        assert_eq!(app.take_error(socket), 0);
        if answered {
            let router = advertised("2001:db8:1::".parse().unwrap());
            bed.inject(&ethernet(mac(1), mac(2), IPV6, &router));
            bed.pass(1_500_000);
            let record = bed.shared.segment.socket(socket).unwrap();
            let prefix = Prefix6::new("2001:db8:1::".parse().unwrap(), 64).unwrap();
            let own = prefix.with_identifier_of(mac(1));
            assert_eq!(record.names.local().ip(), IpAddr::from(own));
        } else {
            bed.pass(2_500_000);
            assert_eq!(app.take_error(socket), libc::ENETUNREACH);
            let socket = app.socket().unwrap();
            app.connect(socket, remote);
            bed.settle();
            assert_eq!(app.take_error(socket), libc::ENETUNREACH, "at once by now");
        }
    }
}
