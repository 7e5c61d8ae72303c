//! Single-producer single-consumer rings in shared memory.
//!
//! Slots are atomics, so that a peer which writes where it should not can spoil values but never
//! cause undefined behaviour. Each side keeps its own cursor in private memory and reads only the
//! other's from the ring, checked.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A value on a cache line of its own.
#[repr(C, align(64))]
#[derive(Default)]
pub struct CacheLine<T>(pub T);

/// How often a recall begins anew because the consumer takes at the same time.
const RECALLS: usize = 4;

/// A ring of `N` entries of `W` words; `N` is a power of two.
#[repr(C)]
pub struct Ring<const W: usize, const N: usize> {
    tail: CacheLine<AtomicU32>,
    head: CacheLine<AtomicU32>,
    slots: [[AtomicU64; W]; N],
}

/// The other side has moved its cursor to where it cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the other side's ring cursor is out of range")]
pub struct Corrupt;

impl<const W: usize, const N: usize> Ring<W, N> {
    /// Entries that fit.
    pub const CAPACITY: u32 = N as u32;

    /// An empty ring (shared memory that is all zero is one, too).
    pub fn new() -> Self {
        const { assert!(N.is_power_of_two()) }
        Ring {
            tail: CacheLine::default(),
            head: CacheLine::default(),
            slots: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
        }
    }

    /// Makes the ring empty. Only while neither side uses it.
    pub fn reset(&self) {
        self.head.0.store(0, Ordering::Relaxed);
        self.tail.0.store(0, Ordering::Release);
    }

    /// The producer's cursor as last published.
    pub fn tail(&self) -> u32 {
        self.tail.0.load(Ordering::Acquire)
    }

    /// The consumer's cursor as last published.
    pub fn head(&self) -> u32 {
        self.head.0.load(Ordering::Acquire)
    }

    /// Producer: adds an entry at `*tail` and publishes it. False if the ring is full.
    ///
    /// # Errors
    /// [`Corrupt`] if the consumer's cursor lies.
    pub fn push(&self, tail: &mut u32, entry: [u64; W]) -> Result<bool, Corrupt> {
        let used = tail.wrapping_sub(self.head());
        if used > N as u32 {
            return Err(Corrupt);
        }
        if used == N as u32 {
            return Ok(false);
        }
        let slot = &self.slots[*tail as usize & (N - 1)];
        for (word, value) in slot.iter().zip(entry) {
            word.store(value, Ordering::Relaxed);
        }
        *tail = tail.wrapping_add(1);
        self.tail.0.store(*tail, Ordering::Release);
        Ok(true)
    }

    /// Consumer: takes the entry at `*head`, if there is one.
    ///
    /// # Errors
    /// [`Corrupt`] if the producer's cursor lies.
    pub fn pop(&self, head: &mut u32) -> Result<Option<[u64; W]>, Corrupt> {
        let entry = self.first(*head)?;
        if entry.is_some() {
            *head = head.wrapping_add(1);
            self.head.0.store(*head, Ordering::Release);
        }
        Ok(entry)
    }

    /// The entry at `head`, if there is one. It stays.
    ///
    /// # Errors
    /// [`Corrupt`] if the producer's cursor lies.
    pub fn first(&self, head: u32) -> Result<Option<[u64; W]>, Corrupt> {
        let waiting = self.tail().wrapping_sub(head);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > N as u32 {
            return Err(Corrupt);
        }
        Ok(Some(self.entry(head)))
    }

    /// Consumer of a ring whose producer may [`recall`](Ring::recall): takes the next entry, if there is
    /// one. Whoever moves the cursor first has what lies before it.
    pub fn take(&self) -> Option<[u64; W]> {
        let mut head = self.head();
        loop {
            let waiting = self.tail().wrapping_sub(head);
            let entry = self.entry(head);
            let moved = match waiting {
                1.. if waiting <= N as u32 => self.move_head(head, head.wrapping_add(1)),
                // Empty, or the producer has recalled and pushed since the look at the cursor.
                _ => Err(self.head()),
            };
            match moved {
                Ok(()) => return Some(entry),
                Err(now) if now == head => return None,
                Err(now) => head = now,
            }
        }
    }

