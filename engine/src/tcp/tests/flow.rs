//! Windows, Nagle, cork, delayed ACKs, super-segments: when data and ACKs go out.

use super::*;

const MSS: u64 = 1448;

fn pair() -> (Host, Host) {
    established(&TcpConfig::default(), &SocketOptions::default())
}

fn settled(cfg: TcpConfig) -> (Host, Host) {
    let cfg = TcpConfig {
        quick_acks: 0,
        ..cfg
    };
    established(&cfg, &SocketOptions::default())
}

fn lens(packets: &[Packet]) -> Vec<u64> {
    packets
        .iter()
        .map(|packet| packet.segment().payload.len() as u64)
        .collect()
}

#[test]
fn the_initial_window_is_ten_segments() {
    let (mut client, _) = pair();
    client.write(100_000);
    assert_eq!(lens(&client.poll(T0)), [MSS; 10]);
}

#[test]
fn super_segments_are_whole_multiples_and_carry_their_cut() {
    let (mut client, mut server) = pair();
    client.burst = BURST;
    client.write(5 * MSS + 100);
    let packets = client.poll(T0);
    assert_eq!(
        lens(&packets),
        [5 * MSS + 100],
        "all that is written goes in one piece"
    );
    assert_eq!(u64::from(packets[0].gso_size), MSS);
    assert!(packets[0].segment().flags.contains(Flags::PSH));
    client.write(50_000);
    let packets = client.poll(T0);
    assert_eq!(
        lens(&packets),
        [4 * MSS],
        "the window leaves room for whole segments only"
    );
    assert!(packets[0].segment().flags.contains(Flags::PSH));
    server.receive_all(T0, &packets);
}

#[test]
fn a_super_segment_never_exceeds_what_the_caller_takes() {
    let (mut client, mut server) = pair();
    client.write(8 * MSS);
    client.burst = 3 * MSS as usize + 700;
    let packets = client.poll(T0);
    assert_eq!(lens(&packets), [3 * MSS, 3 * MSS, 2 * MSS]);
    server.receive_all(T0, &packets);
    assert_eq!(server.tcb.received(), 8 * MSS);
}

#[test]
fn push_marks_the_end_of_what_is_written() {
    let (mut client, _) = pair();
    client.write(3 * MSS);
    let pushed: Vec<_> = client
        .poll(T0)
        .iter()
        .map(|p| p.segment().flags.contains(Flags::PSH))
        .collect();
    assert_eq!(pushed, [false, false, true]);
}

#[test]
fn nagle_holds_a_second_small_segment_until_the_first_is_acknowledged() {
    let (mut client, mut server) = pair();
    client.write(10);
    let first = client.poll(T0);
    client.write(10);
    assert!(client.poll(T0).is_empty());
    client.write(MSS);
    assert_eq!(
        lens(&client.poll(T0)),
        [MSS],
        "a full segment does not wait"
    );
    server.receive_all(T0, &first);
    client.receive_all(T0, &server.poll(T0));
    assert_eq!(lens(&client.poll(T0)), [10]);
}

#[test]
fn nodelay_sends_at_once_even_what_nagle_was_holding() {
    let (mut client, _) = pair();
    client.write(10);
    client.poll(T0);
    client.write(10);
    assert!(client.poll(T0).is_empty());
    client.tcb.set_options(
        T0,
        &SocketOptions {
            nodelay: true,
            ..SocketOptions::default()
        },
    );
    assert_eq!(lens(&client.poll(T0)), [10]);
    client.write(7);
    assert_eq!(lens(&client.poll(T0)), [7]);
}

#[test]
fn a_cork_holds_partial_segments_for_at_most_200_ms() {
    let (mut client, _) = pair();
    let corked = SocketOptions {
        cork: true,
        nodelay: true,
        ..SocketOptions::default()
    };
    client.tcb.set_options(T0, &corked);
    client.write(MSS + 10);
    assert_eq!(lens(&client.poll(T0)), [MSS]);
    assert_eq!(client.tcb.next_deadline(), Some(after(200)));
    client.expire();
    assert_eq!(lens(&client.poll(after(200))), [10]);
}

