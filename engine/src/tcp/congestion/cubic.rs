//! CUBIC (RFC 9438): in congestion avoidance the window follows a cubic function of the time since
//! the last reduction, and is never behind NewReno's. Slow start is that of HyStart++ (RFC 9406).

use super::hystart::HyStart;
use super::window::{MAX_CWND, Windows, resized};
use super::{AckSample, Cause, CongestionControl};
use crate::tcp::recovery::Phase;
use crate::tcp::time::{Duration, Instant};

/// The window after a reduction: beta of RFC 9438 section 4.6 as a fraction.
const BETA: (u64, u64) = (7, 10);
/// The maximum remembered when it fell short of the one before: (1 + beta) / 2, section 4.7.
const FAST_CONVERGENCE: (u64, u64) = (17, 20);
/// What NewReno adds a round trip to be as fast with beta: 3 (1 - beta) / (1 + beta), section 4.3.
const ALPHA: (u64, u64) = (9, 17);

/// The curve of one stretch of congestion avoidance.
#[derive(Clone, Copy, Debug)]
struct Curve {
    /// When it began; [`Instant::NEVER`]: it has not.
    epoch: Instant,
    /// Bytes at the plateau: the window before the last reduction, or less (section 4.7).
    w_max: u32,
    /// Milliseconds from the epoch to the plateau.
    k: u32,
    /// NewReno's window, in bytes.
    w_est: u32,
    /// What `w_est` has to its credit, in bytes multiplied by the window.
    credit: u64,
}

impl Curve {
    const NONE: Curve = Curve {
        epoch: Instant::NEVER,
        w_max: 0,
        k: 0,
        w_est: 0,
        credit: 0,
    };

    fn has_begun(&self) -> bool {
        self.epoch != Instant::NEVER
    }

    fn begin(&mut self, now: Instant, cwnd: u32, mss: u32) {
        self.epoch = now;
        self.w_est = cwnd;
        self.credit = 0;
        self.w_max = self.w_max.max(cwnd);
        // K = cbrt((w_max - cwnd) / C) seconds with windows in segments and C = 0.4.
        let below = u64::from(self.w_max - cwnd);
        self.k = cube_root(below * 2_500_000_000 / u64::from(mss.max(1)));
    }

    /// W_cubic: bytes at `at` after the epoch.
    fn window(&self, at: Duration, mss: u32) -> u32 {
        // 100 s past the plateau no window is small enough to be of interest.
        let from_plateau = (at.as_millis() as i64 - i64::from(self.k)).clamp(-100_000, 100_000);
        let cubed = from_plateau * from_plateau * from_plateau / 1000;
        // C is 0.4 segments a cubic second, of which a thousand thousandths went above.
        let bytes = cubed * i64::from(mss) / 2_500_000;
        (i64::from(self.w_max) + bytes).clamp(0, MAX_CWND.into()) as u32
    }
}

/// State of CUBIC.
#[derive(Clone, Debug)]
pub struct Cubic {
    windows: Windows,
    /// Round-trip time last measured, in microseconds.
    rtt: u32,
    /// Gone after the first slow start.
    hystart: Option<HyStart>,
    /// Nothing before the first slow start ended: most connections never get there.
    avoidance: Option<Box<Avoidance>>,
}

/// What congestion avoidance needs to know.
#[derive(Clone, Debug)]
struct Avoidance {
    curve: Curve,
    /// Window when the threshold was last set: NewReno's estimate has caught up once it is there.
    prior_cwnd: u32,
    /// The latest ACK, or sending after idleness.
    seen: Instant,
    /// Windows, curve and `prior_cwnd` before the last reduction.
    before: Option<(Windows, Curve, u32)>,
}

impl Avoidance {
    fn new() -> Self {
        Avoidance {
            curve: Curve::NONE,
            prior_cwnd: 0,
            seen: Instant::ZERO,
            before: None,
        }
    }

    /// Time in which the window could not grow does not count (section 5.8).
    fn skip(&mut self, now: Instant) {
        if self.curve.has_begun() {
            self.curve.epoch += now.since(self.seen);
        }
    }

