//! DCTCP (RFC 8257): the window shrinks by how much of it was marked, not by half. Towards losses,
//! and on a path without marks, it is NewReno.

use super::{AckSample, Cause, CongestionControl, DctcpDetails, NewReno};
use crate::tcp::time::Instant;

/// One, as alpha counts.
const ONE: u64 = 1 << 20;
/// Weight of a new estimate: g of section 3.3 is 1/16.
const GAIN_SHIFT: u32 = 4;

/// State of DCTCP.
#[derive(Clone, Debug)]
pub struct Dctcp {
    reno: NewReno,
    /// Estimated part of bytes that are marked, of [`ONE`].
    alpha: u64,
    /// SND.NXT when this window of observation began.
    window_end: u64,
    delivered: u64,
    marked: u64,
}

impl Dctcp {
    /// Starts with a window of `initial_window` bytes, in slow start.
    pub fn new(initial_window: u32) -> Self {
        Dctcp {
            reno: NewReno::new(initial_window),
            // The first mark halves the window (section 3.3 step 1).
            alpha: ONE,
            window_end: 0,
            delivered: 0,
            marked: 0,
        }
    }

    pub(super) fn details(&self, enabled: bool, congested: bool) -> DctcpDetails {
        DctcpDetails {
            enabled,
            congested,
            alpha: (self.alpha >> 10) as u32,
            marked: self.marked,
            delivered: self.delivered,
        }
    }

    fn observe(&mut self, sample: &AckSample) {
        self.delivered += u64::from(sample.delivered);
        self.marked += u64::from(sample.marked);
        if sample.una <= self.window_end {
            return;
        }
        let marked = (self.marked * ONE).checked_div(self.delivered);
        // What is left of a small alpha would never decay.
        let decay = (self.alpha >> GAIN_SHIFT).max(1).min(self.alpha);
        self.alpha = (self.alpha - decay + (marked.unwrap_or(0) >> GAIN_SHIFT)).min(ONE);
        self.window_end = sample.nxt;
        self.delivered = 0;
        self.marked = 0;
    }
}

impl CongestionControl for Dctcp {
    fn cwnd(&self) -> u32 {
        self.reno.cwnd()
    }

    fn ssthresh(&self) -> u32 {
        self.reno.ssthresh()
    }

    fn on_ack(&mut self, sample: &AckSample, mss: u32) {
        self.observe(sample);
        self.reno.on_ack(sample, mss);
    }

    fn on_congestion(&mut self, now: Instant, cause: Cause, flight: u32, mss: u32) {
        match cause {
            Cause::Loss => self.reno.on_congestion(now, cause, flight, mss),
            Cause::Mark => {
                let cwnd = u64::from(self.cwnd());
                let less = cwnd * self.alpha / (2 * ONE);
                self.reno.reduce_to((cwnd - less) as u32, mss);
            }
        }
    }

    fn set_cwnd(&mut self, cwnd: u32) {
        self.reno.set_cwnd(cwnd);
    }

    fn set_ssthresh(&mut self, ssthresh: u32) {
        self.reno.set_ssthresh(ssthresh);
    }

    fn on_recovered(&mut self, now: Instant, flight: u32, mss: u32) {
        self.reno.on_recovered(now, flight, mss);
    }

    fn on_timeout(&mut self, now: Instant, flight: u32, mss: u32, repeated: bool) {
        self.reno.on_timeout(now, flight, mss, repeated);
    }

    fn on_undo(&mut self, now: Instant) {
        self.reno.on_undo(now);
    }

    fn on_idle(&mut self, now: Instant, window: u32) {
        self.reno.on_idle(now, window);
    }

    fn on_mss_change(&mut self, old: u32, mss: u32) {
        self.reno.on_mss_change(old, mss);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MSS, ack};
    use super::*;

    /// A whole window is acknowledged, `percent` of it marked.
    fn window(cc: &mut Dctcp, number: u64, percent: u32) {
        let sample = AckSample {
            una: number * 1000 + 1,
            nxt: (number + 1) * 1000,
            marked: 1000 * MSS / 100 * percent,
            window_limited: false,
            ..ack(1000 * MSS)
        };
        cc.on_ack(&sample, MSS);
    }

    #[test]
    fn the_first_mark_halves_the_window() {
        let mut cc = Dctcp::new(100 * MSS);
        cc.on_congestion(Instant::ZERO, Cause::Mark, 100 * MSS, MSS);
        assert_eq!((cc.cwnd(), cc.ssthresh()), (50 * MSS, 50 * MSS));
    }

    #[test]
    fn few_marks_cost_little_once_alpha_has_settled() {
        let mut cc = Dctcp::new(100 * MSS);
        for number in 0..200 {
            window(&mut cc, number, 10);
        }
        cc.on_congestion(Instant::ZERO, Cause::Mark, 100 * MSS, MSS);
        assert!(
            (95 * MSS..=96 * MSS).contains(&cc.cwnd()),
            "a twentieth: {}",
            cc.cwnd()
        );
    }

    #[test]
    fn alpha_decays_to_nothing_without_marks() {
        let mut cc = Dctcp::new(100 * MSS);
        for number in 0..200 {
            window(&mut cc, number, 0);
        }
        assert_eq!(cc.alpha, 0);
    }

    #[test]
    fn alpha_changes_once_a_window() {
        let mut cc = Dctcp::new(100 * MSS);
        window(&mut cc, 0, 0);
        let alpha = cc.alpha;
        for _ in 0..10 {
            let sample = AckSample {
                una: 500,
                nxt: 5000,
                ..ack(MSS)
            };
            cc.on_ack(&sample, MSS);
        }
        assert_eq!(cc.alpha, alpha);
    }

    #[test]
    fn a_loss_halves_the_window_whatever_alpha() {
        let mut cc = Dctcp::new(100 * MSS);
        for number in 0..200 {
            window(&mut cc, number, 0);
        }
        cc.on_congestion(Instant::ZERO, Cause::Loss, 100 * MSS, MSS);
        assert_eq!(cc.cwnd(), 50 * MSS);
    }
}
