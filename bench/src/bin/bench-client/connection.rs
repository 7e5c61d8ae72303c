//! One connection of a load: what it does next.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use bench::sys::{EPOLLIN, EPOLLOUT};
use bench::{CHUNK, TURNS};

use crate::Mode;
use bench::measured::Measured;

/// Where a connection stands.
pub enum State {
    /// The handshake is under way.
    Connecting,
    /// A message is being sent.
    Sending {
        /// Bytes sent of it.
        sent: usize,
    },
    /// Its answer is awaited.
    Receiving {
        /// Bytes received of it.
        received: usize,
    },
    /// Bulk: bytes are being sent.
    Pouring,
    /// Bulk: everything is sent, the server's count is awaited.
    Confirming,
    /// Bulk: bytes are being received.
    Draining,
    /// Idle: nothing happens.
    Parked,
}

/// What a connection wants next.
pub enum Next {
    /// These events.
    Wait(i32),
    /// Nothing, for now; it stays open.
    Park,
    /// To be closed; it has done its work.
    Close,
}

/// A connection of the load.
pub struct Connection {
    /// The socket.
    pub stream: TcpStream,
    /// Where it stands.
    pub state: State,
    /// The events that it waits for.
    pub interest: i32,
    /// When the message under way began, or the last bytes of a bulk transfer moved.
    pub since: Instant,
    /// Messages exchanged.
    pub exchanged: u64,
    sent: u64,
}

impl Connection {
    /// A connection whose handshake has begun.
    pub fn new(stream: TcpStream) -> Connection {
        Connection {
            stream,
            state: State::Connecting,
            interest: EPOLLOUT,
            since: Instant::now(),
            exchanged: 0,
            sent: 0,
        }
    }

    /// Begins the next message.
    pub fn send_message(&mut self) {
        self.since = Instant::now();
        self.state = State::Sending { sent: 0 };
    }

    /// Ends a bulk transfer: says that no more is sent, or closes.
    pub fn end_transfer(&mut self) -> io::Result<Next> {
        if !matches!(self.state, State::Pouring) {
            return Ok(Next::Close);
        }
        self.stream.shutdown(Shutdown::Write)?;
        self.state = State::Confirming;
        Ok(Next::Wait(EPOLLIN))
    }

    /// Goes on until it has to wait.
    pub fn advance(&mut self, work: &mut Work) -> io::Result<Next> {
        loop {
            match self.step(work) {
                Ok(None) => {}
                Ok(Some(next)) => return Ok(next),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Next::Wait(match self.state {
                        State::Connecting | State::Sending { .. } | State::Pouring => EPOLLOUT,
                        _ => EPOLLIN,
                    }));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One step; `None` to go on with the next.
    fn step(&mut self, work: &mut Work) -> io::Result<Option<Next>> {
        match &mut self.state {
            State::Connecting => {
                if let Some(error) = self.stream.take_error()? {
                    return Err(error);
                }
                match work.mode {
                    // The time of a short connection's first message includes the handshake.
                    Mode::Short => self.state = State::Sending { sent: 0 },
                    Mode::Latency | Mode::Idle => self.send_message(),
                    Mode::BulkUp => self.state = State::Pouring,
                    Mode::BulkDown => self.state = State::Draining,
                }
            }
            State::Sending { sent } => {
                let count = self.stream.write(&work.message[*sent..])?;
                work.measured.bytes += count as u64;
                *sent += count;
                if *sent == work.message.len() {
                    self.state = State::Receiving { received: 0 };
                }
            }
            State::Receiving { received } => {
                let room = work.size - *received;
                let count = self.stream.read(&mut work.buffer[..room])?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                work.measured.bytes += count as u64;
                *received += count;
                if *received == work.size {
                    work.measured.answered_after(self.since.elapsed());
                    self.exchanged += 1;
                    return Ok(self.after_message(work));
                }
            }
            State::Pouring => {
                for _ in 0..TURNS {
                    let room = work.bytes_left.min(CHUNK as u64) as usize;
                    if room == 0 {
                        return self.end_transfer().map(Some);
                    }
                    let count = self.stream.write(&work.buffer[..room])? as u64;
                    self.since = Instant::now();
                    self.sent += count;
                    work.bytes_left -= count;
                }
                return Ok(Some(Next::Wait(EPOLLOUT)));
            }
            State::Confirming => {
                let mut count = [0; 8];
                self.stream.read_exact(&mut count)?;
                let arrived = u64::from_le_bytes(count);
                if arrived != self.sent {
                    let text = format!("{arrived} of {} bytes arrived", self.sent);
                    return Err(io::Error::other(text));
                }
                work.measured.bytes += arrived;
                return Ok(Some(Next::Close));
            }
            State::Draining => {
                for _ in 0..TURNS {
                    let room = work.bytes_left.min(CHUNK as u64) as usize;
                    if room == 0 {
                        return Ok(Some(Next::Close));
                    }
                    let count = self.stream.read(&mut work.buffer[..room])? as u64;
                    if count == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.since = Instant::now();
                    work.measured.bytes += count;
                    work.bytes_left -= count;
                }
                return Ok(Some(Next::Wait(EPOLLIN)));
            }
            State::Parked => {
                // Only the end of the connection, or bytes that nobody asked for, wake it.
                return Err(io::Error::other("an idle connection was disturbed"));
            }
        }
        Ok(None)
    }

    fn after_message(&mut self, work: &mut Work) -> Option<Next> {
        let again = match work.mode {
            Mode::Short => self.exchanged < work.messages,
            Mode::Latency => work.take_turn(),
            Mode::Idle if self.exchanged == 1 => {
                self.state = State::Parked;
                return Some(Next::Park);
            }
            Mode::Idle | Mode::BulkUp | Mode::BulkDown => false,
        };
        if !again {
            return Some(Next::Close);
        }
        self.send_message();
        None
    }
}

/// What all connections of a load share.
pub struct Work {
    /// What they do.
    pub mode: Mode,
    /// What is sent to be answered.
    pub message: Vec<u8>,
    /// Bytes of an answer.
    pub size: usize,
    /// Messages on a short connection.
    pub messages: u64,
    /// Connections (short) or messages (latency) that may still be begun.
    pub turns_left: u64,
    /// Bytes of bulk that may still be moved.
    pub bytes_left: u64,
    /// What is sent, and where to receive.
    pub buffer: Vec<u8>,
    /// What has been measured.
    pub measured: Measured,
}

impl Work {
    /// Takes the right to begin a connection or message; false if none is left.
    pub fn take_turn(&mut self) -> bool {
        let some = self.turns_left > 0;
        self.turns_left -= u64::from(some);
        some
    }
}
