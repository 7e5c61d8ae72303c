//! A ready set of the engine from the application's side: watches go out, edges come in, and
//! threads sleep until some do.

use super::kernel;
use super::stack::{SocketId, Stack};
use crate::errno::{Errno, Result};
use crate::process;
use context::command::{Command, EXCLUSIVE, Op};
use context::futex;
use context::ready::{COALESCED, Event, ReadySet};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a thread sleeps before it makes sure that the engine is still there.
///
/// A signal that comes just when such a sleep is over does not interrupt the next. Timers of programs
/// end after whole seconds; multiples of the golden ratio's fraction keep farthest from these.
pub const LIVENESS: Duration = Duration::from_millis(618);

/// A ready set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Channel {
    set: u32,
    eventfd: RawFd,
    attachment: u32,
}

impl Channel {
    /// Asks the engine for a ready set.
    ///
    /// # Errors
    /// `ENOMEM` if it has none left; `EMFILE`.
    pub fn open(stack: &impl Stack) -> Result<Channel> {
        let (set, eventfd) = stack.open_set()?;
        if stack.segment().ready_set(set).is_none() {
            return Err(Errno(libc::EPROTO));
        }
        Ok(Channel {
            set,
            eventfd,
            attachment: stack.attachment(),
        })
    }

    /// Gives the set back; the engine drops its watches.
    pub fn close(self, stack: &impl Stack) {
        stack.close_set(self.set, self.eventfd);
    }

    /// Drops what the child of a fork has inherited of its parent's set.
    pub fn abandon(self) {
        process::close_private(self.eventfd);
    }

    /// Whether it was opened by this process, and not by one that has forked since.
    pub fn is_own(&self, stack: &impl Stack) -> bool {
        self.attachment == stack.attachment()
    }

    /// The eventfd that the engine rings for a thread that sleeps in the kernel.
    pub fn eventfd(&self) -> RawFd {
        self.eventfd
    }

    /// Asks for the edges of `socket`, under the name `cookie`; `exclusive`: as `EPOLLEXCLUSIVE` does.
    pub fn watch(&self, stack: &impl Stack, socket: SocketId, cookie: u32, exclusive: bool) {
        let flags = if exclusive { EXCLUSIVE } else { 0 };
        self.command(stack, Op::Watch, socket, cookie, flags);
    }

    /// Takes a [`watch`](Channel::watch) back.
    pub fn unwatch(&self, stack: &impl Stack, socket: SocketId, cookie: u32) {
        self.command(stack, Op::Unwatch, socket, cookie, 0);
    }

    fn command(&self, stack: &impl Stack, op: Op, socket: SocketId, cookie: u32, flags: u64) {
        stack.command(Command {
            op,
            socket: socket.index,
            generation: socket.generation,
            arg: flags | u64::from(self.set) << 32 | u64::from(cookie),
        });
    }

    /// Takes all edges that wait. One thread at a time. True if some were lost because there was
    /// no room: then every watch is to be looked at.
    pub fn take(&self, stack: &impl Stack, mut edge: impl FnMut(Event)) -> bool {
        let segment = stack.segment();
        for worker in 0..segment.geometry().workers as usize {
            let Some(ring) = segment.event_ring(self.set, worker) else {
                continue;
            };
            let mut head = ring.head();
            while let Ok(Some(words)) = ring.pop(&mut head) {
                let event = Event::from_words(words);
                // First the bit, then the state: an edge from here on makes an entry of its own.
                if event.slot < COALESCED
                    && let Some(socket) = segment.socket(event.socket)
                {
                    let queued = &socket.app.queued;
                    queued.fetch_and(!(1 << event.slot), Ordering::SeqCst);
                }
                edge(event);
            }
        }
        self.record(stack).is_some_and(ReadySet::take_overflow)
    }

    /// Whether edges wait.
    pub fn has_edges(&self, stack: &impl Stack) -> bool {
        let segment = stack.segment();
        (0..segment.geometry().workers as usize).any(|worker| {
            let ring = segment.event_ring(self.set, worker);
            ring.is_some_and(|ring| !ring.is_empty())
        })
    }

    /// Announces a sleep of the given kind (see [`context::ready`]) and returns what
    /// [`sleep`](Channel::sleep) wants. The caller looks once more for edges before it sleeps.
    pub fn arm(&self, stack: &impl Stack, kind: u32) -> u32 {
        self.record(stack).map_or(0, |set| set.fall_asleep(kind))
    }

    /// Nobody sleeps any more.
    pub fn disarm(&self, stack: &impl Stack) {
        if let Some(set) = self.record(stack) {
            set.wake_up();
        }
    }

    /// Sleeps on the set's futex.
    pub fn sleep(&self, stack: &impl Stack, seen: u32, time: Duration) -> futex::Wait {
        self.record(stack)
            .map_or(futex::Wait::TimedOut, |set| set.sleep(seen, Some(time)))
    }

    /// Wakes the threads that sleep on the set, if there are any.
    pub fn wake(&self, stack: &impl Stack) {
        if let Some(set) = self.record(stack) {
            set.wake_sleepers(|| kernel::ring(self.eventfd));
        }
    }

    fn record<'a>(&self, stack: &'a impl Stack) -> Option<&'a ReadySet> {
        stack.segment().ready_set(self.set)
    }
}

/// Whether a thread spins before it sleeps. Never where application and worker share a core: the
/// worker could not run.
pub fn spins(stack: &impl Stack) -> bool {
    let segment = stack.segment();
    segment.spin_us() != 0 && !segment.shared_core()
}

/// Spins for as long as the configuration says, until `found`.
pub fn spin(stack: &impl Stack, mut found: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_micros(stack.segment().spin_us().into());
    loop {
        for _ in 0..64 {
            if found() {
                return;
            }
            std::hint::spin_loop();
        }
        if Instant::now() >= end {
            return;
        }
    }
}
