//! Two ends over a link that loses, reorders and duplicates: whole streams arrive, both ends close.

use super::*;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// SplitMix64.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(super) fn per_mille(&mut self, chance: u64) -> bool {
        self.below(1000) < chance
    }
}

/// What a run is like, drawn from its seed.
#[derive(Debug)]
struct Run {
    loss: u64,
    duplication: u64,
    delay: u64,
    jitter: u64,
    /// Largest payload of a segment that arrives.
    carries: usize,
    /// Bytes from client and from server.
    len: [u64; 2],
    cfg: [TcpConfig; 2],
    opts: [SocketOptions; 2],
    burst: [usize; 2],
    /// Microseconds between two reads of an end, 0 = at once.
    read_pause: [u64; 2],
}

impl Run {
    fn draw(rng: &mut Rng) -> Run {
        let mut run = Run {
            loss: [0, 10, 50, 100][rng.below(4) as usize],
            duplication: [0, 20, 100][rng.below(3) as usize],
            delay: [20, 1_000, 40_000][rng.below(3) as usize],
            jitter: 0,
            carries: usize::MAX,
            len: [0; 2],
            cfg: [TcpConfig::default(); 2],
            opts: [SocketOptions::default(); 2],
            burst: [0; 2],
            read_pause: [0; 2],
        };
        let probing = [MtuProbing::Off, MtuProbing::BlackHole, MtuProbing::Always];
        let probing = probing[rng.below(3) as usize];
        if probing != MtuProbing::Off && rng.per_mille(500) {
            run.carries = 512 + rng.below(3000) as usize;
        }
        run.jitter = [0, run.delay / 4, run.delay * 3][rng.below(3) as usize];
        for end in 0..2 {
            run.len[end] = [0, 1, rng.below(3_000), rng.below(300_000)][rng.below(4) as usize];
            run.cfg[end] = TcpConfig {
                mss: [88, 536, 1460, 8960][rng.below(4) as usize],
                window_scaling: rng.per_mille(700),
                timestamps: rng.per_mille(700),
                sack: rng.per_mille(700),
                mtu_probing: probing,
                syn_retries: 12,
                synack_retries: 12,
                orphan_retries: 15,
                // Longer than a timeout backed off to its limit, so that a FIN finds an answer.
                time_wait: Duration::from_secs(1200),
                ..TcpConfig::default()
            };
            run.opts[end] = SocketOptions {
                nodelay: rng.per_mille(500),
                cork: rng.per_mille(100),
                recv_buffer: rng.per_mille(300).then(|| 300 + rng.below(20_000) as u32),
                ..SocketOptions::default()
            };
            run.burst[end] = if rng.per_mille(500) { BURST } else { 1 };
            run.read_pause[end] = if rng.per_mille(300) {
                1 + rng.below(300_000)
            } else {
                0
            };
        }
        run
    }
}

/// A packet under way: when it arrives, a number that keeps the order, to whom.
type InFlight = Reverse<(Instant, u64, usize)>;

