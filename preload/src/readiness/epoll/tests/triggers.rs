//! What is reported, and when.

use super::*;

#[test]
fn level_trigger_reports_for_as_long_as_there_is_data() {
    let engine = Engine::new();
    engine.established(1);
    let (epoll, fd) = (Epoll::new(&engine), Descriptor::new(&engine, 1));
    epoll.add(&fd, IN);
    assert_eq!(epoll.now(), []);
    engine.data(1, 10);
    assert_eq!(epoll.now(), [(IN, fd.0)]);
    assert_eq!(epoll.now(), [(IN, fd.0)]);
    engine.read(1);
    assert_eq!(epoll.now(), []);
    engine.data(1, 1);
    assert_eq!(epoll.now(), [(IN, fd.0)]);
}

#[test]
fn edge_trigger_reports_each_arrival_once_also_before_the_last_was_read() {
    let engine = Engine::new();
    engine.established(1);
    let (epoll, fd) = (Epoll::new(&engine), Descriptor::new(&engine, 1));
    epoll.add(&fd, IN | ET);
    engine.data(1, 10);
    assert_eq!(epoll.now(), [(IN, fd.0)]);
    assert_eq!(epoll.now(), []);
    engine.data(1, 10);
    assert_eq!(epoll.now(), [(IN, fd.0)]);
    engine.data(1, 10);
    engine.read(1);
    assert_eq!(epoll.now(), [], "read before it was reported");
}

#[test]
fn edge_trigger_tells_a_writer_of_room_and_not_of_data() {
    let engine = Engine::new();
    let socket = engine.established(1);
    let (epoll, fd) = (Epoll::new(&engine), Descriptor::new(&engine, 1));
    epoll.add(&fd, OUT | ET);
    assert_eq!(epoll.now(), [(OUT, fd.0)]);
    engine.data(1, 10);
    assert_eq!(epoll.now(), []);
    engine.fill(1);
    socket.app.flags.fetch_or(flag::NOSPACE, SeqCst);
    assert_eq!(epoll.now(), []);
    engine.acknowledge(1);
    assert_eq!(epoll.now(), [(OUT, fd.0)]);
}

#[test]
fn edge_trigger_tells_a_writer_that_lacked_memory_when_there_is_some() {
    let engine = Engine::new();
    let socket = engine.established(1);
    let (epoll, fd) = (Epoll::new(&engine), Descriptor::new(&engine, 1));
    epoll.add(&fd, OUT | ET);
    assert_eq!(epoll.now(), [(OUT, fd.0)]);
    // A write found room but no chunk; the engine grants one, and no cursor moves.
    socket.app.starved.fetch_add(1, SeqCst);
    assert_eq!(epoll.now(), []);
    engine.edge(1);
    assert_eq!(epoll.now(), [(OUT, fd.0)]);
    engine.edge(1);
    assert_eq!(epoll.now(), [], "once for each such write");
}

#[test]
fn level_trigger_reports_room_when_there_is_some_again() {
    let engine = Engine::new();
    engine.established(1);
    let (epoll, fd) = (Epoll::new(&engine), Descriptor::new(&engine, 1));
    epoll.add(&fd, OUT);
    engine.fill(1);
    assert_eq!(epoll.now(), []);
    engine.acknowledge(1);
    assert_eq!(epoll.now(), [(OUT, fd.0)]);
}

#[test]
fn oneshot_reports_once_until_it_is_armed_again() {
    let engine = Engine::new();
    engine.established(1);
    let (epoll, fd) = (Epoll::new(&engine), Descriptor::new(&engine, 1));
    epoll.add(&fd, IN | ONESHOT);
    engine.data(1, 10);
    assert_eq!(epoll.now(), [(IN, fd.0)]);
    engine.data(1, 10);
    engine.fin(1);
    assert_eq!(epoll.now(), []);
    epoll.modify(&fd, IN | ONESHOT);
    assert_eq!(epoll.now(), [(IN, fd.0)]);
    assert_eq!(epoll.now(), []);
}

#[test]
fn what_is_ready_when_it_is_added_or_changed_is_reported_at_once() {
    for trigger in [0, ET, ONESHOT] {
        let engine = Engine::new();
        engine.established(1);
        engine.data(1, 10);
        let (epoll, fd) = (Epoll::new(&engine), Descriptor::new(&engine, 1));
        epoll.add(&fd, IN | trigger);
        assert_eq!(epoll.now(), [(IN, fd.0)]);
        epoll.modify(&fd, IN | OUT | trigger);
        assert_eq!(epoll.now(), [(IN | OUT, fd.0)]);
    }
}

#[test]
fn the_data_comes_back_as_it_was_given() {
    let engine = Engine::new();
    engine.established(1);
    let (epoll, fd) = (Epoll::new(&engine), Descriptor::new(&engine, 1));
    epoll
        .control(libc::EPOLL_CTL_ADD, fd.0, OUT, u64::MAX - 7)
        .unwrap();
    let mut out = [libc::epoll_event { events: 0, u64: 0 }];
    wait(
        &engine,
        epoll.fd,
        epoll.slot(),
        &mut out,
        Deadline::Now,
        None,
    )
    .unwrap();
    assert_eq!({ out[0].u64 }, u64::MAX - 7);
}

