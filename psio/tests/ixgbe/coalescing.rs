//! Receive-side coalescing.

use std::collections::HashMap;

use psio::ixgbe::IxgbeConfig;
use psio::segment::verify_checksum;
use psio::{Device, RxChecksum, RxMeta};

use super::bed::{card, one_queue, received};
use super::frames::{Tcp, ip_is_good, pattern};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// The segments of a stream.
fn stream(v6: bool, port: u16, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let segments = payload.chunks(size).enumerate();
    let frame = |(index, piece): (usize, &[u8])| {
        let tcp = Tcp {
            v6,
            source: ([10, 0, 0, 1], port),
            sequence: 1000 + (index * size) as u32,
            payload: piece,
            ..Tcp::default()
        };
        tcp.frame()
    };
    segments.map(frame).collect()
}

/// Adds a frame to its stream, which is told by its port.
fn append(streams: &mut HashMap<u16, Vec<u8>>, frame: &[u8]) {
    let tcp = if frame[12] == 0x86 { 54 } else { 34 };
    let port = u16::from_be_bytes([frame[tcp], frame[tcp + 1]]);
    let sequence = u32::from_be_bytes(frame[tcp + 4..tcp + 8].try_into().unwrap());
    let stream = streams.entry(port).or_default();
    assert_eq!(sequence as usize, 1000 + stream.len(), "port {port}");
    stream.extend_from_slice(&frame[tcp + 32..]);
}

#[test]
fn segments_in_order_become_few_frames_with_the_same_bytes() {
    for (v6, size) in [(false, 1448), (true, 1428), (false, 536), (false, 100)] {
        let (model, _device, mut queue) = one_queue(21, IxgbeConfig::default());
        let payload = pattern(100_000);
        let mut streams = HashMap::new();
        let mut frames = 0;
        let segments = stream(v6, 7, &payload, size);
        for burst in segments.chunks(300) {
            model.arrive(burst);
            for (frame, meta) in received(&mut *queue) {
                append(&mut streams, &frame);
                assert_eq!(meta.checksum, RxChecksum::Good);
                let total = u16::from_be_bytes([frame[16], frame[17]]) as usize;
                let payload_len = u16::from_be_bytes([frame[18], frame[19]]) as usize;
                match v6 {
                    true => assert_eq!(payload_len + 54, frame.len()),
                    false => assert!(total + 14 == frame.len() && ip_is_good(&frame)),
                }
                // The stream's last segment is shorter, and the card does not say how long each was.
                let last = streams[&7].len() == payload.len();
                let several = frame.len() > size + 86;
                let expected = if several { size as u16 } else { 0 };
                assert!(last || meta.gso_size == expected, "{}", meta.gso_size);
                assert!(several == (meta.gso_size > 0) && meta.gso_size <= expected);
                frames += 1;
            }
        }
        assert!(streams[&7] == payload);
        assert!(
            frames * 5 < segments.len(),
            "{frames} of {}",
            segments.len()
        );
    }
}

/// With more flows than the card puts together at once, their pieces lie in each other's midst, and
/// frames end at any time.
#[test]
fn streams_that_are_mixed_come_out_whole_for_every_seed() {
    for seed in 0..40 {
        let (model, _device, mut queue) = one_queue(seed, IxgbeConfig::default());
        let flows = 1 + seed as u16 % 50;
        let payloads: Vec<_> = (0..flows).map(|f| pattern(9_000 + f as usize)).collect();
        let mut segments: Vec<_> = payloads
            .iter()
            .enumerate()
            .map(|(flow, payload)| stream(flow % 3 == 1, flow as u16, payload, 700).into_iter())
            .collect();
        let mut streams = HashMap::new();
        let mut taken = 0;
        let mut state = seed as u32;
        while segments.iter().any(|rest| rest.len() > 0) {
            model.card(|card| {
                for _ in 0..30 {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let flow = (state >> 16) as usize % segments.len();
                    // Some of a flow come together.
                    for segment in segments[flow].by_ref().take(1 + (state >> 8) as usize % 4) {
                        card.arrive(&segment);
                    }
                }
                card.work();
            });
            for (frame, _) in received(&mut *queue) {
                append(&mut streams, &frame);
                taken += 1;
            }
        }
        model.settle();
        for (frame, _) in received(&mut *queue) {
            append(&mut streams, &frame);
            taken += 1;
        }
        for (flow, payload) in payloads.iter().enumerate() {
            assert!(
                streams[&(flow as u16)] == *payload,
                "flow {flow}, seed {seed}"
            );
        }
        let all: usize = payloads.iter().map(|p| p.len().div_ceil(700)).sum();
        assert!(taken < all, "nothing was merged");
        assert_eq!(queue.stats().rx_dropped, 0);
    }
}

