//! ProbeBW (section 5.3.3): slows down so that others find room, cruises, refills the pipe, and then
//! sends faster to see whether there is more.

use super::{AckSample, Bbr, State, UNBOUNDED};
use crate::tcp::time::{Duration, Instant};

/// Part of the long-term bound that is left free for others, in hundredths (BBR.Headroom).
const HEADROOM: u64 = 15;
/// Most rounds between two probes, so that NewReno gets its share beside us.
const RENO_ROUNDS: u32 = 63;
/// Bound of the rounds in which the slope of a probe doubles.
const MAX_SLOPE: u8 = 30;

/// Of which phase the ACKs are that come now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AckPhase {
    Init,
    Refilling,
    ProbeStarting,
    ProbeFeedback,
    ProbeStopping,
}

/// Where the cycle stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cycle {
    stamp: Instant,
    wait: Duration,
    pub(super) rounds_since_probe: u32,
    pub(super) ack_phase: AckPhase,
    /// ACKs may be of data sent while probing, whose losses show the limit.
    pub(super) is_probe_sample: bool,
    pub(super) too_high: bool,
    precautionary: bool,
    slope_rounds: u8,
    acked: u64,
    /// Bytes acknowledged for each segment by which the long-term bound rises.
    acked_per_step: u64,
    random: u64,
}

impl Cycle {
    pub(super) fn new() -> Self {
        Cycle {
            stamp: Instant::ZERO,
            wait: Duration::ZERO,
            rounds_since_probe: 0,
            ack_phase: AckPhase::Init,
            is_probe_sample: false,
            too_high: false,
            precautionary: false,
            slope_rounds: 0,
            acked: 0,
            acked_per_step: u64::MAX,
            random: 0,
        }
    }

    /// PickProbeWait. Flows need not be unpredictable, only out of step: times of their ACKs are
    /// chance enough (SplitMix64).
    fn pick_wait(&mut self, now: Instant, delivered: u64) {
        self.random ^= now.as_micros() ^ delivered.rotate_left(32);
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        self.rounds_since_probe = (mixed & 1) as u32;
        self.wait = Duration::from_micros(2_000_000 + (mixed >> 1) % 1_000_000);
    }
}

impl Bbr {
    pub(super) fn start_down(&mut self, now: Instant) {
        self.losses.reset();
        self.cycle.acked_per_step = u64::MAX;
        self.cycle.pick_wait(now, self.delivered);
        self.cycle.stamp = now;
        self.cycle.ack_phase = AckPhase::ProbeStopping;
        self.start_round();
        self.state = State::ProbeBwDown;
    }

    pub(super) fn start_cruise(&mut self) {
        self.state = State::ProbeBwCruise;
    }

    pub(super) fn start_refill(&mut self) {
        self.reset_short_term();
        self.cycle.slope_rounds = 0;
        self.cycle.acked = 0;
        self.cycle.precautionary = false;
        self.cycle.ack_phase = AckPhase::Refilling;
        self.start_round();
        self.state = State::ProbeBwRefill;
    }

    fn start_up(&mut self) {
        self.cycle.is_probe_sample = true;
        self.cycle.ack_phase = AckPhase::ProbeStarting;
        self.start_round();
        self.reset_full_pipe(self.sample.delivery_rate);
        self.state = State::ProbeBwUp;
        self.raise_slope();
    }

    /// UpdateProbeBWCyclePhase.
    pub(super) fn update_cycle(&mut self, ack: &AckSample) {
        if !self.full_pipe.reached || self.adapt_long_term(ack) {
            return;
        }
        let is_over = self.state == State::ProbeBwUp && self.is_time_to_go_down(ack);
        match self.state {
            State::ProbeBwDown => {
                if self.is_time_to_probe(ack.now) {
                    self.start_refill();
                } else if self.is_time_to_cruise(ack) {
                    self.start_cruise();
                }
            }
            State::ProbeBwCruise if self.is_time_to_probe(ack.now) => self.start_refill(),
            State::ProbeBwRefill if self.rounds.start => self.start_up(),
            State::ProbeBwUp if is_over => {
                self.cycle.too_high = false;
                self.start_down(ack.now);
            }
            _ => {}
        }
    }

    fn is_time_to_probe(&self, now: Instant) -> bool {
        let bdp = self.target_inflight() / self.mss.max(1);
        now > self.cycle.stamp + self.cycle.wait
            || self.cycle.rounds_since_probe >= bdp.min(RENO_ROUNDS)
    }

    fn is_time_to_cruise(&self, ack: &AckSample) -> bool {
        ack.in_flight <= self.inflight_with_headroom() && ack.in_flight <= self.max_inflight(100)
    }

    fn is_time_to_go_down(&mut self, ack: &AckSample) -> bool {
        if self.cycle.too_high && ack.in_flight >= self.inflight_longterm {
            self.cycle.precautionary = true;
            return true;
        }
        if ack.window_limited && self.cwnd >= self.inflight_longterm {
            // The bound, not the path, holds the rate.
            self.reset_full_pipe(self.sample.delivery_rate);
            return false;
        }
        self.full_pipe.now
    }

    /// AdaptLongTermModel. Says whether it changed the state.
    fn adapt_long_term(&mut self, ack: &AckSample) -> bool {
        if self.cycle.ack_phase == AckPhase::ProbeStarting && self.rounds.start {
            self.cycle.ack_phase = AckPhase::ProbeFeedback;
        }
        if self.cycle.ack_phase == AckPhase::ProbeStopping && self.rounds.start {
            self.cycle.is_probe_sample = false;
            self.cycle.ack_phase = AckPhase::Init;
            if self.state.is_probe_bw() {
                if !self.sample.app_limited {
                    self.bandwidth.advance();
                }
                if self.cycle.precautionary && !self.cycle.too_high {
                    self.start_refill();
                    return true;
                }
            }
        }
        if self.is_inflight_too_high() || !self.has_longterm_bound() {
            return false;
        }
        self.inflight_longterm = self.inflight_longterm.max(self.sample.tx_in_flight);
        if self.state == State::ProbeBwUp {
            self.raise_long_term(ack);
        }
        false
    }

    /// RaiseInflightLongtermSlope: the bound rises twice as fast each round.
    fn raise_slope(&mut self) {
        let growth = 1u32 << self.cycle.slope_rounds;
        self.cycle.slope_rounds = (self.cycle.slope_rounds + 1).min(MAX_SLOPE);
        self.cycle.acked_per_step = u64::from((self.cwnd / growth).max(self.mss).max(1));
    }

    /// ProbeInflightLongtermUpward.
    fn raise_long_term(&mut self, ack: &AckSample) {
        if !ack.window_limited || self.cwnd < self.inflight_longterm {
            return;
        }
        self.cycle.acked += u64::from(ack.delivered);
        let steps = self.cycle.acked / self.cycle.acked_per_step;
        self.cycle.acked -= steps * self.cycle.acked_per_step;
        let rise = steps.saturating_mul(self.mss.into());
        let bound = u64::from(self.inflight_longterm).saturating_add(rise);
        self.inflight_longterm = super::window_of(bound);
        if self.rounds.start {
            self.raise_slope();
        }
    }

    /// InflightWithHeadroom.
    pub(super) fn inflight_with_headroom(&self) -> u32 {
        if !self.has_longterm_bound() {
            return UNBOUNDED;
        }
        let headroom = super::percent_of(self.inflight_longterm, HEADROOM).max(self.mss);
        self.inflight_longterm
            .saturating_sub(headroom)
            .max(self.min_pipe())
    }
}
