//! The page `docs/congestion.md` and its pictures.

use engine::tcp::Algorithm;
use simulator::scenarios::{FAST, RTT, alone, crowd, lossy, path};
use simulator::svg::{Line, draw};
use simulator::{Outcome, PAYLOAD, reference, run};
use std::fmt::Write;
use std::io;
use std::path::Path;

const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::NewReno,
    Algorithm::Cubic,
    Algorithm::Bbr,
    Algorithm::Dctcp,
];

const HEAD: &str = "# Congestion control, measured

Made by `cargo run --release -p simulator`, which runs the engine's TCP (`engine::tcp`, sender and
receiver, with all of its loss recovery) through one modelled bottleneck in virtual time
(`tests/sim/`). The same seed gives the same figures. The bottleneck serves at a fixed rate, drops at
the tail of a queue that holds one bandwidth-delay product, and for DCTCP marks from a fifth of that
queue on. Super-segments are cut and dropped segment by segment. Rates count delivered payload with
its headers, as the capacity does.

DCTCP needs marks: its connections ask for ECN, and agree to it, whatever `tcp.ecn` says, as in Linux. With a
peer that refuses there are none, and they answer losses alone, as NewReno does.

";

/// Result of a run in a line.
pub fn line(outcome: &Outcome) -> String {
    format!(
        "{:.1} Mbit/s of payload, {:.1} % of the capacity, Jain {:.4}, {} dropped, {} marked, \
         {} timeouts, longest queue {} KB",
        outcome.goodput() / 1e6,
        outcome.utilisation() * 100.0,
        outcome.fairness(),
        outcome.dropped,
        outcome.marked,
        outcome.timeouts,
        outcome.longest_queue / 1000
    )
}

/// Runs everything and writes the page and the pictures.
pub fn write() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    std::fs::create_dir_all(root.join("congestion"))?;
    let mut page = HEAD.to_owned();
    rates(&mut page);
    losses(&mut page);
    pictures(&mut page, &root)?;
    std::fs::write(root.join("congestion.md"), page)
}

fn rates(page: &mut String) {
    page.push_str(
        "## 10 Gbit/s and 20 ms\n\n\
         One flow for 20 s, measured from second 5; DCTCP for 160 s, measured from second 130, as the\n\
         marks of slow start halve its window twice and it grows by a segment a round trip.\n\n\
         | algorithm | capacity used |\n|---|---:|\n",
    );
    for algorithm in ALGORITHMS {
        let (seconds, warm_up) = match algorithm {
            Algorithm::Dctcp => (160, 130),
            _ => (20, 5),
        };
        let path = path(algorithm, FAST, RTT);
        let outcome = run(&alone(algorithm, path, seconds, warm_up));
        let (name, used) = (algorithm.name(), outcome.utilisation() * 100.0);
        println!("{name}: {}", line(&outcome));
        // Writing into a String cannot fail.
        let _ = writeln!(page, "| {name} | {used:.1} % |");
    }
    page.push_str(
        "\nSixteen equal flows that begin 61 ms after one another, measured over the second half of\n\
         the time. A congestion epoch of NewReno lasts half a minute here, so that a fair share shows only\n\
         over many minutes. Round trips differ by up to 0.1 ms at random: were they all the same, who\n\
         loses at the queue's tail would depend on when each sends, and stay so (the phase effects of\n\
         Floyd and Jacobson, 1992; CUBIC's index is 0.88 then). This table alone:\n\
         `cargo run --release -p simulator -- crowd`.\n\n",
    );
    page.push_str(&sixteen());
}

/// The table of sixteen flows that share the path.
pub fn sixteen() -> String {
    let mut table = String::from(
        "| algorithm | time | capacity used | Jain's index | slowest and fastest flow |\n\
         |---|---:|---:|---:|---:|\n",
    );
    for algorithm in ALGORITHMS {
        let seconds = match algorithm {
            Algorithm::Dctcp => 300,
            _ => 1200,
        };
        let path = path(algorithm, FAST, RTT);
        let outcome = run(&crowd(algorithm, 16, path, seconds, seconds / 2));
        let rate = |pick: fn(f64, f64) -> f64| {
            let picked = outcome.rates.iter().copied().reduce(pick);
            picked.unwrap_or_default() / 1e6
        };
        let _ = writeln!(
            table,
            "| {} | {seconds} s | {:.1} % | {:.4} | {:.0}, {:.0} Mbit/s |",
            algorithm.name(),
            outcome.utilisation() * 100.0,
            outcome.fairness(),
            rate(f64::min),
            rate(f64::max)
        );
    }
    table
}

fn losses(page: &mut String) {
    page.push_str(
        "\n## Response to random loss\n\n\
         One flow on 1 Gbit/s for 200 s, in segments a round trip. The formulas: for NewReno and DCTCP\n\
         that of Padhye et al. with a timeout of 200 ms above the round trip, and in brackets that of\n\
         Mathis et al., which knows no timeouts; for CUBIC that of RFC 9438 section 5.1, or Mathis'\n\
         where that is more (and no timeouts either); BBR has no formula: it is to use what is left of\n\
         the capacity up to a loss rate of 2 %, and gives way beyond.\n\n\
         | loss | round trip | algorithm | measured | formula |\n|---:|---:|---|---:|---:|\n",
    );
    for p in [0.0001, 0.001, 0.01, 0.05] {
        for rtt in [20_000, 100_000] {
            for algorithm in ALGORITHMS {
                let outcome = run(&lossy(algorithm, p, rtt, 200));
                let seconds = rtt as f64 / 1e6;
                let bytes = outcome.goodput() / 8.0 * seconds;
                let capacity = 125e6 * seconds / 1500.0;
                let _ = writeln!(
                    page,
                    "| {} % | {} ms | {} | {:.1} | {} |",
                    p * 100.0,
                    rtt / 1000,
                    algorithm.name(),
                    bytes / PAYLOAD as f64,
                    formula(algorithm, p, seconds, capacity)
                );
            }
        }
    }
}

fn formula(algorithm: Algorithm, p: f64, rtt: f64, capacity: f64) -> String {
    match algorithm {
        Algorithm::Cubic => format!("{:.1}", reference::cubic(p, rtt).min(capacity)),
        Algorithm::Bbr => format!("≤ {:.1}", capacity * (1.0 - p)),
        Algorithm::NewReno | Algorithm::Dctcp => format!(
            "{:.1} ({:.1})",
            reference::padhye(p, rtt, rtt + 0.2).min(capacity),
            reference::mathis(p).min(capacity)
        ),
    }
}

fn pictures(page: &mut String, root: &Path) -> io::Result<()> {
    page.push_str(
        "\n## The window over time\n\nOne flow on 100 Mbit/s and 40 ms for a minute.\n\n",
    );
    for algorithm in ALGORITHMS {
        let name = algorithm.name();
        let outcome = run(&alone(
            algorithm,
            path(algorithm, FAST / 100, 40_000),
            60,
            10,
        ));
        let svg = draw(
            &format!("{name}: congestion window in segments"),
            &[Line {
                name,
                points: &outcome.series[0].cwnd,
            }],
        );
        std::fs::write(root.join(format!("congestion/{name}.svg")), svg)?;
        let _ = writeln!(page, "![{name}](congestion/{name}.svg)\n");
    }
    Ok(())
}
