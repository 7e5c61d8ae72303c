//! HyStart++ (RFC 9406): leaves the initial slow start when round trips grow longer, before losses
//! say it, by way of a slower conservative slow start (CSS).

use super::AckSample;

/// Bounds of the growth of the round trip that counts, in microseconds.
const MIN_RTT_THRESH: u32 = 4_000;
/// See [`MIN_RTT_THRESH`].
const MAX_RTT_THRESH: u32 = 16_000;
/// Part of the round trip that its growth is compared to.
const MIN_RTT_DIVISOR: u32 = 8;
/// Samples of a round that make its minimum count.
const RTT_SAMPLES: u8 = 8;
/// By how much slower CSS opens the window.
const CSS_GROWTH_DIVISOR: u32 = 4;
/// Rounds of CSS before congestion avoidance.
const CSS_ROUNDS: u8 = 5;

/// No measurement.
const NONE: u32 = u32::MAX;

/// State of HyStart++. Round trips are in microseconds.
#[derive(Clone, Debug)]
pub(super) struct HyStart {
    /// SND.NXT when the round began: it ends when that is acknowledged.
    round_end: u64,
    last_min: u32,
    current_min: u32,
    samples: u8,
    /// In CSS.
    conservative: bool,
    /// Rounds spent there.
    css_rounds: u8,
    /// Least round trip when it began.
    css_baseline: u32,
}

impl HyStart {
    pub(super) fn new() -> Self {
        HyStart {
            round_end: 0,
            last_min: NONE,
            current_min: NONE,
            samples: 0,
            conservative: false,
            css_rounds: 0,
            css_baseline: NONE,
        }
    }

    /// Takes an ACK of slow start; says by how much it opens the window, or that slow start is over.
    pub(super) fn on_ack(&mut self, sample: &AckSample) -> Option<u32> {
        if let Some(rtt) = sample.rtt {
            let rtt = u32::try_from(rtt.as_micros()).unwrap_or(NONE - 1);
            self.current_min = self.current_min.min(rtt);
            self.samples = self.samples.saturating_add(1);
        }
        let enough = self.samples >= RTT_SAMPLES;
        if self.conservative {
            if enough && self.current_min < self.css_baseline {
                // The queue has gone: it was a spike.
                self.conservative = false;
                self.css_rounds = 0;
            }
        } else if enough && self.last_min != NONE {
            let threshold = (self.last_min / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
            if self.current_min >= self.last_min.saturating_add(threshold) {
                self.conservative = true;
                self.css_baseline = self.current_min;
            }
        }
        let conservative = self.conservative;
        if sample.una >= self.round_end {
            self.css_rounds += u8::from(conservative);
            self.round_end = sample.nxt;
            self.last_min = self.current_min;
            self.current_min = NONE;
            self.samples = 0;
            if self.css_rounds >= CSS_ROUNDS {
                return None;
            }
        }
        Some(match conservative {
            true => sample.acked / CSS_GROWTH_DIVISOR,
            false => sample.acked,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MSS, ack};
    use super::*;
    use crate::tcp::time::Duration;

    /// Plays a round of `acks` ACKs with a round trip of `rtt` ms; gives what the last one allowed.
    fn round(hystart: &mut HyStart, number: u64, acks: u64, rtt: u64) -> Option<u32> {
        let mut allowed = Some(0);
        for n in 1..=acks {
            allowed = hystart.on_ack(&AckSample {
                una: number * 1000 + n * 1000 / acks,
                nxt: (number + 2) * 1000,
                rtt: Some(Duration::from_millis(rtt)),
                ..ack(MSS)
            });
        }
        allowed
    }

    #[test]
    fn steady_round_trips_leave_slow_start_alone() {
        let mut hystart = HyStart::new();
        for number in 0..50 {
            assert_eq!(round(&mut hystart, number, 20, 40), Some(MSS));
        }
    }

    #[test]
    fn longer_round_trips_slow_it_and_five_rounds_later_end_it() {
        let mut hystart = HyStart::new();
        round(&mut hystart, 0, 20, 40);
        round(&mut hystart, 1, 20, 40);
        let mut rounds = 0;
        while let Some(allowed) = round(&mut hystart, 2 + rounds, 20, 46) {
            assert_eq!(allowed, MSS / CSS_GROWTH_DIVISOR);
            rounds += 1;
            assert!(rounds < 10, "slow start goes on");
        }
        assert_eq!(rounds, 4, "the fifth round ends it");
    }

    #[test]
    fn a_spike_that_passes_brings_slow_start_back() {
        let mut hystart = HyStart::new();
        round(&mut hystart, 0, 20, 40);
        round(&mut hystart, 1, 20, 40);
        assert_eq!(round(&mut hystart, 2, 20, 60), Some(MSS / 4));
        assert_eq!(round(&mut hystart, 3, 20, 40), Some(MSS));
    }

    #[test]
    fn a_few_samples_say_nothing() {
        let mut hystart = HyStart::new();
        for number in 0..20 {
            let rtt = if number < 2 { 40 } else { 80 };
            assert_eq!(round(&mut hystart, number, 7, rtt), Some(MSS));
        }
    }
}