    /// Producer, whose cursor is `tail`: takes back what the consumer has not [taken](Ring::take).
    pub fn recall(&self, tail: u32) -> Vec<[u64; W]> {
        let mut head = self.head();
        // A consumer that takes meanwhile needs few of what is there.
        for _ in 0..RECALLS {
            let waiting = tail.wrapping_sub(head);
            if waiting == 0 || waiting > N as u32 {
                break;
            }
            match self.move_head(head, tail) {
                Ok(()) => {
                    return (0..waiting)
                        .map(|i| self.entry(head.wrapping_add(i)))
                        .collect();
                }
                Err(now) => head = now,
            }
        }
        Vec::new()
    }

    fn move_head(&self, from: u32, to: u32) -> Result<(), u32> {
        let head = &self.head.0;
        head.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
    }

    fn entry(&self, at: u32) -> [u64; W] {
        let slot = &self.slots[at as usize & (N - 1)];
        std::array::from_fn(|i| slot[i].load(Ordering::Relaxed))
    }

    /// Entries between the published cursors, at most `N`.
    pub fn len(&self) -> u32 {
        self.tail().wrapping_sub(self.head()).min(N as u32)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.tail() == self.head()
    }
}

impl<const W: usize, const N: usize> Default for Ring<W, N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_out_in_order_and_a_full_ring_refuses() {
        let ring = Ring::<2, 4>::new();
        let (mut tail, mut head) = (0, 0);
        for i in 0..4 {
            assert_eq!(ring.push(&mut tail, [i, i * 2]), Ok(true));
        }
        assert_eq!(ring.push(&mut tail, [9, 9]), Ok(false));
        for i in 0..4 {
            assert_eq!(ring.first(head), Ok(Some([i, i * 2])));
            assert_eq!(ring.pop(&mut head), Ok(Some([i, i * 2])));
        }
        assert_eq!(ring.first(head), Ok(None));
        assert_eq!(ring.pop(&mut head), Ok(None));
    }

    #[test]
    fn cursors_may_wrap_around() {
        let ring = Ring::<1, 2>::new();
        let (mut tail, mut head) = (u32::MAX, u32::MAX);
        ring.tail.0.store(tail, Ordering::Relaxed);
        ring.head.0.store(head, Ordering::Relaxed);
        for i in 0..5 {
            assert_eq!(ring.push(&mut tail, [i]), Ok(true));
            assert_eq!(ring.pop(&mut head), Ok(Some([i])));
        }
    }

    #[test]
    fn a_lying_cursor_is_noticed() {
        let ring = Ring::<1, 2>::new();
        ring.tail.0.store(7, Ordering::Relaxed);
        assert_eq!(ring.pop(&mut 0), Err(Corrupt));
        ring.head.0.store(7, Ordering::Relaxed);
        assert_eq!(ring.push(&mut 0, [1]), Err(Corrupt));
    }

    #[test]
    fn what_is_not_taken_can_be_recalled() {
        let ring = Ring::<1, 4>::new();
        let mut tail = 0;
        for i in 0..3 {
            ring.push(&mut tail, [i]).unwrap();
        }
        assert_eq!(ring.take(), Some([0]));
        assert_eq!(ring.recall(tail), [[1], [2]]);
        assert_eq!((ring.take(), ring.recall(tail)), (None, vec![]));
        ring.push(&mut tail, [7]).unwrap();
        assert_eq!(ring.take(), Some([7]));
        ring.head.0.store(90, Ordering::Relaxed);
        assert_eq!((ring.take(), ring.recall(tail)), (None, vec![]), "it lies");
    }

    #[test]
    fn two_threads_lose_nothing() {
        let ring = Ring::<2, 64>::new();
        std::thread::scope(|s| {
            s.spawn(|| {
                let mut tail = 0;
                for i in 0..100_000 {
                    while !ring.push(&mut tail, [i, !i]).unwrap() {
                        std::hint::spin_loop();
                        std::thread::yield_now();
                    }
                }
            });
            let mut head = 0;
            for i in 0..100_000 {
                let entry = loop {
                    if let Some(entry) = ring.pop(&mut head).unwrap() {
                        break entry;
                    }
                    std::thread::yield_now();
                };
                assert_eq!(entry, [i, !i]);
            }
        });
    }
}
