//! Needless recoveries are found out and taken back: by timestamps (RFC 3522), DSACK (RFC 2883) and
//! F-RTO (RFC 5682).

use super::rack::{at, pair, round_trip};
use super::*;

const MSS: u64 = 1448;

fn undos(host: &Host) -> u32 {
    host.tcb.info(at(0)).counters.undos.into()
}

/// An ACK of everything up to the `segments`th segment of the flight, echoing `echo`.
fn ack(host: &Host, first: &Packet, segments: u64, echo: u32) -> Crafted {
    let peer = host.peer_segment();
    let stamps = first.segment().options.timestamps.map(|(_, value)| value);
    Crafted {
        ack: first.segment().seq + (segments * MSS) as u32,
        options: Options {
            timestamps: stamps.map(|value| (value.wrapping_add(5000), echo)),
            ..Options::default()
        },
        ..peer
    }
}

fn stamp(packet: &Packet) -> u32 {
    packet.segment().options.timestamps.expect("stamped").0
}

fn with_blocks(mut ack: Crafted, first: &Packet, blocks: &[(u64, u64)]) -> Crafted {
    let seq = first.segment().seq;
    for (from, to) in blocks {
        ack.options
            .sack
            .push(seq + (from * MSS) as u32, seq + (to * MSS) as u32);
    }
    ack
}

#[test]
fn an_echo_of_the_original_gives_the_window_back() {
    let (mut client, mut server) = pair();
    client.write(8 * MSS);
    let packets = client.poll(at(0));
    let cwnd = client.tcb.cwnd();
    round_trip(at(0), &mut client, &mut server, &packets[1..]);
    let again = client.poll(at(40));
    assert_eq!(again.len(), 1);
    assert!(client.tcb.ssthresh() < cwnd);
    // The original was late: its ACK echoes its timestamp.
    round_trip(at(10), &mut client, &mut server, &packets[..1]);
    assert_eq!(undos(&client), 1);
    assert!(client.tcb.cwnd() >= cwnd && client.tcb.ssthresh() >= cwnd);
    assert!(!client.tcb.info(at(50)).fast_recovery);
}

#[test]
fn an_echo_of_the_repetition_does_not() {
    let (mut client, mut server) = pair();
    client.write(8 * MSS);
    let packets = client.poll(at(0));
    let cwnd = client.tcb.cwnd();
    round_trip(at(0), &mut client, &mut server, &packets[1..]);
    let again = client.poll(at(40));
    round_trip(at(40), &mut client, &mut server, &again);
    assert_eq!(client.tcb.acked(), client.written);
    assert_eq!(undos(&client), 0);
    assert!(client.tcb.cwnd() < cwnd);
}

#[test]
fn dsacks_for_all_repetitions_give_the_window_back() {
    let cfg = TcpConfig {
        timestamps: false,
        ..TcpConfig::default()
    };
    let (mut client, mut server) = established(&cfg, &SocketOptions::default());
    let mss = 1460;
    client.write(8 * mss);
    let packets = client.poll(T0);
    let cwnd = client.tcb.cwnd();
    for packet in &packets[1..] {
        let _ = server.receive(after(5), packet);
        client.receive_all(after(10), &server.poll(after(5)));
    }
    let again = client.poll(after(10));
    assert_eq!(again.len(), 1);
    // Original and repetition arrive.
    server.receive_all(after(12), &packets[..1]);
    client.receive_all(after(17), &server.poll(after(12)));
    server.receive_all(after(15), &again);
    let report = server.poll(after(15));
    let blocks = report[0].segment().options.sack;
    assert_eq!(blocks.as_slice().len(), 1, "the duplicate alone");
    client.receive_all(after(20), &report);
    assert_eq!(undos(&client), 1);
    assert!(client.tcb.cwnd() >= cwnd && client.tcb.ssthresh() >= cwnd);
    assert_eq!(client.tcb.info(after(20)).counters.dsacks, 1);
}

#[test]
fn a_dsack_for_what_was_never_repeated_changes_nothing() {
    let (mut client, mut server) = pair();
    client.write(2 * MSS);
    let packets = client.poll(at(0));
    round_trip(at(0), &mut client, &mut server, &packets);
    client.write(2 * MSS);
    let flight = client.poll(at(100));
    let info = client.tcb.info(at(100));
    let lie = with_blocks(
        ack(&client, &packets[0], 2, stamp(&flight[0])),
        &packets[0],
        &[(0, 2)],
    );
    client.receive(at(140), &lie.packet()).unwrap();
    let then = client.tcb.info(at(140));
    assert_eq!(then.counters.dsacks, 2);
    assert_eq!((then.cwnd, then.counters.undos), (info.cwnd, 0));
    assert_eq!(then.reordering, info.reordering);
}

