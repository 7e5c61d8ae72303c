//! BBR version 3 (draft-ietf-ccwg-bbr-06): keeps a model of the path, of its bandwidth and its
//! round trip, and paces at the rate that fills it without a queue.
//!
//! `model` measures, `loss` bounds what was measured by what was lost, the phases (`startup`,
//! `probe_bw`, `probe_rtt`) decide what to try next, and `control` makes rate and window of it all.

mod control;
mod loss;
mod model;
mod probe_bw;
mod probe_rtt;
mod startup;
#[cfg(test)]
mod tests;

use super::window::MAX_CWND;
use super::{AckSample, BbrDetails, Cause, CongestionControl};
use crate::tcp::recovery::Phase;
use crate::tcp::time::{Duration, Instant};
use loss::Undo;
use model::{Aggregation, Bandwidth, MinRtt, Rounds};
use probe_bw::Cycle;
use startup::FullPipe;

/// No bound, of a window in bytes.
const UNBOUNDED: u32 = u32::MAX;

/// What BBR is doing (section 5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Startup,
    Drain,
    ProbeBwDown,
    ProbeBwCruise,
    ProbeBwRefill,
    ProbeBwUp,
    ProbeRtt,
}

impl State {
    fn is_probe_bw(self) -> bool {
        matches!(
            self,
            State::ProbeBwDown | State::ProbeBwCruise | State::ProbeBwRefill | State::ProbeBwUp
        )
    }

    /// Accelerating: losses then tell of the limit that is looked for.
    fn is_probing(self) -> bool {
        matches!(
            self,
            State::Startup | State::ProbeBwRefill | State::ProbeBwUp
        )
    }

    /// Pacing rate in hundredths of the bandwidth (section 5.6.1).
    fn pacing_gain(self) -> u64 {
        match self {
            State::Startup => 277,
            State::Drain => 50,
            State::ProbeBwDown => 90,
            State::ProbeBwUp => 125,
            State::ProbeBwCruise | State::ProbeBwRefill | State::ProbeRtt => 100,
        }
    }

    /// Window in hundredths of the bandwidth-delay product (section 5.6.1).
    fn cwnd_gain(self) -> u64 {
        match self {
            State::ProbeBwUp => 225,
            State::ProbeRtt => 50,
            _ => 200,
        }
    }
}

/// The delivery rate sample of the ACK at hand (section 4.1).
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    /// Bytes a second; 0: none.
    delivery_rate: u64,
    delivered: u64,
    prior_delivered: u64,
    tx_in_flight: u32,
    lost: u64,
    app_limited: bool,
    /// There is one.
    valid: bool,
}

/// State of BBR. Windows are in bytes, rates in bytes a second.
#[derive(Clone, Debug)]
pub struct Bbr {
    state: State,
    /// Stamps hold from the first event on.
    started: bool,
    /// The latest event.
    latest: Instant,
    mss: u32,
    initial_window: u32,
    cwnd: u32,
    /// The last window that neither recovery nor ProbeRTT had cut.
    prior_cwnd: u32,
    pacing_rate: u64,
    /// The pacing rate was derived from a round trip, not from a guess.
    paced_by_rtt: bool,
    /// Where loss recovery stood at the latest ACK.
    phase: Phase,
    sample: Sample,
    /// Total delivered on the connection.
    delivered: u64,
    rounds: Rounds,
    bandwidth: Bandwidth,
    min_rtt: MinRtt,
    aggregation: Aggregation,
    full_pipe: FullPipe,
    cycle: Cycle,
    losses: loss::Round,
    /// Bounds of the short-term model (section 5.5.10.3).
    bw_shortterm: u64,
    inflight_shortterm: u32,
    /// Bound of the long-term model (section 5.5.10.2).
    inflight_longterm: u32,
    undo: Undo,
    /// Round in which Drain began.
    drain_start: u64,
    /// Sending began again after the connection had nothing in flight and nothing to send.
    idle_restart: bool,
    probe_rtt: probe_rtt::Visit,
}

impl Bbr {
    /// Starts with a window of `initial_window` bytes, in Startup.
    pub fn new(initial_window: u32) -> Self {
        let guess = u64::from(initial_window) * 1000;
        Bbr {
            state: State::Startup,
            started: false,
            latest: Instant::ZERO,
            mss: 0,
            initial_window,
            cwnd: initial_window,
            prior_cwnd: 0,
            // A round trip of 1 ms until there is one (section 5.6.2).
            pacing_rate: guess * State::Startup.pacing_gain() / 100,
            paced_by_rtt: false,
            phase: Phase::Open,
            sample: Sample::default(),
            delivered: 0,
            rounds: Rounds::default(),
            bandwidth: Bandwidth::default(),
            min_rtt: MinRtt::new(),
            aggregation: Aggregation::new(),
            full_pipe: FullPipe::default(),
            cycle: Cycle::new(),
            losses: loss::Round::default(),
            bw_shortterm: u64::MAX,
            inflight_shortterm: UNBOUNDED,
            inflight_longterm: UNBOUNDED,
            undo: Undo::default(),
            drain_start: 0,
            idle_restart: false,
            probe_rtt: probe_rtt::Visit::default(),
        }
    }

    pub(super) fn details(&self) -> BbrDetails {
        BbrDetails {
            bandwidth: self.bw(),
            min_rtt: self.min_rtt.get(),
            pacing_gain: self.state.pacing_gain(),
            cwnd_gain: self.state.cwnd_gain(),
        }
    }

