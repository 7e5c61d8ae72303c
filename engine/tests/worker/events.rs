//! Edges: ready sets, their rings, and who is woken.

use crate::app::App;
use crate::bed::{Bed, Family, Setup, exchange};
use crate::conversation::Conversation;
use context::command::Op;
use context::futex::Wait;
use context::ready::{ASLEEP_EVENTFD, ASLEEP_FUTEX, COALESCED, EVENTS};
use context::socket::option;
use engine::stats::Counter;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

over_both_families! {
    edges_coalesce_until_the_event_is_taken,
    each_set_that_watches_a_socket_is_told,
    a_watch_taken_back_is_silent,
    the_same_watch_twice_is_one,
    a_set_that_changed_hands_hears_nothing_of_old_watches,
    a_full_event_ring_sets_overflow_and_goes_on_after,
    the_watches_of_one_socket_are_bounded,
    accept_ring_and_events,
    connecting_peer_closing_and_room_are_edges,
    a_sleeper_is_woken_once_for_a_burst,
    a_sleeper_in_the_kernel_gets_the_eventfd,
    threads_that_block_on_a_socket_are_woken_by_its_edges,
    a_writer_held_back_by_what_is_unsent_is_told_once_it_was_sent,
    a_writer_is_told_that_any_number_of_bytes_may_be_unsent_again,
}

const SET: u32 = 3;

/// A connection whose client end stands in ready set [`SET`] with cookie 7, its first edge taken.
fn watched(family: Family) -> (Bed, Bed, Conversation, u32) {
    let (mut a, mut b) = (
        Setup::over(family, 1).build(),
        Setup::over(family, 2).build(),
    );
    let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
    let options = &b.shared.segment.socket(talk.server.socket).unwrap().options;
    options.bits.store(option::NODELAY, SeqCst);
    talk.server.app.command(Op::Options, talk.server.socket, 0);
    b.settle();
    a.renew_set(SET);
    talk.client.app.watch(SET, 7, talk.client.socket);
    a.settle();
    let mut head = 0;
    assert_eq!(cookies(&talk.client.app, &mut head), [7], "it is writable");
    (a, b, talk, head)
}

fn cookies(app: &App, head: &mut u32) -> Vec<u32> {
    app.events(SET, head).iter().map(|e| e.cookie).collect()
}

/// The server sends a byte, which arrives.
fn byte_to_client(a: &mut Bed, b: &mut Bed, talk: &mut Conversation) {
    assert_eq!(talk.server.app.send(talk.server.socket, b"x"), 1);
    exchange(a, b, |_, _| true);
}

fn edges_coalesce_until_the_event_is_taken(family: Family) {
    let (mut a, mut b, mut talk, mut head) = watched(family);
    for _ in 0..3 {
        for _ in 0..5 {
            byte_to_client(&mut a, &mut b, &mut talk);
        }
        assert_eq!(cookies(&talk.client.app, &mut head), [7]);
        assert_eq!(cookies(&talk.client.app, &mut head), []);
    }
}

fn each_set_that_watches_a_socket_is_told(family: Family) {
    let (mut a, mut b, mut talk, mut head) = watched(family);
    a.renew_set(5);
    talk.client.app.watch(5, 8, talk.client.socket);
    talk.client.app.watch(SET, 9, talk.client.socket);
    a.settle();
    let mut other = 0;
    talk.client.app.events(5, &mut other);
    cookies(&talk.client.app, &mut head);
    byte_to_client(&mut a, &mut b, &mut talk);
    assert_eq!(cookies(&talk.client.app, &mut head), [7, 9]);
    assert_eq!(talk.client.app.events(5, &mut other)[0].cookie, 8);
}

fn a_watch_taken_back_is_silent(family: Family) {
    let (mut a, mut b, mut talk, mut head) = watched(family);
    talk.client.app.unwatch(SET, 7, talk.client.socket);
    byte_to_client(&mut a, &mut b, &mut talk);
    assert_eq!(cookies(&talk.client.app, &mut head), []);
    talk.client.app.watch(SET, 8, talk.client.socket);
    a.settle();
    assert_eq!(cookies(&talk.client.app, &mut head), [8]);
}

fn the_same_watch_twice_is_one(family: Family) {
    let (mut a, mut b, mut talk, mut head) = watched(family);
    talk.client.app.watch(SET, 7, talk.client.socket);
    a.settle();
    cookies(&talk.client.app, &mut head);
    byte_to_client(&mut a, &mut b, &mut talk);
    assert_eq!(cookies(&talk.client.app, &mut head), [7]);
}

