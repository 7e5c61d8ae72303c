//! poll and select as programs see them, with the engine's side played by hand.

use super::*;
use crate::readiness::epoll;
use crate::readiness::select::{Sets, select};
use crate::readiness::testing::{Descriptor, Engine, interrupt_until, with_pending_signal};
use crate::real;
use context::command::Op;
use context::socket::flag;
use std::sync::atomic::Ordering::SeqCst;

const IN: u32 = bit::IN;
const OUT: u32 = bit::OUT;

fn list(asked: &[(c_int, u32)]) -> Vec<pollfd> {
    let entry = |(fd, events): &(c_int, u32)| pollfd {
        fd: *fd,
        events: *events as i16,
        revents: -1,
    };
    asked.iter().map(entry).collect()
}

fn poll_with(
    engine: &Engine,
    asked: &[(c_int, u32)],
    deadline: Deadline,
    mask: Option<SignalMask>,
) -> Result<(usize, Vec<u32>)> {
    let mut fds = list(asked);
    let n = poll(engine, &mut fds, deadline, mask)?;
    let revents = fds.iter().map(|fd| u32::from(fd.revents as u16));
    Ok((n, revents.collect()))
}

/// What is ready now.
fn now(engine: &Engine, asked: &[(c_int, u32)]) -> (usize, Vec<u32>) {
    poll_with(engine, asked, Deadline::Now, None).unwrap()
}

/// Runs `wake` while a thread waits, and returns what that thread is told.
fn woken_by(engine: &Engine, asked: &[(c_int, u32)], wake: impl FnOnce()) -> (usize, Vec<u32>) {
    let before = engine.slept();
    std::thread::scope(|s| {
        let waiter = s.spawn(|| poll_with(engine, asked, Deadline::Never, None).unwrap());
        engine.wait_for_sleepers(before, 1);
        wake();
        waiter.join().unwrap()
    })
}

#[test]
fn each_bit_is_reported_if_it_was_asked_for() {
    let engine = Engine::new();
    engine.established(1);
    let fd = Descriptor::new(&engine, 1);
    engine.data(1, 1);
    engine.fin(1);
    let all = bit::READ | bit::WRITE | bit::RDHUP;
    let set = bit::IN | bit::RDNORM | bit::OUT | bit::WRNORM | bit::RDHUP;
    assert_eq!(now(&engine, &[(fd.0, all)]), (1, vec![set]));
    for asked in (0..16).map(|bit| 1 << bit) {
        let expected = asked & set;
        let count = usize::from(expected != 0);
        assert_eq!(now(&engine, &[(fd.0, asked)]), (count, vec![expected]));
    }
}

#[test]
fn hang_up_and_error_are_reported_without_being_asked_for() {
    let engine = Engine::new();
    engine.fresh_socket(1);
    let fd = Descriptor::new(&engine, 1);
    assert_eq!(now(&engine, &[(fd.0, 0)]), (1, vec![bit::HUP]));
    engine.fail(1, libc::ECONNREFUSED);
    assert_eq!(now(&engine, &[(fd.0, 0)]), (1, vec![bit::ALWAYS]));
}

#[test]
fn negative_numbers_are_passed_over_and_closed_ones_are_invalid() {
    let engine = Engine::new();
    engine.established(1);
    let fd = Descriptor::new(&engine, 1);
    let (pooled, private) = (Descriptor::kernel(), Descriptor::kernel());
    fdmap::set(pooled.0, Entry::Pooled);
    fdmap::set(private.0, Entry::Private);
    let closed = 1 << 19;
    let asked = [
        (-1, IN),
        (pooled.0, IN),
        (private.0, IN),
        (closed, IN),
        (fd.0, IN),
    ];
    let expected = vec![0, bit::NVAL, bit::NVAL, bit::NVAL, 0];
    let told = poll_with(&engine, &asked, Deadline::Never, None).unwrap();
    assert_eq!(told, (3, expected));
}

#[test]
fn one_call_reports_both_sides() {
    let engine = Engine::new();
    engine.established(1);
    let (ours, theirs) = (Descriptor::new(&engine, 1), Descriptor::kernel());
    let asked = [(theirs.0, IN | OUT), (ours.0, IN)];
    assert_eq!(now(&engine, &asked), (1, vec![OUT, 0]));
    theirs.ring();
    engine.data(1, 1);
    assert_eq!(now(&engine, &asked), (2, vec![IN | OUT, IN]));
}

