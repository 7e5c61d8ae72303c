//! Who is in a set: adding, changing, removing, closing, changing sides.

use super::*;

#[test]
fn what_was_deleted_is_not_reported_and_can_be_added_again_for_nothing() {
    let engine = Engine::new();
    engine.established(1);
    let (epoll, fd) = (Epoll::new(&engine), Descriptor::new(&engine, 1));
    epoll.add(&fd, IN);
    engine.data(1, 10);
    assert_eq!(epoll.now(), [(IN, fd.0)]);
    engine.commands();
    epoll.delete(&fd);
    assert_eq!(epoll.now(), []);
    let again = epoll.control(libc::EPOLL_CTL_DEL, fd.0, 0, 0);
    assert_eq!(again, Err(Errno(libc::ENOENT)));
    epoll.add(&fd, IN);
    assert_eq!(epoll.now(), [(IN, fd.0)]);
    assert_eq!(engine.commands(), []);
}

#[test]
fn the_engine_forgets_a_deleted_watch_with_the_next_edge() {
    let engine = Engine::new();
    engine.established(1);
    let (epoll, fd) = (Epoll::new(&engine), Descriptor::new(&engine, 1));
    epoll.add(&fd, IN);
    epoll.delete(&fd);
    engine.data(1, 1);
    assert_eq!(epoll.now(), []);
    assert_eq!(engine.watches(1), 0);
    epoll.add(&fd, IN);
    assert_eq!(epoll.now(), [(IN, fd.0)]);
    assert_eq!(engine.watches(1), 1);
}

/// A TCP socket of the kernel.
fn kernel_socket() -> Descriptor {
    Descriptor(real::socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap())
}

#[test]
fn errors_are_the_kernels() {
    const ADD: c_int = libc::EPOLL_CTL_ADD;
    const MOD: c_int = libc::EPOLL_CTL_MOD;
    const DEL: c_int = libc::EPOLL_CTL_DEL;
    let engine = Engine::new();
    engine.fresh_socket(1);
    let ours = Descriptor::new(&engine, 1);
    let theirs = kernel_socket();
    let (epoll, oracle) = (Epoll::new(&engine), Epoll::new(&engine));
    for (op, events) in [
        (MOD, IN),
        (DEL, 0),
        (9, IN),
        (ADD, IN | EXCLUSIVE | bit::RDHUP),
        (ADD, IN | EXCLUSIVE | ONESHOT),
        (ADD, IN | EXCLUSIVE | ET | WAKEUP),
        (ADD, IN | EXCLUSIVE),
        (ADD, IN),
        (MOD, IN),
        (MOD, IN | EXCLUSIVE),
        (DEL, 0),
        (DEL, 0),
        (ADD, IN | ET | ONESHOT | WAKEUP),
        (ADD, IN),
        (MOD, IN | EXCLUSIVE),
        (MOD, OUT),
        (9, IN),
        (DEL, 0),
        (MOD, OUT),
    ] {
        let result = epoll.control(op, ours.0, events, 0);
        let expected = oracle.control(op, theirs.0, events, 0);
        assert_eq!(result, expected, "op {op}, events {events:#x}");
    }
}

#[test]
fn a_descriptor_that_is_no_epoll_is_refused_as_by_the_kernel() {
    let engine = Engine::new();
    engine.fresh_socket(1);
    let (ours, theirs) = (Descriptor::new(&engine, 1), kernel_socket());
    let (eventfd, pooled) = (Descriptor::kernel(), Descriptor::kernel());
    fdmap::set(pooled.0, Entry::Pooled);
    let epoll = Epoll::new(&engine);
    let add = |epfd, fd| control(&engine, epfd, libc::EPOLL_CTL_ADD, fd, Some((IN, 0)));
    for epfd in [eventfd.0, -1, ours.0, pooled.0] {
        let expected = match epfd {
            _ if epfd == ours.0 => Err(Errno(libc::EINVAL)),
            _ if epfd == pooled.0 => Err(Errno(libc::EBADF)),
            _ => kernel::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, theirs.0, IN, 0),
        };
        assert!(expected.is_err());
        assert_eq!(add(epfd, ours.0), expected);
    }
    assert_eq!(add(epoll.fd, pooled.0), Err(Errno(libc::EBADF)));
    assert_eq!(add(epoll.fd, -1), Err(Errno(libc::EBADF)));
    assert_eq!(add(epoll.fd, epoll.fd), Err(Errno(libc::EINVAL)));
}

#[test]
fn an_epoll_that_was_made_unseen_can_hold_sockets_too() {
    let engine = Engine::new();
    engine.established(1);
    let fd = Descriptor::new(&engine, 1);
    let epfd = kernel::epoll_create(libc::EPOLL_CLOEXEC).unwrap();
    control(&engine, epfd, libc::EPOLL_CTL_ADD, fd.0, Some((OUT, 3))).unwrap();
    let epoll = Epoll {
        engine: &engine,
        fd: epfd,
    };
    assert_eq!(epoll.now(), [(OUT, 3)]);
}

#[test]
fn a_socket_can_be_in_several_sets_and_under_several_numbers() {
    let engine = Engine::new();
    engine.established(1);
    let (first, second) = (Epoll::new(&engine), Epoll::new(&engine));
    let (fd, copy) = (Descriptor::new(&engine, 1), Descriptor::new(&engine, 1));
    first.add(&fd, IN);
    first.add(&copy, IN | ET);
    second.add(&fd, IN | OUT);
    assert_eq!(second.now(), [(OUT, fd.0)]);
    engine.data(1, 5);
    assert_eq!(first.now(), [(IN, fd.0), (IN, copy.0)]);
    assert_eq!(first.now(), [(IN, fd.0)]);
    assert_eq!(second.now(), [(IN | OUT, fd.0)]);
}

