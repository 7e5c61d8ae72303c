//! Linux's TCP as a host: behind a TUN in a network namespace of its own, in real time.

mod sys;

use crate::call::{Call, Outcome};
use crate::run::{Addresses, Failure, Host, Ticket};
use crate::script::{Action, Script};
use crate::stack::sysctl::settings;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the kernel is set to where a script does not say otherwise: the defaults of Linux, whatever
/// the machine's own are, with what would make it depend on the machine's load switched off.
const SETTINGS: &[(&str, &str)] = &[
    ("net.ipv4.tcp_rmem", "4096 131072 6291456"),
    ("net.ipv4.tcp_wmem", "4096 16384 4194304"),
    ("net.ipv4.tcp_autocorking", "0"),
    // Timeouts of a SYN double from the first on, as RFC 6298 has it and Linux had it before 6.5.
    ("net.ipv4.tcp_syn_linear_timeouts", "0"),
    ("net.ipv4.tcp_timestamps", "1"),
    ("net.ipv4.tcp_sack", "1"),
    ("net.ipv4.tcp_dsack", "1"),
    ("net.ipv4.tcp_window_scaling", "1"),
    ("net.ipv4.tcp_ecn", "2"),
    ("net.ipv4.tcp_slow_start_after_idle", "1"),
    ("net.ipv4.tcp_tw_reuse", "2"),
    ("net.ipv4.tcp_no_metrics_save", "1"),
];

/// Linux's TCP.
pub struct Kernel {
    start: Instant,
    tun: File,
    sent: Receiver<(Instant, Vec<u8>)>,
    reader: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    addresses: Addresses,
    calls: Vec<Progress>,
    tolerance: u64,
    /// Congestion control of each socket; a namespace may not choose any as its default.
    congestion: String,
}

/// The one sysctl that is carried out by a socket option.
const CONGESTION: &str = "net.ipv4.tcp_congestion_control";

enum Progress {
    UnderWay(Receiver<(Instant, Outcome)>),
    Done(Instant, Outcome),
}

