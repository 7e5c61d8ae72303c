//! Sockets that several processes hold, and leases.

use crate::app::App;
use crate::bed::{Bed, Setup, exchange, pass_together};
use crate::conversation::Conversation;
use context::command::{EXCLUSIVE, Op};
use context::socket::flag;
use std::sync::atomic::Ordering::SeqCst;

const PARENT: u32 = 1;
const CHILD: u32 = 2;
const LEASE: u32 = 3;

/// A connection that process [`PARENT`] has accepted on the second stack.
fn accepted() -> (Bed, Bed, Conversation) {
    let (mut a, mut b) = (Setup::host(1).build(), Setup::host(2).build());
    let talk = Conversation::start(&mut a, &mut b, (9, PARENT), 80);
    (a, b, talk)
}

/// The child of a fork in which it inherits the accepted connection.
fn fork(b: &mut Bed, talk: &Conversation) -> App {
    let parent = (PARENT, &[talk.server.app.context][..]);
    assert_eq!(b.share(parent, CHILD, &[talk.server.socket]), 1);
    b.app(CHILD)
}

fn is_at_end(a: &mut Bed, b: &mut Bed, talk: &Conversation) -> bool {
    pass_together(a, b, 60_000);
    talk.client.app.is_at_end(talk.client.socket)
}

#[test]
fn a_connection_lives_until_the_last_process_has_closed_it() {
    for child_first in [true, false] {
        let (mut a, mut b, mut talk) = accepted();
        let mut child = fork(&mut b, &talk);
        let socket = talk.server.socket;
        let parent = &mut talk.server.app;
        let (first, second) = if child_first {
            (&mut child, parent)
        } else {
            (parent, &mut child)
        };
        first.command(Op::Close, socket, 0);
        pass_together(&mut a, &mut b, 60_000);
        assert!(!talk.client.app.is_at_end(talk.client.socket));
        assert_eq!(second.send(socket, b"still here"), 10);
        exchange(&mut a, &mut b, |_, _| true);
        assert_eq!(talk.client.app.recv(talk.client.socket, 99), b"still here");
        second.command(Op::Close, socket, 0);
        assert!(is_at_end(&mut a, &mut b, &talk));
    }
}

#[test]
fn two_processes_write_one_stream_and_read_distinct_bytes() {
    let (mut a, mut b, mut talk) = accepted();
    let mut child = fork(&mut b, &talk);
    let socket = talk.server.socket;
    let mut expected = Vec::new();
    for round in 0..50u8 {
        let piece = vec![round; 999];
        let writer = if round % 2 == 0 {
            &mut talk.server.app
        } else {
            &mut child
        };
        assert_eq!(writer.send(socket, &piece), 999);
        expected.extend(piece);
        exchange(&mut a, &mut b, |_, _| true);
    }
    assert_eq!(talk.client.app.recv(talk.client.socket, 1 << 20), expected);
    talk.client
        .app
        .send(talk.client.socket, &expected[..40_000]);
    exchange(&mut a, &mut b, |_, _| true);
    let mut read = talk.server.app.recv(socket, 15_000);
    read.extend(child.recv(socket, 1 << 20));
    assert_eq!(read, expected[..40_000]);
}

#[test]
fn what_a_process_that_dies_has_written_arrives_and_the_other_goes_on() {
    let (mut a, mut b, mut talk) = accepted();
    let mut child = fork(&mut b, &talk);
    let socket = talk.server.socket;
    // Killed between setting the bits and sending the commands.
    assert_eq!(child.send(socket, b"last words"), 10);
    let record = b.shared.segment.socket(socket).unwrap();
    let pending = flag::TX_PENDING | flag::RX_PENDING;
    record.app.flags.fetch_or(pending, SeqCst);
    b.process_gone(CHILD, &[child.context]);
    assert_eq!(talk.server.app.send(socket, b", and more"), 10);
    exchange(&mut a, &mut b, |_, _| true);
    let got = talk.client.app.recv(talk.client.socket, 99);
    assert_eq!(got, b"last words, and more");
    assert!(!talk.client.app.is_at_end(talk.client.socket));
    b.process_gone(PARENT, &[talk.server.app.context]);
    assert!(is_at_end(&mut a, &mut b, &talk));
    talk.client.app.close(talk.client.socket);
    pass_together(&mut a, &mut b, 3_000_000);
    assert_eq!(b.memory(), 0);
}

