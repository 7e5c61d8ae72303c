//! Running a script over a host.

mod network;

use crate::call::{self, Call, Outcome};
use crate::constants;
use crate::expression;
use crate::flow::{Strictness, pattern};
use crate::script::{Action, Body, CallLine, Event, Script, Time};
use network::Network;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;

/// The port that `...` stands for, as in packetdrill.
pub const PORT: u16 = 8080;

/// How long a packet may take that may come at any time, microseconds.
const PATIENCE: u64 = 30_000_000;

/// A call under way.
pub type Ticket = usize;

/// The two addresses of a script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// Of the stack under test.
    pub local: IpAddr,
    /// Of its peer.
    pub remote: IpAddr,
}

impl Addresses {
    /// packetdrill's own.
    pub fn of(ipv6: bool) -> Addresses {
        let both = if ipv6 {
            ["fd3d:a0b:17d6::1", "fd3d:fa7b:d17d::1"]
        } else {
            ["192.168.0.1", "192.0.2.1"]
        };
        let [local, remote] = both.map(|a| a.parse().expect("an address"));
        Addresses { local, remote }
    }
}

/// A stack under test with its network and its applications. Times are in microseconds since the
/// script began.
pub trait Host {
    /// What time it is.
    fn now(&self) -> u64;

    /// Lets time pass.
    fn wait_until(&mut self, time: u64);

    /// Delivers a datagram.
    ///
    /// # Errors
    /// The network takes no more.
    fn inject(&mut self, datagram: &[u8]) -> Result<(), String>;

    /// The next datagram that the stack sends, and when; waits for it until `time`.
    fn next_datagram(&mut self, time: u64) -> Option<(u64, Vec<u8>)>;

    /// Begins a call.
    fn call(&mut self, call: &Call) -> Ticket;

    /// What a call came to, and when; waits for it until `time`.
    fn outcome(&mut self, ticket: Ticket, time: u64) -> Option<(u64, Outcome)>;

    /// `struct tcp_info` of a socket.
    ///
    /// # Errors
    /// There is none.
    fn info(&mut self, fd: i32) -> Result<Vec<u8>, String>;

    /// Carries out a setting in the midst of a script.
    ///
    /// # Errors
    /// It has no equivalent here.
    fn command(&mut self, command: &str) -> Result<(), String>;

    /// Whether PSH is on the last segment of a write and nowhere else: Linux also has it wherever a
    /// super-segment happens to end, whose size follows the pacing rate.
    fn is_exact(&self) -> bool;

    /// How far an event may be from its time, `delta` after the one before.
    fn tolerance(&self, delta: u64) -> u64;
}

/// Why a script failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The line.
    pub line: usize,
    /// What was expected, and what came.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// Runs `script` over `host`. With `record`, what comes is printed in the script's notation, and what
/// was expected instead does not end the run.
///
/// # Errors
/// The first line that did not come true.
pub fn run(
    script: &Script,
    host: &mut dyn Host,
    addresses: Addresses,
    record: bool,
) -> Result<(), Failure> {
    let mut runner = Runner {
        network: Network::new(addresses, strictness(script, host)),
        host,
        record,
        sockets: HashMap::new(),
        connecting: HashSet::new(),
        blocked: Vec::new(),
        scheduled: 0,
        happened: 0,
        after_injection: false,
        at_hand: None,
    };
    for event in &script.events {
        let line = event.line;
        runner.event(event).map_err(|what| Failure { line, what })?;
    }
    let line = script.events.last().map_or(0, |event| event.line);
    runner.end().map_err(|what| Failure { line, what })
}

fn strictness(script: &Script, host: &dyn Host) -> Strictness {
    let option = |name: &str| script.options.iter().find(|(n, _)| n == name);
    // Urgent bytes are taken out of the stream.
    let urgent = script.events.iter().any(|event| match &event.action {
        Action::Inject(packet) | Action::Expect(packet) => {
            matches!(&packet.body, Body::Tcp(tcp) if tcp.urgent != 0)
        }
        _ => false,
    });
    Strictness {
        tick: option("tcp_ts_tick_usecs").and_then(|(_, value)| value.parse().ok()),
        tolerance: host.tolerance(0),
        push: host.is_exact(),
        payload: !urgent,
    }
}

