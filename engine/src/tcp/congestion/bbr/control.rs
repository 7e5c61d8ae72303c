//! What BBR sets (section 5.6): pacing rate and congestion window.

use super::{Bbr, State, rate_of, volume_of, window_of};
use crate::tcp::time::Duration;

/// By how much the pace stays below the bandwidth, in hundredths (BBR.PacingMarginPercent).
const MARGIN: u64 = 1;
/// Segments that keep a pipe going, however short (BBR.MinPipeCwnd).
const MIN_PIPE: u32 = 4;
/// Most that is sent at once, in bytes.
const MAX_QUANTUM: u64 = 64 << 10;

impl Bbr {
    pub(super) fn min_pipe(&self) -> u32 {
        self.mss.saturating_mul(MIN_PIPE)
    }

    /// BDPMultiple: `gain` hundredths of the bandwidth-delay product in bytes.
    pub(super) fn bdp(&self, gain: u64) -> u32 {
        self.bdp_at(self.bw(), gain)
    }

    fn bdp_at(&self, bw: u64, gain: u64) -> u32 {
        match self.min_rtt.get() {
            None => self.initial_window,
            Some(rtt) => window_of(volume_of(bw, rtt).saturating_mul(gain) / 100),
        }
    }

    /// TargetInflight.
    pub(super) fn target_inflight(&self) -> u32 {
        self.bdp(100).min(self.cwnd)
    }

    /// QuantizationBudget: room for what stands in queues of offloads.
    fn quantized(&self, window: u32) -> u32 {
        let window = window.max(3 * self.quantum()).max(self.min_pipe());
        match self.state {
            State::ProbeBwUp => window.saturating_add(2 * self.mss),
            _ => window,
        }
    }

    /// C.send_quantum in bytes.
    fn quantum(&self) -> u32 {
        (self.pacing_rate / 1000)
            .min(MAX_QUANTUM)
            .max(2 * u64::from(self.mss)) as u32
    }

    /// Inflight(gain).
    pub(super) fn inflight(&self, gain: u64) -> u32 {
        self.quantized(self.bdp(gain))
    }

    /// The same by the maximum bandwidth, whatever losses say for now.
    pub(super) fn max_inflight(&self, gain: u64) -> u32 {
        self.quantized(self.bdp_at(self.bandwidth.max(), gain))
    }

    /// The first round trip that is measured replaces the guess.
    pub(super) fn init_pacing_rate(&mut self, rtt: Duration) {
        self.paced_by_rtt = true;
        let gain = State::Startup.pacing_gain();
        self.pacing_rate = rate_of(self.initial_window.into(), rtt) / 100 * gain;
    }

    /// SetPacingRate.
    pub(super) fn set_pacing_rate(&mut self) {
        self.pace(self.state.pacing_gain());
    }

    /// SetPacingRateWithGain: slows down only once the pipe has been full.
    pub(super) fn pace(&mut self, gain: u64) {
        let rate = self.bw().min(u64::MAX >> 16) * gain / 100 * (100 - MARGIN) / 100;
        if rate > self.pacing_rate || (self.full_pipe.reached && rate > 0) {
            self.pacing_rate = rate;
        }
    }

    /// SetCwnd.
    pub(super) fn set_cwnd_by_model(&mut self, acked: u32) {
        let cap = self.bdp(self.state.cwnd_gain());
        let cap = self.quantized(cap.saturating_add(self.aggregation.extra()));
        let grown = window_of(u64::from(self.cwnd) + u64::from(acked));
        if self.full_pipe.reached {
            self.cwnd = grown.min(cap);
        } else if self.cwnd < cap || self.delivered < self.initial_window.into() {
            self.cwnd = grown;
        }
        self.cwnd = self.cwnd.max(self.min_pipe());
        if self.state == State::ProbeRtt {
            self.cwnd = self.cwnd.min(self.probe_rtt_cwnd());
        }
        self.bound_cwnd();
    }

    /// BoundCwndForModel.
    pub(super) fn bound_cwnd(&mut self) {
        let long_term = match self.state {
            State::ProbeBwCruise | State::ProbeRtt => self.inflight_with_headroom(),
            state if state.is_probe_bw() => self.inflight_longterm,
            _ => u32::MAX,
        };
        let cap = long_term.min(self.inflight_shortterm).max(self.min_pipe());
        self.cwnd = self.cwnd.min(cap);
    }
}
