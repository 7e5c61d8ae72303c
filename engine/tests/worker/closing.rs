//! Ending connections, and the death of those who hold them.

use crate::app::App;
use crate::bed::{Bed, Family, Setup, exchange, pass_together};
use crate::conversation::Conversation;
use crate::dice::Dice;
use crate::frames::TcpFrame;
use context::command::{Command, Op};
use context::socket::{option, state};
use engine::binds::Bind;
use engine::shared::Message;
use engine::stats::Counter;
use engine::tcp::Flags;
use std::sync::atomic::Ordering::SeqCst;

over_both_families! {
    what_was_written_before_close_arrives,
    closing_with_unread_data_resets,
    data_that_comes_after_close_resets,
    a_half_closed_connection_still_receives,
    a_dead_process_leaves_fin_or_rst,
    a_dead_process_has_its_last_bytes_sent,
    a_dead_process_takes_nothing_from_others,
    what_was_received_can_be_read_after_a_reset,
    time_wait_is_bounded_and_ends,
    connections_left_beyond_the_bound_are_reset,
    a_port_in_time_wait_may_connect_anew_where_that_is_allowed,
    a_connection_stands_in_the_way_of_a_bind_until_time_wait_is_over,
    a_closed_connection_whose_peer_does_not_close_is_forgotten_in_time,
    no_application_has_fin_wait2_last_longer_than_two_minutes,
    stopping_resets_what_is_left,
}

/// Time in which the peer's stack acknowledges a FIN in any case, in microseconds.
const DELAYED_ACK: u64 = 60_000;

fn talking(family: Family) -> (Bed, Bed, Conversation) {
    let (mut a, mut b) = (
        Setup::over(family, 1).build(),
        Setup::over(family, 2).build(),
    );
    let talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
    (a, b, talk)
}

/// What the client's stack sends while frames are carried: the flags of each segment.
fn flags_from_client(a: &mut Bed, b: &mut Bed) -> Vec<Flags> {
    let mut seen = Vec::new();
    exchange(a, b, |from_a, frame| {
        if from_a && let Some(segment) = TcpFrame::parse(frame) {
            seen.push(segment.flags);
        }
        true
    });
    seen
}

fn what_was_written_before_close_arrives(family: Family) {
    let (mut a, mut b, mut talk) = talking(family);
    let data = vec![7; 60_000];
    let mut sent = 0;
    while sent < 200_000 {
        sent += talk.client.app.send(talk.client.socket, &data);
        exchange(&mut a, &mut b, |_, _| true);
        let got = talk.server.app.recv(talk.server.socket, 50_000);
        assert!(got.iter().all(|byte| *byte == 7));
        sent -= got.len();
        if got.len() == 50_000 && sent > 100_000 {
            break;
        }
    }
    talk.client.app.close(talk.client.socket);
    let mut rest = 0;
    for _ in 0..1000 {
        pass_together(&mut a, &mut b, 10_000);
        rest += talk.server.app.recv(talk.server.socket, 1 << 20).len();
        if talk.server.app.is_at_end(talk.server.socket) {
            break;
        }
    }
    assert_eq!(rest, sent);
    assert_eq!(talk.server.app.take_error(talk.server.socket), 0);
}

fn closing_with_unread_data_resets(family: Family) {
    let (mut a, mut b, mut talk) = talking(family);
    talk.server.app.send(talk.server.socket, b"never read");
    exchange(&mut a, &mut b, |_, _| true);
    talk.client.app.close(talk.client.socket);
    let flags = flags_from_client(&mut a, &mut b);
    assert!(flags.iter().any(|f| f.contains(Flags::RST)), "{flags:?}");
    assert_eq!(
        talk.server.app.take_error(talk.server.socket),
        libc::ECONNRESET
    );
}

fn data_that_comes_after_close_resets(family: Family) {
    let (mut a, mut b, mut talk) = talking(family);
    talk.client.app.close(talk.client.socket);
    exchange(&mut a, &mut b, |_, _| true);
    assert!(talk.server.app.is_at_end(talk.server.socket));
    talk.server.app.send(talk.server.socket, b"too late");
    let flags = flags_from_client(&mut a, &mut b);
    assert!(flags.iter().any(|f| f.contains(Flags::RST)), "{flags:?}");
    assert_eq!(a.count(Counter::connections), 0);
}

