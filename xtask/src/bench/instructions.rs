//! Instructions of the engine's fast paths, counted by callgrind: unlike times, they do not depend on
//! how busy the machine is, so that a regression shows.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testbed::describe;

use crate::shell::{Error, cargo, run, target_directory};

/// The name by which `--only` selects these counts.
pub const NAME: &str = "instructions";

/// A path of an example program.
struct FastPath {
    program: Program,
    argument: &'static str,
    what: &'static str,
    /// Ends that take part in each repetition.
    sides: u64,
    /// The most that it is to take.
    goal: Option<u64>,
    /// Count only inside these functions; everywhere, if there are none.
    inside: &'static [&'static str],
}

/// An example program, and the crate whose it is.
#[derive(Clone, Copy)]
struct Program {
    package: &'static str,
    name: &'static str,
}

const ENGINE: Program = Program {
    package: "engine",
    name: "fast_paths",
};

const IXGBE: Program = Program {
    package: "psio",
    name: "ixgbe_frames",
};

/// Instructions that copy a segment's 1,460 bytes, sixteen at a time.
const COPY: u64 = 1460_u64.div_ceil(16);

const PATHS: [FastPath; 7] = [
    FastPath {
        program: ENGINE,
        argument: "core-data",
        what: "core: in-order segment of 1,448 bytes received and read, with its share of ACKs",
        sides: 1,
        goal: None,
        inside: &[],
    },
    FastPath {
        program: ENGINE,
        argument: "core-ack",
        what: "core: pure ACK of two segments, with the sending of super-segments it lets go",
        sides: 1,
        goal: None,
        inside: &[],
    },
    FastPath {
        program: ENGINE,
        argument: "core-short",
        what: "core: short connection of 64 bytes each way, per side",
        sides: 2,
        goal: None,
        inside: &[],
    },
    FastPath {
        program: ENGINE,
        argument: "engine-data",
        what: "engine: in-order frame of 1,460 bytes in bursts of 32, into the segment, copy included",
        sides: 1,
        goal: Some(400 + COPY),
        inside: ROUND,
    },
    FastPath {
        program: ENGINE,
        argument: "engine-short",
        what: "engine: short connection of 64 bytes each way, 32 at a time, per side",
        sides: 2,
        goal: Some(6000),
        inside: ROUND,
    },
    FastPath {
        program: IXGBE,
        argument: "receive",
        what: "82599's driver: frame of 64 bytes received in bursts of 64",
        sides: 1,
        goal: None,
        inside: &["ixgbe_frames::receive_burst"],
    },
    FastPath {
        program: IXGBE,
        argument: "transmit",
        what: "82599's driver: frame of 64 bytes sent in bursts of 64",
        sides: 1,
        goal: None,
        inside: &[
            "<psio::ixgbe::queue::IxgbeQueue<B> as psio::Queue>::reserve",
            "<psio::ixgbe::queue::IxgbeQueue<B> as psio::Queue>::commit",
            "<psio::ixgbe::queue::IxgbeQueue<B> as psio::Queue>::flush",
        ],
    },
];

/// The worker's round, device included, not what the application does. No wildcard: it would match the
/// closure that takes the frames as well, and so switch the counting off for all that is received.
const ROUND: &[&str] = &["engine::worker::Worker::round"];

/// Repetitions of the shorter and the longer run: what differs is the paths' own.
const TIMES: [u64; 2] = [3200, 6400];

/// One path's count.
pub struct Count {
    what: &'static str,
    instructions: u64,
    goal: Option<u64>,
}

/// Counts them all.
pub fn count() -> Result<Vec<Count>, Error> {
    let engine = build(ENGINE)?;
    let ixgbe = build(IXGBE)?;
    let mut counts = Vec::new();
    for path in &PATHS {
        let program = match path.program.package {
            "engine" => &engine,
            _ => &ixgbe,
        };
        let [short, long] = TIMES.map(|times| collected(program, path, times));
        let instructions = long?.saturating_sub(short?) / (TIMES[1] - TIMES[0]) / path.sides;
        eprintln!("  {}: {instructions}", path.what);
        counts.push(Count {
            what: path.what,
            instructions,
            goal: path.goal,
        });
    }
    Ok(counts)
}

/// Builds an example program; returns where it is.
fn build(program: Program) -> Result<PathBuf, Error> {
    let arguments = [
        "build",
        "--release",
        "-p",
        program.package,
        "--example",
        program.name,
    ];
    run(&mut cargo(&arguments))?;
    let examples = target_directory().join("release/examples");
    Ok(examples.join(program.name))
}

/// Instructions of a whole run.
fn collected(program: &Path, path: &FastPath, times: u64) -> Result<u64, Error> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    for function in path.inside {
        command.arg(format!("--toggle-collect={function}"));
    }
    command
        .arg(program)
        .arg(path.argument)
        .arg(times.to_string());
    let output = command.output();
    let failed = |what: String| Error::Other(format!("`{}`: {what}", describe(&command)));
    let output = output.map_err(|error| failed(error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(failed(format!("it has failed:\n{said}")));
    }
    parse_collected(&said).ok_or_else(|| failed(format!("no count in what it says:\n{said}")))
}

/// The figure after callgrind's `Collected :`.
fn parse_collected(output: &str) -> Option<u64> {
    let line = output.lines().find(|line| line.contains("Collected"))?;
    let figure = line.rsplit(':').next()?.trim();
    figure.parse().ok().filter(|count| *count > 0)
}

/// The counts as a Markdown table.
pub fn table(counts: &[Count]) -> String {
    let mut text = String::from("| path | instructions | goal |\n|---|---|---|\n");
    for count in counts {
        let verdict = count.goal.map(|goal| match count.instructions <= goal {
            true => format!("{goal}: reached"),
            false => format!("{goal}: missed"),
        });
        let verdict = verdict.unwrap_or_default();
        text += &format!("| {} | {} | {verdict} |\n", count.what, count.instructions);
    }
    text
}

/// The counts as a JSON object.
pub fn to_json(counts: &[Count]) -> Value {
    let pairs = counts
        .iter()
        .map(|c| (c.what.to_owned(), json!(c.instructions)));
    Value::Object(pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_with_a_goal_has_a_verdict() {
        let count = |instructions, goal| Count {
            what: "p",
            instructions,
            goal,
        };
        let text = table(&[count(7, None), count(7, Some(6)), count(6, Some(6))]);
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| p | 7 |  |",
                "| p | 7 | 6: missed |",
                "| p | 6 | 6: reached |"
            ]
        );
    }

    #[test]
    fn the_count_is_read_from_what_callgrind_says() {
        let said = "==1== Events    : Ir\n==1== Collected : 159412332\n==1== \n";
        assert_eq!(parse_collected(said), Some(159_412_332));
        assert_eq!(parse_collected("==1== Collected : 0\n"), None);
        assert_eq!(parse_collected("no such program"), None);
    }
}
