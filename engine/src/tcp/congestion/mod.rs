//! Congestion control: how much may be in flight. What was lost is found elsewhere
//! (`recovery`); an algorithm here is told, and answers with `cwnd` and `ssthresh`.

mod newreno;

pub use newreno::NewReno;

use super::time::{Duration, Instant};

/// Which congestion control a connection uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    /// RFC 5681 and RFC 6582.
    #[default]
    NewReno,
}

/// What one ACK of new data told.
#[derive(Clone, Copy, Debug)]
pub struct AckSample {
    /// When it came.
    pub now: Instant,
    /// Bytes that left the network with it.
    pub acked: u32,
    /// Bytes still in flight.
    pub in_flight: u32,
    /// Round-trip time measured with it.
    pub rtt: Option<Duration>,
    /// Whether the window, rather than the application, limited the flight that it answers.
    pub window_limited: bool,
}

/// A congestion control algorithm. Windows are in bytes; `mss` is the payload of a full segment.
pub trait CongestionControl {
    /// Congestion window in bytes, at least one `mss`.
    fn cwnd(&self) -> u32;

    /// Slow start threshold in bytes.
    fn ssthresh(&self) -> u32;

    /// New data was acknowledged, outside fast recovery.
    fn on_ack(&mut self, sample: &AckSample, mss: u32);

    /// Fast recovery begins: a loss was seen while `flight` bytes were outstanding.
    fn on_loss(&mut self, now: Instant, flight: u32, mss: u32);

    /// Fast recovery ended with `flight` bytes outstanding.
    fn on_recovered(&mut self, now: Instant, flight: u32, mss: u32);

    /// The retransmission timer expired while `flight` bytes were outstanding. `repeated` says that
    /// it did so before for the same data.
    fn on_timeout(&mut self, now: Instant, flight: u32, mss: u32, repeated: bool);

    /// Data is sent again after nothing was in flight for longer than a retransmission timeout.
    fn on_idle(&mut self, now: Instant, initial_window: u32);

    /// The segment size changed from `old` to `mss`.
    fn on_mss_change(&mut self, old: u32, mss: u32);
}

/// The algorithm of one connection, held inline.
#[derive(Clone, Debug)]
pub(super) enum Controller {
    NewReno(NewReno),
}

impl Controller {
    pub(super) fn new(algorithm: Algorithm, initial_window: u32) -> Self {
        match algorithm {
            Algorithm::NewReno => Controller::NewReno(NewReno::new(initial_window)),
        }
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Controller::NewReno(_) => Algorithm::NewReno,
        }
    }

    fn get(&self) -> &dyn CongestionControl {
        match self {
            Controller::NewReno(newreno) => newreno,
        }
    }

    pub(super) fn get_mut(&mut self) -> &mut dyn CongestionControl {
        match self {
            Controller::NewReno(newreno) => newreno,
        }
    }

    pub(super) fn cwnd(&self) -> u32 {
        self.get().cwnd()
    }

    pub(super) fn ssthresh(&self) -> u32 {
        self.get().ssthresh()
    }
}
