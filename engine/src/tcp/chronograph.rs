//! What held the sender back, and for how long: `tcpi_busy_time` and `tcpi_rwnd_limited`.

use super::tcb::{State, Tcb};
use super::time::{Duration, Instant};

/// What holds data back at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Limit {
    /// There is nothing to send, and nothing but a SYN is outstanding.
    Idle,
    /// The network: congestion control, or the way there and back.
    Network,
    /// The window that the peer offers.
    Window,
}

/// Time spent under each limit, in milliseconds like Linux's: 49 days fit.
#[derive(Clone, Debug)]
pub(super) struct Chronograph {
    since: u32,
    network: u32,
    window: u32,
}

impl Chronograph {
    pub(super) fn new(now: Instant) -> Self {
        Chronograph {
            since: millis(now),
            network: 0,
            window: 0,
        }
    }

    /// Until now `limit` held data back; from now on, another one does.
    fn end(&mut self, now: Instant, limit: Limit) {
        (self.network, self.window) = self.sums(now, limit);
        self.since = millis(now);
    }

    fn sums(&self, now: Instant, limit: Limit) -> (u32, u32) {
        let lasted = millis(now).wrapping_sub(self.since);
        match limit {
            Limit::Idle => (self.network, self.window),
            Limit::Network => (self.network.wrapping_add(lasted), self.window),
            Limit::Window => (self.network, self.window.wrapping_add(lasted)),
        }
    }
}

fn millis(now: Instant) -> u32 {
    (now.as_micros() / 1000) as u32
}

impl Tcb {
    /// Nothing more can be sent now: notes why.
    pub(super) fn note_limit(&mut self, now: Instant) {
        let unsent = self.unsent();
        let syn = matches!(self.state, State::SynSent | State::SynReceived).into();
        let limit = if unsent > 0 && self.snd.usable() < unsent.min(self.send_mss().into()) {
            Limit::Window
        } else if unsent > 0 || self.snd.flight() > syn {
            Limit::Network
        } else {
            Limit::Idle
        };
        if limit != self.limit {
            self.chronograph.end(now, self.limit);
            self.limit = limit;
        }
    }

    /// Time held back by the network and by the peer's window, up to now.
    pub(super) fn held_back(&self, now: Instant) -> (Duration, Duration) {
        let (network, window) = self.chronograph.sums(now, self.limit);
        let span = |ms: u32| Duration::from_millis(ms.into());
        (span(network), span(window))
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
        ] {
            chronograph.end(at(ms), limit);
        }
        assert_eq!(chronograph.sums(at(107), Limit::Network), (27, 5));
        assert_eq!(chronograph.sums(at(107), Limit::Idle), (20, 5));
    }
}
