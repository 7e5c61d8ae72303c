//! bench-server: a single-threaded epoll server that echoes, swallows or pours out bytes.
//!
//! Ends at SIGTERM or SIGINT and prints what it has done as one line of JSON.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};

use bench::sys::{self, EPOLLIN, EPOLLOUT, Epoll};
use bench::{CHUNK, TURNS};
use clap::{Parser, ValueEnum};
use serde_json::json;

/// What becomes of the bytes of a connection.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Every message of --size bytes is sent back.
    Echo,
    /// Bytes are read and counted; at the end the count is sent back (64 bits, little endian).
    Sink,
    /// Bytes are sent until the client closes.
    Source,
}

#[derive(Parser)]
#[command(about = "A single-threaded epoll server for benchmarks")]
struct Options {
    /// What becomes of the bytes.
    mode: Mode,
    /// Bytes of a message (echo).
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Address to listen on.
    #[arg(long, default_value_t = Ipv4Addr::UNSPECIFIED)]
    address: Ipv4Addr,
    /// Port to listen on.
    #[arg(long, default_value_t = 9000)]
    port: u16,
    /// Ports to listen on, from --port on: clients that close first run out of source ports slower.
    #[arg(long, default_value_t = 1)]
    ports: u16,
    /// Length of the listeners' queues.
    #[arg(long, default_value_t = 65_535)]
    backlog: i32,
    /// Asks epoll without end instead of sleeping in it.
    #[arg(long)]
    spin: bool,
}

#[derive(Default)]
struct Totals {
    connections: u64,
    messages: u64,
    bytes_in: u64,
    bytes_out: u64,
    errors: u64,
}

struct Connection {
    stream: TcpStream,
    /// Bytes received that wait for the rest of their message, or for room to be sent back.
    held: VecDeque<u8>,
    /// Bytes at the front of `held` that are due to be sent.
    due: usize,
    received: u64,
    interest: i32,
}

/// What a connection wants next.
enum Next {
    Wait(i32),
    Close,
}

/// Tokens from here on are listeners.
const LISTENERS: u64 = 1 << 32;

struct Server {
    mode: Mode,
    size: usize,
    epoll: Epoll,
    listeners: Vec<TcpListener>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
    totals: Totals,
}

impl Server {
    fn new(options: &Options) -> io::Result<Server> {
        let epoll = Epoll::new()?;
        let mut listeners = Vec::new();
        for number in 0..options.ports {
            let port = options
                .port
                .checked_add(number)
                .ok_or(io::ErrorKind::InvalidInput)?;
            let address = SocketAddrV4::new(options.address, port);
            let listener = sys::listen(address, options.backlog, false)?;
            epoll.add(&listener, EPOLLIN, LISTENERS + u64::from(number))?;
            listeners.push(listener);
        }
        Ok(Server {
            mode: options.mode,
            size: options.size,
            epoll,
            listeners,
            connections: Vec::new(),
            free: Vec::new(),
            buffer: vec![0x5a; CHUNK.max(options.size)],
            totals: Totals::default(),
        })
    }

