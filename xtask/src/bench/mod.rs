//! `cargo xtask bench`: the kernel, others and the stack side by side, in alternation, in one run.

mod calls;
mod crowd;
mod handover;
mod idle;
mod instructions;
mod kind;
mod machine;
mod measure;
mod pictures;
mod report;
mod sweeps;
mod workloads;

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use testbed::artifacts;

use crate::setup;
use crate::shell::{Error, attempt, build_programs, need_root, target_directory};
use measure::Conditions;
use report::Report;
use workloads::{Line, Peer, WORKLOADS, Wire, Workload};

/// Servers run on this core, clients on the other.
const SERVER_CORE: usize = 1;
const CLIENT_CORE: usize = 0;

/// How to measure.
#[derive(Args)]
pub struct Options {
    /// Only the lines that have a goal, in two pairs of half a second each instead of five of one; no
    /// sweeps, no crowds, no instructions.
    #[arg(long)]
    quick: bool,
    /// Pairs of runs (the other side, the stack) for each line.
    #[arg(long)]
    pairs: Option<usize>,
    /// Seconds of load in each run.
    #[arg(long)]
    seconds: Option<f64>,
    /// Only workloads whose name contains this; `instructions` are the fast paths' counts.
    #[arg(long)]
    only: Option<String>,
    /// Only over this wire, and nothing that is measured in other ways than by pairs.
    #[arg(long, value_enum)]
    wire: Option<Wire>,
    /// What is measured against the others; `kernel` shows how far two equal runs lie apart.
    #[arg(long, value_enum, default_value_t = Against::Stack)]
    against: Against,
    /// Where results.md and results.json go [default: the workspace's bench/, or the build
    /// directory's bench/ with --only, --wire, --quick or --against kernel].
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

/// Seconds that a run may take.
const MIN_SECONDS: f64 = 0.01;
const MAX_SECONDS: f64 = 3600.0;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Against {
    Stack,
    Kernel,
}

impl Options {
    /// Whether something of this name is to be measured.
    fn wants(&self, name: &str) -> bool {
        let only = self.only.as_ref();
        only.is_none_or(|only| name.contains(only.as_str()))
    }

    /// Whether there is anything to measure, by pairs or in other ways.
    fn wants_anything(&self) -> bool {
        let quick = [idle::NAME, calls::NAME, handover::NAME];
        let slow = [crowd::NAME, sweeps::NAME, instructions::NAME];
        let apart = quick.iter().chain(slow.iter().filter(|_| !self.quick));
        let kernel = self.against == Against::Kernel;
        let any_apart =
            !kernel && self.measures_apart() && apart.into_iter().any(|name| self.wants(name));
        any_apart || !self.lines().is_empty()
    }

    /// Whether what is over no wire of choice is measured, too: not if only those of one wire are.
    fn measures_apart(&self) -> bool {
        self.wire.is_none()
    }

    /// Whether this line is to be measured.
    fn wants_line(&self, workload: &Workload, line: &Line) -> bool {
        let wire = self.wire.is_none_or(|only| only == line.wire);
        let of_best = workload.goal_best.is_some() && line.wire == Wire::Tap;
        let goal = !self.quick || line.goal.is_some() || of_best;
        // The kernel's side of a line against it is veth over whatever wire the stack's is.
        let kernel =
            self.against == Against::Stack || line.peer == Peer::Veth && line.wire == Wire::Tap;
        wire && goal && kernel
    }

    fn lines(&self) -> Vec<(&'static Workload, Line)> {
        let workloads = WORKLOADS
            .iter()
            .filter(|workload| self.wants(workload.name));
        let lines = workloads.flat_map(|workload| {
            let lines = workload.lines.iter().map(move |line| (workload, *line));
            lines.filter(|(workload, line)| self.wants_line(workload, line))
        });
        lines.collect()
    }

