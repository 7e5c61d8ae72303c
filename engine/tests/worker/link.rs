//! Two stacks over a link on which everything goes wrong that a network can do: each stream arrives
//! whole and in order, both ends close, and nothing is left behind.
//!
//! `MTCP_TEST_SEED=n` repeats one run, `MTCP_TEST_RUNS=n` makes that many, from `MTCP_TEST_FROM` on.

use crate::app::App;
use crate::bed::{Bed, Family, Setup};
use crate::dice::Dice;
use crate::frames::IP;
use crate::path_mtu::too_big;
use engine::stats::Counter;
use engine::tcp::{Duration, MtuProbing, TcpConfig};
use psio::RxMeta;
use psio::pair::PairConfig;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const PORT: u16 = 80;
const SECOND: u64 = 1_000_000;

/// What the link and the applications are like, drawn from the seed.
#[derive(Debug)]
struct Run {
    family: Family,
    /// Chances in a thousand that a frame is lost, doubled, damaged.
    loss: u64,
    duplication: u64,
    corruption: u64,
    /// Microseconds.
    delay: u64,
    jitter: u64,
    /// Largest packets that the path takes, one after the other, and how long each counts.
    mtus: Vec<usize>,
    mtu_lasts: u64,
    /// Whether a router tells of packets that are too big.
    tells: bool,
    offloads: bool,
    connections: usize,
    /// Largest stream in bytes.
    most: u64,
}

impl Run {
    fn draw(dice: &mut Dice<'_>) -> Run {
        fn one_of<T: Copy>(dice: &mut Dice<'_>, choices: &[T]) -> T {
            choices[dice.index(choices.len())]
        }
        let delay = one_of(dice, &[20, 1_000, 40_000]);
        let family = one_of(dice, &[Family::V4, Family::V6]);
        let least = match family {
            Family::V4 => 600,
            // Every link of IPv6 takes 1,280 bytes (RFC 8200 §5).
            Family::V6 => 1280,
        };
        Run {
            family,
            loss: one_of(dice, &[0, 1, 10, 50, 100, 200]),
            duplication: one_of(dice, &[0, 0, 20, 100]),
            corruption: one_of(dice, &[0, 0, 10, 50]),
            delay,
            jitter: one_of(dice, &[0, delay / 4, delay * 3]),
            mtus: match dice.below(3) {
                0 => (0..4).map(|_| least + dice.index(1500 - least)).collect(),
                _ => vec![1500],
            },
            mtu_lasts: one_of(dice, &[SECOND / 10, SECOND, 30 * SECOND]),
            tells: dice.one_in(2),
            offloads: dice.one_in(3),
            connections: 1 + dice.index(4),
            most: one_of(dice, &[1, 3_000, 100_000, 400_000]),
        }
    }

    fn setup(&self, host: u8, dice: &mut Dice<'_>) -> Setup {
        let mut setup = Setup::over(self.family, host);
        if self.offloads {
            setup.pair = PairConfig::default();
        }
        let changes = self.mtus.len() > 1;
        setup.config.tcp = TcpConfig {
            // Longer than a timeout backed off to its limit, so that a FIN finds an answer.
            time_wait: Duration::from_secs(1200),
            fin_wait2_timeout: Duration::from_secs(1200),
            syn_retries: 12,
            synack_retries: 12,
            orphan_retries: 15,
            timestamps: !dice.one_in(3),
            sack: !dice.one_in(3),
            window_scaling: !dice.one_in(3),
            mtu_probing: match dice.below(3) {
                0 if self.tells || !changes => MtuProbing::Off,
                1 => MtuProbing::Always,
                _ => MtuProbing::BlackHole,
            },
            ..TcpConfig::default()
        };
        setup
    }
}

/// One end of one connection, which writes and reads in pieces of its own.
struct End {
    socket: u32,
    /// Distinguishes the streams.
    name: u64,
    peer: u64,
    len: u64,
    written: u64,
    read: u64,
    shut: bool,
    closed: bool,
    /// When it looks again.
    next: u64,
    /// Microseconds between two looks at most, while something happens.
    pause: u64,
    /// Microseconds that it waits longer because nothing has happened.
    idle: u64,
}

