//! The stack's half of an epoll instance: which of its sockets are ready, after Linux's algorithm
//! (`fs/eventpoll.c`).
//!
//! An edge puts a watch into the ready list. A wait walks the list and reports those whose level
//! has a bit that was asked for; level-triggered ones go back to the end of the list, so that the
//! next wait looks at them again, and stay there as long as their level holds.

use super::watches::{Watch, Watches};
use super::{EXCLUSIVE, PRIVATE_BITS};
use crate::errno::{Errno, Result};
use crate::readiness::channel::Channel;
use crate::readiness::kernel;
use crate::readiness::level::{Seen, bit, gone_level, level};
use crate::readiness::stack::{SocketId, Stack, launch};
use context::socket::flag;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

const ET: u32 = libc::EPOLLET as u32;
const ONESHOT: u32 = libc::EPOLLONESHOT as u32;

/// The sockets of one epoll instance.
pub struct Set {
    watches: Watches,
    channel: Option<Channel>,
    armed: bool,
    gone: bool,
}

impl Default for Set {
    fn default() -> Self {
        Set::new()
    }
}

impl Set {
    /// Empty.
    pub const fn new() -> Set {
        Set {
            watches: Watches::new(),
            channel: None,
            armed: false,
            gone: false,
        }
    }

    /// The way to the engine, once there is one.
    pub fn channel(&self) -> Option<Channel> {
        self.channel
    }

    /// Sockets that the program has added.
    pub fn len(&self) -> usize {
        self.watches.active()
    }

    /// Whether the program has added no socket.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes sure that there is a way to the engine, and that it is this process's: the child of a
    /// fork opens its own and asks for all edges anew. True if it was just opened.
    ///
    /// # Errors
    /// As [`Channel::open`].
    pub fn attach(&mut self, stack: &impl Stack) -> Result<bool> {
        if self.channel.is_some_and(|channel| channel.is_own(stack)) {
            return Ok(false);
        }
        let channel = Channel::open(stack)?;
        if let Some(parents) = self.channel.replace(channel) {
            parents.abandon();
        }
        self.armed = false;
        let all: Vec<u32> = self.watches.all().collect();
        for index in all {
            match self.watches.get(index) {
                Some(watch) if watch.active => {
                    let cookie = self.watches.cookie(index);
                    channel.watch(stack, watch.socket, cookie, is_exclusive(watch.events));
                    self.watches.push_ready(index);
                }
                _ => {
                    self.watches.remove(index);
                }
            }
        }
        Ok(true)
    }

    /// `EPOLL_CTL_ADD`. The set is attached.
    ///
    /// # Errors
    /// `EEXIST`, `ENOSPC`.
    pub fn add(
        &mut self,
        stack: &impl Stack,
        fd: RawFd,
        socket: SocketId,
        events: u32,
        data: u64,
    ) -> Result<()> {
        let found = self.watches.find(fd, socket);
        if found.is_some_and(|index| self.is_active(index)) {
            return Err(Errno(libc::EEXIST));
        }
        let index = match found.filter(|index| !self.must_ask_anew(*index, events)) {
            Some(index) => {
                self.watches.set_active(index, true);
                index
            }
            None => self.insert(
                stack,
                Watch {
                    fd,
                    socket,
                    events,
                    data,
                    active: true,
                    both: false,
                    seen: Seen::default(),
                },
            )?,
        };
        self.ask(stack, index, events, data);
        Ok(())
    }

    /// Whether the engine watches with another `EPOLLEXCLUSIVE` than the program asks for now; then the
    /// watch is gone.
    fn must_ask_anew(&mut self, index: u32, events: u32) -> bool {
        let watch = self.watches.get(index);
        let differs = watch.is_none_or(|w| is_exclusive(w.events) != is_exclusive(events));
        if differs {
            self.watches.remove(index);
        }
        differs
    }

    fn insert(&mut self, stack: &impl Stack, watch: Watch) -> Result<u32> {
        let (socket, exclusive) = (watch.socket, is_exclusive(watch.events));
        // Closed without a word.
        while let Some(index) = self.watches.of_earlier_life(socket) {
            self.watches.remove(index);
        }
        let index = self.watches.insert(watch)?;
        if let Some(channel) = self.channel {
            channel.watch(stack, socket, self.watches.cookie(index), exclusive);
        }
        Ok(index)
    }

    /// `EPOLL_CTL_MOD`.
    ///
    /// # Errors
    /// `ENOENT`; `EINVAL` for a watch that is `EPOLLEXCLUSIVE`.
    pub fn modify(
        &mut self,
        stack: &impl Stack,
        fd: RawFd,
        socket: SocketId,
        events: u32,
        data: u64,
    ) -> Result<()> {
        let index = self.active(fd, socket)?;
        let exclusive = |watch: &Watch| watch.events & EXCLUSIVE != 0;
        if self.watches.get(index).is_some_and(exclusive) {
            return Err(Errno(libc::EINVAL));
        }
        self.ask(stack, index, events, data);
        Ok(())
    }

