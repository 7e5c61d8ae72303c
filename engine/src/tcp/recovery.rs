//! Loss recovery: what was lost, what is in flight, what to repeat (RFC 6675; RFC 6582 towards a
//! peer without SACK, whose duplicate ACKs then stand for segments that it holds).

use core::ops::Range;

use super::sack::Scoreboard;

/// Duplicate ACKs that show a loss (RFC 5681 section 3.2).
const DUP_THRESH: u32 = 3;

/// Where a connection stands in loss recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Nothing is known to be lost.
    Open,
    /// Fast recovery.
    Fast,
    /// After a retransmission timeout.
    Loss,
}

/// State of loss recovery. Positions are those of the send direction.
#[derive(Clone, Debug)]
pub(super) struct Recovery {
    phase: Phase,
    /// The peer reports what it holds out of order.
    pub(super) sack: bool,
    /// The first retransmission of fast recovery does not wait for the window (RFC 6675 5, 4.3).
    first: bool,
    /// Duplicate ACKs since snd.una last advanced.
    dup_acks: u32,
    /// snd.nxt when recovery began; recovery ends when all before it is acknowledged.
    point: u64,
    /// End of what was retransmitted in this recovery.
    high_rxt: u64,
    /// What the peer does not hold before here is lost, whatever the scoreboard says.
    known_lost: u64,
    /// snd.una has to pass this before another rescue retransmission (RFC 6675 NextSeg 4).
    rescued: u64,
    board: Scoreboard,
}

