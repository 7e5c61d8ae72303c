//! bench-client: a single-threaded epoll client that loads a `bench-server` and prints what it
//! measured as JSON. Exits with 1 if anything failed.

mod connection;
mod load;

use std::error::Error;
use std::net::SocketAddrV4;
use std::process::ExitCode;
use std::time::Duration;

use bench::sys;
use clap::{Parser, ValueEnum};

/// What the connections do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Connect, exchange --messages messages, close, and again.
    Short,
    /// Exchange messages on connections that stay.
    Latency,
    /// Send as fast as it goes (server: sink).
    BulkUp,
    /// Receive as fast as it goes (server: source).
    BulkDown,
    /// Exchange one message each, then keep still until SIGTERM or --duration; then exchange one
    /// more, to see that every connection is alive.
    Idle,
}

/// A load, as the command line describes it.
#[derive(Parser)]
#[command(about = "A single-threaded epoll client for benchmarks")]
pub struct Options {
    /// What the connections do.
    mode: Mode,
    /// Where the server is: IPv4 address and port.
    address: SocketAddrV4,
    /// Connections at once.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Sent as the message instead of --size bytes; `\r` and `\n` stand for CR and LF. --size is the
    /// length of the answer then.
    #[arg(long, value_name = "TEXT")]
    request: Option<String>,
    /// Messages on each connection (short).
    #[arg(long, default_value_t = 1)]
    messages: u64,
    /// Ends after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// Ends after so many connections (short), messages (latency) or bytes (bulk).
    #[arg(long, conflicts_with = "duration")]
    total: Option<u64>,
    /// Seconds after which a connection without any progress counts as failed.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    timeout: f64,
    /// Ports of the server to connect to in turn, from the given one on: each has all source ports.
    #[arg(long, default_value_t = 1)]
    ports: u16,
    /// Closes with RST instead of FIN.
    #[arg(long)]
    linger0: bool,
    /// Asks epoll without end instead of sleeping in it.
    #[arg(long)]
    spin: bool,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::parse();
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds);
    let duration = options.duration.map(seconds).transpose()?;
    let timeout = seconds(options.timeout)?;
    if options.request.as_ref().is_some_and(String::is_empty) {
        return Err("--request must not be empty".into());
    }
    if options.connections == 0 || options.size == 0 || options.messages == 0 {
        return Err("--connections, --size and --messages must be at least 1".into());
    }
    if options.ports == 0
        || options
            .address
            .port()
            .checked_add(options.ports - 1)
            .is_none()
    {
        return Err("--ports must be at least 1, and the last port at most 65535".into());
    }
    if duration.is_none() && options.total.is_none() && options.mode != Mode::Idle {
        return Err("how long? (--duration or --total)".into());
    }
    sys::raise_file_limit()?;
    sys::stop_on_signals()?;
    let mut load = load::Load::new(&options, duration, timeout)?;
    load.run()?;
    println!("{:#}", load.report());
    Ok(if load.succeeded() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
