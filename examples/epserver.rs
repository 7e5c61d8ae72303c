//! epserver: mTCP's example web server as a plain POSIX epoll program.
//!
//! One thread per core, each with a listener of its own on the same port and an epoll instance of
//! its own. Every file under `-p` is read into memory at the start and served from there.

#[path = "common/mod.rs"]
mod common;
#[path = "common/http.rs"]
mod http;

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use clap::Parser;
use common::{EPOLLIN, EPOLLOUT, Epoll};

#[derive(Parser)]
#[command(about = "Serves the files of a directory over HTTP from one epoll loop per core")]
struct Options {
    /// Directory whose files are served.
    #[arg(short = 'p', value_name = "PATH_TO_WWW")]
    www: PathBuf,
    /// mTCP's configuration; ignored here, mtcp-run reads it (--mtcp-conf).
    #[arg(short = 'f', value_name = "MTCP_CONF")]
    mtcp_conf: Option<PathBuf>,
    /// Cores to serve from, one thread each [default: all].
    #[arg(short = 'N', value_name = "NUM_CORES")]
    cores: Option<usize>,
    /// Connections at once, per core.
    #[arg(short = 'c', value_name = "MAX_CONCURRENCY", default_value_t = 10_000)]
    concurrency: usize,
    /// Length of each listener's queue.
    #[arg(short = 'b', value_name = "BACKLOG", default_value_t = 4096)]
    backlog: i32,
    /// Port to listen on.
    #[arg(short = 'P', value_name = "PORT", default_value_t = 80)]
    port: u16,
    /// No progress lines.
    #[arg(short = 'q')]
    quiet: bool,
}

/// The served files, by the path that a request names.
type Files = HashMap<String, Arc<[u8]>>;

/// Reads every regular file under `directory`, without following links.
fn read_files(directory: &Path, url: &str, files: &mut Files) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = format!("{url}/{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            read_files(&entry.path(), &path, files)?;
        } else if kind.is_file() {
            let content: Arc<[u8]> = fs::read(entry.path())?.into();
            if entry.file_name() == "index.html" {
                files.insert(format!("{url}/"), content.clone());
            }
            files.insert(path, content);
        }
    }
    Ok(())
}

/// What one core has done so far.
#[derive(Default)]
struct Counters {
    accepted: AtomicU64,
    answered: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    open: AtomicU64,
}

struct Answering {
    head: Vec<u8>,
    body: Arc<[u8]>,
    sent: usize,
    keep_alive: bool,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    answering: Option<Answering>,
    interest: i32,
}

/// What a connection wants next.
enum Next {
    Wait(i32),
    Close,
}

const LISTENER: u64 = u64::MAX;

struct Worker {
    epoll: Epoll,
    listener: TcpListener,
    accepting: bool,
    concurrency: usize,
    files: Arc<Files>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    counters: Arc<Counters>,
}

