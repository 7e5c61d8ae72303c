//! What the fuzz targets do with their bytes. The corpus that they have found is run by the suite,
//! too.

use crate::bed::{Bed, Setup, exchange};
use crate::conversation::Conversation;
use crate::dice::Dice;
use crate::frames::{fix_checksums, options};
use crate::hostile_application::Hostile;
use crate::hostile_network::{Network, Server};
use engine::stats::Counter;
use engine::tcp::{Flags, Options, Segment};

/// A small stack at host 1, quick to make.
fn small(host: u8) -> Bed {
    let mut setup = Setup::host(host);
    setup.plan.sockets = 128;
    setup.plan.memory = 16 << 20;
    setup.config.memory = 16 << 20;
    setup.build()
}

/// Frames as they are: two bytes of length before each, the highest bit asking for right checksums.
pub fn frame(mut data: &[u8]) {
    let mut bed = small(1);
    let mut server = Server::start(&mut bed, 2);
    let mut dice = Dice::seeded(1);
    while let [low, high, rest @ ..] = data {
        let len = usize::from(u16::from_le_bytes([*low, *high & 0x7f])).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        let mut bytes = bytes.to_vec();
        if high & 0x80 != 0 {
            fix_checksums(&mut bytes);
        }
        bed.inject(&bytes);
        bed.settle();
        bed.sent();
        server.go_on(&mut dice);
        bed.now += 50_000;
        bed.settle();
        data = rest;
    }
    end(&mut bed, &[2]);
}

/// The options of a SYN, and those of what follows, behind a length byte.
pub fn tcp_options(data: &[u8]) {
    let _ = Segment::parse(data);
    if let Ok(parsed) = Options::parse(data) {
        let mut bytes = [0; 40];
        let len = parsed.emit(&mut bytes);
        let again = Options::parse(&bytes[..len]).unwrap();
        // SACK blocks for which there is no room are left out, from the last on.
        let sack = again.sack.as_slice();
        assert!(parsed.sack.as_slice().starts_with(sack));
        assert_eq!(
            Options {
                sack: parsed.sack,
                ..again
            },
            parsed
        );
    }
    let Some((len, rest)) = data.split_first() else {
        return;
    };
    let (first, second) = rest.split_at(usize::from(*len).min(rest.len()).min(40));
    let mut bed = small(1);
    let mut server = Server::start(&mut bed, 2);
    let mut dice = Dice::seeded(1);
    let mut segment = bed.segment_from(3, (1000, 81), Flags::SYN);
    segment.options = first.to_vec();
    let Some(reply) = bed.answer(&segment).pop() else {
        return end(&mut bed, &[2]);
    };
    segment.flags = Flags::ACK;
    (segment.seq, segment.ack) = (1001, reply.seq.wrapping_add(1));
    let well_formed = options(None, None, &[]);
    for options in [&well_formed, &second[..second.len().min(40)]] {
        segment.options = options.to_vec();
        for _ in 0..3 {
            bed.answer(&segment);
            server.go_on(&mut dice);
            bed.now += 300_000;
            bed.settle();
        }
        segment.payload = vec![7; 100];
    }
    end(&mut bed, &[2]);
}

/// Segments that fit into the connections that a station has.
pub fn on_segment(data: &[u8]) {
    let mut dice = Dice::from_bytes(data);
    let mut bed = small(1);
    let mut server = Server::start(&mut bed, 2);
    let mut network = Network::new(bed.family, 1);
    while !dice.is_spent() {
        let segment = network.segment(&mut dice);
        bed.inject(&segment.bytes());
        server.go_on(&mut dice);
        bed.now += [0, 1000, 50_000, 400_000][dice.index(4)];
        bed.settle();
        for frame in bed.sent() {
            network.see(&frame);
        }
    }
    end(&mut bed, &[2]);
}

/// What an application writes into the segment, while another one goes on.
pub fn commands(data: &[u8]) {
    let mut dice = Dice::from_bytes(data);
    let (mut a, mut b) = (small(1), small(2));
    let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
    let targets = [b.at(80), b.at(9), a.at(5000), a.at(5001)];
    let mut hostile = Hostile::start(&mut a, 2, &[talk.client.socket], &targets);
    let mut amounts = Dice::seeded(1);
    let mut turns = 0;
    while !dice.is_spent() {
        hostile.go_on(&mut a, &mut dice);
        turns += 1;
        if turns % 8 == 0 {
            talk.go_on(&mut amounts);
            exchange(&mut a, &mut b, |_, _| true);
            a.now += [0, 1000, 50_000, 400_000][dice.index(4)];
            b.now = a.now;
        }
        a.settle();
    }
    talk.finish(&mut a, &mut b);
    hostile.end(&mut a);
    end(&mut a, &[1]);
}

/// All processes die: nothing may be left, though nobody answers.
fn end(bed: &mut Bed, processes: &[u32]) {
    let contexts: Vec<u32> = (0..8).collect();
    for process in processes {
        bed.process_gone(*process, &contexts);
    }
    for _ in 0..500 {
        bed.now += 20_000_000;
        bed.settle();
        bed.sent();
        if bed.count(Counter::connections) == 0 {
            break;
        }
    }
    assert_eq!(bed.count(Counter::connections), 0, "connections are left");
    assert_eq!(bed.memory(), 0, "memory is left");
}
