use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::shared::{Shape, SharedMemory, SharedRing};

fn meta(gso_size: u16) -> RxMeta {
    RxMeta {
        checksum: RxChecksum::Good,
        gso_size,
    }
}

struct Ends {
    producer: Producer<SharedRing>,
    consumer: Consumer<SharedRing>,
    /// A third view of the memory: what a hostile peer has.
    peer: SharedRing,
}

fn ends() -> Ends {
    let shape = Shape {
        rings: 2,
        capacity: MIN_CAPACITY,
    };
    let (memory, _fd) = SharedMemory::create(shape).unwrap();
    let memory = Arc::new(memory);
    Ends {
        producer: Producer::new(SharedRing::new(&memory, 1)),
        consumer: Consumer::new(SharedRing::new(&memory, 1)),
        peer: SharedRing::new(&memory, 1),
    }
}

fn buffer() -> Vec<u8> {
    vec![0; MAX_FRAME]
}

proptest! {
    /// Whatever is put and taken in whatever order, the ring is a queue of frames.
    #[test]
    fn frames_come_out_as_they_went_in(
        steps in prop::collection::vec((any::<bool>(), 1..=MAX_FRAME, 1..5usize, any::<u16>()), 1..200),
    ) {
        let Ends { mut producer, mut consumer, .. } = ends();
        let mut model = VecDeque::new();
        let mut buffer = buffer();
        let mut fill = 0u8;
        for (put, len, times, gso) in steps {
            for _ in 0..times {
                if put {
                    if !producer.reserve(len).unwrap() {
                        prop_assert!(!model.is_empty(), "an empty ring has room for any frame");
                        break;
                    }
                    fill = fill.wrapping_add(1);
                    producer.room().fill(fill);
                    producer.commit(len, meta(gso));
                    prop_assert!(!producer.publish(), "nobody sleeps");
                    model.push_back((len, fill, gso));
                } else {
                    let taken = consumer.take(&mut buffer).unwrap();
                    consumer.release();
                    let Some((len, fill, gso)) = model.pop_front() else {
                        prop_assert_eq!(taken, None);
                        break;
                    };
                    prop_assert_eq!(taken, Some((len, meta(gso))));
                    prop_assert!(buffer[..len].iter().all(|&b| b == fill));
                }
            }
        }
    }

    /// Whatever stands in the shared words and headers, taking frames ends, and stays in bounds.
    #[test]
    fn a_hostile_producer_is_found_out_or_harmless(
        tail in prop_oneof![any::<u64>(), (0..=MIN_CAPACITY as u64).prop_map(|n| n / 64 * 64)],
        headers in prop::collection::vec((0..MIN_CAPACITY / ALIGN, any::<u64>()), 0..100),
        short in any::<bool>(),
    ) {
        let Ends { mut consumer, peer, .. } = ends();
        for (slot, header) in headers {
            // Lengths of any size, or such as might pass.
            let header = if short { header & 0x0003_ffff_0001_ffff } else { header };
            peer.header(slot * ALIGN).store(header, Ordering::Relaxed);
        }
        peer.tail().store(tail, Ordering::Relaxed);
        let mut buffer = buffer();
        let mut frames = 0;
        while let Ok(Some((len, _))) = consumer.take(&mut buffer) {
            prop_assert!((1..=MAX_FRAME).contains(&len));
            consumer.release();
            frames += 1;
            prop_assert!(frames <= MIN_CAPACITY / ALIGN);
        }
    }

    #[test]
    fn a_hostile_consumer_is_found_out(head: u64) {
        let Ends { mut producer, peer, .. } = ends();
        while producer.reserve(1000).unwrap() {
            producer.commit(1000, RxMeta::default());
            let _ = producer.publish();
        }
        let sent = producer.tail;
        peer.head().store(head, Ordering::Relaxed);
        prop_assert_eq!(producer.reserve(1000).is_err(), head > sent);
    }
}

