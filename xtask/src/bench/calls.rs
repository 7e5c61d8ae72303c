//! What it costs that a call is intercepted which is none of a socket's: read(2) of a file by the same
//! program with and without the preload library, in alternation.

use std::process::Command;

use serde_json::{Value, json};
use testbed::{artifacts, describe};

use super::{CLIENT_CORE, SERVER_CORE, median};
use crate::shell::Error;

/// The name by which `--only` selects this.
pub const NAME: &str = "intercepted call";

/// Nanoseconds that the library may add.
const GOAL: f64 = 10.0;

/// Nanoseconds of a call, of each pair.
#[derive(Default)]
pub struct Calls {
    kernel: Vec<f64>,
    intercepted: Vec<f64>,
}

/// Measures that many pairs.
pub fn measure(pairs: usize) -> Result<Calls, Error> {
    let program = artifacts::bench_calls();
    let (app, engine) = (CLIENT_CORE.to_string(), SERVER_CORE.to_string());
    let mut calls = Calls::default();
    for pair in 1..=pairs {
        let mut plain = Command::new("taskset");
        plain.args(["-c", &app]).arg(&program);
        let mut intercepted = Command::new(artifacts::mtcp_run());
        intercepted
            .args(["--device", "none", "--app-cores", &app])
            .args(["--engine-cores", &engine, "--"])
            .arg(&program);
        let (plain, intercepted) = (nanoseconds(plain)?, nanoseconds(intercepted)?);
        eprintln!("  pair {pair}/{pairs}: {plain:.1} ns, intercepted {intercepted:.1} ns");
        calls.kernel.push(plain);
        calls.intercepted.push(intercepted);
    }
    Ok(calls)
}

/// What a program prints that measures nanoseconds.
pub fn nanoseconds(mut command: Command) -> Result<f64, Error> {
    let output = command.output();
    let failed = |what: &str| Error::Other(format!("`{}`: {what}", describe(&command)));
    let output = output.map_err(|error| failed(&error.to_string()))?;
    let figure = String::from_utf8_lossy(&output.stdout).trim().parse().ok();
    figure.ok_or_else(|| failed(&String::from_utf8_lossy(&output.stderr)))
}

impl Calls {
    /// Nanoseconds that the library adds: the median of the pairs' differences.
    fn added(&self) -> f64 {
        let pairs = self.kernel.iter().zip(&self.intercepted);
        median(
            &pairs
                .map(|(kernel, ours)| ours - kernel)
                .collect::<Vec<_>>(),
        )
    }

    /// The line of the report.
    pub fn text(&self) -> String {
        let added = self.added();
        format!(
            "{NAME}: read(2) of a file takes {:.1} ns, through the preload library {:.1} ns: {added:+.1} ns \
             (goal: at most {GOAL:.0}; {})",
            median(&self.kernel),
            median(&self.intercepted),
            if added <= GOAL { "reached" } else { "missed" },
        )
    }

    /// The same for results.json.
    pub fn to_json(&self) -> Value {
        json!({
            "kernel_ns": self.kernel,
            "intercepted_ns": self.intercepted,
            "added_ns": self.added(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_adds_is_the_median_of_the_differences() {
        let calls = Calls {
            kernel: vec![100.0, 200.0, 300.0],
            intercepted: vec![105.0, 290.0, 307.0],
        };
        assert_eq!(calls.added(), 7.0);
        assert!(calls.text().contains("+7.0 ns"), "{}", calls.text());
        assert!(calls.text().contains("reached"), "{}", calls.text());
    }
}