fn a_half_closed_connection_still_receives(family: Family) {
    let (mut a, mut b, mut talk) = talking(family);
    talk.client.app.shutdown_write(talk.client.socket);
    exchange(&mut a, &mut b, |_, _| true);
    pass_together(&mut a, &mut b, DELAYED_ACK);
    assert_eq!(talk.client.app.state(talk.client.socket), state::FIN_WAIT2);
    assert!(talk.server.app.is_at_end(talk.server.socket));
    talk.server.app.send(talk.server.socket, b"still here");
    exchange(&mut a, &mut b, |_, _| true);
    assert_eq!(talk.client.app.recv(talk.client.socket, 99), b"still here");
}

fn a_dead_process_leaves_fin_or_rst(family: Family) {
    for unread in [false, true] {
        let (mut a, mut b, mut talk) = talking(family);
        talk.client.app.send(talk.client.socket, b"last words");
        if unread {
            talk.server.app.send(talk.server.socket, b"never read");
        }
        exchange(&mut a, &mut b, |_, _| true);
        a.process_gone(1, &[talk.client.app.context]);
        let flags = flags_from_client(&mut a, &mut b);
        let end = if unread { Flags::RST } else { Flags::FIN };
        assert!(flags.iter().any(|f| f.contains(end)), "{flags:?}");
        if !unread {
            let words = talk.server.app.recv(talk.server.socket, 99);
            assert_eq!(words, b"last words");
        }
        talk.server.app.close(talk.server.socket);
        pass_together(&mut a, &mut b, 5_000_000);
        assert_eq!(a.count(Counter::connections), 0);
        assert_eq!(a.memory(), 0);
    }
}

/// Bytes that were written but never announced by a command are sent all the same.
fn a_dead_process_has_its_last_bytes_sent(family: Family) {
    let (mut a, mut b, mut talk) = talking(family);
    let lane = a.shared.segment.lane(talk.client.app.context, 0).unwrap();
    let before = lane.commands.tail();
    talk.client.app.send(talk.client.socket, b"last words");
    assert_ne!(lane.commands.tail(), before);
    lane.commands.reset();
    a.process_gone(1, &[talk.client.app.context]);
    exchange(&mut a, &mut b, |_, _| true);
    let words = talk.server.app.recv(talk.server.socket, 99);
    assert_eq!(words, b"last words");
}

fn a_dead_process_takes_nothing_from_others(family: Family) {
    let (mut a, mut b, mut talk) = talking(family);
    let mut dying = Conversation::start(&mut a, &mut b, (2, 2), 81);
    let mut dice = Dice::seeded(4);
    dying.go_on(&mut dice);
    talk.go_on(&mut dice);
    a.process_gone(2, &[dying.client.app.context]);
    exchange(&mut a, &mut b, |_, _| true);
    talk.go_on(&mut dice);
    talk.finish(&mut a, &mut b);
}

#[test]
fn another_process_cannot_close_a_socket() {
    let (mut a, mut b, mut talk) = talking(Family::V4);
    let mut other = a.app(2);
    let generation = other.generation(talk.client.socket);
    for arg in [0, 1] {
        other.push(Command {
            op: Op::Close,
            socket: talk.client.socket,
            generation,
            arg,
        });
    }
    exchange(&mut a, &mut b, |_, _| true);
    talk.go_on(&mut Dice::seeded(1));
    talk.finish(&mut a, &mut b);
}

#[test]
fn a_command_for_an_earlier_life_of_a_record_is_ignored() {
    let (mut a, mut b, mut talk) = talking(Family::V4);
    let app = &mut talk.client.app;
    let generation = app.generation(talk.client.socket).wrapping_sub(1);
    for op in [Op::Close, Op::Shutdown, Op::Send] {
        app.push(Command {
            op,
            socket: talk.client.socket,
            generation,
            arg: 1,
        });
    }
    exchange(&mut a, &mut b, |_, _| true);
    talk.go_on(&mut Dice::seeded(1));
    talk.finish(&mut a, &mut b);
}

fn what_was_received_can_be_read_after_a_reset(family: Family) {
    let (mut a, mut b, mut talk) = talking(family);
    talk.server.app.send(talk.server.socket, b"read me");
    exchange(&mut a, &mut b, |_, _| true);
    talk.server.app.reset(talk.server.socket);
    exchange(&mut a, &mut b, |_, _| true);
    assert_eq!(a.count(Counter::connections), 0);
    assert_eq!(talk.client.app.recv(talk.client.socket, 99), b"read me");
    a.process_gone(1, &[talk.client.app.context]);
    assert_eq!(a.memory(), 0);
}

