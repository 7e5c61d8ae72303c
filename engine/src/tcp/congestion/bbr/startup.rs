//! Startup doubles the rate each round until the pipe is full; Drain empties the queue that came of
//! it (sections 5.3.1 and 5.3.2).

use super::{AckSample, Bbr, State, UNBOUNDED};
use crate::tcp::recovery::Phase;

/// Rounds without growth that show a full pipe.
const FLAT_ROUNDS: u8 = 3;
/// ACKs with losses in a round that end Startup (BBRStartupFullLossCnt).
const LOSS_EVENTS: u8 = 6;
/// Rounds of Drain at most.
const DRAIN_ROUNDS: u64 = 3;

/// Looks for a plateau of the delivery rate (section 5.3.1.2).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FullPipe {
    baseline: u64,
    flat_rounds: u8,
    /// The plateau is here now.
    pub(super) now: bool,
    /// It was reached at some time.
    pub(super) reached: bool,
}

impl Bbr {
    /// ResetFullBW, with `baseline` as the rate to surpass.
    pub(super) fn reset_full_pipe(&mut self, baseline: u64) {
        self.full_pipe = FullPipe {
            baseline,
            reached: self.full_pipe.reached,
            ..FullPipe::default()
        };
    }

    /// CheckFullBWReached.
    pub(super) fn check_full_pipe(&mut self) {
        let sample = self.sample;
        if self.full_pipe.now || !self.rounds.start || sample.app_limited {
            return;
        }
        if sample.delivery_rate >= self.full_pipe.baseline.saturating_mul(5) / 4 {
            self.reset_full_pipe(sample.delivery_rate);
            return;
        }
        self.full_pipe.flat_rounds += 1;
        self.full_pipe.now = self.full_pipe.flat_rounds >= FLAT_ROUNDS;
        self.full_pipe.reached |= self.full_pipe.now;
    }

    pub(super) fn check_startup_done(&mut self, ack: &AckSample) {
        let lossy = self.losses.events >= LOSS_EVENTS && ack.phase == Phase::Fast;
        if !self.full_pipe.reached
            && self.losses.round_start
            && lossy
            && self.is_inflight_too_high()
        {
            self.undo.state = Some(State::Startup);
            self.end_startup_by_congestion();
        }
        if self.losses.round_start {
            self.losses.events = 0;
        }
        if self.state == State::Startup && self.full_pipe.reached {
            self.state = State::Drain;
            self.drain_start = self.rounds.count;
        }
    }

    /// The pipe is full, since it overflows (section 5.3.1.3).
    pub(super) fn end_startup_by_congestion(&mut self) {
        self.full_pipe.reached = true;
        self.inflight_longterm = self.bdp(100).max(self.losses.inflight_latest());
    }

    pub(super) fn check_drain_done(&mut self, ack: &AckSample) {
        let drained = ack.in_flight <= self.inflight(100);
        let late = self.rounds.count > self.drain_start + DRAIN_ROUNDS;
        if self.state == State::Drain && (drained || late) {
            self.start_down(ack.now);
        }
    }

    pub(super) fn enter_startup(&mut self) {
        self.state = State::Startup;
        self.full_pipe.reached = false;
    }

    pub(super) fn has_longterm_bound(&self) -> bool {
        self.inflight_longterm != UNBOUNDED
    }
}
