//! Edges: telling ready sets and sleeping threads that a socket has changed.
//!
//! Edges of a burst are collected per socket, published at its end, and each sleeper is woken once.

use super::Stack;
use super::slots::Role;
use crate::shared::{Shared, Watches, lock};
use crate::stats::Counter;
use crate::sys;
use context::ready::{COALESCED, Event, ReadySet};
use context::socket::Socket;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Events after which sleepers are woken even though more input waits.
const WAKE_AT: usize = 64;

/// Edges not yet published and sets not yet woken.
#[derive(Default)]
pub struct Edges {
    sockets: Vec<u32>,
    sets: Vec<u32>,
    /// Own cursor in each ready set's ring.
    tails: Vec<u32>,
    published: usize,
    /// Where the search for an exclusive watch begins.
    turn: usize,
}

impl Stack {
    /// Notes that a socket has changed.
    pub fn raise(&mut self, socket: u32) {
        if let Some(slot) = self.slots.get(socket)
            && !slot.edge
        {
            slot.edge = true;
            self.edges.sockets.push(socket);
        }
    }

    /// Puts the edges into the ready sets, and wakes threads that block on single sockets. Sets are
    /// woken if `all`, or if many events have come together.
    pub fn publish_edges(&mut self, all: bool) {
        let mut sockets = std::mem::take(&mut self.edges.sockets);
        for socket in sockets.drain(..) {
            let Some(slot) = self.slots.get(socket) else {
                continue;
            };
            slot.edge = false;
            let shared = (&**self.shared, self.index);
            if let Role::Listener(listener) = &slot.role {
                let watches = lock(&listener.watches).clone();
                self.edges.tell(shared, socket, &watches);
            } else {
                self.edges.tell(shared, socket, &slot.watches);
            }
            if let Some(record) = self.shared.segment.socket(socket)
                && record.wake_waiters()
            {
                self.manners.woken();
                self.count(Counter::wakes);
            }
        }
        self.edges.sockets = sockets;
        if all || self.edges.published >= WAKE_AT {
            self.wake_sets();
        }
    }

    /// Wakes the sleepers of all sets that were told something.
    pub fn wake_sets(&mut self) {
        self.edges.published = 0;
        while let Some(index) = self.edges.sets.pop() {
            let Some(ready) = self.shared.segment.ready_set(index) else {
                continue;
            };
            let eventfd = &self.shared.sets[index as usize].eventfd;
            if ready.wake(|| sys::ring(eventfd.load(Relaxed))) {
                self.manners.woken();
                self.count(Counter::wakes);
            }
        }
    }

    /// Starts the ring of a set that has changed hands.
    pub fn reset_set_cursor(&mut self, set: u32) {
        if let Some(tail) = self.edges.tails.get_mut(set as usize) {
            *tail = 0;
        }
    }

    /// Whether nothing waits to be published or woken.
    pub fn edges_are_quiet(&self) -> bool {
        self.edges.sockets.is_empty() && self.edges.sets.is_empty()
    }
}

impl Edges {
    /// Tells the watches of a socket, whose state stands in its record already, for worker `worker`.
    pub fn tell(&mut self, (shared, worker): (&Shared, usize), socket: u32, watches: &Watches) {
        if watches.is_empty() {
            return;
        }
        let Some(record) = shared.segment.socket(socket) else {
            return;
        };
        let chosen = self.exclusive_sleeper(shared, record, watches);
        for (slot, watch) in watches.iter().enumerate() {
            let Some(watch) = watch else { continue };
            if watch.exclusive && chosen.is_some_and(|chosen| chosen != slot) {
                continue;
            }
            let slot = slot as u32;
            let Some(set) = shared.sets.get(watch.set as usize) else {
                continue;
            };
            if set.generation.load(SeqCst) != watch.set_generation {
                continue;
            }
            if slot < COALESCED && record.app.queued.fetch_or(1 << slot, SeqCst) & (1 << slot) != 0
            {
                continue;
            }
            let (Some(ring), Some(ready)) = (
                shared.segment.event_ring(watch.set, worker),
                shared.segment.ready_set(watch.set),
            ) else {
                continue;
            };
            let index = watch.set as usize;
            if self.tails.len() <= index {
                self.tails.resize(index + 1, 0);
            }
            let tail = &mut self.tails[index];
            let event = Event {
                cookie: watch.cookie,
                slot,
                socket,
            };
            if !matches!(ring.push(tail, event.to_words()), Ok(true)) {
                // Full, or spoilt by the application: it looks at everything itself then.
                ready.set_overflow();
                if slot < COALESCED {
                    record.app.queued.fetch_and(!(1 << slot), Relaxed);
                }
            }
            shared.counters[worker].count(Counter::events);
            self.published += 1;
            if !self.sets.contains(&watch.set) {
                self.sets.push(watch.set);
            }
        }
    }

    /// The exclusive watch that is told of an edge alone: one whose threads sleep, and that was not told
    /// of another edge yet. Without one, all are told, as none of them has to be woken. They take turns.
    fn exclusive_sleeper(
        &mut self,
        shared: &Shared,
        record: &Socket,
        watches: &Watches,
    ) -> Option<usize> {
        let queued = record.app.queued.load(SeqCst);
        let sleeps = |slot: &usize| {
            let Some(watch) = watches[*slot].filter(|watch| watch.exclusive) else {
                return false;
            };
            let set = shared.sets.get(watch.set as usize);
            let is_current =
                set.is_some_and(|set| set.generation.load(SeqCst) == watch.set_generation);
            let is_told = queued.checked_shr(*slot as u32).unwrap_or(0) & 1 != 0;
            let ready = shared.segment.ready_set(watch.set);
            is_current && !is_told && ready.is_some_and(ReadySet::is_asleep)
        };
        let n = watches.len();
        let turn = self.turn;
        let chosen = (0..n).map(|i| (turn + i) % n).find(sleeps)?;
        self.turn = chosen + 1;
        Some(chosen)
    }
}
