//! The kinds of load: how each is served and made, and the figures that its client prints.

use std::fs;

use serde_json::Value;
use testbed::servers::{self, Server};
use testbed::{Finished, Program, Testbed, artifacts};

/// A way of a bulk transfer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the server.
    Up,
    /// From it.
    Down,
}

/// What is served, and what asks for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Connect, exchange messages, close, and again; figure: connections a second.
    Short {
        /// Bytes of a message.
        size: usize,
        /// Messages on each connection.
        messages: u64,
        /// Connections at once.
        connections: usize,
    },
    /// Messages on connections that stay; figures: microseconds that 50, 99 and 99.9 % take at most.
    RoundTrip {
        /// Connections at once.
        connections: usize,
        /// Whether the kernel's programs ask epoll without end.
        spin: bool,
    },
    /// Messages of any size on 16 connections that stay; figure: Gbit/s of both ways together.
    Messages {
        /// Bytes of a message.
        size: usize,
    },
    /// nginx and wrk with 64 connections; figure: requests a second.
    Nginx {
        /// Bytes of the file.
        size: usize,
        /// Whether a connection ends with its request.
        close: bool,
        /// Whether nginx keeps its files open (`open_file_cache`), so that its calls are those of sockets.
        open_files: bool,
    },
    /// redis and 50 clients; figure: GETs a second.
    Redis {
        /// Requests on their way at once on each connection.
        depth: u32,
    },
    /// memcached and 50 connections; figure: sets of 64 bytes a second.
    Memcached,
    /// Bytes as fast as it goes; figure: Gbit/s.
    Bulk {
        /// Which way they go.
        way: Way,
        /// Connections at once.
        flows: usize,
    },
}

/// Sets a key of memcached's, and the length of its answer, `STORED\r\n`.
const MEMCACHED_SET: &str =
    "set k 0 0 64\\r\\n0123456789012345678901234567890123456789012345678901234567890123\\r\\n";
const MEMCACHED_STORED: &str = "8";

impl Kind {
    /// What each of the figures is, after the workload's name; the first is the one that counts.
    pub fn figures(&self) -> &'static [&'static str] {
        match self {
            Kind::RoundTrip { .. } => &[", p50", ", p99", ", p99.9"],
            _ => &[""],
        }
    }

    /// The figures' unit.
    pub fn unit(&self) -> &'static str {
        match self {
            Kind::Short { .. } => "connections/s",
            Kind::RoundTrip { .. } => "us",
            Kind::Messages { .. } | Kind::Bulk { .. } => "Gbit/s",
            Kind::Nginx { .. } | Kind::Redis { .. } | Kind::Memcached => "requests/s",
        }
    }

    /// Starts the server.
    pub fn serve(&self, bed: &Testbed) -> Server {
        match *self {
            Kind::Short { size, .. } | Kind::Messages { size } => {
                servers::bench_server(bed, "echo", size)
            }
            Kind::RoundTrip { spin: true, .. } => servers::spinning_bench_server(bed, 64),
            Kind::RoundTrip { spin: false, .. } => servers::bench_server(bed, "echo", 64),
            Kind::Nginx {
                size, open_files, ..
            } => nginx(bed, size, open_files),
            Kind::Redis { .. } => servers::redis(bed),
            Kind::Memcached => servers::memcached(bed),
            Kind::Bulk { way: Way::Up, .. } => servers::bench_server(bed, "sink", 64),
            Kind::Bulk { way: Way::Down, .. } => servers::bench_server(bed, "source", 64),
        }
    }

    /// Starts the client, which loads the server for so many seconds.
    pub fn load(&self, bed: &Testbed, server: &Server, seconds: f64) -> Program {
        let client = |mode: &str, connections: usize, more: &[&str]| {
            let address = bed.endpoint(server.port).to_string();
            let (connections, seconds) = (connections.to_string(), seconds.to_string());
            let arguments = [mode, &address, "--connections", &connections];
            let arguments = [&arguments[..], &["--duration", &seconds], more].concat();
            bed.client.start(artifacts::bench_client(), &arguments)
        };
        match *self {
            Kind::Short {
                size,
                messages,
                connections,
            } => {
                let (size, messages) = (size.to_string(), messages.to_string());
                let more = ["--ports", "16", "--size", &size, "--messages", &messages];
                client("short", connections, &more)
            }
            Kind::RoundTrip { connections, spin } => {
                let spin = spin && !bed.client.is_on_stack();
                let more: &[&str] = if spin { &["--spin"] } else { &[] };
                client("latency", connections, more)
            }
            Kind::Messages { size } => client("latency", 16, &["--size", &size.to_string()]),
            Kind::Nginx { size, close, .. } => wrk(bed, server, seconds, size, close),
            Kind::Redis { depth } => redis_benchmark(bed, seconds, depth),
            Kind::Memcached => {
                let more = ["--request", MEMCACHED_SET, "--size", MEMCACHED_STORED];
                client("latency", 50, &more)
            }
            Kind::Bulk { way, flows } => client(way.mode(), flows, &[]),
        }
    }

    /// The arguments of `bench-smoltcp` for its server and its client, if it can make this load.
    pub fn smoltcp(&self, wire: &str, seconds: f64) -> Option<[Vec<String>; 2]> {
        let (service, mode, connections, size, messages) = match *self {
            Kind::Short {
                size,
                messages,
                connections,
            } => ("echo", "short", connections, size, messages),
            Kind::RoundTrip { connections, .. } => ("echo", "latency", connections, 64, 1),
            Kind::Bulk { way, flows } => {
                let service = if way == Way::Up { "sink" } else { "source" };
                (service, way.mode(), flows, 64, 1)
            }
            _ => return None,
        };
        let end = |end: &str, what: &str| {
            let (connections, size) = (connections.to_string(), size.to_string());
            let common = [end, what, "--wire", wire, "--connections", &connections];
            let all = common.into_iter().chain(["--size", &size]);
            all.map(str::to_owned).collect::<Vec<_>>()
        };
        let mut client = end("client", mode);
        let more = ["--messages".to_owned(), messages.to_string()];
        client.extend(more);
        client.extend(["--duration".to_owned(), seconds.to_string()]);
        Some([end("server", service), client])
    }

    /// The figures in what the client printed.
    pub fn read(&self, output: &Finished) -> Option<Vec<f64>> {
        let figure = match self {
            Kind::RoundTrip { .. } => {
                let latency = json(output)?.get("latency_us")?.clone();
                let of = |name: &str| latency.get(name)?.as_f64();
                return ["p50", "p99", "p999"].into_iter().map(of).collect();
            }
            Kind::Short { messages, .. } => {
                // So that long connections which the run's end cuts off count by what they did.
                json_number(output, "messages_per_second").map(|rate| rate / *messages as f64)
            }
            Kind::Memcached => json_number(output, "messages_per_second"),
            Kind::Messages { .. } | Kind::Bulk { .. } => gigabits(output),
            Kind::Nginx { .. } => wrk_rate(&output.stdout),
            Kind::Redis { .. } => redis_rate(&output.stdout),
        };
        Some(vec![figure?])
    }
}

