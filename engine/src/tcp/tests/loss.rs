//! Loss: found by duplicates, by reports, or by time, and repaired without needless repetition.

use super::*;

const MSS: u64 = 1448;

fn pair(sack: bool) -> (Host, Host) {
    pair_with(sack, TcpConfig::default().recv_buffer)
}

/// A pair whose window is of whole segments and of whole units of its field, so that the first ACK
/// changes no window: a sender without SACK counts it as a duplicate.
fn steady_pair(sack: bool) -> (Host, Host) {
    pair_with(sack, 32 * MSS as u32)
}

fn pair_with(sack: bool, recv_buffer: u32) -> (Host, Host) {
    let cfg = TcpConfig {
        sack,
        recv_buffer,
        ..TcpConfig::default()
    };
    established(
        &cfg,
        &SocketOptions {
            nodelay: true,
            ..SocketOptions::default()
        },
    )
}

/// Carries `packets`, sent at `now`, but those at `lost`, one by one with their ACKs, which arrive
/// 10 ms later.
fn carry(now: Instant, from: &mut Host, to: &mut Host, packets: &[Packet], lost: &[usize]) {
    let (there, back) = (
        now + Duration::from_millis(5),
        now + Duration::from_millis(10),
    );
    for (index, packet) in packets.iter().enumerate() {
        if !lost.contains(&index) {
            let _ = to.receive(there, packet);
            from.receive_all(back, &to.poll(there));
        }
    }
}

/// Lets timers expire until it was the retransmission timeout; says when.
fn expire_fully(host: &mut Host) -> Instant {
    let timeouts = host.tcb.info(T0).counters.timeouts;
    loop {
        let at = host.expire();
        if host.tcb.info(T0).counters.timeouts > timeouts {
            return at;
        }
        host.poll(at);
    }
}

fn starts(host: &Host, packets: &[Packet]) -> Vec<u64> {
    let first = host.tcb.iss.at(1);
    packets
        .iter()
        .map(|p| u64::from(p.segment().seq.0.wrapping_sub(first.0)) / MSS)
        .collect()
}

#[test]
fn three_duplicates_repeat_the_missing_segment_at_once() {
    for sack in [false, true] {
        let (mut client, mut server) = steady_pair(sack);
        client.write(10 * MSS);
        let packets = client.poll(T0);
        carry(T0, &mut client, &mut server, &packets[..4], &[0]);
        let again = client.poll(after(10));
        assert_eq!(starts(&client, &again), [0]);
        assert_eq!(client.tcb.info(T0).counters.fast_recoveries, 1);
        assert_eq!(client.tcb.ssthresh(), 7 * MSS as u32);
        carry(after(1), &mut client, &mut server, &packets[4..], &[]);
        carry(after(10), &mut client, &mut server, &again, &[]);
        settle(after(20), &mut client, &mut server);
        assert_eq!(server.tcb.received(), 10 * MSS);
        assert_eq!(client.tcb.retransmits(), 1, "and nothing else");
        assert_eq!(client.tcb.info(T0).counters.timeouts, 0);
    }
}

#[test]
fn two_duplicates_send_new_data_instead() {
    for sack in [false, true] {
        let (mut client, mut server) = steady_pair(sack);
        client.write(20 * MSS);
        let packets = client.poll(T0);
        assert_eq!(packets.len(), 10);
        carry(T0, &mut client, &mut server, &packets[..3], &[0]);
        let new = client.poll(after(10));
        assert_eq!(starts(&client, &new), [10, 11], "limited transmit");
    }
}

#[test]
fn several_losses_in_a_window_are_repaired_without_a_timeout() {
    for sack in [false, true] {
        let (mut client, mut server) = pair(sack);
        client.write(40 * MSS);
        let packets = client.poll(T0);
        carry(T0, &mut client, &mut server, &packets, &[0, 2, 5]);
        for round in 1..20 {
            let now = after(10 * round);
            let packets = client.poll(now);
            carry(now, &mut client, &mut server, &packets, &[]);
        }
        assert_eq!(server.tcb.received(), 40 * MSS);
        assert_eq!(client.tcb.retransmits(), 3, "SACK: {sack}");
        assert_eq!(client.tcb.info(T0).counters.timeouts, 0);
        assert_eq!(
            client.tcb.info(T0).counters.fast_recoveries,
            1,
            "one loss event"
        );
    }
}