#[test]
fn locks_of_a_process_that_was_killed_are_free_though_another_has_its_threads_id() {
    let (mut a, mut b, mut talk) = accepted();
    let child = fork(&mut b, &talk);
    let socket = talk.server.socket;
    let shared = b.shared.clone();
    let app = &shared.segment.socket(socket).unwrap().app;
    // It lives: this is the test's own process.
    let tid = std::process::id();
    let holder = |process| context::lock::holder(process, tid);
    std::mem::forget(app.tx_lock.lock(holder(CHILD)));
    std::mem::forget(app.rx_lock.lock(holder(PARENT)));
    b.process_gone(CHILD, &[child.context]);
    assert!(app.rx_lock.try_lock(holder(CHILD)).is_none(), "not its own");
    app.rx_lock.reset();
    assert_eq!(talk.server.app.send(socket, b"hello"), 5);
    exchange(&mut a, &mut b, |_, _| true);
    assert_eq!(talk.client.app.recv(talk.client.socket, 99), b"hello");
}

#[test]
fn a_chunk_attached_by_a_process_that_dies_is_not_written_to_by_the_other() {
    let (mut a, mut b, mut talk) = accepted();
    let child = fork(&mut b, &talk);
    let socket = talk.server.socket;
    let shared = b.shared.clone();
    let lane = shared.segment.lane(child.context, 0).unwrap();
    let record = shared.segment.socket(socket).unwrap();
    let mut writer = context::stream::Writer::lock(&shared.segment, record, 1).unwrap();
    let grant = |_| Some(lane.small.take()?[0] as u32);
    assert_eq!(writer.write(10, grant, |_, _| 0), 0, "nothing to write");
    drop(writer);
    b.process_gone(CHILD, &[child.context]);
    assert_eq!(talk.server.app.send(socket, b"hello"), 5);
    exchange(&mut a, &mut b, |_, _| true);
    assert_eq!(talk.client.app.recv(talk.client.socket, 99), b"hello");
}

#[test]
fn what_a_process_took_from_a_queue_and_did_not_live_to_use_is_closed_and_nothing_else() {
    let (mut a, mut b, mut talk) = accepted();
    let parent = (PARENT, &[talk.server.app.context][..]);
    assert_eq!(b.share(parent, CHILD, &[talk.listener]), 1);
    let mut child = b.app(CHILD);
    let clients: [u32; 3] = std::array::from_fn(|_| {
        let client = &mut talk.client.app;
        let socket = client.socket().expect("a socket");
        client.connect(socket, b.at(80));
        exchange(&mut a, &mut b, |_, _| true);
        socket
    });
    // The child has taken the first. Of the second and the third it was killed before it moved the
    // cursor; the second is then on its way to its parent.
    child.take(talk.listener, true).expect("the first");
    let second = child.take(talk.listener, false).expect("the second");
    assert_eq!(talk.server.app.take(talk.listener, true), Some(second));
    let third = child.take(talk.listener, false).expect("the third");
    b.process_gone(CHILD, &[child.context]);
    pass_together(&mut a, &mut b, 60_000);
    let at_end = clients.map(|client| talk.client.app.is_at_end(client));
    assert_eq!(at_end, [true, false, false]);
    talk.server.app.command(Op::Adopt, second, 0);
    assert_eq!(talk.server.app.accept(talk.listener), Some(third));
    for (socket, client) in [second, third].into_iter().zip(&clients[1..]) {
        assert_eq!(talk.server.app.send(socket, b"hello"), 5);
        exchange(&mut a, &mut b, |_, _| true);
        assert_eq!(talk.client.app.recv(*client, 99), b"hello");
    }
}

#[test]
fn who_does_not_hold_a_socket_cannot_close_or_use_it() {
    let (mut a, mut b, mut talk) = accepted();
    let mut stranger = b.app(CHILD);
    let socket = talk.server.socket;
    assert_eq!(b.share((CHILD, &[]), LEASE, &[socket]), 0);
    stranger.command(Op::Shutdown, socket, libc::SHUT_WR as u64);
    stranger.command(Op::Close, socket, 1);
    b.process_gone(CHILD, &[stranger.context]);
    assert!(!is_at_end(&mut a, &mut b, &talk));
    talk.server.app.command(Op::Close, socket, 0);
    assert!(is_at_end(&mut a, &mut b, &talk));
}

#[test]
fn a_lease_keeps_a_socket_for_who_comes_to_hold_it() {
    let (mut a, mut b, mut talk) = accepted();
    let socket = talk.server.socket;
    let parent = (PARENT, &[talk.server.app.context][..]);
    assert_eq!(b.share(parent, LEASE, &[socket]), 1);
    b.process_gone(PARENT, &[talk.server.app.context]);
    assert!(!is_at_end(&mut a, &mut b, &talk));
    let mut heir = b.app(CHILD);
    assert_eq!(b.share((LEASE, &[]), CHILD, &[socket]), 1);
    b.lease_gone(LEASE, socket);
    assert_eq!(heir.send(socket, b"inherited"), 9);
    assert!(!is_at_end(&mut a, &mut b, &talk));
    assert_eq!(talk.client.app.recv(talk.client.socket, 99), b"inherited");
    b.lease_gone(LEASE, socket);
    heir.command(Op::Close, socket, 0);
    assert!(is_at_end(&mut a, &mut b, &talk));
}