#[test]
fn pulling_the_cork_or_closing_sends_what_it_held() {
    for close in [false, true] {
        let (mut client, _) = pair();
        client.tcb.set_options(
            T0,
            &SocketOptions {
                cork: true,
                ..SocketOptions::default()
            },
        );
        client.write(10);
        assert!(client.poll(T0).is_empty());
        if close {
            client.tcb.shutdown_write(T0);
        } else {
            client.tcb.set_options(T0, &SocketOptions::default());
        }
        assert_eq!(lens(&client.poll(T0)), [10]);
    }
}

#[test]
fn an_acknowledgement_ends_the_wait_for_more() {
    let (mut client, mut server) = settled(TcpConfig::default());
    client.write(2 * MSS);
    let sent = client.poll(T0);
    client.written += 10;
    client.tcb.written_more(client.written, true);
    assert!(client.poll(T0).is_empty());
    server.receive_all(T0, &sent);
    client.receive_all(T0, &server.poll(T0));
    assert_eq!(lens(&client.poll(T0)), [10]);
}

#[test]
fn setting_nodelay_again_sends_what_a_cork_holds() {
    let (mut client, _) = pair();
    let options = SocketOptions {
        nodelay: true,
        cork: true,
        ..SocketOptions::default()
    };
    client.tcb.set_options(T0, &options);
    client.write(10);
    assert!(client.poll(T0).is_empty());
    client.tcb.set_options(T0, &options);
    assert_eq!(lens(&client.poll(T0)), [10]);
}

#[test]
fn more_to_come_holds_a_write_until_the_next_one() {
    let (mut client, _) = pair();
    client.written = 10;
    client.tcb.written_more(10, true);
    assert!(client.poll(T0).is_empty());
    client.write(5);
    assert_eq!(lens(&client.poll(T0)), [15]);
}

#[test]
fn every_second_full_segment_is_acknowledged() {
    let (mut client, mut server) = settled(TcpConfig::default());
    client.write(4 * MSS);
    let packets = client.poll(T0);
    let answers: Vec<_> = packets
        .iter()
        .map(|packet| {
            server.receive_all(T0, std::slice::from_ref(packet));
            server.poll(T0).len()
        })
        .collect();
    assert_eq!(answers, [0, 1, 0, 1]);
}

#[test]
fn a_lone_segment_is_acknowledged_after_40_ms() {
    let (mut client, mut server) = settled(TcpConfig::default());
    client.write(100);
    server.receive_all(T0, &client.poll(T0));
    assert!(server.poll(T0).is_empty());
    assert_eq!(server.tcb.next_deadline(), Some(after(40)));
    server.expire();
    assert_eq!(server.poll(after(40)).len(), 1);
    assert_eq!(server.tcb.next_deadline(), None);
}

#[test]
fn an_answer_carries_the_delayed_ack() {
    let (mut client, mut server) = settled(TcpConfig::default());
    client.write(100);
    server.receive_all(T0, &client.poll(T0));
    server.write(100);
    let packets = server.poll(after(1));
    assert_eq!(lens(&packets), [100]);
    assert_eq!(packets[0].segment().ack, client.tcb.iss.at(101));
    client.receive_all(after(1), &packets);
    assert_eq!(client.tcb.acked(), 100);
}

fn patient() -> (Host, Host) {
    let cfg = TcpConfig {
        quick_ack_delay: Duration::from_millis(5),
        ..TcpConfig::default()
    };
    established(&cfg, &SocketOptions::default())
}

#[test]
fn a_quick_ack_waits_for_the_answer_to_carry_it() {
    let (mut client, mut server) = patient();
    client.write(100);
    server.receive_all(T0, &client.poll(T0));
    assert!(server.tcb.puts_off_ack());
    assert!(server.poll(T0).is_empty());
    server.write(100);
    client.receive_all(T0, &server.poll(T0));
    assert_eq!(client.tcb.acked(), 100);
    assert!(!server.tcb.acknowledge_put_off(), "the answer carried it");
    assert!(server.poll(T0).is_empty());
}

