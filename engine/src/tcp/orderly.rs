//! The common ACK: SND.UNA advances, and nothing outstanding was reported, lost or sent again. There is
//! nothing for loss recovery to find out then, and the estimates are all that is left to do.

use super::acknowledge::clamp_u32;
use super::congestion::AckSample;
use super::event::Events;
use super::input::predicts;
use super::news::News;
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
            && !self.undo.is_possible()
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
        let mut news = News::new(now, self.recovery.point, self.rtt.min_rtt(), 0);
        let events = self.advance(now, ack, &mut news);
        let rtt = self.measure_round_trip(now, segment, true, &news);
        self.rate.on_delivered(now, news.delivered, news.segments);
        if let (Some(latest), Some(newest)) = (news.latest, news.newest) {
            self.rack.advance(now, latest, news.last);
            self.rack.adapt(newest.delivered, self.rate.delivered);
        }
        self.rack.advanced &= !self.recovery.sack;
        self.recovery.new_data_first = false;
        self.recovery.waits = false;
        self.undo.end_episode();
        if news.delivered > 0 {
            let sample = AckSample {
                now,
                una: self.snd.una,
                nxt: self.snd.nxt,
                acked: clamp_u32(news.delivered),
                delivered: clamp_u32(news.delivered),
                lost: 0,
                marked: 0,
                flight_before: clamp_u32(flight),
                in_flight: clamp_u32(self.snd.flight()),
                rtt,
                rate: self.rate.measure(now, &news, self.rtt.min_rtt()),
                window_limited: limited && !self.ecn.is_reduced(self.snd.una),
                phase: Phase::Open,
            };
            self.cc.on_ack(&sample, self.send_mss());
        }
        self.rearm_after_ack(now, true);
        events | Events::SEND
    }
}
