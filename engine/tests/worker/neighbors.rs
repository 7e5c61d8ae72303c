//! Stations that claim addresses of others.

use crate::bed::{Bed, Family, Setup, address, mac};
use crate::frames::ethernet;
use engine::tcp::Flags;
use std::net::Ipv4Addr;

const SECOND: u64 = 1_000_000;
const FORGER: u8 = 66;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

type Station = [u8; 6];
/// Whose station is asked for, and whom.
type Asked = Vec<(Ipv4Addr, Station)>;

/// A stack at host 2 that listens on port 80 and knows none of its neighbours.
fn bed() -> (Bed, crate::app::App) {
    let mut setup = Setup::over(Family::V4, 2);
    setup.config.neighbors.clear();
    let mut bed = setup.build();
    let mut server = bed.app(1);
    let listener = server.socket().unwrap();
    assert!(bed.listen(listener, 80, 10));
    bed.sent();
    (bed, server)
}

/// `station` says to the stack that it has the address of host 1.
fn say(bed: &mut Bed, operation: u8, station: u8) {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, operation];
    for (station, host) in [(station, 1), (2, 2)] {
        packet.extend(mac(station).0);
        packet.extend(address(host).octets());
    }
    bed.inject(&ethernet(mac(2), mac(station), 0x0806, &packet));
    bed.settle();
}

fn asked(frames: &[Vec<u8>]) -> Asked {
    let requests = frames
        .iter()
        .filter(|f| f[12..14] == [8, 6] && f[21] == REQUEST);
    requests
        .map(|f| {
            let target: [u8; 4] = f[38..42].try_into().unwrap();
            (target.into(), f[..6].try_into().unwrap())
        })
        .collect()
}

/// Host 1 sends a SYN; returns the stations that the answers go to, and who is asked for.
fn knock(bed: &mut Bed, port: u16) -> (Vec<Station>, Asked) {
    let syn = bed.segment_from(1, (port, 80), Flags::SYN);
    bed.inject(&syn.bytes());
    bed.settle();
    let frames = bed.sent();
    let answers = frames.iter().filter(|f| f[12..14] == [8, 0]);
    let to = answers.map(|f| f[..6].try_into().unwrap()).collect();
    (to, asked(&frames))
}

#[test]
fn a_client_known_by_a_forged_request_is_reached_once_everybody_is_asked() {
    let (mut bed, _server) = bed();
    say(&mut bed, REQUEST, FORGER);
    bed.sent();
    assert_eq!(knock(&mut bed, 1000), (vec![mac(FORGER).0], vec![]));
    bed.pass(5 * SECOND);
    assert_eq!(asked(&bed.sent()), [(address(1), [0xff; 6])]);
    say(&mut bed, REPLY, 1);
    assert_eq!(knock(&mut bed, 1001), (vec![mac(1).0], vec![]));
}

#[test]
fn a_client_whose_address_is_claimed_by_another_is_reached_all_the_time() {
    for claim in [REQUEST, REPLY] {
        let (mut bed, _server) = bed();
        assert_eq!(knock(&mut bed, 1000).1, [(address(1), [0xff; 6])]);
        say(&mut bed, REPLY, 1);
        bed.pass(2 * SECOND);
        bed.sent();
        for port in 1001..1010 {
            say(&mut bed, claim, FORGER);
            bed.sent();
            let (to, asked) = knock(&mut bed, port);
            assert_eq!(to, [mac(1).0]);
            assert_eq!(asked, [(address(1), [0xff; 6])]);
            say(&mut bed, REPLY, 1);
            bed.pass(2 * SECOND);
            bed.sent();
        }
    }
}