#[test]
fn a_sleeper_is_woken_whatever_it_sleeps_on() {
    let engine = Engine::new();
    let ours: Vec<_> = (1..4)
        .map(|index| {
            engine.established(index);
            Descriptor::new(&engine, index)
        })
        .collect();
    let theirs = Descriptor::kernel();
    let (a, b, kernel) = ((ours[0].0, IN), (ours[1].0, IN), (theirs.0, IN));
    for _ in 0..3 {
        for asked in [vec![a], vec![a, b], vec![kernel, a], vec![kernel, b, a]] {
            let told = woken_by(&engine, &asked, || engine.data(1, 5));
            let expected = asked.iter().map(|it| if *it == a { IN } else { 0 });
            assert_eq!(told, (1, expected.collect()));
            engine.read(1);
        }
        let told = woken_by(&engine, &[a, kernel, b], || theirs.ring());
        assert_eq!(told, (1, vec![0, IN, 0]));
        theirs.drain();
    }
}

#[test]
fn a_writer_that_sleeps_is_woken_by_room() {
    let engine = Engine::new();
    engine.established(1);
    engine.established(2);
    engine.fill(1);
    let (fd, other) = (Descriptor::new(&engine, 1), Descriptor::new(&engine, 2));
    for asked in [vec![(fd.0, OUT)], vec![(fd.0, OUT), (other.0, IN)]] {
        let (n, told) = woken_by(&engine, &asked, || engine.acknowledge(1));
        assert_eq!((n, told[0]), (1, OUT));
        engine.fill(1);
    }
}

#[test]
fn a_loop_over_the_same_sockets_sends_no_commands() {
    let engine = Engine::new();
    let fds: Vec<_> = (1..4)
        .map(|index| {
            engine.established(index);
            Descriptor::new(&engine, index)
        })
        .collect();
    let asked: Vec<_> = fds.iter().map(|fd| (fd.0, IN)).collect();
    // The thread sleeps in each call, so that the set of the thread is used.
    let mut commands = vec![];
    std::thread::scope(|s| {
        let waiter = s.spawn(|| {
            for _ in 0..5 {
                poll_with(&engine, &asked, Deadline::Never, None).unwrap();
                engine.read(1);
            }
        });
        let mut before = 0;
        while !waiter.is_finished() {
            if engine.slept() > before {
                before = engine.slept();
                engine.data(1, 1);
            }
            std::thread::yield_now();
        }
        commands = engine.commands();
    });
    assert_eq!(commands, [Op::Watch; 3]);
}

#[test]
fn sockets_that_are_no_longer_polled_are_no_longer_watched() {
    let engine = Engine::new();
    let fds: Vec<_> = (1..300)
        .map(|index| {
            engine.established(index);
            Descriptor::new(&engine, index)
        })
        .collect();
    let soon = || Deadline::after(Duration::from_millis(1));
    let all: Vec<_> = fds.iter().map(|fd| (fd.0, IN)).collect();
    assert_eq!(poll_with(&engine, &all, soon(), None).unwrap().0, 0);
    poll_with(&engine, &all[..2], soon(), None).unwrap();
    let watched: usize = (1..300).map(|index| engine.watches(index)).sum();
    assert_eq!(watched, 2);
    let told = woken_by(&engine, &all, || engine.data(200, 1));
    assert_eq!((told.0, told.1[199]), (1, IN));
}

#[test]
fn an_edge_of_a_socket_that_is_no_longer_polled_takes_back_its_watch() {
    let engine = Engine::new();
    for index in 1..4 {
        engine.established(index);
    }
    let fds: Vec<_> = (1..4).map(|i| Descriptor::new(&engine, i)).collect();
    let soon = || Deadline::after(Duration::from_millis(1));
    let all: Vec<_> = fds.iter().map(|fd| (fd.0, IN)).collect();
    poll_with(&engine, &all, soon(), None).unwrap();
    engine.data(3, 1);
    assert_eq!(poll_with(&engine, &all[..2], soon(), None).unwrap().0, 0);
    assert_eq!(engine.watches(3), 0);
    assert_eq!(engine.watches(1), 1);
}

#[test]
fn a_wait_ends_with_its_time() {
    let engine = Engine::new();
    engine.established(1);
    engine.established(2);
    let (fd, other) = (Descriptor::new(&engine, 1), Descriptor::new(&engine, 2));
    let theirs = Descriptor::kernel();
    for asked in [
        vec![(fd.0, IN)],
        vec![(fd.0, IN), (other.0, IN)],
        vec![(fd.0, IN), (theirs.0, IN)],
    ] {
        let deadline = Deadline::after(Duration::from_micros(1500));
        let told = poll_with(&engine, &asked, deadline, None).unwrap();
        assert_eq!(told, (0, vec![0; asked.len()]));
        assert!(deadline.is_past());
    }
}