    /// W_est (section 4.3).
    fn grow_estimate(&mut self, cwnd: u32, acked: u32, mss: u32) {
        let (num, den) = match self.curve.w_est < self.prior_cwnd {
            true => ALPHA,
            false => (1, 1),
        };
        let cwnd = u64::from(cwnd.max(1));
        let credit = self.curve.credit + u64::from(acked) * u64::from(mss) * num / den;
        self.curve.credit = credit % cwnd;
        let grown = u64::from(self.curve.w_est) + credit / cwnd;
        self.curve.w_est = grown.min(MAX_CWND.into()) as u32;
    }
}

impl Cubic {
    /// Starts with a window of `initial_window` bytes, in slow start.
    pub fn new(initial_window: u32) -> Self {
        Cubic {
            windows: Windows::new(initial_window),
            rtt: 0,
            hystart: Some(HyStart::new()),
            avoidance: None,
        }
    }

    fn slow_start(&mut self, sample: &AckSample) -> u32 {
        if self.windows.ssthresh != u32::MAX {
            self.hystart = None;
        }
        let Some(hystart) = &mut self.hystart else {
            return self.windows.slow_start(sample.acked);
        };
        match hystart.on_ack(sample) {
            Some(allowed) if sample.window_limited => self.windows.slow_start(allowed),
            Some(_) => 0,
            None => {
                self.windows.ssthresh = self.windows.cwnd;
                sample.acked
            }
        }
    }

    fn avoidance(&mut self) -> &mut Avoidance {
        self.avoidance
            .get_or_insert_with(|| Box::new(Avoidance::new()))
    }

    fn avoid_congestion(&mut self, now: Instant, acked: u32, mss: u32) {
        let (cwnd, rtt) = (self.windows.cwnd, Duration::from_micros(self.rtt.into()));
        let this = self.avoidance();
        if !this.curve.has_begun() {
            this.seen = now;
            this.curve.begin(now, cwnd, mss);
        }
        this.grow_estimate(cwnd, acked, mss);
        let at = now.since(this.curve.epoch);
        let estimate = this.curve.w_est;
        if this.curve.window(at, mss) < estimate {
            self.windows.cwnd = estimate.max(cwnd);
            return;
        }
        let most = (u64::from(cwnd) * 3 / 2).min(MAX_CWND.into()) as u32;
        let target = this.curve.window(at + rtt, mss).clamp(cwnd, most.max(cwnd));
        let step = u64::from(target - cwnd) * u64::from(acked) / u64::from(cwnd.max(1));
        self.windows.grow(step.min(u64::from(target - cwnd)) as u32);
    }

    fn reduce(&mut self, mss: u32) {
        let windows = self.windows;
        let cwnd = windows.cwnd;
        let this = self.avoidance();
        this.before = Some((windows, this.curve, this.prior_cwnd));
        let w_max = match cwnd < this.curve.w_max {
            true => fraction(cwnd, FAST_CONVERGENCE),
            false => cwnd,
        };
        this.curve = Curve {
            w_max,
            ..Curve::NONE
        };
        this.prior_cwnd = cwnd;
        self.hystart = None;
        self.windows.reduce_to(fraction(cwnd, BETA), mss);
    }
}

impl CongestionControl for Cubic {
    fn cwnd(&self) -> u32 {
        self.windows.cwnd
    }

    fn ssthresh(&self) -> u32 {
        self.windows.ssthresh
    }

    fn on_ack(&mut self, sample: &AckSample, mss: u32) {
        if let Some(rtt) = sample.rtt {
            self.rtt = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
        }
        if let Some(avoidance) = &mut self.avoidance {
            if sample.phase == Phase::Fast || !sample.window_limited {
                avoidance.skip(sample.now);
            }
            avoidance.seen = sample.now;
        }
        if sample.phase == Phase::Fast {
            return;
        }
        let mut acked = sample.acked;
        if self.windows.in_slow_start() {
            acked = self.slow_start(sample);
        }
        if acked > 0 && sample.window_limited && !self.windows.in_slow_start() {
            self.avoid_congestion(sample.now, acked, mss);
        }
    }

