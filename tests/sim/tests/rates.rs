//! Each algorithm fills the path of the goal, 10 Gbit/s and 20 ms with a queue of one
//! bandwidth-delay product, alone and fairly among sixteen.

use engine::tcp::Algorithm;
use simulator::scenarios::{FAST, RTT, alone, crowd, path};
use simulator::{Network, Outcome, run};

fn fills(algorithm: Algorithm, seconds: u64, warm_up: u64) {
    let network = alone(algorithm, path(algorithm, FAST, RTT), seconds, warm_up);
    let outcome = run(&network);
    assert!(outcome.utilisation() >= 0.9, "{}", summary(&outcome));
}

/// Scaled down to a tenth, which makes an epoch as short: the whole path is in docs/congestion.md.
fn shares(network: Network) {
    let outcome = run(&network);
    assert!(outcome.fairness() >= 0.95, "{}", summary(&outcome));
    assert!(outcome.utilisation() >= 0.9, "{}", summary(&outcome));
}

fn summary(outcome: &Outcome) -> String {
    let rates: Vec<u64> = outcome
        .rates
        .iter()
        .map(|r| *r as u64 / 1_000_000)
        .collect();
    format!(
        "utilisation {:.3}, Jain {:.3}, Mbit/s {rates:?}, {} dropped, {} timeouts, queue {}",
        outcome.utilisation(),
        outcome.fairness(),
        outcome.dropped,
        outcome.timeouts,
        outcome.longest_queue
    )
}

#[test]
fn newreno_fills_ten_gigabits() {
    fills(Algorithm::NewReno, 20, 5);
}

#[test]
fn cubic_fills_ten_gigabits() {
    fills(Algorithm::Cubic, 20, 5);
}

#[test]
fn dctcp_fills_ten_gigabits() {
    // The marks of slow start halve the window twice, and it grows by a segment a round trip.
    fills(Algorithm::Dctcp, 160, 130);
}

#[test]
fn bbr_fills_ten_gigabits() {
    fills(Algorithm::Bbr, 20, 5);
}

fn sixteen(algorithm: Algorithm, seconds: u64, warm_up: u64) {
    let path = path(algorithm, FAST / 10, RTT);
    shares(crowd(algorithm, 16, path, seconds, warm_up));
}

#[test]
fn sixteen_newreno_flows_share_fairly() {
    sixteen(Algorithm::NewReno, 120, 60);
}

#[test]
fn sixteen_cubic_flows_share_fairly() {
    sixteen(Algorithm::Cubic, 120, 60);
}

#[test]
fn sixteen_dctcp_flows_share_fairly() {
    sixteen(Algorithm::Dctcp, 40, 20);
}

#[test]
fn sixteen_bbr_flows_share_fairly() {
    sixteen(Algorithm::Bbr, 360, 180);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let network = alone(
        Algorithm::Cubic,
        path(Algorithm::Cubic, FAST / 100, RTT),
        5,
        1,
    );
    let (first, second) = (run(&network), run(&network));
    assert_eq!(first.rates, second.rates);
    assert_eq!(first.dropped, second.dropped);
}