/// Byte `at` of the stream `name`.
fn byte(name: u64, at: u64) -> u8 {
    (at ^ at >> 8 ^ at >> 17 ^ name.wrapping_mul(0x9d)) as u8
}

impl End {
    fn new(socket: u32, name: u64, peer: u64, run: &Run, dice: &mut Dice<'_>) -> End {
        let pauses = [0, 100, 10_000, 300_000];
        End {
            socket,
            name,
            peer,
            len: dice.below(run.most + 1),
            written: 0,
            read: 0,
            shut: false,
            closed: false,
            next: 0,
            pause: pauses[dice.index(pauses.len())],
            idle: 0,
        }
    }

    /// Does what there is to do; says whether that was anything.
    fn work(&mut self, app: &mut App, now: u64, dice: &mut Dice<'_>) -> bool {
        if self.closed || now < self.next || !app.was_connected(self.socket) {
            return false;
        }
        let mut worked = self.read_some(app, dice);
        if self.written < self.len {
            let room = app.writable(self.socket);
            let n = (1 + dice.below(30_000))
                .min(self.len - self.written)
                .min(room);
            let data: Vec<u8> = (self.written..self.written + n)
                .map(|at| byte(self.name, at))
                .collect();
            let sent = app.send(self.socket, &data) as u64;
            self.written += sent;
            worked |= sent > 0;
        } else if !self.shut {
            app.shutdown_write(self.socket);
            self.shut = true;
            worked = true;
        }
        if self.shut && app.is_at_end(self.socket) {
            let error = app.take_error(self.socket);
            assert_eq!(
                error, 0,
                "stream {} at {now}: {} of {}",
                self.name, self.written, self.len
            );
            app.close(self.socket);
            self.closed = true;
            worked = true;
        }
        // The longer nothing happens, the more seldom it looks.
        self.idle = match worked {
            true => 0,
            false => (2 * self.idle).clamp(1, SECOND),
        };
        self.next = match self.pause {
            0 => now,
            pause => now + 1 + dice.below(pause) + self.idle,
        };
        worked
    }

    fn read_some(&mut self, app: &mut App, dice: &mut Dice<'_>) -> bool {
        let n = app.readable(self.socket).min(1 + dice.below(60_000));
        let data = app.recv(self.socket, n as usize);
        for (at, got) in (self.read..).zip(&data) {
            assert_eq!(
                *got,
                byte(self.peer, at),
                "byte {at} of stream {}",
                self.peer
            );
        }
        self.read += data.len() as u64;
        !data.is_empty()
    }
}

/// A stack with its one application.
struct Side {
    bed: Bed,
    app: App,
    ends: Vec<End>,
}

/// When it arrives, a number that keeps the order, at which side, and its place in `flying`.
type Arrival = Reverse<(u64, u64, usize, usize)>;

