//! Checksums and segmentation.

use psio::ixgbe::IxgbeConfig;
use psio::segment::{segment, verify_checksum};
use psio::{ChecksumOffload, Gso, GsoKind, RxChecksum, TxMeta};

use super::bed::{one_queue, received, send};
use super::frames::{Tcp, ip_is_good, pattern, udp};

/// What goes with a TCP frame whose checksum is left to the card.
fn checksum(tcp: &Tcp<'_>) -> TxMeta {
    TxMeta {
        checksum: Some(ChecksumOffload {
            start: tcp.transport() as u16,
            offset: 16,
        }),
        gso: None,
    }
}

/// What goes with a super-segment.
fn gso(tcp: &Tcp<'_>, size: u16) -> TxMeta {
    TxMeta {
        gso: Some(Gso {
            kind: if tcp.v6 {
                GsoKind::TcpV6
            } else {
                GsoKind::TcpV4
            },
            size,
            header_len: tcp.headers() as u16,
        }),
        ..checksum(tcp)
    }
}

#[test]
fn good_and_bad_checksums_are_told_apart() {
    let config = IxgbeConfig {
        coalescing: false,
        ..IxgbeConfig::default()
    };
    let (model, _device, mut queue) = one_queue(1, config);
    let payload = pattern(500);
    let four = Tcp {
        payload: &payload,
        ..Tcp::default()
    };
    let six = Tcp { v6: true, ..four };
    let datagram = udp(([10, 0, 0, 1], 53), ([10, 0, 0, 2], 53), &payload);
    let mut unsummed = datagram.clone();
    unsummed[40..42].fill(0);
    let mut bad_header = four.frame();
    bad_header[24] ^= 1;
    let spoiled = |mut frame: Vec<u8>| {
        frame[100] ^= 0x40;
        frame
    };
    let cases = [
        (four.frame(), RxChecksum::Good),
        (six.frame(), RxChecksum::Good),
        (datagram.clone(), RxChecksum::Good),
        // The stack looks for itself, and finds out.
        (unsummed, RxChecksum::Unknown),
        (bad_header, RxChecksum::Unknown),
        (spoiled(four.frame()), RxChecksum::Unknown),
        (spoiled(six.frame()), RxChecksum::Unknown),
        (spoiled(datagram), RxChecksum::Unknown),
    ];
    model.arrive(cases.iter().map(|case| &case.0));
    let got = received(&mut *queue);
    assert_eq!(got.len(), cases.len());
    for ((frame, meta), (wanted, checksum)) in got.iter().zip(&cases) {
        assert_eq!((frame, meta.checksum), (wanted, *checksum));
    }
}

#[test]
fn checksums_left_to_the_card_are_right_whatever_came_before() {
    let (model, _device, mut queue) = one_queue(3, IxgbeConfig::default());
    let payload = pattern(777);
    // Plain, both versions and both protocols in turn: each needs another context.
    let mut wanted = Vec::new();
    for round in 0..30u32 {
        let tcp = Tcp {
            v6: round % 3 == 1,
            sequence: round,
            payload: &payload[..round as usize * 20],
            ..Tcp::default()
        };
        if round % 4 == 3 {
            assert!(send(&mut *queue, &tcp.frame(), TxMeta::default()));
        } else {
            assert!(send(&mut *queue, &tcp.unsummed(), checksum(&tcp)));
        }
        wanted.push(tcp.frame());
        let datagram = udp(([10, 0, 0, 1], 5), ([10, 0, 0, 2], 6), &payload[..100]);
        let mut unsummed = datagram.clone();
        let sum: u32 = unsummed[26..34]
            .chunks(2)
            .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]))
            .sum();
        let sum = sum + 17 + 108;
        let folded = (sum & 0xffff) + (sum >> 16);
        unsummed[40..42].copy_from_slice(&(folded as u16).to_be_bytes());
        let offload = ChecksumOffload {
            start: 34,
            offset: 6,
        };
        let meta = TxMeta {
            checksum: Some(offload),
            gso: None,
        };
        assert!(send(&mut *queue, &unsummed, meta));
        wanted.push(datagram);
    }
    queue.flush().unwrap();
    assert_eq!(model.sent(), wanted);
}

