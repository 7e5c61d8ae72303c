//! Sockets of the stack: what each call does on one.

pub mod accept;
pub mod buffers;
pub mod close;
pub mod connect;
pub mod create;
pub mod demote;
pub mod fast_open;
pub mod listen;
mod locks;
pub mod message;
pub mod names;
pub mod options;
#[cfg(test)]
mod oracle;
pub mod recv;
pub mod send;
pub mod urgent;

use crate::errno::{Errno, Result};
use crate::process::{self, Process};
use crate::thread::{self, Thread};
use context::command::{Command, Op};
use context::socket::{Socket, state};
use fdmap::Entry;
use std::ffi::c_int;
use std::fmt;
use std::sync::atomic::Ordering;

/// A socket of the stack in one of its lives. The segment lives as long as the process, so the
/// record does.
#[derive(Clone, Copy)]
pub struct SocketRef {
    /// The record's number.
    pub index: u32,
    /// Low bits of the record's generation.
    pub generation: u16,
    record: &'static Socket,
    process: &'static Process,
}

impl fmt::Debug for SocketRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socket {} (life {})", self.index, self.generation)
    }
}

/// The socket behind a descriptor, if the stack is.
#[inline]
pub fn find(fd: c_int) -> Option<SocketRef> {
    match fdmap::get(fd) {
        Entry::Socket { index, generation } => SocketRef::new(index, generation),
        _ => None,
    }
}

impl SocketRef {
    /// The socket of that number and generation.
    #[inline]
    pub fn new(index: u32, generation: u16) -> Option<SocketRef> {
        let process = process::process()?;
        Some(SocketRef {
            index,
            generation,
            record: process.segment.socket(index)?,
            process,
        })
    }

    /// The socket of that number in its present life.
    pub fn current(index: u32) -> Option<SocketRef> {
        let socket = SocketRef::new(index, 0)?;
        let generation = socket.record.engine.generation.load(Ordering::Acquire);
        Some(SocketRef {
            generation: generation as u16,
            ..socket
        })
    }

    /// The record in the segment.
    #[inline]
    pub fn record(&self) -> &'static Socket {
        self.record
    }

    /// The process that uses it.
    #[inline]
    pub fn process(&self) -> &'static Process {
        self.process
    }

    /// The worker that it belongs to.
    #[inline]
    pub fn worker(&self) -> usize {
        self.process.segment.geometry().worker_of(self.index)
    }

    /// Whether the record is still in the same life.
    #[inline]
    pub fn is_current(&self) -> bool {
        self.record.engine.generation.load(Ordering::Acquire) as u16 == self.generation
    }

    /// The descriptor table's entry for it.
    pub fn entry(&self) -> Entry {
        Entry::Socket {
            index: self.index,
            generation: self.generation,
        }
    }

    /// A command about it.
    pub fn command(&self, op: Op, arg: u64) -> Command {
        Command {
            op,
            socket: self.index,
            generation: self.generation,
            arg,
        }
    }

    /// Tells the engine something about it.
    ///
    /// # Errors
    /// `ENETDOWN` if the engine is gone.
    pub fn tell(&self, op: Op, arg: u64) -> Result<()> {
        thread::with_thread(|thread| thread.command(self.command(op, arg)))
    }

    /// The bits of [`context::socket::flag`].
    #[inline]
    pub fn flags(&self) -> u32 {
        self.record.app.flags.load(Ordering::SeqCst)
    }

    /// State and its bits, see [`Socket::state_bits`].
    #[inline]
    pub fn state_bits(&self) -> u32 {
        self.record.state_bits()
    }

    /// Whether the socket listens.
    pub fn is_listening(&self) -> bool {
        self.record.tcp_state() == state::LISTEN
    }

    /// Takes the pending error (`SO_ERROR`); 0 if there is none.
    pub fn take_error(&self) -> c_int {
        let error = &self.record.engine.error;
        if error.load(Ordering::Acquire) == 0 {
            return 0;
        }
        error.swap(0, Ordering::AcqRel)
    }

    /// Whether a call with `MSG_` flags `flags` must not block.
    #[inline]
    pub fn is_nonblocking(&self, flags: c_int) -> bool {
        flags & libc::MSG_DONTWAIT != 0
            || self.record.app.file_flags.load(Ordering::Relaxed) & libc::O_NONBLOCK as u32 != 0
    }
}

/// Says "it would block", after ringing for what this thread has told the engine.
pub(crate) fn would_block<T>(error: c_int) -> Result<T> {
    thread::with_thread(Thread::before_return)?;
    Err(Errno(error))
}
