//! What losses and marks teach (sections 5.5.10 and 5.5.11): while probing, that too much was in
//! flight; at other times, that the path gives less for now.

use super::{Bbr, State, UNBOUNDED};

/// Loss rate that is too high, in hundredths (BBR.LossThresh).
const LOSS_THRESH: u64 = 2;
/// By how much a bound falls at most, in hundredths (BBR.Beta).
const BETA: u64 = 70;

/// The round trip at hand, as far as losses go.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    /// It ends when something is delivered that was sent after so much was.
    end: u64,
    /// The ACK at hand begins one.
    pub(super) round_start: bool,
    /// Something was lost in it.
    lossy: bool,
    /// ACKs in it that told of losses.
    pub(super) events: u8,
    bw_latest: u64,
    inflight_latest: u64,
}

impl Round {
    /// ResetCongestionSignals.
    pub(super) fn reset(&mut self) {
        self.lossy = false;
        self.bw_latest = 0;
        self.inflight_latest = 0;
    }

    pub(super) fn count_event(&mut self) {
        self.events = self.events.saturating_add(1);
    }

    /// Most that was delivered in a round trip, lately.
    pub(super) fn inflight_latest(&self) -> u32 {
        super::window_of(self.inflight_latest)
    }
}

/// What is needed to take the answer to a loss back (section 5.5.11.1).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Undo {
    /// The phase that the loss ended.
    pub(super) state: Option<State>,
    bw_shortterm: u64,
    inflight_shortterm: u32,
    inflight_longterm: u32,
}

impl Bbr {
    /// UpdateLatestDeliverySignals.
    pub(super) fn update_latest_delivery(&mut self) {
        let sample = self.sample;
        let losses = &mut self.losses;
        losses.bw_latest = losses.bw_latest.max(sample.delivery_rate);
        losses.inflight_latest = losses.inflight_latest.max(sample.delivered);
        losses.round_start = sample.valid && sample.prior_delivered >= losses.end;
        if losses.round_start {
            losses.end = self.delivered;
        }
    }

    /// AdvanceLatestDeliverySignals.
    pub(super) fn advance_latest_delivery(&mut self) {
        if self.losses.round_start {
            self.losses.bw_latest = self.sample.delivery_rate;
            self.losses.inflight_latest = self.sample.delivered;
        }
    }

    /// UpdateCongestionSignals: once a round, the short-term model follows what was lost.
    pub(super) fn update_congestion_signals(&mut self) {
        self.update_max_bw();
        if !self.losses.round_start {
            return;
        }
        if self.losses.lossy && !self.state.is_probing() {
            self.lower_short_term();
        }
        self.losses.lossy = false;
    }

    fn lower_short_term(&mut self) {
        if self.bw_shortterm == u64::MAX {
            self.bw_shortterm = self.bandwidth.max();
        }
        if self.inflight_shortterm == UNBOUNDED {
            self.inflight_shortterm = self.cwnd;
        }
        let bw = self.bw_shortterm / 100 * BETA;
        self.bw_shortterm = self.losses.bw_latest.max(bw);
        let inflight = super::percent_of(self.inflight_shortterm, BETA);
        self.inflight_shortterm = self.losses.inflight_latest().max(inflight);
    }

    pub(super) fn reset_short_term(&mut self) {
        self.bw_shortterm = u64::MAX;
        self.inflight_shortterm = UNBOUNDED;
    }

    /// IsInflightTooHigh, of the sample at hand.
    pub(super) fn is_inflight_too_high(&self) -> bool {
        is_too_high(self.sample.lost, self.sample.tx_in_flight)
    }

    /// HandleLostPacket.
    pub(super) fn on_lost_packet(&mut self, size: u32, tx_in_flight: u32, lost: u64) {
        self.note_loss();
        if self.cycle.is_probe_sample && is_too_high(lost, tx_in_flight) {
            let in_flight = inflight_at_loss(size, tx_in_flight, lost);
            self.on_inflight_too_high(in_flight);
        }
    }

    fn note_loss(&mut self) {
        if !self.losses.lossy {
            self.losses.end = self.delivered;
            self.save_upon_loss();
        }
        self.losses.lossy = true;
    }

    /// HandleInflightTooHigh.
    fn on_inflight_too_high(&mut self, tx_in_flight: u32) {
        self.cycle.too_high = true;
        self.cycle.is_probe_sample = false;
        if !self.sample.app_limited {
            let least = super::percent_of(self.target_inflight(), BETA);
            self.inflight_longterm = tx_in_flight.max(least);
        }
        if self.state == State::ProbeBwUp {
            self.undo.state = Some(State::ProbeBwUp);
            self.start_down(self.latest);
        }
    }

    /// A congestion mark counts as a loss (section 3.7 leaves the answer open but asks for one).
    pub(super) fn on_mark(&mut self) {
        self.note_loss();
        if self.state == State::Startup {
            self.end_startup_by_congestion();
        } else if self.cycle.is_probe_sample {
            self.on_inflight_too_high(self.sample.tx_in_flight);
        }
    }

    /// SaveStateUponLoss.
    pub(super) fn save_upon_loss(&mut self) {
        self.save_cwnd();
        self.undo = Undo {
            state: None,
            bw_shortterm: self.bw_shortterm,
            inflight_shortterm: self.inflight_shortterm,
            inflight_longterm: self.inflight_longterm,
        };
    }

    /// HandleSpuriousLossDetection.
    pub(super) fn on_spurious_loss(&mut self) {
        self.restore_cwnd();
        self.losses.lossy = false;
        self.reset_full_pipe(0);
        self.bw_shortterm = self.bw_shortterm.max(self.undo.bw_shortterm);
        self.inflight_shortterm = self.inflight_shortterm.max(self.undo.inflight_shortterm);
        self.inflight_longterm = self.inflight_longterm.max(self.undo.inflight_longterm);
        match self.undo.state.take() {
            Some(State::Startup) if self.state != State::Startup => {
                self.full_pipe.reached = false;
                if self.state != State::ProbeRtt {
                    self.enter_startup();
                }
            }
            Some(State::ProbeBwUp) if !matches!(self.state, State::ProbeBwUp | State::ProbeRtt) => {
                self.start_refill();
            }
            _ => {}
        }
    }
}

fn is_too_high(lost: u64, tx_in_flight: u32) -> bool {
    lost * 100 > u64::from(tx_in_flight) * LOSS_THRESH
}

/// InflightAtLoss: how much was in flight when the loss rate, which rises inside what was sent at
/// once, became too high.
pub(super) fn inflight_at_loss(size: u32, tx_in_flight: u32, lost: u64) -> u32 {
    let before = tx_in_flight.saturating_sub(size);
    let lost_before = lost.saturating_sub(size.into());
    let allowed = u64::from(before) * LOSS_THRESH / 100;
    let prefix = allowed.saturating_sub(lost_before) * 100 / (100 - LOSS_THRESH);
    super::window_of(u64::from(before) + prefix)
}