#[test]
fn a_checksum_that_the_card_does_not_know_is_filled_in_by_the_driver() {
    let (model, _device, mut queue) = one_queue(3, IxgbeConfig::default());
    let tcp = Tcp::default();
    // As ICMPv6 has it: two bytes into its header.
    let offload = ChecksumOffload {
        start: 34,
        offset: 2,
    };
    let mut frame = tcp.frame();
    frame[36..38].fill(0);
    let meta = TxMeta {
        checksum: Some(offload),
        gso: None,
    };
    assert!(send(&mut *queue, &frame, meta));
    queue.flush().unwrap();
    let mut wanted = frame.clone();
    assert!(psio::segment::complete_checksum(&mut wanted, offload));
    assert_eq!(model.sent(), [wanted]);
}

#[test]
fn super_segments_of_64_kb_are_cut_as_software_would_cut_them() {
    let (model, _device, mut queue) = one_queue(8, IxgbeConfig::default());
    for (v6, len, size) in [
        (false, 65_535 - 52, 1448),
        (true, 65_535 - 72, 1428),
        (false, 1449, 1448),
        (false, 1448, 1448),
        (true, 1, 1428),
        (false, 16_384 - 66, 536),
        (false, 16_384 - 65, 536),
    ] {
        let payload = pattern(len);
        for flags in [0x10, 0x18, 0x19, 0x90] {
            let tcp = Tcp {
                v6,
                flags,
                sequence: 0xffff_f000,
                payload: &payload,
                ..Tcp::default()
            };
            assert!(send(&mut *queue, &tcp.unsummed(), gso(&tcp, size)));
            queue.flush().unwrap();
            let sent = model.sent();
            let mut wanted = Vec::new();
            segment(&tcp.frame(), size, &mut Vec::new(), &mut |frame| {
                wanted.push(frame.to_vec());
            })
            .unwrap();
            assert_eq!(sent.len(), wanted.len());
            for (mut frame, wanted) in sent.into_iter().zip(wanted) {
                frame.truncate(wanted.len());
                assert_eq!(verify_checksum(&frame), Some(true));
                assert!(v6 || ip_is_good(&frame));
                assert_eq!(frame, wanted);
            }
        }
    }
}

#[test]
fn super_segments_fill_the_arena_and_wrap_around_its_end() {
    let (model, _device, mut queue) = one_queue(8, IxgbeConfig::default());
    let payload = pattern(60_001);
    let tcp = Tcp {
        payload: &payload,
        ..Tcp::default()
    };
    let frame = tcp.unsummed();
    let (mut committed, mut segments) = (0, 0);
    while committed < 500 {
        while send(&mut *queue, &frame, gso(&tcp, 1448)) {
            committed += 1;
        }
        queue.flush().unwrap();
        for segment in model.sent() {
            let at = u32::from_be_bytes(segment[38..42].try_into().unwrap()) as usize - 1;
            let end = payload.len().min(at + 1448);
            assert_eq!(segment[66..], payload[at..end]);
            segments += 1;
        }
    }
    assert_eq!(segments, committed * payload.len().div_ceil(1448));
}

#[test]
fn a_super_segment_that_cannot_be_cut_is_dropped_and_counted() {
    let (model, _device, mut queue) = one_queue(8, IxgbeConfig::default());
    let payload = pattern(4000);
    let tcp = Tcp {
        payload: &payload,
        ..Tcp::default()
    };
    let good = gso(&tcp, 1448);
    let wrong = |change: fn(&mut Gso, &mut ChecksumOffload)| {
        let (mut gso, mut checksum) = (good.gso.unwrap(), good.checksum.unwrap());
        change(&mut gso, &mut checksum);
        TxMeta {
            gso: Some(gso),
            checksum: Some(checksum),
        }
    };
    let metas = [
        wrong(|gso, _| gso.size = 0),
        wrong(|gso, _| gso.header_len = 10),
        wrong(|gso, _| gso.header_len = 34 + 19),
        wrong(|gso, _| gso.header_len = 34 + 61),
        wrong(|gso, _| gso.kind = GsoKind::TcpV6),
        wrong(|_, checksum| checksum.offset = 6),
        wrong(|_, checksum| checksum.start = 4),
        TxMeta {
            checksum: None,
            ..good
        },
    ];
    for meta in metas {
        assert!(send(&mut *queue, &tcp.unsummed(), meta));
    }
    assert_eq!(queue.flush().unwrap(), 0);
    assert_eq!(queue.stats().tx_dropped, metas.len() as u64);
    assert!(model.sent().is_empty());
}