impl Way {
    /// What the clients call it.
    fn mode(self) -> &'static str {
        match self {
            Way::Up => "bulk-up",
            Way::Down => "bulk-down",
        }
    }
}

fn nginx(bed: &Testbed, size: usize, open_files: bool) -> Server {
    let root = bed.path("site");
    fs::create_dir_all(&root).expect("a directory in the testbed's own");
    let file = root.join(size.to_string());
    fs::write(file, vec![b'x'; size]).expect("a file in the testbed's own directory");
    match open_files {
        true => servers::nginx_with_open_files(bed, &root),
        false => servers::nginx(bed, &root),
    }
}

fn wrk(bed: &Testbed, server: &Server, seconds: f64, size: usize, close: bool) -> Program {
    let url = bed.url(server.port, &size.to_string());
    let duration = format!("{}s", seconds.ceil());
    let header = if close { "close" } else { "keep-alive" };
    let header = format!("Connection: {header}");
    let arguments = ["-t", "1", "-c", "64", "-d", &duration, "-H", &header, &url];
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

/// What one of our own clients printed.
pub fn json(output: &Finished) -> Option<Value> {
    serde_json::from_str(&output.stdout).ok()
}

fn json_number(output: &Finished, key: &str) -> Option<f64> {
    json(output)?.get(key)?.as_f64()
}

fn gigabits(output: &Finished) -> Option<f64> {
    json_number(output, "bits_per_second").map(|bits| bits / 1e9)
}

/// wrk's rate, unless it complains of anything.
fn wrk_rate(text: &str) -> Option<f64> {
    if text.contains("Socket errors") || text.contains("Non-2xx") {
        return None;
    }
    let rate = text
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"))?;
    rate.trim().parse().ok()
}

/// The second field of redis-benchmark's line about GET.
fn redis_rate(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("\"GET"))?;
    line.split(',').nth(1)?.trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_of_wrk_counts_only_without_complaints() {
        let text = "Latency 1ms\nRequests/sec:  5120.25\nTransfer/sec: 1MB\n";
        assert_eq!(wrk_rate(text), Some(5120.25));
        assert_eq!(
            wrk_rate(&format!("  Socket errors: connect 1\n{text}")),
            None
        );
    }

    #[test]
    fn the_rate_of_redis_benchmark_is_its_second_field() {
        let text = "\"test\",\"rps\"\n\"GET\",\"31250.00\",\"1.5\"\n";
        assert_eq!(redis_rate(text), Some(31250.0));
    }

    #[test]
    fn smoltcp_is_given_the_same_load() {
        let kind = Kind::Short {
            size: 64,
            messages: 8,
            connections: 256,
        };
        let [server, client] = kind.smoltcp("/w", 0.5).unwrap();
        assert_eq!(
            server.join(" "),
            "server echo --wire /w --connections 256 --size 64"
        );
        assert_eq!(
            client.join(" "),
            "client short --wire /w --connections 256 --size 64 --messages 8 --duration 0.5"
        );
        assert!(Kind::Memcached.smoltcp("/w", 1.0).is_none());
    }
}