    fn on_congestion(&mut self, _now: Instant, _cause: Cause, _flight: u32, mss: u32) {
        self.reduce(mss);
    }

    fn set_cwnd(&mut self, cwnd: u32) {
        self.windows.cwnd = cwnd;
    }

    fn set_ssthresh(&mut self, ssthresh: u32) {
        self.windows.ssthresh = ssthresh;
    }

    fn on_recovered(&mut self, _now: Instant, _flight: u32, _mss: u32) {
        self.windows.cwnd = self.windows.ssthresh;
    }

    fn on_timeout(&mut self, _now: Instant, _flight: u32, mss: u32, repeated: bool) {
        if !repeated {
            self.reduce(mss);
        }
        // Section 4.8: the next curve begins at its plateau.
        self.avoidance().curve = Curve::NONE;
        self.windows.cwnd = mss;
    }

    fn on_undo(&mut self, _now: Instant) {
        let this = self.avoidance();
        if let Some((windows, curve, prior_cwnd)) = this.before {
            this.curve = curve;
            this.prior_cwnd = prior_cwnd;
            self.windows.undo(windows);
        }
    }

    fn on_sent(&mut self, now: Instant, in_flight: u32, _app_limited: bool) {
        if in_flight == 0
            && let Some(avoidance) = &mut self.avoidance
        {
            avoidance.skip(now);
            avoidance.seen = now;
        }
    }

    fn on_idle(&mut self, _now: Instant, window: u32) {
        self.windows.restart(window);
        if let Some(avoidance) = &mut self.avoidance {
            avoidance.curve.epoch = Instant::NEVER;
        }
    }

    fn on_mss_change(&mut self, old: u32, mss: u32) {
        self.windows.resize(old, mss);
        if let Some(avoidance) = &mut self.avoidance {
            let curve = &mut avoidance.curve;
            curve.w_max = resized(curve.w_max, old, mss);
            curve.w_est = resized(curve.w_est, old, mss);
            avoidance.prior_cwnd = resized(avoidance.prior_cwnd, old, mss);
        }
    }
}

fn fraction(window: u32, (num, den): (u64, u64)) -> u32 {
    (u64::from(window) * num / den) as u32
}

