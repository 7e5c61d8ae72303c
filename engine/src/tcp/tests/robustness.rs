//! Blind attackers (RFC 5961), old duplicates (RFC 7323), and segments that make no sense.

use super::*;

fn pair() -> (Host, Host) {
    established(&plain(), &SocketOptions::default())
}

#[test]
fn only_the_exact_reset_is_believed() {
    let (_, mut server) = pair();
    let peer = Crafted {
        flags: Flags::RST,
        ..server.peer_segment()
    };
    let at = |offset: u32| {
        Crafted {
            seq: peer.seq + offset,
            ..peer.clone()
        }
        .packet()
    };
    assert_eq!(server.receive(T0, &at(1)), Err(Drop::ResetUnproven));
    assert_eq!(server.poll(T0).len(), 1, "a challenge ACK");
    assert_eq!(server.receive(T0, &at(70_000)), Err(Drop::ResetOutOfWindow));
    assert_eq!(
        server.receive(T0, &at(u32::MAX)),
        Err(Drop::ResetOutOfWindow)
    );
    assert!(server.poll(T0).is_empty());
    assert_eq!(server.state(), State::Established);
    let events = server.receive(T0, &at(0)).unwrap();
    assert!(events.contains(Events::ERROR | Events::CLOSED));
    assert_eq!(server.tcb.error(), Some(Error::Reset));
}

#[test]
fn a_syn_inside_a_connection_is_challenged() {
    let (_, mut server) = pair();
    for offset in [0, 5, 60_000] {
        let peer = server.peer_segment();
        let syn = Crafted {
            flags: Flags::SYN,
            seq: peer.seq + offset,
            ..peer
        };
        assert_eq!(server.receive(T0, &syn.packet()), Err(Drop::UnexpectedSyn));
    }
    assert_eq!(server.state(), State::Established);
    assert_eq!(server.poll(T0).len(), 1);
}

#[test]
fn challenges_are_bounded() {
    let (_, mut server) = pair();
    let peer = Crafted {
        flags: Flags::SYN,
        ..server.peer_segment()
    };
    let mut answers = 0;
    for millis in 0..2000 {
        let _ = server.receive(after(millis), &peer.packet());
        answers += server.poll(after(millis)).len();
    }
    assert_eq!(answers, 4);
}

#[test]
fn acks_of_the_unsent_and_of_the_distant_past_are_dropped() {
    let (_, mut server) = pair();
    let peer = server.peer_segment();
    let future = Crafted {
        ack: peer.ack + 1,
        ..peer.clone()
    };
    assert_eq!(server.receive(T0, &future.packet()), Err(Drop::AckOfUnsent));
    assert_eq!(server.poll(T0).len(), 1, "it is told where we are");
    let past = Crafted {
        ack: peer.ack - 0x1_0000_u32,
        ..peer.clone()
    };
    assert_eq!(server.receive(T0, &past.packet()), Err(Drop::AckTooOld));
    let data = future.carrying(0, 10);
    assert_eq!(server.receive(T0, &data.packet()), Err(Drop::AckOfUnsent));
    assert_eq!(server.tcb.received(), 0, "nor does its data count");
}

#[test]
fn a_segment_without_ack_is_dropped() {
    let (_, mut server) = pair();
    for flags in [Flags(0), Flags::PSH, Flags::FIN, Flags::URG] {
        let odd = Crafted {
            flags,
            ..server.peer_segment()
        }
        .carrying(0, 5);
        assert_eq!(server.receive(T0, &odd.packet()), Err(Drop::NoAck));
    }
    assert_eq!(server.tcb.received(), 0);
}

#[test]
fn data_outside_the_window_is_dropped_and_answered() {
    let (_, mut server) = pair();
    let peer = server.peer_segment();
    for (offset, reason) in [
        (70_000, Drop::OutOfWindow),
        (0u32.wrapping_sub(10), Drop::OldDuplicate),
    ] {
        let stray = Crafted {
            seq: peer.seq + offset,
            ..peer.clone()
        }
        .carrying(0, 10);
        assert_eq!(server.receive(T0, &stray.packet()), Err(reason));
        assert_eq!(server.poll(T0).len(), 1);
    }
}

