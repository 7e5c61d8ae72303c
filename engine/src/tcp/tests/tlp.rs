//! The tail loss probe (RFC 8985 section 7).

use super::rack::{at, pair, round_trip};
use super::*;

const MSS: u64 = 1448;

fn probes(host: &Host) -> u32 {
    host.tcb.info(at(0)).counters.tail_probes.into()
}

#[test]
fn a_lost_tail_is_probed_after_two_round_trips() {
    let (mut client, mut server) = pair();
    client.write(5 * MSS);
    let packets = client.poll(at(0));
    let srtt = client.tcb.srtt().unwrap();
    let deadline = client.tcb.next_deadline().unwrap();
    assert_eq!(deadline, at(2) + srtt * 2);
    client.tcb.on_timer(deadline);
    let probe = client.poll(deadline);
    assert_eq!(probe.len(), 1);
    assert_eq!(probe[0].bytes, stamped(&packets[4], &probe[0]));
    assert_eq!((probes(&client), client.tcb.retransmits()), (1, 1));
    // The probe's report shows that those before it are lost.
    round_trip(deadline, &mut client, &mut server, &probe);
    let answered = deadline + Duration::from_millis(40);
    let mut now = answered;
    for _ in 0..6 {
        let again = client.poll(now);
        round_trip(now, &mut client, &mut server, &again);
        now += Duration::from_millis(40);
        client.tcb.on_timer(now);
    }
    assert_eq!(client.tcb.acked(), client.written);
    assert_eq!(client.tcb.info(now).counters.timeouts, 0);
}

/// The bytes of `packet` with the TCP header of `like`, whose timestamps and flags differ.
fn stamped(packet: &Packet, like: &Packet) -> Vec<u8> {
    let header = like.bytes.len() - like.segment().payload.len();
    assert_eq!(packet.segment().seq, like.segment().seq);
    let mut bytes = like.bytes[..header].to_vec();
    bytes.extend(packet.segment().payload);
    bytes
}

#[test]
fn a_lone_segment_waits_for_the_delayed_ack_as_well() {
    let (mut client, _) = pair();
    client.write(100);
    client.poll(at(0));
    let srtt = client.tcb.srtt().unwrap();
    let by_delay = at(200) + srtt * 2;
    let by_timeout = at(0) + client.tcb.rto();
    assert_eq!(
        client.tcb.next_deadline(),
        Some(by_delay.min(by_timeout)),
        "2 SRTT and 200 ms, but no later than the timeout"
    );
}

#[test]
fn new_data_is_a_better_probe_even_beyond_the_congestion_window() {
    let (mut client, _) = pair();
    client.write(200 * MSS);
    let flight = client.poll(at(0));
    assert!(flight.len() < 200, "the window is full");
    let deadline = client.expire();
    let probe = client.poll(deadline);
    assert_eq!(probe.len(), 1);
    let last = flight.last().unwrap().segment();
    assert_eq!(probe[0].segment().seq, last.seq + last.payload.len() as u32);
    assert_eq!(client.tcb.retransmits(), 0);
}

#[test]
fn there_is_one_probe_and_then_the_timeout() {
    let (mut client, _) = pair();
    client.write(3 * MSS);
    client.poll(at(0));
    let first = client.expire();
    client.poll(first);
    let timeout = client.tcb.next_deadline().unwrap();
    assert_eq!(timeout, first + client.tcb.rto());
    client.expire();
    assert_eq!(client.tcb.info(timeout).counters.timeouts, 1);
    assert_eq!(probes(&client), 1);
}

#[test]
fn a_probe_that_repaired_a_loss_reduces_the_window() {
    for (lost, reduced) in [(true, true), (false, false)] {
        let (mut client, mut server) = pair();
        client.write(4 * MSS);
        let packets = client.poll(at(0));
        let cwnd = client.tcb.cwnd();
        let there = if lost { 3 } else { 4 };
        server.receive_all(at(20), &packets[..there]);
        // All ACKs but that of the probe are lost.
        server.poll(at(20));
        let deadline = client.expire();
        let probe = client.poll(deadline);
        round_trip(deadline, &mut client, &mut server, &probe);
        let now = deadline + Duration::from_millis(40);
        assert_eq!(client.tcb.acked(), client.written);
        client.write(MSS);
        let next = client.poll(now);
        round_trip(now, &mut client, &mut server, &next);
        assert_eq!(client.tcb.cwnd() < cwnd, reduced, "lost: {lost}");
    }
}

#[test]
fn without_sack_there_is_no_probe() {
    let cfg = TcpConfig {
        sack: false,
        ..TcpConfig::default()
    };
    let (mut client, _) = established(&cfg, &SocketOptions::default());
    client.write(3 * MSS);
    client.poll(T0);
    assert_eq!(client.tcb.next_deadline(), Some(T0 + client.tcb.rto()));
}