#[test]
fn a_quick_ack_leaves_once_no_answer_is_expected() {
    let (mut client, mut server) = patient();
    client.write(100);
    server.receive_all(T0, &client.poll(T0));
    assert!(server.tcb.acknowledge_put_off());
    client.receive_all(T0, &server.poll(T0));
    assert_eq!(client.tcb.acked(), 100);
    assert!(!server.tcb.puts_off_ack());
}

#[test]
fn a_quick_ack_leaves_after_its_delay_in_any_case() {
    let (mut client, mut server) = patient();
    client.write(100);
    server.receive_all(T0, &client.poll(T0));
    assert_eq!(server.tcb.next_deadline(), Some(after(5)));
    server.expire();
    assert_eq!(server.poll(after(5)).len(), 1);
    assert!(!server.tcb.acknowledge_put_off());
}

#[test]
fn what_was_read_to_the_end_is_acknowledged_where_no_answer_is_likely() {
    let (mut client, mut server) = settled(TcpConfig::default());
    for _ in 0..3 {
        client.write(100);
        server.receive_all(T0, &client.poll(T0));
        assert_eq!(server.tcb.window_update_at(), server.tcb.received());
        server.tcb.consumed(T0, server.tcb.received() - 1);
        assert!(server.poll(T0).is_empty(), "one byte is left");
        server.read_all(T0);
        client.receive_all(T0, &server.poll(T0));
        assert_eq!(client.tcb.unsent() + client.tcb.in_flight(), 0);
    }
}

#[test]
fn in_a_dialogue_reading_leaves_the_ack_to_the_answer() {
    let (mut client, mut server) = settled(TcpConfig::default());
    let ask = |client: &mut Host, server: &mut Host, ms| {
        client.write(100);
        server.receive_all(after(ms), &client.poll(after(ms)));
    };
    for ms in [0, 2] {
        ask(&mut client, &mut server, ms);
        server.write(100);
        client.receive_all(after(ms + 1), &server.poll(after(ms + 1)));
    }
    ask(&mut client, &mut server, 4);
    assert!(server.tcb.window_update_at() > server.tcb.received());
    server.read_all(after(4));
    assert!(server.poll(after(4)).is_empty());
}

#[test]
fn a_merged_super_segment_is_acknowledged_at_once() {
    let (mut client, mut server) = settled(TcpConfig::default());
    client.burst = BURST;
    client.write(6 * MSS);
    server.receive_all(T0, &client.poll(T0));
    assert_eq!(server.poll(T0).len(), 1);
}

#[test]
fn quickack_acknowledges_each_segment() {
    let (mut client, mut server) = settled(TcpConfig::default());
    client.tcb.set_options(
        T0,
        &SocketOptions {
            nodelay: true,
            ..SocketOptions::default()
        },
    );
    server.tcb.set_options(
        T0,
        &SocketOptions {
            quickack: true,
            ..SocketOptions::default()
        },
    );
    for _ in 0..50 {
        client.write(10);
        server.receive_all(T0, &client.poll(T0));
        assert_eq!(server.poll(T0).len(), 1);
    }
}