/// The cube root, rounded down.
fn cube_root(n: u64) -> u32 {
    let mut root = 0u64;
    for bit in (0..22).rev() {
        let try_root = root | 1 << bit;
        if u128::from(try_root).pow(3) <= n.into() {
            root = try_root;
        }
    }
    root as u32
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MSS, ack};
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(1_000_000 + millis)
    }

    /// In congestion avoidance, reduced to 70 segments from 100.
    fn reduced() -> Cubic {
        let mut cc = Cubic::new(100 * MSS);
        cc.on_congestion(at(0), Cause::Loss, 100 * MSS, MSS);
        cc
    }

    /// A whole window is acknowledged each `rtt` ms from `from` to `to`.
    fn run(cc: &mut Cubic, from: u64, to: u64, rtt: u64) {
        let mut now = from;
        while now < to {
            let sample = AckSample {
                now: at(now),
                rtt: Some(Duration::from_millis(rtt)),
                ..ack(cc.cwnd())
            };
            cc.on_ack(&sample, MSS);
            now += rtt;
        }
    }

    #[test]
    fn cube_roots_are_exact() {
        for root in [0u64, 1, 2, 3, 10, 999, 2_642_245] {
            let cube = root * root * root;
            assert_eq!(u64::from(cube_root(cube)), root);
            assert_eq!(
                u64::from(cube_root(cube.saturating_sub(1))),
                root.saturating_sub(1)
            );
        }
        assert_eq!(cube_root(u64::MAX), 2_642_245);
    }

    #[test]
    fn a_loss_leaves_seven_tenths() {
        let cc = reduced();
        assert_eq!((cc.cwnd(), cc.ssthresh()), (70 * MSS, 70 * MSS));
    }

    #[test]
    fn the_curve_is_flat_at_the_old_window_and_steep_beyond() {
        // K = cbrt(30 / 0.4) = 4.217 s; a round trip so long that NewReno stays behind.
        let mut cc = reduced();
        run(&mut cc, 0, 4_300, 100);
        let plateau = cc.cwnd();
        assert!((98 * MSS..=101 * MSS).contains(&plateau), "{plateau}");
        // 0.4 x 4.217^3 = 30 segments as long after the plateau as before it.
        run(&mut cc, 4_300, 8_500, 100);
        let later = cc.cwnd();
        assert!((127 * MSS..=134 * MSS).contains(&later), "{later}");
    }

    #[test]
    fn a_short_round_trip_grows_like_newreno() {
        // 9/17 of a segment a round trip: 30 segments after 57 of them, far ahead of the curve.
        let mut cc = reduced();
        run(&mut cc, 0, 57, 1);
        assert!((99 * MSS..=101 * MSS).contains(&cc.cwnd()), "{}", cc.cwnd());
        // Caught up, it adds a whole one.
        run(&mut cc, 57, 77, 1);
        assert!(
            (118 * MSS..=121 * MSS).contains(&cc.cwnd()),
            "{}",
            cc.cwnd()
        );
    }

    #[test]
    fn a_second_loss_below_the_old_window_gives_way() {
        let mut cc = reduced();
        assert_eq!(cc.avoidance().curve.w_max, 100 * MSS);
        cc.on_congestion(at(10), Cause::Loss, 70 * MSS, MSS);
        assert_eq!(cc.avoidance().curve.w_max, 70 * MSS * 17 / 20);
    }

    #[test]
    fn the_window_grows_by_half_a_round_trip_at_most() {
        let mut cc = reduced();
        run(&mut cc, 0, 1, 1);
        let before = cc.cwnd();
        run(&mut cc, 60_000, 60_001, 1);
        assert!(cc.cwnd() <= before + before / 2);
    }

    #[test]
    fn time_without_data_does_not_count() {
        let mut busy = reduced();
        run(&mut busy, 0, 2_000, 100);
        let mut idle = busy.clone();
        run(&mut busy, 2_000, 4_000, 100);
        idle.on_sent(at(100_000 - 100), 0, true);
        run(&mut idle, 100_000, 102_000, 100);
        assert!(idle.cwnd().abs_diff(busy.cwnd()) <= MSS);
    }

    #[test]
    fn an_undone_reduction_continues_the_curve() {
        let mut cc = reduced();
        run(&mut cc, 0, 3_000, 100);
        let (cwnd, k) = (cc.cwnd(), cc.avoidance().curve.k);
        cc.on_congestion(at(3_000), Cause::Loss, cwnd, MSS);
        cc.on_undo(at(3_050));
        assert_eq!((cc.cwnd(), cc.avoidance().curve.k), (cwnd, k));
    }

    #[test]
    fn after_a_timeout_the_curve_begins_at_its_plateau() {
        let mut cc = Cubic::new(100 * MSS);
        cc.on_timeout(at(0), 100 * MSS, MSS, false);
        assert_eq!((cc.cwnd(), cc.ssthresh()), (MSS, 70 * MSS));
        run(&mut cc, 0, 600, 100);
        assert_eq!(cc.cwnd(), 64 * MSS, "slow start");
        run(&mut cc, 600, 700, 100);
        assert!(
            (70 * MSS..71 * MSS).contains(&cc.cwnd()),
            "up to the threshold"
        );
        assert_eq!(cc.avoidance().curve.k, 0);
    }

    #[test]
    fn longer_round_trips_end_slow_start_without_loss() {
        let mut cc = Cubic::new(10 * MSS);
        let mut una = 0;
        for round in 0..20u64 {
            let rtt = Duration::from_millis(if round < 4 { 40 } else { 60 });
            let end = una + u64::from(cc.cwnd());
            while una < end {
                una += u64::from(MSS);
                cc.on_ack(
                    &AckSample {
                        now: at(round * 50),
                        una,
                        nxt: end + u64::from(cc.cwnd()),
                        rtt: Some(rtt),
                        ..ack(MSS)
                    },
                    MSS,
                );
            }
        }
        assert!(cc.ssthresh() < u32::MAX, "slow start goes on");
        assert!(cc.cwnd() < 1000 * MSS, "{}", cc.cwnd());
    }
}