#[test]
fn a_cursor_that_moves_back_breaks_the_ring() {
    let Ends {
        mut producer,
        mut consumer,
        peer,
    } = ends();
    assert!(producer.reserve(100).unwrap());
    producer.commit(100, RxMeta::default());
    let _ = producer.publish();
    consumer.take(&mut buffer()).unwrap().unwrap();
    peer.tail().store(0, Ordering::Relaxed);
    assert!(consumer.take(&mut buffer()).is_err());
}

#[test]
fn what_is_not_published_is_not_seen() {
    let Ends {
        mut producer,
        mut consumer,
        ..
    } = ends();
    assert!(producer.reserve(100).unwrap());
    producer.commit(60, RxMeta::default());
    assert_eq!(consumer.take(&mut buffer()), Ok(None));
    assert!(!producer.publish());
    let taken = consumer.take(&mut buffer()).unwrap();
    assert_eq!(taken, Some((60, RxMeta::default())));
}

#[test]
fn a_closed_ring_gives_what_was_sent_before_and_no_more() {
    let Ends {
        mut producer,
        mut consumer,
        ..
    } = ends();
    let mut send = |len| {
        assert!(producer.reserve(len).unwrap());
        producer.commit(len, RxMeta::default());
        let _ = producer.publish();
    };
    send(60);
    consumer.close().unwrap();
    send(70);
    let taken = consumer.take(&mut buffer()).unwrap();
    assert_eq!(taken, Some((60, RxMeta::default())));
    assert_eq!(consumer.take(&mut buffer()), Ok(None));
}

#[test]
fn a_sleeper_is_woken_once_by_the_first_frame() {
    let Ends {
        mut producer,
        mut consumer,
        ..
    } = ends();
    assert!(consumer.prepare_sleep().unwrap());
    assert!(!producer.publish(), "there is nothing to wake for");
    for first in [true, false] {
        assert!(producer.reserve(60).unwrap());
        producer.commit(60, RxMeta::default());
        assert_eq!(producer.publish(), first);
    }
    assert!(!consumer.prepare_sleep().unwrap(), "frames wait");
}

/// The ring in memory that loom watches. The content of a frame is its segment size: loom shows the
/// reader of the word that holds it any value that the rules of memory allow, and it reports bytes
/// of a frame that one side reads while the other may write.
mod interleavings {
    use super::*;
    use loom::sync::Notify;
    use loom::sync::atomic as watched;
    use loom::thread;

    impl Word for watched::AtomicU64 {
        fn load(&self, order: Ordering) -> u64 {
            self.load(order)
        }

        fn store(&self, value: u64, order: Ordering) {
            self.store(value, order);
        }

        fn swap(&self, value: u64, order: Ordering) -> u64 {
            self.swap(value, order)
        }
    }

    /// Two records of one line each.
    #[derive(Default)]
    struct Words {
        tail: watched::AtomicU64,
        head: watched::AtomicU64,
        sleeping: watched::AtomicU64,
        headers: [watched::AtomicU64; 2],
        frames: [loom::cell::UnsafeCell<()>; 2],
    }

    /// Runs `test` in every order in which its threads may be interrupted three times in all:
    /// more interruptions find nothing new here, and take long.
    fn explore(test: impl Fn() + Sync + Send + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(test);
    }

    struct Watched {
        words: loom::sync::Arc<Words>,
        room: [u8; ALIGN],
    }

    impl Memory for Watched {
        type Word = watched::AtomicU64;

        fn capacity(&self) -> usize {
            2 * ALIGN
        }

        fn tail(&self) -> &Self::Word {
            &self.words.tail
        }

        fn head(&self) -> &Self::Word {
            &self.words.head
        }

        fn sleeping(&self) -> &Self::Word {
            &self.words.sleeping
        }

        fn header(&self, at: usize) -> &Self::Word {
            &self.words.headers[at / ALIGN]
        }

        fn copy_out(&self, at: usize, _to: &mut [u8]) {
            self.words.frames[at / ALIGN].with(drop);
        }