#[test]
fn disorder_is_acknowledged_at_once_with_what_is_held() {
    let (mut client, mut server) = settled(TcpConfig::default());
    client.write(8 * MSS);
    let packets = client.poll(T0);
    let ack = |server: &mut Host, n: usize| {
        server.receive_all(T0, &packets[n..=n]);
        let acks = server.poll(T0);
        assert_eq!(acks.len(), 1, "segment {n}");
        let (irs, segment) = (server.tcb.irs, acks[0].segment());
        let blocks = segment.options.sack;
        let unit = |seq: SeqNum| seq.0.wrapping_sub(irs.0 + 1) / MSS as u32;
        let held: Vec<_> = blocks
            .as_slice()
            .iter()
            .map(|(l, r)| (unit(*l), unit(*r)))
            .collect();
        (unit(segment.ack), held)
    };
    assert_eq!(ack(&mut server, 1), (0, vec![(1, 2)]));
    assert_eq!(
        ack(&mut server, 3),
        (0, vec![(3, 4), (1, 2)]),
        "the latest first"
    );
    assert_eq!(ack(&mut server, 5), (0, vec![(5, 6), (3, 4), (1, 2)]));
    assert_eq!(
        ack(&mut server, 7),
        (0, vec![(7, 8), (5, 6), (3, 4)]),
        "no more than three"
    );
    assert_eq!(ack(&mut server, 2), (0, vec![(1, 4), (7, 8), (5, 6)]));
    assert_eq!(
        ack(&mut server, 0),
        (4, vec![(7, 8), (5, 6)]),
        "a filled gap"
    );
    assert_eq!(ack(&mut server, 0).0, 4, "a duplicate");
}

#[test]
fn a_peer_without_sack_gets_a_duplicate_ack_for_each_segment_of_a_burst() {
    let (mut client, mut server) = settled(plain());
    client.write(5 * 1460);
    let packets = client.poll(T0);
    server.receive_all(T0, &packets[1..]);
    assert_eq!(server.poll(T0).len(), 4);
    server.receive_all(T0, &packets[1..4]);
    server.receive_all(T0, &packets[..1]);
    assert_eq!(server.poll(T0).len(), 1, "a filled gap ends them");
}

#[test]
fn overlapping_segments_are_trimmed() {
    let (_, mut server) = established(&plain(), &SocketOptions::default());
    let peer = server.peer_segment();
    for (from, len) in [(100u32, 50), (0, 60), (40, 80), (10, 20), (0, 200)] {
        let segment = Crafted {
            seq: peer.seq + from,
            ..peer.clone()
        };
        let _ = server.receive(T0, &segment.carrying(from.into(), len).packet());
    }
    assert_eq!(server.tcb.received(), 200);
}

#[test]
fn zero_window_is_probed_until_it_opens() {
    let small = SocketOptions {
        recv_buffer: Some(4000),
        ..SocketOptions::default()
    };
    let (mut client, mut server) = established_between(
        &TcpConfig::default(),
        &SocketOptions::default(),
        &TcpConfig::default(),
        &small,
    );
    client.write(10_000);
    settle(T0, &mut client, &mut server);
    let filled = server.tcb.received();
    assert!(filled > 4000 - MSS);
    let mut now = T0;
    let mut pauses = Vec::new();
    for _ in 0..40 {
        let at = client.expire();
        pauses.push(at.since(now));
        now = at;
        settle(now, &mut client, &mut server);
        assert_eq!(server.tcb.received(), client.tcb.acked());
    }
    assert_eq!(
        client.state(),
        State::Established,
        "the peer answers, however long it takes"
    );
    // The first pause ends with what little fits into the window, then it is shut.
    assert!(pauses[1..].is_sorted() && *pauses.last().unwrap() == Duration::from_secs(120));
    // The window opens, but the update is lost: the next probe finds out.
    server.read_all(now);
    assert_eq!(server.poll(now).len(), 1);
    for _ in 0..10 {
        now = client.expire();
        settle(now, &mut client, &mut server);
        server.read_all(now);
        settle(now, &mut client, &mut server);
        if server.tcb.received() == 10_000 {
            return;
        }
    }
    panic!("the stream never ends");
}

#[test]
fn unanswered_probes_end_the_connection() {
    let (mut client, mut server) = pair();
    client.write(200_000);
    let shut = Crafted {
        window: 0,
        options: stamped(&client),
        ..client.peer_segment()
    };
    client.receive(T0, &shut.packet()).unwrap();
    assert!(client.poll(T0).is_empty());
    server.tcb.abort();
    let mut probes = 0;
    while !client.tcb.is_closed() {
        let at = client.expire();
        probes += client.poll(at).len();
    }
    assert_eq!(client.tcb.error(), Some(Error::TimedOut));
    assert_eq!(probes, 15);
}

