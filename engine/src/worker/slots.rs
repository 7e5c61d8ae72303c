//! Socket records of one worker, from the engine's side: who holds each and what it is.

use crate::few::Few;
use crate::shared::{Listener, NO_PROCESS, Watches};
use context::Segment;
use std::sync::Arc;

/// Numbers of the processes and leases that hold a socket; none while it waits to be accepted.
pub type Holders = Few<u32>;

/// What a socket record is used for.
#[derive(Clone)]
pub enum Role {
    /// Nobody has it.
    Free,
    /// Lent to a process: fresh, bound, or closed after a failed connection.
    Open,
    /// It is to connect as soon as an address to do so from is known.
    Opening,
    /// It shows this connection.
    Connection(u32),
    /// It listens.
    Listener(Arc<Listener>),
}

/// The engine's private knowledge of one record.
#[derive(Clone)]
pub struct Slot {
    /// The record's generation in this life.
    pub generation: u32,
    /// Who holds it.
    pub holders: Holders,
    /// Listener in whose queue it waits.
    pub waits_for: Option<u32>,
    /// What it is.
    pub role: Role,
    /// Who is told of its edges. Of a listener, the list stands in [`Listener`].
    pub watches: Watches,
    /// Whether it is in the list of edges of this round.
    pub edge: bool,
}

/// The records of one worker. Numbers are global: `first` and up.
pub struct Slots {
    first: u32,
    limit: u32,
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slots {
    /// The records of `worker`, all free.
    pub fn new(segment: &Segment, worker: usize) -> Self {
        let n = segment.geometry().sockets_per_worker;
        Slots {
            first: n * worker as u32,
            limit: n,
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Makes a record fresh and gives it to `holder`, which may be [`NO_PROCESS`]. `None` if all are in use.
    pub fn allocate(&mut self, segment: &Segment, holder: u32) -> Option<u32> {
        let local = match self.free.pop() {
            Some(local) => local,
            None if (self.slots.len() as u32) < self.limit => {
                self.slots.push(Slot {
                    generation: 0,
                    holders: Holders::default(),
                    waits_for: None,
                    role: Role::Free,
                    watches: Watches::default(),
                    edge: false,
                });
                self.slots.len() as u32 - 1
            }
            None => return None,
        };
        let socket = self.first + local;
        let slot = &mut self.slots[local as usize];
        slot.generation = segment.socket(socket)?.reset();
        if holder != NO_PROCESS {
            slot.holders.push(holder);
        }
        slot.role = Role::Open;
        Some(socket)
    }

    /// How many records are free, and how many there are.
    pub fn supply(&self) -> (u64, u64) {
        let used = self.slots.len() - self.free.len();
        (u64::from(self.limit) - used as u64, self.limit.into())
    }

    /// Whether a record is free.
    pub fn has_free(&self) -> bool {
        self.supply().0 > 0
    }

    /// Takes a record back.
    pub fn release(&mut self, socket: u32) {
        let Some(local) = self.local(socket) else {
            return;
        };
        let slot = &mut self.slots[local as usize];
        debug_assert!(
            !matches!(slot.role, Role::Free),
            "{socket} is released twice"
        );
        if !matches!(slot.role, Role::Free) {
            slot.role = Role::Free;
            slot.holders = Holders::default();
            slot.waits_for = None;
            slot.watches = Watches::default();
            self.free.push(local);
        }
    }

    /// The record, if it is one of this worker's that was ever used.
    #[inline]
    pub fn get(&mut self, socket: u32) -> Option<&mut Slot> {
        let local = self.local(socket)?;
        self.slots.get_mut(local as usize)
    }

    fn local(&self, socket: u32) -> Option<u32> {
        let local = socket.checked_sub(self.first)?;
        (local < self.slots.len() as u32).then_some(local)
    }

    /// All records ever used.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        (self.first..).zip(&self.slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use context::layout::Plan;

    #[test]
    fn what_is_known_of_a_record_takes_a_cache_line() {
        assert!(size_of::<Slot>() <= 64, "{}", size_of::<Slot>());
    }

    #[test]
    fn records_are_bounded_and_change_their_generation() {
        let plan = Plan {
            workers: 2,
            sockets: 128,
            contexts: 1,
            ready_sets: 1,
            memory: 1 << 20,
        };
        let segment = Segment::create(&plan, b"", true, 0).unwrap();
        let mut slots = Slots::new(&segment, 1);
        let all: Vec<u32> = std::iter::from_fn(|| slots.allocate(&segment, 5)).collect();
        assert_eq!(all, (64..128).collect::<Vec<_>>());
        let before = slots.get(70).unwrap().generation;
        slots.release(70);
        assert_eq!(slots.allocate(&segment, 6), Some(70));
        assert_ne!(slots.get(70).unwrap().generation, before);
        assert!(slots.get(63).is_none(), "another worker's");
    }
}
