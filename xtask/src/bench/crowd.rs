//! What idle connections cost the active ones beside them, on the stack over TAP.

use std::fs;
use std::process::{self, Command};

use serde_json::{Value, json};
use testbed::{Testbed, servers};

use super::idle::{park, release};
use super::kind::Kind;
use super::{CLIENT_CORE, SERVER_CORE, median};
use crate::shell::{Error, attempt, output};

/// The name by which `--only` selects this.
pub const NAME: &str = "cost of idle connections";

/// Idle connections beside the active ones.
const CROWDS: [usize; 3] = [1_000, 10_000, 100_000];

/// The crowd that has a goal, and the share of the active ones' rate that it may take.
const GOAL: (usize, f64) = (100_000, 0.05);

/// Descriptors that each of the two programs needs.
const DESCRIPTORS: usize = CROWDS[2] + 1024;

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
pub fn measure(pairs: usize, seconds: f64) -> Result<Vec<Cost>, Error> {
    let before = limits()?;
    let wanted = DESCRIPTORS.to_string();
    // A program's own limit may not pass the hard one, which it has of us.
    set_limits(&format!("{wanted}:{wanted}"))?;
    let costs = CROWDS.map(|idle| cost(idle, pairs, seconds));
    set_limits(&before)?;
    Ok(costs.into())
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

/// The active connections' round trip, without and with a crowd beside them.
fn run(idle: usize, seconds: f64) -> Result<[f64; 2], Error> {
    let bed = Testbed::server_on_tap().on_cores(SERVER_CORE, CLIENT_CORE);
    let server = servers::bench_server(&bed, "echo", 64);
    let active = || {
        let output = ACTIVE.load(&bed, &server, seconds).finish(testbed::LIMIT);
        let failed = || Error::Other(format!("the active ones have failed: {output}"));
        let figures = ACTIVE.read(&output).filter(|_| output.status.success());
        Ok(figures.ok_or_else(failed)?[0])
    };
    let without = active()?;
    let crowd = park(&bed, &server, idle);
    let with = active()?;
    release(crowd)?;
    Ok([without, with])
}

/// Our own limits of descriptors, as `SOFT:HARD`.
fn limits() -> Result<String, Error> {
    let path = "/proc/self/limits";
    let text = fs::read_to_string(path).map_err(crate::shell::at(path))?;
    parse_limits(&text).ok_or_else(|| Error::Other(format!("{path} has no open files")))
}

fn parse_limits(text: &str) -> Option<String> {
    let mut lines = text.lines();
    let rest = lines.find_map(|line| line.strip_prefix("Max open files"))?;
    let mut words = rest.split_whitespace();
    Some(format!("{}:{}", words.next()?, words.next()?))
}

fn set_limits(limits: &str) -> Result<(), Error> {
    let (pid, nofile) = (process::id().to_string(), format!("--nofile={limits}"));
    output(Command::new("prlimit").args(["--pid", &pid, &nofile])).map(|_| ())
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
    fn the_limits_of_open_files_are_read() {
        let text = "Limit   Soft Limit  Hard Limit  Units\nMax open files   1024   20000   files\n";
        assert_eq!(parse_limits(text).as_deref(), Some("1024:20000"));
    }

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
