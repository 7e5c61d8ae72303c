//! What connections cost that do nothing: memory, of the stack and of the kernel.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::{LIMIT, Program, Testbed, artifacts, servers};

use super::{CLIENT_CORE, SERVER_CORE};
use crate::shell::{Error, at};

/// The name by which `--only` selects this.
pub const NAME: &str = "memory of an idle connection";

/// Connections that share what is measured.
const CONNECTIONS: usize = 10_000;

/// How often the memory is looked at, and for how long it must not have become less.
const LOOK: Duration = Duration::from_millis(500);
const SETTLED: u32 = 6;
/// Looks at most: a minute.
const LOOKS: u32 = 120;

/// Bytes that one of many may cost the stack, and the share of the kernel's.
const GOAL: f64 = 1536.0;
const GOAL_SHARE: f64 = 0.5;

/// Bytes of one idle connection.
pub struct Memory {
    /// Of the stack's: engine and segment.
    stack: f64,
    /// Of one end's on the kernel: slabs and socket buffers.
    kernel: f64,
}

/// Measures both.
pub fn memory() -> Result<Memory, Error> {
    let server_on_stack = Testbed::server_on_tap();
    let stack = cost(
        &server_on_stack.on_cores(SERVER_CORE, CLIENT_CORE),
        resident,
    )?;
    // Both ends are the kernel's there.
    let both_on_kernel = Testbed::kernel().on_cores(SERVER_CORE, CLIENT_CORE);
    let kernel = cost(&both_on_kernel, kernel_memory)? / 2.0;
    eprintln!("  stack {stack:.0} bytes, kernel {kernel:.0} bytes");
    Ok(Memory { stack, kernel })
}

/// What each of many connections adds to what `used` says of the server's process.
fn cost(bed: &Testbed, used: fn(u32) -> Result<u64, Error>) -> Result<f64, Error> {
    let server = servers::bench_server(bed, "echo", 64);
    // What the first connections make anyone set up once is no cost of a connection.
    let few = park(bed, server.port, 100);
    let before = used(server.pid())?;
    let many = park(bed, server.port, CONNECTIONS);
    let after = settled(|| used(server.pid()))?;
    for client in [few, many] {
        release(client)?;
    }
    Ok(after.saturating_sub(before) as f64 / CONNECTIONS as f64)
}

/// What is used once it does not become less any more: the handshakes of many connections at once
/// take memory that goes back to the system within seconds.
fn settled(used: impl Fn() -> Result<u64, Error>) -> Result<u64, Error> {
    let (mut least, mut unchanged) = (used()?, 0);
    for _ in 0..LOOKS {
        std::thread::sleep(LOOK);
        let now = used()?;
        unchanged = if now < least { 0 } else { unchanged + 1 };
        least = least.min(now);
        if unchanged == SETTLED {
            break;
        }
    }
    Ok(least)
}

/// A client that has so many connections which do nothing, to sixteen ports from this one on.
pub fn park(bed: &Testbed, port: u16, connections: usize) -> Program {
    let (address, connections) = (bed.endpoint(port).to_string(), connections.to_string());
    let arguments = [
        "idle",
        &address,
        "--connections",
        &connections,
        "--ports",
        "16",
    ];
    let mut client = bed.client.start(artifacts::bench_client(), &arguments);
    client.wait_until("has all its connections", LIMIT, |client| {
        client.stdout().contains("parked")
    });
    client
}

/// Ends it; an error if any of its connections has died.
pub fn release(client: Program) -> Result<(), Error> {
    let output = client.stop(Duration::from_secs(60));
    if output.status.success() {
        return Ok(());
    }
    let text = format!("idle connections have died: {output}");
    Err(Error::Other(text))
}

/// Resident bytes of `mtcp-run`: the engine's own memory and the pages of the segment, which the
/// engine maps as a whole.
fn resident(pid: u32) -> Result<u64, Error> {
    kilobytes(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// Bytes of the kernel's slabs, where its sockets, their files and their hash entries are.
fn kernel_memory(_: u32) -> Result<u64, Error> {
    kilobytes("/proc/meminfo", "Slab:")
}

/// The bytes that a file of /proc gives in kilobytes after a name.
fn kilobytes(path: &str, name: &str) -> Result<u64, Error> {
    let text = fs::read_to_string(path).map_err(at(path))?;
    parse_kilobytes(&text, name).ok_or_else(|| Error::Other(format!("{path} has no line {name}")))
}

fn parse_kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

impl Memory {
    /// The line of the report.
    pub fn text(&self) -> String {
        let Memory { stack, kernel } = self;
        let reached = *stack <= GOAL && *stack <= kernel * GOAL_SHARE;
        format!(
            "{NAME}: {stack:.0} bytes in all, engine and segment; of Linux's {kernel:.0} (growth of its slabs): \
             {:.2}x (goals: at most {GOAL:.0}, and {GOAL_SHARE}x; {})",
            stack / kernel,
            if reached { "reached" } else { "missed" }
        )
    }

    /// The same for results.json.
    pub fn to_json(&self) -> Value {
        json!({ "stack_bytes": self.stack, "kernel_bytes": self.kernel })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilobytes_are_read_by_their_name() {
        let text = "SReclaimable:  1 kB\nSlab:           20 kB\n";
        assert_eq!(parse_kilobytes(text, "Slab:"), Some(20 * 1024));
        assert_eq!(parse_kilobytes(text, "VmRSS:"), None);
    }

    #[test]
    fn memory_has_two_goals() {
        let text = |stack, kernel| Memory { stack, kernel }.text();
        assert!(text(1500.0, 4000.0).contains("reached"));
        assert!(text(1500.0, 2000.0).contains("missed"));
        assert!(text(1600.0, 4000.0).contains("missed"));
    }
}
