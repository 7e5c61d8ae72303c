//! What BBR measures (section 5.5): packet-timed rounds, the maximum bandwidth, the minimum round
//! trip, and how much ACKs come in lumps.

use super::{AckSample, Bbr, volume_of};
use crate::tcp::time::{Duration, Instant};

/// How long a minimum of the round trip holds (BBR.MinRTTFilterLen).
const MIN_RTT_FILTER: Duration = Duration::from_secs(10);
/// Least time between two visits of ProbeRTT (BBR.ProbeRTTInterval).
const PROBE_RTT_INTERVAL: Duration = Duration::from_secs(5);
/// Rounds of one half of the filter of aggregation (half of BBR.ExtraAckedFilterLen).
const AGGREGATION_ROUNDS: u8 = 5;
/// No round trip was measured.
const NO_RTT: Duration = Duration::from_micros(u64::MAX);

/// Packet-timed round trips (section 5.5.1).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rounds {
    /// The round ends when something is delivered that was sent after so much was.
    end: u64,
    pub(super) count: u64,
    /// The ACK at hand begins one.
    pub(super) start: bool,
}

/// Maximum of the delivery rate over this cycle of ProbeBW and the one before (section 5.5.5).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bandwidth {
    previous: u64,
    current: u64,
}

impl Bandwidth {
    pub(super) fn max(&self) -> u64 {
        self.previous.max(self.current)
    }

    fn update(&mut self, rate: u64) {
        self.current = self.current.max(rate);
    }

    /// Another cycle begins. One without samples does not count.
    pub(super) fn advance(&mut self) {
        if self.current > 0 {
            self.previous = self.current;
            self.current = 0;
        }
    }
}

/// Minimum of the round trip, over ten seconds and over the time between visits of ProbeRTT.
#[derive(Clone, Copy, Debug)]
pub(super) struct MinRtt {
    value: Duration,
    stamp: Instant,
    recent: Duration,
    pub(super) recent_stamp: Instant,
    /// `recent` is due for another measurement.
    pub(super) expired: bool,
}

impl MinRtt {
    pub(super) fn new() -> Self {
        MinRtt {
            value: NO_RTT,
            stamp: Instant::ZERO,
            recent: NO_RTT,
            recent_stamp: Instant::ZERO,
            expired: false,
        }
    }

    pub(super) fn start(&mut self, now: Instant) {
        self.stamp = now;
        self.recent_stamp = now;
    }

    pub(super) fn get(&self) -> Option<Duration> {
        (self.value != NO_RTT).then_some(self.value)
    }

    fn update(&mut self, now: Instant, rtt: Option<Duration>) {
        self.expired = now > self.recent_stamp + PROBE_RTT_INTERVAL;
        if let Some(rtt) = rtt
            && (rtt < self.recent || self.expired)
        {
            self.recent = rtt;
            self.recent_stamp = now;
        }
        if self.recent < self.value || now > self.stamp + MIN_RTT_FILTER {
            self.value = self.recent;
            self.stamp = self.recent_stamp;
        }
    }
}

/// How much more than the bandwidth lets expect is acknowledged at once (section 5.5.9).
#[derive(Clone, Copy, Debug)]
pub(super) struct Aggregation {
    since: Instant,
    delivered: u64,
    /// Maximum of this half of the window and of the other one.
    extra: [u32; 2],
    rounds: u8,
}

impl Aggregation {
    pub(super) fn new() -> Self {
        Aggregation {
            since: Instant::ZERO,
            delivered: 0,
            extra: [0; 2],
            rounds: 0,
        }
    }

    pub(super) fn restart(&mut self, now: Instant) {
        self.since = now;
    }

    /// BBR.extra_acked in bytes.
    pub(super) fn extra(&self) -> u32 {
        self.extra[0].max(self.extra[1])
    }
}

impl Bbr {
    pub(super) fn start_round(&mut self) {
        self.rounds.end = self.delivered;
    }

    /// UpdateMaxBw, with UpdateRound in it.
    pub(super) fn update_max_bw(&mut self) {
        let sample = self.sample;
        self.rounds.start = sample.valid && sample.prior_delivered >= self.rounds.end;
        if self.rounds.start {
            self.start_round();
            self.rounds.count += 1;
            self.cycle.rounds_since_probe += 1;
        }
        if sample.delivery_rate >= self.bandwidth.max() || !sample.app_limited {
            self.bandwidth.update(sample.delivery_rate);
        }
    }

    pub(super) fn update_min_rtt(&mut self, ack: &AckSample) {
        self.min_rtt.update(ack.now, ack.rtt);
        if let Some(rtt) = ack.rtt
            && !self.paced_by_rtt
        {
            self.init_pacing_rate(rtt);
        }
    }

    /// UpdateACKAggregation.
    pub(super) fn update_aggregation(&mut self, now: Instant, acked: u32) {
        let expected = volume_of(self.bw(), now.since(self.aggregation.since));
        let full = self.full_pipe.reached;
        let aggregation = &mut self.aggregation;
        let mut extra = aggregation.delivered.checked_sub(expected);
        if extra.is_none_or(|extra| extra == 0) {
            aggregation.delivered = 0;
            aggregation.since = now;
            extra = Some(0);
        }
        aggregation.delivered += u64::from(acked);
        let extra = (extra.unwrap_or(0) + u64::from(acked)).min(self.cwnd.into()) as u32;
        if self.rounds.start {
            aggregation.rounds += 1;
            if aggregation.rounds >= if full { AGGREGATION_ROUNDS } else { 1 } {
                aggregation.rounds = 0;
                aggregation.extra = [0, aggregation.extra[0]];
            }
        }
        aggregation.extra[0] = aggregation.extra[0].max(extra);
    }
}
