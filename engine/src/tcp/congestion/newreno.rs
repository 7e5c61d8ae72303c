//! NewReno: slow start and congestion avoidance (RFC 5681), windows of RFC 6582.

use super::{AckSample, Cause, CongestionControl};
use crate::tcp::recovery::Phase;
use crate::tcp::time::Instant;

/// Largest window: what 31 bits of sequence space can hold in flight.
const MAX_CWND: u32 = 1 << 30;

/// State of NewReno, in bytes.
#[derive(Clone, Debug)]
pub struct NewReno {
    cwnd: u32,
    ssthresh: u32,
    /// Bytes acknowledged towards the next increase in congestion avoidance (RFC 3465).
    credit: u32,
    /// cwnd and ssthresh before the last reduction.
    undo: (u32, u32),
}

impl NewReno {
    /// Starts with a window of `initial_window` bytes, in slow start.
    pub fn new(initial_window: u32) -> Self {
        NewReno {
            cwnd: initial_window,
            ssthresh: u32::MAX,
            credit: 0,
            undo: (0, 0),
        }
    }

    fn halve(&mut self, flight: u32, mss: u32) {
        self.undo = (self.cwnd, self.ssthresh);
        self.ssthresh = (flight / 2).max(mss.saturating_mul(2));
        self.credit = 0;
    }

    fn grow(&mut self, bytes: u32) {
        self.cwnd = self.cwnd.saturating_add(bytes).min(MAX_CWND);
    }
}

impl CongestionControl for NewReno {
    fn cwnd(&self) -> u32 {
        self.cwnd
    }

    fn ssthresh(&self) -> u32 {
        self.ssthresh
    }

    fn on_ack(&mut self, sample: &AckSample, mss: u32) {
        if sample.phase == Phase::Fast || !sample.window_limited {
            return;
        }
        let mut acked = sample.acked;
        if self.cwnd < self.ssthresh {
            // All that was acknowledged counts: an ACK of a super-segment answers many segments.
            let step = acked.min(self.ssthresh - self.cwnd);
            self.grow(step);
            acked -= step;
        }
        self.credit = self.credit.saturating_add(acked);
        if self.credit >= self.cwnd {
            self.credit -= self.cwnd;
            self.grow(mss);
        }
    }

    fn on_congestion(&mut self, _now: Instant, _cause: Cause, flight: u32, mss: u32) {
        self.halve(flight, mss);
        self.cwnd = self.ssthresh;
    }

    fn set_cwnd(&mut self, cwnd: u32) {
        self.cwnd = cwnd;
    }

    fn on_recovered(&mut self, _now: Instant, flight: u32, mss: u32) {
        // RFC 6582 3.2 step 3: no burst when the flight has shrunk meanwhile.
        self.cwnd = self
            .ssthresh
            .min(flight.max(mss).saturating_add(mss))
            .max(mss);
    }

    fn on_timeout(&mut self, _now: Instant, flight: u32, mss: u32, repeated: bool) {
        if !repeated {
            self.halve(flight, mss);
        }
        self.cwnd = mss;
        self.credit = 0;
    }

    fn on_undo(&mut self, _now: Instant) {
        let (cwnd, ssthresh) = self.undo;
        self.cwnd = self.cwnd.max(cwnd);
        self.ssthresh = self.ssthresh.max(ssthresh);
    }

    fn on_idle(&mut self, _now: Instant, initial_window: u32) {
        self.cwnd = self.cwnd.min(initial_window);
        self.credit = 0;
    }

    fn on_mss_change(&mut self, old: u32, mss: u32) {
        // The window stays the same number of segments (RFC 1191 section 6.5 wants no slow start).
        let segments = self.cwnd / old.max(1);
        self.cwnd = segments.max(1).saturating_mul(mss).min(MAX_CWND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    fn ack(acked: u32) -> AckSample {
        AckSample {
            now: Instant::ZERO,
            una: 0,
            nxt: 0,
            acked,
            delivered: acked,
            lost: 0,
            marked: 0,
            flight_before: acked,
            in_flight: 0,
            rtt: None,
            rate: None,
            window_limited: true,
            phase: Phase::Open,
        }
    }

    #[test]
    fn slow_start_doubles_and_avoidance_adds_one_segment_per_window() {
        let mut cc = NewReno::new(10 * MSS);
        cc.on_ack(&ack(10 * MSS), MSS);
        assert_eq!(cc.cwnd(), 20 * MSS);
        cc.on_congestion(Instant::ZERO, Cause::Loss, 20 * MSS, MSS);
        assert_eq!((cc.cwnd(), cc.ssthresh()), (10 * MSS, 10 * MSS));
        for _ in 0..9 {
            cc.on_ack(&ack(MSS), MSS);
        }
        assert_eq!(cc.cwnd(), 10 * MSS);
        cc.on_ack(&ack(MSS), MSS);
        assert_eq!(cc.cwnd(), 11 * MSS);
    }

    #[test]
    fn a_timeout_leaves_one_segment_and_halves_only_once() {
        let mut cc = NewReno::new(40 * MSS);
        cc.on_timeout(Instant::ZERO, 40 * MSS, MSS, false);
        assert_eq!((cc.cwnd(), cc.ssthresh()), (MSS, 20 * MSS));
        cc.on_timeout(Instant::ZERO, MSS, MSS, true);
        assert_eq!((cc.cwnd(), cc.ssthresh()), (MSS, 20 * MSS));
    }

    #[test]
    fn the_threshold_never_falls_below_two_segments() {
        let mut cc = NewReno::new(10 * MSS);
        cc.on_congestion(Instant::ZERO, Cause::Loss, MSS, MSS);
        assert_eq!(cc.ssthresh(), 2 * MSS);
    }

    #[test]
    fn an_application_that_does_not_fill_the_window_does_not_open_it() {
        let mut cc = NewReno::new(10 * MSS);
        cc.on_ack(
            &AckSample {
                window_limited: false,
                ..ack(5 * MSS)
            },
            MSS,
        );
        assert_eq!(cc.cwnd(), 10 * MSS);
    }

    #[test]
    fn an_idle_connection_restarts_from_the_initial_window() {
        let mut cc = NewReno::new(100 * MSS);
        cc.on_idle(Instant::ZERO, 10 * MSS);
        assert_eq!(cc.cwnd(), 10 * MSS);
    }
}
