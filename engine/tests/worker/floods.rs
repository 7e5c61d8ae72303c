//! Strangers who send many SYNs, ACKs or RSTs under false names, and the client who comes in between.

use crate::app::App;
use crate::bed::{Bed, Family, Setup};
use crate::frames::TcpFrame;
use engine::stats::Counter;
use engine::tcp::{Flags, Options, Segment};
use std::sync::atomic::Ordering::SeqCst;

over_both_families! {
    a_client_connects_with_all_its_options_in_the_middle_of_a_syn_flood,
    no_cookie_is_believed_while_none_was_sent,
    forged_cookies_are_refused_and_counted,
    a_cookie_replayed_after_its_time_is_refused,
    cookies_do_not_overfill_the_accept_queue,
    a_handshake_that_finds_the_accept_queue_full_waits_for_room,
    old_handshakes_leave_sooner_when_they_take_the_room_of_young_ones,
    deferred_accept_delivers_a_connection_with_its_first_data,
    deferred_accept_takes_a_silent_peer_when_its_time_is_over,
    resets_of_closed_ports_are_limited,
    a_blind_attacker_neither_ends_nor_fills_a_connection_nor_learns_of_others,
}

fn listening(family: Family, backlog: u32) -> (Bed, App, u32) {
    let mut bed = Setup::over(family, 1).build();
    let mut app = bed.app(1);
    let listener = app.socket().unwrap();
    assert!(bed.listen(listener, 80, backlog));
    (bed, app, listener)
}

fn encode(options: &Options) -> Vec<u8> {
    let mut bytes = vec![0; 40];
    let len = options.emit(&mut bytes);
    bytes.truncate(len);
    bytes
}

fn decode(frame: &TcpFrame) -> Options {
    Segment::parse(&frame.segment()).unwrap().options
}

/// The SYN of a client with all options.
fn syn(bed: &Bed, port: u16) -> TcpFrame {
    let mut syn = bed.segment_from(2, (port, 80), Flags::SYN);
    syn.options = encode(&Options {
        mss: Some(1460),
        window_scale: Some(9),
        sack_permitted: true,
        timestamps: Some((7, 0)),
        ..Options::default()
    });
    syn
}

/// The ACK that completes the handshake of `reply`.
fn ack(bed: &Bed, reply: &TcpFrame) -> TcpFrame {
    let mut ack = bed.segment_from(2, (reply.dst.1, 80), Flags::ACK);
    (ack.seq, ack.ack) = (1001, reply.seq.wrapping_add(1));
    ack.options = encode(&Options {
        timestamps: decode(reply).timestamps.map(|(value, _)| (8, value)),
        ..Options::default()
    });
    ack
}

/// SYNs of as many hosts that do not exist, all on this network and never answering.
fn flood(bed: &mut Bed, count: u32) {
    for n in 0..count {
        let mut syn = syn(bed, 1024 + (n % 60_000) as u16);
        syn.src.0 = bed.family.stranger(n / 60_000);
        syn.src_mac = crate::bed::mac(3);
        syn.seq = n.wrapping_mul(0x9e37_79b1);
        bed.inject(&syn.bytes());
        if n % 64 == 63 {
            bed.settle();
            bed.sent();
        }
    }
    bed.settle();
    bed.sent();
}

/// A handshake whose connection is left to wait.
fn connect_later(bed: &mut Bed, port: u16) {
    let reply = bed.answer(&syn(bed, port))[0].clone();
    bed.answer(&ack(bed, &reply));
}

fn a_client_connects_with_all_its_options_in_the_middle_of_a_syn_flood(family: Family) {
    let (mut bed, mut app, listener) = listening(family, 128);
    flood(&mut bed, 100_000);
    assert_eq!(bed.count(Counter::connections), 129, "the backlog and one");
    assert_eq!(bed.count(Counter::cookies_sent), 100_000 - 129);
    let reply = bed.answer(&syn(&bed, 4000))[0].clone();
    let offered = decode(&reply);
    assert!(offered.sack_permitted && offered.window_scale.is_some());
    let mut request = ack(&bed, &reply);
    // In units of 512 bytes: a window of 5,120.
    (request.window, request.payload) = (10, b"hello".to_vec());
    bed.answer(&request);
    assert_eq!(bed.count(Counter::cookies_received), 1);
    let socket = app.accept(listener).unwrap();
    assert_eq!(app.recv(socket, 10), b"hello");
    app.send(socket, &[7; 10_000]);
    bed.settle();
    let sent = bed.sent_segments();
    let bytes: usize = sent.iter().map(|s| s.payload.len()).sum();
    assert!(bytes > 10 && bytes <= 5120, "the window is scaled: {bytes}");
    assert!(sent.iter().all(|s| decode(s).timestamps.is_some()));
    bed.pass(100_000_000);
    assert_eq!(bed.count(Counter::connections), 1, "the flood is forgotten");
}