fn a_set_that_changed_hands_hears_nothing_of_old_watches(family: Family) {
    let (mut a, mut b, mut talk, _) = watched(family);
    a.renew_set(SET);
    byte_to_client(&mut a, &mut b, &mut talk);
    assert_eq!(cookies(&talk.client.app, &mut 0), []);
    talk.client.app.watch(SET, 8, talk.client.socket);
    a.settle();
    assert_eq!(cookies(&talk.client.app, &mut 0), [8]);
}

fn a_full_event_ring_sets_overflow_and_goes_on_after(family: Family) {
    let (mut a, mut b, mut talk, mut head) = watched(family);
    // Watches beyond the coalesced ones get an event for each edge.
    for cookie in 100..100 + COALESCED + 20 {
        talk.client.app.watch(SET, cookie, talk.client.socket);
    }
    a.settle();
    let ready = a.shared.segment.ready_set(SET).unwrap();
    assert!(!ready.take_overflow());
    for _ in 0..EVENTS / 20 + 1 {
        byte_to_client(&mut a, &mut b, &mut talk);
    }
    let ready = a.shared.segment.ready_set(SET).unwrap();
    assert!(ready.take_overflow());
    assert_eq!(cookies(&talk.client.app, &mut head).len(), EVENTS);
    byte_to_client(&mut a, &mut b, &mut talk);
    assert!(cookies(&talk.client.app, &mut head).contains(&7));
    let ready = a.shared.segment.ready_set(SET).unwrap();
    assert!(!ready.take_overflow());
}

fn the_watches_of_one_socket_are_bounded(family: Family) {
    let (mut a, mut b, mut talk, _) = watched(family);
    let before = a.count(Counter::bad_commands);
    for round in 0..40 {
        for cookie in 0..100 {
            talk.client
                .app
                .watch(SET, 1000 + round * 100 + cookie, talk.client.socket);
        }
        a.settle();
    }
    assert!(a.count(Counter::bad_commands) > before);
    let events = a.count(Counter::events);
    byte_to_client(&mut a, &mut b, &mut talk);
    assert!(a.count(Counter::events) - events <= 1024);
}

fn accept_ring_and_events(family: Family) {
    let (mut a, mut b) = (
        Setup::over(family, 1).build(),
        Setup::over(family, 2).build(),
    );
    let (mut client, mut server) = (a.app(1), b.app(1));
    let listener = server.socket().unwrap();
    b.renew_set(SET);
    // Watched before it listens, as programs do that add to epoll early.
    server.watch(SET, 11, listener);
    b.settle();
    let mut head = 0;
    cookies(&server, &mut head);
    assert!(b.listen(listener, 80, 10));
    cookies(&server, &mut head);
    for _ in 0..3 {
        let socket = client.socket().unwrap();
        client.connect(socket, b.at(80));
    }
    exchange(&mut a, &mut b, |_, _| true);
    let events = server.events(SET, &mut head);
    assert_eq!(events.len(), 1, "coalesced");
    assert_eq!((events[0].cookie, events[0].socket), (11, listener));
    for _ in 0..3 {
        assert!(server.accept(listener).is_some());
    }
    assert_eq!(server.accept(listener), None);
}

fn connecting_peer_closing_and_room_are_edges(family: Family) {
    let (mut a, mut b) = (
        Setup::over(family, 1).build(),
        Setup::over(family, 2).build(),
    );
    let (mut client, mut server) = (a.app(1), b.app(1));
    let listener = server.socket().unwrap();
    assert!(b.listen(listener, 80, 10));
    a.renew_set(SET);
    let (socket, mut head) = (client.socket().unwrap(), 0);
    client.connect(socket, b.at(80));
    client.watch(SET, 1, socket);
    a.settle();
    cookies(&client, &mut head);
    exchange(&mut a, &mut b, |_, _| true);
    assert_eq!(cookies(&client, &mut head), [1], "connected");
    let accepted = server.accept(listener).unwrap();

    let full = client.send(socket, &vec![0; 4 << 20]);
    assert!(full < 4 << 20);
    a.settle();
    cookies(&client, &mut head);
    for _ in 0..100 {
        exchange(&mut a, &mut b, |_, _| true);
        server.recv(accepted, 1 << 20);
    }
    assert_eq!(cookies(&client, &mut head), [1], "room");

    server.close(accepted);
    exchange(&mut a, &mut b, |_, _| true);
    assert_eq!(cookies(&client, &mut head), [1], "end of stream");
    assert!(client.is_at_end(socket));
}