struct Simulation {
    dice: Dice<'static>,
    run: Run,
    now: u64,
    start: u64,
    sides: [Side; 2],
    listener: u32,
    arrivals: BinaryHeap<Arrival>,
    flying: Vec<Option<(Vec<u8>, RxMeta)>>,
    free: Vec<usize>,
    number: u64,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut dice = Dice::seeded(seed);
        let run = Run::draw(&mut dice);
        let mut side = |host| {
            let mut bed = run.setup(host, &mut dice).build();
            let app = bed.app(1);
            Side {
                bed,
                app,
                ends: Vec::new(),
            }
        };
        let [mut client, mut server] = [side(1), side(2)];
        let listener = server.app.socket().unwrap();
        assert!(server.bed.listen(listener, PORT, 10));
        for n in 0..run.connections as u64 {
            let socket = client.app.socket().unwrap();
            client.app.connect(socket, server.bed.at(PORT));
            let end = End::new(socket, 2 * n, 0, &run, &mut dice);
            client.ends.push(end);
        }
        let start = client.bed.now;
        Simulation {
            dice,
            run,
            now: start,
            start,
            sides: [client, server],
            listener,
            arrivals: BinaryHeap::new(),
            flying: Vec::new(),
            free: Vec::new(),
            number: 0,
        }
    }

    /// Applications and stacks do what they can, until nothing is left to do at this time.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            for side in &mut self.sides {
                side.bed.now = self.now;
                side.bed.settle();
            }
            let mut worked = self.accept();
            for to in [1, 0] {
                let side = &mut self.sides[1 - to];
                for end in &mut side.ends {
                    worked |= end.work(&mut side.app, self.now, &mut self.dice);
                }
                for (frame, about) in side.bed.sent_with() {
                    worked = true;
                    self.carry(frame, about, to);
                }
            }
            if !worked {
                return;
            }
        }
        panic!("no rest at {}", self.now);
    }

    /// Pairs what the server accepts with who connected.
    fn accept(&mut self) -> bool {
        let [client, server] = &mut self.sides;
        let Some(socket) = server.app.accept(self.listener) else {
            return false;
        };
        let names = |app: &App, socket| {
            let record = app.shared.segment.socket(socket).unwrap();
            (record.names.local(), record.names.remote())
        };
        let (local, remote) = names(&server.app, socket);
        let peer = client
            .ends
            .iter_mut()
            .find(|end| names(&client.app, end.socket) == (remote, local))
            .expect("somebody has connected");
        peer.peer = peer.name + 1;
        let end = End::new(socket, peer.peer, peer.name, &self.run, &mut self.dice);
        server.ends.push(end);
        true
    }

    fn mtu(&self) -> usize {
        let periods = (self.now - self.start) / self.run.mtu_lasts;
        self.run.mtus[periods as usize % self.run.mtus.len()]
    }

    fn per_mille(&mut self, chance: u64) -> bool {
        self.dice.below(1000) < chance
    }

    /// A frame leaves for side `to`, and may never get there.
    fn carry(&mut self, frame: Vec<u8>, about: RxMeta, to: usize) {
        let largest = match about.gso_size {
            0 => frame.len() - IP,
            size => {
                let header = self.run.family.header();
                header + usize::from(frame[IP + header + 12] >> 4) * 4 + usize::from(size)
            }
        };
        let mtu = self.mtu();
        if largest > mtu {
            if self.run.tells {
                let error = too_big(&frame, mtu as u16);
                self.launch(error, RxMeta::default(), 1 - to);
            }
            return;
        }
        if self.per_mille(self.run.loss) {
            return;
        }
        if self.per_mille(self.run.duplication) {
            self.launch(frame.clone(), about, to);
        }
        self.launch(frame, about, to);
    }

    fn launch(&mut self, mut frame: Vec<u8>, about: RxMeta, to: usize) {
        if self.per_mille(self.run.corruption) {
            if self.run.offloads {
                // Checksums are not filled in on the way: the receiver's card would drop it.
                return;
            }
            // Behind the link's header, which has a checksum of its own.
            let bit = self.dice.index((frame.len() - IP) * 8);
            frame[IP + bit / 8] ^= 1 << (bit % 8);
        }
        let at = self.now + self.run.delay + self.dice.below(self.run.jitter + 1);
        let place = self.free.pop().unwrap_or_else(|| {
            self.flying.push(None);
            self.flying.len() - 1
        });
        self.flying[place] = Some((frame, about));
        self.number += 1;
        self.arrivals.push(Reverse((at, self.number, to, place)));
    }

    /// Goes to when something happens next. False if nothing ever does.
    fn advance(&mut self) -> bool {
        let arrival = self.arrivals.peek().map(|Reverse((at, ..))| *at);
        let deadlines = self
            .sides
            .iter()
            .map(|side| side.bed.worker.next_deadline());
        let looks = self.sides.iter().flat_map(|side| &side.ends);
        let looks = looks.filter(|end| !end.closed && end.next > self.now);
        let next = looks
            .map(|end| end.next)
            .chain(deadlines)
            .chain(arrival)
            .min()
            .unwrap_or(u64::MAX);
        if next == u64::MAX {
            return false;
        }
        self.now = next.max(self.now + 1);
        while let Some(Reverse((at, _, to, place))) = self.arrivals.peek().copied() {
            if at > self.now {
                break;
            }
            self.arrivals.pop();
            self.free.push(place);
            let (frame, about) = self.flying[place].take().expect("each arrives once");
            let bed = &mut self.sides[to].bed;
            bed.now = self.now;
            bed.inject_with(&frame, about);
            // The wire between is as long as its ring.
            bed.settle();
        }
        true
    }

    /// Runs until all is said and done, and checks what is left.
    fn finish(&mut self) -> u64 {
        let limit = self.start + 200_000 * SECOND;
        while self.advance_and_settle() {
            assert!(self.now < limit, "no end in sight: {}", self.report());
        }
        let [client, server] = &self.sides;
        assert_eq!(client.ends.len(), server.ends.len(), "{}", self.report());
        for end in &server.ends {
            let peer = client.ends.iter().find(|peer| peer.name == end.peer);
            let peer = peer.expect("somebody has connected");
            assert_eq!(
                (end.read, peer.read),
                (peer.len, end.len),
                "{}",
                self.report()
            );
        }
        let segments = self.sides.iter_mut().map(|side| {
            let context = side.app.context;
            side.bed.process_gone(1, &[context]);
            assert_eq!(side.bed.count(Counter::connections), 0, "connections");
            assert_eq!(side.bed.count(Counter::time_wait), 0, "TIME-WAIT");
            assert_eq!(side.bed.memory(), 0, "bytes of memory");
            side.bed.count(Counter::frames_in)
        });
        segments.sum()
    }

    fn advance_and_settle(&mut self) -> bool {
        self.settle();
        let done = |side: &Side| side.ends.iter().all(|end| end.closed);
        let complete = self.sides[1].ends.len() == self.run.connections;
        if complete && self.sides.iter().all(done) && self.is_empty() {
            return false;
        }
        self.advance()
    }

    /// Whether no stack holds a connection, and nothing is on its way.
    fn is_empty(&mut self) -> bool {
        let none = |side: &mut Side| side.bed.count(Counter::connections) == 0;
        self.arrivals.is_empty() && self.sides.iter_mut().all(none)
    }

    fn report(&self) -> String {
        let ends = self.sides.each_ref().map(|side| {
            let of = |end: &End| {
                format!(
                    "{} of {} written, {} read, state {}{}",
                    end.written,
                    end.len,
                    end.read,
                    side.app.state(end.socket),
                    if end.closed { ", closed" } else { "" }
                )
            };
            side.ends.iter().map(of).collect::<Vec<_>>()
        });
        format!("{:?} {ends:#?}", self.run)
    }
}

/// Names the seed of a run that panics, wherever it does.
struct Named<'a>(u64, &'a str);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("MTCP_TEST_SEED={} repeats it: {}", self.0, self.1);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number")),
    )
}

fn seeds() -> std::ops::Range<u64> {
    if let Some(seed) = number("MTCP_TEST_SEED") {
        return seed..seed + 1;
    }
    let from = number("MTCP_TEST_FROM").unwrap_or(0);
    from..from + number("MTCP_TEST_RUNS").unwrap_or(1000)
}

#[test]
fn whole_streams_arrive_over_a_faulty_link_and_nothing_is_left() {
    let mut segments = 0;
    let seeds = seeds();
    for seed in seeds.clone() {
        let mut simulation = Simulation::new(seed);
        let run = format!("{:?}", simulation.run);
        let _named = Named(seed, &run);
        segments += simulation.finish();
    }
    println!("seeds {seeds:?}: {segments} segments arrived");
}