fn no_cookie_is_believed_while_none_was_sent(family: Family) {
    let (mut bed, mut app, listener) = listening(family, 4);
    let mut forged = bed.segment_from(2, (4000, 80), Flags::ACK);
    (forged.seq, forged.ack) = (1001, 5000);
    assert!(bed.answer(&forged)[0].has(Flags::RST));
    assert_eq!(
        bed.count(Counter::cookies_failed),
        0,
        "it was not looked at"
    );
    assert_eq!(app.accept(listener), None);
}

fn forged_cookies_are_refused_and_counted(family: Family) {
    let (mut bed, mut app, listener) = listening(family, 4);
    flood(&mut bed, 100);
    for n in 0..1000u32 {
        let mut forged = bed.segment_from(2, (4000, 80), Flags::ACK);
        (forged.seq, forged.ack) = (1001, n.wrapping_mul(0x9e37_79b1));
        assert!(bed.answer(&forged)[0].has(Flags::RST));
        bed.now += 1000;
    }
    assert_eq!(bed.count(Counter::cookies_failed), 1000);
    assert_eq!(app.accept(listener), None);
}

fn a_cookie_replayed_after_its_time_is_refused(family: Family) {
    let (mut bed, mut app, listener) = listening(family, 4);
    flood(&mut bed, 100);
    let reply = bed.answer(&syn(&bed, 4000))[0].clone();
    let ack = ack(&bed, &reply);
    assert!(bed.answer(&ack).is_empty());
    let socket = app.accept(listener).unwrap();
    app.reset(socket);
    bed.settle();
    bed.sent();
    bed.pass(110_000_000);
    // The flood goes on, so that cookies are believed at all.
    flood(&mut bed, 100);
    bed.pass(11_000_000);
    assert!(bed.answer(&ack)[0].has(Flags::RST));
    assert_eq!(bed.count(Counter::cookies_failed), 1);
    assert_eq!(app.accept(listener), None);
}

fn cookies_do_not_overfill_the_accept_queue(family: Family) {
    let (mut bed, mut app, listener) = listening(family, 1);
    flood(&mut bed, 10);
    let replies: Vec<TcpFrame> = (4000..4005)
        .map(|port| bed.answer(&syn(&bed, port))[0].clone())
        .collect();
    for reply in &replies {
        let answers = bed.answer(&ack(&bed, reply));
        assert!(answers.is_empty(), "no RST: the peer may try again");
    }
    assert_eq!(bed.count(Counter::cookies_received), 2);
    assert_eq!(bed.count(Counter::accept_queue_full), 3);
    assert!(
        bed.answer(&syn(&bed, 5000)).is_empty(),
        "no new ones either"
    );
    app.accept(listener).unwrap();
    bed.answer(&ack(&bed, &replies[4]));
    assert_eq!(bed.count(Counter::cookies_received), 3);
}

fn a_handshake_that_finds_the_accept_queue_full_waits_for_room(family: Family) {
    let (mut bed, mut app, listener) = listening(family, 1);
    connect_later(&mut bed, 4000);
    let [second, third] = [4001, 4002].map(|port| bed.answer(&syn(&bed, port))[0].clone());
    assert!(bed.answer(&ack(&bed, &second)).is_empty());
    assert!(bed.answer(&ack(&bed, &third)).is_empty());
    assert_eq!(bed.count(Counter::accept_queue_full), 1);
    let taken = [app.accept(listener), app.accept(listener)];
    assert!(taken.iter().all(|socket| socket.is_some()));
    assert_eq!(app.accept(listener), None);
    bed.pass(1_100_000);
    let again = bed.sent_segments();
    assert!(
        again.iter().any(|s| s.has(Flags::SYN) && s.dst.1 == 4002),
        "the peer is reminded"
    );
    bed.answer(&ack(&bed, &third));
    assert!(app.accept(listener).is_some());
}