#[test]
fn hang_up_and_error_are_reported_without_being_asked_for_and_rdhup_only_if_it_is() {
    let engine = Engine::new();
    engine.established(1);
    let (epoll, fd) = (Epoll::new(&engine), Descriptor::new(&engine, 1));
    epoll.add(&fd, 0);
    engine.fin(1);
    assert_eq!(epoll.now(), []);
    epoll.modify(&fd, bit::RDHUP);
    assert_eq!(epoll.now(), [(bit::RDHUP, fd.0)]);
    epoll.modify(&fd, 0);
    engine.fail(1, libc::ECONNRESET);
    assert_eq!(epoll.now(), [(bit::ALWAYS, fd.0)]);
}

#[test]
fn a_connection_attempt_reports_its_outcome() {
    for error in [0, libc::ECONNREFUSED] {
        let engine = Engine::new();
        let socket = engine.fresh_socket(1);
        let (epoll, fd) = (Epoll::new(&engine), Descriptor::new(&engine, 1));
        socket.app.flags.fetch_or(flag::CONNECTING, SeqCst);
        epoll.add(&fd, OUT | ET);
        assert_eq!(epoll.now(), []);
        if error == 0 {
            engine.establish(1);
            assert_eq!(epoll.now(), [(OUT, fd.0)]);
        } else {
            engine.fail(1, error);
            assert_eq!(epoll.now(), [(OUT | bit::ALWAYS, fd.0)]);
        }
    }
}

#[test]
fn a_listener_is_reported_while_connections_wait() {
    let engine = Engine::new();
    engine.listener(1);
    let (epoll, fd) = (Epoll::new(&engine), Descriptor::new(&engine, 1));
    epoll.add(&fd, IN | EXCLUSIVE);
    engine.incoming(1, 70);
    engine.incoming(1, 71);
    assert_eq!(epoll.now(), [(IN, fd.0)]);
    engine.accept(1);
    assert_eq!(epoll.now(), [(IN, fd.0)]);
    engine.accept(1);
    assert_eq!(epoll.now(), []);
}

#[test]
fn a_shutdown_of_the_application_is_an_edge() {
    let engine = Engine::new();
    let socket = engine.established(2001);
    let (epoll, fd) = (Epoll::new(&engine), Descriptor::new(&engine, 2001));
    epoll.add(&fd, IN | bit::RDHUP | ET);
    assert_eq!(epoll.now(), []);
    socket.app.flags.fetch_or(flag::SHUT_RD, SeqCst);
    raise(&engine, 2001);
    assert_eq!(epoll.now(), [(IN | bit::RDHUP, fd.0)]);
}

#[test]
fn a_lost_edge_is_found_by_looking_at_all() {
    let engine = Engine::new();
    let epoll = Epoll::new(&engine);
    let fds: Vec<_> = (1..20)
        .map(|index| {
            engine.established(index);
            Descriptor::new(&engine, index)
        })
        .collect();
    fds.iter().for_each(|fd| epoll.add(fd, IN | ET));
    engine.flood(1);
    (1..20).for_each(|index| engine.data(index, 1));
    let mut ready: Vec<RawFd> = epoll.now().iter().map(|(_, fd)| *fd).collect();
    ready.sort_unstable();
    let mut all: Vec<RawFd> = fds.iter().map(|fd| fd.0).collect();
    all.sort_unstable();
    assert_eq!(ready, all);
}

#[test]
fn more_than_fits_is_reported_in_turn() {
    let engine = Engine::new();
    let epoll = Epoll::new(&engine);
    let fds: Vec<_> = (1..10)
        .map(|index| {
            engine.established(index);
            Descriptor::new(&engine, index)
        })
        .collect();
    fds.iter().for_each(|fd| epoll.add(fd, OUT));
    let mut turns = vec![];
    for _ in 0..6 {
        turns.extend(epoll.wait_with(3, Deadline::Now, None).unwrap());
    }
    for fd in &fds {
        let times = turns.iter().filter(|(_, other)| *other == fd.0).count();
        assert_eq!(times, 2);
    }
}

#[test]
fn the_second_connection_of_a_descriptor_is_an_edge_as_well() {
    let engine = Engine::new();
    engine.established(1);
    let again = engine.fresh_socket(2);
    let (epoll, fd) = (Epoll::new(&engine), Descriptor::new(&engine, 1));
    epoll.add(&fd, OUT | ET);
    assert_eq!(epoll.now(), [(OUT, fd.0)]);
    // connect(AF_UNSPEC), then connect again.
    fdmap::set(fd.0, engine.entry(2));
    renew(&engine, engine.id(1), engine.id(2));
    again.app.flags.fetch_or(flag::CONNECTING, SeqCst);
    assert_eq!(epoll.now(), []);
    engine.establish(2);
    assert_eq!(epoll.now(), [(OUT, fd.0)]);
}