    fn tick(&mut self, now: Instant) {
        self.latest = now;
        if !self.started {
            self.started = true;
            self.min_rtt.start(now);
            self.aggregation.restart(now);
        }
    }

    fn take_sample(&mut self, sample: &AckSample) {
        self.sample = match &sample.rate {
            None => {
                self.delivered += u64::from(sample.delivered);
                Sample::default()
            }
            Some(rate) => {
                self.delivered = rate.total_delivered;
                Sample {
                    delivery_rate: rate_of(rate.delivered, rate.interval),
                    delivered: rate.delivered,
                    prior_delivered: rate.prior_delivered,
                    tx_in_flight: rate.tx_in_flight,
                    lost: rate.lost,
                    app_limited: rate.app_limited
                        || rate.prior_delivered <= self.probe_rtt.low_rate_until,
                    valid: true,
                }
            }
        };
    }

    /// Section 5.2.3.
    fn update_model_and_state(&mut self, ack: &AckSample) {
        self.update_latest_delivery();
        self.update_congestion_signals();
        self.update_aggregation(ack.now, ack.delivered);
        self.check_full_pipe();
        self.check_startup_done(ack);
        self.check_drain_done(ack);
        self.update_cycle(ack);
        self.update_min_rtt(ack);
        self.check_probe_rtt(ack);
        self.advance_latest_delivery();
    }

    /// BBR.bw: what the path gives us (section 5.5.10.3).
    fn bw(&self) -> u64 {
        self.bandwidth.max().min(self.bw_shortterm)
    }

    fn is_in_recovery(&self) -> bool {
        self.phase != Phase::Open
    }

    fn save_cwnd(&mut self) {
        self.prior_cwnd = match self.is_in_recovery() || self.state == State::ProbeRtt {
            true => self.prior_cwnd.max(self.cwnd),
            false => self.cwnd,
        };
    }

    fn restore_cwnd(&mut self) {
        self.cwnd = self.cwnd.max(self.prior_cwnd);
    }
}

impl CongestionControl for Bbr {
    fn cwnd(&self) -> u32 {
        self.cwnd
    }

    fn ssthresh(&self) -> u32 {
        u32::MAX
    }

    fn pacing_rate(&self) -> Option<u64> {
        Some(self.pacing_rate)
    }

    fn on_ack(&mut self, sample: &AckSample, mss: u32) {
        self.mss = mss;
        self.tick(sample.now);
        self.take_sample(sample);
        if self.phase == Phase::Loss && sample.phase == Phase::Open {
            self.restore_cwnd();
        }
        self.phase = sample.phase;
        if sample.lost > 0 {
            self.losses.count_event();
        }
        self.update_model_and_state(sample);
        self.set_pacing_rate();
        self.set_cwnd_by_model(sample.delivered);
    }

    fn on_lost(&mut self, bytes: u32, tx_in_flight: u32, _delivered: u64, lost: u64) {
        self.on_lost_packet(bytes, tx_in_flight, lost);
    }

    fn on_congestion(&mut self, now: Instant, cause: Cause, _flight: u32, mss: u32) {
        self.mss = mss;
        self.tick(now);
        self.save_cwnd();
        self.save_upon_loss();
        if cause == Cause::Mark {
            self.on_mark();
        }
    }

    fn set_cwnd(&mut self, cwnd: u32) {
        self.cwnd = cwnd;
    }

    fn set_ssthresh(&mut self, _ssthresh: u32) {}

    fn on_recovered(&mut self, _now: Instant, _flight: u32, _mss: u32) {
        self.restore_cwnd();
        self.bound_cwnd();
    }

    fn on_timeout(&mut self, now: Instant, _flight: u32, mss: u32, repeated: bool) {
        self.mss = mss;
        self.tick(now);
        if !repeated {
            self.save_cwnd();
            self.save_upon_loss();
        }
        self.cwnd = mss;
        self.phase = Phase::Loss;
    }

    fn on_undo(&mut self, now: Instant) {
        self.tick(now);
        self.on_spurious_loss();
    }

    fn on_sent(&mut self, now: Instant, in_flight: u32, app_limited: bool) {
        self.tick(now);
        if in_flight == 0 && app_limited {
            self.restart_from_idle(now);
        }
    }

    /// The window stays: pacing makes the restart gentle (section 5.4).
    fn on_idle(&mut self, _now: Instant, _window: u32) {}

    fn on_mss_change(&mut self, old: u32, mss: u32) {
        self.mss = mss;
        self.cwnd = super::window::resized(self.cwnd, old, mss).max(mss);
        self.initial_window = super::window::resized(self.initial_window, old, mss).max(mss);
    }

    fn governs_recovery(&self) -> bool {
        true
    }
}

/// Bytes a second.
fn rate_of(bytes: u64, interval: Duration) -> u64 {
    bytes
        .saturating_mul(1_000_000)
        .checked_div(interval.as_micros())
        .unwrap_or(0)
}

/// Bytes that `rate` bytes a second make in `span`.
fn volume_of(rate: u64, span: Duration) -> u64 {
    let volume = u128::from(rate) * u128::from(span.as_micros()) / 1_000_000;
    u64::try_from(volume).unwrap_or(u64::MAX)
}

/// As a window.
fn window_of(bytes: u64) -> u32 {
    bytes.min(MAX_CWND.into()) as u32
}

/// `percent` hundredths of a window.
fn percent_of(window: u32, percent: u64) -> u32 {
    (u64::from(window) * percent / 100).min(UNBOUNDED.into()) as u32
}
