//! Every single-valued setting: its key, how its value is read and written, what it means.

mod tcp;

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use crate::choice::{Congestion, Ecn, HostAddress, Loopback, SynCookies, TimeWaitReuse, Trace};
use crate::device::Device;
use crate::mtu_probing::MtuProbing;
use crate::net6::Address6;
use crate::settings::Settings;
use crate::value::{self, duration, duration_text, number, optional, optional_text, size_text};

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Its name in the file, with its table, e.g. `tcp.rto_min`.
    pub name: &'static str,
    /// The part of the reference in which it stands.
    pub section: Section,
    /// The values it takes, to follow "expected".
    pub expected: &'static str,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
    read: fn(&mut Settings, &str) -> Option<()>,
    write: fn(&Settings) -> String,
}

/// Parts of the reference.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Section {
    /// Device and addresses.
    Device,
    /// Cores.
    Cores,
    /// Memory and TCP.
    Memory,
    /// What the stack serves.
    Policy,
    /// Logs, traces, statistics.
    Log,
}

impl Section {
    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Section::Device => "Device and addresses",
            Section::Cores => "Cores",
            Section::Memory => "Memory and TCP",
            Section::Policy => "What the stack serves",
            Section::Log => "Logs, traces, statistics",
        }
    }
}

impl Key {
    /// The key of that name.
    pub fn find(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The environment variable that sets it: `MTCP_` and the name in capitals, `_` for `.`.
    pub fn variable(&self) -> String {
        format!("MTCP_{}", self.name.to_uppercase().replace('.', "_"))
    }

    /// Sets it from text; `None`, with nothing changed, if the text is not what is expected.
    pub fn set(&self, settings: &mut Settings, text: &str) -> Option<()> {
        (self.read)(settings, text.trim())
    }

    /// Its value in `settings`, as [`Key::set`] reads it.
    pub fn get(&self, settings: &Settings) -> String {
        (self.write)(settings)
    }
}

/// Variables that `mtcp-run` reads besides those of [`KEYS`], and what they do.
pub const VARIABLES: [(&str, &str); 3] = [
    ("MTCP_CONFIG", "TOML file to read, as --config."),
    ("MTCP_CONF", "mTCP's own mtcp.conf to read, as --mtcp-conf."),
    ("MTCP_PRELOAD", "The preload library to use, as --preload."),
];

const PATH: &str = "a file name, or none";
const BUFFER: &str = "a size from 2K to 1G such as 64K";
const MOST: &str = "a size from 2K to 1G such as 64K, or auto";
const BUFFERS: std::ops::RangeInclusive<u64> = 2 << 10..=1 << 30;

/// All settings but routes, static neighbours and rules, which are tables of the file.
pub static KEYS: &[Key] = &[
    Key {
        name: "device",
        section: Section::Device,
        expected: Device::EXPECTED,
        doc: "The packet device that the stack drives. A TAP is made for the run; a wire is shared \
              memory to another stack that names the same path, or @ and a name (a third is refused); \
              packet:IF shares an interface with the kernel, xdp:IF takes it from the kernel \
              meanwhile; with none nothing leads out of the stack, which is of use with loopback at stack.",
        read: |s, v| Device::parse(v).map(|d| s.device = d),
        write: |s| s.device.to_string(),
    },
    Key {
        name: "mtu",
        section: Section::Device,
        expected: "a number of bytes from 576 to 65521",
        doc: "Largest IP packet on the wire, in bytes; below 1280 the stack has no IPv6 (RFC 8200 §5).",
        read: |s, v| number(v, 576..=65_521).map(|n| s.mtu = n),
        write: |s| s.mtu.to_string(),
    },
    Key {
        name: "queues",
        section: Section::Device,
        expected: "a number from 1 to 256, or auto",
        doc: "Queue pairs of the device; auto is one for each worker. Of more, workers have several each.",
        read: |s, v| {
            if v == "auto" {
                s.queues = None;
                return Some(());
            }
            number(v, 1..=256).map(|n| s.queues = Some(n))
        },
        write: |s| s.queues.map_or("auto".to_owned(), |n| n.to_string()),
    },
    Key {
        name: "address",
        section: Section::Device,
        expected: "an IPv4 address and prefix such as 10.77.0.2/24",
        doc: "The stack's own address, with the length of its network's prefix.",
        read: |s, v| v.parse().ok().map(|a| s.address = a),
        write: |s| s.address.to_string(),
    },
    Key {
        name: "host_address",
        section: Section::Device,
        expected: "an IPv4 address and prefix such as 10.77.0.1/24, auto or none",
        doc: "The kernel's address on its side of a TAP; auto is the first other host of the \
              stack's network. Other devices have no such side.",
        read: |s, v| HostAddress::parse(v).map(|a| s.host_address = a),
        write: |s| s.host_address.to_string(),
    },
    Key {
        name: "gateway",
        section: Section::Device,
        expected: "an IPv4 address, or none",
        doc: "Router for what no other route matches. With one, all outgoing connections but those \
              to the loopback go through the stack.",
        read: |s, v| optional(v, |v| v.parse().ok()).map(|g| s.gateway = g),
        write: |s| optional_text(&s.gateway),
    },
    Key {
        name: "address6",
        section: Section::Device,
        expected: "an IPv6 address and prefix such as fd77::2/64, derived, auto or off",
        doc: "The stack's own IPv6 address. derived goes by the IPv4 address: in the /64 \
              fd77:0:H:L::, where H and L are the two halves of the IPv4 network XOR 10.77.0.0, the \
              host that has the IPv4 address's host number (fd77::2/64 for 10.77.0.2/24, \
              fd77:0:3::2/64 for 10.78.0.2/24), and the kernel's side of a TAP gets the one that goes with its own; \
              auto takes what routers advertise; with off the stack has no IPv6.",
        read: |s, v| Address6::parse(v).map(|a| s.address6 = a),
        write: |s| s.address6.to_string(),
    },
    Key {
        name: "gateway6",
        section: Section::Device,
        expected: "an IPv6 address, or none",
        doc: "Router for IPv6 outside the stack's network. With one, or with address6 at auto, all \
              outgoing IPv6 connections but those to the loopback go through the stack.",
        read: |s, v| optional(v, |v| v.parse().ok()).map(|g| s.gateway6 = g),
        write: |s| optional_text(&s.gateway6),
    },
    Key {
        name: "pcap",
        section: Section::Device,
        expected: PATH,
        doc: "Writes every frame to this file, in the pcapng form that Wireshark reads.",
        read: |s, v| path(v).map(|p| s.pcap = p),
        write: |s| path_text(&s.pcap),
    },
    Key {
        name: "faults",
        section: Section::Device,
        expected: "a list such as loss=0.01,reorder=0.05,seed=42, or none",
        doc: "Injects faults into both directions, for tests: loss, dup, corrupt and reorder as \
              probabilities, delay and jitter as durations, seed.",
        read: |s, v| optional(v, text).map(|f| s.faults = f),
        write: |s| optional_text(&s.faults),
    },
    Key {
        name: "engine_cores",
        section: Section::Cores,
        expected: "a list of cores such as 1,3-5, or auto",
        doc: "Cores of the engine; auto leaves to the system where its workers run.",
        read: |s, v| value::cores(v).map(|c| s.engine_cores = c),
        write: |s| value::cores_text(&s.engine_cores),
    },
    Key {
        name: "workers",
        section: Section::Cores,
        expected: "a number from 1 to 16, or auto",
        doc: "Workers of the engine, which take the engine_cores in turn; auto is one for each of \
              these, or one.",
        read: |s, v| {
            if v == "auto" {
                s.workers = None;
                return Some(());
            }
            number(v, 1..=16).map(|n| s.workers = Some(n))
        },
        write: |s| s.workers.map_or("auto".to_owned(), |n| n.to_string()),
    },
    Key {
        name: "app_cores",
        section: Section::Cores,
        expected: "a list of cores such as 0,2, or auto",
        doc: "Cores that the program may use; auto is all that mtcp-run itself may use.",
        read: |s, v| value::cores(v).map(|c| s.app_cores = c),
        write: |s| value::cores_text(&s.app_cores),
    },
    Key {
        name: "spin_us",
        section: Section::Cores,
        expected: "a number of microseconds from 0 to 1000000",
        doc: "How long an idle worker looks for work before it sleeps, in microseconds: all of it \
              if work has come within that time lately, down to an eighth if not; on a core \
              that the program may use as well, only while no thread runs that it has woken. Threads \
              of the program look for work, too, if no core of a worker is among app_cores.",
        read: |s, v| number(v, 0..=1_000_000).map(|n| s.spin = Duration::from_micros(n)),
        write: |s| s.spin.as_micros().to_string(),
    },
    Key {
        name: "memory",
        section: Section::Memory,
        expected: "a size from 16M to 1T such as 1G",
        doc: "What the memory shared with the program may grow to: sockets and their buffers. It \
              is taken from the system only as it is used.",
        read: |s, v| value::size_within(v, 16 << 20..=1 << 40).map(|n| s.memory = n),
        write: |s| size_text(s.memory),
    },
    Key {
        name: "max_sockets",
        section: Section::Memory,
        expected: "a number from 16 to 16777216",
        doc: "Sockets of the stack that may exist at one time.",
        read: |s, v| number(v, 16..=1 << 24).map(|n| s.max_sockets = n),
        write: |s| s.max_sockets.to_string(),
    },
    Key {
        name: "drain",
        section: Section::Memory,
        expected: "a duration up to 1h such as 10s",
        doc: "How long mtcp-run goes on sending what a program has left unsent when it ended.",
        read: |s, v| time(v, Duration::ZERO, HOUR).map(|d| s.drain = d),
        write: |s| duration_text(s.drain),
    },
    Key {
        name: "tcp.send_buffer",
        section: Section::Memory,
        expected: BUFFER,
        doc: "Size of a send buffer to begin with.",
        read: |s, v| buffer(v).map(|n| s.tcp.send_buffer = n),
        write: |s| size_text(s.tcp.send_buffer as u64),
    },
    Key {
        name: "tcp.send_buffer_max",
        section: Section::Memory,
        expected: MOST,
        doc: "Size that a send buffer may grow to; auto is 4M, or 1536K over a wire, \
              where more would only leave the processor's cache, and tcp.send_buffer at least.",
        read: |s, v| most(v).map(|n| s.tcp.send_buffer_max = n),
        write: |s| most_text(s.tcp.send_buffer_max),
    },
    Key {
        name: "tcp.recv_buffer",
        section: Section::Memory,
        expected: BUFFER,
        doc: "Size of a receive buffer to begin with, and so the first window.",
        read: |s, v| buffer(v).map(|n| s.tcp.recv_buffer = n),
        write: |s| size_text(s.tcp.recv_buffer as u64),
    },
    Key {
        name: "tcp.recv_buffer_max",
        section: Section::Memory,
        expected: MOST,
        doc: "Size that a receive buffer may grow to; the window scale follows from it; auto is 6M, or 1536K over a wire, \
              where more would only leave the processor's cache, and tcp.recv_buffer at least.",
        read: |s, v| most(v).map(|n| s.tcp.recv_buffer_max = n),
        write: |s| most_text(s.tcp.recv_buffer_max),
    },
    Key {
        name: "tcp.time_wait",
        section: Section::Memory,
        expected: "a duration up to 10m such as 60s",
        doc: "How long a connection stays in TIME-WAIT.",
        read: |s, v| time(v, Duration::ZERO, 10 * MINUTE).map(|d| s.tcp.time_wait = d),
        write: |s| duration_text(s.tcp.time_wait),
    },
    Key {
        name: "tcp.tw_reuse",
        section: Section::Memory,
        expected: "off, loopback or on",
        doc: "Which connections in TIME-WAIT connect() may take the place of, a second after their \
              last segment and if both ends use timestamps: none, those inside the stack, or all.",
        read: |s, v| TimeWaitReuse::parse(v).map(|reuse| s.tcp.tw_reuse = reuse),
        write: |s| s.tcp.tw_reuse.to_string(),
    },
    Key {
        name: "tcp.rto_min",
        section: Section::Memory,
        expected: "a duration from 1ms to 60s such as 200ms",
        doc: "Shortest retransmission time-out (RFC 6298).",
        read: |s, v| time(v, Duration::from_millis(1), MINUTE).map(|d| s.tcp.rto_min = d),
        write: |s| duration_text(s.tcp.rto_min),
    },
    tcp::RTO_MAX,
    tcp::INVALID_RATELIMIT,
    Key {
        name: "tcp.delayed_ack",
        section: Section::Memory,
        expected: "a duration up to 500ms such as 40ms",
        doc: "Longest delay of an acknowledgement; 0 acknowledges every segment at once.",
        read: |s, v| {
            time(v, Duration::ZERO, Duration::from_millis(500)).map(|d| s.tcp.delayed_ack = d)
        },
        write: |s| duration_text(s.tcp.delayed_ack),
    },
    Key {
        name: "tcp.mtu_probing",
        section: Section::Memory,
        expected: MtuProbing::EXPECTED,
        doc: "Finds out by probes how large packets a path carries (RFC 4821): never, once large \
              ones seem to vanish, or from the start of each connection.",
        read: |s, v| MtuProbing::parse(v).map(|p| s.tcp.mtu_probing = p),
        write: |s| s.tcp.mtu_probing.to_string(),
    },
    Key {
        name: "tcp.congestion",
        section: Section::Memory,
        expected: "cubic, reno, bbr or dctcp",
        doc: "Congestion control of sockets that do not choose one (TCP_CONGESTION). dctcp asks for ECN \
              whatever tcp.ecn says, as in Linux; where the peer refuses, it answers losses alone, as reno does.",
        read: |s, v| Congestion::parse(v).map(|c| s.tcp.congestion = c),
        write: |s| s.tcp.congestion.to_string(),
    },
    Key {
        name: "tcp.ecn",
        section: Section::Memory,
        expected: "off, passive or on",
        doc: "Explicit congestion notification (RFC 3168): never, when the peer asks for it, or always \
              asked for. Sockets with dctcp ask for it, and agree to it, in any case.",
        read: |s, v| Ecn::parse(v).map(|ecn| s.tcp.ecn = ecn),
        write: |s| s.tcp.ecn.to_string(),
    },
    Key {
        name: "tcp.keepalive",
        section: Section::Memory,
        expected: "on or off",
        doc: "Probes idle connections even where the program did not ask for it (SO_KEEPALIVE).",
        read: |s, v| value::switch(v).map(|on| s.tcp.keepalive = on),
        write: |s| value::switch_text(s.tcp.keepalive),
    },
    Key {
        name: "tcp.keepalive_time",
        section: Section::Memory,
        expected: "a duration from 1s to 720h such as 2h",
        doc: "Idle time before the first keepalive probe.",
        read: |s, v| time(v, SECOND, 720 * HOUR).map(|d| s.tcp.keepalive_time = d),
        write: |s| duration_text(s.tcp.keepalive_time),
    },
    Key {
        name: "tcp.keepalive_interval",
        section: Section::Memory,
        expected: "a duration from 1s to 9h such as 75s",
        doc: "Time between two keepalive probes.",
        read: |s, v| time(v, SECOND, 9 * HOUR).map(|d| s.tcp.keepalive_interval = d),
        write: |s| duration_text(s.tcp.keepalive_interval),
    },
    Key {
        name: "tcp.keepalive_probes",
        section: Section::Memory,
        expected: "a number from 1 to 127",
        doc: "Unanswered keepalive probes that end a connection.",
        read: |s, v| number(v, 1..=127).map(|n| s.tcp.keepalive_probes = n),
        write: |s| s.tcp.keepalive_probes.to_string(),
    },
    Key {
        name: "tcp.syn_retries",
        section: Section::Memory,
        expected: "a number from 1 to 127",
        doc: "Retransmissions of a SYN before connect() fails.",
        read: |s, v| number(v, 1..=127).map(|n| s.tcp.syn_retries = n),
        write: |s| s.tcp.syn_retries.to_string(),
    },
    tcp::SYNACK_RETRIES,
    tcp::RETRIES2,
    tcp::ORPHAN_RETRIES,
    tcp::MAX_ORPHANS,
    tcp::FIN_TIMEOUT,
    tcp::SACK,
    tcp::DSACK,
    tcp::TIMESTAMPS,
    tcp::WINDOW_SCALING,
    tcp::INITIAL_WINDOW,
    tcp::SLOW_START_AFTER_IDLE,
    tcp::FASTOPEN,
    Key {
        name: "tcp.syn_cookies",
        section: Section::Memory,
        expected: "off, on or always",
        doc: "Answers SYNs with cookies (RFC 4987) once as many handshakes are under way as a \
              listener's backlog allows; off drops them, and always is for tests.",
        read: |s, v| SynCookies::parse(v).map(|when| s.tcp.syn_cookies = when),
        write: |s| s.tcp.syn_cookies.to_string(),
    },
    Key {
        name: "tcp.backlog_max",
        section: Section::Memory,
        expected: "a number from 1 to 1048576",
        doc: "Upper bound of the backlog that listen() asks for.",
        read: |s, v| number(v, 1..=1 << 20).map(|n| s.tcp.backlog_max = n),
        write: |s| s.tcp.backlog_max.to_string(),
    },
    Key {
        name: "loopback",
        section: Section::Policy,
        expected: "kernel or stack",
        doc: "Who carries 127.0.0.0/8, ::1, and connections to the stack's own address. The stack \
              carries them between the programs of this run; what listens there outside of it, such \
              as a resolver at 127.0.0.53, is reached by a rule that leaves the address to the \
              kernel.",
        read: |s, v| Loopback::parse(v).map(|l| s.loopback = l),
        write: |s| s.loopback.to_string(),
    },
    Key {
        name: "log",
        section: Section::Log,
        expected: "error, warn, info, debug or trace, or a filter such as warn,engine=debug",
        doc: "What is logged.",
        read: |s, v| text(v).map(|l| s.log = l),
        write: |s| s.log.clone(),
    },
    Key {
        name: "log_file",
        section: Section::Log,
        expected: PATH,
        doc: "Appends the log to this file; none is standard error.",
        read: |s, v| path(v).map(|p| s.log_file = p),
        write: |s| path_text(&s.log_file),
    },
    Key {
        name: "trace",
        section: Section::Log,
        expected: "calls, policy, both with a comma between, or none",
        doc: "What is traced in the program: calls prints each intercepted call in strace's form, \
              policy says of each socket why it went to the stack or to the kernel.",
        read: |s, v| Trace::parse(v).map(|t| s.trace = t),
        write: |s| s.trace.to_string(),
    },
    Key {
        name: "trace_file",
        section: Section::Log,
        expected: PATH,
        doc: "Appends the trace to this file; none is standard error.",
        read: |s, v| path(v).map(|p| s.trace_file = p),
        write: |s| path_text(&s.trace_file),
    },
    Key {
        name: "stats",
        section: Section::Log,
        expected: "a number of seconds from 0 to 86400",
        doc: "Seconds between two lines of statistics; 0 is none.",
        read: |s, v| {
            let seconds = number(v, 0..=86_400)?;
            s.stats = (seconds > 0).then(|| Duration::from_secs(seconds));
            Some(())
        },
        write: |s| s.stats.map_or(0, |d| d.as_secs()).to_string(),
    },
];

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A TOML file with every key at its default, commented: the reference of the settings.
pub fn reference() -> String {
    let defaults = Settings::default();
    let mut out = String::from(
        "# Every key of mtcp-run's TOML file, at its default. Each can be set in the environment\n\
         # too, by the variable that stands with it, and on the command line by an option of its name\n\
         # (but --trace FILE stands for both settings of the trace).\n",
    );
    let (tcp, plain): (Vec<&Key>, Vec<&Key>) =
        KEYS.iter().partition(|key| key.name.starts_with("tcp."));
    let mut section = None;
    for key in plain {
        if section.replace(key.section) != Some(key.section) {
            let _ = writeln!(out, "\n## {}", key.section.title());
        }
        entry(&mut out, key, key.name, &defaults);
    }
    out.push_str("\n## TCP\n\n[tcp]\n");
    for key in tcp {
        entry(
            &mut out,
            key,
            key.name.trim_start_matches("tcp."),
            &defaults,
        );
    }
    out.push_str(TABLES);
    out
}

fn entry(out: &mut String, key: &Key, name: &str, defaults: &Settings) {
    let text = format!("{} Takes {}. {}", key.doc, key.expected, key.variable());
    out.push('\n');
    for line in wrap(&text, 96) {
        let _ = writeln!(out, "# {line}");
    }
    let value = key.get(defaults);
    let _ = match value.parse::<i64>() {
        Ok(number) => writeln!(out, "{name} = {number}"),
        Err(_) => writeln!(out, "{name} = {value:?}"),
    };
}

const TABLES: &str = r#"
## Tables, each as often as wanted. There are none by default.

# A route, of IPv4 or IPv6: destinations, and the router's address; without `via` they answer on
# the device itself.
# [[route]]
# to = "192.168.0.0/16"
# via = "10.77.0.1"

# A static neighbour, of IPv4 or IPv6: its address, or a network of them, and its hardware address.
# It is not asked for it by ARP or neighbour discovery. The table may be called [[arp]], too.
# [[neighbor]]
# ip = "fd77::1"
# mac = "02:00:00:00:00:01"

# Which sockets go to the stack; the first rule that matches counts. `to` is mtcp, kernel, or (for
# listening sockets) both. What is left out matches everything: program (the file name that it was
# called by, argv[0] without folders, as python3 for a script that is started as `python3 x.py`; `*`
# stands for anything), role (listen or connect), address (where it listens, or the destination),
# port (numbers and ranges). Where no rule matches, connections go to the stack if their route does,
# sockets that listen on the any-address listen on both, and the loopback stays with the kernel. A
# rule that sends addresses of the loopback to the stack needs loopback at stack.
# [[rule]]
# program = "nginx"
# role = "listen"
# address = "0.0.0.0/0"
# port = "80,8000-8100"
# to = "mtcp"
"#;

/// Lines of at most `width` characters, broken between words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn path(value: &str) -> Option<Option<PathBuf>> {
    optional(value, |v| text(v).map(PathBuf::from))
}

