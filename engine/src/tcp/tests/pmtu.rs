//! Paths that carry less than their first link, told by routers (RFC 1191, RFC 5927) or not
//! (RFC 4821).

use super::*;

fn config(mss: u16, mtu_probing: MtuProbing) -> TcpConfig {
    TcpConfig {
        mss,
        mtu_probing,
        ..TcpConfig::default()
    }
}

/// A round trip of 10 ms over a path that swallows segments with more payload than `carries`; then
/// timers until something is to be sent.
fn round(now: Instant, client: &mut Host, server: &mut Host, carries: usize) -> Instant {
    let mut packets = client.poll(now);
    packets.retain(|packet| packet.segment().wire_payload() <= carries);
    let there = now + Duration::from_millis(5);
    server.receive_all(there, &packets);
    server.read_all(there);
    let acks = server.poll(there);
    let back = there + Duration::from_millis(5);
    client.receive_all(back, &acks);
    match client.tcb.next_deadline() {
        Some(at) if acks.is_empty() => {
            client.tcb.on_timer(at.max(back));
            at.max(back)
        }
        _ => back,
    }
}

/// Sends `len` bytes; says when they had arrived.
fn transfer(client: &mut Host, server: &mut Host, len: u64, carries: usize) -> Instant {
    let mut now = T0;
    let end = client.written + len;
    for _ in 0..100_000 {
        client.write((end - client.written).min(200_000 - client.tcb.unsent().min(200_000)));
        now = round(now, client, server, carries);
        if server.tcb.received() == end {
            return now;
        }
    }
    panic!("stuck at {} of {end}", server.tcb.received());
}

#[test]
fn segments_that_vanish_become_smaller_after_repeated_timeouts() {
    let cfg = config(1460, MtuProbing::BlackHole);
    let (mut client, mut server) = established(&cfg, &SocketOptions::default());
    transfer(&mut client, &mut server, 100_000, 1100);
    assert!((1024 - 12..=1100).contains(&client.tcb.mss()));
    assert!(client.tcb.counters().timeouts >= 4);
}

#[test]
fn without_probing_a_black_hole_ends_the_connection() {
    let cfg = config(1460, MtuProbing::Off);
    let (mut client, mut server) = established(&cfg, &SocketOptions::default());
    client.write(100_000);
    let mut now = T0;
    while !client.tcb.is_closed() {
        now = round(now, &mut client, &mut server, 1100);
    }
    assert_eq!(client.tcb.error(), Some(Error::TimedOut));
}

#[test]
fn after_a_black_hole_segments_grow_to_what_the_path_carries() {
    let cfg = config(1460, MtuProbing::BlackHole);
    let (mut client, mut server) = established(&cfg, &SocketOptions::default());
    transfer(&mut client, &mut server, 5_000_000, 1200);
    let mss = client.tcb.mss();
    assert!((1200 - 8..=1200).contains(&mss), "{mss}");
}

#[test]
fn probing_from_the_start_finds_a_large_path_without_slowing_down() {
    for carries in [1500, 3000, 8000, usize::MAX] {
        let cfg = config(8960, MtuProbing::Always);
        let (mut client, mut server) = established(&cfg, &SocketOptions::default());
        transfer(&mut client, &mut server, 10_000_000, carries);
        let (mss, best) = (usize::from(client.tcb.mss()), carries.min(8960 - 12));
        assert!(mss <= best && mss + 8 > best, "{mss} of {best}");
        let counters = client.tcb.counters();
        assert_eq!((counters.timeouts, counters.fast_recoveries), (0, 0));
        assert_eq!(client.tcb.ssthresh(), u32::MAX, "no loss was congestion");
    }
}

#[test]
fn a_small_window_or_little_data_is_not_risked() {
    let cfg = config(8960, MtuProbing::Always);
    let (mut client, mut server) = established(&cfg, &SocketOptions::default());
    for _ in 0..100 {
        transfer(&mut client, &mut server, 4000, 1100);
    }
    assert_eq!(client.tcb.mss(), 1024 - 12);
    assert_eq!(client.tcb.counters().retransmits, 0);
}

#[test]
fn a_routers_word_is_forgotten_after_ten_minutes() {
    let cfg = TcpConfig::default();
    let (mut client, mut server) = established(&cfg, &SocketOptions::default());
    client.write(10_000);
    let seq = client.poll(T0)[0].segment().seq;
    let too_big = IcmpError::PacketTooBig { mss: 1000 };
    client.tcb.on_icmp_error(T0, too_big, seq);
    assert_eq!(client.tcb.mss(), 1000 - 12);
    let until = T0 + PATH_MTU_LIFETIME;
    assert_eq!(client.tcb.path_limit(), Some((1000, until)));
    let now = transfer(&mut client, &mut server, 10_000, usize::MAX);
    client.write(5000);
    let packets = client.poll(now);
    assert_eq!(packets[0].segment().payload.len(), 1000 - 12);
    server.receive_all(now, &packets);
    let acks = server.poll(now);
    client.receive_all(now, &acks);
    client.write(5000);
    client.poll(until);
    assert_eq!(client.tcb.mss(), 1460 - 12);
    assert_eq!(client.tcb.path_limit(), None);
}

#[test]
fn a_router_that_asks_for_less_than_any_path_takes_gets_that() {
    let (mut client, _) = established(&TcpConfig::default(), &SocketOptions::default());
    client.write(10_000);
    let seq = client.poll(T0)[0].segment().seq;
    let absurd = IcmpError::PacketTooBig { mss: 28 };
    client.tcb.on_icmp_error(T0, absurd, seq);
    assert_eq!(client.tcb.mss(), 512 - 12);
}

#[test]
fn a_new_connection_starts_with_what_is_known_of_its_path() {
    let (mut client, _) = established(&TcpConfig::default(), &SocketOptions::default());
    client.tcb.limit_path(1000, T0 + PATH_MTU_LIFETIME);
    client.write(10_000);
    assert_eq!(client.poll(T0)[0].segment().payload.len(), 1000 - 12);
}