#[test]
fn a_whole_lost_window_is_repeated_in_slow_start() {
    for sack in [false, true] {
        let (mut client, mut server) = pair(sack);
        client.write(10 * MSS);
        client.poll(T0);
        let at = expire_fully(&mut client);
        assert_eq!(client.tcb.cwnd(), MSS as u32);
        let mut sizes = Vec::new();
        for step in 0.. {
            let now = at + Duration::from_millis(10 * step);
            let packets = client.poll(now);
            if packets.is_empty() {
                break;
            }
            sizes.push(packets.len());
            for packet in &packets {
                let _ = server.receive(now, packet);
            }
            client.receive_all(now, &server.poll(now));
        }
        // Without an ACK of new data to come, F-RTO repeats the rest at once.
        assert_eq!(sizes, [1, 2, 4, 3]);
        assert_eq!(server.tcb.received(), 10 * MSS);
        assert_eq!(client.tcb.info(T0).counters.timeouts, 1);
    }
}

#[test]
fn after_a_timeout_what_was_reported_is_not_repeated() {
    let (mut client, mut server) = pair(true);
    client.write(10 * MSS);
    let packets = client.poll(T0);
    // The reports of two segments are too few for fast retransmit.
    carry(T0, &mut client, &mut server, &packets[..4], &[0, 1]);
    let mut now = expire_fully(&mut client);
    let mut repeated = Vec::new();
    for _ in 0..10 {
        let again = client.poll(now);
        repeated.extend(starts(&client, &again));
        server.receive_all(now, &again);
        client.receive_all(now, &server.poll(now));
        now += Duration::from_millis(10);
    }
    assert_eq!(repeated, [0, 1, 4, 5, 6, 7, 8, 9]);
    assert_eq!(server.tcb.received(), 10 * MSS);
}

#[test]
fn a_peer_that_forgets_what_it_reported_gets_everything() {
    let (mut client, _) = pair(true);
    client.write(3 * MSS);
    client.poll(T0);
    let tcb = &client.tcb;
    let mut options = Options {
        timestamps: Some((u32::MAX / 2, 0)),
        ..Options::default()
    };
    options
        .sack
        .push(tcb.iss.at(1 + MSS), tcb.iss.at(1 + 2 * MSS));
    let report = Crafted {
        ack: tcb.iss.at(1),
        options,
        ..client.peer_segment()
    };
    client.receive(T0, &report.packet()).unwrap();
    // It acknowledges the first segment but no longer has the second.
    options.sack = SackBlocks::default();
    let forgot = Crafted {
        ack: client.tcb.iss.at(1 + MSS),
        options,
        ..report
    };
    client.receive(T0, &forgot.packet()).unwrap();
    let at = expire_fully(&mut client);
    let again = client.poll(at);
    assert_eq!(starts(&client, &again), [1]);
}

#[test]
fn a_window_update_is_no_duplicate() {
    let (mut client, _) = established(&plain(), &SocketOptions::default());
    client.write(20_000);
    client.poll(T0);
    let ack = Crafted {
        ack: client.tcb.iss.at(1),
        ..client.peer_segment()
    };
    for window in [1000, 2000, 3000, 4000, 5000] {
        let _ = client.receive(
            T0,
            &Crafted {
                window,
                ..ack.clone()
            }
            .packet(),
        );
    }
    assert_eq!(client.tcb.retransmits(), 0);
    assert!(client.poll(T0).is_empty());
    // Nor is a segment with data.
    for n in 0..5u32 {
        let data = Crafted {
            seq: ack.seq + n,
            window: 5000,
            ..ack.clone()
        };
        let _ = client.receive(T0, &data.carrying(n.into(), 1).packet());
    }
    client.poll(T0);
    assert_eq!(client.tcb.retransmits(), 0);
    for _ in 0..3 {
        let bare = Crafted {
            seq: ack.seq + 5,
            window: 5000,
            ..ack.clone()
        };
        let _ = client.receive(T0, &bare.packet());
    }
    assert_eq!(client.poll(T0).len(), 1, "three true duplicates are a loss");
}

