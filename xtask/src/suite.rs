//! `cargo xtask test`: every check, one after the other, and a summary.

use std::num::NonZero;
use std::process::Command;
use std::time::Instant;

use testbed::{WORKERS_VARIABLE, artifacts};

use crate::setup;
use crate::shell::{Error, build_programs, cargo, need_root, run};

struct Step {
    name: &'static str,
    command: Command,
}

impl Step {
    fn new(name: &'static str, arguments: &[&str]) -> Step {
        Step {
            name,
            command: cargo(arguments),
        }
    }
}

fn has_nextest() -> bool {
    let output = cargo(&["nextest", "--version"]).output();
    output.is_ok_and(|output| output.status.success())
}

/// Tests of the root package that run every program over a TAP and a wire.
const PROGRAMS: [&str; 3] = ["tap_servers", "tap_clients", "wire_programs"];

/// The workers that these have in each stack when they run again.
const MORE_WORKERS: [(&str, &str); 2] = [
    ("tests with two workers", "2"),
    ("tests with four workers", "4"),
];

/// The same with so many workers in each stack.
fn with_workers(mut step: Step, workers: &str) -> Step {
    step.command.env(WORKERS_VARIABLE, workers);
    step
}

fn tests(arguments: &[String]) -> Step {
    let mut tests = match has_nextest() {
        true => Step::new(
            "tests",
            &["nextest", "run", "--workspace", "--no-fail-fast"],
        ),
        false => Step::new(
            "tests",
            &[
                "test",
                "--workspace",
                "--lib",
                "--bins",
                "--tests",
                "--no-fail-fast",
            ],
        ),
    };
    tests.command.args(arguments);
    tests
}

fn tests_of_programs(name: &'static str) -> Step {
    let runner: &[&str] = match has_nextest() {
        true => &["nextest", "run"],
        false => &["test"],
    };
    let mut tests = Step::new(name, runner);
    tests.command.args(["-p", "mtcp", "--no-fail-fast"]);
    for program in PROGRAMS {
        tests.command.args(["--test", program]);
    }
    tests
}

fn steps(workers: Option<NonZero<usize>>, arguments: &[String]) -> Vec<Step> {
    let all = tests(arguments);
    let again = |(name, workers)| with_workers(tests_of_programs(name), workers);
    let tests = match workers {
        Some(workers) => vec![with_workers(all, &workers.to_string())],
        None if arguments.is_empty() => [all].into_iter().chain(MORE_WORKERS.map(again)).collect(),
        None => vec![all],
    };
    let mut steps = vec![
        Step::new("format", &["fmt", "--all", "--check"]),
        Step::new(
            "lints",
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
        ),
    ];
    steps.extend(tests);
    steps.push(Step::new(
        "documentation tests",
        &["test", "--workspace", "--doc"],
    ));
    steps
}

/// Runs all steps, also after one has failed.
pub fn run_all(workers: Option<NonZero<usize>>, arguments: &[String]) -> Result<(), Error> {
    need_root("the test suite")?;
    setup::provide()?;
    let programs = build_programs()?;
    let mut summary = Vec::new();
    let mut failed = Vec::new();
    for mut step in steps(workers, arguments) {
        // Already built, so the tests need not ask cargo for it.
        step.command.env(artifacts::DIRECTORY_VARIABLE, &programs);
        eprintln!("\n== {} ==", step.name);
        let start = Instant::now();
        let result = run(&mut step.command);
        let verdict = if result.is_ok() { "passed" } else { "FAILED" };
        summary.push(format!(
            "{verdict}  {} ({:.0} s)",
            step.name,
            start.elapsed().as_secs_f64()
        ));
        if result.is_err() {
            failed.push(step.name);
        }
    }
    eprintln!("\n== summary ==\n{}", summary.join("\n"));
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::Other(format!("failed: {}", failed.join(", "))))
}