        fn room(&mut self, at: usize, len: usize) -> &mut [u8] {
            self.words.frames[at / ALIGN].with_mut(drop);
            &mut self.room[..len]
        }

        fn prefetch(&self, _at: usize) {}

        fn prefetch_to_write(&self, _at: usize) {}

        fn fence() {
            watched::fence(Ordering::SeqCst);
        }
    }

    fn watched_ends() -> (Producer<Watched>, Consumer<Watched>) {
        let words = loom::sync::Arc::new(Words::default());
        let view = || Watched {
            words: words.clone(),
            room: [0; ALIGN],
        };
        (Producer::new(view()), Consumer::new(view()))
    }

    /// Sends `numbers`, one to a flush, waiting for room where there is none.
    fn send(producer: &mut Producer<Watched>, numbers: std::ops::Range<u16>, bell: &Notify) {
        for number in numbers {
            while !producer.reserve(20).unwrap() {
                thread::yield_now();
            }
            producer.room();
            producer.commit(20, meta(number));
            if producer.publish() {
                bell.notify();
            }
        }
    }

    #[test]
    fn a_sleeping_consumer_never_misses_a_frame() {
        explore(|| {
            let (mut producer, mut consumer) = watched_ends();
            let bell = loom::sync::Arc::new(Notify::new());
            let ring = bell.clone();
            let sender = thread::spawn(move || send(&mut producer, 0..2, &ring));
            let mut next = 0;
            while next < 2 {
                match consumer.take(&mut [0; ALIGN]).unwrap() {
                    Some((_, got)) => {
                        assert_eq!(got, meta(next));
                        next += 1;
                    }
                    None => {
                        consumer.release();
                        // Loom reports a wait that nobody ends.
                        if consumer.prepare_sleep().unwrap() {
                            bell.wait();
                            consumer.awake();
                        }
                    }
                }
            }
            sender.join().unwrap();
        });
    }

    #[test]
    fn a_slot_is_written_again_only_after_it_was_read() {
        explore(|| {
            let (mut producer, mut consumer) = watched_ends();
            let bell = Notify::new();
            let sender = thread::spawn(move || send(&mut producer, 0..3, &bell));
            for next in 0..3 {
                let got = loop {
                    if let Some((_, got)) = consumer.take(&mut [0; ALIGN]).unwrap() {
                        break got;
                    }
                    thread::yield_now();
                };
                assert_eq!(got, meta(next));
                consumer.release();
            }
            sender.join().unwrap();
        });
    }
}

/// Millions of frames between two threads, past the end of the ring many times over.
#[test]
fn millions_of_frames_cross_in_order() {
    const FRAMES: u32 = 2_000_000;
    let Ends {
        mut producer,
        mut consumer,
        ..
    } = ends();
    let taken = Arc::new(AtomicU64::new(0));
    let consumer_taken = Arc::clone(&taken);
    let receiver = std::thread::spawn(move || {
        let mut buffer = buffer();
        for number in 0..FRAMES {
            let (len, _) = loop {
                match consumer.take(&mut buffer).unwrap() {
                    Some(taken) => break taken,
                    None => {
                        consumer.release();
                        std::thread::yield_now();
                    }
                }
            };
            assert_eq!(len, 4 + number as usize % 97);
            assert_eq!(buffer[..4], number.to_ne_bytes());
            consumer_taken.store(number.into(), Ordering::Relaxed);
        }
    });
    for number in 0..FRAMES {
        let len = 4 + number as usize % 97;
        while !producer.reserve(len).unwrap() {
            assert!(
                !receiver.is_finished(),
                "stopped at {}",
                taken.load(Ordering::Relaxed)
            );
            let _ = producer.publish();
            std::thread::yield_now();
        }
        producer.room()[..4].copy_from_slice(&number.to_ne_bytes());
        producer.commit(len, RxMeta::default());
        if number % 32 == 0 {
            let _ = producer.publish();
        }
    }
    let _ = producer.publish();
    receiver.join().unwrap();
}
