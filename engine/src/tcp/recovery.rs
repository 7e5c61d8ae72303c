//! Loss recovery: fast recovery (RFC 6675; RFC 6582 towards a peer without SACK, whose duplicate ACKs
//! then stand for segments that it holds), recovery after a timeout, and when each begins and ends.

use super::acknowledge::{Ack, clamp_u32};
use super::congestion::Cause;
use super::news::News;
use super::prr::Progress;
use super::rack::{DUP_THRESH, count_lost};
use super::tcb::Tcb;
use super::time::{Duration, Instant};

/// Where a connection stands in loss recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Nothing is known to be lost.
    Open,
    /// Neither, but the window falls because of a mark (Linux's TCP_CA_CWR).
    Reduction,
    /// Fast recovery.
    Fast,
    /// After a retransmission timeout.
    Loss,
}

/// What the retransmission timer waits for, while something is in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Watch {
    /// The retransmission timeout.
    Timeout,
    /// An ACK of the end of the flight (RFC 8985 section 7).
    TailLoss,
    /// What may only be late (RFC 8985 section 6.3).
    Reordering,
}

/// State of loss recovery. Positions are those of the send direction.
#[derive(Clone, Debug)]
pub(super) struct Recovery {
    pub(super) phase: Phase,
    /// The peer reports what it holds out of order.
    pub(super) sack: bool,
    /// Segments that duplicate ACKs stand for, towards a peer without SACK.
    pub(super) held: u32,
    /// SND.NXT when recovery began; it ends when all before it is acknowledged.
    pub(super) point: u64,
    /// After a timeout: whether it was spurious is being found out (RFC 5682).
    pub(super) frto: bool,
    /// For that, new data goes before repetitions, which wait for the next ACK.
    pub(super) new_data_first: bool,
    /// The timer waits for what may only be late.
    pub(super) waits: bool,
    /// Pacing holds data back.
    pub(super) paced: bool,
    /// What the retransmission timer waits for, while something is in flight.
    pub(super) watch: Watch,
    /// The tail loss probe's timer expired: one is to be sent.
    pub(super) tail_probe_due: bool,
    /// The tail loss probe under way repeats a segment.
    pub(super) probe_repeats: bool,
    /// SND.NXT when it left; 0 if there is none.
    pub(super) probe_end: u64,
}

impl Recovery {
    pub(super) fn new() -> Self {
        Recovery {
            phase: Phase::Open,
            sack: false,
            held: 0,
            point: 0,
            frto: false,
            new_data_first: false,
            waits: false,
            paced: false,
            watch: Watch::Timeout,
            tail_probe_due: false,
            probe_repeats: false,
            probe_end: 0,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }
}

impl Tcb {
    /// Whether fast recovery or recovery after a timeout is under way.
    pub(super) fn recovering(&self) -> bool {
        matches!(self.recovery.phase, Phase::Fast | Phase::Loss)
    }

    /// Bytes in flight: sent, neither acknowledged nor reported nor lost, plus what was sent again.
    pub(super) fn pipe(&self) -> u64 {
        let pipe = self.sent.pipe(self.snd.flight());
        match self.recovery.held {
            0 => pipe,
            held => pipe.saturating_sub(u64::from(held) * u64::from(self.send_mss())),
        }
    }

    /// Draws the consequences of an ACK for loss recovery.
    pub(super) fn recover(&mut self, now: Instant, ack: &Ack, news: &News) {
        self.recovery.new_data_first = false;
        self.recovery.waits = false;
        self.end_reduction(now);
        if self.snd.una >= self.recovery.point && self.end_fast_recovery(now, ack) {
            return;
        }
        match self.recovery.phase {
            Phase::Fast => self.go_on_in_fast_recovery(now, ack),
            Phase::Loss => self.go_on_after_timeout(now, ack, news),
            Phase::Open | Phase::Reduction => self.look_for_losses(now, ack),
        }
    }

    /// All that was outstanding when recovery began is acknowledged. Says whether that was the end
    /// of fast recovery and the whole meaning of this ACK.
    fn end_fast_recovery(&mut self, now: Instant, ack: &Ack) -> bool {
        if self.recovery.phase != Phase::Fast {
            return false;
        }
        self.recovery.held = 0;
        if !self.try_undo_recovery(now, ack) {
            let (flight, mss) = (clamp_u32(self.snd.flight()), self.send_mss());
            self.cc.get_mut().on_recovered(now, flight, mss);
        }
        self.recovery.phase = Phase::Open;
        // RFC 6582 section 4.1: duplicates of what was repeated say nothing of what follows.
        !self.recovery.sack && self.snd.una == self.recovery.point
    }

    /// At the end of recovery, whether it was needless; if so the window is given back.
    fn try_undo_recovery(&mut self, now: Instant, ack: &Ack) -> bool {
        if self.may_undo(ack) {
            self.undo_reduction(now, false);
            return true;
        }
        if let Some(repair) = self.repair.if_any() {
            repair.reordering.on_recovered();
        }
        false
    }

    pub(super) fn may_undo(&self, ack: &Ack) -> bool {
        self.repair.undo.is_possible()
            && (self.repair.undo.all_duplicates() || self.echoes_original(ack.echo))
    }

