//! Opening connections actively.

use crate::bed::{Bed, Family, Setup, address, exchange, mac, pass_together};
use crate::conversation::Conversation;
use crate::dice::Dice;
use context::socket::{header, option, state};
use engine::net::InterfaceAddress;
use engine::stats::Counter;
use engine::tcp::Flags;
use psio::pair::PairConfig;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::Ordering::SeqCst;

over_both_families! {
    two_stacks_carry_a_connection,
    two_stacks_carry_a_connection_over_a_network_that_loses,
    a_refused_connection_says_so_and_may_be_tried_again,
    loopback_connects_two_sockets_of_one_stack,
    a_socket_may_connect_to_itself,
    a_bound_socket_connects_from_its_port,
    a_source_address_is_not_taken_from_shared_memory,
    options_set_before_connect_count,
    both_ends_may_connect_at_once,
    a_reset_ends_an_established_connection_with_econnreset,
}

fn two_stacks_carry_a_connection(family: Family) {
    for pair in [PairConfig::plain(), PairConfig::default()] {
        let setup = |host| Setup {
            pair,
            ..Setup::over(family, host)
        };
        let (mut a, mut b) = (setup(1).build(), setup(2).build());
        let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
        let mut dice = Dice::seeded(1);
        for _ in 0..200 {
            talk.go_on(&mut dice);
            exchange(&mut a, &mut b, |_, _| true);
        }
        talk.finish(&mut a, &mut b);
        assert!(talk.bytes() > 1_000_000);
    }
}

fn two_stacks_carry_a_connection_over_a_network_that_loses(family: Family) {
    let (mut a, mut b) = (
        Setup::over(family, 1).build(),
        Setup::over(family, 2).build(),
    );
    let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
    let (mut dice, mut loss) = (Dice::seeded(2), Dice::seeded(3));
    for _ in 0..200 {
        talk.go_on(&mut dice);
        exchange(&mut a, &mut b, |_, _| !loss.one_in(50));
        pass_together(&mut a, &mut b, 20_000);
    }
    talk.finish(&mut a, &mut b);
    assert!(talk.bytes() > 1_000_000);
}

#[test]
fn an_unresolved_neighbour_fails_connect_with_ehostunreach() {
    let mut setup = Setup::host(1);
    setup.config.neighbors.clear();
    let mut bed = setup.build();
    let mut app = bed.app(1);
    let socket = app.socket().unwrap();
    app.connect(socket, SocketAddrV4::new(address(2), 80));
    bed.settle();
    assert_eq!(app.state(socket), state::SYN_SENT);
    let mut requests = 0;
    while app.state(socket) == state::SYN_SENT {
        requests += bed.sent().iter().filter(|f| f[12..14] == [8, 6]).count();
        bed.pass(100_000);
        assert!(requests < 10, "asks for ever");
    }
    assert_eq!(requests, 3);
    assert_eq!(app.take_error(socket), libc::EHOSTUNREACH);
    assert_eq!(app.state(socket), state::CLOSE);
    app.close(socket);
    bed.process_gone(1, &[app.context]);
    assert_eq!(bed.memory(), 0);
}

/// One neighbour that does not answer must not hold up what goes to others.
#[test]
fn an_unresolved_neighbour_blocks_nobody_else() {
    let mut setup = Setup::host(1);
    setup
        .config
        .neighbors
        .retain(|(prefix, _)| prefix.contains(address(2)));
    let (mut a, mut b) = (setup.build(), Setup::host(2).build());
    let mut app = a.app(9);
    for _ in 0..10 {
        let socket = app.socket().unwrap();
        app.connect(socket, SocketAddrV4::new(address(3), 80));
    }
    a.settle();
    let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
    talk.go_on(&mut Dice::seeded(1));
    talk.finish(&mut a, &mut b);
}

