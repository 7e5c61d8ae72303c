//! Hostile networks and hostile applications, from seeds: the worker survives, loses nothing, and
//! others notice nothing.

use crate::bed::{Bed, Family, Setup, exchange, pass_together};
use crate::conversation::Conversation;
use crate::dice::Dice;
use crate::frames::TcpFrame;
use crate::hostile_application::Hostile;
use crate::hostile_network::{HOST, Network, Server};
use crate::scripts;
use engine::stats::Counter;
use psio::pair::PairConfig;
use psio::{RxChecksum, RxMeta};

over_both_families! {
    a_hostile_network_disturbs_no_other_connection,
    a_hostile_application_disturbs_no_other_process,
}

/// Says which seed it was, if the test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

/// Two stacks, of every second seed with all offloads, super-segments among them.
fn joined(family: Family, seed: u64) -> (Bed, Bed) {
    let (mut a, mut b) = (Setup::over(family, 1), Setup::over(family, 2));
    if seed % 2 == 1 {
        a.pair = PairConfig::default();
        b.pair = PairConfig::default();
    }
    (a.build(), b.build())
}

/// When all processes are gone, nothing is left of what they had.
fn assert_nothing_leaks(a: &mut Bed, b: &mut Bed, processes: &[u32]) {
    let contexts: Vec<u32> = (0..64).collect();
    for (i, process) in processes.iter().enumerate() {
        let contexts = if i == 0 { &contexts[..] } else { &[] };
        a.process_gone(*process, contexts);
    }
    b.process_gone(1, &[0]);
    for _ in 0..200 {
        pass_together(a, b, 20_000_000);
        if a.count(Counter::connections) == 0 {
            break;
        }
    }
    assert_eq!(a.count(Counter::connections), 0, "connections are left");
    assert_eq!(a.memory(), 0, "memory is left");
    let mut app = a.open_context(0, 1000);
    let mut records = 0;
    while app.socket().is_some() || a.settle() && app.socket().is_some() {
        records += 1;
    }
    assert_eq!(records, a.shared.segment.geometry().sockets());
}

fn a_hostile_network_disturbs_no_other_connection(family: Family) {
    let mut accepted = 0;
    for seed in 0..60 {
        let _seed = Seed(seed);
        let mut dice = Dice::seeded(seed);
        let (mut a, mut b) = joined(family, seed);
        let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
        let mut server = Server::start(&mut a, 2);
        let mut network = Network::new(family, 1);
        for _ in 0..100 {
            for _ in 0..dice.below(20) {
                let frame = network.frame(&mut dice);
                let about = RxMeta {
                    checksum: [RxChecksum::Unknown, RxChecksum::Good][dice.index(2)],
                    gso_size: dice.odd_word() as u16,
                };
                a.inject_with(&frame, about);
            }
            server.go_on(&mut dice);
            talk.go_on(&mut dice);
            exchange(&mut a, &mut b, |from_a, frame| {
                if from_a {
                    network.see(frame);
                }
                let hostile = family.address(HOST);
                let to_hostile = TcpFrame::parse(frame).is_some_and(|s| s.dst.0 == hostile);
                !(from_a && to_hostile)
            });
            let step = [0, 1000, 50_000, 400_000][dice.index(4)];
            pass_together(&mut a, &mut b, step);
        }
        talk.finish(&mut a, &mut b);
        assert!(talk.bytes() > 0);
        accepted += a.count(Counter::accepts);
        assert_nothing_leaks(&mut a, &mut b, &[1, 2]);
    }
    assert!(accepted > 0, "the hostile station had no connection");
}

fn a_hostile_application_disturbs_no_other_process(family: Family) {
    for seed in 0..60 {
        let _seed = Seed(seed);
        let mut dice = Dice::seeded(seed);
        let (mut a, mut b) = joined(family, seed);
        let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
        let targets = [b.at(80), b.at(9), a.at(5000), a.at(5001)];
        let spared = [talk.client.socket];
        let mut hostile = Hostile::start(&mut a, 2, &spared, &targets);
        for round in 1..240 {
            for _ in 0..dice.below(8) {
                hostile.go_on(&mut a, &mut dice);
            }
            if round % 60 == 0 {
                hostile.end(&mut a);
                hostile = Hostile::start(&mut a, 2 + round, &spared, &targets);
            }
            talk.go_on(&mut dice);
            if let Some(socket) = talk.server.app.accept(talk.listener) {
                match dice.below(3) {
                    0 => talk.server.app.reset(socket),
                    1 => talk.server.app.close(socket),
                    _ => {
                        talk.server.app.send(socket, &[1; 3000]);
                    }
                }
            }
            exchange(&mut a, &mut b, |_, _| true);
            let step = [0, 1000, 50_000, 400_000][dice.index(4)];
            pass_together(&mut a, &mut b, step);
        }
        talk.finish(&mut a, &mut b);
        assert!(talk.bytes() > 0);
        hostile.end(&mut a);
        talk.finish(&mut a, &mut b);
        assert_nothing_leaks(&mut a, &mut b, &[1]);
    }
}

/// What the fuzzer has kept, and some of what it starts from.
#[test]
fn the_fuzz_corpus_is_harmless() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    type Target = (&'static str, fn(&[u8]));
    let targets: [Target; 4] = [
        ("frame", scripts::frame),
        ("tcp_options", scripts::tcp_options),
        ("on_segment", scripts::on_segment),
        ("commands", scripts::commands),
    ];
    for (name, target) in targets {
        let mut files = 0;
        for file in std::fs::read_dir(corpus.join(name)).unwrap() {
            let path = file.unwrap().path();
            eprintln!("{}", path.display());
            target(&std::fs::read(path).unwrap());
            files += 1;
        }
        assert!(files > 0, "no corpus for {name}");
        for seed in 0..20 {
            let mut bytes = vec![0; 400];
            Dice::seeded(seed).fill(&mut bytes);
            target(&bytes);
        }
    }
}
