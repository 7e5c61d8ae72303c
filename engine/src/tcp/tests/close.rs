//! Ending connections: each way through the FIN states, RST where data would be lost.

use super::*;

fn pair() -> (Host, Host) {
    established(&TcpConfig::default(), &SocketOptions::default())
}

#[test]
fn a_plain_close_passes_through_every_state() {
    let (mut client, mut server) = pair();
    client.write(100);
    client.tcb.close(T0);
    assert_eq!(client.state(), State::FinWait1);
    let packets = client.poll(T0);
    assert_eq!(packets.len(), 1, "the FIN rides on the data");
    server.receive_all(T0, &packets);
    assert_eq!(server.state(), State::CloseWait);
    assert_eq!(server.tcb.received(), 100);
    client.receive_all(T0, &server.poll(T0));
    assert_eq!(client.state(), State::FinWait2);
    server.read_all(T0);
    server.tcb.close(T0);
    assert_eq!(server.state(), State::LastAck);
    client.receive_all(T0, &server.poll(T0));
    assert_eq!(client.state(), State::TimeWait);
    server.receive_all(T0, &client.poll(T0));
    assert!(server.tcb.is_closed() && server.events.contains(Events::CLOSED));
    assert_eq!(
        client.tcb.next_deadline(),
        Some(T0 + Duration::from_secs(60))
    );
    client.expire();
    assert!(client.tcb.is_closed() && client.events.contains(Events::CLOSED));
    assert_eq!((client.tcb.error(), server.tcb.error()), (None, None));
}

#[test]
fn both_ends_may_close_at_once() {
    let (mut client, mut server) = pair();
    client.tcb.close(T0);
    server.tcb.close(T0);
    let (from_client, from_server) = (client.poll(T0), server.poll(T0));
    client.receive_all(T0, &from_server);
    server.receive_all(T0, &from_client);
    assert_eq!(
        (client.state(), server.state()),
        (State::Closing, State::Closing)
    );
    settle(T0, &mut client, &mut server);
    assert_eq!(
        (client.state(), server.state()),
        (State::TimeWait, State::TimeWait)
    );
}

#[test]
fn a_fin_that_acknowledges_ours_skips_fin_wait_2() {
    let (mut client, mut server) = pair();
    client.tcb.close(T0);
    server.receive_all(T0, &client.poll(T0));
    server.tcb.close(T0);
    let answer = server.poll(T0);
    assert_eq!(answer.len(), 1);
    client.receive_all(T0, &answer);
    assert_eq!(client.state(), State::TimeWait);
}

#[test]
fn a_half_closed_connection_still_carries_data_the_other_way() {
    let (mut client, mut server) = pair();
    client.tcb.shutdown_write(T0);
    settle(T0, &mut client, &mut server);
    for _ in 0..10 {
        server.write(50_000);
        settle(T0, &mut client, &mut server);
        client.read_all(T0);
    }
    settle(T0, &mut client, &mut server);
    assert_eq!(client.tcb.received(), 500_000);
    assert_eq!(client.state(), State::FinWait2);
    assert_eq!(
        client.tcb.next_deadline(),
        None,
        "without close, FIN-WAIT-2 waits for ever"
    );
}

#[test]
fn the_ack_of_a_fin_waits_for_the_answer_once_data_has_come() {
    for data in [false, true] {
        let (mut client, mut server) = pair();
        if data {
            client.write(10);
            settle(T0, &mut client, &mut server);
        }
        client.tcb.shutdown_write(T0);
        server.receive_all(T0, &client.poll(T0));
        assert_eq!(server.poll(T0).is_empty(), data);
        if data {
            assert_eq!(server.tcb.next_deadline(), Some(after(40)));
        }
    }
}