impl Recovery {
    pub(super) fn new() -> Self {
        Recovery {
            phase: Phase::Open,
            sack: false,
            first: false,
            dup_acks: 0,
            point: 0,
            high_rxt: 0,
            known_lost: 0,
            rescued: 0,
            board: Scoreboard::default(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Nothing lost, nothing reported out of order, no duplicate ACK.
    pub(super) fn is_quiet(&self) -> bool {
        self.phase == Phase::Open && self.dup_acks == 0 && self.board.is_empty()
    }

    /// Notes a SACK block inside `una..nxt`; says how many bytes of it are news.
    pub(super) fn add_block(&mut self, block: Range<u64>) -> u64 {
        self.board.add(block)
    }

    /// A duplicate ACK came. Says whether fast recovery has to begin.
    pub(super) fn on_dup_ack(&mut self, una: u64, mss: u64) -> bool {
        self.dup_acks = self.dup_acks.saturating_add(1);
        if self.phase != Phase::Open {
            return false;
        }
        if self.sack {
            self.dup_acks >= DUP_THRESH || self.board.lost_before(mss) > una
        } else {
            // RFC 6582 section 4.1: duplicates of what was repeated after a timeout show no loss.
            self.dup_acks >= DUP_THRESH && una > self.point
        }
    }

    /// Whether SACK blocks show a loss at `una` that fast recovery has not begun to repair.
    pub(super) fn loss_reported(&self, una: u64, mss: u64) -> bool {
        self.phase == Phase::Open && self.sack && self.board.lost_before(mss) > una
    }

    /// Fast recovery begins with the segment at `una`.
    pub(super) fn enter_fast(&mut self, una: u64, nxt: u64, mss: u64) {
        self.phase = Phase::Fast;
        self.first = true;
        self.point = nxt;
        self.high_rxt = una;
        self.known_lost = (una + mss).min(nxt);
        self.rescued = 0;
    }

    /// The timer expired, or the path refused the segments' size: all that is outstanding is lost.
    pub(super) fn enter_loss(&mut self, una: u64, nxt: u64, repeated: bool) {
        if repeated || self.board.reneged(una) {
            self.board.clear();
        }
        self.phase = Phase::Loss;
        self.first = false;
        self.dup_acks = 0;
        self.point = nxt;
        self.high_rxt = una;
        self.known_lost = nxt;
    }

    /// The segment `una..end` was too big for the path: it, and nothing else, is lost.
    pub(super) fn too_big(&mut self, una: u64, end: u64) {
        self.phase = Phase::Loss;
        self.first = true;
        self.dup_acks = 0;
        self.point = end;
        self.high_rxt = una;
        self.known_lost = end;
    }

    /// snd.una advanced by `acked` bytes. Says whether recovery ended with that.
    pub(super) fn on_ack(&mut self, una: u64, nxt: u64, acked: u64, mss: u64) -> bool {
        self.board.advance(una);
        self.high_rxt = self.high_rxt.max(una);
        if self.phase == Phase::Open || una >= self.point {
            let ended = self.phase != Phase::Open;
            self.phase = Phase::Open;
            self.first = false;
            self.dup_acks = 0;
            self.known_lost = 0;
            return ended;
        }
        if self.phase == Phase::Fast && !self.sack {
            // A partial ACK: the next segment is lost as well, and the rest of what was acknowledged
            // had been announced by duplicates.
            let announced = (acked / mss.max(1)).saturating_sub(1);
            self.dup_acks = self
                .dup_acks
                .saturating_sub(u32::try_from(announced).unwrap_or(u32::MAX));
            self.known_lost = (una + mss).min(nxt);
        }
        false
    }

    fn lost_before(&self, mss: u64) -> u64 {
        match self.phase {
            Phase::Open => 0,
            _ => self.known_lost.max(self.board.lost_before(mss)),
        }
    }

    /// Bytes in flight: sent, neither acknowledged nor reported nor lost, plus what was repeated.
    pub(super) fn pipe(&self, una: u64, nxt: u64, mss: u64) -> u64 {
        if self.is_quiet() {
            return nxt - una;
        }
        let lost = self.lost_before(mss).clamp(una, nxt);
        let repeated = if self.phase == Phase::Open {
            una
        } else {
            self.high_rxt.clamp(una, nxt)
        };
        let sent = self.board.missing(lost..nxt) + self.board.missing(una..repeated);
        if self.sack || self.phase == Phase::Loss {
            return sent;
        }
        // Limited transmit (RFC 3042) allows for two duplicates, fast recovery for all of them.
        let held = match self.phase {
            Phase::Open => self.dup_acks.min(DUP_THRESH - 1),
            _ => self.dup_acks,
        };
        sent.saturating_sub(u64::from(held) * mss)
    }

    /// The next range that is lost and not yet repeated (RFC 6675 NextSeg 1). The flag says that it
    /// goes out whatever the window.
    pub(super) fn next_lost(&self, una: u64, mss: u64) -> Option<(Range<u64>, bool)> {
        if self.phase == Phase::Open {
            return None;
        }
        let hole = self
            .board
            .next_hole(self.high_rxt.max(una)..self.lost_before(mss))?;
        Some((hole, self.first))
    }

    /// What may be repeated when there is window but neither a certain loss nor new data: a hole
    /// below the highest report (NextSeg 3), or the end of the flight, once (NextSeg 4).
    pub(super) fn next_doubtful(&mut self, una: u64, nxt: u64, mss: u64) -> Option<Range<u64>> {
        if self.phase != Phase::Fast || !self.sack {
            return None;
        }
        let from = self.high_rxt.max(una);
        if let Some(hole) = self.board.next_hole(from..self.board.highest()) {
            return Some(hole.start..hole.end.min(hole.start + mss));
        }
        if una <= self.rescued {
            return None;
        }
        self.rescued = self.point;
        let tail = self.board.last_hole(from..nxt)?;
        Some(tail.start.max(tail.end.saturating_sub(mss))..tail.end)
    }

    /// `range` was repeated.
    pub(super) fn on_retransmit(&mut self, range: &Range<u64>) {
        self.first = false;
        if self.lost_or_reported(range) {
            self.high_rxt = self.high_rxt.max(range.end);
        }
    }

    /// A rescue at the end of the flight does not move high_rxt (RFC 6675 NextSeg 4).
    fn lost_or_reported(&self, range: &Range<u64>) -> bool {
        self.known_lost.max(self.board.highest()) >= range.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u64 = 100;

    fn recovery(sack: bool) -> Recovery {
        Recovery {
            sack,
            ..Recovery::new()
        }
    }

    #[test]
    fn three_duplicates_begin_recovery_and_two_do_not() {
        let mut recovery = recovery(false);
        assert!(!recovery.on_dup_ack(1, MSS));
        assert!(!recovery.on_dup_ack(1, MSS));
        assert!(recovery.on_dup_ack(1, MSS));
    }

    #[test]
    fn one_report_of_more_than_two_segments_begins_recovery() {
        let mut recovery = recovery(true);
        recovery.add_block(101..401);
        assert!(recovery.on_dup_ack(1, MSS));
    }

    #[test]
    fn limited_transmit_lets_two_more_segments_go() {
        let mut recovery = recovery(false);
        for _ in 0..5 {
            assert_eq!(
                recovery.pipe(1, 1001, MSS),
                1000 - MSS * recovery.dup_acks.min(2) as u64
            );
            recovery.on_dup_ack(1, MSS);
        }
    }

    #[test]
    fn sack_recovery_repeats_each_lost_hole_once() {
        let mut recovery = recovery(true);
        // Holes 1..101 and 301..401, both lost; 601..701 has only two ranges above it.
        for block in [101..301, 401..601, 701..801] {
            recovery.add_block(block);
        }
        recovery.enter_fast(1, 1001, MSS);
        assert_eq!(recovery.pipe(1, 1001, MSS), 100 + 200);
        assert_eq!(recovery.next_lost(1, MSS), Some((1..101, true)));
        recovery.on_retransmit(&(1..101));
        assert_eq!(recovery.pipe(1, 1001, MSS), 400);
        assert_eq!(recovery.next_lost(1, MSS), Some((301..401, false)));
        recovery.on_retransmit(&(301..401));
        assert_eq!(recovery.next_lost(1, MSS), None);
        assert_eq!(recovery.next_doubtful(1, 1001, MSS), Some(601..701));
        recovery.on_retransmit(&(601..701));
        assert_eq!(
            recovery.next_doubtful(1, 1001, MSS),
            Some(901..1001),
            "one rescue"
        );
        recovery.on_retransmit(&(901..1001));
        assert_eq!(recovery.next_doubtful(1, 1001, MSS), None);
        assert!(!recovery.on_ack(601, 1001, 600, MSS));
        assert!(recovery.on_ack(1001, 1001, 400, MSS));
        assert!(recovery.is_quiet());
    }

    #[test]
    fn a_partial_ack_without_sack_repeats_the_next_segment() {
        let mut recovery = recovery(false);
        for _ in 0..3 {
            recovery.on_dup_ack(1, MSS);
        }
        recovery.enter_fast(1, 1001, MSS);
        recovery.on_retransmit(&(1..101));
        assert_eq!(recovery.next_lost(1, MSS), None);
        assert!(!recovery.on_ack(401, 1001, 400, MSS));
        assert_eq!(recovery.next_lost(401, MSS), Some((401..501, false)));
        assert!(recovery.on_ack(1001, 1001, 600, MSS));
    }

    #[test]
    fn a_timeout_loses_all_but_what_was_reported() {
        let mut recovery = recovery(true);
        recovery.add_block(301..401);
        recovery.enter_loss(1, 1001, false);
        assert_eq!(recovery.pipe(1, 1001, MSS), 0);
        assert_eq!(recovery.next_lost(1, MSS), Some((1..301, false)));
        recovery.on_retransmit(&(1..301));
        assert_eq!(recovery.next_lost(1, MSS), Some((401..1001, false)));
    }

    #[test]
    fn a_peer_that_discards_what_it_reported_gets_it_again() {
        let mut recovery = recovery(true);
        recovery.add_block(101..201);
        recovery.on_ack(101, 1001, 100, MSS);
        recovery.enter_loss(101, 1001, false);
        assert_eq!(recovery.next_lost(101, MSS), Some((101..1001, false)));
    }

    #[test]
    fn duplicates_of_a_timeouts_repetitions_show_no_loss_without_sack() {
        let mut recovery = recovery(false);
        recovery.enter_loss(1, 1001, false);
        assert!(recovery.on_ack(1001, 1501, 1000, MSS));
        for _ in 0..6 {
            assert!(!recovery.on_dup_ack(1001, MSS));
        }
    }
}
