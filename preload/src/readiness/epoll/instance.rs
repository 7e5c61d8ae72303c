//! One epoll instance: the kernel's, for the kernel's descriptors, and beside it the set of the
//! stack's sockets. A wait serves both.
//!
//! A thread that waits for sockets alone sleeps on the ready set's futex. One that waits for both
//! sleeps in the kernel, in which the set's eventfd is watched (edge-triggered, so that it need not
//! be drained) under a value of its own, which is taken out of the results.

use super::set::Set;
use super::watches::Watch;
use crate::cancel;
use crate::errno::{Errno, Result};
use crate::readiness::channel::{self, LIVENESS};
use crate::readiness::deadline::Deadline;
use crate::readiness::guarded::{self, Guarded};
use crate::readiness::kernel::{self, SignalMask};
use crate::readiness::level::bit;
use crate::readiness::stack::{SocketId, Stack};
use crate::section::Section;
use context::futex;
use context::ready::{ASLEEP_EVENTFD, ASLEEP_FUTEX};
use std::ops::{Deref, DerefMut};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long the kernel's descriptors may wait while sockets keep a thread busy.
const KERNEL_PATIENCE: Duration = Duration::from_micros(50);

/// The data of the set's eventfd in the kernel's epoll: a number that no program chooses.
const INTERNAL: u64 = 0x6d54_4350_b1d2_8ef3;

/// One epoll instance.
#[derive(Default)]
pub struct Instance {
    inner: Guarded<Inner>,
    /// Sockets have been added, so the set has a channel.
    used: AtomicBool,
    /// Descriptors in the kernel's epoll, as far as this process has added and removed them.
    in_kernel: AtomicU32,
    /// Another instance has been added to this one.
    has_sets: AtomicBool,
    /// Something waits for this instance's descriptor: another epoll, or poll(2).
    nested: AtomicBool,
    on_futex: AtomicU32,
    on_kernel: AtomicU32,
}

#[derive(Default)]
struct Inner {
    set: Set,
    looked: Option<Instant>,
    kernel_first: bool,
}

/// The set, while no handler of the program runs on this thread.
struct Held<'a> {
    // Let go first.
    inner: guarded::Held<'a, Inner>,
    _section: Section,
}

impl Deref for Held<'_> {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