#[test]
fn reports_of_what_was_never_sent_are_ignored() {
    let (mut client, _) = pair(true);
    client.write(10 * MSS);
    client.poll(T0);
    let tcb = &client.tcb;
    for (left, right) in [
        (1, 20 * MSS),
        (5 * MSS, 4 * MSS),
        (2, 2),
        (1, 1),
        (11 * MSS, 12 * MSS),
    ] {
        let mut options = Options {
            timestamps: Some((u32::MAX / 2, 0)),
            ..Options::default()
        };
        options.sack.push(tcb.iss.at(left), tcb.iss.at(right));
        let report = Crafted {
            ack: tcb.iss.at(1),
            options,
            ..client.peer_segment()
        };
        let mut client = Host::new(client.tcb.clone());
        client.written = 10 * MSS;
        client.receive(T0, &report.packet()).unwrap();
        assert_eq!(client.poll(T0).len(), 0, "block {left}..{right}");
    }
}

#[test]
fn retransmission_timeouts_double_and_end_the_connection() {
    let (mut client, _) = pair(true);
    client.write(100);
    let first = client.poll(T0);
    let (mut now, mut pause) = (T0, Duration::ZERO);
    let probe = client.expire();
    assert_eq!(client.poll(probe).len(), 1, "a tail loss probe comes first");
    for _ in 0..15 {
        let at = client.expire();
        assert!(at.since(now) >= pause && at.since(now) <= Duration::from_secs(120));
        pause = at.since(now);
        now = at;
        let again = client.poll(now);
        assert_eq!(again[0].segment().payload, first[0].segment().payload);
    }
    assert_eq!(pause, Duration::from_secs(120));
    now = client.expire();
    assert_eq!(client.tcb.error(), Some(Error::TimedOut));
    assert!(
        now.since(T0) > Duration::from_secs(900),
        "Linux gives up after about 15 minutes"
    );
}

#[test]
fn the_timer_starts_anew_with_each_ack_of_new_data() {
    let (mut client, mut server) = pair(true);
    client.write(4 * MSS);
    let packets = client.poll(T0);
    let before = client.tcb.next_deadline().unwrap();
    server.receive_all(after(50), &packets[..2]);
    client.receive_all(after(60), &server.poll(after(50)));
    let deadline = client.tcb.next_deadline().unwrap();
    let probe = client.tcb.srtt().unwrap() * 2 + Duration::from_millis(2);
    assert_eq!(deadline, after(60) + probe);
    assert!(deadline > before);
    server.receive_all(after(70), &packets[2..]);
    client.receive_all(after(80), &server.poll(after(70)));
    assert_eq!(client.tcb.next_deadline(), None, "nothing is outstanding");
}

#[test]
fn round_trips_are_measured_with_and_without_timestamps() {
    for cfg in [TcpConfig::default(), plain()] {
        let (mut client, mut server) = established(&cfg, &SocketOptions::default());
        assert_eq!(
            client.tcb.srtt(),
            Some(Duration::from_millis(10)),
            "from the handshake"
        );
        client.write(100);
        server.receive_all(after(15), &client.poll(T0));
        client.receive_all(after(34), &server.poll(after(15)));
        assert_eq!(client.tcb.srtt(), Some(Duration::from_millis(13)));
    }
}

#[test]
fn a_retransmitted_segment_is_measured_by_timestamps_only() {
    for (cfg, measured) in [(TcpConfig::default(), true), (plain(), false)] {
        let (mut client, mut server) = established(&cfg, &SocketOptions::default());
        let srtt = client.tcb.srtt();
        client.write(100);
        client.poll(T0);
        let at = client.expire();
        let again = client.poll(at);
        server.receive_all(at + Duration::from_millis(90), &again);
        let acks = server.poll(at + Duration::from_millis(90));
        client.receive_all(at + Duration::from_millis(90), &acks);
        assert_eq!(client.tcb.acked(), 100);
        assert_eq!(client.tcb.srtt() != srtt, measured);
        assert_eq!(
            client.tcb.info(T0).backoff == 0,
            measured,
            "Karn keeps the backoff"
        );
    }
}

