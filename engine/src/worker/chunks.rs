//! A worker's chunks: which are free, which are lent to application threads, which hold streams.

use context::Segment;
use context::chunk::{ChunkGeometry, Class};
use std::ops::Range;

/// Free, and used a moment ago.
const FREE: u32 = 0;
/// Free since the sweep before.
const COLD: u32 = 1;
/// Free, and its memory given back to the system.
const CLEAN: u32 = 2;
/// Of the engine's own, or a send stream's.
const IN_USE: u32 = 3;
/// A receive stream's.
const RECEIVED: u32 = 4;
/// Lent to process `value - GRANTED`.
const GRANTED: u32 = 5;

/// Chunks of each class that one step of the sweep looks at.
const SWEEP: u32 = 8192;
/// Runs of memory given back in one step: a system call each.
const MOST_RUNS: usize = 32;
/// The system gives and takes memory in pieces of this many bytes.
const PAGE: usize = 4096;

/// The pool of one worker. The budget bounds the bytes that are lent or in use together. Of it, an
/// eighth is never lent to writers and another never holds received bytes, so that neither side can
/// shut out the other; at the bounds, [`take`](ChunkPool::take), [`receive`](ChunkPool::receive) and
/// [`grant`](ChunkPool::grant) give nothing.
pub struct ChunkPool {
    geometry: ChunkGeometry,
    worker: usize,
    free: [Vec<u32>; 3],
    /// Chunks of each class that were never used yet: from here to the end of the range.
    fresh: [u32; 3],
    state: [Vec<u32>; 3],
    used: u64,
    /// Bytes that hold received data, a part of `used`.
    received: u64,
    budget: u64,
    /// Where the sweep of each class goes on.
    cursor: [u32; 3],
    /// Whether chunks were given back since the sweep's last step.
    freed: bool,
    /// Steps of the sweep until all memory that is free has been given back.
    sweeps_left: u32,
}

impl ChunkPool {
    /// The chunks of `worker`, all free; `budget` in bytes.
    pub fn new(geometry: ChunkGeometry, worker: usize, budget: u64) -> Self {
        ChunkPool {
            geometry,
            worker,
            free: Default::default(),
            fresh: Class::ALL.map(|class| geometry.range(class, worker).start),
            state: Class::ALL.map(|class| vec![CLEAN; geometry.range(class, worker).len()]),
            used: 0,
            received: 0,
            budget,
            cursor: [0; 3],
            freed: false,
            sweeps_left: 0,
        }
    }

    /// Bytes lent and in use.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// The pool's bound in bytes.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// Whether memory is scarce: three quarters of the budget are in use. Buffers stop growing then.
    pub fn is_pressed(&self) -> bool {
        self.used > self.budget / 4 * 3
    }

    /// Bytes that may still be lent to writers.
    pub fn left_to_writers(&self) -> u64 {
        let bound = self.budget - self.budget / 8;
        let lent = bound.saturating_sub(self.used - self.received);
        lent.min(self.budget - self.used)
    }

    /// Takes a chunk for the engine's own use.
    pub fn take(&mut self, class: Class) -> Option<u32> {
        self.allocate(class, IN_USE)
    }

    /// Takes a chunk for received bytes.
    pub fn receive(&mut self, class: Class) -> Option<u32> {
        let size = class.size() as u64;
        if self.received + size > self.budget - self.budget / 8 {
            return None;
        }
        let chunk = self.allocate(class, RECEIVED)?;
        self.received += size;
        Some(chunk)
    }

    /// Takes a chunk to be lent to a thread of `process`. While memory is scarce only the smallest
    /// are lent.
    pub fn grant(&mut self, class: Class, process: u32) -> Option<u32> {
        let fits = class.size() as u64 <= self.left_to_writers();
        if !fits || (self.is_pressed() && class != Class::ALL[0]) {
            return None;
        }
        self.allocate(class, GRANTED.checked_add(process)?)
    }

