//! Lending records and chunks to application threads, so that `socket()` and `send()` need not ask.

use super::Stack;
use super::slots::Role;
use crate::shared::NO_PROCESS;
use context::chunk::Class;
use context::context::{COMMANDS, GrantRing};

/// What a worker knows of one application thread.
#[derive(Clone)]
pub struct ContextState {
    /// Process of the thread; [`NO_PROCESS`] if the context is not in use.
    pub process: u32,
    /// Own cursor in the command ring.
    pub head: u32,
    /// Whether the thread has sent commands since idle threads were last looked for.
    pub active: bool,
    /// Own cursors in the grant rings: sockets, then chunks by class.
    tails: [u32; 4],
    /// How many of each are to be kept in the rings; doubled whenever the thread runs short, halved
    /// when it leaves them unused.
    targets: [u32; 4],
    /// Refills in a row that found most of them unused.
    unused: [u8; 4],
}

/// First and largest numbers of grants: sockets, then chunks by class.
const FIRST: [u32; 4] = [16, 16, 4, 1];
const MOST: [u32; 4] = [256, 512, 64, 16];
/// What a thread is lent of what is scarce, and what it is lent of the last when it asks.
const SCARCE: [u32; 4] = [4, 8, 2, 1];
const LAST: [u32; 4] = [4, 2, 0, 0];
/// Refills in a row that find most grants unused, after which half as many are kept.
const PATIENCE: u8 = 200;
/// Time between two looks for threads that leave their grants unused, microseconds.
const RECALL_INTERVAL: u64 = 100_000;

impl Default for ContextState {
    fn default() -> Self {
        ContextState {
            process: NO_PROCESS,
            head: 0,
            active: true,
            tails: [0; 4],
            targets: FIRST,
            unused: [0; 4],
        }
    }
}

impl ContextState {
    /// How many grants of a kind are in the ring, and how many there are to be. `short`: the thread
    /// found a ring empty.
    fn want(&mut self, kind: usize, head: u32, short: bool, supply: Supply) -> (u32, u32) {
        let waiting = self.tails[kind].wrapping_sub(head);
        let target = &mut self.targets[kind];
        if short && waiting == 0 {
            *target = (*target * 2).clamp(1, MOST[kind]);
        }
        if waiting <= *target / 4 * 3 {
            self.unused[kind] = 0;
        } else if self.unused[kind] < PATIENCE {
            self.unused[kind] += 1;
        } else {
            self.unused[kind] = 0;
            *target = (*target / 2).max(1);
        }
        let target = match supply {
            Supply::Ample => *target,
            Supply::Scarce => (*target).min(SCARCE[kind]),
            Supply::Last if short => (*target).min(LAST[kind]),
            Supply::Last => 0,
        };
        (waiting, target)
    }

    /// Whether more chunks are kept for it than for a thread that does little.
    fn is_well_stocked(&self) -> bool {
        let mut chunks = self.targets.iter().zip(FIRST).skip(1);
        chunks.any(|(target, first)| *target > first)
    }
}

/// How much there is to lend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Supply {
    Ample,
    /// Threads keep little in stock: it is for those that use it.
    Scarce,
    /// Threads keep nothing in stock.
    Last,
}

impl Supply {
    fn of(left: u64, all: u64) -> Supply {
        match left {
            left if left > all / 2 => Supply::Ample,
            left if left > all / 4 => Supply::Scarce,
            _ => Supply::Last,
        }
    }
}

impl Stack {
    /// A thread of `process` has got this context.
    pub fn open_context(&mut self, context: u32, process: u32) {
        let index = context as usize;
        if self.contexts.len() <= index {
            self.contexts.resize(index + 1, ContextState::default());
        }
        if let Some(lane) = self.shared.segment.lane(context, self.index) {
            lane.reset();
            self.contexts[index] = ContextState {
                process,
                ..ContextState::default()
            };
            self.refill(context, false);
        }
    }

    /// Fills up the grant rings of a context. `short`: the thread found one empty.
    pub fn refill(&mut self, context: u32, short: bool) {
        let shared = self.shared.clone();
        let Some(lane) = shared.segment.lane(context, self.index) else {
            return;
        };
        let Some(state) = self.contexts.get_mut(context as usize) else {
            return;
        };
        state.active = true;
        if state.process == NO_PROCESS {
            return;
        }
        let memory = self.memory_supply();
        let sockets = self.slots.supply();
        let sockets = Supply::of(sockets.0, sockets.1);
        if sockets == Supply::Last && short && lane.sockets.is_empty() && !self.slots.has_free() {
            self.recall_sockets(Some(context));
        }
        let (slots, pool) = (&mut self.slots, &mut self.pool);
        let Some(state) = self.contexts.get_mut(context as usize) else {
            return;
        };
        let process = state.process;
        fill(&lane.sockets, state, 0, short, sockets, || {
            slots.allocate(&shared.segment, process)
        });
        let [small, medium, large] = Class::ALL;
        fill(&lane.small, state, 1, short, memory, || {
            pool.grant(small, process)
        });
        fill(&lane.medium, state, 2, short, memory, || {
            pool.grant(medium, process)
        });
        fill(&lane.large, state, 3, short, memory, || {
            pool.grant(large, process)
        });
    }

    fn memory_supply(&self) -> Supply {
        let budget = self.pool.budget();
        Supply::of(budget.saturating_sub(self.pool.used()), budget)
    }

    /// A fresh record for a connection; what idle threads leave unused is enough for that.
    pub fn socket_record(&mut self) -> Option<u32> {
        if !self.slots.has_free() {
            self.recall_sockets(None);
        }
        let shared = self.shared.clone();
        self.slots.allocate(&shared.segment, NO_PROCESS)
    }

