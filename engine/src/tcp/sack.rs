//! The sender's scoreboard of what the peer holds out of order (RFC 2018, RFC 6675 section 4).

use core::ops::Range;

/// Most ranges kept. A block that would open one more is ignored: its bytes count as not received,
/// which costs at worst a needless retransmission.
const MAX_RANGES: usize = 128;

/// Discontiguous ranges above a byte that make it lost (RFC 6675: DupThresh).
const DUP_THRESH: usize = 3;

/// Ranges of positions above snd.una that the peer has: sorted, disjoint, not adjacent.
#[derive(Clone, Debug, Default)]
pub(super) struct Scoreboard {
    ranges: Vec<Range<u64>>,
}

impl Scoreboard {
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Notes a block; says how many bytes of it are news.
    pub(super) fn add(&mut self, block: Range<u64>) -> u64 {
        let from = self.ranges.partition_point(|range| range.end < block.start);
        let to = self
            .ranges
            .partition_point(|range| range.start <= block.end);
        if from == to {
            if block.is_empty() || self.ranges.len() >= MAX_RANGES {
                return 0;
            }
            self.ranges.insert(from, block.clone());
            return block.end - block.start;
        }
        let known: u64 = self.ranges[from..to]
            .iter()
            .map(|range| range.end - range.start)
            .sum();
        let start = self.ranges[from].start.min(block.start);
        let end = self.ranges[to - 1].end.max(block.end);
        self.ranges[from] = start..end;
        self.ranges.drain(from + 1..to);
        end - start - known
    }

    /// Forgets everything before `una`. Memory goes back once nothing is left.
    pub(super) fn advance(&mut self, una: u64) {
        if self.ranges.is_empty() {
            return;
        }
        let passed = self.ranges.partition_point(|range| range.end <= una);
        self.ranges.drain(..passed);
        match self.ranges.first_mut() {
            Some(first) => first.start = first.start.max(una),
            None => self.ranges = Vec::new(),
        }
    }

    /// Forgets everything: the peer may have discarded what it reported (RFC 2018 section 8).
    pub(super) fn clear(&mut self) {
        self.ranges = Vec::new();
    }

    /// Whether the byte at `una` is marked although the peer does not acknowledge it: it discarded
    /// what it had reported.
    pub(super) fn reneged(&self, una: u64) -> bool {
        self.ranges.first().is_some_and(|first| first.start <= una)
    }

    /// End of the highest range, 0 if there is none.
    pub(super) fn highest(&self) -> u64 {
        self.ranges.last().map_or(0, |range| range.end)
    }

    /// IsLost: every unmarked byte before the position returned has three ranges, or more than two
    /// segments' worth of marked bytes, above it.
    pub(super) fn lost_before(&self, mss: u64) -> u64 {
        let mut bytes = 0;
        for (count, range) in self.ranges.iter().rev().enumerate() {
            bytes += range.end - range.start;
            if count + 1 >= DUP_THRESH || bytes > (DUP_THRESH as u64 - 1) * mss {
                return range.start;
            }
        }
        0
    }

    /// Bytes of `range` that are not marked.
    pub(super) fn missing(&self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let overlap = |held: &Range<u64>| {
            held.end
                .min(range.end)
                .saturating_sub(held.start.max(range.start))
        };
        range.end - range.start - self.ranges.iter().map(overlap).sum::<u64>()
    }

    /// The first hole inside `range`.
    pub(super) fn next_hole(&self, range: Range<u64>) -> Option<Range<u64>> {
        let mut start = range.start;
        for held in &self.ranges {
            if held.end <= start {
                continue;
            }
            if held.start > start {
                return (start < range.end).then(|| start..held.start.min(range.end));
            }
            start = held.end;
        }
        (start < range.end).then_some(start..range.end)
    }

    /// The last hole inside `range`.
    pub(super) fn last_hole(&self, range: Range<u64>) -> Option<Range<u64>> {
        let mut end = range.end;
        for held in self.ranges.iter().rev() {
            if held.start >= end {
                continue;
            }
            if held.end < end {
                return (range.start < end).then(|| held.end.max(range.start)..end);
            }
            end = held.start;
        }
        (range.start < end).then_some(range.start..end)
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    const MSS: u64 = 100;

    fn board(ranges: &[Range<u64>]) -> Scoreboard {
        let mut board = Scoreboard::default();
        for range in ranges {
            board.add(range.clone());
        }
        board
    }

    #[test]
    fn only_news_counts() {
        let mut board = board(&[100..200]);
        assert_eq!(board.add(100..200), 0);
        assert_eq!(board.add(150..250), 50);
        assert_eq!(board.add(400..500), 100);
        assert_eq!(board.add(50..600), 550 - 250);
        assert_eq!(board.ranges, [50..600]);
    }

    #[test]
    fn three_ranges_above_a_byte_make_it_lost() {
        assert_eq!(board(&[200..210, 220..230]).lost_before(MSS), 0);
        assert_eq!(board(&[200..210, 220..230, 240..250]).lost_before(MSS), 200);
    }

    #[test]
    fn more_than_two_segments_above_a_byte_make_it_lost() {
        assert_eq!(board(&[200..400]).lost_before(MSS), 0);
        assert_eq!(board(&[200..401]).lost_before(MSS), 200);
    }

    #[test]
    fn holes_are_found_from_either_end() {
        let board = board(&[200..300, 400..500]);
        assert_eq!(board.next_hole(100..600), Some(100..200));
        assert_eq!(board.next_hole(200..600), Some(300..400));
        assert_eq!(board.next_hole(450..600), Some(500..600));
        assert_eq!(board.next_hole(400..500), None);
        assert_eq!(board.next_hole(210..350), Some(300..350));
        assert_eq!(board.last_hole(100..600), Some(500..600));
        assert_eq!(board.last_hole(100..500), Some(300..400));
        assert_eq!(board.last_hole(410..490), None);
        assert_eq!(board.last_hole(350..500), Some(350..400));
        assert_eq!(board.missing(100..600), 300);
        assert_eq!(board.missing(250..450), 100);
    }

    #[test]
    fn what_is_acknowledged_is_forgotten() {
        let mut board = board(&[200..300, 400..500]);
        board.advance(450);
        assert_eq!(board.ranges, [450..500]);
        assert!(
            board.reneged(450),
            "the peer has byte 450, yet it waits for it"
        );
        board.advance(500);
        assert!(board.is_empty());
    }

    #[test]
    fn ranges_are_bounded() {
        let mut board = Scoreboard::default();
        for n in 0..10_000u64 {
            board.add(10 * n..10 * n + 5);
        }
        assert_eq!(board.ranges.len(), MAX_RANGES);
    }
}
