//! The runs of a line: the peer and the stack, in alternation.

use serde_json::Value;
use testbed::{Finished, Program, Testbed, artifacts};

use super::kind::{Kind, json};
use super::machine::{self, Busy};
use super::report::Measurement;
use super::workloads::{Better, Line, Peer, Placement, Wire, Workload};
use super::{CLIENT_CORE, SERVER_CORE};
use crate::shell::{Error, attempt};

/// One side's run: its figures, how busy the cores were, and the commands.
pub struct Run {
    /// One for each of the kind's figures.
    pub values: Vec<f64>,
    /// Shares of messages, in percent, and the microseconds that they take at most.
    pub distribution: Option<Value>,
    /// How busy the cores were.
    pub busy: Busy,
    /// What was started.
    pub commands: Vec<String>,
}

impl Run {
    /// Both runs' distributions, if both have one.
    pub fn distributions_with(&self, other: &Run) -> Option<[Value; 2]> {
        Some([self.distribution.clone()?, other.distribution.clone()?])
    }
}

/// How the runs of one line are made.
pub struct Conditions<'a> {
    /// The load.
    pub workload: &'a Workload,
    /// Over what, against whom.
    pub line: Line,
    /// Seconds of load in each run.
    pub seconds: f64,
    /// Whether the kernel takes the stack's place.
    pub kernel_twice: bool,
}

impl Conditions<'_> {
    fn peer(&self) -> Result<Run, Error> {
        let Conditions { line, seconds, .. } = *self;
        let kind = &self.workload.kind;
        match line.peer {
            Peer::Veth => on_bed(kind, Testbed::kernel(), line.placement, seconds),
            Peer::Loopback => on_bed(kind, over_loopback(), line.placement, seconds),
            Peer::Smoltcp => on_smoltcp(kind, seconds),
            Peer::Copies => bare_copies(kind, seconds),
        }
    }

    fn stack(&self) -> Result<Run, Error> {
        if self.kernel_twice {
            return self.peer();
        }
        on_stack(
            &self.workload.kind,
            self.line.wire,
            self.line.placement,
            self.seconds,
        )
    }

    /// Measures so many pairs; a row for each of the figures.
    pub fn measure(&self, pairs: usize) -> Vec<Measurement> {
        let kind = &self.workload.kind;
        let mut rows: Vec<Measurement> = kind
            .figures()
            .iter()
            .enumerate()
            .map(|(place, figure)| Measurement::new(self, figure, place == 0))
            .collect();
        for pair in 1..=pairs {
            let runs =
                attempt(|| self.peer()).and_then(|peer| Ok((peer, attempt(|| self.stack())?)));
            let (peer, stack) = match runs {
                Ok(runs) => runs,
                Err(error) => {
                    // One line that cannot be measured must not cost the others.
                    eprintln!("  pair {pair}/{pairs}: {error}");
                    rows.iter_mut().for_each(|row| row.fail(&error));
                    break;
                }
            };
            eprintln!(
                "  pair {pair}/{pairs}: {} {:.4} {unit} (busy {}), stack {:.4} {unit} (busy {}), {:.2}x",
                self.line.peer.name(),
                peer.values[0],
                peer.busy,
                stack.values[0],
                stack.busy,
                ratio(self.workload.better(), stack.values[0], peer.values[0]),
                unit = kind.unit(),
            );
            for (place, row) in rows.iter_mut().enumerate() {
                row.add(&peer, &stack, place);
            }
        }
        rows
    }
}

/// How many times better the stack's figure is than the other.
pub fn ratio(better: Better, stack: f64, other: f64) -> f64 {
    match better {
        Better::More => stack / other,
        Better::Less => other / stack,
    }
}

/// A run with the server on the stack, and the client too where the wire is shared memory.
pub fn on_stack(kind: &Kind, wire: Wire, placement: Placement, seconds: f64) -> Result<Run, Error> {
    let bed = match wire {
        Wire::Tap => Testbed::server_on_tap(),
        Wire::Packet => Testbed::server_on_interface(),
        Wire::Xdp => Testbed::server_on_xdp(),
        Wire::Memory => Testbed::wire(),
    };
    on_bed(kind, bed, placement, seconds)
}

