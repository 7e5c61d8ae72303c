use super::*;

fn record() -> Box<Socket> {
    Box::default()
}

#[test]
fn addresses_survive_both_families() {
    let socket = record();
    let local = "10.77.0.2:80".parse().unwrap();
    let remote = "[2001:db8::1]:40000".parse().unwrap();
    socket.names.set(local, Some(remote));
    assert_eq!(socket.names.local(), local);
    assert_eq!(socket.names.remote(), remote);
    socket.names.request(remote);
    assert_eq!(socket.names.requested(), remote);
}

#[test]
fn a_record_that_changes_hands_is_fresh() {
    let socket = record();
    let first = socket.reset();
    socket.app.tx_tail.store(9, Ordering::Relaxed);
    socket.engine.rx_tail.store(9, Ordering::Relaxed);
    socket.app.flags.store(flag::CLOSED, Ordering::Relaxed);
    socket.options.linger.store(3, Ordering::Relaxed);
    socket.options.pacing_limit.store(3, Ordering::Relaxed);
    socket.options.fastopen_keys[1][1].store(3, Ordering::Relaxed);
    socket.app.urgent.received.store(3, Ordering::Relaxed);
    assert_ne!(socket.reset(), first);
    assert_eq!(socket.readable(), 0);
    assert_eq!(socket.unacked(), 0);
    assert_eq!(socket.app.flags.load(Ordering::Relaxed), 0);
    assert_eq!(socket.options.linger.load(Ordering::Relaxed), 0);
    assert_eq!(socket.options.pacing_limit.load(Ordering::Relaxed), 0);
    let key = &socket.options.fastopen_keys[1][1];
    assert_eq!(key.load(Ordering::Relaxed), 0);
    assert_eq!(socket.app.urgent.received.load(Ordering::Relaxed), 0);
    assert_eq!(socket.tcp_state(), state::CLOSE);
}

#[test]
fn congestion_controls_are_numbered_and_named_alike() {
    for (number, name) in (1..).zip(["reno", "cubic", "bbr", "dctcp"]) {
        assert_eq!(congestion::number(name.as_bytes()), Some(number));
        assert_eq!(congestion::name(number), Some(name));
    }
    assert_eq!(congestion::number(b""), None);
    assert_eq!(congestion::name(0), None);
    assert_eq!(congestion::name(u32::MAX), None);
}

#[test]
fn a_record_takes_whole_cache_lines() {
    assert_eq!(size_of::<Socket>(), 7 * 64);
}

#[test]
fn a_writer_is_told_once_a_third_is_free() {
    let socket = record();
    socket.reset();
    socket.engine.tx_limit.store(900, Ordering::Relaxed);
    socket.app.tx_tail.store(601, Ordering::Relaxed);
    assert!(!socket.has_room());
    socket.engine.tx_head.store(1, Ordering::Relaxed);
    assert!(socket.has_room());
}

#[test]
fn what_is_unsent_holds_a_writer_back_that_asked_for_it() {
    let socket = record();
    socket.reset();
    socket.engine.tx_limit.store(1 << 20, Ordering::Relaxed);
    socket.options.notsent_low.store(1000, Ordering::Relaxed);
    assert_eq!(socket.writable(), WRITE_UNIT);
    socket.app.tx_tail.store(10_999, Ordering::Relaxed);
    assert_eq!(socket.writable(), 0);
    for (sent, writable, told) in [
        (9_999, 0, false),
        (10_000, WRITE_UNIT, false),
        (10_499, WRITE_UNIT, false),
        (10_500, WRITE_UNIT, true),
    ] {
        socket.engine.tx_next.store(sent, Ordering::Relaxed);
        assert_eq!((socket.writable(), socket.has_room()), (writable, told));
    }
    socket.engine.tx_next.store(0, Ordering::Relaxed);
    socket.engine.tx_head.store(10_999, Ordering::Relaxed);
    assert!(socket.has_room(), "what was acknowledged was sent");
    socket.options.notsent_low.store(0, Ordering::Relaxed);
    assert_eq!(socket.writable(), 1 << 20);
}

#[test]
fn a_sleeper_announced_before_an_edge_is_woken() {
    let socket = record();
    assert!(!socket.wake_waiters());
    let seen = socket.announce_waiter();
    assert!(socket.wake_waiters());
    assert_eq!(
        crate::futex::wait(&socket.engine.wake, seen, None),
        crate::futex::Wait::Woken
    );
    socket.retract_waiter();
}