/// A descriptor of the script's.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    own: i32,
    /// Bytes written and read so far.
    written: u64,
    read: u64,
}

struct Blocked {
    line: usize,
    ticket: Ticket,
    call: Call,
    expected: CallLine,
    since: u64,
    until: u64,
}

struct Runner<'a> {
    host: &'a mut dyn Host,
    record: bool,
    network: Network,
    sockets: HashMap<i64, Descriptor>,
    /// The host's descriptors that have tried to connect.
    connecting: HashSet<i32>,
    blocked: Vec<Blocked>,
    /// When the last event was to happen, and when it did.
    scheduled: u64,
    happened: u64,
    after_injection: bool,
    /// The socket that assertions are about: the one connected or accepted last.
    at_hand: Option<i64>,
}

impl Runner<'_> {
    fn event(&mut self, event: &Event) -> Result<(), String> {
        let injects = matches!(event.action, Action::Inject(_));
        // What the network delivers is timed from delivery to delivery, as in packetdrill, so that
        // delays of ours do not add up.
        let base = match injects && self.after_injection {
            true => self.scheduled,
            false => self.happened,
        };
        self.after_injection = injects;
        let (from, to) = match event.time {
            Time::At(from, to) => (from, to),
            Time::After(from, to) => (base + from, base + to),
            Time::Any => (0, self.host.now() + PATIENCE),
        };
        self.scheduled = from;
        if let Action::Expect(packet) = &event.action {
            let slack = self.host.tolerance(from.saturating_sub(base));
            let within = (from.saturating_sub(slack), to + slack);
            self.happened = self
                .network
                .expect(self.host, packet, within, self.record)?;
            return Ok(());
        }
        self.host.wait_until(from);
        self.happened = self.host.now();
        match &event.action {
            Action::Inject(packet) => self.network.inject(self.host, packet)?,
            Action::Call(line) => {
                self.finish_blocked()?;
                self.call(event.line, line, base)?;
            }
            Action::Command(command) => self.host.command(command)?,
            Action::Check(code) => self.check(code)?,
            Action::Expect(_) => {}
        }
        Ok(())
    }

    /// Nothing may be left that the script does not speak of.
    fn end(&mut self) -> Result<(), String> {
        self.finish_blocked()?;
        let now = self.host.now();
        self.network.end(self.host, now, self.record)
    }

    fn call(&mut self, number: usize, line: &CallLine, base: u64) -> Result<(), String> {
        let call = call::call(line, |fd| self.own(fd))?;
        let connects = match call {
            Call::Connect { fd } => Some(fd),
            Call::Send { fd, flags, .. } if flags & libc::MSG_FASTOPEN != 0 => Some(fd),
            _ => None,
        };
        if connects.is_some_and(|fd| self.connecting.insert(fd)) {
            self.network.connects();
        }
        let ticket = self.host.call(&call);
        if let Some(until) = line.until {
            self.blocked.push(Blocked {
                line: number,
                ticket,
                call,
                expected: line.clone(),
                since: base,
                until: base + until,
            });
            return Ok(());
        }
        // Far more than a call takes that does not block.
        let limit = self.host.now() + 2_000_000;
        let Some((_, outcome)) = self.host.outcome(ticket, limit) else {
            return Err(format!("{}() blocks", line.name));
        };
        self.happened = self.host.now();
        self.verify(line, &call, &outcome)
    }

    fn finish_blocked(&mut self) -> Result<(), String> {
        for blocked in std::mem::take(&mut self.blocked) {
            let slack = self.host.tolerance(blocked.until - blocked.since);
            let name = &blocked.expected.name;
            let of = format!("{name}() of line {}", blocked.line);
            let end = (blocked.until + slack).max(self.host.now());
            let Some((time, outcome)) = self.host.outcome(blocked.ticket, end) else {
                return Err(format!("{of} has not returned"));
            };
            if time.abs_diff(blocked.until) > slack {
                let (at, until) = (seconds(time), seconds(blocked.until));
                return Err(format!("{of} returned at {at}, not at {until}"));
            }
            self.verify(&blocked.expected, &blocked.call, &outcome)
                .map_err(|what| format!("{of}: {what}"))?;
        }
        Ok(())
    }

    fn verify(&mut self, line: &CallLine, call: &Call, outcome: &Outcome) -> Result<(), String> {
        if self.record {
            let error = match outcome.errno {
                0 => String::new(),
                errno => constants::errno(errno),
            };
            let bytes = match call {
                Call::GetOption { .. } | Call::Ioctl { .. } => format!(" {:?}", outcome.bytes),
                _ => format!(" {:x?}", outcome.events),
            };
            println!("{}() = {} {error}{bytes}", line.name, outcome.value);
        }
        let verdict = call::verify(line, call, outcome, |fd| self.own(fd));
        if !self.record {
            verdict.map_err(|what| format!("{}(): {what}", line.name))?;
        }
        let named = call::number(&line.result).unwrap_or(outcome.value);
        if call::makes_descriptor(call) && outcome.value >= 0 {
            self.open(call, named, outcome.value as i32);
        }
        let first = line.arguments.first().and_then(|fd| call::number(fd).ok());
        match (call, first) {
            (Call::Connect { .. }, Some(fd)) => self.at_hand = Some(fd),
            (Call::Send { .. }, Some(fd)) => {
                if let Some(descriptor) = self.sockets.get_mut(&fd) {
                    descriptor.written += outcome.value.max(0) as u64;
                }
            }
            (Call::Receive { flags, .. }, Some(fd)) => self.read(fd, *flags, outcome)?,
            (Call::Close { fd: own }, Some(fd)) => {
                self.sockets.remove(&fd);
                self.connecting.remove(own);
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, call: &Call, named: i64, own: i32) {
        let descriptor = Descriptor {
            own,
            written: 0,
            read: 0,
        };
        self.sockets.insert(named, descriptor);
        if !matches!(call, Call::EpollCreate) {
            self.at_hand = Some(named);
        }
    }

    fn read(&mut self, fd: i64, flags: i32, outcome: &Outcome) -> Result<(), String> {
        let checks = self.network.strict().payload && !self.record;
        let Some(descriptor) = self.sockets.get_mut(&fd) else {
            return Ok(());
        };
        let start = descriptor.read;
        if flags & libc::MSG_PEEK == 0 {
            descriptor.read += outcome.value.max(0) as u64;
        }
        let bytes = (start..).zip(&outcome.bytes);
        match bytes.into_iter().find(|(at, byte)| **byte != pattern(*at)) {
            Some((at, byte)) if checks => Err(format!(
                "byte {at} of the stream was read as {byte}, not {}",
                pattern(at)
            )),
            _ => Ok(()),
        }
    }

    fn own(&self, fd: i64) -> Result<i32, String> {
        match self.sockets.get(&fd) {
            Some(descriptor) => Ok(descriptor.own),
            None => Err(format!("descriptor {fd} is not open")),
        }
    }

    fn check(&mut self, code: &str) -> Result<(), String> {
        let fd = self.at_hand.ok_or("there is no connection to ask about")?;
        let own = self.own(fd)?;
        let info = self.host.info(own)?;
        if self.record {
            let fields = crate::info::fields(&info).filter(|(_, value)| *value != 0);
            let fields: Vec<String> = fields.map(|(n, v)| format!("{n}={v}")).collect();
            println!("tcp_info: {}", fields.join(" "));
        }
        let lookup =
            |name: &str| crate::info::field(&info, name).or_else(|| constants::value(name));
        let verdict = expression::check(code, &lookup);
        if self.record {
            println!("{verdict:?}");
            return Ok(());
        }
        verdict
    }
}

/// A time for people.
pub fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}