fn stamped(host: &Host) -> Options {
    let (value, _) = host.tcb.ts.option(T0).unwrap();
    Options {
        timestamps: Some((0x7fff_ffff, value)),
        ..Options::default()
    }
}

#[test]
fn a_probe_carries_no_data_beyond_a_shut_window() {
    let (mut client, _) = established(&plain(), &SocketOptions::default());
    let shut = Crafted {
        window: 0,
        ..client.peer_segment()
    };
    client.receive(T0, &shut.packet()).unwrap();
    client.write(100);
    assert!(client.poll(T0).is_empty());
    let at = client.expire();
    let probe = client.poll(at);
    assert_eq!(lens(&probe), [0]);
    assert_eq!(
        probe[0].segment().seq,
        client.tcb.iss.at(0),
        "one below SND.UNA"
    );
}

#[test]
fn a_window_too_narrow_for_a_segment_is_used_after_a_while() {
    let (mut client, _) = established(&plain(), &SocketOptions::default());
    client.write(5000);
    let narrow = Crafted {
        window: 100,
        ..client.peer_segment()
    };
    client.receive(T0, &narrow.packet()).unwrap();
    assert!(client.poll(T0).is_empty(), "silly");
    let at = client.expire();
    assert_eq!(lens(&client.poll(at)), [100]);
}

#[test]
fn a_peer_with_a_tiny_buffer_gets_segments_of_half_of_it() {
    let tiny = SocketOptions {
        recv_buffer: Some(1000),
        ..SocketOptions::default()
    };
    let (mut client, mut server) = established_between(
        &TcpConfig::default(),
        &SocketOptions::default(),
        &TcpConfig::default(),
        &tiny,
    );
    client.write(4000);
    for _ in 0..20 {
        settle(T0, &mut client, &mut server);
        server.read_all(T0);
    }
    assert_eq!(server.tcb.received(), 4000, "without waiting for any timer");
}

#[test]
fn reading_reopens_a_shut_window_without_being_asked() {
    let small = SocketOptions {
        recv_buffer: Some(10_000),
        ..SocketOptions::default()
    };
    let (mut client, mut server) = established_between(
        &TcpConfig::default(),
        &SocketOptions::default(),
        &TcpConfig::default(),
        &small,
    );
    client.write(100_000);
    let mut rounds = 0;
    while server.tcb.received() < 100_000 {
        settle(T0, &mut client, &mut server);
        server.read_all(T0);
        rounds += 1;
        assert!(rounds < 100, "stuck at {}", server.tcb.received());
    }
}

#[test]
fn a_window_update_is_due_exactly_where_it_is_announced() {
    let small = SocketOptions {
        recv_buffer: Some(10_000),
        ..SocketOptions::default()
    };
    let (mut client, mut server) = established_between(
        &TcpConfig::default(),
        &SocketOptions::default(),
        &TcpConfig::default(),
        &small,
    );
    client.write(20_000);
    settle(T0, &mut client, &mut server);
    let at = server.tcb.window_update_at();
    assert!(at > 0 && at <= server.tcb.received());
    server.tcb.consumed(T0, at - 1);
    assert!(server.poll(T0).is_empty());
    server.tcb.consumed(T0, at);
    server.read = at;
    assert_eq!(server.poll(T0).len(), 1);
}

#[test]
fn the_receive_buffer_grows_for_a_fast_reader_and_not_for_a_slow_one() {
    for fast in [true, false] {
        let (mut client, mut server) = pair();
        client.burst = BURST;
        let mut now = T0;
        for _ in 0..400 {
            client.write(50_000u64.saturating_sub(client.tcb.unsent()));
            let packets = client.poll(now);
            now += Duration::from_millis(5);
            server.receive_all(now, &packets);
            if fast {
                server.read_all(now);
            } else {
                server.read = server.tcb.received().min(server.read + 1000);
                server.tcb.consumed(now, server.read);
            }
            let acks = server.poll(now);
            now += Duration::from_millis(5);
            client.receive_all(now, &acks);
        }
        let buffer = server.tcb.recv_buffer();
        assert_eq!(buffer > 64 << 10, fast, "{buffer}");
        assert!(buffer <= 6 << 20);
    }
}