#[test]
fn the_end_of_the_last_lease_closes_as_linger_says() {
    for (linger, error) in [(0, 0), (1, libc::ECONNRESET)] {
        let (mut a, mut b, mut talk) = accepted();
        let socket = talk.server.socket;
        let record = b.shared.segment.socket(socket).unwrap();
        record.options.linger.store(linger, SeqCst);
        let parent = (PARENT, &[talk.server.app.context][..]);
        b.share(parent, LEASE, &[socket]);
        talk.server.app.command(Op::Close, socket, 0);
        assert!(!is_at_end(&mut a, &mut b, &talk));
        b.lease_gone(LEASE, socket);
        assert!(is_at_end(&mut a, &mut b, &talk));
        assert_eq!(talk.client.app.take_error(talk.client.socket), error);
    }
}

#[test]
fn a_listener_serves_until_its_last_holder_is_gone() {
    let (mut a, mut b, mut talk) = accepted();
    let parent = (PARENT, &[talk.server.app.context][..]);
    assert_eq!(b.share(parent, CHILD, &[talk.listener]), 1);
    let mut child = b.app(CHILD);
    talk.server.app.command(Op::Close, talk.listener, 0);
    let connect = |a: &mut Bed, b: &mut Bed, app: &mut App| {
        let socket = app.socket().unwrap();
        app.connect(socket, b.at(80));
        exchange(a, b, |_, _| true);
        (socket, app.is_connected(socket))
    };
    let (socket, connected) = connect(&mut a, &mut b, &mut talk.client.app);
    assert!(connected);
    let accepted = child.accept(talk.listener).expect("a connection waits");
    child.send(accepted, b"from the child");
    exchange(&mut a, &mut b, |_, _| true);
    assert_eq!(talk.client.app.recv(socket, 99), b"from the child");
    b.process_gone(CHILD, &[child.context]);
    let (socket, connected) = connect(&mut a, &mut b, &mut talk.client.app);
    assert!(!connected);
    assert_eq!(talk.client.app.take_error(socket), libc::ECONNREFUSED);
}

#[test]
fn a_process_that_has_closed_a_socket_is_not_told_of_it() {
    let (mut a, mut b, mut talk) = accepted();
    let socket = talk.server.socket;
    let mut child = fork(&mut b, &talk);
    for (set, process) in [(0, PARENT), (1, CHILD)] {
        b.renew_set(set);
        b.shared.sets[set as usize].process.store(process, SeqCst);
    }
    talk.server.app.watch(0, 7, socket);
    child.watch(1, 8, socket);
    b.settle();
    let mut heads = [0, 0];
    talk.server.app.events(0, &mut heads[0]);
    child.events(1, &mut heads[1]);
    talk.server.app.command(Op::Close, socket, 0);
    b.settle();
    talk.client.app.send(talk.client.socket, b"x");
    exchange(&mut a, &mut b, |_, _| true);
    assert_eq!(talk.server.app.events(0, &mut heads[0]), []);
    assert_eq!(child.events(1, &mut heads[1]).len(), 1);
}

#[test]
fn of_exclusive_watches_one_that_sleeps_is_told() {
    let (mut a, mut b, mut talk) = accepted();
    let sets = [0u32, 1, 2];
    for set in sets {
        b.renew_set(set);
        let arg = EXCLUSIVE | u64::from(set) << 32;
        talk.server.app.command(Op::Watch, talk.listener, arg);
    }
    b.settle();
    let mut heads = [0; 3];
    let server = &talk.server.app;
    let mut told = || sets.map(|set| server.events(set, &mut heads[set as usize]).len());
    told();
    let client = &mut talk.client.app;
    let mut connect = |a: &mut Bed, b: &mut Bed| {
        let socket = client.socket().unwrap();
        client.connect(socket, b.at(80));
        exchange(a, b, |_, _| true);
    };
    let sleep = |b: &Bed, set: u32| {
        let ready = b.shared.segment.ready_set(set).unwrap();
        ready.fall_asleep(context::ready::ASLEEP_FUTEX);
    };
    connect(&mut a, &mut b);
    assert_eq!(told(), [1, 1, 1], "nobody has to be woken");
    sleep(&b, 1);
    connect(&mut a, &mut b);
    assert_eq!(told(), [0, 1, 0]);
    for expected in [[0, 0, 1], [1, 0, 0], [0, 1, 0]] {
        sets.into_iter().for_each(|set| sleep(&b, set));
        connect(&mut a, &mut b);
        assert_eq!(told(), expected, "they take turns");
    }
}
