//! Who holds a socket: the processes that have a descriptor of it, and the leases under which one
//! travels between them. The last to leave closes it.

use super::Stack;
use super::slots::{Role, Slot};
use crate::shared::{NO_PROCESS, Watches, lock};
use context::NONE;
use context::context::COMMANDS;
use context::control::Name;
use context::lock::is_taken_for;
use context::socket::flag;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

impl Slot {
    /// `process` has taken it from its listener's queue, if it waited there.
    pub fn adopt(&mut self, process: u32) {
        if self.waits_for.take().is_some() {
            self.holders.push(process);
        }
    }

    fn is(&self, generation: u16) -> bool {
        self.generation as u16 == generation && !matches!(self.role, Role::Free)
    }
}

impl Stack {
    /// What `from` holds of `names`, `to` holds as well from now on; if `from` is [`NO_PROCESS`],
    /// whoever holds it. What the threads with `contexts` have said is heard before. Returns how many
    /// sockets of this worker that were.
    pub fn share(&mut self, from: u32, to: u32, contexts: &[u32], names: &[Name]) -> usize {
        // It may have accepted or closed some of them just now.
        for context in contexts {
            self.drain_context(*context, COMMANDS);
        }
        let mut shared = 0;
        for name in names {
            let Some(slot) = self.slots.get(name.socket) else {
                continue;
            };
            let is_held = match from {
                NO_PROCESS => !slot.holders.is_empty(),
                from => slot.holders.contains(&from),
            };
            if slot.is(name.generation) && is_held {
                if !slot.holders.contains(&to) {
                    slot.holders.push(to);
                }
                shared += 1;
            }
        }
        shared
    }

    /// The last descriptor of a socket is gone from `holder`. `reset`: `SO_LINGER` with a time of 0.
    pub fn leave(&mut self, socket: u32, holder: u32, reset: bool) {
        match self.slots.get(socket).map(|slot| &slot.holders[..]) {
            Some([only]) if *only == holder => self.close_socket(socket, reset),
            Some(holders) if holders.contains(&holder) => self.leave_to_others(socket, holder),
            _ => {}
        }
    }

    /// What `holder` leaves unfinished must not keep the other holders waiting.
    fn leave_to_others(&mut self, socket: u32, holder: u32) {
        let shared = self.shared.clone();
        let (Some(slot), Some(record)) = (self.slots.get(socket), shared.segment.socket(socket))
        else {
            return;
        };
        let role = slot.role.clone();
        if let Role::Connection(id) = role {
            // It may have been killed between setting a bit and sending the command.
            let pending = flag::TX_PENDING | flag::RX_PENDING;
            record.app.flags.fetch_and(!pending, SeqCst);
            self.collect_writes(id);
            self.collect_reads(id);
        }
        // A chunk of its own that it has attached without writing to it.
        let open = record.app.tx_open.load(SeqCst);
        let exchange = |to| {
            record
                .app
                .tx_open
                .compare_exchange(open, to, SeqCst, Relaxed)
        };
        if self.pool.is_lent_to(open, holder) && exchange(NONE).is_ok() {
            self.pool.take_back(open, holder);
        }
        let is_its = |set: u32| {
            let set = shared.sets.get(set as usize);
            set.is_some_and(|set| set.process.load(Relaxed) == holder)
        };
        let forget = |watches: &mut Watches| {
            for watch in watches.iter_mut() {
                if watch.is_some_and(|watch| is_its(watch.set)) {
                    *watch = None;
                }
            }
        };
        if let Role::Listener(listener) = &role {
            forget(&mut lock(&listener.watches));
            // It may have been told of a connection that it has not accepted.
            self.raise(socket);
        }
        if let Some(slot) = self.slots.get(socket) {
            slot.holders.retain(|other| *other != holder);
            forget(&mut slot.watches);
        }
    }

    /// The last copy of a lease is gone.
    pub fn lease_gone(&mut self, lease: u32, name: Name) {
        let slot = self.slots.get(name.socket);
        if slot.is_some_and(|slot| slot.is(name.generation)) {
            self.leave(name.socket, lease, self.lingers_not(name.socket));
        }
    }

    /// A process is gone: what it held is closed as by `exit(2)`.
    pub fn process_gone(&mut self, process: u32, contexts: &[u32]) {
        for context in contexts {
            self.close_context(*context);
        }
        for taken in self.taken_by(process) {
            self.close_socket(taken, self.lingers_not(taken));
        }
        let held: Vec<u32> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.holders.contains(&process))
            .map(|(socket, _)| socket)
            .collect();
        for socket in held {
            self.leave(socket, process, self.lingers_not(socket));
            self.free_locks(socket, process);
        }
        self.pool.revoke(process);
    }

    /// Who was killed in the midst of a call has left its locks to those who have the socket still.
    fn free_locks(&mut self, socket: u32, process: u32) {
        let is_left = |slot: &mut Slot| {
            let holders = &slot.holders;
            !holders.is_empty() && !holders.iter().any(|other| is_taken_for(*other, process))
        };
        if self.slots.get(socket).is_some_and(is_left)
            && let Some(record) = self.shared.segment.socket(socket)
        {
            record.app.rx_lock.free_of(process);
            record.app.tx_lock.free_of(process);
        }
    }

    /// Connections that a process which is gone had taken from a queue, but not yet said so.
    fn taken_by(&self, process: u32) -> Vec<u32> {
        let segment = &self.shared.segment;
        let is_taken = |socket: u32, listener: u32| {
            let record = segment.socket(socket);
            let is_its = || record.is_some_and(|r| r.app.taker.load(Relaxed) == process);
            // What it only meant to take is at the head of the queue, or another process's by now:
            // that one has noted so before it took it.
            is_its() && self.listeners.next_to_accept(segment, listener) != Some(socket) && is_its()
        };
        self.slots
            .iter()
            .filter(|(socket, slot)| slot.waits_for.is_some_and(|l| is_taken(*socket, l)))
            .map(|(socket, _)| socket)
            .collect()
    }

    /// Whether the end of a socket resets its connection: `SO_LINGER` with a time of 0.
    fn lingers_not(&self, socket: u32) -> bool {
        let record = self.shared.segment.socket(socket);
        record.is_some_and(|record| record.options.lingers() == Some(0))
    }
}
