//! Plain frames, both ways.

use psio::ixgbe::{Ixgbe, IxgbeConfig};
use psio::{BURST, Device, Queue, TxMeta};

use super::bed::{Model, card, one_queue, received, send};
use super::frames::{number, numbered, write_numbered};

/// Sends `frames` numbered frames that a plug on the port returns, and takes them all back in order.
fn round_trip(model: &Model, queue: &mut dyn Queue, frames: u64, len: usize) {
    // Fewer than a receive ring holds: none is dropped.
    let window = 400;
    let (mut sent, mut back) = (0, 0);
    while back < frames {
        for _ in 0..BURST {
            if sent == frames || sent - back == window {
                break;
            }
            let Some(room) = queue.reserve(len) else {
                break;
            };
            write_numbered(room, sent);
            queue.commit(len, TxMeta::default());
            sent += 1;
        }
        queue.flush().unwrap();
        model.card(|card| {
            card.work();
            card.loop_back();
        });
        queue
            .receive(BURST, &mut |frame, _| {
                assert_eq!((frame.len(), number(frame)), (len, back));
                assert_eq!(frame[len - 1], back as u8);
                back += 1;
            })
            .unwrap();
    }
    let stats = queue.stats();
    assert_eq!((stats.tx_frames, stats.rx_frames), (sent, back));
    assert_eq!((stats.tx_dropped, stats.rx_dropped), (0, 0));
}

/// Goes around rings of 512 descriptors twenty thousand times.
#[test]
fn ten_million_frames_go_out_and_come_back_in_order() {
    let config = IxgbeConfig::default();
    let (model, _device, mut queue) = one_queue(42, config);
    round_trip(&model, &mut *queue, 10_000_000, 64);
}

#[test]
fn frames_of_every_length_pass_for_every_seed() {
    for seed in 0..20 {
        let (model, _device, mut queue) = one_queue(seed, IxgbeConfig::default());
        for len in [60, 61, 64, 255, 256, 1024, 1513, 1514] {
            let before = queue.stats();
            let frames = (0..40).map(|n| numbered(n, len)).collect::<Vec<_>>();
            for frame in &frames {
                assert!(send(&mut *queue, frame, TxMeta::default()));
            }
            assert_eq!(queue.flush().unwrap(), 40);
            assert_eq!(model.sent(), frames);
            model.arrive(&frames);
            let back: Vec<_> = received(&mut *queue).into_iter().map(|f| f.0).collect();
            assert_eq!(back, frames);
            assert_eq!(queue.stats().rx_bytes - before.rx_bytes, 40 * len as u64);
        }
    }
}

#[test]
fn a_short_frame_is_padded_and_one_too_long_or_too_short_is_dropped_and_counted() {
    let (model, _device, mut queue) = one_queue(1, IxgbeConfig::default());
    for len in [16, 17, 42, 1514, 1515] {
        assert!(send(&mut *queue, &vec![1; len], TxMeta::default()));
    }
    assert_eq!(queue.flush().unwrap(), 3);
    let lengths: Vec<_> = model.sent().iter().map(Vec::len).collect();
    assert_eq!(lengths, [60, 60, 1514]);
    let stats = queue.stats();
    assert_eq!((stats.tx_frames, stats.tx_dropped), (3, 2));
}

#[test]
fn jumbo_frames_pass_both_ways_and_longer_ones_do_not() {
    let config = IxgbeConfig {
        mtu: 9000,
        ..IxgbeConfig::default()
    };
    let (model, _device, mut queue) = one_queue(5, config);
    let frames: Vec<_> = (0..50).map(|n| numbered(n, 9014)).collect();
    for frame in &frames {
        assert!(send(&mut *queue, frame, TxMeta::default()));
    }
    queue.flush().unwrap();
    assert!(model.sent() == frames);
    model.arrive(frames.iter().chain([&numbered(50, 9019)]));
    let back: Vec<_> = received(&mut *queue).into_iter().map(|f| f.0).collect();
    assert!(back == frames);
}

#[test]
fn a_full_ring_lends_no_room_until_the_card_is_done() {
    for len in [64, 1514] {
        let (model, _device, mut queue) = one_queue(9, IxgbeConfig::default());
        let mut sent = Vec::new();
        while sent.len() < 1000 {
            let frame = numbered(sent.len() as u64, len);
            if !send(&mut *queue, &frame, TxMeta::default()) {
                break;
            }
            sent.push(frame);
        }
        assert!((500..512).contains(&sent.len()), "{}", sent.len());
        assert_eq!(queue.flush().unwrap(), sent.len());
        assert!(queue.reserve(len).is_none());
        // Nobody would wake a sender that waits for room.
        assert!(!queue.arm());
        assert_eq!(model.sent(), sent);
        assert!(queue.reserve(len).is_some());
        assert!(queue.arm());
    }
}

#[test]
fn what_comes_to_a_full_ring_is_dropped_and_counted_and_later_frames_pass() {
    let (model, _device, mut queue) = one_queue(11, IxgbeConfig::default());
    let frames: Vec<_> = (0..600).map(|n| numbered(n, 64)).collect();
    model.arrive(&frames);
    let back: Vec<_> = received(&mut *queue).into_iter().map(|f| f.0).collect();
    // One descriptor always stays back.
    assert_eq!(back, frames[..511]);
    assert_eq!(queue.stats().rx_dropped, 89);
    // Reading the card's counter clears it; ours goes on.
    assert_eq!(queue.stats().rx_dropped, 89);
    model.arrive([&numbered(7, 64)]);
    assert_eq!(received(&mut *queue).len(), 1);
}

