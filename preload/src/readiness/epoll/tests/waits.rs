//! Waiting: for both sides, by several threads, until something wakes them.

use super::*;

#[test]
fn kernel_descriptors_and_sockets_are_served_by_one_wait() {
    let engine = Engine::new();
    engine.established(1);
    let epoll = Epoll::new(&engine);
    let (ours, theirs) = (Descriptor::new(&engine, 1), Descriptor::kernel());
    epoll.add(&ours, IN);
    epoll.add(&theirs, IN);
    theirs.ring();
    assert_eq!(epoll.now(), [(IN, theirs.0)]);
    engine.data(1, 5);
    let mut both: Vec<_> = vec![];
    while both.len() < 2 {
        both.extend(epoll.now());
        both.sort_unstable();
        both.dedup();
    }
    theirs.drain();
    assert_eq!(epoll.now(), [(IN, ours.0)]);
    engine.read(1);
    assert_eq!(epoll.now(), []);
}

#[test]
fn neither_side_starves_with_room_for_one_event() {
    let engine = Engine::new();
    engine.established(1);
    let epoll = Epoll::new(&engine);
    let (ours, theirs) = (Descriptor::new(&engine, 1), Descriptor::kernel());
    epoll.add(&ours, OUT);
    epoll.add(&theirs, IN);
    theirs.ring();
    for fd in [ours.0, theirs.0, ours.0, theirs.0] {
        // Ends with the test's own time limit if that side starves.
        while epoll.wait_with(1, Deadline::Now, None).unwrap()[0].1 != fd {}
    }
}

#[test]
fn a_sleeper_is_woken_by_an_edge_whatever_it_sleeps_on() {
    for mixed in [false, true] {
        let engine = Engine::new();
        engine.established(1);
        let epoll = Epoll::new(&engine);
        let (ours, theirs) = (Descriptor::new(&engine, 1), Descriptor::kernel());
        epoll.add(&ours, IN);
        if mixed {
            epoll.add(&theirs, IN);
        }
        for _ in 0..3 {
            assert_eq!(woken_by(&epoll, || engine.data(1, 5)), [(IN, ours.0)]);
            engine.read(1);
        }
    }
}

#[test]
fn a_sleeper_that_spun_before_is_woken() {
    let engine = Engine::with_spin(50);
    engine.established(1);
    let epoll = Epoll::new(&engine);
    let fd = Descriptor::new(&engine, 1);
    epoll.add(&fd, IN);
    assert_eq!(woken_by(&epoll, || engine.data(1, 5)), [(IN, fd.0)]);
}

#[test]
fn a_sleeper_in_a_mixed_set_is_woken_by_the_kernels_descriptor() {
    let engine = Engine::new();
    engine.established(1);
    let epoll = Epoll::new(&engine);
    let (ours, theirs) = (Descriptor::new(&engine, 1), Descriptor::kernel());
    epoll.add(&ours, IN);
    epoll.add(&theirs, IN);
    assert_eq!(woken_by(&epoll, || theirs.ring()), [(IN, theirs.0)]);
}

#[test]
fn a_sleeper_is_woken_by_what_another_thread_adds() {
    let engine = Engine::new();
    engine.established(1);
    engine.established(2);
    engine.data(2, 1);
    let (first, second) = (Descriptor::new(&engine, 1), Descriptor::new(&engine, 2));
    // In a set that is empty, that holds the kernel's only, and that holds a socket only.
    for before in 0..3 {
        let epoll = Epoll::new(&engine);
        let theirs = Descriptor::kernel();
        match before {
            0 => {}
            1 => epoll.add(&theirs, IN),
            _ => epoll.add(&first, IN),
        }
        let told = woken_by(&epoll, || epoll.add(&second, IN));
        assert_eq!(told, [(IN, second.0)]);
        epoll.delete(&second);
        theirs.ring();
        if before == 2 {
            let told = woken_by(&epoll, || epoll.add(&theirs, IN));
            assert_eq!(told, [(IN, theirs.0)]);
        }
    }
}

#[test]
fn a_wait_ends_with_its_time() {
    for mixed in [false, true] {
        let engine = Engine::new();
        engine.established(1);
        let epoll = Epoll::new(&engine);
        let (ours, theirs) = (Descriptor::new(&engine, 1), Descriptor::kernel());
        epoll.add(&ours, IN);
        if mixed {
            epoll.add(&theirs, IN);
        }
        let deadline = Deadline::after(Duration::from_nanos(1_500_000));
        assert_eq!(epoll.wait_with(8, deadline, None), Ok(vec![]));
        assert!(deadline.is_past());
    }
}

#[test]
fn a_signal_interrupts_the_wait_even_if_its_handler_restarts_calls() {
    for mixed in [false, true] {
        let engine = Engine::new();
        engine.established(1);
        let epoll = Epoll::new(&engine);
        let (ours, theirs) = (Descriptor::new(&engine, 1), Descriptor::kernel());
        epoll.add(&ours, IN);
        if mixed {
            epoll.add(&theirs, IN);
        }
        let result = interrupt_until(|| epoll.wait_with(8, SOON, None));
        assert_eq!(result, Err(Errno(libc::EINTR)));
    }
}

