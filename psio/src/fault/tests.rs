use super::*;
use crate::pair::{PairConfig, pair};
use crate::segment::tests::tcp_frame;
use crate::segment::verify_checksum;
use crate::sys::wait_readable;
use crate::{ChecksumOffload, Gso, GsoKind};
use std::sync::Mutex;

/// A clock that stands still until it is told.
#[derive(Clone, Default)]
struct Hands(Arc<Mutex<Duration>>);

impl Hands {
    fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }

    fn clock(&self) -> Clock {
        let hands = self.clone();
        Arc::new(move || *hands.0.lock().unwrap())
    }
}

/// A queue with faults, and the far end of its wire, which has none.
struct Ends {
    near: Faulty<Box<dyn Queue>>,
    far: Box<dyn Queue>,
    hands: Hands,
}

fn ends(faults: &str) -> Ends {
    let depth = 100_000;
    let (mut a, mut b) = pair(PairConfig {
        depth,
        ..PairConfig::default()
    })
    .unwrap();
    let hands = Hands::default();
    let config = faults.parse().unwrap();
    let near = Faulty::with_clock(a.open_queue(0).unwrap(), config, hands.clock()).unwrap();
    Ends {
        near,
        far: b.open_queue(0).unwrap(),
        hands,
    }
}

fn send(queue: &mut dyn Queue, frame: &[u8], meta: TxMeta) {
    queue.reserve(frame.len()).unwrap().copy_from_slice(frame);
    queue.commit(frame.len(), meta);
    queue.flush().unwrap();
}

fn send_numbers(queue: &mut dyn Queue, numbers: std::ops::Range<u32>) {
    for number in numbers {
        send(queue, &number.to_be_bytes(), TxMeta::default());
    }
}

fn received(queue: &mut dyn Queue) -> Vec<(Vec<u8>, RxMeta)> {
    let mut frames = Vec::new();
    loop {
        let mut sink = |frame: &[u8], meta: RxMeta| frames.push((frame.to_vec(), meta));
        if queue.receive(64, &mut sink).unwrap() == 0 {
            return frames;
        }
    }
}

fn received_numbers(queue: &mut dyn Queue) -> Vec<u32> {
    let frames = received(queue).into_iter();
    frames
        .map(|(frame, _)| u32::from_be_bytes(frame.try_into().unwrap()))
        .collect()
}

const COUNT: u32 = 20_000;

/// Both directions of the same faults: what the far end sends, and what it receives.
fn both_ways(faults: &str) -> [(Vec<u32>, QueueStats); 2] {
    let Ends {
        mut near, mut far, ..
    } = ends(&format!("tx.{faults}"));
    send_numbers(&mut near, 0..COUNT);
    let sent = (received_numbers(&mut far), near.stats());
    let Ends {
        mut near, mut far, ..
    } = ends(&format!("rx.{faults}"));
    send_numbers(&mut far, 0..COUNT);
    [sent, (received_numbers(&mut near), near.stats())]
}

#[test]
fn frames_are_lost_at_the_rate_asked_for() {
    for (arrived, stats) in both_ways("loss=0.1") {
        let lost = COUNT as usize - arrived.len();
        // 2,000 expected, with a standard deviation of 42.
        assert!((1800..2200).contains(&lost), "{lost}");
        assert!(arrived.is_sorted(), "loss keeps the order");
        assert_eq!(stats.tx_dropped + stats.rx_dropped, lost as u64);
    }
}

#[test]
fn frames_are_doubled_at_the_rate_asked_for() {
    for (mut arrived, _) in both_ways("dup=0.1") {
        let doubled = arrived.len() - COUNT as usize;
        assert!((1800..2200).contains(&doubled), "{doubled}");
        arrived.dedup();
        assert_eq!(arrived, Vec::from_iter(0..COUNT));
    }
}

#[test]
fn frames_are_reordered_at_the_rate_asked_for_and_none_is_lost() {
    let Ends {
        mut near,
        mut far,
        hands,
    } = ends("tx.reorder=0.1,tx.gap=3");
    send_numbers(&mut near, 0..COUNT);
    hands.advance(Duration::from_secs(1));
    near.flush().unwrap();
    let mut arrived = received_numbers(&mut far);
    let late = arrived.windows(2).filter(|pair| pair[1] < pair[0]).count();
    // Frames held back one after another come one after another: 2,000 in some 1,800 groups.
    assert!((1500..2200).contains(&late), "{late}");
    let furthest = arrived
        .iter()
        .enumerate()
        .map(|(at, &n)| at.abs_diff(n as usize))
        .max();
    assert!(furthest >= Some(3) && furthest < Some(20), "{furthest:?}");
    arrived.sort();
    assert_eq!(arrived, Vec::from_iter(0..COUNT));
}