#[test]
fn a_signal_interrupts_the_wait_even_if_its_handler_restarts_calls() {
    let engine = Engine::new();
    engine.established(1);
    engine.established(2);
    let (fd, other) = (Descriptor::new(&engine, 1), Descriptor::new(&engine, 2));
    let theirs = Descriptor::kernel();
    for asked in [
        vec![(fd.0, IN)],
        vec![(fd.0, IN), (other.0, IN)],
        vec![(fd.0, IN), (theirs.0, IN)],
    ] {
        let told = interrupt_until(|| poll_with(&engine, &asked, Deadline::Never, None));
        assert_eq!(told, Err(Errno(libc::EINTR)));
    }
}

#[test]
fn a_signal_that_only_the_mask_lets_through_interrupts_the_wait() {
    let engine = Engine::new();
    engine.established(1);
    let fd = Descriptor::new(&engine, 1);
    let asked = [(fd.0, IN)];
    let told = with_pending_signal(|nothing_blocked| {
        let mask = SignalMask::from_ptr(nothing_blocked);
        poll_with(&engine, &asked, Deadline::Never, mask)
    });
    assert_eq!(told, Err(Errno(libc::EINTR)));
}

#[test]
fn when_the_engine_dies_a_sleeper_is_told() {
    let engine = Engine::new();
    engine.established(1);
    engine.established(2);
    let (fd, other) = (Descriptor::new(&engine, 1), Descriptor::new(&engine, 2));
    let theirs = Descriptor::kernel();
    engine.die();
    for (asked, count) in [
        (vec![(fd.0, IN)], 1),
        (vec![(fd.0, IN), (other.0, IN)], 2),
        (vec![(fd.0, IN), (theirs.0, IN)], 1),
    ] {
        let (n, told) = poll_with(&engine, &asked, Deadline::Never, None).unwrap();
        assert_eq!((n, told[0]), (count, IN | bit::ALWAYS));
    }
}

#[test]
fn a_listener_on_both_sides_is_reported_for_either() {
    let engine = Engine::new();
    let socket = engine.listener(1);
    // The kernel's half is an eventfd here.
    let fd = Descriptor::new(&engine, 1);
    socket.app.flags.fetch_or(flag::BOTH, SeqCst);
    let asked = [(fd.0, IN)];
    assert_eq!(now(&engine, &asked), (0, vec![0]));
    assert_eq!(woken_by(&engine, &asked, || fd.ring()), (1, vec![IN]));
    fd.drain();
    let told = woken_by(&engine, &asked, || engine.incoming(1, 70));
    assert_eq!(told, (1, vec![IN]));
}

#[test]
fn an_epoll_descriptor_is_readable_while_a_socket_in_it_is_ready() {
    let engine = Engine::new();
    engine.established(1);
    let fd = Descriptor::new(&engine, 1);
    let epfd = Descriptor(epoll::create(libc::EPOLL_CLOEXEC).unwrap());
    let event = Some((IN, 0));
    epoll::control(&engine, epfd.0, libc::EPOLL_CTL_ADD, fd.0, event).unwrap();
    let asked = [(epfd.0, IN)];
    assert_eq!(now(&engine, &asked), (0, vec![0]));
    let told = woken_by(&engine, &asked, || engine.data(1, 1));
    assert_eq!(told, (1, vec![IN]));
    assert_eq!(now(&engine, &[(epfd.0, IN), (fd.0, IN)]), (2, vec![IN; 2]));
}

#[test]
fn more_threads_than_ready_sets_are_woken_all_the_same() {
    let engine = Engine::new();
    engine.established(1);
    engine.established(2);
    let (fd, other) = (Descriptor::new(&engine, 1), Descriptor::new(&engine, 2));
    let asked = [(fd.0, IN), (other.0, IN)];
    std::thread::scope(|s| {
        let before = engine.slept();
        let poll = || poll_with(&engine, &asked, Deadline::Never, None).unwrap();
        let threads: Vec<_> = (0..100).map(|_| s.spawn(poll)).collect();
        engine.wait_for_sleepers(before, 100);
        engine.data(1, 1);
        for thread in threads {
            assert_eq!(thread.join().unwrap(), (1, vec![IN, 0]));
        }
    });
}

/// The bits of three sets.
type Bits = [Vec<c_int>; 3];

