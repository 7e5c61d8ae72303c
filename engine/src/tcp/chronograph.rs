//! What held the sender back, and for how long: `tcpi_busy_time`, `tcpi_rwnd_limited` and
//! `tcpi_sndbuf_limited`.

use super::tcb::{State, Tcb};
use super::time::{Duration, Instant};

/// What holds data back at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Limit {
    /// The network: congestion control, or the way there and back.
    Network,
    /// The window that the peer offers.
    Window,
    /// The send buffer: all of it is in flight, the network would take more, and a writer waits.
    Buffer,
    /// There is nothing to send, and nothing but a SYN is outstanding: not counted.
    Idle,
}

/// Time spent under each limit, in milliseconds like Linux's: 49 days fit.
#[derive(Clone, Debug)]
pub(super) struct Chronograph {
    since: u32,
    /// By the number of the limit.
    spent: [u32; 3],
}

/// Time held back by each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HeldBack {
    pub(super) network: Duration,
    pub(super) window: Duration,
    pub(super) buffer: Duration,
}

impl Chronograph {
    pub(super) fn new(now: Instant) -> Self {
        Chronograph {
            since: millis(now),
            spent: [0; 3],
        }
    }

    /// Until now `limit` held data back; from now on, another one does.
    fn end(&mut self, now: Instant, limit: Limit) {
        let now = millis(now);
        if let Some(sum) = self.spent.get_mut(limit as usize) {
            *sum = sum.wrapping_add(now.wrapping_sub(self.since));
        }
        self.since = now;
    }

    /// The sums with the time that `limit` has lasted by now.
    fn sums(&self, now: Instant, limit: Limit) -> [u32; 3] {
        let mut ended = self.clone();
        ended.end(now, limit);
        ended.spent
    }
}

fn millis(now: Instant) -> u32 {
    (now.as_micros() / 1000) as u32
}

impl Tcb {
    /// Nothing more can be sent now: notes why.
    pub(super) fn note_limit(&mut self, now: Instant) {
        let unsent = self.unsent();
        let limit = if unsent == 0 {
            self.limit_when_all_is_sent()
        } else if self.snd.usable() < unsent.min(self.send_mss().into()) {
            Limit::Window
        } else {
            Limit::Network
        };
        self.set_limit(now, limit);
    }

    /// What holds back more than there is.
    #[inline]
    pub(super) fn limit_when_all_is_sent(&self) -> Limit {
        let syn = matches!(self.state, State::SynSent | State::SynReceived).into();
        if self.snd.flight() <= syn {
            Limit::Idle
        } else if self.writer_waits && self.is_held_by_buffer() {
            Limit::Buffer
        } else {
            Limit::Network
        }
    }

    #[inline]
    pub(super) fn set_limit(&mut self, now: Instant, limit: Limit) {
        if limit != self.limit {
            self.chronograph.end(now, self.limit);
            self.limit = limit;
        }
    }

    /// All is sent, and a writer waits. As Linux sees it: the congestion window is not what limits.
    fn is_held_by_buffer(&self) -> bool {
        matches!(self.state, State::Established | State::CloseWait)
            && !self.usage.is_limited(self.cc.cwnd(), self.cc.ssthresh())
    }

    /// Whether a writer waits for room in the send buffer. To be said after each
    /// [`poll_transmit`](Self::poll_transmit) that gave nothing.
    pub fn set_writer_waits(&mut self, now: Instant, waits: bool) {
        if waits != self.writer_waits {
            self.writer_waits = waits;
            self.note_limit(now);
        }
    }

    /// Time held back by each limit, up to now.
    pub(super) fn held_back(&self, now: Instant) -> HeldBack {
        let spent = self.chronograph.sums(now, self.limit);
        let [network, window, buffer] = spent.map(|ms| Duration::from_millis(ms.into()));
        HeldBack {
            network,
            window,
            buffer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_counts_its_own_time() {
        let at = Instant::from_millis;
        let mut chronograph = Chronograph::new(at(3));
        for (ms, limit) in [
            (10, Limit::Idle),
            (30, Limit::Network),
            (35, Limit::Window),
            (100, Limit::Idle),
            (103, Limit::Buffer),
        ] {
            chronograph.end(at(ms), limit);
        }
        let spent = |network| [network, 5, 3];
        assert_eq!(chronograph.sums(at(110), Limit::Network), spent(27));
        assert_eq!(chronograph.sums(at(110), Limit::Idle), spent(20));
    }
}