/// A flight of `segments` all of whose ACKs are late: the timer expires, the first is repeated.
fn timed_out(segments: u64) -> (Host, Host, Vec<Packet>, Instant) {
    let (mut client, server) = pair();
    client.write(segments * MSS);
    let packets = client.poll(at(0));
    let mut now = client.expire();
    client.poll(now);
    while client.tcb.info(now).counters.timeouts == 0 {
        now = client.expire();
    }
    let again = client.poll(now);
    assert_eq!(again[0].segment().seq, packets[0].segment().seq);
    (client, server, packets, now)
}

#[test]
fn a_timeout_after_which_an_original_is_acknowledged_is_undone() {
    let (mut client, _, packets, now) = timed_out(6);
    let late = ack(&client, &packets[0], 1, stamp(&packets[0]));
    client
        .receive(now + Duration::from_millis(3), &late.packet())
        .unwrap();
    assert_eq!(undos(&client), 1);
    let info = client.tcb.info(now);
    assert!(!info.loss_recovery);
    assert_eq!((info.lost_segments, info.unacked_segments), (0, 5));
    assert!(client.poll(now + Duration::from_millis(3)).is_empty());
}

#[test]
fn f_rto_sends_new_data_and_believes_the_acks_of_what_it_did_not_repeat() {
    let (mut client, _, packets, now) = timed_out(6);
    client.write(4 * MSS);
    let repeated = client.tcb.retransmits();
    // The echo is that of the repetition: timestamps do not tell.
    let echo = stamp(&packets[0]).wrapping_add(60_000);
    let first = ack(&client, &packets[0], 1, echo);
    let soon = now + Duration::from_millis(40);
    client.receive(soon, &first.packet()).unwrap();
    let probe = client.poll(soon);
    assert_eq!(probe.len(), 2, "two new segments instead of repetitions");
    assert_eq!(client.tcb.retransmits(), repeated);
    let second = ack(&client, &packets[0], 3, echo);
    let later = soon + Duration::from_millis(1);
    client.receive(later, &second.packet()).unwrap();
    assert_eq!(undos(&client), 1);
    assert!(!client.tcb.info(later).loss_recovery);
    assert_eq!(client.tcb.retransmits(), repeated);
}

#[test]
fn f_rto_repeats_the_rest_if_only_the_new_data_arrives() {
    let (mut client, _, packets, now) = timed_out(6);
    client.write(4 * MSS);
    let echo = stamp(&packets[0]).wrapping_add(60_000);
    let soon = now + Duration::from_millis(40);
    let first = ack(&client, &packets[0], 1, echo);
    client.receive(soon, &first.packet()).unwrap();
    assert_eq!(client.poll(soon).len(), 2);
    let later = soon + Duration::from_millis(40);
    for end in [7, 8] {
        let report = with_blocks(ack(&client, &packets[0], 1, echo), &packets[0], &[(6, end)]);
        client.receive(later, &report.packet()).unwrap();
    }
    assert_eq!(undos(&client), 0);
    assert!(client.tcb.info(later).loss_recovery);
    let again = client.poll(later);
    assert_eq!(again[0].segment().seq, packets[1].segment().seq);
}

#[test]
fn without_new_data_f_rto_falls_back_at_once() {
    let (mut client, _, packets, now) = timed_out(6);
    let echo = stamp(&packets[0]).wrapping_add(60_000);
    let soon = now + Duration::from_millis(40);
    let first = ack(&client, &packets[0], 1, echo);
    client.receive(soon, &first.packet()).unwrap();
    let again = client.poll(soon);
    assert_eq!(again[0].segment().seq, packets[1].segment().seq);
}

#[test]
fn without_sack_a_filled_hole_is_no_sign_of_a_spurious_timeout() {
    let cfg = TcpConfig {
        sack: false,
        timestamps: false,
        ..TcpConfig::default()
    };
    let (mut client, mut server) = established(&cfg, &SocketOptions::default());
    client.write(5 * 1460);
    let packets = client.poll(T0);
    server.receive_all(after(5), &packets[1..]);
    server.poll(after(5));
    let now = client.expire();
    let again = client.poll(now);
    server.receive_all(now + Duration::from_millis(5), &again);
    let acks = server.poll(now + Duration::from_millis(5));
    client.receive_all(now + Duration::from_millis(10), &acks);
    assert_eq!(client.tcb.acked(), client.written);
    assert_eq!(undos(&client), 0);
}