    /// Accepts a chunk that an application has put into a stream. False if it was not lent to one of
    /// `writers`: then the application lies.
    #[must_use]
    pub fn accept(&mut self, chunk: u32, writers: &[u32]) -> bool {
        match self.state_of(chunk) {
            Some(state)
                if state
                    .checked_sub(GRANTED)
                    .is_some_and(|process| writers.contains(&process)) =>
            {
                *state = IN_USE;
                true
            }
            _ => false,
        }
    }

    /// Gives back a chunk that is in use.
    pub fn release(&mut self, chunk: u32) {
        let Some(class) = self.geometry.class(chunk) else {
            return;
        };
        let Some(state) = self.state_of(chunk) else {
            return;
        };
        let old = *state;
        debug_assert!(
            matches!(old, IN_USE | RECEIVED),
            "chunk {chunk} is released twice"
        );
        if matches!(old, IN_USE | RECEIVED) {
            *state = FREE;
            self.free[class.index()].push(chunk);
            self.used -= class.size() as u64;
            self.freed = true;
        }
        if old == RECEIVED {
            self.received -= class.size() as u64;
        }
    }

    /// Whether a chunk is lent to `process`.
    pub fn is_lent_to(&mut self, chunk: u32, process: u32) -> bool {
        let state = self.state_of(chunk);
        state.is_some_and(|state| process.checked_add(GRANTED) == Some(*state))
    }

    /// Takes back a chunk if it is lent to `process`.
    pub fn take_back(&mut self, chunk: u32, process: u32) {
        if self.is_lent_to(chunk, process)
            && let Some(state) = self.state_of(chunk)
        {
            *state = IN_USE;
            self.release(chunk);
        }
    }

    /// Takes back everything lent to `process`.
    pub fn revoke(&mut self, process: u32) {
        let lent = process.checked_add(GRANTED);
        for class in Class::ALL {
            for i in 0..self.touched(class) {
                if Some(self.state[class.index()][i as usize]) == lent {
                    let first = self.geometry.range(class, self.worker).start;
                    self.take_back(first + i, process);
                }
            }
        }
    }

    /// Chunks of a class that were used at some time.
    fn touched(&self, class: Class) -> u32 {
        self.fresh[class.index()] - self.geometry.range(class, self.worker).start
    }

    /// Steps that look at each chunk twice.
    fn sweep_length(&self) -> u32 {
        let longest = Class::ALL.map(|class| self.touched(class).div_ceil(SWEEP));
        2 * longest.into_iter().max().unwrap_or(0) + 2
    }

    /// Whether [`give_back`](Self::give_back) may find anything to do.
    pub fn has_unused(&self) -> bool {
        self.freed || self.sweeps_left > 0
    }

    /// A step of the sweep that gives memory which has been free since the sweep before back to the
    /// system. Looks at a bounded number of chunks and makes a bounded number of system calls;
    /// returns how many bytes it gave back.
    pub fn give_back(&mut self, segment: &Segment) -> u64 {
        let mut given = 0;
        let mut runs = 0;
        self.sweeps_left = match std::mem::take(&mut self.freed) {
            true => self.sweep_length(),
            false => self.sweeps_left.saturating_sub(1),
        };
        for class in Class::ALL {
            // What shares a page goes together.
            let together = (PAGE / class.size()).max(1) as u32;
            let touched = self.touched(class) / together * together;
            let mut steps = SWEEP.min(touched) / together;
            while steps > 0 && runs < MOST_RUNS {
                if self.cursor[class.index()] >= touched {
                    self.cursor[class.index()] = 0;
                }
                let run = self.cold_run(class, together, touched, &mut steps);
                if run.is_empty() {
                    continue;
                }
                runs += 1;
                if segment.discard(run.clone()) {
                    given += (run.len() * class.size()) as u64;
                    self.mark(class, run, CLEAN);
                }
            }
        }
        self.freed |= runs == MOST_RUNS;
        given
    }