#[test]
fn a_signal_that_only_the_mask_lets_through_interrupts_the_wait() {
    let engine = Engine::new();
    engine.established(1);
    let epoll = Epoll::new(&engine);
    let fd = Descriptor::new(&engine, 1);
    epoll.add(&fd, IN);
    let result = crate::readiness::testing::with_pending_signal(|nothing_blocked| {
        let mask = SignalMask::from_ptr(nothing_blocked);
        (
            epoll.wait_with(8, Deadline::Now, None),
            epoll.wait_with(8, SOON, mask),
        )
    });
    assert_eq!(result, (Ok(vec![]), Err(Errno(libc::EINTR))));
}

#[test]
fn of_several_waiting_threads_each_is_given_another_edge() {
    for mixed in [false, true] {
        let engine = Engine::new();
        let epoll = Epoll::new(&engine);
        let theirs = Descriptor::kernel();
        let fds: Vec<_> = (1..4)
            .map(|index| {
                engine.established(index);
                Descriptor::new(&engine, index)
            })
            .collect();
        fds.iter().for_each(|fd| epoll.add(fd, IN | ET));
        if mixed {
            epoll.add(&theirs, IN);
        }
        let mut told = std::thread::scope(|s| {
            let before = engine.slept();
            let threads: Vec<_> = fds
                .iter()
                .map(|_| s.spawn(|| epoll.wait_with(1, SOON, None).unwrap()))
                .collect();
            engine.wait_for_sleepers(before, 3);
            (1..4).for_each(|index| engine.data(index, 1));
            let told = threads.into_iter().flat_map(|t| t.join().unwrap());
            told.collect::<Vec<_>>()
        });
        told.sort_unstable();
        let mut expected: Vec<_> = fds.iter().map(|fd| (IN, fd.0)).collect();
        expected.sort_unstable();
        assert_eq!(told, expected);
    }
}

#[test]
fn threads_that_churn_one_set_lose_no_edge() {
    const SOCKETS: u32 = 4;
    const ROUNDS: usize = 2000;
    for mixed in [false, true] {
        let engine = Engine::new();
        let epoll = Epoll::new(&engine);
        let theirs = Descriptor::kernel();
        let fds: Vec<_> = (0..SOCKETS)
            .map(|index| {
                engine.established(index);
                Descriptor::new(&engine, index)
            })
            .collect();
        fds.iter().for_each(|fd| epoll.add(fd, IN | ET | ONESHOT));
        if mixed {
            epoll.add(&theirs, IN);
        }
        let stop = AtomicBool::new(false);
        let served: Vec<AtomicU32> = fds.iter().map(|_| AtomicU32::new(0)).collect();
        std::thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    while !stop.load(SeqCst) {
                        for (_, fd) in epoll.wait_with(2, Deadline::from_millis(20), None).unwrap()
                        {
                            let index = fds.iter().position(|other| other.0 == fd).unwrap();
                            engine.read(index as u32);
                            served[index].fetch_add(1, SeqCst);
                            epoll.modify(&fds[index], IN | ET | ONESHOT);
                        }
                    }
                });
            }
            for round in 0..ROUNDS {
                let index = round % SOCKETS as usize;
                let before = served[index].load(SeqCst);
                engine.data(index as u32, 1);
                while served[index].load(SeqCst) == before {
                    std::thread::yield_now();
                }
            }
            stop.store(true, SeqCst);
        });
    }
}

#[test]
fn a_set_inside_another_makes_it_ready() {
    let engine = Engine::new();
    engine.established(1);
    let (inner, outer) = (Epoll::new(&engine), Epoll::new(&engine));
    let fd = Descriptor::new(&engine, 1);
    outer
        .control(libc::EPOLL_CTL_ADD, inner.fd, IN, inner.fd as u64)
        .unwrap();
    inner.add(&fd, IN);
    assert_eq!(outer.now(), []);
    assert_eq!(woken_by(&outer, || engine.data(1, 5)), [(IN, inner.fd)]);
    assert_eq!(inner.now(), [(IN, fd.0)]);
    assert_eq!(outer.now(), [(IN, inner.fd)], "there still is data");
    engine.read(1);
    assert_eq!(inner.now(), []);
    assert_eq!(outer.now(), []);
    assert_eq!(woken_by(&outer, || engine.data(1, 5)), [(IN, inner.fd)]);
}

#[test]
fn when_the_engine_dies_every_socket_is_reported() {
    for mixed in [false, true] {
        let engine = Engine::new();
        engine.established(1);
        let epoll = Epoll::new(&engine);
        let (ours, theirs) = (Descriptor::new(&engine, 1), Descriptor::kernel());
        epoll.add(&ours, IN);
        if mixed {
            epoll.add(&theirs, IN);
        }
        let told = woken_by(&epoll, || engine.die());
        assert_eq!(told, [(IN | bit::ALWAYS, ours.0)]);
    }
}
