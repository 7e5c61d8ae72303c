//! What readiness needs of this process's attachment to the engine.

use super::level::bit;
use super::poll::PollSets;
use super::spare;
use crate::errno::Result;
use crate::hold;
use crate::process::{self, Process};
use crate::socket::SocketRef;
use crate::thread;
use context::Segment;
use context::command::{Command, Op};
use context::control::Request;
use context::socket::Socket;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

/// A socket of the stack, in one of its record's lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketId {
    /// Its record.
    pub index: u32,
    /// Low bits of the record's generation.
    pub generation: u16,
}

impl SocketId {
    /// The record, if it still is this socket's.
    pub fn record(self, segment: &Segment) -> Option<&Socket> {
        segment.socket(self.index).filter(|socket| {
            socket.engine.generation.load(Ordering::Acquire) as u16 == self.generation
        })
    }
}

/// A wait that no room to write can end sends the SYN that was put off until there is data for it
/// (`TCP_FASTOPEN_CONNECT`).
pub fn launch(stack: &impl Stack, id: SocketId, record: &Socket, interest: u32) {
    if interest & bit::WRITE == 0 && record.take_deferred() {
        stack.command(Command {
            op: Op::Connect,
            socket: id.index,
            generation: id.generation,
            arg: 0,
        });
    }
}

/// The attachment of this process, or one that a test makes.
pub trait Stack: Sync {
    /// The shared memory.
    fn segment(&self) -> &Segment;
    /// A number that differs between a process and its forked child.
    fn attachment(&self) -> u32;
    /// This thread's id.
    fn tid(&self) -> u32;
    /// Sends a command to the worker of its socket.
    fn command(&self, command: Command);
    /// Rings the doorbells that this thread has put off; called before it returns to the program
    /// with nothing.
    fn before_return(&self);
    /// As [`before_return`](Stack::before_return), before it sleeps until an edge comes.
    fn before_sleep(&self);
    /// A ready set, and the eventfd (a private descriptor) by which the engine wakes who sleeps
    /// in the kernel.
    ///
    /// # Errors
    /// `ENOMEM` if the engine has none left, `EMFILE`.
    fn open_set(&self) -> Result<(u32, RawFd)>;
    /// Gives back what [`open_set`](Stack::open_set) gave.
    fn close_set(&self, set: u32, eventfd: RawFd);
    /// The ready sets of threads that poll.
    fn poll_sets(&self) -> &PollSets;
    /// Keeps a socket until the call returns, see [`hold`].
    fn hold(&self, socket: SocketId);
    /// Whether the engine is still there.
    fn is_alive(&self) -> bool;
}

/// The attachment of this process; `None` if it does not run under mtcp-run.
#[inline]
pub fn current() -> Option<&'static Process> {
    process::process()
}

impl Stack for Process {
    fn segment(&self) -> &Segment {
        &self.segment
    }

    fn attachment(&self) -> u32 {
        process::epoch()
    }

    fn tid(&self) -> u32 {
        thread::id()
    }

    fn command(&self, command: Command) {
        // Without a context there is no engine any more, and no edge to be told of.
        let _ = thread::with_thread(|thread| thread.command(command));
    }

    fn before_return(&self) {
        // With a core of its own, the worker was rung for each command that matters.
        if self.segment.shared_core() {
            let _ = thread::with_thread(|thread| thread.before_return());
        }
    }

    fn before_sleep(&self) {
        let _ = thread::with_thread(|thread| thread.before_sleep());
    }

    fn open_set(&self) -> Result<(u32, RawFd)> {
        let eventfd = spare::eventfd()?;
        match self.control(Request::NewReadySet, &[eventfd]) {
            Ok(set) => Ok((set, eventfd)),
            Err(error) => {
                process::close_private(eventfd);
                Err(error)
            }
        }
    }

    fn close_set(&self, set: u32, eventfd: RawFd) {
        // An engine that is gone has no sets.
        let _ = self.control(Request::FreeReadySet(set), &[]);
        process::close_private(eventfd);
    }

    fn poll_sets(&self) -> &PollSets {
        static POLL_SETS: PollSets = PollSets::new();
        &POLL_SETS
    }

    fn hold(&self, socket: SocketId) {
        if let Some(socket) = SocketRef::new(socket.index, socket.generation) {
            hold::keep(socket);
        }
    }

    fn is_alive(&self) -> bool {
        self.is_engine_alive()
    }
}
