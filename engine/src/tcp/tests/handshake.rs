//! Opening connections: negotiation, loss of SYNs, refusal, both ends at once.

use super::*;
use crate::tcp::fast_open::Cookie;

fn syn_of(cfg: &TcpConfig) -> (Host, Packet) {
    let mut client = Host::connect(T0, cfg, &SocketOptions::default());
    let mut packets = client.poll(T0);
    assert_eq!(packets.len(), 1);
    (client, packets.remove(0))
}

/// The SYN-ACK that a server with `cfg` gives to a SYN with `options`.
fn answer_to(cfg: &TcpConfig, options: Options) -> (Host, Options) {
    let (client, _) = syn_of(&plain());
    let syn = Crafted {
        flags: Flags::SYN,
        options,
        ..client.peer_segment()
    }
    .packet();
    let mut server = Host::accept(T0, cfg, &SocketOptions::default(), &syn);
    let answer = server.poll(T0)[0].segment().options;
    (server, answer)
}

#[test]
fn a_syn_offers_all_that_is_configured() {
    let (_, syn) = syn_of(&TcpConfig::default());
    let segment = syn.segment();
    assert_eq!(segment.flags, Flags::SYN);
    let options = segment.options;
    assert_eq!(
        (options.mss, options.window_scale, options.sack_permitted),
        (Some(1460), Some(7), true)
    );
    assert!(options.timestamps.is_some());
    assert!(segment.payload.is_empty());
    let (_, syn) = syn_of(&plain());
    assert_eq!(
        syn.segment().options,
        Options {
            mss: Some(1460),
            ..Options::default()
        }
    );
}

#[test]
fn an_answer_names_only_what_was_offered() {
    let (server, answer) = answer_to(&TcpConfig::default(), Options::default());
    assert_eq!(
        answer,
        Options {
            mss: Some(1460),
            ..Options::default()
        }
    );
    assert_eq!(server.tcb.mss(), DEFAULT_MSS, "no MSS option means 536");
    let offer = Options {
        window_scale: Some(3),
        sack_permitted: true,
        ..Options::default()
    };
    let (_, answer) = answer_to(&TcpConfig::default(), offer);
    assert_eq!(
        (answer.window_scale, answer.sack_permitted),
        (Some(7), true)
    );
    assert_eq!(answer.timestamps, None);
    let (_, answer) = answer_to(&plain(), offer);
    assert_eq!(
        answer,
        Options {
            mss: Some(1460),
            ..Options::default()
        }
    );
}

#[test]
fn what_is_negotiated_is_used_by_both_and_nothing_else_is() {
    let everything = TcpConfig::default();
    for (a, b) in [
        (&everything, &everything),
        (&everything, &plain()),
        (&plain(), &everything),
    ] {
        let default = SocketOptions::default();
        let (mut client, mut server) = established_between(a, &default, b, &default);
        let both = a == b;
        for host in [&client, &server] {
            let info = host.tcb.info(T0);
            assert_eq!((info.timestamps, info.sack), (both, both));
            assert_eq!(info.window_scale.is_some(), both);
            assert_eq!(info.send_mss, if both { 1448 } else { 1460 });
        }
        client.write(100);
        let data = client.poll(T0);
        assert_eq!(data[0].segment().options.timestamps.is_some(), both);
        server.receive_all(T0, &data);
        assert_eq!(server.tcb.received(), 100);
    }
}

#[test]
fn tiny_and_huge_mss_are_clamped() {
    for (option, mss) in [
        (0, MIN_MSS),
        (1, MIN_MSS),
        (87, MIN_MSS),
        (1000, 1000),
        (65535, 1460),
    ] {
        let (server, _) = answer_to(
            &plain(),
            Options {
                mss: Some(option),
                ..Options::default()
            },
        );
        assert_eq!(server.tcb.mss(), mss, "MSS option {option}");
    }
}

