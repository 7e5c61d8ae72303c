//! Listening sockets and their queues.

use crate::app::App;
use crate::bed::{Bed, Family, Setup, exchange};
use crate::frames::{TcpFrame, options};
use context::command::Op;
use context::socket::state;
use engine::shared::Message;
use engine::stats::Counter;
use engine::tcp::{Flags, SynCookieUse};
use std::sync::atomic::Ordering::SeqCst;

over_both_families! {
    connections_wait_in_the_order_they_came,
    a_listener_whose_accept_queue_is_full_drops_syns_and_counts_them,
    half_open_connections_count_and_are_forgotten_in_time,
    a_larger_backlog_counts_at_once,
    closing_a_listener_resets_connections_that_wait,
    a_listener_that_is_shut_down_may_listen_again,
    accepted_sockets_inherit_options,
    data_that_comes_with_the_handshake_is_there_after_accept,
    a_connection_reset_before_accept_is_still_delivered,
    a_socket_in_use_cannot_listen,
    an_accepted_connection_belongs_to_the_process_that_took_it,
}

/// A stack with a listener on port 80.
fn listening(family: Family, backlog: u32) -> (Bed, App, u32) {
    listening_with(family, backlog, SynCookieUse::WhenFull)
}

fn listening_with(family: Family, backlog: u32, syn_cookies: SynCookieUse) -> (Bed, App, u32) {
    let mut setup = Setup::over(family, 1);
    setup.config.tcp.syn_cookies = syn_cookies;
    let mut bed = setup.build();
    let mut app = bed.app(1);
    let listener = app.socket().unwrap();
    assert!(bed.listen(listener, 80, backlog));
    (bed, app, listener)
}

/// The handshake of a peer made by hand; false if its SYN is not answered by a SYN-ACK.
fn open(bed: &mut Bed, port: u16) -> bool {
    let mut syn = bed.segment_from(2, (port, 80), Flags::SYN);
    syn.options = options(Some(1460), Some(7), &[]);
    let answer = bed.answer(&syn);
    let is_reply = |s: &&TcpFrame| s.has(Flags::SYN | Flags::ACK) && s.dst.1 == port;
    let Some(reply) = answer.iter().find(is_reply) else {
        return false;
    };
    assert_eq!(reply.ack, 1001);
    let mut ack = bed.segment_from(2, (port, 80), Flags::ACK);
    (ack.seq, ack.ack) = (1001, reply.seq.wrapping_add(1));
    bed.answer(&ack);
    true
}

fn connections_wait_in_the_order_they_came(family: Family) {
    let (mut bed, mut app, listener) = listening(family, 10);
    for port in 1000..1005 {
        assert!(open(&mut bed, port));
    }
    for port in 1000..1005 {
        let socket = app.accept(listener).unwrap();
        let names = &bed.shared.segment.socket(socket).unwrap().names;
        assert_eq!(names.remote(), (family.address(2), port).into());
        assert_eq!(names.local(), (family.address(1), 80).into());
    }
    assert_eq!(app.accept(listener), None);
    assert_eq!(bed.count(Counter::accepts), 5);
}

fn a_listener_whose_accept_queue_is_full_drops_syns_and_counts_them(family: Family) {
    let (mut bed, mut app, listener) = listening(family, 3);
    let opened = (1000..1010).filter(|port| open(&mut bed, *port)).count();
    assert_eq!(opened, 4, "as Linux: one more than the backlog");
    assert_eq!(bed.count(Counter::accept_queue_full), 6);
    assert!(app.accept(listener).is_some());
    assert!(open(&mut bed, 1010), "there is room again");
    assert!(!open(&mut bed, 1011));
}

fn half_open_connections_count_and_are_forgotten_in_time(family: Family) {
    let (mut bed, _app, _) = listening_with(family, 3, SynCookieUse::Never);
    for port in 1000..1010 {
        bed.inject(&bed.segment_from(2, (port, 80), Flags::SYN).bytes());
    }
    bed.settle();
    assert_eq!(bed.count(Counter::connections), 4);
    assert!(!open(&mut bed, 2000));
    assert_eq!(bed.count(Counter::backlog_full), 7);
    bed.pass(200_000_000);
    assert_eq!(bed.count(Counter::connections), 0, "nobody answered");
    assert_eq!(bed.count(Counter::handshake_timeouts), 4);
    assert!(open(&mut bed, 2001));
}

fn a_larger_backlog_counts_at_once(family: Family) {
    let (mut bed, _app, listener) = listening(family, 0);
    assert!(open(&mut bed, 1000));
    assert!(!open(&mut bed, 1001));
    bed.ask(|done| Message::SetBacklog {
        socket: listener,
        backlog: 1,
        done,
    });
    assert!(open(&mut bed, 1001));
}

fn closing_a_listener_resets_connections_that_wait(family: Family) {
    let (mut bed, mut app, listener) = listening(family, 10);
    assert!(open(&mut bed, 1000) && open(&mut bed, 1001));
    let reply = bed.answer(&bed.segment_from(2, (1002, 80), Flags::SYN))[0].clone();
    let taken = app.accept(listener).unwrap();
    bed.settle();
    bed.sent();
    app.close(listener);
    bed.settle();
    let resets: Vec<u16> = bed
        .sent_segments()
        .iter()
        .filter(|s| s.has(Flags::RST))
        .map(|s| s.dst.1)
        .collect();
    assert_eq!(resets, [1001], "it waited");
    let mut late = bed.segment_from(2, (1002, 80), Flags::ACK);
    (late.seq, late.ack) = (1001, reply.seq.wrapping_add(1));
    assert!(bed.answer(&late)[0].has(Flags::RST), "it was half open");
    assert!(app.is_connected(taken));
    assert!(!open(&mut bed, 1003), "nobody listens");
    app.close(taken);
    bed.process_gone(1, &[app.context]);
    bed.pass(100_000_000);
    assert_eq!((bed.memory(), bed.count(Counter::connections)), (0, 0));
}

