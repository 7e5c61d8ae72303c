//! The tail loss probe (RFC 8985 section 7): when the ACKs of the last segments of a flight do not
//! come, one segment asks for them long before the retransmission timeout would.

use super::acknowledge::{Ack, clamp_u32};
use super::congestion::Cause;
use super::news::News;
use super::recovery::{Recovery, Watch};
use super::tcb::Tcb;
use super::time::{Duration, Instant};

/// Least delay beyond two round trips; Linux's TCP_TIMEOUT_MIN.
const MARGIN: Duration = Duration::from_millis(2);

impl Recovery {
    /// Whether a probe that repeats a segment is under way.
    pub(super) fn is_repeating_probe(&self) -> bool {
        self.probe_end != 0 && self.probe_repeats
    }

    /// A probe left, up to `end`.
    pub(super) fn begin_probe(&mut self, end: u64, repeats: bool) {
        self.tail_probe_due = false;
        self.probe_end = end;
        self.probe_repeats = repeats;
    }

    /// No probe is under way or wanted any more.
    pub(super) fn end_probe(&mut self) {
        self.begin_probe(0, false);
    }
}

impl Tcb {
    /// Arms the timer for a probe if one is of use: with SACK, outside recovery, nothing reported.
    /// `restart`: the retransmission timeout would start anew now.
    pub(super) fn watch_for_tail_loss(&mut self, now: Instant, restart: bool) -> bool {
        let quiet = !self.recovering() && self.sent.sacked().segments == 0;
        if !quiet || !self.recovery.sack || self.sent.is_empty() {
            return false;
        }
        let delay = match self.rtt.srtt() {
            None => self.rtt.rto(),
            // A lone segment's ACK may be delayed.
            Some(srtt) if self.sent.out.segments == 1 => srtt * 2 + self.rtt.rto_min(),
            Some(srtt) => srtt * 2 + MARGIN,
        };
        let timeout = if restart {
            now + self.rtt.rto()
        } else {
            self.timeout_of_first(now)
        };
        self.arm(Watch::TailLoss, (now + delay).min(timeout.max(now)));
        true
    }

    /// When the retransmission timer of the first outstanding segment expires.
    pub(super) fn timeout_of_first(&self, now: Instant) -> Instant {
        let sent_at = self.sent.first().map_or(now, |first| first.stamp.sent_at);
        sent_at + self.rtt.rto()
    }

    /// The probe's timer expired.
    pub(super) fn on_tail_loss_timeout(&mut self, now: Instant) {
        if self.recovery.probe_end == 0 && !self.recovering() {
            self.recovery.tail_probe_due = true;
            self.arm_retransmit(now);
        } else {
            let tick = Duration::from_micros(1);
            let at = self.timeout_of_first(now).max(now + tick);
            self.arm(Watch::Timeout, at);
        }
    }

    /// What an ACK tells of the probe (RFC 8985 section 7.4.2).
    pub(super) fn judge_probe(&mut self, now: Instant, ack: &Ack, news: &News) {
        let (una, end) = (self.snd.una, self.recovery.probe_end);
        if end == 0 || una < end {
            return;
        }
        if !self.recovery.probe_repeats || news.dsack_of_probe {
            self.recovery.end_probe();
        } else if una > end {
            // No duplicate was reported: the probe has repaired a loss.
            let (flight, mss) = (clamp_u32(self.snd.flight()), self.send_mss());
            self.recovery.end_probe();
            if !self.recovering() {
                self.cc
                    .get_mut()
                    .on_congestion(now, Cause::Loss, flight, mss);
                self.on_reduced(Cause::Loss);
                if let Some(repair) = self.repair.if_any() {
                    repair.undo.cancel();
                }
            }
        } else if ack.duplicate && news.sacked == 0 {
            self.recovery.end_probe();
        }
    }
}
