//! Loss detection by time (RFC 8985), seen from outside.

use super::*;

const MSS: u64 = 1448;

/// A sender with a round trip of 40 ms, and its peer.
pub(super) fn pair() -> (Host, Host) {
    let options = SocketOptions {
        nodelay: true,
        ..SocketOptions::default()
    };
    let prompt = SocketOptions {
        quickack: true,
        ..SocketOptions::default()
    };
    let cfg = TcpConfig::default();
    let (mut client, mut server) = established_between(&cfg, &options, &cfg, &prompt);
    for round in 0..40u64 {
        let now = before(2000 - 50 * round);
        client.write(1);
        server.receive_all(now + Duration::from_millis(20), &client.poll(now));
        server.read_all(now + Duration::from_millis(20));
        let acks = server.poll(now + Duration::from_millis(20));
        client.receive_all(now + Duration::from_millis(40), &acks);
    }
    (client, server)
}

/// The time at which the tests begin, `pair` having been at work before.
pub(super) const START: Instant = Instant::from_millis(1_010_000);

fn before(millis: u64) -> Instant {
    START - Duration::from_millis(millis)
}

pub(super) fn at(millis: u64) -> Instant {
    START + Duration::from_millis(millis)
}

/// Delivers `packets` to `to` and the ACKs back, 20 ms each way.
pub(super) fn round_trip(now: Instant, from: &mut Host, to: &mut Host, packets: &[Packet]) {
    let there = now + Duration::from_millis(20);
    for packet in packets {
        let _ = to.receive(there, packet);
        to.read_all(there);
        from.receive_all(now + Duration::from_millis(40), &to.poll(there));
    }
}

pub(super) fn retransmits(host: &Host) -> u32 {
    host.tcb.retransmits()
}

#[test]
fn a_segment_late_by_less_than_a_quarter_round_trip_is_not_lost() {
    let (mut client, mut server) = pair();
    client.write(2 * MSS);
    let packets = client.poll(at(0));
    round_trip(at(0), &mut client, &mut server, &packets[1..]);
    assert!(
        client.poll(at(40)).is_empty(),
        "one report may be reordering"
    );
    round_trip(at(2), &mut client, &mut server, &packets[..1]);
    assert_eq!(client.tcb.acked(), client.written);
    assert_eq!(retransmits(&client), 0);
    assert_eq!(client.tcb.info(at(42)).reordering_seen, 1);
}

#[test]
fn a_segment_later_than_that_is_repeated_by_the_reordering_timer() {
    let (mut client, mut server) = pair();
    client.write(2 * MSS);
    let packets = client.poll(at(0));
    round_trip(at(0), &mut client, &mut server, &packets[1..]);
    let deadline = client.tcb.next_deadline().unwrap();
    let quarter = client.tcb.info(at(40)).min_rtt.unwrap() / 4;
    assert_eq!(
        deadline,
        at(42) + quarter,
        "a quarter of the least round trip, and Linux's slack"
    );
    client.tcb.on_timer(deadline);
    let again = client.poll(deadline);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].segment().seq, packets[0].segment().seq);
    assert_eq!(client.tcb.info(deadline).counters.timeouts, 0);
    round_trip(deadline, &mut client, &mut server, &again);
    assert_eq!(client.tcb.acked(), client.written);
}

#[test]
fn three_reports_need_no_patience_until_reordering_was_seen() {
    for reordered in [false, true] {
        let (mut client, mut server) = pair();
        if reordered {
            client.write(2 * MSS);
            let mut packets = client.poll(at(0));
            packets.swap(0, 1);
            round_trip(at(0), &mut client, &mut server, &packets);
        }
        client.write(4 * MSS);
        let packets = client.poll(at(100));
        round_trip(at(100), &mut client, &mut server, &packets[1..]);
        let repeated = client.poll(at(140)).len();
        assert_eq!(repeated, usize::from(!reordered));
    }
}

#[test]
fn a_lost_repetition_is_repeated_without_a_timeout() {
    let (mut client, mut server) = pair();
    client.write(8 * MSS);
    let packets = client.poll(at(0));
    round_trip(at(0), &mut client, &mut server, &packets[1..]);
    let first = client.poll(at(40));
    assert_eq!(first[0].segment().seq, packets[0].segment().seq);
    // It is lost, but what follows it arrives.
    client.write(8 * MSS);
    let more = client.poll(at(41));
    assert!(!more.is_empty());
    round_trip(at(41), &mut client, &mut server, &more);
    let deadline = client.tcb.next_deadline().unwrap().max(at(81));
    client.tcb.on_timer(deadline);
    let again = client.poll(deadline);
    assert!(
        again
            .iter()
            .any(|packet| packet.segment().seq == packets[0].segment().seq)
    );
    assert_eq!(client.tcb.info(deadline).counters.timeouts, 0);
}

#[test]
fn only_what_left_before_is_lost() {
    let (mut client, mut server) = pair();
    client.write(3 * MSS);
    let old = client.poll(at(0));
    client.write(6 * MSS);
    let new = client.poll(at(30));
    // Of the first flight one is lost; the second is on its way.
    round_trip(at(0), &mut client, &mut server, &old[1..]);
    round_trip(at(30), &mut client, &mut server, &new[..1]);
    let info = client.tcb.info(at(70));
    assert_eq!((info.lost_segments, info.sacked_segments), (1, 3));
}

#[test]
fn what_is_counted_is_what_linux_counts() {
    let (mut client, mut server) = pair();
    client.write(10 * MSS);
    let packets = client.poll(at(0));
    let delivered = client.tcb.info(at(0)).delivered_segments;
    round_trip(at(0), &mut client, &mut server, &packets[2..6]);
    let info = client.tcb.info(at(40));
    assert_eq!(info.unacked_segments, 10);
    assert_eq!(info.sacked_segments, 4);
    assert_eq!(info.lost_segments, 2);
    assert_eq!(info.resent_segments, 0);
    assert_eq!(info.delivered_segments - delivered, 4);
    let again = client.poll(at(40));
    let info = client.tcb.info(at(40));
    assert_eq!(info.resent_segments as usize, again.len());
    assert_eq!(info.bytes_resent, again.len() as u64 * MSS);
    assert_eq!(info.reordering, 3);
}

#[test]
fn an_ack_in_pieces_does_not_open_the_window_faster() {
    let (mut whole, mut server) = pair();
    whole.write(4 * MSS);
    let packets = whole.poll(at(0));
    let mut pieces = Host::new(whole.tcb.clone());
    pieces.written = whole.written;
    server.receive_all(at(20), &packets);
    let ack = server.poll(at(20)).pop().expect("an ACK");
    let end = ack.segment();
    whole.receive_all(at(40), std::slice::from_ref(&ack));
    for part in (100..=4 * MSS as u32).step_by(100).chain([4 * MSS as u32]) {
        let piece = Crafted {
            seq: end.seq,
            ack: end.ack - (4 * MSS as u32 - part),
            flags: Flags::ACK,
            window: end.window,
            options: end.options,
            payload: Vec::new(),
        };
        let _ = pieces.receive(at(40), &piece.packet());
    }
    assert_eq!(pieces.tcb.acked(), pieces.written);
    assert!(pieces.tcb.cwnd() <= whole.tcb.cwnd());
}