#[test]
fn fin_wait_2_ends_after_its_timeout_once_nobody_reads() {
    let (mut client, mut server) = pair();
    client.tcb.shutdown_write(T0);
    settle(T0, &mut client, &mut server);
    client.tcb.close(after(1000));
    assert_eq!(client.tcb.next_deadline(), Some(after(61_000)));
    client.expire();
    assert!(client.tcb.is_closed());
    assert_eq!(client.tcb.error(), None);
}

#[test]
fn closing_with_unread_data_resets() {
    let (mut client, mut server) = pair();
    client.write(10);
    server.receive_all(T0, &client.poll(T0));
    server.tcb.close(T0);
    assert!(!server.tcb.is_closed(), "a RST waits to be sent");
    let packets = server.poll(T0);
    assert!(packets[0].segment().flags.contains(Flags::RST));
    assert!(server.tcb.is_closed());
    client.receive_all(T0, &packets);
    assert_eq!(client.tcb.error(), Some(Error::Reset));
}

#[test]
fn data_after_close_resets() {
    let (mut client, mut server) = pair();
    server.tcb.close(T0);
    settle(T0, &mut client, &mut server);
    client.write(10);
    let events = server.receive(T0, &client.poll(T0)[0]).unwrap();
    assert!(events.contains(Events::CLOSED | Events::SEND));
    client.receive_all(T0, &server.poll(T0));
    assert_eq!(
        client.tcb.error(),
        Some(Error::BrokenPipe),
        "the peer had closed before"
    );
}

#[test]
fn the_reset_of_data_after_close_is_believed_though_the_fin_was_lost() {
    let (mut client, mut server) = pair();
    server.tcb.close(T0);
    assert_eq!(server.poll(T0).len(), 1, "the FIN, which is lost");
    client.write(10);
    server.receive_all(T0, &client.poll(T0));
    assert!(!server.tcb.is_closed(), "a RST waits to be sent");
    let packets = server.poll(T0);
    assert_eq!(packets[0].segment().flags, Flags::RST);
    assert!(server.tcb.is_closed());
    client.receive_all(T0, &packets);
    assert_eq!(client.tcb.error(), Some(Error::Reset));
}

#[test]
fn all_that_was_written_arrives_before_the_fin() {
    let (mut client, mut server) = pair();
    client.write(300_000);
    client.tcb.close(T0);
    for _ in 0..100 {
        settle(T0, &mut client, &mut server);
        server.read_all(T0);
    }
    assert_eq!(server.tcb.received(), 300_000);
    assert!(server.tcb.peer_closed());
    assert_eq!(client.state(), State::FinWait2);
}

#[test]
fn abort_resets_where_the_peer_knows_the_connection() {
    let (mut client, mut server) = pair();
    client.write(10);
    client.tcb.abort();
    let packets = client.poll(T0);
    assert_eq!(packets.len(), 1);
    server.receive_all(T0, &packets);
    assert_eq!(server.tcb.error(), Some(Error::Reset));
    let mut connecting = Host::connect(T0, &plain(), &SocketOptions::default());
    connecting.poll(T0);
    connecting.tcb.abort();
    assert!(
        connecting.tcb.is_closed(),
        "the peer may not have heard of it"
    );
    assert!(connecting.poll(T0).is_empty());
}

#[test]
fn what_may_be_sent_at_once_goes_before_the_reset() {
    let (mut client, mut server) = pair();
    client.write(10);
    client.tcb.abort_behind_data();
    server.receive_all(T0, &client.poll(T0));
    assert_eq!(server.tcb.received(), 10);
    assert_eq!(server.tcb.error(), Some(Error::Reset));
    assert!(client.tcb.is_closed());
}

#[test]
fn a_reset_does_not_wait_for_the_window() {
    let (mut client, mut server) = pair();
    let room = u64::from(client.tcb.cwnd());
    client.write(room + 1000);
    client.tcb.abort_behind_data();
    server.receive_all(T0, &client.poll(T0));
    assert_eq!(server.tcb.received(), room);
    assert_eq!(server.tcb.error(), Some(Error::Reset));
}

