//! The machine under the benchmark: its cores, its congestion control, and where the kernel does
//! its receive work.

use std::fmt;
use std::fs;
use std::process::Command;
use std::thread;

use testbed::{Namespace, Testbed};

use crate::shell::{Error, at, output};

/// Which congestion controls a namespace may use; it exists in the machine's own namespace only.
const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

/// An error if this machine has fewer cores.
pub fn need_cores(wanted: usize) -> Result<(), Error> {
    let there = thread::available_parallelism().map_or(1, |cores| cores.get());
    if there >= wanted {
        return Ok(());
    }
    Err(Error::Other(format!(
        "the benchmark needs {wanted} cores, there are {there}"
    )))
}

/// While it lives, namespaces may use cubic.
pub struct AllowCubic {
    before: Option<String>,
}

impl AllowCubic {
    /// Adds cubic to what is allowed, if it is not there.
    pub fn new() -> Result<AllowCubic, Error> {
        let before = fs::read_to_string(ALLOWED).map_err(at(ALLOWED))?;
        if before.split_whitespace().any(|name| name == "cubic") {
            return Ok(AllowCubic { before: None });
        }
        fs::write(ALLOWED, format!("{} cubic", before.trim())).map_err(at(ALLOWED))?;
        Ok(AllowCubic {
            before: Some(before),
        })
    }
}

impl Drop for AllowCubic {
    fn drop(&mut self) {
        if let Some(before) = &self.before
            && let Err(error) = fs::write(ALLOWED, before)
        {
            eprintln!(
                "{ALLOWED} was {}; it could not be put back: {error}",
                before.trim()
            );
        }
    }
}

/// Has the kernel's TCP in this namespace use cubic.
pub fn use_cubic(namespace: &Namespace) {
    namespace.sysctl("net.ipv4.tcp_congestion_control", "cubic");
}

/// Has the kernel receive each end's packets on its owner's core (receive packet steering).
///
/// On a TAP device the kernel's end is the client's.
pub fn steer(bed: &Testbed, server_core: usize, client_core: usize) -> Result<(), Error> {
    let mut hosts = vec![(&bed.client, client_core)];
    if !bed.server.is_on_stack() {
        hosts.push((&bed.server, server_core));
    }
    for (host, core) in hosts {
        let mask = format!("{:x}", 1_u64 << core);
        for interface in host.namespace().interfaces() {
            // /sys shows the network namespace that it was mounted in.
            let script = format!(
                "mount -t sysfs sysfs /sys && \
                 for queue in /sys/class/net/{interface}/queues/rx-*; do echo {mask} > $queue/rps_cpus; done"
            );
            let mut command = host.namespace().command("unshare");
            output(command.args(["--mount", "sh", "-e", "-c", &script]))?;
        }
    }
    Ok(())
}

/// How busy each core was, from 0 to 1.
#[derive(Clone, Debug)]
pub struct Busy(pub Vec<f64>);

/// Ticks of each core: all, and idle.
pub struct Ticks(Vec<(u64, u64)>);

impl Busy {
    /// The counters now.
    pub fn counters() -> Result<Ticks, Error> {
        let text = fs::read_to_string("/proc/stat").map_err(at("/proc/stat"))?;
        Ok(Ticks(parse_ticks(&text)))
    }

    /// The shares since then.
    pub fn since(before: &Ticks) -> Result<Busy, Error> {
        let now = Busy::counters()?;
        let share = |(before, now): (&(u64, u64), &(u64, u64))| {
            let all = now.0.saturating_sub(before.0).max(1);
            let idle = now.1.saturating_sub(before.1).min(all);
            1.0 - idle as f64 / all as f64
        };
        Ok(Busy(before.0.iter().zip(&now.0).map(share).collect()))
    }
}

/// Reads the cpuN lines of /proc/stat: user nice system idle iowait irq softirq steal (proc(5)).
fn parse_ticks(text: &str) -> Vec<(u64, u64)> {
    let cores = text.lines().filter(|line| {
        let digit = line
            .strip_prefix("cpu")
            .and_then(|rest| rest.chars().next());
        digit.is_some_and(|digit| digit.is_ascii_digit())
    });
    cores
        .map(|line| {
            let ticks = line.split_whitespace().skip(1).take(8);
            let ticks: Vec<u64> = ticks.map(|tick| tick.parse().unwrap_or(0)).collect();
            let idle = ticks.get(3).unwrap_or(&0) + ticks.get(4).unwrap_or(&0);
            (ticks.iter().sum(), idle)
        })
        .collect()
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares: Vec<String> = self
            .0
            .iter()
            .map(|share| format!("{:.0}", share * 100.0))
            .collect();
        write!(f, "{} %", shares.join("/"))
    }
}

/// What this machine is, in a line each.
pub fn description() -> Result<Vec<String>, Error> {
    let cpu = fs::read_to_string("/proc/cpuinfo").map_err(at("/proc/cpuinfo"))?;
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    Ok(vec![
        format!("machine: {model}, {cores} cores"),
        format!("kernel: {}", output(Command::new("uname").arg("-sr"))?),
        format!(
            "date: {}",
            output(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?
        ),
        format!("commit: {}", commit()),
        format!("load before the first run: {}", load()?),
    ])
}

/// The load average of the last minute: what else ran, and disturbs the figures.
fn load() -> Result<String, Error> {
    let path = "/proc/loadavg";
    let averages = fs::read_to_string(path).map_err(at(path))?;
    Ok(averages
        .split_whitespace()
        .next()
        .unwrap_or("unknown")
        .to_owned())
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        output(
            command
                .args(arguments)
                .current_dir(testbed::artifacts::workspace()),
        )
    };
    let Ok(commit) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "none yet".to_owned();
    };
    match git(&["status", "--porcelain"]) {
        Ok(changes) if changes.is_empty() => commit,
        _ => format!("{commit}, with changes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_of_single_cores_are_read() {
        let text = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 4 5 6 7 8 9 9\ncpu1 0 0 0 7 0 0 0 0 0 0\nintr 5\n";
        assert_eq!(parse_ticks(text), [(36, 9), (7, 7)]);
    }
}