    /// Takes back sockets that threads have in stock, except thread `but`'s.
    fn recall_sockets(&mut self, but: Option<u32>) {
        if self.now.as_micros() < self.sockets_recalled_at + RECALL_INTERVAL {
            return;
        }
        self.sockets_recalled_at = self.now.as_micros();
        for context in 0..self.contexts.len() as u32 {
            if Some(context) != but {
                self.take_sockets_back(context);
            }
        }
    }

    /// Takes back the chunks that threads have in stock which have not been heard of since the last time.
    pub fn recall_chunks(&mut self) {
        self.chunks_recalled_at = self.now.as_micros();
        for context in 0..self.contexts.len() {
            let state = &mut self.contexts[context];
            let active = std::mem::take(&mut state.active);
            if state.process != NO_PROCESS && !active {
                self.take_chunks_back(context as u32);
            }
        }
    }

    /// Threads which have not been heard of since the last time, and which had many chunks in stock, get fewer:
    /// memory that nobody uses can go back to the system.
    pub fn shorten_stocks(&mut self) {
        for context in 0..self.contexts.len() {
            let state = &mut self.contexts[context];
            let active = std::mem::take(&mut state.active);
            if state.process == NO_PROCESS || active || !state.is_well_stocked() {
                continue;
            }
            state.targets[1..].copy_from_slice(&FIRST[1..]);
            self.take_chunks_back(context as u32);
            self.refill(context as u32, false);
            self.contexts[context].active = false;
        }
    }

    /// When idle threads are next to be looked for, microseconds; `None` while memory is not scarce.
    pub fn recall_due(&self) -> Option<u64> {
        let scarce = self.memory_supply() != Supply::Ample;
        scarce.then_some(self.chunks_recalled_at + RECALL_INTERVAL)
    }

    /// Takes back what a thread has left in its rings. What it has taken out stays its process's.
    pub fn close_context(&mut self, context: u32) {
        // As many as can have waited: a thread that goes on pushing has ended badly.
        self.drain_context(context, COMMANDS);
        self.take_sockets_back(context);
        self.take_chunks_back(context);
        if let Some(state) = self.contexts.get_mut(context as usize) {
            *state = ContextState::default();
        }
    }

    /// The rings are the application's to spoil: only what the process holds is taken.
    fn take_sockets_back(&mut self, context: u32) {
        let shared = self.shared.clone();
        let (Some(state), Some(lane)) = (
            self.contexts.get(context as usize),
            shared.segment.lane(context, self.index),
        ) else {
            return;
        };
        let process = state.process;
        for [socket] in lane.sockets.recall(state.tails[0]) {
            let socket = socket as u32;
            if self
                .slots
                .get(socket)
                .is_some_and(|slot| matches!(slot.role, Role::Open))
            {
                self.leave(socket, process, false);
            }
        }
    }

    /// As [`take_sockets_back`](Self::take_sockets_back).
    fn take_chunks_back(&mut self, context: u32) {
        let (Some(state), Some(lane)) = (
            self.contexts.get(context as usize),
            self.shared.segment.lane(context, self.index),
        ) else {
            return;
        };
        let [_, small, medium, large] = state.tails;
        let small = lane.small.recall(small);
        let medium = lane.medium.recall(medium);
        let large = lane.large.recall(large);
        for [chunk] in small.into_iter().chain(medium).chain(large) {
            self.pool.take_back(chunk as u32, state.process);
        }
    }
}

fn fill<const N: usize>(
    ring: &GrantRing<N>,
    state: &mut ContextState,
    kind: usize,
    short: bool,
    supply: Supply,
    mut take: impl FnMut() -> Option<u32>,
) {
    let (waiting, target) = state.want(kind, ring.head(), short, supply);
    if waiting > target / 2 {
        return;
    }
    for _ in waiting..target {
        let Some(number) = take() else { return };
        if !matches!(
            ring.push(&mut state.tails[kind], [u64::from(number)]),
            Ok(true)
        ) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_lent_of_what_is_scarce_and_the_last_only_when_asked_for() {
        let ring = GrantRing::<512>::default();
        let mut state = ContextState::default();
        let mut lent = 0..;
        for _ in 0..9 {
            while ring.take().is_some() {}
            fill(&ring, &mut state, 1, true, Supply::Ample, || lent.next());
        }
        let many = ring.len();
        assert_eq!(many, MOST[1]);
        while ring.take().is_some() {}
        fill(&ring, &mut state, 1, false, Supply::Scarce, || lent.next());
        assert_eq!(ring.len(), SCARCE[1]);
        while ring.take().is_some() {}
        fill(&ring, &mut state, 1, false, Supply::Last, || lent.next());
        assert_eq!(ring.len(), 0);
        fill(&ring, &mut state, 1, true, Supply::Last, || lent.next());
        assert_eq!(ring.len(), LAST[1]);
    }

    #[test]
    fn what_a_thread_leaves_unused_is_lent_no_more() {
        let ring = GrantRing::<1024>::default();
        let mut state = ContextState::default();
        let mut lent = 0..;
        for _ in 0..3000 {
            fill(&ring, &mut state, 1, false, Supply::Ample, || lent.next());
        }
        assert_eq!(lent.start, FIRST[1]);
        assert!(state.targets[1] < FIRST[1] / 2);
        // It runs dry, and runs short again.
        while ring.take().is_some() {}
        let few = state.targets[1];
        fill(&ring, &mut state, 1, true, Supply::Ample, || lent.next());
        assert_eq!(state.targets[1], 2 * few);
    }
}
