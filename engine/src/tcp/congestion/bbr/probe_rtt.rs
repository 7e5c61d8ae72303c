//! ProbeRTT (section 5.3.4): when the round trip has not been seen at its least for five seconds,
//! half of the pipe is left empty for a moment. Also the restart after idleness (section 5.4).

use super::probe_bw::AckPhase;
use super::{AckSample, Bbr, State};
use crate::tcp::time::{Duration, Instant};

/// How long the flight stays small (BBR.ProbeRTTDuration).
const DURATION: Duration = Duration::from_millis(200);

/// One visit of ProbeRTT.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Visit {
    /// When it may end; `None` while the flight is still too big.
    end: Option<Instant>,
    round_done: bool,
    /// What was sent before so much was delivered says nothing about the bandwidth.
    pub(super) low_rate_until: u64,
}

impl Bbr {
    pub(super) fn check_probe_rtt(&mut self, ack: &AckSample) {
        if self.state != State::ProbeRtt && self.min_rtt.expired && !self.idle_restart {
            self.save_cwnd();
            self.state = State::ProbeRtt;
            self.probe_rtt.end = None;
            self.cycle.ack_phase = AckPhase::ProbeStopping;
            self.start_round();
        }
        if self.state == State::ProbeRtt {
            self.visit_probe_rtt(ack);
        }
        if ack.delivered > 0 {
            self.idle_restart = false;
        }
    }

    fn visit_probe_rtt(&mut self, ack: &AckSample) {
        self.probe_rtt.low_rate_until = self.delivered + u64::from(ack.in_flight);
        match self.probe_rtt.end {
            None if ack.in_flight <= self.probe_rtt_cwnd() => {
                self.probe_rtt.end = Some(ack.now + DURATION);
                self.probe_rtt.round_done = false;
                self.start_round();
            }
            None => {}
            Some(_) => {
                self.probe_rtt.round_done |= self.rounds.start;
                if self.probe_rtt.round_done {
                    self.leave_probe_rtt_if_over(ack.now);
                }
            }
        }
    }

    fn leave_probe_rtt_if_over(&mut self, now: Instant) {
        if self.probe_rtt.end.is_none_or(|end| now <= end) {
            return;
        }
        self.min_rtt.recent_stamp = now;
        self.restore_cwnd();
        self.reset_short_term();
        if self.full_pipe.reached {
            self.start_down(now);
            self.start_cruise();
        } else {
            self.enter_startup();
        }
    }

    pub(super) fn probe_rtt_cwnd(&self) -> u32 {
        self.bdp(State::ProbeRtt.cwnd_gain()).max(self.min_pipe())
    }

    /// HandleRestartFromIdle.
    pub(super) fn restart_from_idle(&mut self, now: Instant) {
        self.idle_restart = true;
        self.aggregation.restart(now);
        if self.state.is_probe_bw() {
            self.pace(100);
        } else if self.state == State::ProbeRtt {
            self.leave_probe_rtt_if_over(now);
        }
    }
}