#[test]
fn a_connection_with_the_tiniest_mss_carries_data_and_sack() {
    let tiny = TcpConfig {
        mss: 1,
        ..TcpConfig::default()
    };
    let (mut client, mut server) = established(&tiny, &SocketOptions::default());
    client.write(2_000);
    let mut data = client.poll(T0);
    data.remove(0);
    server.receive_all(T0, &data);
    server.write(500);
    settle(T0, &mut client, &mut server);
    assert_eq!((client.tcb.received(), server.tcb.received()), (500, 2_000));
    assert_eq!(client.tcb.mss(), MIN_MSS - 12);
}

#[test]
fn a_lost_syn_is_repeated_with_doubling_pauses_until_the_limit() {
    let (mut client, syn) = syn_of(&TcpConfig::default());
    let mut last = T0;
    for seconds in [1, 2, 4, 8, 16, 32] {
        let at = client.expire();
        assert_eq!(at.since(last), Duration::from_secs(seconds));
        last = at;
        let again = client.poll(at);
        assert_eq!(again[0].segment().seq, syn.segment().seq);
    }
    client.expire();
    assert_eq!(client.tcb.error(), Some(Error::TimedOut));
    assert!(client.tcb.is_closed() && client.events.contains(Events::CLOSED | Events::ERROR));
    assert!(client.poll(last).is_empty(), "there is nobody to reset");
}

#[test]
fn a_lost_syn_ack_is_repeated_five_times() {
    let (_, syn) = syn_of(&TcpConfig::default());
    let mut server = Host::accept(T0, &TcpConfig::default(), &SocketOptions::default(), &syn);
    for repeated in 0..6 {
        let packets = server.poll(T0 + Duration::from_secs(100 * repeated));
        assert_eq!(packets[0].segment().flags, Flags::SYN | Flags::ACK);
        server.expire();
    }
    assert_eq!(server.tcb.error(), Some(Error::TimedOut));
    assert_eq!(server.tcb.retransmits(), 5);
}

#[test]
fn a_repeated_syn_is_answered_again_at_a_bounded_rate() {
    let (_, syn) = syn_of(&TcpConfig::default());
    let mut server = Host::accept(T0, &TcpConfig::default(), &SocketOptions::default(), &syn);
    let first = server.poll(T0);
    assert_eq!(server.receive(after(1000), &syn), Err(Drop::OldDuplicate));
    let again = server.poll(after(1000));
    assert_eq!(again[0].segment().flags, first[0].segment().flags);
    assert_eq!(again[0].segment().seq, first[0].segment().seq);
    let _ = server.receive(after(1001), &syn);
    assert!(server.poll(after(1001)).is_empty());
}

#[test]
fn a_reset_refuses_the_connection_only_if_it_acknowledges_the_syn() {
    let (mut client, _) = syn_of(&plain());
    let reset = Crafted {
        flags: Flags::RST | Flags::ACK,
        ..client.peer_segment()
    };
    let blind = Crafted {
        flags: Flags::RST,
        ..reset.clone()
    };
    assert_eq!(
        client.receive(T0, &blind.packet()),
        Err(Drop::ResetOutOfWindow)
    );
    let guess = Crafted {
        ack: reset.ack + 1,
        ..reset.clone()
    };
    assert_eq!(client.receive(T0, &guess.packet()), Err(Drop::AckOfUnsent));
    assert_eq!(client.state(), State::SynSent);
    client.receive(T0, &reset.packet()).unwrap();
    assert_eq!(client.tcb.error(), Some(Error::Refused));
    assert!(client.tcb.is_closed());
}