/// Both ends on the kernel, in one namespace.
fn over_loopback() -> Testbed {
    let mut bed = Testbed::kernel();
    bed.client = bed.server.clone();
    bed.address = std::net::Ipv4Addr::LOCALHOST;
    bed
}

/// A run of the kind's own programs.
pub fn on_bed(kind: &Kind, bed: Testbed, placement: Placement, seconds: f64) -> Result<Run, Error> {
    let bed = match placement {
        Placement::TwoWorkers => bed.with_workers(2),
        Placement::AsItFalls | Placement::Steered => bed.on_cores(SERVER_CORE, CLIENT_CORE),
    };
    for host in [&bed.server, &bed.client] {
        machine::use_cubic(host.namespace());
    }
    let mut server = kind.serve(&bed);
    if placement == Placement::Steered {
        machine::steer(&bed, SERVER_CORE, CLIENT_CORE)?;
    }
    let client = kind.load(&bed, &server, seconds);
    against(kind, &mut server, client)
}

/// Waits for the client's end; returns what came of the run.
fn against(kind: &Kind, server: &mut Program, client: Program) -> Result<Run, Error> {
    let commands = vec![
        server.command_line().to_owned(),
        client.command_line().to_owned(),
    ];
    let (output, busy) = watch(client)?;
    run(kind, &output, busy, commands)
        .ok_or_else(|| failed(&output, &format!("\nthe server: {}", server.report())))
}

/// A run of smoltcp's client and server.
pub fn on_smoltcp(kind: &Kind, seconds: f64) -> Result<Run, Error> {
    let bed = Testbed::kernel().on_cores(SERVER_CORE, CLIENT_CORE);
    let wire = bed.path("wire").display().to_string();
    let none = || Error::Other("smoltcp has no such load".to_owned());
    let [served, load] = kind.smoltcp(&wire, seconds).ok_or_else(none)?;
    let start = |host: &testbed::Host, arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        host.start(artifacts::bench_smoltcp(), &arguments)
    };
    let mut server = start(&bed.server, &served);
    server.wait_until("listens", testbed::LIMIT, |server| {
        server.stdout().contains("listening")
    });
    let client = start(&bed.client, &load);
    against(kind, &mut server, client)
}

/// A run of the copies alone.
fn bare_copies(kind: &Kind, seconds: f64) -> Result<Run, Error> {
    let bed = Testbed::kernel();
    let (wire, seconds) = (bed.path("wire").display().to_string(), seconds.to_string());
    let (client, server) = (CLIENT_CORE.to_string(), SERVER_CORE.to_string());
    let arguments = [
        "--wire",
        &wire,
        "--duration",
        &seconds,
        "--sender",
        &client,
        "--receiver",
        &server,
    ];
    let program = bed.server.start(artifacts::bench_copies(), &arguments);
    let commands = vec![program.command_line().to_owned()];
    let (output, busy) = watch(program)?;
    run(kind, &output, busy, commands).ok_or_else(|| failed(&output, ""))
}

/// Waits for the client's end, and watches the cores meanwhile.
fn watch(client: Program) -> Result<(Finished, Busy), Error> {
    let before = Busy::counters()?;
    let output = client.finish(testbed::LIMIT);
    Ok((output, Busy::since(&before)?))
}

/// What a client's output is worth; `None` if it has failed.
fn run(kind: &Kind, output: &Finished, busy: Busy, commands: Vec<String>) -> Option<Run> {
    let values = kind.read(output)?;
    let good = output.status.success() && values.iter().all(|value| *value > 0.0);
    let distribution =
        || json(output).and_then(|json| Some(json.get("latency_us")?.get("distribution")?.clone()));
    good.then(|| Run {
        values,
        distribution: distribution(),
        busy,
        commands,
    })
}

fn failed(output: &Finished, more: &str) -> Error {
    Error::Other(format!("the client has failed: {output}{more}"))
}
