//! `cargo xtask bench`: the kernel and the stack side by side, in alternation, in one run.

mod calls;
mod instructions;
mod machine;
mod report;
mod workloads;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use testbed::{Testbed, artifacts};

use crate::setup;
use crate::shell::{Error, attempt, build_programs, need_root, target_directory};
use machine::Busy;
use report::{Measurement, Report};
use workloads::{Better, WORKLOADS, Workload};

/// Servers run on this core, clients on the other.
const SERVER_CORE: usize = 1;
const CLIENT_CORE: usize = 0;

/// How to measure.
#[derive(Args)]
pub struct Options {
    /// Two pairs of one second each instead of five pairs of three.
    #[arg(long)]
    quick: bool,
    /// Pairs of runs (kernel, stack) for each line.
    #[arg(long)]
    pairs: Option<usize>,
    /// Seconds of load in each run.
    #[arg(long)]
    seconds: Option<f64>,
    /// Only workloads whose name contains this; `instructions` are the fast paths' counts.
    #[arg(long)]
    only: Option<String>,
    /// Only over this wire.
    #[arg(long, value_enum)]
    wire: Option<Wire>,
    /// What is measured against the kernel; `kernel` shows how far two equal runs lie apart.
    #[arg(long, value_enum, default_value_t = Against::Stack)]
    against: Against,
    /// Where results.md and results.json go [default: the workspace's bench/, or the build
    /// directory's bench/ with --only, --quick or --against kernel].
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Against {
    Stack,
    Kernel,
}

/// What joins the two ends when the stack is measured. The kernel's own figure is always taken
/// over veth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wire {
    /// The server on the stack, the client on the kernel, over a TAP device.
    Tap,
    /// The same over a veth pair, the server's end shared with the kernel by packet sockets.
    Packet,
    /// The same over a veth pair, the server's end taken whole by AF_XDP (in copy mode, and with
    /// the kernel's checksum and segmentation offloads off, which AF_XDP cannot take).
    Xdp,
    /// Both ends on the stack, over shared memory.
    Memory,
}

/// On which core the kernel does the receive work of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placement {
    /// On whichever core sends.
    AsItFalls,
    /// Each end's on its owner's core (RPS).
    Steered,
}

impl Placement {
    fn name(self) -> &'static str {
        match self {
            Placement::AsItFalls => "as it falls",
            Placement::Steered => "steered",
        }
    }
}

/// How the runs of one line are made.
struct Conditions<'a> {
    workload: &'a Workload,
    wire: Wire,
    placement: Placement,
    seconds: f64,
}

/// One side's run: its figure, how busy the cores were, and the commands.
struct Run {
    value: f64,
    busy: Busy,
    commands: [String; 2],
}

