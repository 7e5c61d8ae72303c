//! TCP Fast Open (RFC 7413): as a server, as a client, and between two stacks.

use crate::app::App;
use crate::bed::{Bed, Family, Setup, exchange};
use crate::frames::TcpFrame;
use context::command::{EARLY, Op};
use context::socket::flag;
use engine::stats::Counter;
use engine::tcp::{Cookie, Flags, Options, Segment};
use std::net::SocketAddrV4;
use std::sync::atomic::Ordering::SeqCst;

over_both_families! {
    data_in_a_syn_with_a_good_cookie_is_served_before_the_handshake_ends,
    what_was_sent_early_is_sent_again_when_the_handshake_is_complete,
    a_repeated_syn_with_data_is_delivered_once,
    a_wrong_cookie_gets_a_good_one_and_an_ordinary_handshake,
    pending_early_connections_are_bounded_and_resets_do_not_make_room_at_once,
    a_listener_that_did_not_ask_ignores_the_option,
    the_second_connection_of_a_client_carries_its_data_in_the_syn,
    a_syn_with_data_that_is_lost_is_followed_by_a_plain_one,
}

const BOTH: u32 = 3;

/// A stack with a listener on port 80 that lets `queue` connections open early.
pub fn serving(family: Family, queue: u32) -> (Bed, App, u32) {
    let mut setup = Setup::over(family, 1);
    setup.config.tcp.fast_open = BOTH;
    let mut bed = setup.build();
    let mut app = bed.app(1);
    let listener = app.socket().unwrap();
    let options = &bed.shared.segment.socket(listener).unwrap().options;
    options.fastopen_queue.store(queue, SeqCst);
    assert!(bed.listen(listener, 80, 10));
    (bed, app, listener)
}

fn decode(frame: &TcpFrame) -> Options {
    Segment::parse(&frame.segment()).unwrap().options
}

/// A SYN with a cookie (empty: asks for one) and data.
fn syn(bed: &Bed, port: u16, cookie: Option<Cookie>, data: &[u8]) -> TcpFrame {
    let options = Options {
        mss: Some(1460),
        sack_permitted: true,
        timestamps: Some((7, 0)),
        fast_open: cookie,
        ..Options::default()
    };
    let mut syn = bed.segment_from(2, (port, 80), Flags::SYN);
    syn.options = vec![0; 40];
    let len = options.emit(&mut syn.options);
    syn.options.truncate(len);
    syn.payload = data.to_vec();
    syn
}

/// The cookie that the server gives.
fn cookie(bed: &mut Bed, port: u16) -> Cookie {
    let reply = bed.answer(&syn(bed, port, Cookie::new(&[]), b""))[0].clone();
    let cookie = decode(&reply).fast_open.expect("a cookie");
    assert!(!cookie.is_request());
    cookie
}

/// The client's ACK of the SYN-ACK and of `data` bytes.
fn ack(bed: &Bed, reply: &TcpFrame, sent: u32, data: u32) -> TcpFrame {
    let mut ack = bed.segment_from(2, (reply.dst.1, 80), Flags::ACK);
    (ack.seq, ack.ack) = (1001 + sent, reply.seq.wrapping_add(1 + data));
    let options = Options {
        timestamps: decode(reply).timestamps.map(|(value, _)| (8, value)),
        ..Options::default()
    };
    ack.options = vec![0; 12];
    options.emit(&mut ack.options);
    ack
}

fn data_in_a_syn_with_a_good_cookie_is_served_before_the_handshake_ends(family: Family) {
    let (mut bed, mut app, listener) = serving(family, 5);
    let cookie = cookie(&mut bed, 4000);
    let reply = bed.answer(&syn(&bed, 4001, Some(cookie), b"GET /"))[0].clone();
    assert!(reply.has(Flags::SYN | Flags::ACK));
    assert_eq!(reply.ack, 1001 + 5, "the data is acknowledged");
    assert_eq!(decode(&reply).fast_open, None, "the cookie is still good");
    let socket = app.accept(listener).unwrap();
    assert_eq!(app.recv(socket, 10), b"GET /");
    app.send(socket, b"200 OK");
    bed.settle();
    let answer = bed.sent_segments().remove(0);
    assert_eq!(
        (answer.payload.as_slice(), answer.ack),
        (b"200 OK".as_slice(), 1006)
    );
    assert!(!answer.has(Flags::SYN));
    bed.answer(&ack(&bed, &reply, 5, 6));
    app.send(socket, b"more");
    bed.settle();
    assert_eq!(bed.sent_segments()[0].payload, b"more");
    assert_eq!(bed.count(Counter::fast_open_accepts), 1);
    bed.pass(1_000_000);
    let resent = bed.sent_segments();
    assert!(
        resent.iter().all(|s| s.payload == b"more"),
        "all else is acknowledged"
    );
}