    fn run(&mut self, timeout_ms: i32) -> io::Result<()> {
        let mut events = [sys::epoll_event { events: 0, u64: 0 }; 512];
        while !sys::stopping() {
            let count = self.epoll.wait(&mut events, timeout_ms)?;
            for event in &events[..count] {
                match event.u64.checked_sub(LISTENERS) {
                    Some(listener) => self.accept(listener as usize)?,
                    None => self.serve(event.u64 as usize)?,
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, listener: usize) -> io::Result<()> {
        loop {
            let stream = match sys::accept(&self.listeners[listener]) {
                Ok(stream) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => {
                    self.totals.errors += 1;
                    return Ok(());
                }
            };
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let interest = if self.mode == Mode::Source {
                EPOLLOUT
            } else {
                EPOLLIN
            };
            self.epoll.add(&stream, interest, slot as u64)?;
            self.totals.connections += 1;
            self.connections[slot] = Some(Connection {
                stream,
                held: VecDeque::new(),
                due: 0,
                received: 0,
                interest,
            });
        }
    }

    fn serve(&mut self, slot: usize) -> io::Result<()> {
        let Some(connection) = &mut self.connections[slot] else {
            return Ok(());
        };
        let result = match self.mode {
            Mode::Echo => connection.echo(self.size, &mut self.buffer, &mut self.totals),
            Mode::Sink => connection.sink(&mut self.buffer, &mut self.totals),
            Mode::Source => connection.pour(&self.buffer, &mut self.totals),
        };
        match result {
            Ok(Next::Wait(interest)) => {
                if interest != connection.interest {
                    connection.interest = interest;
                    self.epoll
                        .modify(&connection.stream, interest, slot as u64)?;
                }
                return Ok(());
            }
            Ok(Next::Close) => {}
            Err(_) => self.totals.errors += 1,
        }
        self.connections[slot] = None;
        self.free.push(slot);
        Ok(())
    }
}

/// `None` where a call would have to wait.
fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

impl Connection {
    fn echo(&mut self, size: usize, buffer: &mut [u8], totals: &mut Totals) -> io::Result<Next> {
        if self.due == 0 {
            let Some(count) = unless_blocked(self.stream.read(&mut buffer[..size]))? else {
                return Ok(Next::Wait(EPOLLIN));
            };
            if count == 0 {
                return Ok(Next::Close);
            }
            totals.bytes_in += count as u64;
            let mut rest = &buffer[..count];
            if self.held.is_empty() && count == size {
                // The usual case: a whole message in one read goes straight back.
                totals.messages += 1;
                let sent = unless_blocked(self.stream.write(rest))?.unwrap_or(0);
                totals.bytes_out += sent as u64;
                rest = &rest[sent..];
                self.due = rest.len();
            }
            self.held.extend(rest);
            if self.due == 0 && self.held.len() >= size {
                let whole = self.held.len() / size;
                totals.messages += whole as u64;
                self.due = whole * size;
            }
        }
        while self.due > 0 {
            let (front, _) = self.held.as_slices();
            let due = &front[..front.len().min(self.due)];
            let Some(sent) = unless_blocked(self.stream.write(due))? else {
                return Ok(Next::Wait(EPOLLOUT));
            };
            totals.bytes_out += sent as u64;
            self.due -= sent;
            self.held.drain(..sent);
        }
        Ok(Next::Wait(EPOLLIN))
    }

    fn sink(&mut self, buffer: &mut [u8], totals: &mut Totals) -> io::Result<Next> {
        for _ in 0..TURNS {
            match unless_blocked(self.stream.read(buffer))? {
                None => break,
                Some(0) => {
                    // Eight bytes always fit an empty send buffer.
                    self.stream.write_all(&self.received.to_le_bytes())?;
                    return Ok(Next::Close);
                }
                Some(count) => {
                    self.received += count as u64;
                    totals.bytes_in += count as u64;
                }
            }
        }
        Ok(Next::Wait(EPOLLIN))
    }

    fn pour(&mut self, buffer: &[u8], totals: &mut Totals) -> io::Result<Next> {
        for _ in 0..TURNS {
            match unless_blocked(self.stream.write(buffer)) {
                Ok(None) => break,
                Ok(Some(count)) => totals.bytes_out += count as u64,
                // A client that has had enough just closes.
                Err(_) => return Ok(Next::Close),
            }
        }
        Ok(Next::Wait(EPOLLOUT))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    if options.size == 0 {
        return Err("--size must be at least 1".into());
    }
    sys::raise_file_limit()?;
    sys::stop_on_signals()?;
    let mut server = Server::new(&options)
        .map_err(|error| format!("{}:{}: {error}", options.address, options.port))?;
    server.run(if options.spin { 0 } else { -1 })?;
    let totals = &server.totals;
    println!(
        "{}",
        json!({
            "connections": totals.connections,
            "messages": totals.messages,
            "bytes_in": totals.bytes_in,
            "bytes_out": totals.bytes_out,
            "errors": totals.errors,
        })
    );
    Ok(())
}
