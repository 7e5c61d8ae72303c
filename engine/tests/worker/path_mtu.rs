//! A router on the way that takes smaller packets than the links beside it, and says so or not.

use crate::bed::{Bed, Family, Setup, address, address6, exchange, mac, pass_together};
use crate::conversation::Conversation;
use crate::frames::{IP, TcpFrame, ethernet, fix_checksums, ipv4, ipv6};
use engine::tcp::MtuProbing;
use engine::wire::protocol;
use std::net::IpAddr;

over_both_families! {
    what_a_router_says_counts_for_the_connection_and_for_new_ones,
    an_error_about_what_is_not_in_flight_is_not_believed,
    a_router_that_says_nothing_is_found_out,
}

/// Largest IP packet that the router passes on.
fn mtu(family: Family) -> u16 {
    match family {
        Family::V4 => 1000,
        // Every link of IPv6 takes 1,280 bytes.
        Family::V6 => 1300,
    }
}

/// The error about a frame that is too big, from the router to who sent it.
pub fn too_big(frame: &[u8], mtu: u16) -> Vec<u8> {
    let sender = TcpFrame::parse(frame).unwrap();
    let (to, station) = (sender.src.0, sender.src_mac);
    let mut error = match to {
        IpAddr::V4(to) => {
            let mut message = vec![3, 4, 0, 0, 0, 0];
            message.extend(mtu.to_be_bytes());
            message.extend(&frame[IP..IP + 28]);
            let datagram = ipv4(address(7), to, protocol::ICMP, &message);
            ethernet(station, mac(7), 0x0800, &datagram)
        }
        IpAddr::V6(to) => {
            let mut message = vec![2, 0, 0, 0, 0, 0];
            message.extend(mtu.to_be_bytes());
            message.extend(&frame[IP..frame.len().min(IP + 1232)]);
            let packet = ipv6(address6(7), to, protocol::ICMPV6, &message);
            ethernet(station, mac(7), 0x86dd, &packet)
        }
    };
    fix_checksums(&mut error);
    error
}

/// Lets frames through that are small enough, and others back as errors; returns how many were too
/// big.
fn route(a: &mut Bed, b: &mut Bed) -> usize {
    let (mut refused, mtu) = (0, mtu(a.family));
    for _ in 0..1000 {
        let mut errors = Vec::new();
        exchange(a, b, |from_a, frame| {
            let passes = frame.len() - IP <= usize::from(mtu);
            if !passes {
                errors.push((from_a, too_big(frame, mtu)));
            }
            passes
        });
        if errors.is_empty() {
            return refused;
        }
        refused += errors.len();
        for (from_a, error) in errors {
            let sender = if from_a { &mut *a } else { &mut *b };
            sender.inject(&error);
            sender.settle();
        }
    }
    panic!("the path is never found");
}

fn what_a_router_says_counts_for_the_connection_and_for_new_ones(family: Family) {
    let (mut a, mut b) = (
        Setup::over(family, 1).build(),
        Setup::over(family, 2).build(),
    );
    let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
    talk.client.app.send(talk.client.socket, &[1; 20_000]);
    assert!(route(&mut a, &mut b) > 0);
    assert_eq!(talk.server.app.readable(talk.server.socket), 20_000);
    let another = Conversation::start(&mut a, &mut b, (2, 2), 81);
    let mut talk = another;
    talk.client.app.send(talk.client.socket, &[1; 5000]);
    assert_eq!(route(&mut a, &mut b), 0, "it starts with what is known");
    assert_eq!(talk.server.app.readable(talk.server.socket), 5000);
    // After ten minutes the path is tried anew.
    pass_together(&mut a, &mut b, 601_000_000);
    talk.client.app.send(talk.client.socket, &[1; 5000]);
    assert!(route(&mut a, &mut b) > 0);
    assert_eq!(talk.server.app.readable(talk.server.socket), 10_000);
}

fn an_error_about_what_is_not_in_flight_is_not_believed(family: Family) {
    let (mut a, mut b) = (
        Setup::over(family, 1).build(),
        Setup::over(family, 2).build(),
    );
    let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
    talk.client.app.send(talk.client.socket, &[1; 3000]);
    let mut frames = Vec::new();
    exchange(&mut a, &mut b, |from_a, frame| {
        if from_a {
            frames.push(frame.to_vec());
        }
        true
    });
    for frame in &frames {
        a.inject(&too_big(frame, mtu(family)));
        a.settle();
    }
    talk.client.app.send(talk.client.socket, &[1; 5000]);
    assert!(
        route(&mut a, &mut b) > 0,
        "it sends as large ones as before"
    );
}

fn a_router_that_says_nothing_is_found_out(family: Family) {
    let mut setup = Setup::over(family, 1);
    setup.config.tcp.mtu_probing = MtuProbing::BlackHole;
    let (mut a, mut b) = (setup.build(), Setup::over(family, 2).build());
    let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
    talk.client.app.send(talk.client.socket, &[1; 20_000]);
    let end = a.now + 60_000_000;
    while a.now < end && talk.server.app.readable(talk.server.socket) < 20_000 {
        let passes = usize::from(mtu(family)) + 100;
        exchange(&mut a, &mut b, |_, frame| frame.len() - IP <= passes);
        a.now += 10_000;
        b.now = a.now;
    }
    assert_eq!(talk.server.app.readable(talk.server.socket), 20_000);
}
