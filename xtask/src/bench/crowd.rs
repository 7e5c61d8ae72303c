//! What idle connections cost the active ones beside them, on the stack over TAP.

use serde_json::{Value, json};
use testbed::servers::Server;
use testbed::{LIMIT, Testbed, artifacts};

use super::idle::{park, release};
use super::kind::Kind;
use super::{CLIENT_CORE, SERVER_CORE, median};
use crate::shell::{Error, attempt};

/// The name by which `--only` selects this.
pub const NAME: &str = "cost of idle connections";

/// Idle connections beside the active ones.
const CROWDS: [usize; 3] = [1_000, 10_000, 100_000];

/// The crowd that has a goal, and the share of the active ones' rate that it may take.
const GOAL: (usize, f64) = (100_000, 0.05);

/// Idle connections of one client and one server, which need a descriptor for each.
const PART: usize = 10_000;

/// Ports between one server and the next; each listens on sixteen.
const STEP: u16 = 100;

/// The port of the server that the active ones are at; the others' follow.
const PORT: u16 = 9000;

/// Room for the largest crowd, the active ones, and the listeners.
const MAX_SOCKETS: &str = "131072";

/// Microseconds of a round trip of 64 connections that are busy: their rate, put the other way.
const ACTIVE: Kind = Kind::RoundTrip {
    connections: 64,
    spin: false,
};

/// What a crowd of some size costs.
pub struct Cost {
    idle: usize,
    /// p50 without, and with it, of each pair.
    pairs: Vec<[f64; 2]>,
    failure: Option<String>,
}

/// Measures so many pairs, without and with each crowd.
pub fn measure(pairs: usize, seconds: f64) -> Vec<Cost> {
    CROWDS.map(|idle| cost(idle, pairs, seconds)).into()
}

fn cost(idle: usize, pairs: usize, seconds: f64) -> Cost {
    let mut cost = Cost {
        idle,
        pairs: Vec::new(),
        failure: None,
    };
    for pair in 1..=pairs {
        match attempt(|| run(idle, seconds)) {
            Ok([without, with]) => {
                eprintln!(
                    "  {idle} idle, pair {pair}/{pairs}: {without:.1} us without, {with:.1} us with them"
                );
                cost.pairs.push([without, with]);
            }
            Err(error) => {
                eprintln!("  {idle} idle, pair {pair}/{pairs}: {error}");
                cost.failure = Some(error.to_string());
                break;
            }
        }
    }
    cost
}

/// The servers under one stack: the active ones' own, and one for each part of the crowd.
fn serve(bed: &Testbed, parts: usize) -> Server {
    let program = artifacts::bench_server();
    let last = PORT + STEP * parts as u16;
    let script = format!(
        "trap 'kill $(jobs -p)' TERM; for port in $(seq {PORT} {STEP} {last}); do \
         '{}' echo --port $port --ports 16 & done; wait",
        program.display()
    );
    let mut server = Server::start(bed, "sh", &["-c", &script], PORT);
    for port in (PORT..=last).step_by(STEP.into()) {
        server.port = port;
        server.wait_until_it_listens(bed);
    }
    server.port = PORT;
    server
}

/// The active connections' round trip, without and with a crowd beside them.
fn run(idle: usize, seconds: f64) -> Result<[f64; 2], Error> {
    let bed = Testbed::server_on_tap().with_server_options(&["--max-sockets", MAX_SOCKETS]);
    let bed = bed.on_cores(SERVER_CORE, CLIENT_CORE);
    let parts = idle.div_ceil(PART);
    let server = serve(&bed, parts);
    let active = || {
        let output = ACTIVE.load(&bed, &server, seconds).finish(LIMIT);
        let failed = || Error::Other(format!("the active ones have failed: {output}"));
        let figures = ACTIVE.read(&output).filter(|_| output.status.success());
        Ok(figures.ok_or_else(failed)?[0])
    };
    let without = active()?;
    let ports = (PORT..).step_by(STEP.into()).skip(1).take(parts);
    let crowd: Vec<_> = ports.map(|port| park(&bed, port, idle / parts)).collect();
    let with = active()?;
    for part in crowd {
        release(part)?;
    }
    Ok([without, with])
}

impl Cost {
    /// The share of the active ones' rate that the crowd takes: the median of the pairs'.
    fn share(&self) -> f64 {
        let shares = self
            .pairs
            .iter()
            .map(|[without, with]| 1.0 - without / with);
        median(&shares.collect::<Vec<_>>())
    }

    /// The line of the report.
    pub fn text(&self) -> String {
        let idle = self.idle;
        if let Some(failure) = &self.failure {
            return format!("{NAME}, {idle}: failed: {failure}");
        }
        let of = |place: usize| {
            median(
                &self
                    .pairs
                    .iter()
                    .map(|pair| pair[place])
                    .collect::<Vec<_>>(),
            )
        };
        let share = self.share();
        let (crowd, goal) = GOAL;
        let reached = if share <= goal { "reached" } else { "missed" };
        let goal = match idle == crowd {
            true => format!(" (goal: at most {:.0} %; {reached})", goal * 100.0),
            false => String::new(),
        };
        format!(
            "{NAME}: {idle} beside 64 active ones over TAP, round trip p50 {:.1} us without, {:.1} us with them: \
             {:.1} % of the rate{goal}",
            of(0),
            of(1),
            share * 100.0
        )
    }

    /// The same for results.json.
    pub fn to_json(&self) -> Value {
        json!({ "idle": self.idle, "p50_us_without_and_with": self.pairs, "failure": self.failure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_that_takes_twice_as_long_costs_half_the_rate() {
        let cost = Cost {
            idle: 100_000,
            pairs: vec![[50.0, 100.0]],
            failure: None,
        };
        assert_eq!(cost.share(), 0.5);
        assert!(cost.text().contains("missed"), "{}", cost.text());
    }
}
