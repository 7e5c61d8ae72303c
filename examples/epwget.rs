//! epwget: mTCP's example web client as a plain POSIX epoll program.
//!
//! Fetches one URL over and over: each flow is one connection with one request (or `-k` of them),
//! a set number of flows at once, one thread and one epoll instance per core.

#[path = "common/mod.rs"]
mod common;
#[path = "common/http.rs"]
mod http;

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use common::{EPOLLIN, EPOLLOUT, Epoll};

#[derive(Parser)]
#[command(about = "Fetches a URL many times from one epoll loop per core")]
struct Options {
    /// What to fetch: [http://]HOST[:PORT]/PATH.
    url: String,
    /// Flows (connections) in all.
    total_flows: Option<u64>,
    /// Flows in all, in another place.
    #[arg(short = 'n', value_name = "TOTAL", conflicts_with = "total_flows")]
    total: Option<u64>,
    /// Cores to fetch from, one thread each [default: all].
    #[arg(short = 'N', value_name = "CORES")]
    cores: Option<usize>,
    /// Flows at once, over all cores.
    #[arg(short = 'c', value_name = "CONCURRENCY", default_value_t = 100)]
    concurrency: usize,
    /// Requests on each connection; more than 1 asks for keep-alive.
    #[arg(short = 'k', value_name = "REQUESTS", default_value_t = 1)]
    requests: u64,
    /// Writes the body of each flow to OUTPUT_FILE.CORE.FLOW.
    #[arg(short = 'o', value_name = "OUTPUT_FILE")]
    output: Option<PathBuf>,
    /// mTCP's configuration; ignored here, mtcp-run reads it (--mtcp-conf).
    #[arg(short = 'f', value_name = "MTCP_CONF")]
    mtcp_conf: Option<PathBuf>,
    /// Seconds without any byte after which a flow counts as failed.
    #[arg(short = 't', value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
}

/// Where the URL leads.
struct Target {
    address: SocketAddrV4,
    request: Vec<u8>,
}