impl Worker {
    fn new(options: &Options, files: Arc<Files>, counters: Arc<Counters>) -> io::Result<Worker> {
        let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, options.port);
        let listener = common::listen(address, options.backlog, true)?;
        let epoll = Epoll::new()?;
        epoll.add(&listener, EPOLLIN, LISTENER)?;
        Ok(Worker {
            epoll,
            listener,
            accepting: true,
            concurrency: options.concurrency,
            files,
            connections: Vec::new(),
            free: Vec::new(),
            counters,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = [common::epoll_event { events: 0, u64: 0 }; 256];
        while !common::stopping() {
            let count = self.epoll.wait(&mut events, 200)?;
            for event in &events[..count] {
                match event.u64 {
                    LISTENER => self.accept()?,
                    slot => self.serve(slot as usize)?,
                }
            }
        }
        Ok(())
    }

    fn open(&self) -> usize {
        self.connections.len() - self.free.len()
    }

    fn accept(&mut self) -> io::Result<()> {
        while self.open() < self.concurrency {
            let stream = match common::accept(&self.listener) {
                Ok(stream) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => {
                    self.counters.errors.fetch_add(1, Relaxed);
                    return Ok(());
                }
            };
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.epoll.add(&stream, EPOLLIN, slot as u64)?;
            self.connections[slot] = Some(Connection {
                stream,
                input: Vec::new(),
                answering: None,
                interest: EPOLLIN,
            });
            self.counters.accepted.fetch_add(1, Relaxed);
            self.counters.open.store(self.open() as u64, Relaxed);
        }
        // Full: the rest waits in the listener's queue until a connection closes.
        self.accepting = false;
        self.epoll.modify(&self.listener, 0, LISTENER)
    }

    fn serve(&mut self, slot: usize) -> io::Result<()> {
        let Some(connection) = &mut self.connections[slot] else {
            return Ok(());
        };
        match connection.advance(&self.files, &self.counters) {
            Ok(Next::Wait(interest)) => {
                if interest != connection.interest {
                    connection.interest = interest;
                    self.epoll
                        .modify(&connection.stream, interest, slot as u64)?;
                }
                return Ok(());
            }
            Ok(Next::Close) => {}
            Err(_) => {
                self.counters.errors.fetch_add(1, Relaxed);
            }
        }
        self.connections[slot] = None;
        self.free.push(slot);
        self.counters.open.store(self.open() as u64, Relaxed);
        if !self.accepting {
            self.accepting = true;
            self.epoll.modify(&self.listener, EPOLLIN, LISTENER)?;
        }
        Ok(())
    }
}

impl Connection {
    /// Sends what is due, then takes the next request; until one of them has to wait.
    fn advance(&mut self, files: &Files, counters: &Counters) -> io::Result<Next> {
        loop {
            if let Some(answering) = &mut self.answering {
                match answering.send(&mut self.stream, counters) {
                    Ok(()) => counters.answered.fetch_add(1, Relaxed),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Ok(Next::Wait(EPOLLOUT));
                    }
                    Err(error) => return Err(error),
                };
                if !answering.keep_alive {
                    return Ok(Next::Close);
                }
                self.answering = None;
            }
            match http::head_len(&self.input) {
                Some(len) => {
                    self.answering = Some(Answering::to(&self.input[..len], files));
                    self.input.drain(..len);
                }
                None if self.input.len() > http::MAX_HEAD => return Ok(Next::Close),
                None => match self.read() {
                    Ok(0) => return Ok(Next::Close),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Ok(Next::Wait(EPOLLIN));
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 4096];
        let count = self.stream.read(&mut buffer)?;
        self.input.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

impl Answering {
    fn to(head: &[u8], files: &Files) -> Answering {
        let request = http::Request::parse(head);
        let keep_alive = request.as_ref().is_some_and(|request| request.keep_alive);
        let (status, body) = match &request {
            None => ("400 Bad Request", None),
            Some(request) => match files.get(request.path) {
                Some(body) => ("200 OK", Some(body)),
                None => ("404 Not Found", None),
            },
        };
        let body = body.cloned().unwrap_or_else(|| Arc::from([]));
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 {status}\r\nServer: epserver\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
            body.len()
        );
        Answering {
            head: head.into_bytes(),
            body,
            sent: 0,
            keep_alive,
        }
    }

    fn send(&mut self, stream: &mut TcpStream, counters: &Counters) -> io::Result<()> {
        while self.sent < self.head.len() + self.body.len() {
            let head = &self.head[self.sent.min(self.head.len())..];
            let body = &self.body[self.sent.saturating_sub(self.head.len())..];
            let count = stream.write_vectored(&[IoSlice::new(head), IoSlice::new(body)])?;
            self.sent += count;
            counters.bytes.fetch_add(count as u64, Relaxed);
        }
        Ok(())
    }
}

/// Prints each core's progress once a second until the workers are gone.
fn report(counters: &[Arc<Counters>], finished: &mpsc::Receiver<()>) {
    let read =
        |c: &Counters| [&c.accepted, &c.answered, &c.bytes, &c.errors].map(|n| n.load(Relaxed));
    let mut before = vec![[0; 4]; counters.len()];
    while finished.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
        let mut all = [0; 4];
        let mut all_open = 0;
        for (core, counters) in counters.iter().enumerate() {
            let now = read(counters);
            let rate: [u64; 4] = std::array::from_fn(|i| now[i] - before[core][i]);
            let open = counters.open.load(Relaxed);
            print_rate(&format!("core {core}"), rate, open);
            before[core] = now;
            all = std::array::from_fn(|i| all[i] + rate[i]);
            all_open += open;
        }
        print_rate("all", all, all_open);
    }
}

fn print_rate(who: &str, [accepted, answered, bytes, errors]: [u64; 4], open: u64) {
    eprintln!(
        "{who}: {accepted} connections/s, {answered} answers/s, {:.2} Mbit/s, {errors} errors/s, {open} open",
        bytes as f64 * 8.0 / 1e6
    );
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    if options.mtcp_conf.is_some() {
        eprintln!("note: -f is mtcp-run's to read (mtcp-run --mtcp-conf FILE); ignored here");
    }
    let allowed = common::allowed_cores()?;
    let cores = options.cores.unwrap_or(allowed.len());
    if cores == 0 || options.concurrency == 0 {
        return Err("-N and -c must be at least 1".into());
    }
    let mut files = Files::new();
    read_files(&options.www, "", &mut files)
        .map_err(|error| format!("{}: {error}", options.www.display()))?;
    let files = Arc::new(files);
    common::raise_file_limit()?;
    common::stop_on_signals()?;

    let counters: Vec<Arc<Counters>> = (0..cores).map(|_| Arc::default()).collect();
    let mut workers = Vec::new();
    for counters in &counters {
        let worker = Worker::new(&options, files.clone(), counters.clone())
            .map_err(|error| format!("port {}: {error}", options.port))?;
        workers.push(worker);
    }
    eprintln!(
        "serving {} paths on port {} from {cores} cores",
        files.len(),
        options.port
    );

    let (running, finished) = mpsc::channel();
    let threads: Vec<_> = workers
        .into_iter()
        .enumerate()
        .map(|(core, mut worker)| {
            let running = running.clone();
            let pinned = allowed[core % allowed.len()];
            thread::spawn(move || {
                let _running = running; // Dropped at the end: the reporter sees it.
                common::pin(pinned)?;
                worker.run()
            })
        })
        .collect();
    drop(running);
    if !options.quiet {
        report(&counters, &finished);
    }
    for thread in threads {
        thread.join().map_err(|_| "a worker panicked")??;
    }
    Ok(())
}