    /// Goes on from the cursor to the end of the next run that has been free since the sweep before.
    /// What was freed since is cold from now on.
    fn cold_run(&mut self, class: Class, together: u32, end: u32, steps: &mut u32) -> Range<u32> {
        let i = class.index();
        let first = self.geometry.range(class, self.worker).start;
        let mut run = 0..0;
        while *steps > 0 && self.cursor[i] < end {
            let group = self.cursor[i]..self.cursor[i] + together;
            let states = &mut self.state[i][group.start as usize..group.end as usize];
            let cold =
                states.iter().all(|state| matches!(*state, COLD | CLEAN)) && states.contains(&COLD);
            if !cold && !run.is_empty() {
                return first + run.start..first + run.end;
            }
            for state in states.iter_mut().filter(|state| **state == FREE) {
                *state = COLD;
            }
            if cold {
                run = if run.is_empty() {
                    group.clone()
                } else {
                    run.start..group.end
                };
            }
            self.cursor[i] = group.end;
            *steps -= 1;
        }
        first + run.start..first + run.end
    }

    fn mark(&mut self, class: Class, run: Range<u32>, state: u32) {
        let first = self.geometry.range(class, self.worker).start;
        let places = (run.start - first) as usize..(run.end - first) as usize;
        self.state[class.index()][places].fill(state);
    }

    fn allocate(&mut self, class: Class, state: u32) -> Option<u32> {
        let size = class.size() as u64;
        if self.used + size > self.budget {
            return None;
        }
        let i = class.index();
        let chunk = match self.free[i].pop() {
            Some(chunk) => chunk,
            None if self.fresh[i] < self.geometry.range(class, self.worker).end => {
                self.fresh[i] += 1;
                self.fresh[i] - 1
            }
            None => return None,
        };
        *self.state_of(chunk)? = state;
        self.used += size;
        Some(chunk)
    }

    fn state_of(&mut self, chunk: u32) -> Option<&mut u32> {
        let class = self.geometry.class(chunk)?;
        let range = self.geometry.range(class, self.worker);
        if !range.contains(&chunk) {
            return None;
        }
        self.state[class.index()].get_mut((chunk - range.start) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(budget: u64) -> ChunkPool {
        let geometry = ChunkGeometry {
            per_worker: [4, 2, 1],
            workers: 2,
            offsets: [0; 3],
        };
        ChunkPool::new(geometry, 1, budget)
    }

    #[test]
    fn the_budget_bounds_what_is_given() {
        let mut pool = pool(5000);
        let [small, ..] = Class::ALL;
        let a = pool.take(small).unwrap();
        pool.grant(small, 3).unwrap();
        assert_eq!(pool.take(small), None);
        pool.release(a);
        assert_eq!(pool.used(), 2048);
        assert_eq!(pool.take(small), Some(a), "the one used last is warm");
    }

    #[test]
    fn writers_leave_an_eighth_to_receivers() {
        let mut pool = pool(8 * 2048);
        let [small, ..] = Class::ALL;
        for _ in 0..3 {
            assert!(pool.grant(small, 1).is_some());
        }
        let mut pool = self::pool(4 * 2048);
        while pool.grant(small, 1).is_some() {}
        assert!(pool.take(small).is_some());
    }

    #[test]
    fn only_lent_chunks_of_this_worker_are_accepted() {
        let mut pool = pool(1 << 20);
        let [small, ..] = Class::ALL;
        let lent = pool.grant(small, 5).unwrap();
        let own = pool.take(small).unwrap();
        assert!(!pool.accept(own, &[5, 6]), "it holds a stream");
        assert!(!pool.accept(0, &[5, 6]), "it is another worker's");
        assert!(!pool.accept(u32::MAX, &[5, 6]));
        assert!(!pool.accept(lent, &[6, 7]), "it is lent to somebody else");
        assert!(pool.accept(lent, &[6, 5]));
        assert!(!pool.accept(lent, &[6, 5]), "a second time it is in use");
    }

    #[test]
    fn a_dead_process_gives_back_what_it_was_lent() {
        let mut pool = pool(1 << 20);
        for class in Class::ALL {
            pool.grant(class, 7).unwrap();
        }
        let kept = pool.grant(Class::ALL[0], 8).unwrap();
        pool.take_back(kept, 7);
        pool.revoke(7);
        assert_eq!(pool.used(), 2048);
        assert!(pool.accept(kept, &[8, 8]));
    }
}