    /// `EPOLL_CTL_DEL`. The engine is not told before the next edge, so that a program which adds
    /// the socket again soon pays for neither.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn delete(&mut self, fd: RawFd, socket: SocketId) -> Result<()> {
        let index = self.active(fd, socket)?;
        self.watches.set_active(index, false);
        Ok(())
    }

    /// Notes whether the kernel's epoll watches the same number, too.
    pub fn set_both(&mut self, fd: RawFd, socket: SocketId, both: bool) {
        if let Some(index) = self.watches.find(fd, socket)
            && let Some(watch) = self.watches.get_mut(index)
        {
            watch.both = both;
        }
    }

    fn active(&self, fd: RawFd, socket: SocketId) -> Result<u32> {
        let index = self.watches.find(fd, socket);
        let index = index.filter(|index| self.is_active(*index));
        index.ok_or(Errno(libc::ENOENT))
    }

    fn is_active(&self, index: u32) -> bool {
        self.watches.get(index).is_some_and(|watch| watch.active)
    }

    /// Sets what is asked for, and puts the watch into the ready list if it is ready for that.
    fn ask(&mut self, stack: &impl Stack, index: u32, events: u32, data: u64) {
        let Some(watch) = self.watches.get_mut(index) else {
            return;
        };
        watch.events = events | bit::ALWAYS;
        watch.data = data;
        if let Some(record) = watch.socket.record(stack.segment()) {
            launch(stack, watch.socket, record, events);
            if events & ET != 0 {
                watch.seen = Seen::now(record);
            }
            if self.gone || level(stack.segment(), record, events) & watch.events != 0 {
                self.watches.push_ready(index);
            } else {
                // What it becomes from here on is an edge.
                self.watches.unready(index);
            }
        }
    }

    /// Forgets all watches of a record, whose socket was closed.
    pub fn forget(&mut self, socket: u32) {
        while let Some(index) = self.watches.first_of(socket) {
            self.watches.remove(index);
        }
    }

    /// What is asked for of a socket under a number.
    pub fn watch(&self, fd: RawFd, socket: SocketId) -> Option<&Watch> {
        let watch = self.watches.get(self.watches.find(fd, socket)?);
        watch.filter(|watch| watch.active)
    }

    /// Takes the watch of a socket away, which the kernel serves from now on.
    pub fn hand_over(&mut self, stack: &impl Stack, fd: RawFd, socket: SocketId) -> Option<Watch> {
        let index = self.watches.find(fd, socket)?;
        if let Some(channel) = self.channel {
            channel.unwatch(stack, socket, self.watches.cookie(index));
        }
        self.watches.remove(index).filter(|watch| watch.active)
    }

    /// Another record stands behind the descriptors of `from` now: the watches move to it.
    pub fn renew(&mut self, stack: &impl Stack, from: SocketId, to: SocketId) {
        let all: Vec<u32> = self.watches.of_socket(from.index).collect();
        for index in all {
            if self
                .watches
                .get(index)
                .is_none_or(|watch| watch.socket != from)
            {
                continue;
            }
            let Some(watch) = self.watches.remove(index).filter(|watch| watch.active) else {
                continue;
            };
            // The place that was just freed is there.
            if let Ok(index) = self.insert(
                stack,
                Watch {
                    socket: to,
                    // Of the old connection; each edge of the new one counts.
                    seen: Seen::default(),
                    ..watch
                },
            ) {
                self.watches.push_ready(index);
            }
        }
    }

    /// Forgets everything and gives the channel back.
    pub fn clear(&mut self, stack: &impl Stack) {
        let before = std::mem::take(self);
        if let Some(channel) = before.channel.filter(|channel| channel.is_own(stack)) {
            channel.close(stack);
        }
    }

    /// The records that are watched.
    pub fn sockets(&self) -> impl Iterator<Item = u32> {
        let watches = self.watches.all();
        watches.filter_map(|index| Some(self.watches.get(index)?.socket.index))
    }

    /// Takes the edges that wait into the ready list.
    pub fn take_edges(&mut self, stack: &impl Stack) {
        let Some(channel) = self.channel else { return };
        let watches = &mut self.watches;
        let overflow = channel.take(stack, |event| {
            let index = watches.by_cookie(event.cookie);
            let index = index.filter(|index| {
                let watch = watches.get(*index);
                watch.is_some_and(|watch| watch.socket.index == event.socket)
            });
            if let Some(index) = index {
                edge(watches, &channel, stack, index);
            }
        });
        if overflow {
            let all: Vec<u32> = watches.all().collect();
            for index in all {
                edge(watches, &channel, stack, index);
            }
        }
    }

    /// Raises an edge that the application itself has made.
    pub fn raise(&mut self, socket: u32) {
        let all: Vec<u32> = self.watches.of_socket(socket).collect();
        for index in all {
            if let Some(watch) = self.watches.get(index)
                && watch.active
                && watch.events & !PRIVATE_BITS != 0
            {
                self.watches.push_ready(index);
            }
        }
    }

    /// The engine is gone: every socket is ready, and every call on it fails.
    pub fn set_gone(&mut self) {
        if !std::mem::replace(&mut self.gone, true) {
            let all: Vec<u32> = self.watches.all().collect();
            all.into_iter().for_each(|i| self.watches.push_ready(i));
        }
    }

    /// Whether a wait may find something: the ready list or the rings have entries.
    pub fn is_pending(&self, stack: &impl Stack) -> bool {
        self.watches.ready() != 0 || self.channel.is_some_and(|channel| channel.has_edges(stack))
    }

    /// Whether a wait would report something now.
    pub fn is_ready(&mut self, stack: &impl Stack) -> bool {
        self.take_edges(stack);
        for _ in 0..self.watches.ready() {
            let Some(index) = self.watches.pop_ready() else {
                break;
            };
            if self.level(stack, index) != 0 {
                self.watches.push_ready(index);
                return true;
            }
        }
        false
    }

    /// Reports ready sockets into `out` and returns how many there were.
    pub fn harvest(
        &mut self,
        stack: &impl Stack,
        epfd: RawFd,
        out: &mut [libc::epoll_event],
    ) -> usize {
        let mut reported = 0;
        for _ in 0..self.watches.ready() {
            if reported == out.len() {
                break;
            }
            let Some(index) = self.watches.pop_ready() else {
                break;
            };
            let events = self.level(stack, index);
            let Some(watch) = self.watches.get_mut(index) else {
                continue;
            };
            if events == 0 {
                continue;
            }
            out[reported] = libc::epoll_event {
                events,
                u64: watch.data,
            };
            reported += 1;
            if watch.events & ONESHOT != 0 {
                watch.events &= PRIVATE_BITS;
                if watch.both {
                    let (op, fd) = (libc::EPOLL_CTL_MOD, watch.fd);
                    // A number that was closed meanwhile is not watched any more.
                    let _ = kernel::epoll_ctl(epfd, op, fd, watch.events, watch.data);
                }
            } else if watch.events & ET == 0 {
                self.watches.push_ready(index);
            }
        }
        reported
    }

    /// The bits of a watch's level that were asked for. A watch whose socket has been closed
    /// disappears.
    fn level(&mut self, stack: &impl Stack, index: u32) -> u32 {
        let Some(watch) = self.watches.get(index) else {
            return 0;
        };
        let wanted = watch.events & !PRIVATE_BITS;
        if !watch.active || wanted == 0 {
            return 0;
        }
        let segment = stack.segment();
        let record = watch.socket.record(segment);
        let open = record.filter(|s| s.app.flags.load(Ordering::Acquire) & flag::CLOSED == 0);
        match open {
            record if self.gone => gone_level(record) & wanted,
            Some(record) => {
                launch(stack, watch.socket, record, wanted);
                level(segment, record, wanted) & wanted
            }
            None => {
                self.watches.remove(index);
                0
            }
        }
    }

    /// Announces a sleep of the given kind, for which see [`Channel::arm`].
    pub fn arm(&mut self, stack: &impl Stack, kind: u32) -> u32 {
        self.armed = true;
        self.channel.map_or(0, |channel| channel.arm(stack, kind))
    }

    /// Nobody sleeps any more: the engine need not wake anybody.
    pub fn disarm(&mut self, stack: &impl Stack) {
        if std::mem::take(&mut self.armed)
            && let Some(channel) = self.channel
        {
            channel.disarm(stack);
        }
    }
}

fn is_exclusive(events: u32) -> bool {
    events & EXCLUSIVE != 0
}

/// Takes one edge: into the ready list with the watch, if the edge can have raised what it asks for.
fn edge(watches: &mut Watches, channel: &Channel, stack: &impl Stack, index: u32) {
    let Some(watch) = watches.get_mut(index) else {
        return;
    };
    let socket = watch.socket;
    if !watch.active {
        channel.unwatch(stack, socket, watches.cookie(index));
        watches.remove(index);
        return;
    }
    let Some(record) = socket.record(stack.segment()) else {
        watches.remove(index);
        return;
    };
    let wanted = watch.events & !PRIVATE_BITS;
    // A level is looked at in any case. An edge is reported only if it is about what was asked for.
    let about = if watch.events & ET != 0 {
        let now = Seen::now(record);
        let before = std::mem::replace(&mut watch.seen, now);
        before.edge(&now, record)
    } else {
        u32::MAX
    };
    if wanted & about != 0 {
        watches.push_ready(index);
    }
}
