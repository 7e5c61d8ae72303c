//! What is measured: a server, a client, and the figure that the client prints.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use testbed::servers::{self, Server};
use testbed::{Finished, LIMIT, Program, Testbed, artifacts};

use super::{CLIENT_CORE, SERVER_CORE};
use crate::shell::{Error, at};

/// Whether a larger figure is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// It is.
    More,
    /// The smaller is.
    Less,
}

/// One line of the table.
pub struct Workload {
    /// What it is called.
    pub name: &'static str,
    /// The figure's unit.
    pub unit: &'static str,
    /// Which way it should go.
    pub better: Better,
    /// The ratio to reach over TAP.
    pub goal_tap: Option<f64>,
    /// The ratio to reach over the memory wire.
    pub goal_memory: Option<f64>,
    /// Starts the server.
    pub server: fn(&Testbed) -> Server,
    /// Starts the client, which loads the server for so many seconds.
    pub client: fn(&Testbed, &Server, f64) -> Program,
    /// The figure in what the client printed.
    pub figure: fn(&Finished) -> Option<f64>,
}

/// The table.
pub const WORKLOADS: [Workload; 9] = [
    Workload {
        name: "short connections, 64 B, 256 at once",
        unit: "connections/s",
        better: Better::More,
        goal_tap: Some(1.5),
        goal_memory: Some(2.0),
        server: |bed| servers::bench_server(bed, "echo", 64),
        client: |bed, server, seconds| {
            bench_client(
                bed,
                server,
                "short",
                256,
                seconds,
                &["--ports", "16", "--size", "64"],
            )
        },
        figure: |output| json_number(output, "connections_per_second"),
    },
    Workload {
        name: "round trip, 64 B, one connection, p50",
        unit: "us",
        better: Better::Less,
        goal_tap: None,
        goal_memory: None,
        server: |bed| servers::bench_server(bed, "echo", 64),
        client: |bed, server, seconds| {
            bench_client(bed, server, "latency", 1, seconds, &["--size", "64"])
        },
        figure: |output| json(output)?.get("latency_us")?.get("p50")?.as_f64(),
    },
    Workload {
        name: "the same, the kernel's server spinning",
        unit: "us",
        better: Better::Less,
        goal_tap: None,
        goal_memory: None,
        server: |bed| servers::spinning_bench_server(bed, 64),
        client: |bed, server, seconds| {
            bench_client(bed, server, "latency", 1, seconds, &["--size", "64"])
        },
        figure: |output| json(output)?.get("latency_us")?.get("p50")?.as_f64(),
    },
    Workload {
        name: "nginx, 64 B, keep-alive",
        unit: "requests/s",
        better: Better::More,
        goal_tap: Some(1.0),
        goal_memory: Some(2.0),
        server: nginx,
        client: |bed, server, seconds| wrk(bed, server, seconds, "Connection: keep-alive"),
        figure: wrk_rate,
    },
    Workload {
        name: "nginx, 64 B, closing",
        unit: "requests/s",
        better: Better::More,
        goal_tap: Some(1.0),
        goal_memory: Some(2.0),
        server: nginx,
        client: |bed, server, seconds| wrk(bed, server, seconds, "Connection: close"),
        figure: wrk_rate,
    },
    Workload {
        name: "redis GET, 50 clients, unpipelined",
        unit: "requests/s",
        better: Better::More,
        goal_tap: Some(1.0),
        goal_memory: Some(2.0),
        server: servers::redis,
        client: |bed, _, seconds| redis_benchmark(bed, seconds, 1),
        figure: redis_rate,
    },
    Workload {
        name: "redis GET, 50 clients, pipelined by 16",
        unit: "requests/s",
        better: Better::More,
        goal_tap: None,
        goal_memory: None,
        server: servers::redis,
        client: |bed, _, seconds| redis_benchmark(bed, seconds, 16),
        figure: redis_rate,
    },
    Workload {
        name: "bulk to the server, 4 connections",
        unit: "Gbit/s",
        better: Better::More,
        goal_tap: Some(0.8),
        goal_memory: None,
        server: |bed| servers::bench_server(bed, "sink", 64),
        client: |bed, server, seconds| bench_client(bed, server, "bulk-up", 4, seconds, &[]),
        figure: gigabits,
    },
    Workload {
        name: "bulk from the server, 4 connections",
        unit: "Gbit/s",
        better: Better::More,
        goal_tap: Some(0.8),
        goal_memory: None,
        server: |bed| servers::bench_server(bed, "source", 64),
        client: |bed, server, seconds| bench_client(bed, server, "bulk-down", 4, seconds, &[]),
        figure: gigabits,
    },
];