fn what_was_sent_early_is_sent_again_when_the_handshake_is_complete(family: Family) {
    let (mut bed, mut app, listener) = serving(family, 5);
    let cookie = cookie(&mut bed, 4000);
    let reply = bed.answer(&syn(&bed, 4001, Some(cookie), b"GET /"))[0].clone();
    let socket = app.accept(listener).unwrap();
    app.send(socket, b"lost");
    bed.settle();
    bed.sent();
    bed.pass(1_100_000);
    let again = bed.sent_segments();
    assert!(
        again[0].has(Flags::SYN | Flags::ACK),
        "the SYN-ACK goes first"
    );
    assert!(again.iter().all(|s| s.payload.is_empty()));
    bed.answer(&ack(&bed, &reply, 5, 0));
    bed.pass(4_000_000);
    assert!(bed.sent_segments().iter().any(|s| s.payload == b"lost"));
}

fn a_repeated_syn_with_data_is_delivered_once(family: Family) {
    let (mut bed, mut app, listener) = serving(family, 5);
    let cookie = cookie(&mut bed, 4000);
    let syn = syn(&bed, 4001, Some(cookie), b"once");
    let first = bed.answer(&syn)[0].clone();
    bed.now += 1_000;
    let again = bed.answer(&syn);
    assert_eq!(again[0].seq, first.seq);
    assert_eq!(again[0].ack, first.ack);
    let socket = app.accept(listener).unwrap();
    assert_eq!(app.recv(socket, 100), b"once");
    assert_eq!(app.accept(listener), None);
}

fn a_wrong_cookie_gets_a_good_one_and_an_ordinary_handshake(family: Family) {
    let (mut bed, mut app, listener) = serving(family, 5);
    let wrong = Cookie::new(b"guessed!");
    let reply = bed.answer(&syn(&bed, 4001, wrong, b"data"))[0].clone();
    assert_eq!(reply.ack, 1001, "the data is not taken");
    assert_eq!(decode(&reply).fast_open, Some(cookie(&mut bed, 4002)));
    assert_eq!(app.accept(listener), None);
    assert_eq!(bed.count(Counter::fast_open_refused), 1);
    let mut ack = ack(&bed, &reply, 0, 0);
    ack.payload = b"data".to_vec();
    bed.answer(&ack);
    let socket = app.accept(listener).unwrap();
    assert_eq!(app.recv(socket, 10), b"data");
}

fn pending_early_connections_are_bounded_and_resets_do_not_make_room_at_once(family: Family) {
    let (mut bed, mut app, listener) = serving(family, 2);
    let cookie = cookie(&mut bed, 4000);
    let replies: Vec<TcpFrame> = (0..3)
        .map(|n| bed.answer(&syn(&bed, 4001 + n, Some(cookie), b"x"))[0].clone())
        .collect();
    let acks: Vec<u32> = replies.iter().map(|r| r.ack).collect();
    assert_eq!(acks, [1002, 1002, 1001], "the third is an ordinary one");
    assert_eq!(bed.count(Counter::fast_open_overflow), 1);
    // One is completed, the other reset by its owner.
    bed.answer(&ack(&bed, &replies[0], 1, 0));
    let mut reset = bed.segment_from(2, (4002, 80), Flags::RST);
    reset.seq = 1002;
    bed.answer(&reset);
    let early = |bed: &mut Bed, port| {
        let reply = bed.answer(&syn(bed, port, Some(cookie), b"x"))[0].clone();
        reply.ack == 1002
    };
    assert!(early(&mut bed, 5000));
    assert!(!early(&mut bed, 5001), "the reset one counts");
    bed.pass(62_000_000);
    bed.sent();
    assert!(early(&mut bed, 5002));
    assert!(app.accept(listener).is_some());
}

fn a_listener_that_did_not_ask_ignores_the_option(family: Family) {
    let (mut bed, mut app, listener) = serving(family, 0);
    let reply = bed.answer(&syn(&bed, 4001, Cookie::new(&[]), b"data"))[0].clone();
    assert_eq!((reply.ack, decode(&reply).fast_open), (1001, None));
    assert_eq!(app.accept(listener), None);
}

/// A stack and an application that may connect early.
pub fn fast_client(family: Family) -> (Bed, App) {
    let mut setup = Setup::over(family, 2);
    setup.config.tcp.fast_open = BOTH;
    let mut bed = setup.build();
    let app = bed.app(1);
    (bed, app)
}

