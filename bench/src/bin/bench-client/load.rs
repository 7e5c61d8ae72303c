//! The loop over all connections of a load.

use std::io;
use std::time::{Duration, Instant};

use bench::CHUNK;
use bench::sys::{self, EPOLLIN, Epoll};
use serde_json::Value;

use crate::connection::{Connection, Next, State, Work};
use crate::{Mode, Options};
use bench::measured::Measured;

/// How often connections are looked at that make no progress, and ones begun that could not be.
const TICK: Duration = Duration::from_millis(50);

/// After the end of a bulk transfer, the server's counts must be here within this time.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A load under way.
pub struct Load<'a> {
    options: &'a Options,
    timeout: Duration,
    duration: Option<Duration>,
    epoll: Epoll,
    slots: Vec<Option<Connection>>,
    /// Slots whose connection could not be begun; tried again at the next tick.
    waiting: Vec<usize>,
    open: usize,
    parked: usize,
    next_port: u16,
    work: Work,
    elapsed: Duration,
}

/// What is sent to be answered.
fn message(options: &Options) -> Vec<u8> {
    match &options.request {
        Some(text) => text.replace("\\r", "\r").replace("\\n", "\n").into_bytes(),
        None => vec![0xa5; options.size],
    }
}

impl<'a> Load<'a> {
    /// A load with no connection yet; it ends after `duration` if there is one.
    pub fn new(
        options: &'a Options,
        duration: Option<Duration>,
        timeout: Duration,
    ) -> io::Result<Load<'a>> {
        let bulk = matches!(options.mode, Mode::BulkUp | Mode::BulkDown);
        let total = options.total.unwrap_or(u64::MAX);
        Ok(Load {
            options,
            timeout,
            duration,
            epoll: Epoll::new()?,
            slots: (0..options.connections).map(|_| None).collect(),
            waiting: Vec::new(),
            open: 0,
            parked: 0,
            next_port: 0,
            work: Work {
                mode: options.mode,
                message: message(options),
                size: options.size,
                messages: options.messages,
                turns_left: if bulk { u64::MAX } else { total },
                bytes_left: if bulk { total } else { u64::MAX },
                buffer: vec![0xa5; CHUNK.max(options.size)],
                measured: Measured::new(),
            },
            elapsed: Duration::ZERO,
        })
    }

    /// Runs it to its end.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = [sys::epoll_event { events: 0, u64: 0 }; 512];
        let start = Instant::now();
        let deadline = self.duration.map(|duration| start + duration);
        let mut tick = start + TICK;
        for slot in 0..self.slots.len() {
            self.begin(slot)?;
        }
        while self.open + self.waiting.len() > 0 {
            let timeout = if self.options.spin {
                0
            } else {
                TICK.as_millis() as i32
            };
            let count = self.epoll.wait(&mut events, timeout)?;
            for event in &events[..count] {
                self.advance(event.u64 as usize)?;
            }
            let now = Instant::now();
            if sys::stopping() || deadline.is_some_and(|deadline| now >= deadline) {
                break;
            }
            if now >= tick {
                tick = now + TICK;
                self.end_silent_connections(now)?;
                for slot in std::mem::take(&mut self.waiting) {
                    self.begin(slot)?;
                }
            }
        }
        self.elapsed = start.elapsed();
        self.finish(&mut events)
    }

    /// Begins a connection in a free slot, if one more is wanted.
    fn begin(&mut self, slot: usize) -> io::Result<()> {
        if !self.work.take_turn() {
            return Ok(());
        }
        let mut address = self.options.address;
        address.set_port(address.port() + self.next_port);
        self.next_port = (self.next_port + 1) % self.options.ports;
        let stream = match sys::connect(address) {
            Ok(stream) => stream,
            Err(error) => {
                self.work.measured.failed(&error);
                self.waiting.push(slot);
                return Ok(());
            }
        };
        if self.options.linger0 {
            sys::close_with_reset(&stream)?;
        }
        let connection = Connection::new(stream);
        self.epoll
            .add(&connection.stream, connection.interest, slot as u64)?;
        self.slots[slot] = Some(connection);
        self.open += 1;
        Ok(())
    }

    fn advance(&mut self, slot: usize) -> io::Result<()> {
        let Some(connection) = &mut self.slots[slot] else {
            return Ok(());
        };
        let next = connection.advance(&mut self.work);
        self.follow(slot, next)
    }

    fn follow(&mut self, slot: usize, next: io::Result<Next>) -> io::Result<()> {
        let wanted = self.slots.len();
        let Some(connection) = &mut self.slots[slot] else {
            return Ok(());
        };
        let interest = match next {
            Ok(Next::Wait(interest)) => interest,
            Ok(Next::Park) => {
                self.parked += 1;
                if self.parked == wanted {
                    // Whoever started us waits for this line to look at the server's memory.
                    println!("{{\"parked\": {}}}", self.parked);
                }
                EPOLLIN
            }
            Ok(Next::Close) => {
                self.work.measured.connections += 1;
                return self.close(slot);
            }
            Err(error) => {
                self.work.measured.failed(&error);
                return self.close(slot);
            }
        };
        if interest != connection.interest {
            connection.interest = interest;
            self.epoll
                .modify(&connection.stream, interest, slot as u64)?;
        }
        Ok(())
    }

    fn close(&mut self, slot: usize) -> io::Result<()> {
        self.slots[slot] = None;
        self.open -= 1;
        match self.options.mode {
            Mode::Short => self.begin(slot),
            _ => Ok(()),
        }
    }

    fn end_silent_connections(&mut self, now: Instant) -> io::Result<()> {
        for slot in 0..self.slots.len() {
            let silent = |connection: &Connection| {
                !matches!(connection.state, State::Parked)
                    && now.saturating_duration_since(connection.since) > self.timeout
            };
            if self.slots[slot].as_ref().is_some_and(silent) {
                self.follow(slot, Err(io::ErrorKind::TimedOut.into()))?;
            }
        }
        Ok(())
    }

    /// Lets bulk transfers say how much arrived, and idle connections that they are alive.
    fn finish(&mut self, events: &mut [sys::epoll_event]) -> io::Result<()> {
        let start = Instant::now();
        match self.options.mode {
            Mode::Short => return Ok(()), // What is under way was neither answered nor refused.
            Mode::Latency => {
                self.work.measured.connections += self.open as u64;
                return Ok(());
            }
            Mode::BulkUp | Mode::BulkDown => {
                for slot in 0..self.slots.len() {
                    if let Some(connection) = &mut self.slots[slot] {
                        let next = connection.end_transfer();
                        self.follow(slot, next)?;
                    }
                }
            }
            Mode::Idle => {
                for slot in 0..self.slots.len() {
                    if let Some(connection) = &mut self.slots[slot]
                        && matches!(connection.state, State::Parked)
                    {
                        connection.send_message();
                        self.advance(slot)?;
                    }
                }
            }
        }
        while self.open > 0 && start.elapsed() < LAST_WORDS.max(self.timeout) {
            let count = self.epoll.wait(events, TICK.as_millis() as i32)?;
            for event in &events[..count] {
                self.advance(event.u64 as usize)?;
            }
        }
        for _ in 0..self.open {
            self.work.measured.failed(&io::ErrorKind::TimedOut.into());
        }
        // What arrived late belongs to the time that it took.
        self.elapsed += start.elapsed();
        Ok(())
    }

    /// What was measured.
    pub fn report(&self) -> Value {
        self.work.measured.to_json(self.elapsed.as_secs_f64())
    }

    /// Whether every connection did what it was to do.
    pub fn succeeded(&self) -> bool {
        self.work.measured.errors() == 0 && self.work.measured.connections > 0
    }
}
