//! What a load has measured.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The shares of messages, in percent, whose times draw the distribution.
const SHARES: [f64; 13] = [
    1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99,
];

/// Counts and times of a run.
pub struct Measured {
    /// Connections that did what they were made for.
    pub connections: u64,
    /// Messages sent and answered.
    pub messages: u64,
    /// Payload bytes, of both directions.
    pub bytes: u64,
    errors: BTreeMap<String, u64>,
    latency: Histogram<u64>,
}

impl Measured {
    /// Nothing yet.
    #[expect(clippy::new_without_default, reason = "a run is begun, not defaulted")]
    pub fn new() -> Measured {
        // A nanosecond to a minute, to three digits.
        let latency = Histogram::new_with_bounds(1, 60_000_000_000, 3);
        Measured {
            connections: 0,
            messages: 0,
            bytes: 0,
            errors: BTreeMap::new(),
            latency: latency.expect("bounds and digits are within the histogram's own"),
        }
    }

    /// Counts an answered message that took so long.
    pub fn answered_after(&mut self, time: Duration) {
        self.messages += 1;
        self.latency.saturating_record(time.as_nanos() as u64);
    }

    /// Counts a connection that failed.
    pub fn failed(&mut self, error: &io::Error) {
        *self.errors.entry(error.to_string()).or_default() += 1;
    }

    /// Connections that failed.
    pub fn errors(&self) -> u64 {
        self.errors.values().sum()
    }

    /// All of it, with rates over `seconds`.
    pub fn to_json(&self, seconds: f64) -> Value {
        let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        let percentile = |p: f64| microseconds(self.latency.value_at_percentile(p));
        json!({
            "seconds": seconds,
            "connections": self.connections,
            "messages": self.messages,
            "bytes": self.bytes,
            "errors": self.errors(),
            "errors_by_text": self.errors,
            "connections_per_second": self.connections as f64 / seconds,
            "messages_per_second": self.messages as f64 / seconds,
            "bits_per_second": self.bytes as f64 * 8.0 / seconds,
            "latency_us": {
                "min": microseconds(self.latency.min()),
                "mean": self.latency.mean() / 1e3,
                "p50": percentile(50.0),
                "p99": percentile(99.0),
                "p999": percentile(99.9),
                "max": microseconds(self.latency.max()),
                "distribution": SHARES.map(|share| [share, percentile(share)]),
            },
        })
    }
}
