//! The engine's fast paths, each repeated a number of times and nothing else, for counting their
//! instructions: `valgrind --tool=callgrind target/release/examples/fast_paths core-data 10000`.
//! `cargo xtask bench` does that, twice with different numbers, and prints the difference.

#[path = "../../tests/worker/app.rs"]
#[allow(dead_code)]
mod app;
#[path = "../../tests/worker/bed.rs"]
#[allow(dead_code)]
mod bed;
mod core_paths;
#[path = "../../tests/worker/frames.rs"]
#[allow(dead_code)]
mod frames;
mod worker_paths;

use std::process::ExitCode;

/// The name that selects a path, and what repeats it.
type NamedPath = (&'static str, fn(u64));

const PATHS: [NamedPath; 5] = [
    ("core-data", core_paths::receive_in_order),
    ("core-ack", core_paths::take_acks),
    ("core-short", core_paths::short_connections),
    ("engine-data", worker_paths::receive_in_order),
    ("engine-short", worker_paths::short_connections),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let path = arguments
        .next()
        .and_then(|name| PATHS.iter().find(|path| path.0 == name));
    let times = arguments.next().and_then(|times| times.parse().ok());
    if let (Some((_, run)), Some(times)) = (path, times) {
        run(times);
        return ExitCode::SUCCESS;
    }
    let names = PATHS.map(|path| path.0).join("|");
    eprintln!("usage: fast_paths {names} TIMES");
    ExitCode::from(2)
}
