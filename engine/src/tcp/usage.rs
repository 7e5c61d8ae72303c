//! Whether the congestion window is used: one that the application does not fill says nothing of what
//! the path carries, and does not grow (RFC 2861, RFC 7661; the measure is Linux's).

/// The strongest use of the window in the current round trip.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WindowUsage {
    /// SND.NXT when it was noted: with its acknowledgement another round begins.
    until: u64,
    /// Bytes outstanding.
    most: u32,
    /// The window held data back.
    limited: bool,
}

impl WindowUsage {
    /// `flight` bytes are outstanding; `limited`: no more may be, for the congestion window.
    pub(super) fn note(&mut self, una: u64, nxt: u64, flight: u32, limited: bool) {
        let anew = una >= self.until;
        if anew || limited || (!self.limited && flight > self.most) {
            *self = WindowUsage {
                until: nxt,
                most: flight,
                limited,
            };
        }
    }

    /// Whether a window of `cwnd` bytes is used well enough to grow. In slow start half of it is
    /// enough, as it doubles in a round trip.
    pub(super) fn is_limited(&self, cwnd: u32, ssthresh: u32) -> bool {
        self.limited || (cwnd < ssthresh && u64::from(cwnd) < 2 * u64::from(self.most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_of_a_round_trip_counts() {
        let mut usage = WindowUsage::default();
        usage.note(1, 1001, 1000, false);
        assert!(!usage.is_limited(2000, u32::MAX));
        assert!(usage.is_limited(1999, u32::MAX));
        assert!(!usage.is_limited(1999, 1000), "not beyond the threshold");
        usage.note(501, 2501, 2000, false);
        usage.note(601, 2501, 1900, false);
        assert!(usage.is_limited(3999, u32::MAX));
        usage.note(2501, 2601, 100, false);
        assert!(!usage.is_limited(3999, u32::MAX), "another round trip");
    }

    #[test]
    fn a_full_window_is_remembered_for_its_round_trip() {
        let mut usage = WindowUsage::default();
        usage.note(1, 1001, 1000, true);
        usage.note(501, 1101, 600, false);
        assert!(usage.is_limited(10_000, 500));
        usage.note(1001, 1201, 200, false);
        assert!(!usage.is_limited(10_000, 500));
    }
}