    /// Where results go: those of a part must not replace the whole's.
    fn directory(&self) -> PathBuf {
        let part = self.only.is_some() || self.wire.is_some() || self.quick;
        let whole = !part && self.against == Against::Stack;
        match &self.output {
            Some(directory) => directory.clone(),
            None if whole => artifacts::workspace().join("bench"),
            None => target_directory().join("bench"),
        }
    }
}

/// Measures everything and writes the results.
pub fn run(options: &Options) -> Result<(), Error> {
    let pairs = options.pairs.unwrap_or(if options.quick { 2 } else { 5 });
    let seconds = options
        .seconds
        .unwrap_or(if options.quick { 0.5 } else { 1.0 });
    if pairs == 0 || !(MIN_SECONDS..=MAX_SECONDS).contains(&seconds) {
        return Err(Error::Other(format!(
            "--pairs must be more than 0, and --seconds from {MIN_SECONDS} to {MAX_SECONDS}"
        )));
    }
    if !options.wants_anything() {
        return Err(Error::Other(
            "nothing to measure has such a name, wire and goal; without --only, --wire and --quick \
             everything is measured, and shows the names"
                .to_owned(),
        ));
    }
    let directory = options.directory();
    // Now rather than when everything has been measured.
    std::fs::create_dir_all(&directory)
        .map_err(|error| Error::Other(format!("{}: {error}", directory.display())))?;
    need_root("the benchmark")?;
    setup::provide()?;
    machine::need_cores(2)?;
    artifacts::use_directory(build_programs()?);
    let _cubic = machine::AllowCubic::new()?;

    let kernel_twice = options.against == Against::Kernel;
    let mut report = Report::new(pairs, seconds, kernel_twice)?;
    let lines = options.lines();
    let start = Instant::now();
    for (done, (workload, line)) in lines.iter().enumerate() {
        eprintln!(
            "[{}/{}{}] {}: {}, {}, against {}",
            done + 1,
            lines.len(),
            time_left(start, done, lines.len()),
            workload.name,
            line.wire.name(),
            line.placement.name(),
            line.peer.name(),
        );
        let conditions = Conditions {
            workload,
            line: *line,
            seconds,
            kernel_twice,
        };
        report.add(conditions.measure(pairs));
    }
    if !kernel_twice && options.measures_apart() {
        measure_apart(options, pairs, seconds, &mut report);
    }
    report.write(&directory)?;
    println!("{}", report.table());
    println!(
        "written to {}/results.md and results.json",
        directory.display()
    );
    Ok(())
}

/// What is measured in other ways than by pairs of loads.
fn measure_apart(options: &Options, pairs: usize, seconds: f64, report: &mut Report) {
    if options.wants(idle::NAME) {
        eprintln!("{}", idle::NAME);
        report.idle = Some(attempt(idle::memory).map_err(|error| error.to_string()));
    }
    if options.wants(crowd::NAME) && !options.quick {
        eprintln!("{}", crowd::NAME);
        report.crowds = crowd::measure(pairs, seconds);
    }
    if options.wants(sweeps::NAME) && !options.quick {
        eprintln!("{}", sweeps::NAME);
        report.sweeps = sweeps::measure();
    }
    if options.wants(calls::NAME) {
        eprintln!("{}", calls::NAME);
        report.calls = Some(calls::measure(pairs).map_err(|error| error.to_string()));
    }
    if options.wants(handover::NAME) {
        eprintln!("{}", handover::NAME);
        report.hand_over = Some(handover::measure(pairs).map_err(|error| error.to_string()));
    }
    if options.wants(instructions::NAME) && !options.quick {
        eprintln!("{}", instructions::NAME);
        report.instructions = Some(instructions::count().map_err(|error| error.to_string()));
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// About how long the lines that are left will take, going by those that are done.
fn time_left(start: Instant, done: usize, all: usize) -> String {
    if done == 0 {
        return String::new();
    }
    let left = start.elapsed().as_secs_f64() / done as f64 * (all - done) as f64;
    format!(", about {:.0} min left", (left / 60.0).ceil())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants_anything(only: &str, quick: bool, wire: Option<Wire>) -> bool {
        let options = Options {
            quick,
            pairs: None,
            seconds: None,
            only: Some(only.to_owned()),
            wire,
            against: Against::Stack,
            output: None,
        };
        options.wants_anything()
    }

    #[test]
    fn what_would_measure_nothing_is_told() {
        assert!(wants_anything("redis", false, None));
        assert!(wants_anything("instructions", false, None));
        assert!(!wants_anything("instructions", true, None));
        assert!(!wants_anything("instructions", false, Some(Wire::Memory)));
        assert!(!wants_anything("nonsense", false, None));
    }

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