/// The neighbour table is bounded: whoever waits for an entry that gave way is told.
#[test]
fn no_attempt_hangs_when_more_neighbours_are_silent_than_the_table_holds() {
    let mut setup = Setup::host(1);
    setup.config.neighbors.clear();
    setup.config.addresses = vec![InterfaceAddress::new(address(1), 16).unwrap()];
    setup.plan.sockets = 4096;
    let mut bed = setup.build();
    let mut app = bed.app(1);
    let mut sockets = Vec::new();
    for i in 0..1500u16 {
        let [high, low] = (i + 256).to_be_bytes();
        let socket = app.socket().or_else(|| {
            bed.settle();
            app.socket()
        });
        let to = Ipv4Addr::new(10, 0, high, low);
        app.connect(socket.unwrap(), SocketAddrV4::new(to, 80));
        sockets.push(socket.unwrap());
        bed.settle();
        bed.sent();
    }
    for _ in 0..100 {
        bed.pass(100_000);
        bed.sent();
    }
    for socket in sockets {
        assert_eq!(app.take_error(socket), libc::EHOSTUNREACH);
    }
    assert_eq!(bed.count(Counter::connections), 0);
}

#[test]
fn a_destination_without_a_route_fails_connect_with_enetunreach() {
    let mut bed = Setup::host(1).build();
    let mut app = bed.app(1);
    for to in [
        [192, 0, 2, 1],
        [255, 255, 255, 255],
        [224, 0, 0, 1],
        [10, 0, 0, 255],
    ] {
        let socket = app.socket().unwrap();
        app.connect(socket, SocketAddrV4::new(to.into(), 80));
        bed.settle();
        assert_eq!(app.take_error(socket), libc::ENETUNREACH, "{to:?}");
        assert_eq!(bed.sent(), Vec::<Vec<u8>>::new(), "{to:?}");
    }
}

fn a_refused_connection_says_so_and_may_be_tried_again(family: Family) {
    let (mut a, mut b) = (
        Setup::over(family, 1).build(),
        Setup::over(family, 2).build(),
    );
    let (mut client, mut server) = (a.app(1), b.app(1));
    let socket = client.socket().unwrap();
    client.connect(socket, b.at(80));
    exchange(&mut a, &mut b, |_, _| true);
    assert_eq!(client.take_error(socket), libc::ECONNREFUSED);
    let listener = server.socket().unwrap();
    assert!(b.listen(listener, 80, 1));
    client.connect(socket, b.at(80));
    exchange(&mut a, &mut b, |_, _| true);
    assert!(client.is_connected(socket));
}

fn loopback_connects_two_sockets_of_one_stack(family: Family) {
    for (pair, to) in [
        (PairConfig::plain(), family.loopback()),
        (PairConfig::default(), family.address(1)),
    ] {
        let mut bed = Setup {
            pair,
            ..Setup::over(family, 1)
        }
        .build();
        let (mut client, mut server) = (bed.app(1), bed.app(2));
        let listener = server.socket().unwrap();
        assert!(bed.listen(listener, 80, 10));
        let socket = client.socket().unwrap();
        client.connect(socket, (to, 80));
        bed.settle();
        let accepted = server.accept(listener).unwrap();
        let data: Vec<u8> = (0..300_000u32).map(|i| (i ^ i >> 8) as u8).collect();
        let (mut sent, mut got) = (0, Vec::new());
        for _ in 0..1000 {
            sent += client.send(socket, &data[sent..]);
            bed.pass(1000);
            got.extend(server.recv(accepted, 1 << 20));
        }
        assert_eq!(got.len(), data.len());
        assert!(got == data);
        client.close(socket);
        bed.settle();
        assert!(server.is_at_end(accepted));
        assert_eq!(
            bed.sent(),
            Vec::<Vec<u8>>::new(),
            "nothing leaves the stack"
        );
    }
}

fn a_socket_may_connect_to_itself(family: Family) {
    let mut bed = Setup::over(family, 1).build();
    let mut app = bed.app(1);
    let socket = app.socket().unwrap();
    assert!(bed.bind(socket, 5000));
    app.connect(socket, bed.at(5000));
    bed.settle();
    assert!(app.is_connected(socket));
    assert_eq!(app.send(socket, b"to myself"), 9);
    bed.settle();
    assert_eq!(app.recv(socket, 100), b"to myself");
    app.close(socket);
    bed.pass(10_000_000);
    bed.process_gone(1, &[app.context]);
    assert_eq!(bed.memory(), 0);
}

