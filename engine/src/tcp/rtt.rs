//! Round-trip time and retransmission timeout (RFC 6298).

use super::time::Duration;

/// Timeout after a SYN had to be retransmitted and no sample could be taken (RFC 6298 5.7).
const RTO_AFTER_LOST_SYN: Duration = Duration::from_secs(3);

/// Estimator of one connection. Microseconds in 32 bits: 71 minutes are more than any bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct RttEstimator {
    srtt: u32,
    rttvar: u32,
    min: u32,
    rto: u32,
    rto_min: u32,
    rto_max: u32,
    /// Doublings since the last valid sample (RFC 6298 5.5).
    backoff: u8,
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

impl RttEstimator {
    pub(super) fn new(initial: Duration, min: Duration, max: Duration) -> Self {
        RttEstimator {
            srtt: 0,
            rttvar: 0,
            min: u32::MAX,
            rto: micros(initial),
            rto_min: micros(min),
            rto_max: micros(max),
            backoff: 0,
        }
    }

    /// Takes a sample (RFC 6298 2.2 and 2.3); ends any backoff.
    pub(super) fn sample(&mut self, rtt: Duration) {
        let rtt = micros(rtt).clamp(1, self.rto_max.max(1));
        self.min = self.min.min(rtt);
        if self.srtt == 0 {
            self.srtt = rtt;
            self.rttvar = rtt / 2;
        } else {
            let error = self.srtt.abs_diff(rtt);
            self.rttvar = weighted(self.rttvar, error, 4);
            self.srtt = weighted(self.srtt, rtt, 8).max(1);
        }
        self.backoff = 0;
        let margin = self.rttvar.saturating_mul(4).max(self.rto_min);
        self.rto = self.srtt.saturating_add(margin);
    }

    /// A round trip that says nothing of the timeout.
    pub(super) fn note_min(&mut self, rtt: Duration) {
        self.min = self.min.min(micros(rtt).max(1));
    }

    /// Least margin of the timeout above the round trip.
    pub(super) fn rto_min(&self) -> Duration {
        Duration::from_micros(self.rto_min.into())
    }

    /// The timer expired: doubles the timeout.
    pub(super) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// Ends a backoff that was not due to loss (window probes).
    pub(super) fn end_backoff(&mut self) {
        self.backoff = 0;
    }

    /// RFC 6298 5.7: without a sample from a handshake whose SYN was lost, begin carefully.
    pub(super) fn handshake_done(&mut self, syn_retransmitted: bool) {
        self.backoff = 0;
        if self.srtt == 0 && syn_retransmitted {
            self.rto = self.rto.max(micros(RTO_AFTER_LOST_SYN));
        }
    }

    /// The timeout in force, backoff included.
    pub(super) fn rto(&self) -> Duration {
        let backed_off = u64::from(self.rto) << self.backoff.min(16);
        Duration::from_micros(backed_off.min(u64::from(self.rto_max)))
    }

    /// Whether the timeout has doubled as far as it may.
    pub(super) fn is_backed_off_fully(&self) -> bool {
        self.rto().as_micros() >= self.rto_max.into()
    }

    /// Smoothed round-trip time; `None` before the first sample.
    pub(super) fn srtt(&self) -> Option<Duration> {
        (self.srtt != 0).then(|| Duration::from_micros(self.srtt.into()))
    }

    pub(super) fn rttvar(&self) -> Duration {
        Duration::from_micros(self.rttvar.into())
    }

    pub(super) fn min_rtt(&self) -> Option<Duration> {
        (self.min != u32::MAX).then(|| Duration::from_micros(self.min.into()))
    }

    pub(super) fn backoff(&self) -> u8 {
        self.backoff
    }
}

/// `old` moved towards `new` by one part in `parts`.
fn weighted(old: u32, new: u32, parts: u64) -> u32 {
    ((u64::from(old) * (parts - 1) + u64::from(new)) / parts) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimator() -> RttEstimator {
        let (initial, min) = (Duration::from_secs(1), Duration::from_millis(200));
        RttEstimator::new(initial, min, Duration::from_secs(120))
    }

    #[test]
    fn the_first_sample_sets_srtt_and_half_of_it_as_variation() {
        let mut rtt = estimator();
        assert_eq!(rtt.rto(), Duration::from_secs(1));
        rtt.sample(Duration::from_millis(300));
        assert_eq!(rtt.srtt(), Some(Duration::from_millis(300)));
        assert_eq!(rtt.rttvar(), Duration::from_millis(150));
        assert_eq!(rtt.rto(), Duration::from_millis(900));
    }

    #[test]
    fn later_samples_weigh_an_eighth_and_a_quarter() {
        let mut rtt = estimator();
        rtt.sample(Duration::from_millis(800));
        rtt.sample(Duration::from_millis(1600));
        assert_eq!(rtt.srtt(), Some(Duration::from_millis(900)));
        assert_eq!(rtt.rttvar(), Duration::from_millis(500));
    }

    #[test]
    fn the_timeout_keeps_its_margin_on_a_fast_path() {
        let mut rtt = estimator();
        for _ in 0..100 {
            rtt.sample(Duration::from_micros(50));
        }
        assert_eq!(rtt.rto(), Duration::from_micros(200_050));
    }

    #[test]
    fn backoff_doubles_up_to_the_bound_and_ends_with_a_sample() {
        let mut rtt = estimator();
        rtt.back_off();
        assert_eq!(rtt.rto(), Duration::from_secs(2));
        for _ in 0..300 {
            rtt.back_off();
        }
        assert_eq!(rtt.rto(), Duration::from_secs(120));
        rtt.sample(Duration::from_millis(100));
        assert_eq!(rtt.rto(), Duration::from_millis(300));
    }

    #[test]
    fn a_lost_syn_without_a_sample_starts_at_three_seconds() {
        let mut rtt = estimator();
        rtt.back_off();
        rtt.handshake_done(true);
        assert_eq!(rtt.rto(), Duration::from_secs(3));
    }
}
