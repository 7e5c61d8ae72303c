//! What it costs on this machine that one thread wakes another on its core and sleeps: a round trip over
//! the memory wire, where an engine and a program share each end's core, takes four of these.

use std::process::Command;

use serde_json::{Value, json};
use testbed::artifacts;

use super::{SERVER_CORE, calls, median};
use crate::shell::Error;

/// The name by which `--only` selects this.
pub const NAME: &str = "hand-over";

/// Hand-overs of a round trip.
const OF_A_ROUND_TRIP: f64 = 4.0;

/// Nanoseconds of a hand-over, of each run.
pub struct HandOver(Vec<f64>);

/// Measures that many times.
pub fn measure(times: usize) -> Result<HandOver, Error> {
    let measure = |_| {
        let mut command = Command::new("taskset");
        command.args(["-c", &SERVER_CORE.to_string()]);
        command.arg(artifacts::bench_handover());
        calls::nanoseconds(command)
    };
    (0..times)
        .map(measure)
        .collect::<Result<_, _>>()
        .map(HandOver)
}

impl HandOver {
    /// The line of the report.
    pub fn text(&self) -> String {
        let one = median(&self.0) / 1000.0;
        format!(
            "{NAME}: to wake a thread on the same core and sleep takes {one:.2} us; a round trip over the \
             memory wire takes four of these, {:.1} us",
            one * OF_A_ROUND_TRIP
        )
    }

    /// The same for results.json.
    pub fn to_json(&self) -> Value {
        json!({ "ns": self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_takes_four() {
        let text = HandOver(vec![1000.0, 1500.0, 9000.0]).text();
        assert!(text.contains("takes 1.50 us"), "{text}");
        assert!(text.contains("6.0 us"), "{text}");
    }
}
