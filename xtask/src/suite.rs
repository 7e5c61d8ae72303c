//! `cargo xtask test`: every check, one after the other, and a summary.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use testbed::artifacts;

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

fn steps(arguments: &[String], programs: &Path) -> Vec<Step> {
    let mut tests = if has_nextest() {
        Step::new(
            "tests",
            &["nextest", "run", "--workspace", "--no-fail-fast"],
        )
    } else {
        Step::new(
            "tests",
            &[
                "test",
                "--workspace",
                "--lib",
                "--bins",
                "--tests",
                "--no-fail-fast",
            ],
        )
    };
    tests.command.args(arguments);
    // Already built, so the tests need not ask cargo for it.
    tests.command.env(artifacts::DIRECTORY_VARIABLE, programs);
    vec![
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
        tests,
        Step::new("documentation tests", &["test", "--workspace", "--doc"]),
    ]
}

/// Runs all steps, also after one has failed.
pub fn run_all(arguments: &[String]) -> Result<(), Error> {
    need_root("the test suite")?;
    setup::provide()?;
    let programs = build_programs()?;
    let mut summary = Vec::new();
    let mut failed = Vec::new();
    for mut step in steps(arguments, &programs) {
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