#[test]
fn a_frame_held_back_comes_even_if_no_other_does() {
    let Ends {
        mut near,
        mut far,
        hands,
    } = ends("reorder=1");
    send_numbers(&mut near, 0..1);
    assert_eq!(received_numbers(&mut far), []);
    assert!(near.arm(), "nothing to do yet");
    near.disarm(true);
    hands.advance(Duration::from_millis(100));
    assert!(!near.arm(), "there is something to do");
    assert_eq!(received_numbers(&mut near), []);
    assert_eq!(received_numbers(&mut far), [0]);
}

#[test]
fn one_bit_is_wrong_in_a_corrupted_frame_and_its_checksum_is_to_be_verified() {
    let Ends {
        mut near, mut far, ..
    } = ends("corrupt=1");
    let good = tcp_frame(false, 1, 0x10, b"some payload");
    let meta = TxMeta {
        checksum: Some(ChecksumOffload {
            start: 34,
            offset: 16,
        }),
        gso: None,
    };
    let wrong_bits = |bad: &[u8]| -> u32 {
        bad.iter()
            .zip(&good)
            .map(|(a, b)| (a ^ b).count_ones())
            .sum()
    };
    for _ in 0..1000 {
        // The far end has left its checksum out.
        let mut unfinished = good.clone();
        unfinished[50..52].fill(0xaa);
        send(&mut far, &unfinished, meta);
        for (bad, meta) in received(&mut near) {
            assert_eq!(
                meta,
                RxMeta {
                    checksum: RxChecksum::Unknown,
                    gso_size: 0
                }
            );
            assert_eq!(wrong_bits(&bad), 1);
            // Beyond the IP header, the checksum tells.
            if bad[..34] == good[..34] && bad[46] == good[46] {
                assert_eq!(verify_checksum(&bad), Some(false));
            }
        }
        send(&mut near, &good, TxMeta::default());
        for (bad, meta) in received(&mut far) {
            assert_eq!((wrong_bits(&bad), meta.checksum), (1, RxChecksum::Unknown));
        }
    }
    assert_eq!(
        (near.stats().rx_frames, near.stats().tx_frames),
        (1000, 1000)
    );
}

