//! The situations that tests and report share.

use crate::bottleneck::{Bottleneck, Loss};
use crate::flow::FlowSpec;
use crate::network::Network;
use engine::tcp::Algorithm;

const SECOND: u64 = 1_000_000;

/// The 10 Gbit/s of the goal.
pub const FAST: u64 = 10_000_000_000;
/// The round trip of the goal, in microseconds.
pub const RTT: u64 = 20_000;

/// A path for `algorithm`: a queue of one bandwidth-delay product, and for DCTCP marks from a fifth
/// of it on (RFC 8257 section 4.1 wants a seventh at least).
pub fn path(algorithm: Algorithm, capacity: u64, rtt: u64) -> Bottleneck {
    let path = Bottleneck::new(capacity, rtt);
    Bottleneck {
        mark_at: (algorithm == Algorithm::Dctcp).then(|| path.bdp() / 5),
        ..path
    }
}

/// One flow alone for `seconds`, measured after the first `warm_up` of them.
pub fn alone(algorithm: Algorithm, path: Bottleneck, seconds: u64, warm_up: u64) -> Network {
    Network {
        path,
        flows: vec![FlowSpec {
            algorithm,
            start: 0,
        }],
        until: seconds * SECOND,
        measure_from: warm_up * SECOND,
        sample_every: seconds * SECOND / 1000,
    }
}

/// By how much round trips differ in a crowd, in microseconds. Flows of exactly equal round trips
/// meet phase effects at a queue that drops at its tail (Floyd and Jacobson, 1992): whose packets are
/// dropped depends on when they come, and that never changes.
pub const JITTER: u64 = 100;

/// `count` equal flows for `seconds`, that begin 61 ms after one another.
pub fn crowd(
    algorithm: Algorithm,
    count: u64,
    path: Bottleneck,
    seconds: u64,
    warm_up: u64,
) -> Network {
    let start = |n| FlowSpec {
        algorithm,
        start: n * 61_000,
    };
    let path = Bottleneck {
        jitter: JITTER,
        ..path
    };
    Network {
        flows: (0..count).map(start).collect(),
        ..alone(algorithm, path, seconds, warm_up)
    }
}

/// One flow on a path that loses packets with `probability`, and is so wide that nothing else holds
/// a loss-based algorithm.
pub fn lossy(algorithm: Algorithm, probability: f64, rtt: u64, seconds: u64) -> Network {
    let path = Bottleneck {
        loss: Loss {
            probability,
            seed: 42,
        },
        ..path(algorithm, FAST / 10, rtt)
    };
    alone(algorithm, path, seconds, seconds / 10)
}