/// Whether the stack says that data can ride in a SYN.
fn may_carry_data(app: &mut App, bed: &mut Bed, to: &Bed) -> bool {
    let socket = app.socket().unwrap();
    let shared = bed.shared.clone();
    let record = shared.segment.socket(socket).unwrap();
    record.names.request(to.at(80));
    let context = shared.segment.context(app.context).unwrap();
    let seq = context.reply_seq.load(SeqCst).wrapping_add(1);
    app.command(Op::FastOpen, socket, seq.into());
    bed.settle();
    assert_eq!(context.reply_seq.load(SeqCst), seq, "there is an answer");
    context.reply[0].load(SeqCst) == EARLY
}

/// Connects a socket with data that may ride in the SYN.
pub fn connect_fast(client: &mut App, bed: &mut Bed, to: &Bed, data: &[u8]) -> u32 {
    let socket = client.socket().unwrap();
    let record = bed.shared.segment.socket(socket).unwrap();
    record.app.flags.fetch_or(flag::FASTOPEN, SeqCst);
    record.engine.tx_limit.store(65_536, SeqCst);
    client.send(socket, data);
    client.connect(socket, to.at(80));
    socket
}

fn the_second_connection_of_a_client_carries_its_data_in_the_syn(family: Family) {
    let (mut server_bed, mut server, listener) = serving(family, 5);
    let (mut bed, mut client) = fast_client(family);
    for (round, early) in [(1, false), (2, true)] {
        let may = may_carry_data(&mut client, &mut bed, &server_bed);
        assert_eq!(may, early, "round {round}");
        let data = vec![round; 100];
        let socket = connect_fast(&mut client, &mut bed, &server_bed, &data);
        let mut in_syn = 0;
        exchange(&mut bed, &mut server_bed, |from_client, frame| {
            if let Some(segment) = TcpFrame::parse(frame)
                && from_client
                && segment.has(Flags::SYN)
            {
                assert!(decode(&segment).fast_open.is_some());
                in_syn += segment.payload.len();
            }
            true
        });
        assert_eq!(in_syn > 0, early, "round {round}");
        let accepted = server.accept(listener).unwrap();
        assert_eq!(server.recv(accepted, 1000), data);
        assert!(client.is_connected(socket));
        server.send(accepted, b"answer");
        exchange(&mut bed, &mut server_bed, |_, _| true);
        assert_eq!(client.recv(socket, 100), b"answer");
    }
    assert_eq!(server_bed.count(Counter::fast_open_accepts), 1);
}

fn a_syn_with_data_that_is_lost_is_followed_by_a_plain_one(family: Family) {
    let (mut server_bed, mut server, listener) = serving(family, 5);
    let mut bed = Setup::over(family, 2).build();
    let mut client = bed.app(1);
    let first = connect_fast(&mut client, &mut bed, &server_bed, b"first");
    exchange(&mut bed, &mut server_bed, |_, _| true);
    assert!(client.is_connected(first));
    server.accept(listener).unwrap();
    let second = connect_fast(&mut client, &mut bed, &server_bed, b"second");
    bed.settle();
    let lost = bed.sent_segments().remove(0);
    assert_eq!(lost.payload, b"second");
    bed.pass(1_100_000);
    server_bed.now = bed.now;
    let plain = bed.sent_segments().remove(0);
    assert!(plain.has(Flags::SYN) && plain.payload.is_empty());
    assert_eq!(decode(&plain).fast_open, None);
    server_bed.inject(&plain.bytes());
    exchange(&mut bed, &mut server_bed, |_, _| true);
    assert!(client.is_connected(second));
    let accepted = server.accept(listener).unwrap();
    assert_eq!(server.recv(accepted, 100), b"second");
    client.command(Op::Close, second, 0);
}

#[test]
fn early_data_is_given_back_if_no_route_leads_to_the_server() {
    let mut bed = Setup::host(1).build();
    let mut app = bed.app(1);
    let mut memory = Vec::new();
    for _ in 0..600 {
        let socket = app.socket().unwrap();
        let record = bed.shared.segment.socket(socket).unwrap();
        record.app.flags.fetch_or(flag::FASTOPEN, SeqCst);
        // In two chunks.
        let written = [1_000, 15_000].map(|n| app.send(socket, &vec![7; n]));
        assert_eq!(written, [1_000, 15_000], "room without a connection");
        app.connect(socket, SocketAddrV4::new([192, 0, 2, 1].into(), 80));
        bed.settle();
        assert_eq!(app.take_error(socket), libc::ENETUNREACH);
        app.command(Op::Close, socket, 0);
        bed.settle();
        memory.push(bed.memory());
    }
    let (first, last) = memory.split_at(300);
    assert!(last.iter().max() <= first.iter().max());
}
