//! Urgent data in both directions (RFC 6093).

use super::*;

fn pair() -> (Host, Host) {
    established(&TcpConfig::default(), &SocketOptions::default())
}

#[test]
fn the_pointer_names_what_follows_the_last_urgent_byte_until_it_is_acknowledged() {
    let (mut client, mut server) = pair();
    client.burst = BURST;
    client.write(5000);
    client.tcb.written_urgent(5000);
    client.write(100);
    let packets = client.poll(T0);
    assert!(packets.len() > 3, "one pointer is right for one segment");
    for packet in &packets {
        let segment = packet.segment();
        let offset = segment.seq.offset_from(client.tcb.iss.at(1)) as u64;
        let urgent = segment.flags.contains(Flags::URG);
        assert_eq!(urgent, offset < 5000);
        if urgent {
            assert_eq!(offset + u64::from(segment.urgent), 5000);
        }
    }
    server.receive_all(T0, &packets);
    assert!(server.events.contains(Events::URGENT));
    assert_eq!(server.tcb.urgent_end(), Some(5000));
    assert_eq!(server.tcb.received(), 5100, "it stays in line");
    settle(after(50), &mut client, &mut server);
    server.events = Events::NONE;
    client.write(100);
    settle(after(60), &mut client, &mut server);
    assert!(!server.events.contains(Events::URGENT));
}

#[test]
fn nagle_does_not_hold_urgent_data() {
    let (mut client, _) = pair();
    client.write(10);
    assert_eq!(client.poll(T0).len(), 1);
    client.write(1);
    assert!(client.poll(T0).is_empty());
    client.write(1);
    client.tcb.written_urgent(12);
    assert_eq!(client.poll(T0).len(), 1);
}

#[test]
fn an_end_beyond_the_reach_of_the_field_is_announced_once_it_is_near() {
    let (mut client, mut server) = pair();
    let mut told = Vec::new();
    client.write(200_000);
    client.tcb.written_urgent(200_000);
    let mut now = T0;
    while server.tcb.received() < 200_000 {
        let packets = client.poll(now);
        for packet in &packets {
            let segment = packet.segment();
            let offset = segment.seq.offset_from(client.tcb.iss.at(1)) as u64;
            if segment.flags.contains(Flags::URG) && segment.urgent < u16::MAX {
                told.push(offset + u64::from(segment.urgent));
            }
        }
        now += Duration::from_millis(5);
        server.receive_all(now, &packets);
        server.read_all(now);
        let acks = server.poll(now);
        client.receive_all(now, &acks);
    }
    assert!(!told.is_empty() && told.iter().all(|end| *end == 200_000));
    assert_eq!(server.tcb.urgent_end(), Some(200_000));
}

#[test]
fn what_was_received_before_does_not_become_urgent() {
    let (_, mut server) = established(&plain(), &SocketOptions::default());
    let peer = server.peer_segment();
    server
        .receive(T0, &peer.clone().carrying(0, 100).packet())
        .unwrap();
    let mut packet = Crafted {
        flags: Flags::ACK | Flags::URG,
        seq: peer.seq + 100,
        ..peer.clone()
    }
    .carrying(100, 10)
    .packet();
    // The pointer of the header: 0 and 1 both name the segment's first byte.
    packet.bytes[18..20].copy_from_slice(&0u16.to_be_bytes());
    server.receive(T0, &packet).unwrap();
    assert_eq!(server.tcb.urgent_end(), Some(101));
    let mut again = Crafted {
        flags: Flags::ACK | Flags::URG,
        seq: peer.seq + 105,
        ..peer
    }
    .carrying(105, 10)
    .packet();
    again.bytes[18..20].copy_from_slice(&3u16.to_be_bytes());
    server.events = Events::NONE;
    server.receive(T0, &again).unwrap();
    assert!(!server.events.contains(Events::URGENT));
    assert_eq!(server.tcb.urgent_end(), Some(101));
}
