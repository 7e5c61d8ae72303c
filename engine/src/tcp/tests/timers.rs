//! Keepalive, user timeout, and timers in general.

use super::*;

fn keepalive() -> SocketOptions {
    SocketOptions {
        keepalive: true,
        keepalive_idle: Some(Duration::from_secs(10)),
        keepalive_interval: Some(Duration::from_secs(2)),
        keepalive_count: Some(3),
        ..SocketOptions::default()
    }
}

#[test]
fn an_idle_connection_has_no_timer() {
    let (client, server) = established(&TcpConfig::default(), &SocketOptions::default());
    assert_eq!(
        (client.tcb.next_deadline(), server.tcb.next_deadline()),
        (None, None)
    );
}

#[test]
fn keepalive_probes_a_silent_peer_and_is_content_with_an_answer() {
    let (mut client, mut server) = established(&TcpConfig::default(), &keepalive());
    server.tcb.set_options(T0, &SocketOptions::default());
    for _ in 0..20 {
        let at = client.expire();
        let probe = client.poll(at);
        assert!(probe.len() <= 1);
        server.receive_all(at, &probe);
        client.receive_all(at, &server.poll(at));
    }
    assert_eq!(client.state(), State::Established);
    assert!(
        client.tcb.info(T0).counters.segments_out > 5,
        "it did probe"
    );
}

#[test]
fn keepalive_ends_a_connection_whose_peer_is_gone() {
    let (mut client, _) = established(&TcpConfig::default(), &keepalive());
    let mut probes = Vec::new();
    while client.state() == State::Established {
        let at = client.expire();
        let packets = client.poll(at);
        if packets
            .iter()
            .any(|packet| packet.segment().flags == Flags::ACK)
        {
            assert_eq!(packets[0].segment().seq, client.tcb.iss.at(0));
            probes.push(at.since(T0).as_millis() / 1000);
        } else if let Some(reset) = packets.first() {
            assert!(reset.segment().flags.contains(Flags::RST));
        }
    }
    assert_eq!(probes, [10, 12, 14]);
    assert_eq!(client.tcb.error(), Some(Error::TimedOut));
}

#[test]
fn keepalive_may_be_switched_at_any_time() {
    let (mut client, _) = established(&TcpConfig::default(), &SocketOptions::default());
    client.tcb.set_options(after(50_000), &keepalive());
    assert_eq!(
        client.tcb.next_deadline(),
        Some(T0 + Duration::from_secs(10)),
        "since last heard"
    );
    client
        .tcb
        .set_options(after(50_000), &SocketOptions::default());
    assert_eq!(client.tcb.next_deadline(), None);
}

#[test]
fn the_user_timeout_bounds_the_wait_for_an_ack() {
    let (mut client, _) = established(&TcpConfig::default(), &SocketOptions::default());
    let timeout = Some(Duration::from_secs(5));
    client.tcb.set_options(
        T0,
        &SocketOptions {
            user_timeout: timeout,
            ..SocketOptions::default()
        },
    );
    client.write(10);
    client.poll(after(1000));
    let mut at = T0;
    while !client.tcb.is_closed() {
        at = client.expire();
        client.poll(at);
    }
    assert_eq!(
        (at, client.tcb.error()),
        (after(6000), Some(Error::TimedOut))
    );
}

#[test]
fn the_user_timeout_counts_a_shut_window_too() {
    let (mut client, _) = established(&plain(), &SocketOptions::default());
    let timeout = Some(Duration::from_secs(5));
    client.tcb.set_options(
        T0,
        &SocketOptions {
            user_timeout: timeout,
            ..SocketOptions::default()
        },
    );
    let shut = Crafted {
        window: 0,
        ..client.peer_segment()
    };
    client.receive(T0, &shut.packet()).unwrap();
    client.write(10);
    client.poll(T0);
    let mut at = T0;
    while !client.tcb.is_closed() {
        at = client.expire();
        client.poll(at);
        client.receive_all(at, &[shut.packet()]);
    }
    assert_eq!(at, after(5000));
}

#[test]
fn an_early_call_of_the_timer_does_nothing() {
    let (mut client, _) = established(&TcpConfig::default(), &keepalive());
    client.write(10);
    client.poll(T0);
    let deadline = client.tcb.next_deadline().unwrap();
    assert_eq!(
        client.tcb.on_timer(deadline - Duration::from_micros(1)),
        Events::NONE
    );
    assert!(client.poll(T0).is_empty());
    assert_eq!(client.tcb.next_deadline(), Some(deadline));
}

#[test]
fn an_idle_control_block_is_small() {
    assert!(size_of::<Tcb>() <= 632, "{} bytes", size_of::<Tcb>());
}
