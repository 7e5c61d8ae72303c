//! What came of a simulation.

use crate::{PACKET, PAYLOAD};
use engine::tcp::Tcb;

/// The congestion window of a flow over time.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Microseconds, and segments.
    pub cwnd: Vec<(u64, f64)>,
}

impl Series {
    pub(crate) fn note(&mut self, at: u64, tcb: &Tcb) {
        let segments = f64::from(tcb.cwnd()) / f64::from(tcb.mss().max(1));
        self.cwnd.push((at, segments));
    }
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Bits a second of the bottleneck.
    pub capacity: u64,
    /// For each flow, payload in bits a second over the measured period.
    pub rates: Vec<f64>,
    /// Packets dropped in the measured period.
    pub dropped: u64,
    /// Packets marked, in the whole run.
    pub marked: u64,
    /// Longest queue met, in bytes.
    pub longest_queue: u64,
    /// Retransmission timeouts of all flows.
    pub timeouts: u64,
    /// For each flow, its window.
    pub series: Vec<Series>,
}

impl Outcome {
    /// Payload of all flows, in bits a second.
    pub fn goodput(&self) -> f64 {
        self.rates.iter().sum()
    }

    /// The part of the capacity that delivered data takes, its headers counted as the capacity does.
    pub fn utilisation(&self) -> f64 {
        self.goodput() * PACKET as f64 / PAYLOAD as f64 / self.capacity as f64
    }

    /// Jain's fairness index of the flows' rates.
    pub fn fairness(&self) -> f64 {
        jain(&self.rates)
    }
}

/// Jain's fairness index: 1 if all are equal, 1/n if one has all.
pub fn jain(rates: &[f64]) -> f64 {
    let sum: f64 = rates.iter().sum();
    let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
    sum * sum / (rates.len() as f64 * squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fairness_is_one_among_equals_and_a_share_for_a_hog() {
        assert!((jain(&[5.0; 16]) - 1.0).abs() < 1e-9);
        assert!((jain(&[1.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-9);
    }
}