impl Instance {
    fn lock(&self, stack: &impl Stack, comes_back: i32) -> Result<Held<'_>> {
        let _section = Section::enter();
        let inner = self.inner.lock(stack.tid()).ok_or(Errno(comes_back))?;
        Ok(Held { inner, _section })
    }

    /// For `EPOLL_CTL_ADD` and friends: a signal handler that interrupts the same thread's own
    /// operation on the instance gets `ENOMEM`.
    fn edit(&self, stack: &impl Stack) -> Result<Held<'_>> {
        self.lock(stack, libc::ENOMEM)
    }

    /// Opens the channel, and has the kernel's epoll watch its eventfd.
    fn attach(&self, stack: &impl Stack, epfd: RawFd, inner: &mut Inner) -> Result<()> {
        if !inner.set.attach(stack)? {
            return Ok(());
        }
        let Some(channel) = inner.set.channel() else {
            return Ok(());
        };
        let events = bit::IN | libc::EPOLLET as u32;
        let op = libc::EPOLL_CTL_ADD;
        if let Err(error) = kernel::epoll_ctl(epfd, op, channel.eventfd(), events, INTERNAL) {
            inner.set.clear(stack);
            return Err(error);
        }
        self.used.store(true, Ordering::SeqCst);
        if self.on_kernel.load(Ordering::SeqCst) != 0 || self.is_nested() {
            inner.set.arm(stack, ASLEEP_EVENTFD);
        }
        Ok(())
    }

    /// `EPOLL_CTL_ADD` of a socket.
    ///
    /// # Errors
    /// `EEXIST`, `ENOSPC`, `ENOMEM`.
    pub fn add(
        &self,
        stack: &impl Stack,
        epfd: RawFd,
        fd: RawFd,
        socket: SocketId,
        events: u32,
        data: u64,
    ) -> Result<()> {
        let mut inner = self.edit(stack)?;
        self.attach(stack, epfd, &mut inner)?;
        inner.set.add(stack, fd, socket, events, data)?;
        self.wake_others(stack, &mut inner);
        Ok(())
    }

    /// `EPOLL_CTL_MOD` of a socket.
    ///
    /// # Errors
    /// `ENOENT`, `EINVAL`, `ENOMEM`.
    pub fn modify(
        &self,
        stack: &impl Stack,
        fd: RawFd,
        socket: SocketId,
        events: u32,
        data: u64,
    ) -> Result<()> {
        let mut inner = self.edit(stack)?;
        inner.set.modify(stack, fd, socket, events, data)?;
        self.wake_others(stack, &mut inner);
        Ok(())
    }

    /// `EPOLL_CTL_DEL` of a socket.
    ///
    /// # Errors
    /// `ENOENT`, `ENOMEM`.
    pub fn delete(&self, stack: &impl Stack, fd: RawFd, socket: SocketId) -> Result<()> {
        self.edit(stack)?.set.delete(fd, socket)
    }

    /// Notes whether the kernel's epoll watches the same number, behind which a kernel socket
    /// listens, too.
    pub fn set_both(&self, stack: &impl Stack, fd: RawFd, socket: SocketId, both: bool) {
        if let Ok(mut inner) = self.edit(stack) {
            inner.set.set_both(fd, socket, both);
        }
    }

    /// A descriptor was added to the kernel's epoll, or removed.
    pub fn count_kernel(&self, stack: &impl Stack, added: bool) {
        let count = &self.in_kernel;
        if !added {
            // Closed descriptors leave the kernel's epoll unseen, so the count errs upwards.
            let _ = count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        } else if count.fetch_add(1, Ordering::SeqCst) == 0
            && self.used.load(Ordering::SeqCst)
            && let Ok(inner) = self.edit(stack)
            && let Some(channel) = inner.set.channel()
        {
            // Who sleeps for sockets alone must sleep in the kernel from now on.
            channel.wake(stack);
        }
    }

    /// Another instance was added to this one.
    pub fn note_set(&self) {
        self.has_sets.store(true, Ordering::SeqCst);
    }

    /// Whether other instances have been added to this one.
    pub fn has_sets(&self) -> bool {
        self.has_sets.load(Ordering::SeqCst)
    }

    /// Another epoll, or poll(2), waits for this instance's descriptor: from now on that becomes
    /// readable when sockets are ready.
    pub fn nest(&self, stack: &impl Stack) {
        if !self.nested.swap(true, Ordering::SeqCst)
            && let Ok(mut inner) = self.edit(stack)
        {
            inner.set.take_edges(stack);
            self.leave(stack, &mut inner);
        }
    }

    /// Before somebody looks at the descriptor of a nested instance: if no socket is ready any more, it
    /// is not readable any more.
    pub fn settle(&self, stack: &impl Stack) {
        if !self.is_nested() || !self.used.load(Ordering::SeqCst) {
            return;
        }
        let Ok(mut inner) = self.edit(stack) else {
            return;
        };
        let Some(channel) = inner.set.channel() else {
            return;
        };
        if inner.set.is_ready(stack) {
            return;
        }
        // What comes from here on rings again.
        kernel::drain(channel.eventfd());
        inner.set.arm(stack, ASLEEP_EVENTFD);
        if inner.set.is_ready(stack) {
            channel.wake(stack);
        }
    }

    /// Whether a wait must look at the kernel's epoll, too.
    fn is_mixed(&self) -> bool {
        self.in_kernel.load(Ordering::SeqCst) != 0 || self.is_nested()
    }

    fn is_nested(&self) -> bool {
        self.nested.load(Ordering::SeqCst)
    }

    /// Whether a wait would report a socket now.
    pub fn is_ready(&self, stack: &impl Stack) -> bool {
        self.used.load(Ordering::SeqCst)
            && self
                .edit(stack)
                .is_ok_and(|mut inner| inner.set.is_ready(stack))
    }

    /// Forgets all watches of a record, whose socket was closed.
    pub fn forget(&self, stack: &impl Stack, socket: u32) {
        // A handler that interrupts its own thread leaves the watch to be found stale.
        if let Ok(mut inner) = self.edit(stack) {
            inner.set.forget(socket);
        }
    }

    /// Raises an edge that the application itself has made.
    pub fn raise(&self, stack: &impl Stack, socket: u32) {
        if let Ok(mut inner) = self.edit(stack) {
            inner.set.raise(socket);
            self.wake_others(stack, &mut inner);
        }
    }

    /// Takes the watch of a socket away, which the kernel serves from now on.
    pub fn hand_over(&self, stack: &impl Stack, fd: RawFd, socket: SocketId) -> Option<Watch> {
        let mut inner = self.edit(stack).ok()?;
        inner.set.hand_over(stack, fd, socket)
    }

    /// What is asked for of a socket under a number.
    pub fn watch(&self, stack: &impl Stack, fd: RawFd, socket: SocketId) -> Option<Watch> {
        self.edit(stack).ok()?.set.watch(fd, socket).cloned()
    }

    /// Another record stands behind the descriptors of `from` now. Whether it was watched.
    pub fn renew(&self, stack: &impl Stack, from: SocketId, to: SocketId) -> bool {
        self.edit(stack).is_ok_and(|mut inner| {
            inner.set.renew(stack, from, to);
            self.wake_others(stack, &mut inner);
            inner.set.sockets().any(|socket| socket == to.index)
        })
    }

    /// The records that are watched.
    pub fn sockets(&self, stack: &impl Stack) -> Vec<u32> {
        self.edit(stack)
            .map_or_else(|_| Vec::new(), |inner| inner.set.sockets().collect())
    }

    /// The descriptor was closed: back to what a new instance is.
    pub fn clear(&self, stack: &impl Stack) {
        if let Ok(mut inner) = self.edit(stack) {
            if let Some(channel) = inner.set.channel() {
                channel.wake(stack);
            }
            inner.set.clear(stack);
            inner.looked = None;
        }
        self.used.store(false, Ordering::SeqCst);
        self.nested.store(false, Ordering::SeqCst);
        self.has_sets.store(false, Ordering::SeqCst);
        self.in_kernel.store(0, Ordering::SeqCst);
    }

    /// Takes the lock for the time of a fork.
    pub fn lock_for_fork(&self, stack: &impl Stack) {
        self.inner.lock_for_fork(stack.tid());
    }

    /// After a fork, in parent or child: frees the lock. The child has none of the parent's
    /// sleepers.
    pub fn unlock_after_fork(&self, in_child: bool) {
        if in_child {
            self.on_futex.store(0, Ordering::SeqCst);
            self.on_kernel.store(0, Ordering::SeqCst);
            // The parent may add descriptors to the kernel's epoll, which both share.
            self.in_kernel.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.unlock_after_fork();
    }

    /// epoll_pwait2(2).
    ///
    /// # Errors
    /// As epoll_pwait2(2).
    pub fn wait(
        &self,
        stack: &impl Stack,
        epfd: RawFd,
        out: &mut [libc::epoll_event],
        deadline: Deadline,
        mask: Option<SignalMask>,
    ) -> Result<usize> {
        if !self.used.load(Ordering::SeqCst)
            && let Some(n) = self.wait_for_kernel(stack, epfd, out, deadline, mask)?
        {
            return Ok(n);
        }
        let mut may_spin = channel::spins(stack);
        let (mut looked, mut just_looked) = (false, false);
        loop {
            let mut inner = self.lock(stack, libc::EINTR)?;
            if inner.set.channel().is_none() {
                // Closed while this thread waited.
                return Err(Errno(libc::EBADF));
            }
            self.attach(stack, epfd, &mut inner)?;
            if std::mem::take(&mut just_looked) {
                inner.looked = Some(Instant::now());
            }
            inner.set.take_edges(stack);
            let n = self.collect(stack, epfd, &mut inner, out)?;
            if n > 0 {
                self.leave(stack, &mut inner);
                return Ok(n);
            }
            let in_kernel = self.is_mixed() || mask.is_some();
            if deadline.is_past() {
                self.leave(stack, &mut inner);
                drop(inner);
                let look = in_kernel && !looked;
                let n = if look { self.look(epfd, out)? } else { 0 };
                if n == 0 {
                    stack.before_return();
                }
                return Ok(n);
            }
            if cancel::is_due() {
                self.leave(stack, &mut inner);
                return Err(Errno(libc::EINTR));
            }
            if std::mem::take(&mut may_spin) {
                let channel = inner.set.channel();
                drop(inner);
                channel::spin(stack, || channel.is_some_and(|c| c.has_edges(stack)));
                continue;
            }
            let Some(slept) = self.sleep(stack, epfd, inner, out, deadline, in_kernel, mask) else {
                continue;
            };
            looked |= in_kernel;
            just_looked = in_kernel;
            let mut n = match slept {
                Ok(n) => n,
                Err(error) => {
                    let mut inner = self.lock(stack, libc::EINTR)?;
                    self.leave(stack, &mut inner);
                    return Err(error);
                }
            };
            if n > 0 {
                let mut inner = self.lock(stack, libc::EINTR)?;
                inner.looked = Some(Instant::now());
                inner.set.take_edges(stack);
                n += inner.set.harvest(stack, epfd, &mut out[n..]);
                self.leave(stack, &mut inner);
                return Ok(n);
            }
        }
    }

    /// Waits for the kernel's descriptors alone. `None` if a socket was added meanwhile.
    fn wait_for_kernel(
        &self,
        stack: &impl Stack,
        epfd: RawFd,
        out: &mut [libc::epoll_event],
        deadline: Deadline,
        mask: Option<SignalMask>,
    ) -> Result<Option<usize>> {
        stack.before_return();
        let asleep = Asleep::new(&self.on_kernel);
        if self.used.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let result = kernel::epoll_wait(epfd, out, deadline.remaining(), mask);
        drop(asleep);
        let n = strip(out, result?);
        let woken = n == 0 && self.used.load(Ordering::SeqCst) && !deadline.is_past();
        Ok((!woken).then_some(n))
    }

    /// Reports what is ready, without waiting: sockets, and now and then the kernel's descriptors,
    /// so that neither starves.
    fn collect(
        &self,
        stack: &impl Stack,
        epfd: RawFd,
        inner: &mut Inner,
        out: &mut [libc::epoll_event],
    ) -> Result<usize> {
        if !inner.set.is_pending(stack) {
            return Ok(0);
        }
        let mut n = 0;
        let patient = |at: Instant| at.elapsed() < KERNEL_PATIENCE;
        if self.is_mixed() && !inner.looked.is_some_and(patient) {
            inner.kernel_first = !inner.kernel_first;
            let share = (out.len() + usize::from(inner.kernel_first)) / 2;
            if share > 0 {
                n = self.look(epfd, &mut out[..share])?;
                inner.looked = Some(Instant::now());
            }
        }
        Ok(n + inner.set.harvest(stack, epfd, &mut out[n..]))
    }

    /// What is ready in the kernel.
    fn look(&self, epfd: RawFd, out: &mut [libc::epoll_event]) -> Result<usize> {
        let n = kernel::epoll_wait(epfd, out, Some(Duration::ZERO), None)?;
        Ok(strip(out, n))
    }

    /// Sleeps until something may have happened. `None` if it has already; else how many of the
    /// kernel's descriptors are in `out`, or why the sleep ended.
    #[allow(clippy::too_many_arguments)]
    fn sleep(
        &self,
        stack: &impl Stack,
        epfd: RawFd,
        mut inner: Held<'_>,
        out: &mut [libc::epoll_event],
        deadline: Deadline,
        in_kernel: bool,
        mask: Option<SignalMask>,
    ) -> Option<Result<usize>> {
        let (kind, count) = if in_kernel {
            (ASLEEP_EVENTFD, &self.on_kernel)
        } else {
            (ASLEEP_FUTEX, &self.on_futex)
        };
        let asleep = Asleep::new(count);
        let seen = inner.set.arm(stack, kind);
        if inner.set.is_pending(stack) {
            return None;
        }
        let channel = inner.set.channel()?;
        let watching = !inner.set.is_empty();
        drop(inner);
        stack.before_sleep();
        let time = deadline.slice(LIVENESS);
        let slept = if in_kernel {
            let time = if watching {
                Some(time)
            } else {
                deadline.remaining()
            };
            match kernel::epoll_wait(epfd, out, time, mask) {
                Ok(0) => Ok(None),
                Ok(n) => Ok(Some(strip(out, n))),
                Err(error) => Err(error),
            }
        } else {
            match channel.sleep(stack, seen, time) {
                futex::Wait::TimedOut => Ok(None),
                futex::Wait::Woken => Ok(Some(0)),
                futex::Wait::Interrupted => Err(Errno(libc::EINTR)),
            }
        };
        drop(asleep);
        if matches!(slept, Ok(None))
            && watching
            && !stack.is_alive()
            && let Ok(mut inner) = self.edit(stack)
        {
            inner.set.set_gone();
        }
        Some(slept.map(|n| n.unwrap_or(0)))
    }

    /// A thread goes back to the program: sees to those that still sleep.
    fn leave(&self, stack: &impl Stack, inner: &mut Inner) {
        let on_kernel = self.on_kernel.load(Ordering::SeqCst) != 0;
        if on_kernel || self.is_nested() {
            inner.set.arm(stack, ASLEEP_EVENTFD);
        } else if self.on_futex.load(Ordering::SeqCst) != 0 {
            inner.set.arm(stack, ASLEEP_FUTEX);
        } else {
            inner.set.disarm(stack);
            return;
        }
        self.wake_others(stack, inner);
    }

    /// Wakes whoever sleeps if something is left to be reported.
    fn wake_others(&self, stack: &impl Stack, inner: &mut Inner) {
        if let Some(channel) = inner.set.channel()
            && inner.set.is_pending(stack)
        {
            channel.wake(stack);
        }
    }
}

/// A thread that sleeps, or is about to, is counted until this is dropped.
struct Asleep<'a>(&'a AtomicU32);

impl<'a> Asleep<'a> {
    fn new(count: &'a AtomicU32) -> Asleep<'a> {
        count.fetch_add(1, Ordering::SeqCst);
        Asleep(count)
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Takes the set's eventfd out of `n` events of the kernel and returns how many are left.
fn strip(out: &mut [libc::epoll_event], n: usize) -> usize {
    let mut kept = 0;
    for at in 0..n {
        if { out[at].u64 } != INTERNAL {
            out[kept] = out[at];
            kept += 1;
        }
    }
    kept
}
