//! The two windows that every loss-based algorithm keeps, and how they move outside of congestion
//! avoidance: slow start (RFC 5681 section 3.1), idle restart, and a change of the segment size.

/// Largest window in bytes: what 31 bits of sequence space can hold in flight.
pub(super) const MAX_CWND: u32 = 1 << 30;

/// Congestion window and slow start threshold, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    pub(super) cwnd: u32,
    pub(super) ssthresh: u32,
}

impl Windows {
    /// In slow start, without a threshold.
    pub(super) fn new(initial_window: u32) -> Self {
        Windows {
            cwnd: initial_window,
            ssthresh: u32::MAX,
        }
    }

    pub(super) fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    pub(super) fn grow(&mut self, bytes: u32) {
        self.cwnd = self.cwnd.saturating_add(bytes).min(MAX_CWND);
    }

    /// Opens the window by what was acknowledged, up to the threshold; gives back the rest. All of it
    /// counts (L of RFC 3465 is unbounded): an ACK of a super-segment answers many segments.
    pub(super) fn slow_start(&mut self, acked: u32) -> u32 {
        let step = acked.min(self.ssthresh.saturating_sub(self.cwnd));
        self.grow(step);
        acked - step
    }

    /// Both windows fall to `window`, but never below two segments.
    pub(super) fn reduce_to(&mut self, window: u32, mss: u32) {
        self.ssthresh = window.max(mss.saturating_mul(2));
        self.cwnd = self.ssthresh;
    }

    /// Takes a reduction back, `before` being the windows that it found.
    pub(super) fn undo(&mut self, before: Windows) {
        self.cwnd = self.cwnd.max(before.cwnd);
        self.ssthresh = self.ssthresh.max(before.ssthresh);
    }

    /// After a silence: the window is small again, but slow start soon finds back (RFC 2861).
    pub(super) fn restart(&mut self, window: u32) {
        self.ssthresh = self.ssthresh.max(self.cwnd - self.cwnd / 4);
        self.cwnd = self.cwnd.min(window);
    }

    /// The window stays the same number of segments (RFC 1191 section 6.5 wants no slow start).
    pub(super) fn resize(&mut self, old: u32, mss: u32) {
        self.cwnd = resized(self.cwnd, old, mss).max(mss);
        if self.ssthresh != u32::MAX {
            self.ssthresh = resized(self.ssthresh, old, mss).max(mss.saturating_mul(2));
        }
    }
}

/// `window` as the same number of segments of another size.
pub(super) fn resized(window: u32, old: u32, mss: u32) -> u32 {
    (window / old.max(1)).saturating_mul(mss).min(MAX_CWND)
}
