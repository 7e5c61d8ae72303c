//! Runs the scenarios and writes what came of them: `docs/congestion.md` and its pictures.
//!
//! `cargo run --release -p simulator` does all. With `crowd` it prints the table of sixteen flows
//! alone. With the name of an algorithm, `CAPACITY` in Mbit/s, `RTT` in ms, flows and seconds, it runs
//! one scenario and prints its result.

use engine::tcp::Algorithm;
use simulator::scenarios::{alone, crowd, path};
use simulator::{Outcome, run};
use std::process::ExitCode;

mod report;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.is_empty() {
        return match report::write() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("simulator: {error}");
                ExitCode::FAILURE
            }
        };
    }
    if args == ["crowd"] {
        print!("{}", report::sixteen());
        return ExitCode::SUCCESS;
    }
    match one(&args) {
        Some(outcome) => {
            println!("{}", report::line(&outcome));
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("usage: simulator [crowd | reno|cubic|bbr|dctcp MBITS RTT_MS FLOWS SECONDS]");
            ExitCode::FAILURE
        }
    }
}

fn one(args: &[String]) -> Option<Outcome> {
    let [name, rest @ ..] = args else { return None };
    let algorithm = Algorithm::parse(name)?;
    let numbers: Vec<u64> = rest.iter().map_while(|arg| arg.parse().ok()).collect();
    let [megabits, millis, flows, seconds] = numbers[..] else {
        return None;
    };
    if [megabits, millis, flows, seconds].contains(&0) {
        return None;
    }
    let path = path(algorithm, megabits * 1_000_000, millis * 1000);
    Some(run(&match flows {
        1 => alone(algorithm, path, seconds, seconds / 4),
        _ => crowd(algorithm, flows, path, seconds, seconds / 2),
    }))
}
