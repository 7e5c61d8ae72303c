//! Which bytes beyond rcv.nxt have arrived: ranges only, the bytes stand in the receive stream.

use core::ops::Range;

/// Most ranges kept. A segment that would open one more is refused: its sender repeats it.
pub(super) const MAX_RANGES: usize = 64;

/// Ranges of stream positions received out of order: sorted, disjoint, not adjacent.
#[derive(Clone, Debug)]
pub(super) struct Assembler {
    ranges: Vec<Held>,
    /// Counts insertions, to tell which range changed last.
    stamp: u32,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    start: u64,
    end: u64,
    stamp: u32,
}

/// Reassembly keeps [`MAX_RANGES`] ranges already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full;

impl Assembler {
    pub(super) const fn new() -> Self {
        Assembler {
            ranges: Vec::new(),
            stamp: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// End of the highest range, 0 if there is none.
    pub(super) fn end(&self) -> u64 {
        self.ranges.last().map_or(0, |held| held.end)
    }

    /// The first part of `range` that was received before.
    pub(super) fn overlap(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let at = self.ranges.partition_point(|held| held.end <= range.start);
        let held = self.ranges.get(at)?;
        let overlap = range.start.max(held.start)..range.end.min(held.end);
        (!overlap.is_empty()).then_some(overlap)
    }

    /// Notes the arrival of a range, which may overlap what is held.
    pub(super) fn insert(&mut self, range: Range<u64>) -> Result<(), Full> {
        if range.is_empty() {
            return Ok(());
        }
        self.stamp = self.stamp.wrapping_add(1);
        let stamp = self.stamp;
        let from = self.ranges.partition_point(|held| held.end < range.start);
        let to = self.ranges.partition_point(|held| held.start <= range.end);
        if from == to {
            if self.ranges.len() >= MAX_RANGES {
                return Err(Full);
            }
            self.ranges.insert(
                from,
                Held {
                    start: range.start,
                    end: range.end,
                    stamp,
                },
            );
            return Ok(());
        }
        let start = self.ranges[from].start.min(range.start);
        let end = self.ranges[to - 1].end.max(range.end);
        self.ranges[from] = Held { start, end, stamp };
        self.ranges.drain(from + 1..to);
        Ok(())
    }

    /// Everything before `next` is in order: returns how far the order now reaches, and forgets
    /// what it swallowed. Memory goes back once no hole is left.
    pub(super) fn advance(&mut self, next: u64) -> u64 {
        let swallowed = self.ranges.partition_point(|held| held.start <= next);
        let reached = self.ranges[..swallowed].iter().map(|held| held.end).max();
        self.ranges.drain(..swallowed);
        if self.ranges.is_empty() {
            self.ranges = Vec::new();
        }
        reached.map_or(next, |end| end.max(next))
    }

    /// Forgets the highest range (RFC 2018 section 8 allows it). Says whether there was one.
    pub(super) fn forget_highest(&mut self) -> bool {
        let forgot = self.ranges.pop().is_some();
        if self.ranges.is_empty() {
            self.ranges = Vec::new();
        }
        forgot
    }

    /// Up to `limit` ranges, the one that changed last first (RFC 2018 section 4).
    pub(super) fn most_recent(&self, limit: usize) -> impl Iterator<Item = Range<u64>> + '_ {
        let newest = self.stamp;
        let mut bound = None;
        core::iter::from_fn(move || {
            let age = |held: &&Held| newest.wrapping_sub(held.stamp);
            let older = |held: &&Held| bound.is_none_or(|bound| age(held) > bound);
            let next = self.ranges.iter().filter(older).min_by_key(age)?;
            bound = Some(newest.wrapping_sub(next.stamp));
            Some(next.start..next.end)
        })
        .take(limit)
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    fn holding(ranges: &[Range<u64>]) -> Assembler {
        let mut assembler = Assembler::new();
        for range in ranges {
            assembler.insert(range.clone()).unwrap();
        }
        assembler
    }

    fn recent(assembler: &Assembler) -> Vec<Range<u64>> {
        assembler.most_recent(3).collect()
    }

    #[test]
    fn overlapping_and_adjacent_ranges_become_one() {
        let assembler = holding(&[10..20, 30..40, 20..30]);
        assert_eq!(recent(&assembler), [10..40]);
        let assembler = holding(&[10..20, 30..40, 50..60, 15..55]);
        assert_eq!(recent(&assembler), [10..60]);
        let assembler = holding(&[10..40, 20..30]);
        assert_eq!(recent(&assembler), [10..40]);
    }

    #[test]
    fn what_came_twice_is_known() {
        let assembler = holding(&[10..20, 30..40]);
        assert_eq!(assembler.overlap(&(5..10)), None);
        assert_eq!(assembler.overlap(&(5..15)), Some(10..15));
        assert_eq!(assembler.overlap(&(12..13)), Some(12..13));
        assert_eq!(assembler.overlap(&(15..35)), Some(15..20));
        assert_eq!(assembler.overlap(&(20..30)), None);
        assert_eq!(assembler.overlap(&(40..50)), None);
    }

    #[test]
    fn the_range_that_changed_last_is_reported_first() {
        let mut assembler = holding(&[10..20, 30..40, 50..60, 70..80]);
        assert_eq!(recent(&assembler), [70..80, 50..60, 30..40]);
        assembler.insert(20..22).unwrap();
        assert_eq!(recent(&assembler), [10..22, 70..80, 50..60]);
    }

    #[test]
    fn order_reaches_to_the_next_hole() {
        let mut assembler = holding(&[10..20, 30..40]);
        assert_eq!(assembler.advance(5), 5);
        assert_eq!(assembler.advance(10), 20);
        assert_eq!(assembler.advance(35), 40);
        assert!(assembler.is_empty());
    }

    #[test]
    fn the_highest_range_is_forgotten_first() {
        let mut assembler = holding(&[10..20, 30..40]);
        assert!(assembler.forget_highest());
        assert_eq!((assembler.end(), assembler.advance(10)), (20, 20));
        assert!(!assembler.forget_highest());
    }

    #[test]
    fn one_hole_too_many_is_refused_and_growth_of_a_range_is_not() {
        let mut assembler = Assembler::new();
        for n in 0..MAX_RANGES as u64 {
            assembler.insert(10 * n + 1..10 * n + 5).unwrap();
        }
        assert_eq!(assembler.insert(5000..5001), Err(Full));
        assert_eq!(assembler.insert(5..8), Ok(()));
        assert_eq!(assembler.advance(1), 8);
        assert_eq!(assembler.insert(5000..5001), Ok(()));
    }

    #[test]
    fn agrees_with_a_set_of_bytes() {
        let mut state = 1u64;
        let mut random = move |bound: u64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % bound
        };
        for _ in 0..200 {
            let (mut assembler, mut bytes, mut next) = (Assembler::new(), [false; 300], 0);
            for _ in 0..60 {
                let start = next + random(120);
                let range = start..(start + random(25)).min(300);
                if start < 300 && assembler.insert(range.clone()).is_ok() {
                    bytes[range.start as usize..range.end.max(range.start) as usize].fill(true);
                }
                next = assembler.advance(next);
                let hole = bytes.iter().skip(next as usize).position(|got| !got);
                assert_eq!(
                    hole,
                    (next < 300).then_some(0),
                    "order stops at the first hole"
                );
            }
        }
    }
}
