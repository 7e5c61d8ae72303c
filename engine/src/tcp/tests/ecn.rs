//! Congestion marks: who asks for them, what carries them, and how they are answered.

use super::*;

const MSS: u64 = 1448;

fn mode(ecn: EcnMode) -> TcpConfig {
    TcpConfig {
        ecn,
        ..TcpConfig::default()
    }
}

fn nodelay() -> SocketOptions {
    SocketOptions {
        nodelay: true,
        ..SocketOptions::default()
    }
}

fn asking() -> (Host, Host) {
    established(&mode(EcnMode::On), &nodelay())
}

fn with_algorithm(congestion: Algorithm) -> (Host, Host) {
    let cfg = TcpConfig {
        congestion,
        ..mode(EcnMode::On)
    };
    established(&cfg, &nodelay())
}

fn marked(packet: &Packet) -> Packet {
    Packet {
        ecn: Codepoint::Ce,
        ..packet.clone()
    }
}

fn flags(packet: &Packet) -> Flags {
    packet.segment().flags
}

#[test]
fn marks_are_used_when_one_end_asks_and_the_other_agrees() {
    use EcnMode::{Off, On, Passive};
    for (client, server, on) in [
        (On, On, true),
        (On, Passive, true),
        (On, Off, false),
        (Passive, On, false),
        (Passive, Passive, false),
        (Off, On, false),
    ] {
        let opts = nodelay();
        let (client_end, server_end) =
            established_between(&mode(client), &opts, &mode(server), &opts);
        let agreed = (client_end.tcb.info(T0).ecn, server_end.tcb.info(T0).ecn);
        assert_eq!(agreed, (on, on), "{client:?} and {server:?}");
    }
}

#[test]
fn a_syn_ack_with_both_flags_is_no_agreement() {
    let mut client = Host::connect(T0, &mode(EcnMode::On), &nodelay());
    client.poll(T0);
    let mut syn_ack = Crafted {
        seq: SeqNum(5000),
        flags: Flags::SYN | Flags::ACK | Flags::ECE | Flags::CWR,
        ..client.peer_segment()
    };
    syn_ack.ack = client.tcb.iss.at(1);
    client.receive(T0, &syn_ack.packet()).unwrap();
    assert_eq!(client.state(), State::Established);
    assert!(!client.tcb.info(T0).ecn);
}

#[test]
fn a_marked_syn_is_refused_marks() {
    let mut client = Host::connect(T0, &mode(EcnMode::On), &nodelay());
    let syn = client.poll(T0).remove(0);
    let server = Host::accept(T0, &mode(EcnMode::On), &nodelay(), &marked(&syn));
    assert!(!server.tcb.info(T0).ecn);
}

#[test]
fn a_syn_that_is_sent_again_no_longer_asks() {
    let mut client = Host::connect(T0, &mode(EcnMode::On), &nodelay());
    let syn = client.poll(T0);
    assert!(flags(&syn[0]).contains(Flags::ECE | Flags::CWR));
    let at = client.expire();
    let again = client.poll(at);
    assert_eq!(flags(&again[0]), Flags::SYN);
    let mut server = Host::accept(at, &mode(EcnMode::On), &nodelay(), &syn[0]);
    client.receive_all(at, &server.poll(at));
    assert!(!client.tcb.info(at).ecn);
}

#[test]
fn only_new_data_can_be_marked() {
    let (mut client, mut server) = asking();
    client.write(MSS);
    let data = client.poll(T0);
    assert_eq!(data[0].ecn, Codepoint::Ect0);
    let at = client.expire();
    let again = client.poll(at);
    assert!(again.iter().all(|p| p.ecn == Codepoint::NotEct), "a copy");
    server.receive_all(at, &again);
    assert_eq!(server.poll(at)[0].ecn, Codepoint::NotEct, "a pure ACK");
}

