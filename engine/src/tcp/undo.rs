//! When a recovery turns out to have been needless, its effect on the window is taken back: seen by
//! an echoed timestamp older than the first repetition (RFC 3522), or by DSACKs for all that was
//! repeated (RFC 3708); the response is that of RFC 4015.

use super::tcb::Tcb;
use super::time::Instant;

/// What is known of the repetitions since the window was last reduced.
#[derive(Clone, Debug)]
pub(super) struct Undo {
    /// SND.UNA when the window was reduced; 0 if there is nothing to undo.
    marker: u64,
    /// Segments repeated since and not reported as duplicates. `None` before the first.
    unanswered: Option<u32>,
    /// When the first repetition of this episode left; [`Instant::NEVER`] if there is none.
    resent_at: Instant,
}

impl Undo {
    pub(super) const fn new() -> Self {
        Undo {
            marker: 0,
            unanswered: None,
            resent_at: Instant::NEVER,
        }
    }

    /// The window is reduced while `resent` segments are in flight for the second time.
    pub(super) fn begin(&mut self, una: u64, resent: u32) {
        self.marker = una;
        self.unanswered = (resent > 0).then_some(resent);
    }

    /// Nothing can be undone any more.
    pub(super) fn cancel(&mut self) {
        self.marker = 0;
    }

    pub(super) fn is_possible(&self) -> bool {
        self.marker != 0
    }

    pub(super) fn on_resend(&mut self, now: Instant, segments: u32) {
        self.resent_at = self.resent_at.min(now);
        self.unanswered = Some(self.unanswered.unwrap_or(0).saturating_add(segments));
    }

    /// Nothing repeated is in flight any more.
    pub(super) fn end_episode(&mut self) {
        self.resent_at = Instant::NEVER;
    }

    /// `segments` that end at `end` arrived twice.
    pub(super) fn on_duplicates(&mut self, segments: u32, end: u64) {
        if self.marker != 0 && end > self.marker {
            self.unanswered = self.unanswered.map(|n| n.saturating_sub(segments));
        }
    }

    /// All that was repeated since the reduction arrived twice.
    pub(super) fn all_duplicates(&self) -> bool {
        self.marker != 0 && self.unanswered == Some(0)
    }

    /// When the first repetition left, if one may still be under way.
    fn resent_at(&self) -> Option<Instant> {
        Some(self.resent_at).filter(|at| *at != Instant::NEVER)
    }
}

impl Tcb {
    /// Whether `echo`, the timestamp that an ACK echoes, is older than the first repetition.
    pub(super) fn echoes_original(&self, echo: Option<u32>) -> bool {
        match (self.repair.undo.resent_at(), echo) {
            (Some(resent_at), Some(echo)) => self.ts.is_before(echo, resent_at),
            _ => false,
        }
    }

    /// Gives the window back. `forget_lost`: what counts as lost is believed to be on its way.
    pub(super) fn undo_reduction(&mut self, now: Instant, forget_lost: bool) {
        if forget_lost {
            self.sent.forget_lost();
        }
        self.cc.get_mut().on_undo(now);
        if let Some(repair) = self.repair.if_any() {
            repair.undo.cancel();
        }
        self.rack.advanced = true;
        let counters = self.repair.count();
        counters.undos = counters.undos.saturating_add(1);
    }

    /// Undoes the reduction if DSACKs say that all repetitions were needless.
    pub(super) fn try_undo_by_dsack(&mut self, now: Instant) -> bool {
        let undo = self.repair.undo.all_duplicates();
        if undo {
            self.repair.make().reordering.on_spurious_recovery();
            self.undo_reduction(now, false);
        }
        undo
    }
}