fn old_handshakes_leave_sooner_when_they_take_the_room_of_young_ones(family: Family) {
    let (mut bed, _app, _) = listening(family, 20);
    flood(&mut bed, 21);
    bed.pass(8_000_000);
    assert_eq!(
        bed.count(Counter::connections),
        10,
        "after two reminders, not five, until half of the room is free"
    );
    let (mut bed, _app, _) = listening(family, 20);
    flood(&mut bed, 4);
    bed.pass(8_000_000);
    assert_eq!(bed.count(Counter::connections), 4, "there is room for all");
}

fn deferred_accept_delivers_a_connection_with_its_first_data(family: Family) {
    let (mut bed, mut app, listener) = listening(family, 10);
    let options = &bed.shared.segment.socket(listener).unwrap().options;
    options.defer_accept.store(3, SeqCst);
    let reply = bed.answer(&syn(&bed, 4000))[0].clone();
    let mut ack = ack(&bed, &reply);
    bed.answer(&ack);
    assert_eq!(app.accept(listener), None);
    ack.payload = b"GET".to_vec();
    bed.answer(&ack);
    let socket = app.accept(listener).unwrap();
    assert_eq!(app.recv(socket, 10), b"GET");
}

fn deferred_accept_takes_a_silent_peer_when_its_time_is_over(family: Family) {
    let (mut bed, mut app, listener) = listening(family, 10);
    let options = &bed.shared.segment.socket(listener).unwrap().options;
    options.defer_accept.store(3, SeqCst);
    let reply = bed.answer(&syn(&bed, 4000))[0].clone();
    let ack = ack(&bed, &reply);
    bed.answer(&ack);
    bed.pass(3_500_000);
    let reminder = bed.sent_segments();
    assert!(
        reminder.iter().any(|s| s.has(Flags::SYN)),
        "it is asked again"
    );
    bed.answer(&ack);
    assert!(app.accept(listener).is_some());
}

fn resets_of_closed_ports_are_limited(family: Family) {
    let mut bed = Setup::over(family, 1).build();
    let mut sent = 0;
    for port in 0..5000 {
        let mut syn = bed.segment_from(2, (1000, 1 + port), Flags::SYN);
        syn.dst.0 = family.address(1);
        sent += bed.answer(&syn).len() as u64;
    }
    assert!((700..1400).contains(&sent), "{sent} at once");
    assert_eq!(bed.count(Counter::resets_sent), sent);
    assert_eq!(bed.count(Counter::resets_limited), 5000 - sent);
    bed.pass(1_000_000);
    let probe = bed.segment_from(2, (1000, 99), Flags::SYN);
    assert_eq!(bed.answer(&probe).len(), 1, "later there are more");
}

/// Somebody off the path, who knows addresses and ports but not the numbers.
fn a_blind_attacker_neither_ends_nor_fills_a_connection_nor_learns_of_others(family: Family) {
    let (mut bed, mut app, listener) = listening(family, 10);
    for port in [4000, 4001] {
        connect_later(&mut bed, port);
    }
    let sockets = [app.accept(listener).unwrap(), app.accept(listener).unwrap()];
    let mut challenges = [0; 2];
    for n in 0..1000u32 {
        for (victim, port) in [4000, 4001].into_iter().enumerate() {
            let flags = [Flags::RST, Flags::SYN, Flags::ACK | Flags::PSH][n as usize % 3];
            let mut blind = bed.segment_from(2, (port, 80), flags);
            blind.seq = 1002 + n * 13;
            blind.ack = n.wrapping_mul(0x9e37_79b1) | 0x8000_0000;
            blind.options = encode(&Options {
                timestamps: Some((1 << 20, 0)),
                ..Options::default()
            });
            if n % 3 == 2 {
                blind.payload = b"forged".to_vec();
            }
            let answers = bed.answer(&blind);
            assert!(answers.iter().all(|s| s.flags == Flags::ACK), "{answers:?}");
            challenges[victim] += answers.len();
        }
        bed.now += 1000;
    }
    for socket in sockets {
        assert!(app.is_connected(socket));
        assert_eq!(app.recv(socket, 100), b"");
    }
    assert_eq!(challenges[0], challenges[1], "each has its own allowance");
    assert!(
        (2..=4).contains(&challenges[0]),
        "{challenges:?} in a second"
    );
    for reason in ["tcp_reset_unproven", "tcp_unexpected_syn"] {
        assert!(bed.count_of(reason) > 600, "{reason}");
    }
}
