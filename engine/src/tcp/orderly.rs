//! The common ACK: SND.UNA advances, and nothing outstanding was reported, lost or sent again. There is
//! nothing for loss recovery to find out then, and the estimates are all that is left to do.

use super::acknowledge::clamp_u32;
use super::congestion::AckSample;
use super::event::Events;
use super::input::predicts;
use super::recovery::Phase;
use super::segment::Segment;
use super::tcb::Tcb;
use super::time::Instant;

impl Tcb {
    /// Whether `ack` is such an ACK of something outstanding.
    pub(super) fn is_orderly(&self, segment: &Segment<'_>, ack: u64) -> bool {
        predicts()
            && ack > self.snd.una
            && self.recovery.phase == Phase::Open
            && self.recovery.held == 0
            && self.recovery.probe_end == 0
            && self.sent.is_plain()
            && !self.repair.undo.is_possible()
            && segment.options.sack.is_empty()
            && !self.echoes_mark(segment)
    }

    /// Takes it. What was sent in order and once can only have arrived in order, so RACK (RFC 8985)
    /// has nothing to look at: all that is left was sent later than what is acknowledged.
    pub(super) fn take_orderly_ack(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        ack: u64,
    ) -> Events {
        let limited = self.usage.is_limited(self.cc.cwnd(), self.cc.ssthresh());
        let flight = self.snd.flight();
        let arrival = self.sent.take(ack);
        let events = self.advance(now, ack);
        self.recovery.new_data_first = false;
        self.recovery.waits = false;
        if let Some(repair) = self.repair.if_any() {
            repair.undo.end_episode();
        }
        if let Some(arrival) = arrival {
            let last = &arrival.last;
            let rtt = now.since(last.sent_at);
            self.rtt.sample(now.since(arrival.first_left));
            self.rtt.note_min(rtt);
            self.rate.on_delivered(now, arrival.bytes, arrival.segments);
            self.rack
                .advance(now, (last.sent_at, arrival.end), last.sent_at);
            if let Some(repair) = self.repair.if_any() {
                repair.reordering.adapt(last.delivered, self.rate.delivered);
            }
            let acked = clamp_u32(arrival.bytes);
            let sample = AckSample {
                now,
                una: self.snd.una,
                nxt: self.snd.nxt,
                acked,
                delivered: acked,
                lost: 0,
                marked: 0,
                flight_before: clamp_u32(flight),
                in_flight: clamp_u32(self.snd.flight()),
                rtt: Some(rtt),
                rate: self.rate.measure(now, last, self.rtt.min_rtt()),
                window_limited: limited && !self.is_reduced(),
                phase: Phase::Open,
            };
            self.cc.on_ack(&sample, self.send_mss());
        } else {
            self.sample_echo(now, segment);
        }
        self.rack.advanced &= !self.recovery.sack;
        self.rearm_after_ack(now, true);
        events | Events::SEND
    }
}