/// Frames that arrive together, each with what differs in it.
fn delivered(config: IxgbeConfig, segments: &[Vec<u8>]) -> Vec<(Vec<u8>, RxMeta)> {
    let (model, _device, mut queue) = one_queue(3, config);
    model.arrive(segments);
    received(&mut *queue)
}

#[test]
fn what_does_not_belong_together_is_not_merged() {
    let payload = pattern(500);
    let segment = |sequence: u32, flags: u8| {
        let tcp = Tcp {
            sequence,
            flags,
            payload: &payload,
            ..Tcp::default()
        };
        tcp.frame()
    };
    let mut spoiled = segment(501, ACK);
    spoiled[200] ^= 1;
    for second in [
        // A gap, a repetition, an end, and a segment that was damaged.
        segment(502, ACK),
        segment(1, ACK),
        segment(501, ACK | FIN),
        spoiled,
    ] {
        let segments = [segment(1, ACK), second];
        let frames: Vec<_> = delivered(IxgbeConfig::default(), &segments)
            .into_iter()
            .map(|(frame, meta)| {
                assert_eq!(meta.gso_size, 0);
                frame
            })
            .collect();
        assert!(frames == segments);
    }
}

#[test]
fn a_pushed_segment_ends_its_frame() {
    let payload = pattern(500);
    let segments: Vec<_> = (0..6)
        .map(|index| {
            let tcp = Tcp {
                sequence: 1 + index * 500,
                flags: if index == 2 { ACK | PSH } else { ACK },
                payload: &payload,
                ..Tcp::default()
            };
            tcp.frame()
        })
        .collect();
    let frames = delivered(IxgbeConfig::default(), &segments);
    let sizes: Vec<_> = frames
        .iter()
        .map(|(f, meta)| (f.len(), meta.gso_size))
        .collect();
    assert_eq!(sizes, [(66 + 1500, 500), (66 + 1500, 500)]);
    let flags: Vec<_> = frames.iter().map(|(frame, _)| frame[47]).collect();
    assert_eq!(flags, [ACK | PSH, ACK]);
}

#[test]
fn nothing_is_merged_unless_it_is_wanted() {
    let config = IxgbeConfig {
        coalescing: false,
        ..IxgbeConfig::default()
    };
    let (_model, device) = card(1, config.clone());
    assert!(!device.capabilities().rx_coalescing);
    let segments = stream(false, 7, &pattern(10_000), 1448);
    let frames = delivered(config, &segments);
    assert!(
        frames
            .iter()
            .all(|(f, meta)| meta.gso_size == 0 && verify_checksum(f) == Some(true))
    );
    assert!(frames.into_iter().map(|frame| frame.0).eq(segments));
}

#[test]
fn frames_of_a_jumbo_network_are_merged_as_far_as_the_card_can() {
    for mtu in [3000, 6000, 9000] {
        let config = IxgbeConfig {
            mtu,
            ..IxgbeConfig::default()
        };
        let payload = pattern(200_000);
        let segments = stream(false, 7, &payload, mtu - 52);
        let mut streams = HashMap::new();
        for (frame, _) in delivered(config, &segments) {
            append(&mut streams, &frame);
        }
        assert!(streams[&7] == payload);
    }
}
