//! The tail loss probe (RFC 8985 section 7): when the ACKs of the last segments of a flight do not
//! come, one segment asks for them long before the retransmission timeout would.

use super::acknowledge::{Ack, clamp_u32};
use super::congestion::Cause;
use super::news::News;
use super::tcb::Tcb;
use super::time::{Duration, Instant};
use super::timers::Watch;

/// Least delay beyond two round trips; Linux's TCP_TIMEOUT_MIN.
const MARGIN: Duration = Duration::from_millis(2);

/// State of the probe.
#[derive(Clone, Debug, Default)]
pub(super) struct TailProbe {
    /// SND.NXT when the probe left; 0 if none is under way.
    end: u64,
    /// It repeated a segment.
    repeated: bool,
    /// The timer expired: one is to be sent.
    pub(super) due: bool,
}

impl TailProbe {
    pub(super) fn is_repetition(&self) -> bool {
        self.end != 0 && self.repeated
    }

    /// Whether a repetition that ends at `end` is under way.
    pub(super) fn repeats_up_to(&self, end: u64) -> bool {
        self.is_repetition() && self.end == end
    }

    /// A probe left, up to `end`.
    pub(super) fn begin(&mut self, end: u64, repeated: bool) {
        self.due = false;
        self.end = end;
        self.repeated = repeated;
    }

    /// The episode is over.
    pub(super) fn end(&mut self) {
        *self = TailProbe::default();
    }
}

impl Tcb {
    /// Arms the timer for a probe if one is of use: with SACK, outside recovery, nothing reported.
    /// `restart`: the retransmission timeout would start anew now.
    pub(super) fn watch_for_tail_loss(&mut self, now: Instant, restart: bool) -> bool {
        let quiet = !self.recovering() && self.sent.sacked.segments == 0;
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
        if self.probe.end == 0 && !self.recovering() {
            self.probe.due = true;
            self.arm_retransmit(now);
        } else {
            let tick = Duration::from_micros(1);
            let at = self.timeout_of_first(now).max(now + tick);
            self.arm(Watch::Timeout, at);
        }
    }

    /// What an ACK tells of the probe (RFC 8985 section 7.4.2).
    pub(super) fn judge_probe(&mut self, now: Instant, ack: &Ack, news: &News) {
        let (una, end) = (self.snd.una, self.probe.end);
        if end == 0 || una < end {
            return;
        }
        if !self.probe.repeated || news.dsack_of_probe {
            self.probe.end();
        } else if una > end {
            // No duplicate was reported: the probe has repaired a loss.
            let (flight, mss) = (clamp_u32(self.snd.flight()), self.send_mss());
            self.probe.end();
            if !self.recovering() {
                self.cc
                    .get_mut()
                    .on_congestion(now, Cause::Loss, flight, mss);
                self.undo.cancel();
            }
        } else if ack.duplicate && news.sacked == 0 {
            self.probe.end();
        }
    }
}
