//! Lending records and chunks to application threads, so that `socket()` and `send()` need not ask.

use super::Stack;
use super::slots::Role;
use crate::shared::NO_PROCESS;
use context::chunk::Class;
use context::context::{COMMANDS, ContextLane, GrantRing};

/// What a worker knows of one application thread.
#[derive(Clone)]
pub struct ContextState {
    /// Process of the thread; [`NO_PROCESS`] if the context is not in use.
    pub process: u32,
    /// Own cursor in the command ring.
    pub head: u32,
    /// Own cursors in the grant rings: sockets, then chunks by class.
    tails: [u32; 4],
    /// How many of each are to be kept in the rings; doubled whenever the thread runs short.
    targets: [u32; 4],
}

/// First and largest numbers of grants: sockets, then chunks by class.
const FIRST: [u32; 4] = [32, 128, 8, 4];
const MOST: [u32; 4] = [256, 512, 64, 16];
/// Numbers of grants when memory is scarce.
const SCARCE: [u32; 4] = [256, 8, 2, 1];

impl Default for ContextState {
    fn default() -> Self {
        ContextState {
            process: NO_PROCESS,
            head: 0,
            tails: [0; 4],
            targets: FIRST,
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
        let process = state.process;
        if process == NO_PROCESS {
            return;
        }
        // With half of the memory gone, threads keep little in stock: it is for those that send.
        let scarce = self.pool.used() > self.pool.budget() / 2;
        let slots = &mut self.slots;
        fill(&lane.sockets, state, 0, short, false, || {
            slots.allocate(&shared.segment, process)
        });
        let pool = &mut self.pool;
        let [small, medium, large] = Class::ALL;
        fill(&lane.small, state, 1, short, scarce, || {
            pool.grant(small, process)
        });
        fill(&lane.medium, state, 2, short, scarce, || {
            pool.grant(medium, process)
        });
        fill(&lane.large, state, 3, short, scarce, || {
            pool.grant(large, process)
        });
    }

    /// Takes back what a thread has left in its rings. What it has taken out stays its process's.
    pub fn close_context(&mut self, context: u32) {
        let shared = self.shared.clone();
        let Some(lane) = shared.segment.lane(context, self.index) else {
            return;
        };
        // As many as can have waited: a thread that goes on pushing has ended badly.
        self.drain_context(context, COMMANDS);
        let Some(state) = self.contexts.get_mut(context as usize) else {
            return;
        };
        let ContextState { tails, process, .. } = std::mem::take(state);
        if process == NO_PROCESS {
            return;
        }
        // The rings are the application's to spoil: only what the process holds is taken.
        for socket in left_in(&lane.sockets, tails[0]) {
            if self
                .slots
                .get(socket)
                .is_some_and(|slot| slot.holder == process && matches!(slot.role, Role::Open))
            {
                self.close_socket(socket, false);
            }
        }
        for chunk in chunks_left(lane, tails) {
            self.pool.take_back(chunk, process);
        }
    }
}

fn fill<const N: usize>(
    ring: &GrantRing<N>,
    state: &mut ContextState,
    kind: usize,
    short: bool,
    scarce: bool,
    mut take: impl FnMut() -> Option<u32>,
) {
    let waiting = state.tails[kind].wrapping_sub(ring.head());
    if short && waiting == 0 {
        state.targets[kind] = (state.targets[kind] * 2).min(MOST[kind]);
    }
    let target = match scarce {
        true => state.targets[kind].min(SCARCE[kind]),
        false => state.targets[kind],
    };
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

fn left_in<const N: usize>(ring: &GrantRing<N>, tail: u32) -> Vec<u32> {
    let mut head = ring.head();
    let waiting = tail.wrapping_sub(head);
    if waiting > N as u32 {
        return Vec::new();
    }
    (0..waiting)
        .filter_map(|_| ring.pop(&mut head).ok().flatten())
        .map(|[word]| word as u32)
        .collect()
}

fn chunks_left(lane: &ContextLane, tails: [u32; 4]) -> Vec<u32> {
    let mut chunks = left_in(&lane.small, tails[1]);
    chunks.extend(left_in(&lane.medium, tails[2]));
    chunks.extend(left_in(&lane.large, tails[3]));
    chunks
}