#[test]
fn a_lost_fin_is_repeated() {
    let (mut client, mut server) = pair();
    client.tcb.close(T0);
    let lost = client.poll(T0);
    let at = client.expire();
    let again = client.poll(at);
    assert_eq!(again[0].segment().seq, lost[0].segment().seq);
    assert!(again[0].segment().flags.contains(Flags::FIN));
    server.receive_all(at, &again);
    assert_eq!(server.state(), State::CloseWait);
}

#[test]
fn time_wait_acknowledges_a_repeated_fin_and_starts_anew() {
    let (mut client, mut server) = pair();
    client.tcb.close(T0);
    server.receive_all(T0, &client.poll(T0));
    server.tcb.close(T0);
    let fin = server.poll(T0);
    client.receive_all(T0, &fin);
    client.poll(T0);
    assert_eq!(
        client.receive(after(30_000), &fin[0]),
        Err(Drop::OldDuplicate)
    );
    let ack = client.poll(after(30_000));
    assert_eq!(ack[0].segment().flags, Flags::ACK);
    assert_eq!(client.tcb.next_deadline(), Some(after(90_000)));
    server.receive_all(after(30_000), &ack);
    assert!(server.tcb.is_closed());
}

#[test]
fn time_wait_gives_way_to_a_newer_syn_only() {
    let (mut client, mut server) = established(&plain(), &SocketOptions::default());
    let syn = |client: &Host, ahead| {
        let peer = client.peer_segment();
        Crafted {
            flags: Flags::SYN,
            seq: peer.seq + ahead,
            ..peer
        }
        .packet()
    };
    assert!(
        !client.tcb.gives_way_to(&syn(&client, 1000).segment()),
        "not in TIME-WAIT"
    );
    client.tcb.close(T0);
    server.tcb.close(T0);
    settle(T0, &mut client, &mut server);
    assert_eq!(client.state(), State::TimeWait);
    assert!(client.tcb.gives_way_to(&syn(&client, 1000).segment()));
    assert!(
        !client
            .tcb
            .gives_way_to(&syn(&client, 0u32.wrapping_sub(1000)).segment())
    );
    let ack = client.peer_segment().packet();
    assert!(!client.tcb.gives_way_to(&ack.segment()));
}

#[test]
fn time_wait_trusts_timestamps_more_than_sequence_numbers() {
    let (mut client, mut server) = pair();
    client.tcb.close(T0);
    server.tcb.close(T0);
    settle(T0, &mut client, &mut server);
    let (_, recent) = client.tcb.ts.option(T0).unwrap();
    let gives_way = |ahead: u32, stamp: u32| {
        let peer = client.peer_segment();
        let options = Options {
            timestamps: Some((stamp, 0)),
            ..Options::default()
        };
        let syn = Crafted {
            flags: Flags::SYN,
            seq: peer.seq + ahead,
            options,
            ..peer
        };
        client.tcb.gives_way_to(&syn.packet().segment())
    };
    let behind = 0u32.wrapping_sub(1000);
    assert!(gives_way(behind, recent + 1));
    assert!(gives_way(1000, recent) && !gives_way(behind, recent));
    assert!(!gives_way(1000, recent - 1));
}

#[test]
fn a_fin_ahead_of_missing_data_counts_once_the_data_is_there() {
    let (mut client, mut server) = pair();
    client.write(5000);
    client.tcb.shutdown_write(T0);
    let mut packets = client.poll(T0);
    let first = packets.remove(0);
    server.receive_all(T0, &packets);
    assert!(!server.tcb.peer_closed());
    assert_eq!(server.state(), State::Established);
    server.receive_all(T0, &[first]);
    assert!(server.tcb.peer_closed());
    assert_eq!(
        (server.tcb.received(), server.state()),
        (5000, State::CloseWait)
    );
}