fn path_text(path: &Option<PathBuf>) -> String {
    optional_text(&path.as_ref().map(|p| p.display()))
}

fn buffer(value: &str) -> Option<usize> {
    value::size_within(value, BUFFERS).and_then(|n| usize::try_from(n).ok())
}

fn most(value: &str) -> Option<Option<usize>> {
    match value {
        "auto" => Some(None),
        _ => buffer(value).map(Some),
    }
}

fn most_text(max: Option<usize>) -> String {
    max.map_or_else(|| "auto".to_owned(), |n| size_text(n as u64))
}

fn time(value: &str, least: Duration, most: Duration) -> Option<Duration> {
    duration(value).filter(|d| (least..=most).contains(d))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_value_is_written_as_it_is_read() {
        let defaults = Settings::default();
        for key in KEYS {
            let mut settings = Settings::default();
            let text = key.get(&defaults);
            assert_eq!(key.set(&mut settings, &text), Some(()), "{}", key.name);
            assert_eq!(settings, defaults, "{}", key.name);
        }
    }

    #[test]
    fn names_and_variables_are_unique() {
        let names: HashSet<_> = KEYS.iter().map(|k| k.name).collect();
        let variables: HashSet<_> = KEYS
            .iter()
            .map(Key::variable)
            .chain(VARIABLES.iter().map(|(name, _)| (*name).to_owned()))
            .collect();
        assert_eq!(names.len(), KEYS.len());
        assert_eq!(variables.len(), KEYS.len() + VARIABLES.len());
    }

    #[test]
    fn variables_follow_from_names() {
        assert_eq!(Key::find("mtu").unwrap().variable(), "MTCP_MTU");
        assert_eq!(
            Key::find("tcp.rto_min").unwrap().variable(),
            "MTCP_TCP_RTO_MIN"
        );
    }

    #[test]
    fn a_wrong_value_changes_nothing() {
        for key in KEYS {
            let mut settings = Settings::default();
            assert_eq!(key.set(&mut settings, ""), None, "{} empty", key.name);
            assert_eq!(settings, Settings::default(), "{}", key.name);
        }
    }

    #[test]
    fn values_keep_to_their_bounds() {
        for (name, low, high) in [
            ("mtu", "575", "65522"),
            ("queues", "0", "257"),
            ("spin_us", "-1", "1000001"),
            ("memory", "15M", "2T"),
            ("max_sockets", "15", "16777217"),
            ("drain", "-1s", "61m"),
            ("tcp.send_buffer", "2047", "2G"),
            ("tcp.recv_buffer_max", "1K", "1025M"),
            ("tcp.time_wait", "-1s", "11m"),
            ("tcp.rto_min", "999us", "61s"),
            ("tcp.rto_max", "999ms", "121s"),
            ("tcp.invalid_ratelimit", "-1ms", "61s"),
            ("tcp.delayed_ack", "-1ms", "501ms"),
            ("tcp.keepalive_time", "0", "721h"),
            ("tcp.keepalive_interval", "999ms", "10h"),
            ("tcp.keepalive_probes", "0", "128"),
            ("tcp.syn_retries", "0", "128"),
            ("tcp.synack_retries", "-1", "128"),
            ("tcp.retries2", "0", "128"),
            ("tcp.orphan_retries", "-1", "128"),
            ("tcp.max_orphans", "-1", "16777217"),
            ("tcp.fin_timeout", "-1s", "601s"),
            ("tcp.initial_window", "0", "256"),
            ("tcp.fastopen", "8", "2048"),
            ("tcp.backlog_max", "0", "1048577"),
            ("stats", "-1", "86401"),
        ] {
            let key = Key::find(name).unwrap();
            let mut settings = Settings::default();
            assert_eq!(key.set(&mut settings, low), None, "{name} = {low}");
            assert_eq!(key.set(&mut settings, high), None, "{name} = {high}");
        }
    }
}
