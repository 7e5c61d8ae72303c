//! Counters: the card's, the driver's and the test's must agree.

use ixgbe_model::Carried;
use psio::ixgbe::{IxgbeConfig, PortStatistics};
use psio::{Device, QueueStats, TxMeta};

use super::bed::{card, one_queue, received, send};
use super::frames::{Tcp, numbered};

/// Bytes of a frame's check sequence, which the port counts and the queue does not see.
const FCS: u64 = 4;

#[test]
fn port_queue_and_test_count_the_same() {
    let (model, device, mut queue) = one_queue(6, IxgbeConfig::default());
    let mut port = PortStatistics::default();
    let mut expected = QueueStats::default();
    for round in 0..50u64 {
        for index in 0..round {
            let len = 60 + (index * 29) as usize;
            let frame = numbered(index, len);
            assert!(send(&mut *queue, &frame, TxMeta::default()));
            expected.tx_frames += 1;
            expected.tx_bytes += len as u64;
        }
        queue.flush().unwrap();
        let sent = model.sent();
        model.arrive(&sent);
        expected.rx_frames += received(&mut *queue).len() as u64;
        expected.rx_bytes += sent.iter().map(|frame| frame.len() as u64).sum::<u64>();
        // A stranger's frame, a damaged one, and one too long.
        let mut stranger = numbered(0, 64);
        stranger[..6].fill(0x22);
        model.arrive([&stranger, &numbered(0, 1600)]);
        model.card(|card| card.arrive_damaged());
        port.rx_total += 3;
        port.crc_errors += 1;
        if round % 7 == 0 {
            assert_eq!(device.statistics().crc_errors, round + 1);
        }
    }
    assert_eq!(queue.stats(), expected);
    port.rx_total += expected.rx_frames;
    port.rx_frames = expected.rx_frames;
    port.rx_bytes = expected.rx_bytes + FCS * expected.rx_frames;
    port.tx_frames = expected.tx_frames;
    port.tx_bytes = expected.tx_bytes + FCS * expected.tx_frames;
    assert_eq!(device.statistics(), port);
    assert_eq!(device.statistics(), port, "reading changes nothing");
    let carried = Carried {
        frames_out: port.tx_frames,
        bytes_out: port.tx_bytes,
        frames_in: port.rx_frames,
        bytes_in: port.rx_bytes,
    };
    assert_eq!(model.card(|card| card.carried()), carried);
    model.card(|card| {
        card.reset_function();
        assert_eq!(card.carried(), carried, "until there is something new");
    });
}

#[test]
fn frames_beyond_the_packet_buffer_are_counted_as_missed() {
    let (model, device, mut queue) = one_queue(6, IxgbeConfig::default());
    // 512 KB hold 512 of them; the card does nothing meanwhile.
    model.card(|card| {
        for number in 0..600 {
            card.arrive(&numbered(number, 1024));
        }
        card.settle();
    });
    let missed = device.statistics().rx_missed;
    assert_eq!(missed, 88);
    let stats = queue.stats();
    // The ring takes all but one of its 512.
    assert_eq!(received(&mut *queue).len(), 511);
    assert_eq!(stats.rx_dropped, 1);
}

#[test]
fn each_queue_counts_its_own_drops() {
    for (queues, last) in [(4, 3), (16, 15), (20, 14)] {
        let config = IxgbeConfig {
            queues,
            rx_descriptors: 64,
            tx_descriptors: 64,
            coalescing: false,
            ..IxgbeConfig::default()
        };
        let (model, mut device) = card(2, config);
        let open: Vec<_> = (0..queues).map(|i| device.open_queue(i).unwrap()).collect();
        let all = psio::ixgbe::FiveTuple {
            protocol: psio::ixgbe::Protocol::Tcp,
            source: None,
            destination: None,
        };
        device.steer(all, last).unwrap();
        let frame = Tcp::default().frame();
        model.arrive(&vec![frame; 100]);
        for (index, queue) in open.iter().enumerate() {
            let expected = if index == last { 37 } else { 0 };
            assert_eq!(queue.stats().rx_dropped, expected, "queue {index}");
        }
    }
}
