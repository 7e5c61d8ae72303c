//! poll over descriptors of the kernel and sockets of the stack; select is made of it.

mod set;
#[cfg(test)]
mod tests;

use super::channel::{self, Channel, LIVENESS};
use super::deadline::Deadline;
use super::epoll;
use super::kernel::{self, SignalMask};
use super::level::{bit, gone_level, level};
use super::stack::{SocketId, Stack, launch};
use crate::cancel;
use crate::errno::{Errno, Result};
use context::futex;
use context::ready::{ASLEEP_EVENTFD, ASLEEP_FUTEX};
use context::socket::Socket;
use fdmap::Entry;
use libc::pollfd;
pub use set::PollSets;
use smallvec::SmallVec;
use std::ffi::c_int;
use std::time::Duration;

/// How long a thread naps that finds no ready set to sleep on.
const NAP: Duration = Duration::from_millis(1);

/// Whether nothing of the stack is among the descriptors, so that the kernel can do the call alone.
pub fn is_kernels(fds: impl IntoIterator<Item = c_int>) -> bool {
    fds.into_iter().all(|fd| fdmap::get(fd) == Entry::Kernel)
}

/// ppoll(2).
///
/// # Errors
/// `EINTR`; `EINVAL` and `ENOMEM` as ppoll(2).
pub fn poll(
    stack: &impl Stack,
    fds: &mut [pollfd],
    deadline: Deadline,
    mask: Option<SignalMask>,
) -> Result<usize> {
    if fds.len() > fdmap::DESCRIPTORS {
        return Err(Errno(libc::EINVAL));
    }
    let mut poll = Poll::new(stack, fds, mask);
    let mut may_spin = channel::spins(stack);
    loop {
        let ready = poll.look();
        if ready || deadline.is_past() {
            let n = poll.finish()?;
            if n == 0 {
                stack.before_return();
            }
            return Ok(n);
        }
        if cancel::is_due() {
            return Err(Errno(libc::EINTR));
        }
        if std::mem::take(&mut may_spin) {
            channel::spin(stack, || poll.look());
            continue;
        }
        if poll.sleep(deadline)? {
            return Ok(poll.count());
        }
    }
}

/// Sees to it that this thread has a ready set to sleep on, when it polls.
pub fn prepare(stack: &impl Stack) {
    if let Some(mut set) = stack.poll_sets().take(stack.tid()) {
        // Without one the thread naps.
        let _ = set.watch(stack, std::iter::empty());
    }
}

/// The descriptors of one call, sorted by who answers for them.
struct Poll<'a, S> {
    stack: &'a S,
    fds: &'a mut [pollfd],
    mask: Option<SignalMask>,
    sockets: SmallVec<[(usize, SocketId); 8]>,
    /// Epoll instances that hold sockets of the stack, which the kernel answers for, too.
    instances: SmallVec<[(usize, u32); 2]>,
    closed: SmallVec<[usize; 2]>,
    /// What the kernel is asked, with room for an eventfd, and where that stands in `fds`.
    kernel: SmallVec<[pollfd; 8]>,
    kernel_at: SmallVec<[usize; 8]>,
    gone: bool,
}