fn a_sleeper_is_woken_once_for_a_burst(family: Family) {
    let (mut a, mut b, mut talk, mut head) = watched(family);
    let mut more = Vec::new();
    for i in 0..10 {
        let socket = talk.client.app.socket().unwrap();
        talk.client.app.connect(socket, b.at(80));
        talk.client.app.watch(SET, 100 + i, socket);
        exchange(&mut a, &mut b, |_, _| true);
        more.push(talk.server.app.accept(talk.listener).unwrap());
    }
    assert_eq!(cookies(&talk.client.app, &mut head).len(), 10);
    let wakes = a.count(Counter::wakes);
    let seen = a
        .shared
        .segment
        .ready_set(SET)
        .unwrap()
        .fall_asleep(ASLEEP_FUTEX);
    for socket in more {
        talk.server.app.send(socket, b"x");
    }
    b.settle();
    for frame in b.sent() {
        a.inject(&frame);
    }
    a.settle();
    let ready = a.shared.segment.ready_set(SET).unwrap();
    let long = Some(Duration::from_secs(60));
    assert_eq!(ready.sleep(seen, long), Wait::Woken);
    assert_eq!(a.count(Counter::wakes), wakes + 1);
}

fn a_sleeper_in_the_kernel_gets_the_eventfd(family: Family) {
    let (mut a, mut b, mut talk, mut head) = watched(family);
    let eventfd = engine::sys::eventfd().unwrap();
    a.shared.sets[SET as usize]
        .eventfd
        .store(eventfd.as_raw_fd(), SeqCst);
    let epoll = engine::sys::Epoll::new().unwrap();
    epoll.add_readable(eventfd.as_fd(), 5).unwrap();
    a.shared
        .segment
        .ready_set(SET)
        .unwrap()
        .fall_asleep(ASLEEP_EVENTFD);
    byte_to_client(&mut a, &mut b, &mut talk);
    assert_eq!(epoll.wait(), [5]);
    assert_eq!(cookies(&talk.client.app, &mut head), [7]);
}

fn threads_that_block_on_a_socket_are_woken_by_its_edges(family: Family) {
    let (mut a, mut b, mut talk, _) = watched(family);
    let socket = talk.client.socket;
    let record = |bed: &Bed| bed.shared.segment.socket(socket).unwrap().announce_waiter();
    let seen = record(&a);
    byte_to_client(&mut a, &mut b, &mut talk);
    let long = Some(Duration::from_secs(60));
    let wait = |bed: &Bed, seen| {
        let word = &bed.shared.segment.socket(socket).unwrap().engine.wake;
        context::futex::wait(word, seen, long)
    };
    assert_eq!(wait(&a, seen), Wait::Woken);
    // A close by another thread wakes it, too.
    let seen = record(&a);
    talk.client.app.close(socket);
    a.settle();
    assert_eq!(wait(&a, seen), Wait::Woken);
}

fn a_writer_held_back_by_what_is_unsent_is_told_once_it_was_sent(family: Family) {
    let (mut a, mut b, mut talk, mut head) = watched(family);
    let shared = a.shared.clone();
    let socket = talk.client.socket;
    let record = shared.segment.socket(socket).unwrap();
    record.options.notsent_low.store(2000, SeqCst);
    talk.client.app.command(Op::Options, socket, 0);
    a.settle();
    cookies(&talk.client.app, &mut head);
    // Two segments more than the first window.
    assert_eq!(talk.client.app.send(socket, &[7; 12 * 1448]), 12 * 1448);
    a.settle();
    assert_eq!(talk.client.app.send(socket, b"x"), 0, "too much is unsent");
    a.settle();
    assert_eq!(cookies(&talk.client.app, &mut head), []);
    let mut answers = 0;
    exchange(&mut a, &mut b, |from_a, _| {
        answers += u32::from(!from_a);
        from_a || answers == 1
    });
    assert!(record.unacked() > 0, "one ACK has come");
    assert_eq!(cookies(&talk.client.app, &mut head), [7]);
    assert_eq!(talk.client.app.send(socket, b"x"), 1);
}

fn a_writer_is_told_that_any_number_of_bytes_may_be_unsent_again(family: Family) {
    let (mut a, _b, mut talk, mut head) = watched(family);
    let shared = a.shared.clone();
    let socket = talk.client.socket;
    let record = shared.segment.socket(socket).unwrap();
    for (low, told) in [(2000, vec![]), (0, vec![7])] {
        record.options.notsent_low.store(low, SeqCst);
        talk.client.app.command(Op::Options, socket, 0);
        a.settle();
        assert_eq!(cookies(&talk.client.app, &mut head), told);
        talk.client.app.send(socket, &[7; 12 * 1448]);
        talk.client.app.send(socket, b"x");
        a.settle();
    }
}