#[test]
fn data_that_passes_the_right_edge_is_cut_there() {
    let buffer = SocketOptions {
        recv_buffer: Some(1000),
        ..SocketOptions::default()
    };
    let (_, mut server) = established(&plain(), &buffer);
    let big = server.peer_segment().carrying(0, 1500);
    server.receive(T0, &big.packet()).unwrap();
    assert_eq!(server.tcb.received(), 1000);
}

#[test]
fn an_ack_counts_even_if_its_data_meets_a_shut_window() {
    let buffer = SocketOptions {
        recv_buffer: Some(1000),
        ..SocketOptions::default()
    };
    let (_, mut server) = established(&plain(), &buffer);
    let fill = server.peer_segment().carrying(0, 1000);
    server.receive(T0, &fill.packet()).unwrap();
    server.write(500);
    server.poll(T0);
    let over = server.peer_segment().carrying(1000, 10);
    server.receive(T0, &over.packet()).unwrap();
    assert_eq!((server.tcb.acked(), server.tcb.received()), (500, 1000));
}

#[test]
fn an_older_timestamp_is_dropped_and_answered() {
    let (mut client, mut server) = established(&TcpConfig::default(), &SocketOptions::default());
    client.write(10);
    let old = client.poll(after(10));
    client.write(10);
    let (value, echo) = client.tcb.ts.option(after(20)).unwrap();
    let options = Options {
        timestamps: Some((value, echo)),
        ..Options::default()
    };
    let newer = Crafted {
        options,
        ..server.peer_segment()
    };
    server.receive(after(20), &newer.packet()).unwrap();
    assert_eq!(server.receive(after(30), &old[0]), Err(Drop::Paws));
    assert_eq!(server.tcb.received(), 0);
    assert_eq!(server.poll(after(30)).len(), 1);
    let reset = Crafted {
        flags: Flags::RST,
        options: old[0].segment().options,
        ..newer
    };
    server.receive(after(30), &reset.packet()).unwrap();
    assert!(server.tcb.is_closed(), "a RST is not held to its timestamp");
}

#[test]
fn a_segment_without_the_negotiated_timestamp_is_dropped() {
    let (_, mut server) = established(&TcpConfig::default(), &SocketOptions::default());
    let bare = server.peer_segment().carrying(0, 10);
    assert_eq!(server.receive(T0, &bare.packet()), Err(Drop::NoTimestamp));
}

#[test]
fn urgent_data_stays_in_the_stream() {
    let (_, mut server) = pair();
    let urgent = Crafted {
        flags: Flags::ACK | Flags::URG,
        ..server.peer_segment()
    };
    server
        .receive(T0, &urgent.carrying(0, 10).packet())
        .unwrap();
    assert_eq!(server.tcb.received(), 10);
}

#[test]
fn holes_are_bounded() {
    let (_, mut server) = pair();
    let peer = server.peer_segment();
    let mut refused = 0;
    for n in 1..200u32 {
        let piece = Crafted {
            seq: peer.seq + 2 * n,
            ..peer.clone()
        };
        let events = server
            .receive(T0, &piece.carrying((2 * n).into(), 1).packet())
            .unwrap();
        refused += u32::from(events.payload_drop() == Some(Drop::TooManyHoles));
    }
    assert!(refused > 100);
    server.receive(T0, &peer.carrying(0, 400).packet()).unwrap();
    assert_eq!(server.tcb.received(), 400);
}

#[test]
fn a_closed_connection_takes_nothing() {
    let (mut client, mut server) = pair();
    client.tcb.abort();
    server.receive_all(T0, &client.poll(T0));
    client.write(10);
    let data = server.peer_segment().carrying(0, 10);
    assert_eq!(server.receive(T0, &data.packet()), Err(Drop::Closed));
    assert!(server.poll(T0).is_empty() && client.poll(T0).is_empty());
    assert_eq!(server.tcb.next_deadline(), None);
}

#[test]
fn two_ends_that_disagree_do_not_answer_each_other_for_ever() {
    let (mut client, _) = pair();
    let (_, mut server) = pair();
    server.tcb.iss = SeqNum(77);
    server.tcb.irs = SeqNum(0x4000_0000);
    client.tcb.ack.due = true;
    let mut sent = 0;
    for _ in 0..50 {
        let (to_server, to_client) = (client.poll(T0), server.poll(T0));
        sent += to_server.len() + to_client.len();
        server.receive_all(T0, &to_server);
        client.receive_all(T0, &to_client);
    }
    assert!(sent <= 4, "{sent} segments");
}