fn a_listener_that_is_shut_down_may_listen_again(family: Family) {
    let (mut bed, mut app, listener) = listening(family, 10);
    app.command(Op::Shutdown, listener, libc::SHUT_RDWR as u64);
    bed.settle();
    assert_eq!(app.state(listener), state::CLOSE);
    assert_eq!(app.accept_chunk(listener), 0, "its ring's memory is gone");
    assert!(!open(&mut bed, 1000));
    let record = bed.shared.segment.socket(listener).unwrap();
    assert!(record.engine.state.load(SeqCst) & state::BOUND != 0);
    assert!(bed.listen_bound(listener, 80, 10));
    assert!(open(&mut bed, 1001));
    app.accept(listener).unwrap();
    app.close(listener);
    bed.settle();
    let other = app.socket().unwrap();
    assert!(bed.listen(other, 80, 10), "the port is free");
}

fn accepted_sockets_inherit_options(family: Family) {
    let (mut bed, mut app, listener) = listening(family, 10);
    let options = &bed.shared.segment.socket(listener).unwrap().options;
    options.keep_idle.store(77, SeqCst);
    options.receive_timeout.store(5, SeqCst);
    assert!(open(&mut bed, 1000));
    let socket = app.accept(listener).unwrap();
    let options = &bed.shared.segment.socket(socket).unwrap().options;
    assert_eq!(options.keep_idle.load(SeqCst), 77);
    assert_eq!(options.receive_timeout.load(SeqCst), 5);
}

fn data_that_comes_with_the_handshake_is_there_after_accept(family: Family) {
    let (mut bed, mut app, listener) = listening(family, 10);
    let syn = bed.segment_from(2, (1000, 80), Flags::SYN);
    let reply = bed.answer(&syn).remove(0);
    // Out of order first, then with the ACK of the handshake.
    let mut data = bed.segment_from(2, (1000, 80), Flags::ACK | Flags::PSH);
    (data.ack, data.seq) = (reply.seq.wrapping_add(1), 1006);
    data.payload = b"world".to_vec();
    bed.answer(&data);
    (data.seq, data.payload) = (1001, b"hello".to_vec());
    bed.answer(&data);
    let socket = app.accept(listener).unwrap();
    assert_eq!(app.recv(socket, 100), b"helloworld");
}

fn a_connection_reset_before_accept_is_still_delivered(family: Family) {
    let (mut bed, mut app, listener) = listening(family, 10);
    let syn = bed.segment_from(2, (1000, 80), Flags::SYN);
    let reply = bed.answer(&syn).remove(0);
    let mut ack = bed.segment_from(2, (1000, 80), Flags::ACK);
    (ack.seq, ack.ack) = (1001, reply.seq.wrapping_add(1));
    ack.payload = b"bye".to_vec();
    bed.answer(&ack);
    let mut reset = bed.segment_from(2, (1000, 80), Flags::RST);
    reset.seq = 1004;
    bed.answer(&reset);
    let socket = app.accept(listener).unwrap();
    assert_eq!(app.take_error(socket), libc::ECONNRESET);
    assert_eq!(app.recv(socket, 10), b"bye");
    assert!(app.is_at_end(socket));
    app.close(socket);
    app.close(listener);
    bed.process_gone(1, &[app.context]);
    assert_eq!(bed.memory(), 0);
}

/// Two listeners of one address cannot be, whatever the shared record says.
fn a_socket_in_use_cannot_listen(family: Family) {
    let (mut a, mut b) = (
        Setup::over(family, 1).build(),
        Setup::over(family, 2).build(),
    );
    let mut talk = crate::conversation::Conversation::start(&mut a, &mut b, (1, 1), 80);
    let socket = talk.client.socket;
    assert!(!a.listen_bound(socket, 90, 10), "it is connected");
    let free = a.shared.segment.geometry().sockets() - 1;
    assert!(!a.listen_bound(free, 91, 10), "it is nobody's");
    assert!(!b.listen_bound(talk.listener, 92, 10), "it listens already");
    talk.go_on(&mut crate::dice::Dice::seeded(1));
    exchange(&mut a, &mut b, |_, _| true);
    talk.finish(&mut a, &mut b);
    for bed in [&mut a, &mut b] {
        bed.process_gone(1, &[0]);
    }
    crate::bed::pass_together(&mut a, &mut b, 20_000_000);
    assert_eq!((a.memory(), b.memory()), (0, 0));
}

/// A second process takes connections from a listener that it has inherited.
fn an_accepted_connection_belongs_to_the_process_that_took_it(family: Family) {
    let (mut bed, app, listener) = listening(family, 10);
    let mut other = bed.app(2);
    assert!(open(&mut bed, 1000));
    let socket = other.accept(listener).unwrap();
    bed.settle();
    bed.sent();
    bed.process_gone(1, &[app.context]);
    assert!(bed.sent_segments().is_empty(), "it is not the first one's");
    assert!(other.is_connected(socket));
    bed.process_gone(2, &[other.context]);
    assert!(bed.sent_segments()[0].has(Flags::FIN));
}
