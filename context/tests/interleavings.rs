//! No wake-up is lost and no entry torn, in whatever order the two sides see each other's steps.
//!
//! Loom runs each test in every order with a few interruptions; more find nothing new here and take
//! long. A thread that sleeps for ever is reported.

use interleavings::futex;
use interleavings::ready::{ASLEEP_EVENTFD, ASLEEP_FUTEX, Event, ReadySet};
use interleavings::ring::Ring;
use interleavings::socket::{Socket, state};
use interleavings::worker::WorkerShared;
use loom::sync::atomic::Ordering::{Acquire, SeqCst};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

fn explore(interruptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(interruptions);
    model.check(test);
}

/// An eventfd: readable from the first ring until it is cleared.
#[derive(Default)]
struct Doorbell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Doorbell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
    }

    fn clear(&self) {
        *self.rung.lock().unwrap() = false;
    }
}

#[test]
fn a_ring_hands_over_every_entry_whole_and_in_order() {
    explore(3, || {
        let ring = Arc::new(Ring::<2, 2>::new());
        let to = ring.clone();
        let producer = thread::spawn(move || {
            let mut tail = 0;
            for i in 1..=3 {
                while !to.push(&mut tail, [i, i << 32]).unwrap() {
                    thread::yield_now();
                }
            }
        });
        let mut head = 0;
        for i in 1..=3 {
            let entry = loop {
                match ring.pop(&mut head).unwrap() {
                    Some(entry) => break entry,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(entry, [i, i << 32]);
        }
        producer.join().unwrap();
    });
}

/// The worker's loop: take what is announced, sleep on the doorbell when there is nothing.
fn worker_takes(record: &WorkerShared, lanes: &[Ring<1, 2>], doorbell: &Doorbell, all: usize) {
    let mut heads = vec![0; lanes.len()];
    let mut taken = 0;
    while taken < all {
        record.take_announced(|context| {
            let context = context as usize;
            while lanes[context].pop(&mut heads[context]).unwrap().is_some() {
                taken += 1;
            }
        });
        if taken < all && record.fall_asleep() {
            doorbell.wait();
            record.wake_up();
            doorbell.clear();
        }
    }
}

/// Pushes a command and rings if the worker sleeps.
fn command(
    record: &WorkerShared,
    lane: &Ring<1, 2>,
    context: u32,
    tail: &mut u32,
    bell: &Doorbell,
) {
    assert_eq!(lane.push(tail, [7]), Ok(true));
    record.announce(context);
    if record.must_ring() {
        bell.ring();
    }
}

#[test]
fn a_sleeping_worker_misses_no_command() {
    explore(3, || {
        let shared = Arc::new((
            WorkerShared::default(),
            [Ring::<1, 2>::new()],
            Doorbell::default(),
        ));
        let app = shared.clone();
        let thread = thread::spawn(move || {
            let (record, lanes, bell) = &*app;
            let mut tail = 0;
            for _ in 0..2 {
                command(record, &lanes[0], 0, &mut tail, bell);
            }
        });
        let (record, lanes, bell) = &*shared;
        worker_takes(record, lanes, bell, 2);
        thread.join().unwrap();
    });
}

#[test]
fn a_sleeping_worker_misses_no_command_of_two_threads() {
    explore(2, || {
        let shared = Arc::new((
            WorkerShared::default(),
            [Ring::<1, 2>::new(), Ring::<1, 2>::new()],
            Doorbell::default(),
        ));
        let threads: Vec<_> = (0..2)
            .map(|context| {
                let app = shared.clone();
                thread::spawn(move || {
                    let (record, lanes, bell) = &*app;
                    command(record, &lanes[context as usize], context, &mut 0, bell);
                })
            })
            .collect();
        let (record, lanes, bell) = &*shared;
        worker_takes(record, lanes, bell, 2);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// A ready set with one worker's ring, a socket that it watches, and its eventfd.
#[derive(Default)]
struct Watched {
    set: ReadySet,
    events: Ring<2, 2>,
    socket: Socket,
    eventfd: Doorbell,
}

impl Watched {
    /// The engine's side of an edge: state first, then the event unless one waits, then the wake.
    fn raise(&self, received: u64, tail: &mut u32) {
        self.socket.engine.rx_tail.store(received, SeqCst);
        if self.socket.app.queued.fetch_or(1, SeqCst) & 1 == 0 {
            let event = Event {
                cookie: 0,
                slot: 0,
                socket: 0,
            };
            assert_eq!(self.events.push(tail, event.to_words()), Ok(true));
        }
        self.set.wake(|| self.eventfd.ring());
    }

    /// The application's side: takes an event, then looks at the state.
    fn take(&self, head: &mut u32) -> Option<u64> {
        self.events.pop(head).unwrap()?;
        self.socket.app.queued.fetch_and(!1, SeqCst);
        Some(self.socket.engine.rx_tail.load(Acquire))
    }
}

fn a_sleeper_sees_every_edge(kind: u32) {
    explore(3, move || {
        let watched = Arc::new(Watched::default());
        let engine = watched.clone();
        let thread = thread::spawn(move || {
            let mut tail = 0;
            for received in 1..=2 {
                engine.raise(received, &mut tail);
            }
        });
        let mut head = 0;
        loop {
            if let Some(seen) = watched.take(&mut head) {
                if seen == 2 {
                    break;
                }
                continue;
            }
            let seen = watched.set.fall_asleep(kind);
            if !watched.events.is_empty() {
                continue;
            }
            if kind == ASLEEP_FUTEX {
                watched.set.sleep(seen, None);
            } else {
                watched.eventfd.wait();
                watched.eventfd.clear();
            }
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_thread_in_epoll_wait_sees_every_edge() {
    a_sleeper_sees_every_edge(ASLEEP_FUTEX);
}

#[test]
fn a_thread_in_the_kernels_epoll_sees_every_edge() {
    a_sleeper_sees_every_edge(ASLEEP_EVENTFD);
}

#[test]
fn a_thread_that_blocks_on_a_socket_is_woken() {
    explore(3, || {
        let socket = Arc::new(Socket::default());
        let engine = socket.clone();
        let thread = thread::spawn(move || {
            for next in [state::ESTABLISHED, state::CLOSE_WAIT] {
                engine.engine.state.store(next, SeqCst);
                engine.wake_waiters();
            }
        });
        while socket.tcp_state() != state::CLOSE_WAIT {
            let seen = socket.announce_waiter();
            if socket.tcp_state() != state::CLOSE_WAIT {
                futex::wait(&socket.engine.wake, seen, None);
            }
            socket.retract_waiter();
        }
        thread.join().unwrap();
    });
}

/// Two threads block on one socket: a wake is for both.
#[test]
fn all_threads_that_block_on_a_socket_are_woken() {
    explore(2, || {
        let socket = Arc::new(Socket::default());
        let sleepers: Vec<_> = (0..2)
            .map(|_| {
                let socket = socket.clone();
                thread::spawn(move || {
                    while socket.readable() == 0 {
                        let seen = socket.announce_waiter();
                        if socket.readable() == 0 {
                            futex::wait(&socket.engine.wake, seen, None);
                        }
                        socket.retract_waiter();
                    }
                })
            })
            .collect();
        socket.engine.rx_tail.store(1, SeqCst);
        socket.wake_waiters();
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
    });
}

#[test]
fn each_grant_is_taken_or_recalled_and_never_both() {
    explore(3, || {
        let ring = Arc::new(Ring::<1, 2>::new());
        let mut tail = 0;
        for i in 1..=2 {
            assert_eq!(ring.push(&mut tail, [i]), Ok(true));
        }
        let from = ring.clone();
        let taker = thread::spawn(move || [from.take(), from.take()]);
        let mut all = ring.recall(tail);
        assert_eq!(ring.push(&mut tail, [3]), Ok(true));
        all.extend(taker.join().unwrap().into_iter().flatten());
        all.extend(ring.recall(tail));
        all.sort_unstable();
        assert_eq!(all, [[1], [2], [3]]);
    });
}
