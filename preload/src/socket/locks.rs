//! The locks of a socket's streams, which processes share.

use super::{SocketRef, would_block};
use crate::errno::{Errno, Result};
use crate::section::Section;
use crate::{cancel, thread};
use context::lock::{Guard, Lock, Waited, holder};
use context::stream::{Reader, Writer};
use std::ops::{Deref, DerefMut};

/// A stream with its lock. While it is held, no handler of the program runs on this thread.
pub struct Held<T> {
    // Let go first.
    stream: T,
    section: Section,
}

impl<T> Held<T> {
    /// Lets the lock go, not yet the section: what the engine must hear follows.
    pub fn unlock(self) -> Section {
        self.section
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.stream
    }
}

impl<T> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.stream
    }
}

impl SocketRef {
    /// Takes the reading lock. `waits`: also for a process that has been stopped while it has the lock.
    ///
    /// # Errors
    /// `EBADF` if the socket was closed meanwhile; `EAGAIN` if the call does not wait and would have to;
    /// `EINTR` if the thread is to end.
    #[inline]
    pub fn reader(&self, waits: bool) -> Result<Held<Reader<'static>>> {
        let (guard, section) = self.take(&self.record.app.rx_lock, waits)?;
        let reader = Reader::new(&self.process.segment, self.record, guard);
        self.held(reader, section)
    }

    /// Takes the writing lock, as [`reader`](SocketRef::reader) takes the other.
    ///
    /// # Errors
    /// As [`reader`](SocketRef::reader).
    #[inline]
    pub fn writer(&self, waits: bool) -> Result<Held<Writer<'static>>> {
        let (guard, section) = self.take(&self.record.app.tx_lock, waits)?;
        let writer = Writer::new(&self.process.segment, self.record, guard);
        self.held(writer, section)
    }

    fn held<T>(&self, stream: Option<T>, section: Section) -> Result<Held<T>> {
        let stream = stream.filter(|_| self.is_current());
        let stream = stream.ok_or(Errno(libc::EBADF))?;
        Ok(Held { stream, section })
    }

    /// What this thread leaves in the locks that it holds.
    #[inline]
    pub fn holder(&self) -> u32 {
        holder(self.process.number(), thread::id())
    }

    #[inline]
    fn take(&self, lock: &'static Lock, waits: bool) -> Result<(Guard<'static>, Section)> {
        let section = Section::enter();
        match lock.try_lock(self.holder()) {
            Some(guard) => Ok((guard, section)),
            None => {
                drop(section);
                self.take_later(lock, waits)
            }
        }
    }

    #[cold]
    fn take_later(&self, lock: &'static Lock, waits: bool) -> Result<(Guard<'static>, Section)> {
        loop {
            // Outside a section: handlers run.
            if lock.wait() == Waited::Stopped && !waits {
                return would_block(libc::EAGAIN);
            }
            if cancel::is_due() {
                return Err(Errno(libc::EINTR));
            }
            let section = Section::enter();
            if let Some(guard) = lock.try_lock_again(self.holder()) {
                return Ok((guard, section));
            }
        }
    }
}
