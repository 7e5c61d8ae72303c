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
    /// How many of each are to be kept in the rings; doubled whenever the thread runs short, halved
    /// when it leaves them unused.
    targets: [u32; 4],
    /// Refills in a row that found most of them unused.
    unused: [u8; 4],
}

/// First and largest numbers of grants: sockets, then chunks by class.
const FIRST: [u32; 4] = [32, 128, 8, 4];
const MOST: [u32; 4] = [256, 512, 64, 16];
/// Refills in a row that find most grants unused, after which half as many are kept.
const PATIENCE: u8 = 200;
/// Numbers of grants when memory is scarce.
const SCARCE: [u32; 4] = [256, 8, 2, 1];

impl Default for ContextState {
    fn default() -> Self {
        ContextState {
            process: NO_PROCESS,
            head: 0,
            tails: [0; 4],
            targets: FIRST,
            unused: [0; 4],
        }
    }
}

/// What a thread of a stack with so much memory is lent at first: a sixty-fourth of it at most, if
/// that is a chunk of each class.
fn first_targets(budget: u64) -> [u32; 4] {
    let mut targets = FIRST;
    let bytes = |targets: &[u32; 4]| -> u64 {
        let chunks = Class::ALL.iter().zip(&targets[1..]);
        chunks
            .map(|(class, n)| class.size() as u64 * u64::from(*n))
            .sum()
    };
    while bytes(&targets) > budget / 64 && targets[1..] != [1, 1, 1] {
        for target in &mut targets[1..] {
            *target = (*target / 2).max(1);
        }
    }
    targets
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
                targets: first_targets(self.pool.budget()),
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
                .is_some_and(|slot| matches!(slot.role, Role::Open))
            {
                self.leave(socket, process, false);
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
    if waiting <= state.targets[kind] / 4 * 3 {
        state.unused[kind] = 0;
    } else if state.unused[kind] < PATIENCE {
        state.unused[kind] += 1;
    } else {
        state.unused[kind] = 0;
        state.targets[kind] = (state.targets[kind] / 2).max(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_a_small_stack_is_lent_little_at_first() {
        assert_eq!(first_targets(1 << 30), FIRST);
        assert_eq!(first_targets(16 << 20), [32, 32, 2, 1]);
        assert_eq!(first_targets(0), [32, 1, 1, 1]);
    }

    #[test]
    fn what_a_thread_leaves_unused_is_lent_no_more() {
        let ring = GrantRing::<1024>::default();
        let mut state = ContextState::default();
        let mut lent = 0..;
        for _ in 0..3000 {
            fill(&ring, &mut state, 1, false, false, || lent.next());
        }
        assert_eq!(lent.start, FIRST[1]);
        assert!(state.targets[1] < FIRST[1] / 2);
        // It runs dry, and runs short again.
        let mut head = ring.head();
        while let Ok(Some(_)) = ring.pop(&mut head) {}
        let few = state.targets[1];
        fill(&ring, &mut state, 1, true, false, || lent.next());
        assert_eq!(state.targets[1], 2 * few);
    }
}