fn a_bound_socket_connects_from_its_port(family: Family) {
    let mut bed = Setup::over(family, 1).build();
    let mut app = bed.app(1);
    let socket = app.socket().unwrap();
    assert!(bed.bind(socket, 5000));
    app.connect(socket, (family.address(2), 80));
    bed.settle();
    let syn = &bed.sent_segments()[0];
    assert_eq!(syn.src, (family.address(1), 5000));
    assert_eq!(syn.dst_mac, mac(2));
}

/// What a record says of its own address is the application's word.
fn a_source_address_is_not_taken_from_shared_memory(family: Family) {
    let mut bed = Setup::over(family, 1).build();
    let mut app = bed.app(1);
    let socket = app.socket().unwrap();
    let record = bed.shared.segment.socket(socket).unwrap();
    record
        .names
        .set((Ipv4Addr::new(203, 0, 113, 7), 22).into(), None);
    record
        .engine
        .state
        .store(state::CLOSE | state::BOUND, SeqCst);
    app.connect(socket, (family.address(2), 80));
    bed.settle();
    for syn in bed.sent_segments() {
        assert_eq!(syn.src.0, family.address(1));
        assert_ne!(syn.src.1, 22);
    }
}

fn options_set_before_connect_count(family: Family) {
    let mut bed = Setup::over(family, 1).build();
    let mut app = bed.app(1);
    let socket = app.socket().unwrap();
    let record = bed.shared.segment.socket(socket).unwrap();
    record.options.max_segment.store(700, SeqCst);
    record.options.bits.store(option::NODELAY, SeqCst);
    let (v4, v6) = (9 << header::TTL_SHIFT | 0x20, 0x30 << header::CLASS_SHIFT);
    let hops = 8 << header::HOPS_SHIFT | header::HOPS_ASKED;
    record.options.tos_ttl.store(v4 | v6 | hops, SeqCst);
    app.connect(socket, (family.address(2), 80));
    bed.settle();
    let frame = bed.sent().remove(0);
    match family {
        Family::V4 => assert_eq!((frame[15], frame[22]), (0x20, 9)),
        Family::V6 => assert_eq!((frame[14] << 4 | frame[15] >> 4, frame[21]), (0x30, 8)),
    }
    let syn = crate::frames::TcpFrame::parse(&frame).unwrap();
    assert_eq!(
        syn.options[..4],
        [2, 4, 700u16.to_be_bytes()[0], 700u16.to_be_bytes()[1]]
    );
}

/// RFC 9293 section 3.5: both ends send a SYN at once.
fn both_ends_may_connect_at_once(family: Family) {
    let (mut a, mut b) = (
        Setup::over(family, 1).build(),
        Setup::over(family, 2).build(),
    );
    let (mut x, mut y) = (a.app(1), b.app(1));
    let (s, t) = (x.socket().unwrap(), y.socket().unwrap());
    assert!(a.bind(s, 7000) && b.bind(t, 7000));
    x.connect(s, b.at(7000));
    y.connect(t, a.at(7000));
    exchange(&mut a, &mut b, |_, _| true);
    assert!(x.is_connected(s) && y.is_connected(t));
    x.send(s, b"hello");
    exchange(&mut a, &mut b, |_, _| true);
    assert_eq!(y.recv(t, 10), b"hello");
}

fn a_reset_ends_an_established_connection_with_econnreset(family: Family) {
    let (mut a, mut b) = (
        Setup::over(family, 1).build(),
        Setup::over(family, 2).build(),
    );
    let talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
    let (mut client, mut server) = (talk.client, talk.server);
    server.app.reset(server.socket);
    let mut resets = 0;
    exchange(&mut a, &mut b, |_, frame| {
        let segment = crate::frames::TcpFrame::parse(frame).unwrap();
        resets += usize::from(segment.has(Flags::RST));
        true
    });
    assert_eq!(resets, 1);
    assert_eq!(client.app.take_error(client.socket), libc::ECONNRESET);
    client.app.close(client.socket);
    close_all(&mut a, &[&client.app.context]);
}

fn close_all(bed: &mut Bed, contexts: &[&u32]) {
    let contexts: Vec<u32> = contexts.iter().map(|c| **c).collect();
    bed.process_gone(1, &contexts);
    assert_eq!(bed.memory(), 0);
}