fn time_wait_is_bounded_and_ends(family: Family) {
    let mut setup = Setup::over(family, 1);
    setup.config.max_time_wait = 5;
    let (mut a, mut b) = (setup.build(), Setup::over(family, 2).build());
    let (mut client, mut server) = (a.app(1), b.app(1));
    let listener = server.socket().unwrap();
    assert!(b.listen(listener, 80, 100));
    for _ in 0..12 {
        let socket = client.socket().unwrap();
        client.connect(socket, b.at(80));
        exchange(&mut a, &mut b, |_, _| true);
        let accepted = server.accept(listener).unwrap();
        client.close(socket);
        exchange(&mut a, &mut b, |_, _| true);
        server.close(accepted);
        exchange(&mut a, &mut b, |_, _| true);
    }
    assert_eq!(a.count(Counter::connections), 5);
    assert_eq!(a.count(Counter::time_wait_overflow), 7);
    assert_eq!(b.count(Counter::connections), 0);
    pass_together(&mut a, &mut b, 2_000_000);
    assert_eq!(a.count(Counter::connections), 0);
    assert_eq!(a.count(Counter::time_wait), 0);
}

fn connections_left_beyond_the_bound_are_reset(family: Family) {
    let mut setup = Setup::over(family, 2);
    setup.config.max_orphans = 3;
    let (mut a, mut b) = (Setup::over(family, 1).build(), setup.build());
    let mut talk = |n: u16| {
        let processes = (u32::from(n), u32::from(n));
        Conversation::start(&mut a, &mut b, processes, 80 + n)
    };
    let mut talks: Vec<_> = (1..=5).map(&mut talk).collect();
    let mut later = talk(6);
    let leave = |talk: &mut Conversation| {
        talk.server.app.send(talk.server.socket, b"the end");
        talk.server.app.close(talk.server.socket);
    };
    talks.iter_mut().for_each(leave);
    exchange(&mut a, &mut b, |_, _| true);
    assert_eq!(b.count(Counter::orphans_reset), 2);
    let heard = |talk: &mut Conversation| {
        let Conversation { client, .. } = talk;
        let got = client.app.recv(client.socket, 99);
        (got, client.app.take_error(client.socket))
    };
    let (kept, reset) = talks.split_at_mut(3);
    for talk in kept {
        assert_eq!(heard(talk), (b"the end".to_vec(), 0));
    }
    for talk in reset {
        assert_eq!(heard(talk), (Vec::new(), libc::ECONNRESET));
    }
    // The peers have acknowledged the first: there is room again.
    leave(&mut later);
    exchange(&mut a, &mut b, |_, _| true);
    assert_eq!(heard(&mut later), (b"the end".to_vec(), 0));
    assert_eq!(b.count(Counter::orphans_reset), 2);
}

/// A client of `a` that has closed first, and the port that it had.
fn in_time_wait(a: &mut Bed, b: &mut Bed) -> (App, App, u32, u16) {
    let (mut client, mut server) = (a.app(1), b.app(1));
    let listener = server.socket().unwrap();
    assert!(b.listen(listener, 80, 100));
    let socket = client.socket().unwrap();
    client.connect(socket, b.at(80));
    exchange(a, b, |_, _| true);
    let accepted = server.accept(listener).unwrap();
    let record = a.shared.segment.socket(socket).unwrap();
    let port = record.names.local().port();
    client.close(socket);
    exchange(a, b, |_, _| true);
    server.close(accepted);
    exchange(a, b, |_, _| true);
    assert_eq!(a.count(Counter::time_wait), 1);
    (client, server, listener, port)
}

fn a_port_in_time_wait_may_connect_anew_where_that_is_allowed(family: Family) {
    use engine::TimeWaitReuse;
    for (reuse, allowed) in [(TimeWaitReuse::Loopback, false), (TimeWaitReuse::On, true)] {
        let mut setup = Setup::over(family, 1);
        setup.config.time_wait_reuse = reuse;
        setup.config.tcp.time_wait = engine::tcp::Duration::from_secs(60);
        let (mut a, mut b) = (setup.build(), Setup::over(family, 2).build());
        let (mut client, mut server, listener, port) = in_time_wait(&mut a, &mut b);
        pass_together(&mut a, &mut b, 1_200_000);
        let socket = client.socket().unwrap();
        assert!(a.bind(socket, port));
        client.connect(socket, b.at(80));
        exchange(&mut a, &mut b, |_, _| true);
        assert_eq!(client.is_connected(socket), allowed, "{reuse:?}");
        assert_eq!(server.accept(listener).is_some(), allowed);
        assert_eq!(a.count(Counter::time_wait_reused), u64::from(allowed));
    }
}