/// Runs a script over Linux, on a thread in a namespace of its own. `tolerance` is in microseconds.
///
/// # Errors
/// The first line that did not come true, or what is missing for the run (line 0).
pub fn run(
    script: &Script,
    addresses: Addresses,
    record: bool,
    tolerance: u64,
) -> Result<(), Failure> {
    let inside = || {
        let mut kernel =
            Kernel::new(script, addresses, tolerance).map_err(|what| Failure { line: 0, what })?;
        crate::run::run(script, &mut kernel, addresses, record)
    };
    std::thread::scope(|scope| scope.spawn(inside).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Kernel {
    fn new(script: &Script, addresses: Addresses, tolerance: u64) -> Result<Kernel, String> {
        sys::leave_network_namespace().map_err(|e| format!("no network namespace: {e}"))?;
        let tun = sys::open_tun("tun0").map_err(|e| format!("no TUN: {e}"))?;
        let option = |name: &str| script.options.iter().find(|(n, _)| n == name);
        let mtu = option("mtu").map_or("1500", |(_, value)| value);
        let (local, family, prefix) = match addresses.local {
            std::net::IpAddr::V4(v4) => (v4.to_string(), "-4", "16"),
            std::net::IpAddr::V6(v6) => (v6.to_string(), "-6", "48 nodad"),
        };
        tool("ip", "link set lo up")?;
        tool(
            "ip",
            &format!("{family} addr add {local}/{prefix} dev tun0"),
        )?;
        tool("ip", &format!("link set tun0 up mtu {mtu}"))?;
        tool("ip", &format!("{family} route add default dev tun0"))?;
        // A queue that paces would change what a script sees.
        tool("tc", "qdisc replace dev tun0 root pfifo")?;
        for (name, value) in SETTINGS {
            set(name, value)?;
        }
        let mut congestion = "cubic".to_owned();
        for event in &script.events {
            let Action::Command(command) = &event.action else {
                break;
            };
            for (name, value) in settings(command)? {
                if name == CONGESTION {
                    congestion = value;
                } else {
                    set(&name, &value)?;
                }
            }
        }
        sys::ask_for_real_time();
        let (sender, sent) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let mut from = tun.try_clone().map_err(|e| e.to_string())?;
        let stopped = stop.clone();
        let reader = std::thread::spawn(move || {
            let mut frame = vec![0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                if !sys::is_readable(&from, Duration::from_millis(20)) {
                    continue;
                }
                let Ok(n) = from.read(&mut frame) else {
                    return;
                };
                if sender.send((Instant::now(), frame[..n].to_vec())).is_err() {
                    return;
                }
            }
        });
        Ok(Kernel {
            start: Instant::now(),
            tun,
            sent,
            reader: Some(reader),
            stop,
            addresses,
            calls: Vec::new(),
            tolerance,
            congestion,
        })
    }

    fn micros(&self, time: Instant) -> u64 {
        time.saturating_duration_since(self.start).as_micros() as u64
    }

    fn until(&self, time: u64) -> Duration {
        Duration::from_micros(time.saturating_sub(self.now()))
    }
}

/// Runs a program of iproute2 in this thread's namespace.
fn tool(program: &str, arguments: &str) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .map_err(|e| format!("{program} (package iproute2): {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{program} {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

fn set(name: &str, value: &str) -> Result<(), String> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    fs::write(&path, value).map_err(|e| format!("{name}={value}: {e}"))
}

impl Host for Kernel {
    fn now(&self) -> u64 {
        self.micros(Instant::now())
    }

    fn wait_until(&mut self, time: u64) {
        std::thread::sleep(self.until(time));
    }

    fn inject(&mut self, datagram: &[u8]) -> Result<(), String> {
        self.tun
            .write_all(datagram)
            .map_err(|e| format!("the TUN takes nothing: {e}"))
    }

    fn next_datagram(&mut self, time: u64) -> Option<(u64, Vec<u8>)> {
        // What the kernel has sent is read by another thread, which may be a little behind.
        let patience = self.until(time).max(Duration::from_millis(1));
        let (at, datagram) = self.sent.recv_timeout(patience).ok()?;
        Some((self.micros(at), datagram))
    }

    fn call(&mut self, call: &Call) -> Ticket {
        let (sender, receiver) = mpsc::channel();
        let (call, addresses) = (call.clone(), self.addresses);
        let congestion = self.congestion.clone();
        std::thread::spawn(move || {
            let outcome = sys::call(&call, addresses);
            if matches!(call, Call::Socket { .. }) {
                sys::set_congestion(outcome.value as i32, &congestion);
            }
            // Nobody waits any more once the script has failed.
            let _ = sender.send((Instant::now(), outcome));
        });
        self.calls.push(Progress::UnderWay(receiver));
        self.calls.len() - 1
    }

    fn outcome(&mut self, ticket: Ticket, time: u64) -> Option<(u64, Outcome)> {
        let patience = self.until(time).max(Duration::from_millis(1));
        let progress = self.calls.get_mut(ticket)?;
        if let Progress::UnderWay(receiver) = progress {
            let (at, outcome) = receiver.recv_timeout(patience).ok()?;
            *progress = Progress::Done(at, outcome);
        }
        match &self.calls[ticket] {
            Progress::Done(at, outcome) => Some((self.micros(*at), outcome.clone())),
            Progress::UnderWay(_) => None,
        }
    }

    fn info(&mut self, fd: i32) -> Result<Vec<u8>, String> {
        let outcome = sys::call(
            &Call::GetOption {
                fd,
                level: libc::IPPROTO_TCP,
                name: libc::TCP_INFO,
                len: 256,
            },
            self.addresses,
        );
        match outcome.value {
            0 => Ok(outcome.bytes),
            _ => Err(format!("TCP_INFO: errno {}", outcome.errno)),
        }
    }

    fn command(&mut self, command: &str) -> Result<(), String> {
        if self.calls.is_empty() {
            // Carried out before the script began.
            return Ok(());
        }
        settings(command)?
            .iter()
            .try_for_each(|(name, value)| set(name, value))
    }

    fn is_exact(&self) -> bool {
        false
    }

    /// Linux's timers grow coarser with their length, up to an eighth of it.
    fn tolerance(&self, delta: u64) -> u64 {
        self.tolerance + delta / 8
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
