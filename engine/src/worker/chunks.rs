//! A worker's chunks: which are free, which are lent to application threads, which hold streams.

use context::chunk::{ChunkGeometry, Class};

const FREE: u32 = 0;
const IN_USE: u32 = 1;
/// Lent to process `value - GRANTED`.
const GRANTED: u32 = 2;

/// The pool of one worker. The budget bounds the bytes that are lent or in use together; at the
/// bound [`take`](ChunkPool::take) and [`grant`](ChunkPool::grant) give nothing.
pub struct ChunkPool {
    geometry: ChunkGeometry,
    worker: usize,
    free: [Vec<u32>; 3],
    /// Chunks of each class that were never used yet: from here to the end of the range.
    fresh: [u32; 3],
    state: [Vec<u32>; 3],
    used: u64,
    budget: u64,
}

impl ChunkPool {
    /// The chunks of `worker`, all free; `budget` in bytes.
    pub fn new(geometry: ChunkGeometry, worker: usize, budget: u64) -> Self {
        ChunkPool {
            geometry,
            worker,
            free: Default::default(),
            fresh: Class::ALL.map(|class| geometry.range(class, worker).start),
            state: Class::ALL.map(|class| vec![FREE; geometry.range(class, worker).len()]),
            used: 0,
            budget,
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

    /// Takes a chunk for the engine's own use.
    pub fn take(&mut self, class: Class) -> Option<u32> {
        self.allocate(class, IN_USE)
    }

    /// Takes a chunk to be lent to a thread of `process`.
    ///
    /// Writers leave an eighth of the budget to receivers and to new connections.
    pub fn grant(&mut self, class: Class, process: u32) -> Option<u32> {
        if self.used + class.size() as u64 > self.budget - self.budget / 8 {
            return None;
        }
        self.allocate(class, GRANTED.checked_add(process)?)
    }

    /// Accepts a chunk that an application has put into a stream. False if it was not lent to one of
    /// `writers`: then the application lies.
    #[must_use]
    pub fn accept(&mut self, chunk: u32, writers: [u32; 2]) -> bool {
        match self.state_of(chunk) {
            Some(state)
                if writers
                    .map(|w| w.checked_add(GRANTED))
                    .contains(&Some(*state)) =>
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
        debug_assert_eq!(*state, IN_USE, "chunk {chunk} is released twice");
        if *state == IN_USE {
            *state = FREE;
            self.free[class.index()].push(chunk);
            self.used -= class.size() as u64;
        }
    }

    /// Takes back a chunk if it is lent to `process`.
    pub fn take_back(&mut self, chunk: u32, process: u32) {
        if let Some(state) = self.state_of(chunk)
            && process.checked_add(GRANTED) == Some(*state)
        {
            *state = IN_USE;
            self.release(chunk);
        }
    }

    /// Takes back everything lent to `process`.
    pub fn revoke(&mut self, process: u32) {
        let lent = process.checked_add(GRANTED);
        for class in Class::ALL {
            let first = self.geometry.range(class, self.worker).start;
            let touched = (self.fresh[class.index()] - first) as usize;
            for (i, state) in self.state[class.index()][..touched].iter_mut().enumerate() {
                if Some(*state) == lent {
                    *state = FREE;
                    self.free[class.index()].push(first + i as u32);
                    self.used -= class.size() as u64;
                }
            }
        }
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
        assert!(!pool.accept(own, [5, 6]), "it holds a stream");
        assert!(!pool.accept(0, [5, 6]), "it is another worker's");
        assert!(!pool.accept(u32::MAX, [5, 6]));
        assert!(!pool.accept(lent, [6, 7]), "it is lent to somebody else");
        assert!(pool.accept(lent, [6, 5]));
        assert!(!pool.accept(lent, [6, 5]), "a second time it is in use");
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
        assert!(pool.accept(kept, [8, 8]));
    }
}
