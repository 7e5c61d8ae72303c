//! NewReno: slow start and congestion avoidance (RFC 5681), windows of RFC 6582.

use super::window::Windows;
use super::{AckSample, Cause, CongestionControl};
use crate::tcp::recovery::Phase;
use crate::tcp::time::Instant;

/// State of NewReno, in bytes.
#[derive(Clone, Debug)]
pub struct NewReno {
    windows: Windows,
    /// Bytes acknowledged towards the next increase in congestion avoidance (RFC 3465).
    credit: u32,
    /// The windows before the last reduction.
    before: Windows,
}

impl NewReno {
    /// Starts with a window of `initial_window` bytes, in slow start.
    pub fn new(initial_window: u32) -> Self {
        let windows = Windows::new(initial_window);
        NewReno {
            windows,
            credit: 0,
            before: windows,
        }
    }

    /// Opens the window for `acked` bytes: by as much in slow start, by a segment a window later.
    pub(super) fn open(&mut self, acked: u32, mss: u32) {
        let mut acked = acked;
        if self.windows.in_slow_start() {
            acked = self.windows.slow_start(acked);
        }
        self.credit = self.credit.saturating_add(acked);
        if self.credit >= self.windows.cwnd {
            self.credit -= self.windows.cwnd;
            self.windows.grow(mss);
        }
    }

    /// Both windows fall to `window`, which can be taken back.
    pub(super) fn reduce_to(&mut self, window: u32, mss: u32) {
        self.before = self.windows;
        self.windows.reduce_to(window, mss);
        self.credit = 0;
    }
}

impl CongestionControl for NewReno {
    fn cwnd(&self) -> u32 {
        self.windows.cwnd
    }

    fn ssthresh(&self) -> u32 {
        self.windows.ssthresh
    }

    fn on_ack(&mut self, sample: &AckSample, mss: u32) {
        if sample.phase != Phase::Fast && sample.window_limited {
            self.open(sample.acked, mss);
        }
    }

    fn on_congestion(&mut self, _now: Instant, _cause: Cause, _flight: u32, mss: u32) {
        // Half of the window, as Linux has it, rather than of the flight (RFC 5681 equation 4): a
        // window that the application does not fill has not grown either.
        self.reduce_to(self.windows.cwnd / 2, mss);
    }

    fn set_cwnd(&mut self, cwnd: u32) {
        self.windows.cwnd = cwnd;
    }

    fn set_ssthresh(&mut self, ssthresh: u32) {
        self.windows.ssthresh = ssthresh;
    }

    fn on_recovered(&mut self, _now: Instant, _flight: u32, _mss: u32) {
        // RFC 6582 3.2 step 3, the second choice: the reduction has kept the flight near it.
        self.windows.cwnd = self.windows.ssthresh;
    }

    fn on_timeout(&mut self, _now: Instant, _flight: u32, mss: u32, repeated: bool) {
        if !repeated {
            self.reduce_to(self.windows.cwnd / 2, mss);
        }
        self.windows.cwnd = mss;
        self.credit = 0;
    }

    fn on_undo(&mut self, _now: Instant) {
        self.windows.undo(self.before);
    }

    fn on_idle(&mut self, _now: Instant, window: u32) {
        self.windows.restart(window);
        self.credit = 0;
    }

    fn on_mss_change(&mut self, old: u32, mss: u32) {
        self.windows.resize(old, mss);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MSS, ack};
    use super::*;

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
    fn an_undone_reduction_leaves_the_windows_that_it_found() {
        let mut cc = NewReno::new(40 * MSS);
        cc.on_timeout(Instant::ZERO, 40 * MSS, MSS, false);
        cc.on_undo(Instant::ZERO);
        assert_eq!((cc.cwnd(), cc.ssthresh()), (40 * MSS, u32::MAX));
    }

    #[test]
    fn the_threshold_never_falls_below_two_segments() {
        let mut cc = NewReno::new(3 * MSS);
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

    #[test]
    fn a_smaller_segment_size_leaves_as_many_segments() {
        let mut cc = NewReno::new(20 * MSS);
        cc.on_congestion(Instant::ZERO, Cause::Loss, 20 * MSS, MSS);
        cc.on_mss_change(MSS, MSS / 2);
        assert_eq!((cc.cwnd(), cc.ssthresh()), (5 * MSS, 5 * MSS));
    }
}
