//! Timestamps and protection against wrapped sequence numbers, on a whole connection (RFC 7323).

use super::*;

fn pair() -> (Host, Host) {
    established(&TcpConfig::default(), &SocketOptions::default())
}

/// A segment from the peer with a timestamp `later` milliseconds after the last one.
fn stamped(host: &Host, now: Instant, later: u32) -> Crafted {
    let (value, recent) = host.tcb.ts.option(now).unwrap();
    Crafted {
        options: Options {
            timestamps: Some((recent.wrapping_add(later), value)),
            ..Options::default()
        },
        ..host.peer_segment()
    }
}

fn recent(host: &Host) -> u32 {
    host.tcb.ts.option(T0).unwrap().1
}

#[test]
fn an_old_duplicate_is_dropped_and_acknowledged() {
    let (_, mut server) = pair();
    let old = stamped(&server, T0, u32::MAX).carrying(0, 100);
    assert_eq!(server.receive(T0, &old.packet()), Err(Drop::Paws));
    assert_eq!(server.tcb.received(), 0);
    assert_eq!(server.poll(T0).len(), 1);
}

#[test]
fn a_reset_needs_no_timestamp_and_may_bring_an_old_one() {
    let reset = |crafted: Crafted| {
        Crafted {
            flags: Flags::RST,
            ..crafted
        }
        .packet()
    };
    let (_, mut server) = pair();
    let bare = reset(server.peer_segment());
    assert!(server.receive(T0, &bare).is_ok());
    assert!(server.tcb.is_closed());
    let (_, mut server) = pair();
    let old = reset(stamped(&server, T0, u32::MAX));
    assert!(server.receive(T0, &old).is_ok());
    assert!(server.tcb.is_closed());
}

#[test]
fn only_a_segment_at_or_before_the_last_ack_sent_brings_its_timestamp() {
    let (_, mut server) = pair();
    let before = recent(&server);
    // Out of order: what fills the hole is older, and has to be taken.
    let later = stamped(&server, T0, 50).carrying(0, 100);
    let ahead = Crafted {
        seq: later.seq + 1000,
        ..later.clone().carrying(1000, 100)
    };
    server.receive(T0, &ahead.packet()).unwrap();
    assert_eq!(recent(&server), before);
    server.receive(T0, &later.packet()).unwrap();
    assert_eq!(recent(&server), before.wrapping_add(50));
}

#[test]
fn a_segment_whose_ack_is_refused_does_not_bring_its_timestamp() {
    let (_, mut server) = pair();
    let before = recent(&server);
    let good = stamped(&server, T0, 1 << 30);
    let forged = Crafted {
        ack: good.ack + 5000,
        ..good
    };
    assert_eq!(server.receive(T0, &forged.packet()), Err(Drop::AckOfUnsent));
    assert_eq!(recent(&server), before);
}

#[test]
fn after_24_days_of_silence_any_timestamp_is_taken() {
    let (_, mut server) = pair();
    let late = T0 + Duration::from_secs(24 * 24 * 3600 + 10);
    let old = stamped(&server, late, u32::MAX).carrying(0, 100);
    server.receive(late, &old.packet()).unwrap();
    assert_eq!(server.tcb.received(), 100);
}

#[test]
fn a_syn_ack_that_echoes_what_was_never_sent_is_reset() {
    let cfg = TcpConfig::default();
    let start = T0 - Duration::from_millis(10);
    for (offset, taken) in [
        (0u32, true),
        (1 << 20, false),
        (0u32.wrapping_sub(5000), false),
    ] {
        let mut client = Host::connect(start, &cfg, &SocketOptions::default());
        let syn = client.poll(start);
        let (value, _) = syn[0].segment().options.timestamps.unwrap();
        let answer = Crafted {
            seq: SeqNum(77),
            ack: client.tcb.iss.at(1),
            flags: Flags::SYN | Flags::ACK,
            window: 1000,
            options: Options {
                timestamps: Some((1, value.wrapping_add(offset))),
                ..Options::default()
            },
            payload: Vec::new(),
        };
        let result = client.receive(T0, &answer.packet());
        let out = client.poll(T0);
        if taken {
            assert!(result.is_ok());
            assert_eq!(client.state(), State::Established);
        } else {
            assert_eq!(result, Err(Drop::Paws));
            assert!(out[0].segment().flags.contains(Flags::RST));
            assert_eq!(client.state(), State::SynSent);
        }
    }
}