impl Target {
    fn new(url: &str, keep_alive: bool) -> Result<Target, Box<dyn Error>> {
        let rest = url.strip_prefix("http://").unwrap_or(url);
        let (host, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let with_port = if host.contains(':') {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let address = with_port
            .to_socket_addrs()
            .map_err(|error| format!("{with_port}: {error}"))?
            .find_map(|address| match address {
                SocketAddr::V4(address) => Some(address),
                SocketAddr::V6(_) => None,
            })
            .ok_or_else(|| format!("{host} has no IPv4 address"))?;
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let request = format!(
            "GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: */*\r\nConnection: {connection}\r\n\r\n"
        );
        Ok(Target {
            address,
            request: request.into_bytes(),
        })
    }
}

/// What one core has done so far; times in microseconds.
struct Counters {
    connected: AtomicU64,
    completed: AtomicU64,
    answered: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    time_sum: AtomicU64,
    time_min: AtomicU64,
    time_max: AtomicU64,
}

impl Counters {
    fn new() -> Counters {
        Counters {
            connected: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            time_sum: AtomicU64::new(0),
            time_min: AtomicU64::new(u64::MAX),
            time_max: AtomicU64::new(0),
        }
    }

    fn answered_after(&self, time: Duration) {
        let time = time.as_micros() as u64;
        self.answered.fetch_add(1, Relaxed);
        self.time_sum.fetch_add(time, Relaxed);
        self.time_min.fetch_min(time, Relaxed);
        self.time_max.fetch_max(time, Relaxed);
    }

    fn read(&self) -> Progress {
        Progress {
            connected: self.connected.load(Relaxed),
            completed: self.completed.load(Relaxed),
            answered: self.answered.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            errors: self.errors.load(Relaxed),
            time_sum: self.time_sum.load(Relaxed),
            time_min: self.time_min.load(Relaxed),
            time_max: self.time_max.load(Relaxed),
        }
    }
}

/// A reading of [`Counters`].
#[derive(Clone, Copy)]
struct Progress {
    connected: u64,
    completed: u64,
    answered: u64,
    bytes: u64,
    errors: u64,
    time_sum: u64,
    time_min: u64,
    time_max: u64,
}

impl Progress {
    const NOTHING: Progress = Progress {
        connected: 0,
        completed: 0,
        answered: 0,
        bytes: 0,
        errors: 0,
        time_sum: 0,
        time_min: u64::MAX,
        time_max: 0,
    };

    fn and(self, other: Progress) -> Progress {
        Progress {
            connected: self.connected + other.connected,
            completed: self.completed + other.completed,
            answered: self.answered + other.answered,
            bytes: self.bytes + other.bytes,
            errors: self.errors + other.errors,
            time_sum: self.time_sum + other.time_sum,
            time_min: self.time_min.min(other.time_min),
            time_max: self.time_max.max(other.time_max),
        }
    }

    /// Prints what was done since `before`; the least and the greatest time are those of the run.
    fn print(&self, who: &str, before: &Progress, seconds: f64) {
        let rate = |now: u64, before: u64| (now - before) as f64 / seconds;
        let answered = self.answered - before.answered;
        let mean = (self.time_sum - before.time_sum) / answered.max(1);
        let least = if self.time_min == u64::MAX {
            0
        } else {
            self.time_min
        };
        eprintln!(
            "{who}: {:.0} connections/s, {:.0} answers/s, {:.2} Mbit/s, {} errors, \
             response time {least}/{mean}/{} us (min/avg/max), {} flows done",
            rate(self.connected, before.connected),
            rate(self.answered, before.answered),
            rate(self.bytes, before.bytes) * 8.0 / 1e6,
            self.errors,
            self.time_max,
            self.completed,
        );
    }
}

enum State {
    Connecting,
    Sending { sent: usize },
    ReadingHead,
    ReadingBody { left: Option<u64>, keep_alive: bool },
}

struct Flow {
    stream: TcpStream,
    state: State,
    input: Vec<u8>,
    left: u64,
    asked: Instant,
    active: Instant,
    output: Option<File>,
    interest: i32,
}

/// What a flow wants next.
enum Next {
    Wait(i32),
    Close,
}

struct Worker {
    core: usize,
    epoll: Epoll,
    target: Arc<Target>,
    flows: Vec<Option<Flow>>,
    to_start: u64,
    started: u64,
    requests: u64,
    timeout: Duration,
    output: Option<PathBuf>,
    counters: Arc<Counters>,
}

impl Worker {
    fn run(&mut self) -> io::Result<()> {
        let mut events = [common::epoll_event { events: 0, u64: 0 }; 256];
        let mut open = 0;
        for slot in 0..self.flows.len() {
            open += usize::from(self.start(slot)?);
        }
        let mut looked = Instant::now();
        while open > 0 && !common::stopping() {
            let count = self.epoll.wait(&mut events, 200)?;
            for event in &events[..count] {
                let slot = event.u64 as usize;
                if self.advance(slot)? {
                    self.flows[slot] = None;
                    open -= usize::from(!self.start(slot)?);
                }
            }
            if looked.elapsed() > Duration::from_millis(200) {
                looked = Instant::now();
                open -= self.end_silent_flows()?;
            }
        }
        Ok(())
    }

    /// Starts the next flow in a free slot; false if none is left.
    fn start(&mut self, slot: usize) -> io::Result<bool> {
        while self.started < self.to_start {
            self.started += 1;
            let stream = match common::connect(self.target.address) {
                Ok(stream) => stream,
                Err(error) => {
                    if self.counters.errors.fetch_add(1, Relaxed) == 0 {
                        eprintln!("core {}: {}: {error}", self.core, self.target.address);
                    }
                    continue;
                }
            };
            self.epoll.add(&stream, EPOLLOUT, slot as u64)?;
            let output = match &self.output {
                Some(path) => Some(File::create(numbered(path, self.core, self.started))?),
                None => None,
            };
            let now = Instant::now();
            self.flows[slot] = Some(Flow {
                stream,
                state: State::Connecting,
                input: Vec::new(),
                left: self.requests,
                asked: now,
                active: now,
                output,
                interest: EPOLLOUT,
            });
            return Ok(true);
        }
        Ok(false)
    }

    /// Takes a flow as far as it goes; true when it has ended.
    fn advance(&mut self, slot: usize) -> io::Result<bool> {
        let Some(flow) = &mut self.flows[slot] else {
            return Ok(false);
        };
        match flow.advance(&self.target, &self.counters) {
            Ok(Next::Wait(interest)) => {
                if interest != flow.interest {
                    flow.interest = interest;
                    self.epoll.modify(&flow.stream, interest, slot as u64)?;
                }
                Ok(false)
            }
            Ok(Next::Close) => {
                self.counters.completed.fetch_add(1, Relaxed);
                Ok(true)
            }
            Err(error) => {
                if self.counters.errors.fetch_add(1, Relaxed) == 0 {
                    eprintln!("core {}: {}: {error}", self.core, self.target.address);
                }
                Ok(true)
            }
        }
    }

    /// Counts flows that have been silent for too long as failed; answers how many slots stay empty.
    fn end_silent_flows(&mut self) -> io::Result<usize> {
        let mut emptied = 0;
        for slot in 0..self.flows.len() {
            let silent = |flow: &Flow| flow.active.elapsed() > self.timeout;
            if self.flows[slot].as_ref().is_some_and(silent) {
                self.counters.errors.fetch_add(1, Relaxed);
                self.flows[slot] = None;
                emptied += usize::from(!self.start(slot)?);
            }
        }
        Ok(emptied)
    }
}

/// `path.core.flow`
fn numbered(path: &Path, core: usize, flow: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{core}.{flow}"));
    name.into()
}

impl Flow {
    fn advance(&mut self, target: &Target, counters: &Counters) -> io::Result<Next> {
        self.active = Instant::now();
        loop {
            match self.step(target, counters) {
                Ok(None) => {}
                Ok(Some(next)) => return Ok(next),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Next::Wait(match self.state {
                        State::Connecting | State::Sending { .. } => EPOLLOUT,
                        State::ReadingHead | State::ReadingBody { .. } => EPOLLIN,
                    }));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One step of the state machine; `None` to go on with the next.
    fn step(&mut self, target: &Target, counters: &Counters) -> io::Result<Option<Next>> {
        match &mut self.state {
            State::Connecting => {
                if let Some(error) = self.stream.take_error()? {
                    return Err(error);
                }
                counters.connected.fetch_add(1, Relaxed);
                self.ask();
            }
            State::Sending { sent } => {
                *sent += self.stream.write(&target.request[*sent..])?;
                if *sent == target.request.len() {
                    self.state = State::ReadingHead;
                }
            }
            State::ReadingHead => match http::head_len(&self.input) {
                Some(len) => self.begin_body(len)?,
                None if self.input.len() > http::MAX_HEAD => {
                    return Err(io::Error::other("the head of the answer has no end"));
                }
                None => {
                    if self.read(counters)? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            },
            State::ReadingBody {
                left: Some(0),
                keep_alive,
            } => {
                let again = *keep_alive;
                counters.answered_after(self.asked.elapsed());
                self.left -= 1;
                if self.left == 0 || !again {
                    return Ok(Some(Next::Close));
                }
                self.ask();
            }
            State::ReadingBody { .. } => return self.read_body(counters),
        }
        Ok(None)
    }

    fn ask(&mut self) {
        self.asked = Instant::now();
        self.state = State::Sending { sent: 0 };
    }

    fn read(&mut self, counters: &Counters) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer)?;
        counters.bytes.fetch_add(count as u64, Relaxed);
        self.input.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    fn begin_body(&mut self, head_len: usize) -> io::Result<()> {
        let answer = http::Answer::parse(&self.input[..head_len])
            .ok_or_else(|| io::Error::other("the answer is not HTTP/1.x"))?;
        if answer.status != 200 {
            return Err(io::Error::other(format!("status {}", answer.status)));
        }
        self.input.drain(..head_len);
        self.state = State::ReadingBody {
            left: answer.content_length,
            keep_alive: answer.keep_alive,
        };
        self.take_body()
    }

    /// Moves what has arrived of the body to the output.
    fn take_body(&mut self) -> io::Result<()> {
        let State::ReadingBody { left, .. } = &mut self.state else {
            return Ok(());
        };
        let count = left.map_or(self.input.len(), |left| {
            self.input
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX))
        });
        if let Some(output) = &mut self.output {
            output.write_all(&self.input[..count])?;
        }
        self.input.drain(..count);
        if let Some(left) = left {
            *left -= count as u64;
        }
        Ok(())
    }

    fn read_body(&mut self, counters: &Counters) -> io::Result<Option<Next>> {
        let count = self.read(counters)?;
        self.take_body()?;
        match &self.state {
            State::ReadingBody { left: Some(_), .. } if count == 0 => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            State::ReadingBody { left: None, .. } if count == 0 => {
                counters.answered_after(self.asked.elapsed());
                Ok(Some(Next::Close))
            }
            _ => Ok(None),
        }
    }
}

/// Prints each core's progress once a second until the workers are gone; answers the sum.
fn report(counters: &[Arc<Counters>], finished: &mpsc::Receiver<()>) -> Progress {
    let start = Instant::now();
    let mut before = vec![Progress::NOTHING; counters.len()];
    while finished.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
        let (mut all, mut all_before) = (Progress::NOTHING, Progress::NOTHING);
        for (core, counters) in counters.iter().enumerate() {
            let now = counters.read();
            now.print(&format!("core {core}"), &before[core], 1.0);
            all = all.and(now);
            all_before = all_before.and(before[core]);
            before[core] = now;
        }
        all.print("all", &all_before, 1.0);
    }
    let total = counters
        .iter()
        .fold(Progress::NOTHING, |sum, core| sum.and(core.read()));
    total.print("total", &Progress::NOTHING, start.elapsed().as_secs_f64());
    total
}

/// Part `index` of `total` split as evenly as it goes.
fn share(total: u64, parts: usize, index: usize) -> u64 {
    let (parts, index) = (parts as u64, index as u64);
    total / parts + u64::from(index < total % parts)
}

fn run(options: &Options) -> Result<Progress, Box<dyn Error>> {
    if options.mtcp_conf.is_some() {
        eprintln!("note: -f is mtcp-run's to read (mtcp-run --mtcp-conf FILE); ignored here");
    }
    let total = options
        .total
        .or(options.total_flows)
        .ok_or("how many flows? (-n TOTAL)")?;
    let allowed = common::allowed_cores()?;
    let cores = options
        .cores
        .unwrap_or(allowed.len())
        .min(options.concurrency);
    if cores == 0 || options.requests == 0 {
        return Err("-N, -c and -k must be at least 1".into());
    }
    let target = Arc::new(Target::new(&options.url, options.requests > 1)?);
    common::raise_file_limit()?;
    common::stop_on_signals()?;

    let counters: Vec<Arc<Counters>> = (0..cores).map(|_| Arc::new(Counters::new())).collect();
    let (running, finished) = mpsc::channel();
    let mut threads = Vec::new();
    for (core, counters) in counters.iter().enumerate() {
        let flows = share(options.concurrency as u64, cores, core) as usize;
        let mut worker = Worker {
            core,
            epoll: Epoll::new()?,
            target: target.clone(),
            flows: (0..flows).map(|_| None).collect(),
            to_start: share(total, cores, core),
            started: 0,
            requests: options.requests,
            timeout: Duration::from_secs(options.timeout),
            output: options.output.clone(),
            counters: counters.clone(),
        };
        let running = running.clone();
        let pinned = allowed[core % allowed.len()];
        threads.push(thread::spawn(move || {
            let _running = running; // Dropped at the end: the reporter sees it.
            common::pin(pinned)?;
            worker.run()
        }));
    }
    drop(running);
    let progress = report(&counters, &finished);
    for thread in threads {
        thread.join().map_err(|_| "a worker panicked")??;
    }
    Ok(progress)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let progress = run(&Options::parse())?;
    Ok(if progress.errors == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
