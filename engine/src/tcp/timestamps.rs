//! The timestamps option and protection against wrapped sequence numbers (RFC 7323 sections 3-5).

use super::time::{Duration, Instant};

/// A connection idle for longer than this no longer trusts TS.Recent (RFC 7323 section 5.5).
const RECENT_LIFETIME: Duration = Duration::from_secs(24 * 24 * 3600);

const SECOND: u64 = 1_000_000;

/// State of the option on one connection. The clock ticks in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timestamps {
    /// Offered, then negotiated.
    pub(super) on: bool,
    /// Per-connection offset of the clock, so that it tells nothing of the host.
    offset: u32,
    /// TS.Recent.
    recent: u32,
    /// When that was taken, in whole seconds: 136 years.
    recent_at: u32,
}

impl Timestamps {
    pub(super) fn new(on: bool, offset: u32) -> Self {
        Timestamps {
            on,
            offset,
            recent: 0,
            recent_at: 0,
        }
    }

    fn clock(&self, now: Instant) -> u32 {
        clock(now).wrapping_add(self.offset)
    }

    /// The option of a segment sent now, `None` if there is none.
    pub(super) fn option(&self, now: Instant) -> Option<(u32, u32)> {
        self.on.then(|| (self.clock(now), self.recent))
    }

    /// Takes over the peer's value from a handshake.
    pub(super) fn start(&mut self, now: Instant, value: u32) {
        self.recent = value;
        self.recent_at = (now.as_micros() / SECOND) as u32;
    }

    /// PAWS: whether a segment with this value is older than one seen.
    pub(super) fn is_old(&self, now: Instant, value: u32) -> bool {
        before(value, self.recent) && now.since(self.recent_since()) < RECENT_LIFETIME
    }

    /// Whether `value` is newer than any seen.
    pub(super) fn is_newer(&self, value: u32) -> bool {
        before(self.recent, value)
    }

    /// When TS.Recent was taken, to the second, as Linux knows it.
    pub(super) fn recent_since(&self) -> Instant {
        Instant::from_micros(u64::from(self.recent_at) * SECOND)
    }

    /// Whether `value` is the newest seen.
    pub(super) fn is_recent(&self, value: u32) -> bool {
        value == self.recent
    }

    /// A segment that covers Last.ACK.sent came with this value.
    pub(super) fn update(&mut self, now: Instant, value: u32) {
        if !self.is_old(now, value) {
            self.start(now, value);
        }
    }

    /// Whether an echo is of a segment sent from `first` to `now`. An echo of 0 may be of a sender
    /// that knew none yet.
    pub(super) fn is_echo_since(&self, first: Instant, now: Instant, echo: u32) -> bool {
        let age = self.clock(now).wrapping_sub(echo);
        echo == 0 || u64::from(age) <= now.since(first).as_millis() + 1
    }

    /// Whether an echoed value is older than the clock was at `at`.
    pub(super) fn is_before(&self, echo: u32, at: Instant) -> bool {
        self.on && echo != 0 && before(echo, self.clock(at))
    }

    /// Round-trip time that an echoed value tells, at least a tick. `None` if there is no echo or it
    /// cannot be ours.
    pub(super) fn echoed(&self, now: Instant, echo: u32) -> Option<Duration> {
        if !self.on || echo == 0 {
            return None;
        }
        let ticks = self.clock(now).wrapping_sub(echo);
        (ticks < 1 << 31).then(|| Duration::from_millis(ticks.max(1).into()))
    }
}

/// The clock without a connection's offset.
pub(super) fn clock(now: Instant) -> u32 {
    (now.as_micros() / 1000) as u32
}

/// Whether value `a` is older than `b`.
pub(super) fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_values_are_old_across_the_wrap() {
        let mut ts = Timestamps::new(true, 0);
        ts.start(Instant::ZERO, u32::MAX);
        assert!(!ts.is_old(Instant::ZERO, u32::MAX));
        assert!(!ts.is_old(Instant::ZERO, 3));
        assert!(ts.is_newer(3));
        ts.update(Instant::ZERO, 3);
        assert!(ts.is_old(Instant::ZERO, u32::MAX));
    }

    #[test]
    fn after_24_days_of_silence_anything_is_new() {
        let mut ts = Timestamps::new(true, 0);
        ts.start(Instant::ZERO, 1 << 30);
        assert!(ts.is_old(Instant::ZERO + RECENT_LIFETIME - Duration::from_secs(1), 5));
        assert!(!ts.is_old(Instant::ZERO + RECENT_LIFETIME, 5));
    }

    #[test]
    fn an_echo_is_of_what_was_sent_since_the_first_segment() {
        let ts = Timestamps::new(true, u32::MAX - 5);
        let (first, now) = (Instant::from_millis(1000), Instant::from_millis(3000));
        for (sent, ours) in [(1000, true), (3000, true), (998, false), (3001, false)] {
            let echo = ts.clock(Instant::from_millis(sent));
            assert_eq!(ts.is_echo_since(first, now, echo), ours, "{sent}");
        }
        assert!(ts.is_echo_since(first, now, 0));
    }

    #[test]
    fn an_echo_tells_the_round_trip_and_one_from_the_future_tells_nothing() {
        let ts = Timestamps::new(true, u32::MAX - 5);
        let (sent, _) = ts.option(Instant::from_millis(3)).unwrap();
        let now = Instant::from_millis(12);
        assert_eq!(ts.echoed(now, sent), Some(Duration::from_millis(9)));
        assert_eq!(ts.echoed(now, sent.wrapping_add(100)), None);
    }
}