impl<'a, S: Stack> Poll<'a, S> {
    fn new(stack: &'a S, fds: &'a mut [pollfd], mask: Option<SignalMask>) -> Poll<'a, S> {
        let mut poll = Poll {
            stack,
            mask,
            sockets: SmallVec::new(),
            instances: SmallVec::new(),
            closed: SmallVec::new(),
            kernel: SmallVec::new(),
            kernel_at: SmallVec::new(),
            gone: false,
            fds: &mut [],
        };
        for (at, entry) in fds.iter().enumerate() {
            if entry.fd < 0 {
                continue;
            }
            let behind = fdmap::get(entry.fd);
            let kernels = match behind {
                Entry::Kernel => true,
                Entry::Epoll { slot } => {
                    poll.instances.push((at, slot));
                    true
                }
                Entry::Socket { index, generation } => {
                    let socket = SocketId { index, generation };
                    poll.sockets.push((at, socket));
                    let record = socket.record(stack.segment());
                    record.is_some_and(epoll::listens_in_kernel)
                }
                Entry::Pooled | Entry::Private => {
                    poll.closed.push(at);
                    false
                }
            };
            if kernels {
                poll.kernel.push(*entry);
                poll.kernel_at.push(at);
            }
        }
        poll.fds = fds;
        poll
    }

    fn record(&self, socket: SocketId) -> Option<&'a Socket> {
        socket.record(self.stack.segment())
    }

    /// Looks at everything but the kernel's descriptors. True if something is to be reported.
    fn look(&mut self) -> bool {
        self.fds.iter_mut().for_each(|entry| entry.revents = 0);
        for at in &self.closed {
            self.fds[*at].revents = bit::NVAL as i16;
        }
        for (at, socket) in &self.sockets {
            let entry = &mut self.fds[*at];
            let wanted = u32::from(entry.events as u16) | bit::ALWAYS;
            let level = match socket.record(self.stack.segment()) {
                record if self.gone => gone_level(record) & wanted,
                Some(record) => {
                    launch(self.stack, *socket, record, wanted);
                    level(self.stack.segment(), record, wanted) & wanted
                }
                None => bit::NVAL,
            };
            entry.revents = level as i16;
        }
        for (at, slot) in &self.instances {
            if epoll::is_ready(self.stack, *slot) {
                let entry = &mut self.fds[*at];
                entry.revents = entry.events & (bit::IN | bit::RDNORM) as i16;
            }
        }
        self.fds.iter().any(|entry| entry.revents != 0)
    }

    /// Takes a look at the kernel's descriptors, and counts.
    fn finish(&mut self) -> Result<usize> {
        if !self.kernel.is_empty() {
            kernel::poll(&mut self.kernel, Some(Duration::ZERO), None)?;
            self.merge();
        }
        Ok(self.count())
    }

    fn merge(&mut self) {
        for (from, at) in self.kernel.iter().zip(&self.kernel_at) {
            self.fds[*at].revents |= from.revents;
        }
    }

    fn count(&self) -> usize {
        let ready = self.fds.iter().filter(|entry| entry.revents != 0);
        ready.count()
    }

    /// Sleeps until something may have happened. True if a descriptor of the kernel is ready, and
    /// `fds` is complete.
    fn sleep(&mut self, deadline: Deadline) -> Result<bool> {
        for (_, socket) in &self.sockets {
            self.stack.hold(*socket);
        }
        let time = deadline.slice(LIVENESS);
        if let [(_, socket)] = self.sockets[..]
            && self.kernel.is_empty()
            && self.mask.is_none()
        {
            return self.sleep_on_socket(socket, time).map(|()| false);
        }
        let mut set = self.stack.poll_sets().take(self.stack.tid());
        let sockets = self.sockets.iter().map(|(_, socket)| *socket);
        let channel = match &mut set {
            Some(set) => set.watch(self.stack, sockets).ok(),
            None => None,
        };
        if let Some(channel) = channel {
            self.sleep_on_set(channel, time)
        } else {
            self.sleep_in_kernel(None, time.min(NAP))
        }
    }

    fn sleep_on_socket(&mut self, socket: SocketId, time: Duration) -> Result<()> {
        let Some(record) = self.record(socket) else {
            return Ok(());
        };
        let seen = record.announce_waiter();
        let waits = !self.look();
        let slept = if waits {
            self.stack.before_sleep();
            futex::wait(&record.engine.wake, seen, Some(time))
        } else {
            futex::Wait::Woken
        };
        record.retract_waiter();
        self.woken(slept, time >= LIVENESS)
    }

    fn sleep_on_set(&mut self, channel: Channel, time: Duration) -> Result<bool> {
        let in_kernel = !self.kernel.is_empty() || self.mask.is_some();
        let kind = if in_kernel {
            ASLEEP_EVENTFD
        } else {
            ASLEEP_FUTEX
        };
        let seen = channel.arm(self.stack, kind);
        if self.look() {
            channel.disarm(self.stack);
            return Ok(false);
        }
        let result = if in_kernel {
            self.sleep_in_kernel(Some(channel), time)
        } else {
            self.stack.before_sleep();
            let slept = channel.sleep(self.stack, seen, time);
            self.woken(slept, time >= LIVENESS).map(|()| false)
        };
        channel.disarm(self.stack);
        result
    }

    fn sleep_in_kernel(&mut self, channel: Option<Channel>, time: Duration) -> Result<bool> {
        self.stack.before_sleep();
        self.kernel.extend(channel.map(|channel| pollfd {
            fd: channel.eventfd(),
            events: libc::POLLIN,
            revents: 0,
        }));
        let result = kernel::poll(&mut self.kernel, Some(time), self.mask);
        let bell = channel.and_then(|_| self.kernel.pop());
        let n = result?;
        if let Some(bell) = bell.filter(|bell| bell.revents != 0) {
            kernel::drain(bell.fd);
        }
        self.merge();
        let ready = self.fds.iter().any(|entry| entry.revents != 0);
        if n == 0 {
            self.woken(futex::Wait::TimedOut, time >= LIVENESS || channel.is_none())?;
        }
        if ready {
            // Sockets that have become ready meanwhile are reported as well.
            self.look();
            self.merge();
        }
        Ok(ready)
    }

    /// `long`: it may be that nobody is left to wake this thread.
    fn woken(&mut self, slept: futex::Wait, long: bool) -> Result<()> {
        match slept {
            futex::Wait::TimedOut if long => self.gone = !self.stack.is_alive(),
            futex::Wait::TimedOut | futex::Wait::Woken => {}
            futex::Wait::Interrupted => return Err(Errno(libc::EINTR)),
        }
        Ok(())
    }
}