#[test]
fn slow_start_doubles_the_window_each_round_trip() {
    let (mut client, mut server) = pair(true);
    let mut counts = Vec::new();
    for round in 0..5 {
        client.write(200 * MSS);
        let packets = client.poll(after(10 * round));
        counts.push(packets.len());
        for packet in &packets {
            server.receive_all(after(10 * round + 5), std::slice::from_ref(packet));
            server.read_all(after(10 * round + 5));
            client.receive_all(after(10 * round + 10), &server.poll(after(10 * round + 5)));
        }
    }
    assert_eq!(counts[..3], [10, 20, 40]);
}

#[test]
fn an_idle_connection_starts_again_with_the_initial_window() {
    let (mut client, mut server) = pair(true);
    for round in 0..4 {
        client.write(60 * MSS);
        settle(after(round), &mut client, &mut server);
        server.read_all(after(round));
        settle(after(round), &mut client, &mut server);
    }
    assert!(client.tcb.cwnd() > 20 * MSS as u32);
    client.write(60 * MSS);
    assert_eq!(client.poll(after(10_000)).len(), 10);
}

#[test]
fn a_segment_too_big_for_the_path_is_repeated_in_smaller_ones() {
    let (mut client, mut server) = pair(true);
    client.write(4 * MSS);
    let lost = client.poll(T0);
    let cwnd = client.tcb.cwnd();
    let seq = lost[0].segment().seq;
    client
        .tcb
        .on_icmp_error(T0, IcmpError::PacketTooBig { mss: 1012 }, seq);
    let again = client.poll(T0);
    assert!(
        again
            .iter()
            .all(|packet| packet.segment().payload.len() <= 1000)
    );
    assert!(client.tcb.cwnd() > cwnd / 2, "too big is not congestion");
    server.receive_all(T0, &again);
    settle(T0, &mut client, &mut server);
    assert_eq!(server.tcb.received(), 4 * MSS);
    let forged = IcmpError::PacketTooBig { mss: 0 };
    client.write(1);
    let packets = client.poll(T0);
    client
        .tcb
        .on_icmp_error(T0, forged, packets[0].segment().seq);
    assert_eq!(client.tcb.mss(), 512 - 12, "a forged one has a floor");
}

#[test]
fn after_a_timeout_segments_leave_room_for_the_reports_beside_them() {
    let cfg = TcpConfig {
        timestamps: false,
        ..TcpConfig::default()
    };
    let (mut client, _) = established(&cfg, &SocketOptions::default());
    let mss = u64::from(client.tcb.mss());
    client.write(mss);
    assert_eq!(client.poll(T0).len(), 1);
    // It does not arrive, and of what the peer sends, the first segment does not.
    let hole = Crafted {
        seq: client.tcb.irs.at(101),
        ack: client.tcb.iss.at(1),
        ..client.peer_segment()
    };
    let _ = client.receive(after(1), &hole.carrying(100, 100).packet());
    client.poll(after(1));
    for _ in 0..5 {
        let at = expire_fully(&mut client);
        let again = client.poll(at);
        let first = again[0].segment();
        assert_eq!(first.seq, client.tcb.iss.at(1), "it goes out each time");
        assert_eq!(first.options.sack.as_slice().len(), 1);
        assert!(first.payload.len() as u64 <= mss - 12);
        assert_eq!(again[0].gso_size, 0, "one segment");
    }
}

#[test]
fn a_timeout_repeats_the_first_segment_whatever_the_window() {
    let (mut client, _) = pair(true);
    let mss = client.tcb.send_mss();
    client.write(10 * u64::from(mss));
    let first = client.poll(T0)[0].segment().seq;
    let at = expire_fully(&mut client);
    // As if an algorithm with a window of its own counted all as in flight.
    client.tcb.sent.forget_lost();
    client.tcb.sent.lose_first(|_| {});
    client.tcb.cc.get_mut().set_cwnd(mss);
    assert!(client.tcb.pipe() > u64::from(mss));
    let again = client.poll(at);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].segment().seq, first);
}