impl Conditions<'_> {
    fn kernel(&self) -> Result<Run, Error> {
        self.measure(Testbed::kernel())
    }

    fn stack(&self) -> Result<Run, Error> {
        self.measure(match self.wire {
            Wire::Tap => Testbed::server_on_tap(),
            Wire::Packet => Testbed::server_on_interface(),
            Wire::Xdp => Testbed::server_on_xdp(),
            Wire::Memory => Testbed::wire(),
        })
    }

    fn measure(&self, bed: Testbed) -> Result<Run, Error> {
        let bed = bed.on_cores(SERVER_CORE, CLIENT_CORE);
        for host in [&bed.server, &bed.client] {
            machine::use_cubic(host.namespace());
        }
        let mut server = (self.workload.server)(&bed);
        if self.placement == Placement::Steered {
            machine::steer(&bed, SERVER_CORE, CLIENT_CORE)?;
        }
        let client = (self.workload.client)(&bed, &server, self.seconds);
        let client_line = client.command_line().to_owned();
        let before = Busy::counters()?;
        let output = client.finish(testbed::LIMIT);
        let busy = Busy::since(&before)?;
        let value = (self.workload.figure)(&output);
        match value {
            Some(value) if output.status.success() && value > 0.0 => Ok(Run {
                value,
                busy,
                commands: [server.command_line().to_owned(), client_line],
            }),
            _ => Err(Error::Other(format!(
                "{}: the client has failed: {output}\nthe server: {}",
                self.workload.name,
                server.report()
            ))),
        }
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

fn measure(
    conditions: &Conditions,
    mut line: Measurement,
    pairs: usize,
    against: Against,
) -> Measurement {
    let workload = conditions.workload;
    for pair in 1..=pairs {
        let kernel = attempt(|| conditions.kernel());
        let other = match against {
            Against::Stack => attempt(|| conditions.stack()),
            Against::Kernel => attempt(|| conditions.kernel()),
        };
        match (kernel, other) {
            (Ok(kernel), Ok(other)) => {
                let ratio = match workload.better {
                    Better::More => other.value / kernel.value,
                    Better::Less => kernel.value / other.value,
                };
                eprintln!(
                    "  pair {pair}/{pairs}: kernel {:.4} {unit} (busy {}), stack {:.4} {unit} (busy {}), {ratio:.2}x",
                    kernel.value,
                    kernel.busy,
                    other.value,
                    other.busy,
                    unit = workload.unit,
                );
                line.add(kernel, other, ratio);
            }
            (Err(error), _) | (_, Err(error)) => {
                // One line that cannot be measured must not cost the others.
                eprintln!("  pair {pair}/{pairs}: {error}");
                line.fail(error);
                break;
            }
        }
    }
    line
}

/// Where results go: those of a part must not replace the whole's.
fn default_directory(options: &Options) -> PathBuf {
    let whole = options.only.is_none() && !options.quick && options.against == Against::Stack;
    if whole {
        artifacts::workspace().join("bench")
    } else {
        target_directory().join("bench")
    }
}

/// Measures everything and writes the results.
pub fn run(options: &Options) -> Result<(), Error> {
    need_root("the benchmark")?;
    setup::provide()?;
    machine::need_cores(2)?;
    artifacts::use_directory(build_programs()?);
    let _cubic = machine::AllowCubic::new()?;

    let pairs = options.pairs.unwrap_or(if options.quick { 2 } else { 5 });
    let seconds = options
        .seconds
        .unwrap_or(if options.quick { 1.0 } else { 3.0 });
    if pairs == 0 || seconds <= 0.0 {
        return Err(Error::Other(
            "--pairs and --seconds must be more than 0".to_owned(),
        ));
    }
    let mut report = Report::new(pairs, seconds, options.against == Against::Kernel)?;
    let wanted = |name: &str| {
        options
            .only
            .as_ref()
            .is_none_or(|only| name.contains(only.as_str()))
    };
    for workload in WORKLOADS.iter().filter(|workload| wanted(workload.name)) {
        for (wire, placement) in [
            (Wire::Tap, Placement::AsItFalls),
            (Wire::Tap, Placement::Steered),
            (Wire::Packet, Placement::AsItFalls),
            (Wire::Xdp, Placement::AsItFalls),
            (Wire::Memory, Placement::AsItFalls),
        ] {
            if options.wire.is_some_and(|only| only != wire) {
                continue;
            }
            if wire != Wire::Tap && options.against == Against::Kernel {
                continue; // The kernel's side is veth in any case.
            }
            eprintln!("{} ({wire:?}, {})", workload.name, placement.name());
            let conditions = Conditions {
                workload,
                wire,
                placement,
                seconds,
            };
            let goal = match (options.against, wire) {
                (Against::Kernel, _) => None,
                (Against::Stack, Wire::Tap) => workload.goal_tap,
                (Against::Stack, Wire::Memory) => workload.goal_memory,
                (Against::Stack, Wire::Packet | Wire::Xdp) => None,
            };
            let line = Measurement::new(&conditions, goal);
            report.add(measure(&conditions, line, pairs, options.against));
        }
    }
    if options.against == Against::Stack && wanted(workloads::IDLE) {
        eprintln!("{}", workloads::IDLE);
        report.idle = Some(attempt(workloads::idle_memory).map_err(|error| error.to_string()));
    }
    if options.against == Against::Stack && wanted(calls::NAME) {
        eprintln!("{}", calls::NAME);
        report.calls = Some(calls::measure(pairs).map_err(|error| error.to_string()));
    }
    if options.against == Against::Stack && wanted(instructions::NAME) {
        eprintln!("{}", instructions::NAME);
        report.instructions = Some(instructions::count().map_err(|error| error.to_string()));
    }
    let directory = options
        .output
        .clone()
        .unwrap_or_else(|| default_directory(options));
    report.write(&directory)?;
    println!("{}", report.table());
    println!(
        "written to {}/results.md and results.json",
        directory.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