fn select_with(
    engine: &Engine,
    count: c_int,
    asked: Bits,
    deadline: Deadline,
) -> Result<(usize, Bits)> {
    let mut words = asked.map(|fds| {
        let mut words = [0u64; 1 << 10];
        for fd in fds {
            words[fd as usize / 64] |= 1 << (fd % 64);
        }
        words
    });
    let [read, write, except] = &mut words;
    #[allow(unsafe_code)]
    // SAFETY: each set holds 65,536 bits, and is used by nobody else.
    let sets = unsafe {
        Sets::new(
            count,
            read.as_mut_ptr().cast(),
            write.as_mut_ptr().cast(),
            except.as_mut_ptr().cast(),
        )
    }?;
    let n = select(engine, &sets, deadline, None)?;
    let bits = words.map(|words| {
        let all = 0..words.len() as c_int * 64;
        all.filter(|fd| words[*fd as usize / 64] >> (fd % 64) & 1 == 1)
            .collect()
    });
    Ok((n, bits))
}

#[test]
fn select_counts_each_bit_of_each_set() {
    let engine = Engine::new();
    engine.established(1);
    engine.established(2);
    let (one, two) = (Descriptor::new(&engine, 1), Descriptor::new(&engine, 2));
    let theirs = Descriptor::kernel();
    engine.data(1, 1);
    let all = vec![one.0, two.0, theirs.0];
    let count = 1 + all.iter().max().unwrap();
    let asked = [all.clone(), all.clone(), all.clone()];
    let (n, [mut read, mut write, except]) =
        select_with(&engine, count, asked, Deadline::Now).unwrap();
    read.sort_unstable();
    write.sort_unstable();
    let mut sorted = all;
    sorted.sort_unstable();
    assert_eq!((n, read, write, except), (4, vec![one.0], sorted, vec![]));
}

#[test]
fn select_looks_no_further_than_it_is_told() {
    let engine = Engine::new();
    engine.established(1);
    let fd = Descriptor::new(&engine, 1);
    let asked = || [vec![], vec![fd.0], vec![]];
    let told = select_with(&engine, fd.0, asked(), Deadline::Now).unwrap();
    assert_eq!(told.0, 0);
    let told = select_with(&engine, fd.0 + 1, asked(), Deadline::Now).unwrap();
    assert_eq!(told.0, 1);
    let told = select_with(&engine, -1, asked(), Deadline::Now);
    assert_eq!(told, Err(Errno(libc::EINVAL)));
}

#[test]
fn select_works_for_descriptors_beyond_fd_setsize() {
    let engine = Engine::new();
    engine.established(1);
    let low = Descriptor::kernel();
    let fd = Descriptor(real::duplicate(low.0, 1500, true).unwrap());
    fdmap::set(fd.0, engine.entry(1));
    let asked = [vec![], vec![fd.0], vec![]];
    let told = select_with(&engine, fd.0 + 1, asked.clone(), Deadline::Now);
    assert_eq!(told, Ok((1, asked)));
}

#[test]
fn select_refuses_a_closed_descriptor() {
    let engine = Engine::new();
    engine.established(1);
    let (fd, pooled) = (Descriptor::new(&engine, 1), Descriptor::kernel());
    fdmap::set(pooled.0, Entry::Pooled);
    let asked = [vec![fd.0], vec![], vec![pooled.0]];
    let told = select_with(&engine, 1000, asked, Deadline::Never);
    assert_eq!(told, Err(Errno(libc::EBADF)));
}

#[test]
fn select_for_exceptions_alone_is_not_ended_by_a_hang_up() {
    let engine = Engine::new();
    engine.fresh_socket(1);
    let fd = Descriptor::new(&engine, 1);
    let deadline = Deadline::after(Duration::from_millis(2));
    let asked = [vec![], vec![], vec![fd.0]];
    let told = select_with(&engine, fd.0 + 1, asked, deadline).unwrap();
    assert_eq!(told, (0, [vec![], vec![], vec![]]));
    assert!(deadline.is_past());
}

#[test]
fn a_sleeper_in_select_is_woken() {
    let engine = Engine::new();
    engine.established(1);
    let (ours, theirs) = (Descriptor::new(&engine, 1), Descriptor::kernel());
    let count = ours.0.max(theirs.0) + 1;
    let asked = [vec![ours.0, theirs.0], vec![], vec![]];
    let told = std::thread::scope(|s| {
        let before = engine.slept();
        let waiter = s.spawn(|| select_with(&engine, count, asked, Deadline::Never).unwrap());
        engine.wait_for_sleepers(before, 1);
        engine.data(1, 1);
        waiter.join().unwrap()
    });
    assert_eq!(told, (1, [vec![ours.0], vec![], vec![]]));
}