/// The name of the line about memory.
pub const IDLE: &str = "memory of an idle connection";

fn nginx(bed: &Testbed) -> Server {
    let root = bed.path("site");
    fs::create_dir_all(&root).expect("a directory in the testbed's own");
    fs::write(root.join("64"), [b'x'; 64]).expect("a file in the testbed's own directory");
    servers::nginx(bed, &root)
}

fn bench_client(
    bed: &Testbed,
    server: &Server,
    mode: &str,
    connections: usize,
    seconds: f64,
    more: &[&str],
) -> Program {
    let address = bed.endpoint(server.port).to_string();
    let (connections, seconds) = (connections.to_string(), seconds.to_string());
    let arguments = [
        mode,
        &address,
        "--connections",
        &connections,
        "--duration",
        &seconds,
    ];
    bed.client
        .start(artifacts::bench_client(), &[&arguments, more].concat())
}

fn wrk(bed: &Testbed, server: &Server, seconds: f64, header: &str) -> Program {
    let url = bed.url(server.port, "64");
    let duration = format!("{}s", seconds.ceil());
    let arguments = ["-t", "1", "-c", "64", "-d", &duration, "-H", header, &url];
    bed.client.start("wrk", &arguments)
}

fn redis_benchmark(bed: &Testbed, seconds: f64, depth: u32) -> Program {
    // It takes a number of requests, not a time: about as many as the kernel does in that time.
    let requests = (seconds * 40_000.0 * f64::from(depth)).ceil().to_string();
    let (host, depth) = (bed.address.to_string(), depth.to_string());
    let arguments = [
        "-h", &host, "-t", "get", "-c", "50", "-n", &requests, "-P", &depth, "--csv",
    ];
    bed.client.start("redis-benchmark", &arguments)
}

fn json(output: &Finished) -> Option<Value> {
    serde_json::from_str(&output.stdout).ok()
}

fn json_number(output: &Finished, key: &str) -> Option<f64> {
    json(output)?.get(key)?.as_f64()
}

fn gigabits(output: &Finished) -> Option<f64> {
    json_number(output, "bits_per_second").map(|bits| bits / 1e9)
}

/// wrk's rate, unless it complains of anything.
fn wrk_rate(output: &Finished) -> Option<f64> {
    let text = &output.stdout;
    if text.contains("Socket errors") || text.contains("Non-2xx") {
        return None;
    }
    let rate = text
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"))?;
    rate.trim().parse().ok()
}

/// The second field of redis-benchmark's line about GET.
fn redis_rate(output: &Finished) -> Option<f64> {
    let line = output
        .stdout
        .lines()
        .find(|line| line.starts_with("\"GET"))?;
    line.split(',').nth(1)?.trim_matches('"').parse().ok()
}

/// Bytes of memory that one of many idle connections costs the stack: engine and segment.
pub fn idle_memory() -> Result<f64, Error> {
    const CONNECTIONS: usize = 10_000;
    let bed = Testbed::server_on_tap().on_cores(SERVER_CORE, CLIENT_CORE);
    let server = servers::bench_server(&bed, "echo", 64);
    let address = bed.endpoint(server.port).to_string();
    let load = |connections: usize| {
        let connections = connections.to_string();
        let arguments = ["idle", &address, "--connections", &connections];
        let mut client = bed.client.start(artifacts::bench_client(), &arguments);
        client.wait_until("has all its connections", LIMIT, |client| {
            client.stdout().contains("parked")
        });
        client
    };
    // What the first connections make the stack set up once is no cost of a connection.
    let few = load(100);
    let before = stack_memory(server.pid())?;
    let many = load(CONNECTIONS);
    let after = stack_memory(server.pid())?;
    for client in [few, many] {
        let output = client.stop(Duration::from_secs(60));
        if !output.status.success() {
            return Err(Error::Other(format!(
                "idle connections have died: {output}"
            )));
        }
    }
    Ok(after.saturating_sub(before) as f64 / CONNECTIONS as f64)
}

/// Resident bytes of `mtcp-run`: the engine's own memory and the pages of the segment, which the
/// engine maps as a whole.
fn stack_memory(pid: u32) -> Result<u64, Error> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).map_err(at(&path))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes =
        resident.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| Error::Other(format!("{path} has no VmRSS")))
}