#[test]
fn a_mark_is_echoed_until_the_sender_says_it_has_slowed_down() {
    let (mut client, mut server) = asking();
    client.write(20 * MSS);
    let data = client.poll(T0);
    server.receive_all(T0, &[data[0].clone(), marked(&data[1])]);
    let acks = server.poll(T0);
    assert!(flags(&acks[0]).contains(Flags::ECE));
    server.receive_all(T0, &data[2..4]);
    let more = server.poll(T0);
    assert!(flags(&more[0]).contains(Flags::ECE), "again");
    let cwnd = client.tcb.cwnd();
    client.receive_all(T0, &acks);
    assert!(client.tcb.info(T0).ssthresh < cwnd);
    assert_eq!(client.tcb.info(T0).counters.marked_in, 0);
    assert_eq!(server.tcb.info(T0).counters.marked_in, 1);
    assert_eq!(
        client.tcb.info(T0).counters.marked_delivered,
        2,
        "all that an echo acknowledges"
    );
    server.receive_all(T0, &data[4..]);
    client.receive_all(T0, &more);
    client.receive_all(T0, &server.poll(T0));
    let next = client.poll(T0);
    assert!(flags(&next[0]).contains(Flags::CWR));
    assert!(
        next[1..].iter().all(|p| !flags(p).contains(Flags::CWR)),
        "once"
    );
    server.receive_all(T0, &next[..1]);
    let answer = server.poll(T0);
    assert!(!flags(&answer[0]).contains(Flags::ECE), "heard");
}

#[test]
fn echoes_of_one_window_reduce_it_once() {
    let (mut client, mut server) = asking();
    client.write(40 * MSS);
    let data: Vec<Packet> = client.poll(T0).iter().map(marked).collect();
    assert_eq!(data.len(), 10);
    let before = client.tcb.cwnd();
    for pair in data.chunks(2) {
        server.receive_all(T0, pair);
        client.receive_all(T0, &server.poll(T0));
    }
    assert_eq!(client.tcb.cwnd(), before * 7 / 10, "by the factor of CUBIC");
    assert_eq!(client.tcb.retransmits(), 0);
}

#[test]
fn the_window_falls_in_step_with_what_arrives_after_a_mark() {
    let (mut client, mut server) = asking();
    client.write(40 * MSS);
    let data = client.poll(T0);
    let mut next = Vec::new();
    for (index, packet) in data.iter().enumerate() {
        let seen = if index == 0 {
            marked(packet)
        } else {
            packet.clone()
        };
        server.receive(T0, &seen).unwrap();
        for ack in server.poll(T0) {
            client.receive(T0, &ack).unwrap();
            let sent = client.poll(T0);
            assert!(client.tcb.info(T0).reduction);
            if next.is_empty() {
                assert!(flags(&sent[0]).contains(Flags::CWR), "on the very ACK");
            }
            next.extend(sent);
        }
    }
    assert_eq!(next.len(), 7, "seven for ten that arrived");
    assert_eq!(client.tcb.pipe(), 7 * MSS);
    server.receive_all(T0, &next);
    client.receive_all(T0, &server.poll(T0));
    assert!(!client.tcb.info(T0).reduction);
}

#[test]
fn what_is_lost_after_a_mark_neither_reduces_again_nor_is_undone() {
    let (mut client, mut server) = asking();
    client.write(40 * MSS);
    let mut data = client.poll(T0);
    data[0] = marked(&data[0]);
    let lost = data.remove(2);
    for packet in &data {
        server.receive(after(5), packet).unwrap();
        client.receive_all(after(10), &server.poll(after(5)));
    }
    let threshold = client.tcb.info(T0).ssthresh;
    assert!(client.tcb.info(T0).fast_recovery);
    assert_eq!(u64::from(threshold), 7 * MSS);
    client.poll(after(10));
    // The late original is acknowledged: the repetition was needless, the reduction was not.
    server.receive(after(15), &lost).unwrap();
    client.receive_all(after(20), &server.poll(after(15)));
    assert!(client.tcb.cwnd() <= threshold);
    assert_eq!(client.tcb.info(T0).ssthresh, threshold);
}