    fn go_on_in_fast_recovery(&mut self, now: Instant, ack: &Ack) {
        if !ack.advanced {
            self.hold_duplicate(ack);
        } else {
            self.release_held(ack);
            if self.repair.undo.is_possible() && self.echoes_original(ack.echo) {
                // The hole was filled by a late original: others are late as well.
                if self.recovery.sack {
                    let (una, highest) = (ack.una, self.sent.highest_sacked());
                    let mss = self.send_mss();
                    self.repair
                        .make()
                        .reordering
                        .on_reordering(una, highest, mss.into());
                }
                if self.sent.resent().segments > 0 {
                    return;
                }
                self.undo_reduction(now, true);
                self.recovery.phase = Phase::Open;
            }
        }
        if self.recovery.phase == Phase::Fast && self.try_undo_by_dsack(now) {
            self.recovery.phase = Phase::Open;
        }
        self.mark_losses(now, ack);
        if self.recovery.phase == Phase::Open && self.sent.lost().segments > 0 {
            self.enter_fast_recovery(now);
        }
    }

    fn go_on_after_timeout(&mut self, now: Instant, ack: &Ack, news: &News) {
        self.end_or_continue_loss(now, ack, news);
        let resent = self.sent.resent().segments;
        self.mark_losses(now, ack);
        let lost_again = self.sent.resent().segments < resent;
        let open = self.recovery.phase == Phase::Open;
        if (open && self.sent.lost().segments > 0) || (!open && lost_again) {
            self.enter_fast_recovery(now);
        }
    }

    fn look_for_losses(&mut self, now: Instant, ack: &Ack) {
        if ack.advanced {
            self.recovery.held = 0;
        }
        self.hold_duplicate(ack);
        self.try_undo_by_dsack(now);
        if self.sent.resent().segments == 0
            && let Some(repair) = self.repair.if_any()
        {
            repair.undo.end_episode();
        }
        self.mark_losses(now, ack);
        if self.sent.lost().segments > 0 {
            self.enter_fast_recovery(now);
        }
    }

    /// Towards a peer without SACK: a duplicate ACK means that it holds one more segment.
    pub(super) fn hold_duplicate(&mut self, ack: &Ack) {
        if self.recovery.sack || !ack.duplicate {
            return;
        }
        // The first one outstanding, at least, is missing.
        let missing = self.sent.lost().segments.max(1);
        if self.recovery.held + missing < self.sent.out.segments {
            self.recovery.held += 1;
        }
    }

    /// A partial ACK covers one repeated segment and others that duplicates had announced.
    fn release_held(&mut self, ack: &Ack) {
        if self.recovery.sack || ack.acked_segments == 0 {
            return;
        }
        self.recovery.held = self.recovery.held.saturating_sub(ack.acked_segments - 1);
        let outstanding = self
            .sent
            .out
            .segments
            .saturating_sub(self.sent.lost().segments);
        self.recovery.held = self.recovery.held.min(outstanding);
    }

    /// Marks what this ACK shows to be lost, and arms the timer for what may only be late.
    fn mark_losses(&mut self, now: Instant, ack: &Ack) {
        if self.recovery.sack {
            if let Some(wait) = self.detect_losses(now) {
                self.wait_for_reordered(now, wait);
            }
            return;
        }
        let lost = match self.recovery.phase {
            // RFC 6582 section 4.1: duplicates of what was repeated after a timeout show no loss.
            Phase::Open | Phase::Reduction => {
                self.recovery.held >= DUP_THRESH.into() && self.snd.una > self.recovery.point
            }
            Phase::Fast => ack.advanced,
            Phase::Loss => false,
        };
        if lost {
            let Tcb { sent, rate, cc, .. } = self;
            sent.lose_first(|record| count_lost(rate, cc.get_mut(), record));
        }
    }

    /// Something is lost: the window is reduced, and what is lost is sent again.
    pub(super) fn enter_fast_recovery(&mut self, now: Instant) {
        if self.repeat_probe(now) {
            return;
        }
        let (mss, cwnd) = (self.send_mss(), self.cc.cwnd());
        let flight = clamp_u32(self.snd.flight());
        let probes = u32::from(self.recovery.is_repeating_probe());
        // A mark was no mistake, and has reduced the window already.
        if !self.answers_mark() {
            self.repair
                .make()
                .undo
                .begin(self.snd.una, self.sent.resent().segments + probes);
            self.cc
                .get_mut()
                .on_congestion(now, Cause::Loss, flight, mss);
            self.on_reduced(Cause::Loss);
            self.repair.make().prr.begin(cwnd);
        }
        self.recovery.phase = Phase::Fast;
        self.recovery.point = self.snd.nxt;
        self.recovery.frto = false;
        self.recovery.end_probe();
        let counters = self.repair.count();
        counters.fast_recoveries = counters.fast_recoveries.saturating_add(1);
    }