fn a_connection_stands_in_the_way_of_a_bind_until_time_wait_is_over(family: Family) {
    let (mut a, mut b, mut talk) = talking(family);
    let stack = a.shared.clone();
    let record = stack.segment.socket(talk.client.socket).unwrap();
    let (options, port) = (&record.options.bits, record.names.local().port());
    let free = Bind {
        socket: 0,
        address: family.any(),
        only_v6: false,
        reuse_address: false,
        reuse_port: false,
        uid: 0,
        listens: false,
    };
    let shared = Bind {
        reuse_address: true,
        ..free
    };
    let elsewhere = Bind {
        address: family.address(9),
        ..free
    };
    let conflict =
        |a: &mut Bed, bind: Bind, port: u16| a.ask(|done| Message::Conflict { bind, port, done });
    assert!(conflict(&mut a, free, port) && conflict(&mut a, shared, port));
    assert!(!conflict(&mut a, elsewhere, port) && !conflict(&mut a, free, port + 1));
    options.fetch_or(option::REUSEADDR, SeqCst);
    assert!(conflict(&mut a, free, port) && !conflict(&mut a, shared, port));
    talk.client.app.close(talk.client.socket);
    exchange(&mut a, &mut b, |_, _| true);
    talk.server.app.close(talk.server.socket);
    exchange(&mut a, &mut b, |_, _| true);
    assert_eq!(a.count(Counter::time_wait), 1);
    assert!(conflict(&mut a, free, port) && !conflict(&mut a, shared, port));
    pass_together(&mut a, &mut b, 70_000_000);
    assert_eq!(a.count(Counter::time_wait), 0);
    assert!(!conflict(&mut a, free, port));
}

fn a_closed_connection_whose_peer_does_not_close_is_forgotten_in_time(family: Family) {
    let (mut a, mut b, mut talk) = talking(family);
    talk.client.app.close(talk.client.socket);
    exchange(&mut a, &mut b, |_, _| true);
    pass_together(&mut a, &mut b, DELAYED_ACK);
    assert_eq!(a.count(Counter::time_wait), 1, "FIN-WAIT-2");
    // The peer goes on sending, for nobody.
    talk.server.app.send(talk.server.socket, b"hello?");
    exchange(&mut a, &mut b, |_, _| true);
    assert_eq!(a.count(Counter::connections), 0);
    let error = talk.server.app.take_error(talk.server.socket);
    assert_eq!(error, libc::EPIPE);
}

fn no_application_has_fin_wait2_last_longer_than_two_minutes(family: Family) {
    let (mut a, mut b, mut talk) = talking(family);
    let (app, socket) = (&mut talk.client.app, talk.client.socket);
    let record = a.shared.segment.socket(socket).unwrap();
    record.options.fin_wait2.store(30_000, SeqCst);
    let generation = app.generation(socket);
    app.push(Command {
        op: Op::Options,
        socket,
        generation,
        arg: 0,
    });
    app.close(socket);
    exchange(&mut a, &mut b, |_, _| true);
    pass_together(&mut a, &mut b, 119_000_000);
    assert_eq!(a.count(Counter::time_wait), 1, "as long as it may");
    pass_together(&mut a, &mut b, 2_000_000);
    assert_eq!(a.count(Counter::time_wait), 0);
}

fn stopping_resets_what_is_left(family: Family) {
    let (mut a, mut b, talk) = talking(family);
    assert_eq!(a.ask(Message::ListBusy).len(), 1);
    a.shared.inboxes[0].send(Message::Stop);
    let flags = flags_from_client(&mut a, &mut b);
    assert!(flags.iter().any(|f| f.contains(Flags::RST)), "{flags:?}");
    assert!(a.ask(Message::ListBusy).is_empty());
    let error = talk.server.app.take_error(talk.server.socket);
    assert_eq!(error, libc::ECONNRESET);
}