struct Simulation {
    rng: Rng,
    run: Run,
    now: Instant,
    hosts: [Option<Host>; 2],
    next_read: [Instant; 2],
    closing: [bool; 2],
    arrivals: BinaryHeap<InFlight>,
    packets: Vec<Option<Packet>>,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut rng = Rng(seed);
        let run = Run::draw(&mut rng);
        let now = Instant::from_micros(rng.below(1 << 40));
        let mut client = Host::connect(now, &run.cfg[0], &run.opts[0]);
        client.burst = run.burst[0];
        Simulation {
            rng,
            run,
            now,
            hosts: [Some(client), None],
            next_read: [Instant::NEVER; 2],
            closing: [false; 2],
            arrivals: BinaryHeap::new(),
            packets: Vec::new(),
        }
    }

    fn transmit(&mut self, packet: Packet, to: usize) {
        let copies = 1 + u64::from(self.rng.per_mille(self.run.duplication));
        for _ in 0..copies {
            let wire = packet.segment().wire_payload();
            if wire > self.run.carries || self.rng.per_mille(self.run.loss) {
                continue;
            }
            let jitter = self.rng.below(self.run.jitter + 1);
            let at = self.now + Duration::from_micros(self.run.delay + jitter);
            self.arrivals
                .push(Reverse((at, self.packets.len() as u64, to)));
            self.packets.push(Some(packet.clone()));
        }
    }

    fn arrive(&mut self, packet: &Packet, to: usize) {
        let Some(host) = &mut self.hosts[to] else {
            if packet.segment().flags == Flags::SYN {
                let mut server =
                    Host::accept(self.now, &self.run.cfg[1], &self.run.opts[1], packet);
                server.burst = self.run.burst[1];
                self.hosts[to] = Some(server);
            }
            return;
        };
        if host.tcb.is_closed() {
            if let Some(reset) = reset_for(&packet.segment()) {
                let mut bytes = vec![0; reset.header_len()];
                reset.emit(1, 2, &mut bytes);
                self.transmit(
                    Packet {
                        bytes,
                        gso_size: 0,
                        ecn: Codepoint::NotEct,
                    },
                    1 - to,
                );
            }
            return;
        }
        let _ = host.receive(self.now, packet);
    }

    /// The application of one end: writes in pieces, reads, closes when both is done.
    fn serve(&mut self, end: usize) {
        let (len, peer_len) = (self.run.len[end], self.run.len[1 - end]);
        let Some(host) = &mut self.hosts[end] else {
            return;
        };
        if host.state() == State::SynSent || host.state() == State::SynReceived {
            return;
        }
        let buffered = host.written - host.tcb.acked();
        if host.written < len && buffered < 60_000 {
            let piece = 1 + self.rng.below(20_000);
            host.write(piece.min(len - host.written));
        }
        if host.tcb.received() > host.read {
            let pause = self.run.read_pause[end];
            if pause == 0 || self.next_read[end] <= self.now {
                host.read_all(self.now);
                self.next_read[end] = Instant::NEVER;
            } else if self.next_read[end] == Instant::NEVER {
                self.next_read[end] = self.now + Duration::from_micros(pause);
            }
        }
        if host.written == len && !self.closing[end] {
            self.closing[end] = true;
            host.tcb.shutdown_write(self.now);
        }
        let finished = self.closing[end] && host.tcb.peer_closed() && host.read == peer_len;
        if finished && !host.tcb.is_orphan() {
            host.tcb.close(self.now);
        }
    }

    fn step(&mut self) -> bool {
        for end in 0..2 {
            self.serve(end);
            let Some(host) = &mut self.hosts[end] else {
                continue;
            };
            for packet in host.poll(self.now) {
                self.transmit(packet, 1 - end);
            }
        }
        let mut next = self
            .arrivals
            .peek()
            .map_or(Instant::NEVER, |Reverse((at, ..))| *at);
        for (end, host) in self.hosts.iter().enumerate() {
            let Some(host) = host else { continue };
            next = next.min(host.tcb.next_deadline().unwrap_or(Instant::NEVER));
            next = next.min(self.next_read[end]);
            let more = host.written < self.run.len[end] && host.written == host.tcb.acked();
            if more && matches!(host.state(), State::Established | State::CloseWait) {
                next = next.min(self.now + Duration::from_micros(1));
            }
        }
        if next == Instant::NEVER {
            return false;
        }
        self.now = self.now.max(next);
        while let Some(Reverse((at, index, to))) = self.arrivals.peek().copied() {
            if at > self.now {
                break;
            }
            self.arrivals.pop();
            let packet = self.packets[index as usize]
                .take()
                .expect("each arrives once");
            self.arrive(&packet, to);
        }
        for host in self.hosts.iter_mut().flatten() {
            host.events |= host.tcb.on_timer(self.now);
            host.check_records();
        }
        true
    }
}

/// Names the seed of a run that panics, wherever it does.
pub(super) struct Named(pub(super) u64);

impl std::ops::Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("MTCP_TEST_SEED={} repeats it", self.0);
        }
    }
}

fn run(seed: u64) {
    let _named = Named(seed);
    let mut simulation = Simulation::new(seed);
    let mut steps = 0;
    while simulation.step() {
        steps += 1;
        assert!(
            steps < 2_000_000,
            "seed {seed}: no end in sight, {:?}",
            simulation.run
        );
    }
    let run = &simulation.run;
    for end in 0..2 {
        let host = simulation.hosts[end]
            .as_ref()
            .unwrap_or_else(|| panic!("seed {seed}: {run:?}"));
        let tcb = &host.tcb;
        assert_eq!(tcb.error(), None, "seed {seed}, end {end}: {run:?}");
        assert_eq!(
            tcb.received(),
            run.len[1 - end],
            "seed {seed}, end {end}: {run:?}"
        );
        assert_eq!(tcb.acked(), run.len[end], "seed {seed}, end {end}: {run:?}");
        assert!(
            tcb.is_closed() && tcb.peer_closed(),
            "seed {seed}, end {end}: {run:?}"
        );
    }
}

/// `MTCP_TEST_SEED=n` repeats one run, `MTCP_TEST_RUNS=n` makes that many, from `MTCP_TEST_FROM` on.
fn seeds() -> std::ops::Range<u64> {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|value| value.parse().expect(name))
    };
    if let Some(seed) = number("MTCP_TEST_SEED") {
        return seed..seed + 1;
    }
    let from = number("MTCP_TEST_FROM").unwrap_or(0);
    from..from + number("MTCP_TEST_RUNS").unwrap_or(3_000)
}

#[test]
fn whole_streams_arrive_over_a_bad_link_and_both_ends_close() {
    for seed in seeds() {
        run(seed);
    }
}