#[test]
fn an_old_connections_ack_is_reset_during_the_handshake() {
    let (mut client, _) = syn_of(&plain());
    let stray = Crafted {
        ack: SeqNum(4711),
        ..client.peer_segment()
    };
    assert_eq!(client.receive(T0, &stray.packet()), Err(Drop::AckOfUnsent));
    let reply = client.poll(T0);
    assert_eq!(
        (reply[0].segment().flags, reply[0].segment().seq),
        (Flags::RST, SeqNum(4711))
    );
    assert_eq!(client.state(), State::SynSent);

    let (_, syn) = syn_of(&plain());
    let mut server = Host::accept(T0, &plain(), &SocketOptions::default(), &syn);
    server.poll(T0);
    let stray = Crafted {
        ack: SeqNum(4711),
        ..server.peer_segment()
    };
    assert_eq!(server.receive(T0, &stray.packet()), Err(Drop::AckOfUnsent));
    assert_eq!(server.poll(T0)[0].segment().seq, SeqNum(4711));
    assert_eq!(server.state(), State::SynReceived);
}

#[test]
fn both_ends_may_open_at_once() {
    for lost in 0..4 {
        let cfg = TcpConfig::default();
        let mut a = Host::connect(T0, &cfg, &SocketOptions::default());
        let tcb = Tcb::connect(
            T0,
            &Settings::new(&cfg, &SocketOptions::default()),
            SeqNum(5),
            0,
        );
        let mut b = Host::new(tcb);
        let (syn_a, syn_b) = (a.poll(T0), b.poll(T0));
        a.receive_all(after(1), &syn_b);
        b.receive_all(after(1), &syn_a);
        assert_eq!(
            (a.state(), b.state()),
            (State::SynReceived, State::SynReceived)
        );
        let (ack_a, ack_b) = (a.poll(after(1)), b.poll(after(1)));
        assert_eq!(ack_a[0].segment().flags, Flags::SYN | Flags::ACK);
        if lost & 1 == 0 {
            b.receive_all(after(2), &ack_a);
        }
        if lost & 2 == 0 {
            a.receive_all(after(2), &ack_b);
        }
        let mut now = after(2);
        for _ in 0..4 {
            settle(now, &mut a, &mut b);
            if a.state() == State::SynReceived {
                now = a.expire();
            }
            if b.state() == State::SynReceived {
                now = now.max(b.expire());
            }
        }
        assert_eq!(
            (a.state(), b.state()),
            (State::Established, State::Established),
            "{lost}"
        );
        a.write(5000);
        b.write(3000);
        settle(now + Duration::from_secs(1), &mut a, &mut b);
        assert_eq!((a.tcb.received(), b.tcb.received()), (3000, 5000));
    }
}

#[test]
fn a_connection_to_itself_opens() {
    let mut host = Host::connect(T0, &TcpConfig::default(), &SocketOptions::default());
    for _ in 0..3 {
        let packets = host.poll(T0);
        host.receive_all(T0, &packets);
    }
    assert_eq!(host.state(), State::Established);
}

#[test]
fn data_and_fin_may_come_with_the_last_ack_of_the_handshake() {
    let (mut client, syn) = syn_of(&TcpConfig::default());
    let mut server = Host::accept(T0, &TcpConfig::default(), &SocketOptions::default(), &syn);
    client.receive_all(T0, &server.poll(T0));
    client.write(10);
    client.tcb.shutdown_write(T0);
    let packets = client.poll(T0);
    assert_eq!(packets.len(), 1, "the ACK rides on the data");
    server.receive_all(T0, &packets);
    assert_eq!(server.state(), State::CloseWait);
    assert_eq!(server.tcb.received(), 10);
    let all = Events::CONNECTED | Events::READABLE | Events::PEER_CLOSED;
    assert!(server.events.contains(all));
}

#[test]
fn an_application_may_write_and_close_before_the_handshake_is_done() {
    let mut client = Host::connect(T0, &TcpConfig::default(), &SocketOptions::default());
    client.write(100);
    client.tcb.shutdown_write(T0);
    let syn = client.poll(T0);
    let mut server = Host::accept(
        T0,
        &TcpConfig::default(),
        &SocketOptions::default(),
        &syn[0],
    );
    server.tcb.shutdown_write(T0);
    settle(T0, &mut client, &mut server);
    assert_eq!(server.tcb.received(), 100);
    assert!(server.tcb.peer_closed() && client.tcb.peer_closed());
}