#[test]
fn a_closed_socket_leaves_and_the_next_under_its_number_is_another() {
    let engine = Engine::new();
    engine.established(2002);
    let epoll = Epoll::new(&engine);
    let fd = Descriptor::new(&engine, 2002);
    epoll.add(&fd, IN | OUT);
    engine.data(2002, 5);
    forget_socket(&engine, 2002);
    assert_eq!(epoll.now(), []);
    engine.established(2002);
    fdmap::set(fd.0, engine.entry(2002));
    let modified = epoll.control(libc::EPOLL_CTL_MOD, fd.0, IN, 0);
    assert_eq!(modified, Err(Errno(libc::ENOENT)));
    epoll.add(&fd, IN);
    assert_eq!(epoll.now(), []);
    engine.data(2002, 5);
    assert_eq!(epoll.now(), [(IN, fd.0)]);
}

#[test]
fn a_record_that_changed_hands_unseen_is_not_mistaken_for_the_old_socket() {
    let engine = Engine::new();
    engine.established(1);
    let epoll = Epoll::new(&engine);
    let fd = Descriptor::new(&engine, 1);
    epoll.add(&fd, IN | OUT);
    engine.established(1);
    assert_eq!(epoll.now(), []);
    fdmap::set(fd.0, engine.entry(1));
    epoll.add(&fd, OUT);
    assert_eq!(epoll.now(), [(OUT, fd.0)]);
}

#[test]
fn a_socket_that_becomes_the_kernels_is_watched_by_the_kernel() {
    let engine = Engine::new();
    engine.fresh_socket(1);
    let epoll = Epoll::new(&engine);
    let fd = Descriptor::new(&engine, 1);
    epoll.add(&fd, IN | ET);
    assert_eq!(epoll.now().len(), 1, "a fresh socket hangs up");
    let theirs = Descriptor::kernel();
    real::duplicate_to(theirs.0, fd.0, true).unwrap();
    let socket = engine.id(1);
    fdmap::take(fd.0);
    hand_over(&engine, fd.0, socket);
    assert_eq!(epoll.now(), []);
    assert_eq!(woken_by(&epoll, || theirs.ring()), [(IN, fd.0)]);
    assert_eq!(epoll.now(), []);
}

#[test]
fn a_socket_that_gets_another_record_keeps_its_watch() {
    let engine = Engine::new();
    engine.fresh_socket(2003);
    engine.established(2004);
    let epoll = Epoll::new(&engine);
    let fd = Descriptor::new(&engine, 2003);
    epoll.add(&fd, OUT | ET);
    assert_eq!(epoll.now(), [(OUT | bit::HUP, fd.0)]);
    let (from, to) = (engine.id(2003), engine.id(2004));
    fdmap::set(fd.0, engine.entry(2004));
    renew(&engine, from, to);
    assert_eq!(epoll.now(), [(OUT, fd.0)]);
    epoll.modify(&fd, IN);
    engine.data(2004, 1);
    assert_eq!(epoll.now(), [(IN, fd.0)]);
}

#[test]
fn a_listener_on_both_sides_is_reported_for_either() {
    let engine = Engine::new();
    let socket = engine.listener(1);
    let epoll = Epoll::new(&engine);
    let fd = Descriptor::new(&engine, 1);
    epoll.add(&fd, IN);
    // The kernel's half comes after the descriptor was added, and is an eventfd here.
    socket.app.flags.fetch_or(flag::BOTH, SeqCst);
    share(&engine, fd.0, engine.id(1));
    assert_eq!(epoll.now(), []);
    fd.ring();
    assert_eq!(epoll.now(), [(IN, fd.0)]);
    fd.drain();
    engine.incoming(1, 70);
    assert_eq!(epoll.now(), [(IN, fd.0)]);
    engine.accept(1);
    epoll.modify(&fd, IN | ONESHOT);
    fd.ring();
    epoll.delete(&fd);
    assert_eq!(epoll.now(), []);
    epoll.add(&fd, IN);
    assert_eq!(epoll.now(), [(IN, fd.0)]);
}

#[test]
fn the_child_of_a_fork_asks_for_its_edges_anew() {
    let engine = Engine::new();
    engine.established(1);
    let epoll = Epoll::new(&engine);
    let fd = Descriptor::new(&engine, 1);
    epoll.add(&fd, IN);
    assert_eq!(epoll.now(), []);
    engine.fork();
    assert_eq!(engine.watches(1), 0);
    assert_eq!(epoll.now(), []);
    assert_eq!(engine.watches(1), 1);
    assert_eq!(woken_by(&epoll, || engine.data(1, 5)), [(IN, fd.0)]);
}

#[test]
fn sets_can_be_used_after_a_fork_took_their_locks() {
    let engine = Engine::new();
    engine.established(1);
    let epoll = Epoll::new(&engine);
    let fd = Descriptor::new(&engine, 1);
    let instance = instance(epoll.slot()).unwrap();
    for in_child in [false, true] {
        instance.lock_for_fork(&engine);
        instance.unlock_after_fork(in_child);
    }
    epoll.add(&fd, OUT);
    assert_eq!(epoll.now(), [(OUT, fd.0)]);
}

#[test]
fn a_closed_instance_gives_its_ready_set_back() {
    let engine = Engine::new();
    engine.established(1);
    let fd = Descriptor::new(&engine, 1);
    for _ in 0..3 {
        let epoll = Epoll::new(&engine);
        epoll.add(&fd, IN);
        assert_eq!(engine.watches(1), 1);
        let slot = epoll.slot();
        duplicate(slot);
        close_for(&engine, slot);
        assert_eq!(engine.watches(1), 1, "another descriptor is left");
        drop(epoll);
        assert_eq!(engine.watches(1), 0);
    }
}