#[test]
fn a_buffer_that_was_set_does_not_grow() {
    let set = SocketOptions {
        recv_buffer: Some(70_000),
        ..SocketOptions::default()
    };
    let (mut client, mut server) = established(&TcpConfig::default(), &set);
    for step in 0..200 {
        client.write(20_000);
        settle(after(step), &mut client, &mut server);
        server.read_all(after(step));
    }
    assert_eq!(server.tcb.recv_buffer(), 70_000);
}

#[test]
fn cursors_that_lie_are_brought_into_bounds() {
    let (mut client, mut server) = pair();
    client.write(5000);
    settle(T0, &mut client, &mut server);
    server.tcb.consumed(T0, u64::MAX);
    assert_eq!(server.tcb.rcv.read, 5001);
    server.tcb.consumed(T0, 0);
    assert_eq!(server.tcb.rcv.read, 5001);
    client.tcb.written(100);
    assert_eq!(client.tcb.unsent(), 0, "what was written stays written");
}

#[test]
fn a_stream_without_room_gets_the_bytes_again() {
    let (mut client, mut server) = pair();
    client.write(1000);
    let packets = client.poll(T0);
    server.rx.full = true;
    let events = server.receive(T0, &packets[0]).unwrap();
    assert_eq!(events.payload_drop(), Some(Drop::NoRoom));
    assert_eq!(server.tcb.received(), 0);
    server.rx.full = false;
    settle(T0, &mut client, &mut server);
    let at = client.expire();
    settle(at, &mut client, &mut server);
    assert_eq!(server.tcb.received(), 1000);
}

#[test]
fn no_segment_crosses_the_end_of_a_record_be_it_sent_first_or_again() {
    let (mut client, mut server) = pair();
    client.write(MSS + 100);
    client.tcb.end_record(MSS + 100);
    client.write(50);
    client.tcb.end_record(MSS + 150);
    client.write(2 * MSS);
    let sent = client.poll(T0);
    assert_eq!(lens(&sent), [MSS, 100, 50, MSS, MSS]);
    let pushed: Vec<bool> = sent
        .iter()
        .map(|packet| packet.segment().flags.contains(Flags::PSH))
        .collect();
    assert_eq!(pushed, [false, true, true, false, true]);
    let ends = [&sent[2], &sent[3]].map(|packet| packet.segment().seq);
    let crosses = |packet: &Packet| {
        let segment = packet.segment();
        let behind = segment.seq + segment.payload.len() as u32;
        ends.iter()
            .any(|end| segment.seq.before(*end) && behind.after(*end))
    };
    // Only the last segment arrives.
    server.receive_all(T0, &sent[4..]);
    client.receive_all(T0, &server.poll(T0));
    let mut again = Vec::new();
    while server.tcb.received() < 3 * MSS + 150 {
        let at = client.expire();
        let packets = client.poll(at);
        server.receive_all(at, &packets);
        again.extend(packets);
        client.receive_all(at, &server.poll(at));
    }
    assert!(again.len() >= 4);
    assert!(!again.iter().any(crosses), "{again:?}");
}

#[test]
fn the_probe_of_a_lost_tail_stays_inside_the_last_record() {
    let (mut client, _) = pair();
    client.write(100);
    client.tcb.end_record(100);
    client.write(50);
    client.tcb.end_record(150);
    let sent = client.poll(T0);
    assert_eq!(lens(&sent), [100], "the last record waits for Nagle");
    client.tcb.set_options(
        T0,
        &SocketOptions {
            nodelay: true,
            ..SocketOptions::default()
        },
    );
    assert_eq!(lens(&client.poll(T0)), [50]);
    let at = client.expire();
    assert_eq!(lens(&client.poll(at)), [50]);
}