#[test]
fn the_window_of_a_syn_is_not_scaled() {
    let (client, syn) = syn_of(&TcpConfig::default());
    assert_eq!(syn.segment().window, 44 * 1460, "whole segments");
    let scaled = Options {
        window_scale: Some(14),
        ..syn.segment().options
    };
    let offer = Crafted {
        flags: Flags::SYN,
        options: scaled,
        window: 1000,
        ..client.peer_segment()
    };
    let server = Host::accept(
        T0,
        &TcpConfig::default(),
        &SocketOptions::default(),
        &offer.packet(),
    );
    assert_eq!(server.tcb.info(T0).send_window, 1000);
}

#[test]
fn an_unreachable_network_ends_a_connection_attempt_and_not_a_connection() {
    let unreachable = IcmpError::Soft(Error::HostUnreachable);
    let (mut client, syn) = syn_of(&plain());
    let seq = syn.segment().seq;
    assert_eq!(
        client.tcb.on_icmp_error(T0, unreachable, seq + 1),
        Events::NONE,
        "not ours"
    );
    client.tcb.on_icmp_error(T0, unreachable, seq);
    assert_eq!(client.tcb.error(), Some(Error::HostUnreachable));

    let (mut client, _) = established(&plain(), &SocketOptions::default());
    client.write(10);
    let data = client.poll(T0);
    client
        .tcb
        .on_icmp_error(T0, unreachable, data[0].segment().seq);
    assert_eq!(
        (client.state(), client.tcb.error()),
        (State::Established, None)
    );
    while !client.tcb.is_closed() {
        let at = client.expire();
        client.poll(at);
    }
    assert_eq!(
        client.tcb.error(),
        Some(Error::HostUnreachable),
        "the better explanation"
    );
}

#[test]
fn a_syn_carries_what_the_server_and_the_link_take_less_the_options() {
    let cookie = Cookie::new(&[7; 8]);
    for (known, link, carried) in [
        (None, 1460, 536 - 40),
        (Some(1000), 1460, 1000 - 40),
        (Some(9000), 1460, 1460 - 40),
        (Some(1000), 700, 700 - 40),
    ] {
        let cfg = TcpConfig {
            mss: link,
            ..TcpConfig::default()
        };
        let mut client = Host::connect(T0, &cfg, &SocketOptions::default());
        client.tcb.open_fast(cookie, known);
        client.write(9000);
        let syn = client.poll(T0);
        assert_eq!(syn[0].segment().payload.len(), carried, "{known:?} {link}");
    }
}

#[test]
fn data_of_a_syn_that_the_answer_does_not_acknowledge_is_sent_again_until_it_is() {
    let cfg = plain();
    let mut client = Host::connect(T0, &cfg, &SocketOptions::default());
    client.tcb.open_fast(Cookie::new(&[7; 8]), None);
    client.write(300);
    let syn = client.poll(T0);
    assert_eq!(syn[0].segment().payload.len(), 300);
    let mut server = Host::accept(after(5), &cfg, &SocketOptions::default(), &syn[0]);
    client.receive_all(after(10), &server.poll(after(5)));
    assert_eq!(client.state(), State::Established);
    let again = client.poll(after(10));
    assert_eq!(again[0].segment().payload.len(), 300);
    // That is lost as well.
    let at = client.expire();
    let last = client.poll(at);
    assert_eq!(last[0].segment().payload.len(), 300);
    server.receive_all(at, &last);
    assert_eq!(server.tcb.received(), 300);
    client.receive_all(
        at + Duration::from_millis(50),
        &server.poll(at + Duration::from_millis(50)),
    );
    assert_eq!(client.tcb.acked(), 300);
}
