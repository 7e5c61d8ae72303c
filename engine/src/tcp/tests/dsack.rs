//! What a receiver reports of duplicates (RFC 2883 section 4).

use super::*;

/// A receiver without timestamps, and a segment from its peer that is next in order.
fn receiver() -> (Host, Crafted) {
    let cfg = TcpConfig {
        timestamps: false,
        ..TcpConfig::default()
    };
    let (server, _) = established(&cfg, &SocketOptions::default());
    let next = server.peer_segment();
    (server, next)
}

/// Blocks of the ACK that answers `len` bytes at `offset`, as offsets in the stream.
fn blocks(host: &mut Host, next: &Crafted, offset: u64, len: u64) -> Vec<(u32, u32)> {
    let data = Crafted {
        seq: next.seq + offset as u32,
        ..next.clone()
    };
    let _ = host.receive(T0, &data.carrying(offset, len).packet());
    let answer = host.poll(T0);
    assert_eq!(answer.len(), 1);
    let blocks = answer[0].segment().options.sack;
    let offset = |at: SeqNum| at.0.wrapping_sub(next.seq.0);
    blocks
        .as_slice()
        .iter()
        .map(|(left, right)| (offset(*left), offset(*right)))
        .collect()
}

#[test]
fn nothing_is_reported_where_that_is_switched_off() {
    let cfg = TcpConfig {
        timestamps: false,
        dsack: false,
        ..TcpConfig::default()
    };
    let (mut host, _) = established(&cfg, &SocketOptions::default());
    let next = host.peer_segment();
    assert_eq!(blocks(&mut host, &next, 0, 1000), []);
    assert_eq!(blocks(&mut host, &next, 0, 1000), []);
    assert_eq!(
        blocks(&mut host, &next, 2000, 1000),
        [(2000, 3000)],
        "what is missing is told all the same"
    );
}

#[test]
fn a_duplicate_below_the_ack_is_reported_once() {
    let (mut host, next) = receiver();
    assert_eq!(blocks(&mut host, &next, 0, 1000), []);
    assert_eq!(blocks(&mut host, &next, 0, 1000), [(0, 1000)]);
    assert_eq!(blocks(&mut host, &next, 1000, 2000), [], "and not again");
}

#[test]
fn a_duplicate_of_something_out_of_order_comes_before_its_block() {
    let (mut host, next) = receiver();
    assert_eq!(blocks(&mut host, &next, 1000, 1000), [(1000, 2000)]);
    assert_eq!(blocks(&mut host, &next, 2000, 1000), [(1000, 3000)]);
    assert_eq!(
        blocks(&mut host, &next, 1000, 1000),
        [(1000, 2000), (1000, 3000)]
    );
    assert_eq!(blocks(&mut host, &next, 5000, 1000)[0], (5000, 6000));
}

#[test]
fn the_part_that_came_twice_is_reported() {
    let (mut host, next) = receiver();
    blocks(&mut host, &next, 0, 1000);
    assert_eq!(blocks(&mut host, &next, 500, 1000), [(500, 1000)]);
    blocks(&mut host, &next, 3000, 1000);
    assert_eq!(
        blocks(&mut host, &next, 2500, 1000),
        [(3000, 3500), (2500, 4000)]
    );
    assert_eq!(
        blocks(&mut host, &next, 1500, 1200),
        [(2500, 2700)],
        "while a hole is filled"
    );
}

#[test]
fn a_peer_without_sack_is_told_nothing() {
    let (mut host, _) = established(&plain(), &SocketOptions::default());
    let next = host.peer_segment();
    assert_eq!(blocks(&mut host, &next, 0, 1000), []);
    assert_eq!(blocks(&mut host, &next, 0, 1000), []);
}

#[test]
fn a_fin_is_part_of_what_is_reported() {
    let (mut host, next) = receiver();
    let mut fin = Crafted {
        seq: next.seq + 1000,
        ..next.clone()
    };
    fin.flags = Flags::ACK | Flags::FIN;
    host.receive_all(T0, &[fin.clone().carrying(1000, 1000).packet()]);
    let at = |offset: u32| next.seq + offset;
    let reports = |host: &mut Host| host.poll(T0)[0].segment().options.sack.as_slice().to_vec();
    assert_eq!(reports(&mut host), [(at(1000), at(2001))]);
    host.receive_all(T0, &[next.clone().carrying(0, 1000).packet()]);
    assert_eq!(reports(&mut host), [], "all is acknowledged");
    fin.seq = at(2000);
    host.receive_all(T0, &[fin.packet()]);
    assert_eq!(reports(&mut host), [(at(2000), at(2001))], "it came again");
}

#[test]
fn with_a_fin_nothing_is_reported() {
    let (mut host, next) = receiver();
    blocks(&mut host, &next, 0, 10);
    let mut fin = next.carrying(0, 10);
    fin.flags = Flags::ACK | Flags::FIN;
    host.receive_all(T0, &[fin.packet()]);
    let acks = host.poll(after(1));
    assert_eq!(acks.len(), 1);
    assert!(acks[0].segment().options.sack.is_empty());
}
