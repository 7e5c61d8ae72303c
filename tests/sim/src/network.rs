//! The event loop: packets arrive, timers expire, ends send.

use crate::bottleneck::{Bottleneck, Link, Run};
use crate::flow::{End, Flow, FlowSpec, Packet};
use crate::measure::{Outcome, Series};
use crate::rng::Rng;
use engine::tcp::Instant;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Nanoseconds of a microsecond.
const MICRO: u64 = 1000;

/// What is to be simulated, and for how long. Times are in microseconds.
#[derive(Clone, Debug)]
pub struct Network {
    /// The path that all share.
    pub path: Bottleneck,
    /// The flows.
    pub flows: Vec<FlowSpec>,
    /// When it ends.
    pub until: u64,
    /// From when on rates count.
    pub measure_from: u64,
    /// How often windows are noted.
    pub sample_every: u64,
}

enum Event {
    Arrival(End, Box<Packet>),
    Timer(End),
    Sample,
    Measure,
}

/// An event's time in nanoseconds, and a number that keeps the order of equals.
type Key = (u64, u64);

struct Simulation {
    path: Bottleneck,
    link: Link,
    flows: Vec<Flow>,
    queue: BinaryHeap<Reverse<(Key, usize)>>,
    /// Events by the numbers in `queue`, with the flow that they are for; slots are used again.
    events: Vec<Option<(usize, Event)>>,
    free: Vec<usize>,
    number: u64,
    /// For each flow and end, when its timer event comes.
    armed: Vec<[u64; 2]>,
    runs: Vec<Run>,
    rng: Rng,
    /// For each flow, when the last packet on its way back arrives.
    back_at: Vec<u64>,
}

impl Simulation {
    fn push(&mut self, at: u64, flow: usize, event: Event) {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.events.push(None);
                self.events.len() - 1
            }
        };
        self.events[slot] = Some((flow, event));
        self.number += 1;
        self.queue.push(Reverse(((at, self.number), slot)));
    }

    /// Sends what an end has to send, and sets its timer.
    fn serve(&mut self, now: u64, index: usize, end: End) {
        let micros = Instant::from_micros(now / MICRO);
        while let Some(packet) = self.flows[index].poll(micros, end) {
            match end {
                End::Sender => self.send(now, index, &packet),
                End::Receiver => {
                    let jitter = self.rng.below(self.path.jitter * MICRO);
                    let at = now + self.path.rtt / 2 * MICRO + jitter;
                    self.back_at[index] = at.max(self.back_at[index]);
                    let arrival = Event::Arrival(End::Sender, Box::new(packet));
                    self.push(self.back_at[index], index, arrival);
                }
            }
        }
        let Some(deadline) = self.flows[index].deadline(end) else {
            return;
        };
        let at = deadline.as_micros().saturating_mul(MICRO).max(now);
        let armed = &mut self.armed[index][end as usize];
        if at < *armed {
            *armed = at;
            self.push(at, index, Event::Timer(end));
        }
    }

    fn send(&mut self, now: u64, index: usize, packet: &Packet) {
        let mut runs = std::mem::take(&mut self.runs);
        let markable = packet.head.ecn != engine::tcp::Codepoint::NotEct;
        self.link.take(now, packet.count(), markable, &mut runs);
        for run in runs.drain(..) {
            let part = packet.part(run.first, run.count, run.marked);
            let at = run.left + self.path.rtt / 2 * MICRO;
            self.push(at, index, Event::Arrival(End::Receiver, Box::new(part)));
        }
        self.runs = runs;
    }

    fn on_timer(&mut self, now: u64, index: usize, end: End) {
        let armed = &mut self.armed[index][end as usize];
        if *armed != now {
            return;
        }
        *armed = u64::MAX;
        self.flows[index].expire(Instant::from_micros(now / MICRO), end);
        self.serve(now, index, end);
    }
}

/// Runs a simulation to its end.
pub fn run(network: &Network) -> Outcome {
    let count = network.flows.len();
    let flows = (1..).zip(&network.flows);
    let mut simulation = Simulation {
        path: network.path,
        link: Link::new(network.path),
        flows: flows.map(|(n, spec)| Flow::new(*spec, n)).collect(),
        queue: BinaryHeap::new(),
        events: Vec::new(),
        free: Vec::new(),
        number: 0,
        armed: vec![[u64::MAX; 2]; count],
        runs: Vec::new(),
        rng: Rng::new(1),
        back_at: vec![0; count],
    };
    for index in 0..count {
        let start = network.flows[index].start * MICRO;
        simulation.armed[index][End::Sender as usize] = start;
        simulation.push(start, index, Event::Timer(End::Sender));
    }
    simulation.push(0, 0, Event::Sample);
    simulation.push(network.measure_from * MICRO, 0, Event::Measure);
    let mut series = vec![Series::default(); count];
    let mut before = vec![0; count];
    let mut dropped_before = 0;
    let end = network.until * MICRO;
    while let Some(Reverse(((now, _), slot))) = simulation.queue.pop() {
        if now > end {
            break;
        }
        let Some((index, event)) = simulation.events[slot].take() else {
            continue;
        };
        simulation.free.push(slot);
        match event {
            Event::Arrival(at, packet) => {
                let micros = Instant::from_micros(now / MICRO);
                simulation.flows[index].arrive(micros, at, &packet);
                simulation.serve(now, index, at);
            }
            Event::Timer(at) => simulation.on_timer(now, index, at),
            Event::Sample => {
                for (flow, series) in simulation.flows.iter().zip(&mut series) {
                    series.note(now / MICRO, flow.sender());
                }
                simulation.push(now + network.sample_every * MICRO, 0, Event::Sample);
            }
            Event::Measure => {
                for (flow, before) in simulation.flows.iter().zip(&mut before) {
                    *before = flow.received();
                }
                dropped_before = simulation.link.dropped;
            }
        }
    }
    let span = (network.until - network.measure_from) as f64 / 1e6;
    let rates = simulation.flows.iter().zip(&before);
    let rates = rates.map(|(flow, before)| (flow.received() - before) as f64 * 8.0 / span);
    Outcome {
        capacity: network.path.capacity,
        rates: rates.collect(),
        dropped: simulation.link.dropped - dropped_before,
        marked: simulation.link.marked,
        longest_queue: simulation.link.longest,
        timeouts: simulation
            .flows
            .iter()
            .map(|flow| u64::from(flow.sender().info(Instant::ZERO).counters.timeouts))
            .sum(),
        series,
    }
}