#[test]
fn data_beyond_a_fin_is_ignored() {
    let (mut client, mut server) = established(&plain(), &SocketOptions::default());
    let peer = server.peer_segment();
    let fin = Crafted {
        flags: Flags::ACK | Flags::FIN,
        ..peer.clone().carrying(0, 10)
    };
    let ahead = Crafted {
        seq: peer.seq + 5,
        ..fin.clone().carrying(5, 5)
    };
    server.receive(T0, &ahead.packet()).unwrap();
    let beyond = Crafted {
        seq: peer.seq + 5,
        ..peer.carrying(5, 500)
    };
    server.receive(T0, &beyond.packet()).unwrap();
    server
        .receive(
            T0,
            &Crafted {
                flags: Flags::ACK,
                ..fin.clone()
            }
            .packet(),
        )
        .unwrap();
    assert!(server.tcb.peer_closed());
    assert_eq!(server.tcb.received(), 10);
    client.tcb.abort();
}

#[test]
fn a_reset_of_a_finished_connection_is_no_error() {
    let (mut client, mut server) = pair();
    client.tcb.close(T0);
    server.receive_all(T0, &client.poll(T0));
    server.tcb.close(T0);
    let fin = server.poll(T0);
    let reset = Crafted {
        flags: Flags::RST,
        ..server.peer_segment()
    };
    assert!(fin[0].segment().flags.contains(Flags::FIN));
    server.receive(T0, &reset.packet()).unwrap();
    assert!(server.tcb.is_closed());
    assert_eq!(server.tcb.error(), None);
}

#[test]
fn an_orphan_whose_peer_vanished_is_given_up_sooner() {
    let (mut client, _) = pair();
    client.write(10);
    client.tcb.close(T0);
    client.poll(T0);
    while !client.tcb.is_closed() {
        let at = client.expire();
        client.poll(at);
    }
    let counters = client.tcb.info(T0).counters;
    assert_eq!(counters.retransmits - u32::from(counters.tail_probes), 8);
    assert_eq!(client.tcb.error(), Some(Error::TimedOut));
}

/// As Linux (RFC 1122 4.2.2.13): who has shut both halves has nobody left who could take data.
#[test]
fn data_after_shutdown_of_both_halves_is_answered_by_a_reset() {
    let (mut client, mut server) = pair();
    client.tcb.shutdown_read();
    server.write(100);
    client.receive_all(T0, &server.poll(T0));
    assert_eq!(
        client.tcb.received(),
        100,
        "the reading half alone refuses nothing"
    );
    server.receive_all(T0, &client.poll(T0));
    client.tcb.shutdown_write(T0);
    server.receive_all(T0, &client.poll(T0));
    client.receive_all(T0, &server.poll(T0));
    assert_eq!(client.state(), State::FinWait2);
    server.write(100);
    client.receive_all(T0, &server.poll(T0));
    assert_eq!(client.tcb.error(), Some(Error::Reset));
    let packets = client.poll(T0);
    server.receive_all(T0, &packets);
    assert_eq!(server.tcb.error(), Some(Error::BrokenPipe));
}

#[test]
fn an_orphan_whose_window_stays_shut_ends_although_the_peer_answers() {
    let small = SocketOptions {
        recv_buffer: Some(4000),
        ..SocketOptions::default()
    };
    let config = TcpConfig::default();
    let (mut client, mut server) =
        established_between(&config, &SocketOptions::default(), &config, &small);
    client.write(10_000);
    settle(T0, &mut client, &mut server);
    client.tcb.close(T0);
    let mut now = T0;
    while !client.tcb.is_closed() {
        now = client.expire();
        settle(now, &mut client, &mut server);
    }
    assert_eq!(client.tcb.error(), Some(Error::TimedOut));
    let waited = now.since(T0);
    // Linux, with its least timeout of 200 ms: 325 seconds.
    assert!(waited > Duration::from_secs(240) && waited < Duration::from_secs(400));
}