#[test]
fn the_announcement_of_a_reduction_rides_on_a_single_segment() {
    let (mut client, mut server) = asking();
    client.burst = BURST;
    client.write(40 * MSS);
    let data: Vec<Packet> = client.poll(T0).iter().map(marked).collect();
    server.receive_all(T0, &data);
    client.receive_all(T0, &server.poll(T0));
    let next = client.poll(T0);
    assert!(flags(&next[0]).contains(Flags::CWR));
    assert_eq!(next[0].gso_size, 0);
}

#[test]
fn an_end_that_agreed_to_nothing_ignores_marks_and_echoes() {
    let (mut client, mut server) = established(&mode(EcnMode::Passive), &nodelay());
    client.write(2 * MSS);
    let data: Vec<Packet> = client.poll(T0).iter().map(marked).collect();
    assert!(data.iter().all(|p| !flags(p).contains(Flags::CWR)));
    server.receive_all(T0, &data);
    let acks = server.poll(T0);
    assert!(!flags(&acks[0]).contains(Flags::ECE));
    let cwnd = client.tcb.cwnd();
    let mut echo = acks[0].clone();
    echo.bytes[13] |= Flags::ECE.0;
    client.receive(T0, &echo).unwrap();
    assert!(client.tcb.cwnd() >= cwnd);
}

#[test]
fn dctcp_asks_for_marks_and_marks_everything() {
    let cfg = TcpConfig {
        congestion: Algorithm::Dctcp,
        ..mode(EcnMode::Passive)
    };
    let (mut client, mut server) = established(&cfg, &nodelay());
    assert!(client.tcb.info(T0).ecn && server.tcb.info(T0).ecn);
    client.write(2 * MSS);
    let data = client.poll(T0);
    server.receive_all(T0, &data);
    assert_eq!(server.poll(T0)[0].ecn, Codepoint::Ect0);
}

#[test]
fn dctcps_receiver_tells_apart_what_was_marked() {
    let (mut client, mut server) = with_algorithm(Algorithm::Dctcp);
    client.write(8 * MSS);
    let data = client.poll(T0);
    // Marked: the fourth to the sixth. One burst, and one look at what to send.
    for (index, packet) in data.iter().enumerate() {
        let seen = if (3..6).contains(&index) {
            marked(packet)
        } else {
            packet.clone()
        };
        server.receive(T0, &seen).unwrap();
    }
    let first = client.tcb.iss.at(1);
    let told: Vec<(u64, bool)> = server
        .poll(T0)
        .iter()
        .map(|p| {
            let acked = p.segment().ack.0.wrapping_sub(first.0);
            (u64::from(acked) / MSS, flags(p).contains(Flags::ECE))
        })
        .collect();
    assert_eq!(told, [(3, false), (6, true), (8, false)]);
}

#[test]
fn dctcp_gives_up_as_much_as_was_marked() {
    let (mut client, mut server) = with_algorithm(Algorithm::Dctcp);
    // Many windows without marks: alpha decays.
    for round in 0..100 {
        let now = after(10 * round);
        client.write(4 * MSS);
        server.receive_all(now, &client.poll(now));
        server.read_all(now);
        client.receive_all(now, &server.poll(now));
    }
    let now = after(2000);
    client.write(10 * MSS);
    let mut data = client.poll(now);
    data[0] = marked(&data[0]);
    server.receive_all(now, &data);
    let cwnd = client.tcb.cwnd();
    client.receive_all(now, &server.poll(now));
    let (less, now) = (client.tcb.info(now).ssthresh, u64::from(cwnd));
    assert!(
        less < cwnd && u64::from(less) > now * 95 / 100,
        "{less} of {cwnd}"
    );
}
