//! Recovery after a timeout, and whether that was spurious: F-RTO (RFC 5682, in the SACK-enhanced
//! version where the peer has SACK).

use super::acknowledge::Ack;
use super::news::News;
use super::recovery::Phase;
use super::tcb::Tcb;
use super::time::Instant;

impl Tcb {
    /// Takes an ACK after a timeout.
    pub(super) fn end_or_continue_loss(&mut self, now: Instant, ack: &Ack, news: &News) {
        let recovered = self.snd.una >= self.recovery.point;
        if ack.advanced && self.may_undo(ack) {
            self.undo_timeout(now, self.recovery.sack);
            return;
        }
        if self.recovery.frto && self.try_frto(now, ack, news, recovered) {
            return;
        }
        if recovered {
            if let Some(repair) = self.repair.if_any() {
                repair.reordering.on_recovered();
            }
            self.recovery.held = 0;
            self.recovery.frto = false;
            self.recovery.phase = Phase::Open;
        } else if ack.advanced {
            self.recovery.held = 0;
        } else if self.snd.nxt > self.recovery.point {
            self.hold_duplicate(ack);
        }
    }

    /// Says whether F-RTO has decided, for now, what is to be done.
    fn try_frto(&mut self, now: Instant, ack: &Ack, news: &News, recovered: bool) -> bool {
        // Step 3b: what left before the timeout and was not repeated arrives. Without SACK a
        // cumulative ACK of repeated segments too may only have filled the hole before those.
        if news.original && (self.recovery.sack || !news.resent) {
            self.undo_timeout(now, true);
            return true;
        }
        if self.snd.nxt > self.recovery.point {
            // Step 3a: only the new data arrives.
            if news.sacked > 0 || ack.duplicate {
                self.recovery.frto = false;
            }
        } else if ack.advanced && !recovered {
            // Step 2b: new data, to see which segments its ACKs acknowledge.
            self.recovery.point = self.snd.nxt;
            if self.snd.end > self.snd.nxt && self.snd.usable() > 0 {
                self.recovery.new_data_first = true;
                return true;
            }
            self.recovery.frto = false;
        }
        false
    }

    /// The timeout was spurious.
    fn undo_timeout(&mut self, now: Instant, reopen: bool) {
        self.undo_reduction(now, true);
        self.retries = 0;
        self.recovery.frto = false;
        if reopen {
            self.recovery.phase = Phase::Open;
        }
    }
}