#[test]
fn a_frame_is_taken_only_if_it_is_for_the_card_unless_promiscuous() {
    let to = |address: [u8; 6]| {
        let mut frame = numbered(0, 64);
        frame[..6].copy_from_slice(&address);
        frame
    };
    let frames = [
        to([0xff; 6]),
        to([0x33, 0x33, 0xff, 0, 0, 1]),
        numbered(0, 64),
        to([2, 9, 9, 9, 9, 9]),
    ];
    for (promiscuous, expected) in [(false, 3), (true, 4)] {
        let config = IxgbeConfig {
            promiscuous,
            ..IxgbeConfig::default()
        };
        let (model, _device, mut queue) = one_queue(2, config);
        model.arrive(&frames);
        assert_eq!(received(&mut *queue).len(), expected);
    }
}

#[test]
fn the_tag_of_a_vlan_is_stripped_and_a_frame_of_another_network_dropped() {
    let (model, _device, mut queue) = one_queue(2, IxgbeConfig::default());
    let tagged = |tag: u16| {
        let mut frame = numbered(5, 64);
        frame.splice(12..12, [0x81, 0, (tag >> 8) as u8, tag as u8]);
        frame
    };
    // A priority alone, then VLAN 7.
    model.arrive([&tagged(0x6000), &tagged(0x6007)]);
    let frames = received(&mut *queue);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].0, numbered(5, 64));
    assert_eq!(queue.stats().rx_dropped, 1);
}

#[test]
fn a_queue_stops_and_starts_again_under_load() {
    for seed in 0..20 {
        let (model, mut device) = card(seed, IxgbeConfig::default());
        for _ in 0..5 {
            let mut queue = device.open_queue(0).unwrap();
            round_trip(&model, &mut *queue, 1000, 64);
            // More than is taken: the card is in the middle of it when the queue stops.
            model.card(|card| {
                for number in 0..100 {
                    card.arrive(&numbered(number, 64));
                }
                card.work();
            });
            send(&mut *queue, &numbered(0, 64), TxMeta::default());
            queue.flush().unwrap();
            drop(queue);
            // What still waited finds no queue.
            model.card(|card| {
                card.settle();
                card.loop_back();
                card.settle();
            });
        }
    }
}

#[test]
fn frames_wait_for_the_link_and_leave_when_it_is_back() {
    let (model, device, mut queue) = one_queue(4, IxgbeConfig::default());
    let link = |device: &Ixgbe<Model>| device.link();
    for flap in 0..10u64 {
        model.card(|card| card.plug(false));
        assert_eq!(link(&device), psio::ixgbe::Link::Down);
        assert!(send(&mut *queue, &numbered(flap, 64), TxMeta::default()));
        queue.flush().unwrap();
        model.arrive([&numbered(99, 64)]);
        assert!(model.sent().is_empty());
        assert!(received(&mut *queue).is_empty());
        model.card(|card| card.plug(true));
        for _ in 0..32 {
            model.work();
        }
        assert_eq!(link(&device), psio::ixgbe::Link::Up { speed: 10_000 });
        assert_eq!(model.sent(), [numbered(flap, 64)]);
        model.arrive([&numbered(flap, 64)]);
        assert_eq!(received(&mut *queue).len(), 1);
    }
}

/// Headers that lie about what follows them, and none at all.
#[test]
fn arbitrary_frames_come_out_as_they_went_in() {
    let (model, _device, mut queue) = one_queue(77, IxgbeConfig::default());
    let mut state = 1u64;
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((state >> 33) as usize) % below
    };
    let kinds: [&[u8]; 6] = [
        &[0x08, 0x00, 0x45],
        &[0x08, 0x00, 0x4f],
        &[0x86, 0xdd, 0x60],
        &[0x81, 0x00, 0x00, 0x07, 0x08, 0x00, 0x45],
        &[0x08, 0x06],
        &[],
    ];
    for _ in 0..300 {
        let frames: Vec<_> = (0..100)
            .map(|_| {
                let len = 60 + random(1455);
                let mut frame = numbered(0, len);
                for byte in &mut frame[12..] {
                    *byte = random(256) as u8;
                }
                let kind = kinds[random(kinds.len())];
                frame[12..12 + kind.len()].copy_from_slice(kind);
                // Half of them are TCP with a length that fits.
                if kind.len() == 3 && random(2) == 0 {
                    frame[16..18].copy_from_slice(&(len as u16 - 14).to_be_bytes());
                    frame[20..22].fill(0);
                    frame[23] = 6;
                }
                frame
            })
            .collect();
        model.arrive(&frames);
        let tagged = |frame: &Vec<u8>| frame[12..14] == [0x81, 0x00];
        let wanted = frames.iter().filter(|frame| !tagged(frame));
        let back: Vec<_> = received(&mut *queue).into_iter().map(|f| f.0).collect();
        assert!(wanted.eq(&back));
    }
}