    /// The timer found late segments lost.
    pub(super) fn on_reordering_timeout(&mut self, now: Instant) {
        let (pipe, lost) = (self.pipe(), self.rate.lost);
        self.detect_losses_by_age(now);
        if self.rate.lost == lost {
            return;
        }
        if self.recovery.phase != Phase::Fast {
            self.enter_fast_recovery(now);
            self.reduce_window(pipe.min(self.send_mss().into()), false);
        }
    }

    /// A mark has set the threshold: the window, so far of `cwnd` bytes, falls to it.
    pub(super) fn begin_reduction(&mut self, cwnd: u32) {
        if let Some(repair) = self.repair.if_any() {
            repair.undo.cancel();
        }
        if !self.cc.governs_recovery() {
            self.recovery.phase = Phase::Reduction;
            self.repair.make().prr.begin(cwnd);
        }
    }

    fn end_reduction(&mut self, now: Instant) {
        if self.recovery.phase == Phase::Reduction && !self.is_reduced() {
            let (flight, mss) = (clamp_u32(self.snd.flight()), self.send_mss());
            self.cc.get_mut().on_recovered(now, flight, mss);
            self.recovery.phase = Phase::Open;
        }
    }

    /// Sets the window while it falls, unless the algorithm does that itself.
    pub(super) fn reduce_window(&mut self, delivered: u64, safe: bool) {
        let falls = matches!(self.recovery.phase, Phase::Fast | Phase::Reduction);
        if !falls || self.cc.governs_recovery() || delivered == 0 {
            return;
        }
        let progress = Progress {
            delivered,
            safe,
            pipe: self.pipe(),
        };
        let (ssthresh, mss) = (self.cc.ssthresh(), self.send_mss());
        let window = self.repair.make().prr.window(progress, ssthresh, mss);
        self.cc.get_mut().set_cwnd(window.max(mss));
    }

    /// The timer expired (RFC 6298 section 5): what is outstanding is lost, but for what left less
    /// than a round trip ago. `again` says that nothing arrived since it did before.
    pub(super) fn enter_loss(&mut self, now: Instant, again: bool) {
        let (mss, flight) = (self.send_mss(), clamp_u32(self.snd.flight()));
        let recovering = self.recovering();
        let reduced = match self.recovery.phase {
            Phase::Open => false,
            Phase::Reduction => self.answers_mark(),
            Phase::Fast => self.snd.una < self.recovery.point,
            Phase::Loss => self.snd.una < self.recovery.point && again,
        };
        self.lose_outstanding(now);
        if self.recovery.phase == Phase::Open
            && self.sent.sacked().segments >= u32::from(self.repair.reordering.degree)
        {
            self.repair.make().reordering.doubt();
        }
        self.cc.get_mut().on_timeout(now, flight, mss, reduced);
        self.on_reduced(Cause::Loss);
        if !reduced {
            let probes = u32::from(self.recovery.is_repeating_probe());
            self.repair
                .make()
                .undo
                .begin(self.snd.una, self.sent.resent().segments + probes);
        }
        self.recovery.phase = Phase::Loss;
        self.recovery.point = self.snd.nxt;
        self.recovery.frto = !recovering || again;
        self.recovery.new_data_first = false;
        self.recovery.end_probe();
        let pipe = clamp_u32(self.pipe());
        if pipe > 0 && !self.cc.governs_recovery() {
            self.cc.get_mut().set_cwnd(pipe.saturating_add(mss));
        }
    }

    fn lose_outstanding(&mut self, now: Instant) {
        self.recovery.held = 0;
        let reneged = self.sent.first().is_some_and(|first| first.sacked);
        if reneged {
            // The peer discarded what it had reported (RFC 2018 section 8).
            self.sent.forget_sacked();
        }
        let patient = self.recovery.sack && !reneged;
        let una = self.snd.una;
        let Tcb {
            sent,
            rack,
            rate,
            cc,
            ..
        } = self;
        sent.find_lost(
            |record| {
                let first = record.start <= una;
                let young = || rack.remaining(now, record, Duration::ZERO) > Duration::ZERO;
                Some(first || !patient || !young())
            },
            |record| count_lost(rate, cc.get_mut(), record),
        );
    }

    /// The path refuses segments of this size: all are sent again, which is no congestion.
    pub(super) fn repeat_in_smaller_segments(&mut self, now: Instant) {
        let Tcb { sent, rate, cc, .. } = self;
        sent.find_lost(
            |_| Some(true),
            |record| count_lost(rate, cc.get_mut(), record),
        );
        self.repair_without_reduction(now, self.snd.nxt);
    }

    /// What is lost before `point` is repaired, but is no sign of congestion.
    pub(super) fn repair_without_reduction(&mut self, now: Instant, point: u64) {
        self.recovery.held = 0;
        self.recovery.phase = Phase::Loss;
        self.recovery.point = point;
        self.recovery.frto = false;
        if let Some(repair) = self.repair.if_any() {
            repair.undo.cancel();
        }
        self.recovery.end_probe();
        self.arm_retransmit(now);
    }

    /// Nothing lost, nothing reported out of order, no duplicate ACK.
    pub(super) fn is_quiet(&self) -> bool {
        !self.recovering() && self.recovery.held == 0 && self.sent.sacked().segments == 0
    }
}