#[test]
fn faults_act_on_the_packets_that_a_super_segment_stands_for() {
    let super_segment = TxMeta {
        checksum: Some(ChecksumOffload {
            start: 34,
            offset: 16,
        }),
        gso: Some(Gso {
            kind: GsoKind::TcpV4,
            size: 1000,
            header_len: 66,
        }),
    };
    let Ends {
        mut near, mut far, ..
    } = ends("loss=0.2,seed=3");
    let frame = tcp_frame(false, 1, 0x10, &[7; 60_000]);
    send(&mut near, &frame, super_segment);
    send(&mut far, &frame, super_segment);
    for queue in [&mut near as &mut dyn Queue, &mut far] {
        let frames = received(queue);
        assert!((30..60).contains(&frames.len()), "{}", frames.len());
        for (frame, meta) in frames {
            assert_eq!((frame.len(), meta.gso_size), (1066, 0));
            assert_eq!(verify_checksum(&frame), Some(true));
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_faults_and_another_gives_others() {
    let run = |seed: u32| {
        let faults = "loss=0.05,dup=0.05,reorder=0.1,corrupt=0.05";
        let Ends {
            mut near, mut far, ..
        } = ends(&format!("{faults},seed={seed}"));
        send_numbers(&mut near, 0..1000);
        send_numbers(&mut far, 0..1000);
        (received_numbers(&mut near), received_numbers(&mut far))
    };
    let (rx, tx) = run(1);
    assert_eq!((&rx, &tx), (&run(1).0, &run(1).1));
    assert_ne!(rx, run(2).0);
    assert_ne!(rx, tx, "the two directions have dice of their own");
}

#[test]
fn delayed_frames_arrive_when_their_time_has_come() {
    let Ends {
        mut near,
        mut far,
        hands,
    } = ends("delay=2ms");
    send_numbers(&mut near, 0..3);
    send_numbers(&mut far, 0..3);
    hands.advance(Duration::from_micros(1999));
    // The far end's frames enter the delay when they are first seen.
    assert_eq!(received_numbers(&mut near), []);
    assert_eq!(received_numbers(&mut far), []);
    hands.advance(Duration::from_micros(1));
    assert_eq!(received_numbers(&mut near), []);
    assert_eq!(
        received_numbers(&mut far),
        [0, 1, 2],
        "receiving sends what is due"
    );
    hands.advance(Duration::from_millis(2));
    assert_eq!(received_numbers(&mut near), [0, 1, 2]);
}

#[test]
fn jitter_spreads_the_delay_and_never_exceeds_it() {
    let Ends {
        mut near,
        mut far,
        hands,
    } = ends("tx.delay=10ms,tx.jitter=4ms");
    send_numbers(&mut near, 0..1000);
    let mut by_time = Vec::new();
    for _ in 0..=15 {
        near.flush().unwrap();
        by_time.push(received_numbers(&mut far).len());
        hands.advance(Duration::from_millis(1));
    }
    assert_eq!(by_time.iter().sum::<usize>(), 1000);
    assert_eq!(by_time[..6].iter().sum::<usize>(), 0, "{by_time:?}");
    assert!(by_time[7..=13].iter().all(|&n| n > 50), "{by_time:?}");
    assert_eq!(by_time[15], 0, "{by_time:?}");
}

#[test]
fn more_frames_than_may_be_in_flight_are_dropped() {
    let Ends {
        mut near,
        mut far,
        hands,
    } = ends("delay=1ms,limit=10");
    send_numbers(&mut near, 0..15);
    hands.advance(Duration::from_millis(1));
    near.flush().unwrap();
    assert_eq!(received_numbers(&mut far), Vec::from_iter(0..10));
    assert_eq!(near.stats().tx_dropped, 5);
}

#[test]
fn a_sleeper_is_woken_when_a_delayed_frame_is_due() {
    let (a, mut b) = pair(PairConfig::default()).unwrap();
    let config = "delay=2ms".parse().unwrap();
    let mut near = FaultyDevice::new(Box::new(a) as Box<dyn Device>, config);
    assert_eq!(near.name(), "pair:a");
    let mut near = near.open_queue(0).unwrap();
    let mut far = b.open_queue(0).unwrap();
    send_numbers(&mut far, 0..1);
    let mut arrived = Vec::new();
    while arrived.is_empty() {
        arrived = received_numbers(&mut near);
        if arrived.is_empty() && near.arm() {
            let fd = near.wait_fd().unwrap();
            assert_eq!(
                wait_readable([fd], Some(Duration::from_secs(20))).unwrap(),
                [true]
            );
        }
        near.disarm(true);
    }
    assert_eq!(arrived, [0]);
}

#[test]
fn a_device_that_is_full_gets_the_frames_later() {
    let (mut a, mut b) = pair(PairConfig {
        depth: 4,
        ..PairConfig::default()
    })
    .unwrap();
    let config = "dup=1".parse().unwrap();
    let mut near = Faulty::new(a.open_queue(0).unwrap(), config).unwrap();
    let mut far = b.open_queue(0).unwrap();
    send_numbers(&mut near, 0..5);
    let mut arrived = Vec::new();
    for _ in 0..3 {
        arrived.extend(received_numbers(&mut far));
        near.flush().unwrap();
    }
    assert_eq!(arrived, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
}

#[test]
fn without_faults_frames_pass_untouched() {
    let Ends {
        mut near, mut far, ..
    } = ends("seed=9");
    let frame = tcp_frame(false, 1, 0x10, &[7; 60_000]);
    let meta = TxMeta {
        checksum: Some(ChecksumOffload {
            start: 34,
            offset: 16,
        }),
        gso: Some(Gso {
            kind: GsoKind::TcpV4,
            size: 1000,
            header_len: 66,
        }),
    };
    send(&mut near, &frame, meta);
    let whole = RxMeta {
        checksum: RxChecksum::Good,
        gso_size: 1000,
    };
    assert_eq!(received(&mut far), [(frame.clone(), whole)]);
    send(&mut far, &frame, meta);
    assert_eq!(received(&mut near), [(frame, whole)]);
}
