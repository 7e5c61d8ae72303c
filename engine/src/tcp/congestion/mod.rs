//! Congestion control: how much may be in flight. What was lost is found elsewhere
//! (`recovery`); an algorithm here is told, and answers with `cwnd` and `ssthresh`.

mod bbr;
mod cubic;
mod dctcp;
mod details;
mod hystart;
mod newreno;
mod window;

pub use bbr::Bbr;
pub use cubic::Cubic;
pub use dctcp::Dctcp;
pub use details::{BbrDetails, DctcpDetails, Details};
pub use newreno::NewReno;

use super::recovery::Phase;
use super::time::{Duration, Instant};

/// Which congestion control a connection uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    /// RFC 5681 and RFC 6582.
    NewReno,
    /// RFC 9438.
    #[default]
    Cubic,
    /// draft-ietf-ccwg-bbr, version 3.
    Bbr,
    /// RFC 8257.
    Dctcp,
}

impl Algorithm {
    /// All there are.
    pub const ALL: [Algorithm; 4] = [
        Algorithm::NewReno,
        Algorithm::Cubic,
        Algorithm::Bbr,
        Algorithm::Dctcp,
    ];

    /// The name by which Linux knows it (TCP_CONGESTION).
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::NewReno => "reno",
            Algorithm::Cubic => "cubic",
            Algorithm::Bbr => "bbr",
            Algorithm::Dctcp => "dctcp",
        }
    }

    /// The algorithm of that name.
    pub fn parse(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|a| a.name() == name)
    }

    /// Its number in memory shared with applications; 0 is none.
    pub const fn number(self) -> u32 {
        match self {
            Algorithm::NewReno => 1,
            Algorithm::Cubic => 2,
            Algorithm::Bbr => 3,
            Algorithm::Dctcp => 4,
        }
    }

    /// The algorithm of that number.
    pub fn from_number(number: u32) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|a| a.number() == number)
    }
}

/// What one ACK told. Sizes are in bytes, positions those of the send direction.
#[derive(Clone, Copy, Debug)]
pub struct AckSample {
    /// When it came.
    pub now: Instant,
    /// SND.UNA and SND.NXT after it: they mark the rounds of an algorithm that counts them.
    pub una: u64,
    /// See `una`.
    pub nxt: u64,
    /// By how much SND.UNA advanced, less what was reported before by SACK or by duplicate ACKs.
    pub acked: u32,
    /// What is newly known to have arrived: acknowledged, or reported by SACK for the first time.
    pub delivered: u32,
    /// What was newly found lost with it.
    pub lost: u32,
    /// Of `delivered`, what the peer says was marked as having met congestion (RFC 3168, RFC 8257).
    pub marked: u32,
    /// In flight before it.
    pub flight_before: u32,
    /// In flight after it.
    pub in_flight: u32,
    /// Round-trip time measured with it, never of something sent twice.
    pub rtt: Option<Duration>,
    /// Delivery rate measured with it.
    pub rate: Option<RateSample>,
    /// Whether the window, rather than the application, limited the flight that it answers.
    pub window_limited: bool,
    /// Where loss recovery stands after it.
    pub phase: Phase,
}

/// A measurement of the delivery rate (draft-ietf-ccwg-bbr section 4.1): from when the most recently
/// sent of the segments just delivered left, until now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RateSample {
    /// Bytes delivered over `interval`.
    pub delivered: u64,
    /// The longer of the time that sending them and that acknowledging them took.
    pub interval: Duration,
    /// Total delivered on the connection when that segment left.
    pub prior_delivered: u64,
    /// Total delivered now.
    pub total_delivered: u64,
    /// Bytes found lost since that segment left.
    pub lost: u64,
    /// Bytes in flight when it left, itself included.
    pub tx_in_flight: u32,
    /// The application, not a window, limited the sending of that segment.
    pub app_limited: bool,
}

/// Why the window is to shrink.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// A loss was seen: fast recovery begins.
    Loss,
    /// The peer echoed a congestion mark (RFC 3168); nothing needs repeating.
    Mark,
}

/// A congestion control algorithm. Windows are in bytes; `mss` is the payload of a full segment.
///
/// It is told of each ACK, and once of each round trip's first sign of congestion. While fast
/// recovery lasts, proportional rate reduction (RFC 6937) sets the window towards `ssthresh` by
/// [`set_cwnd`](Self::set_cwnd), unless the algorithm [governs recovery](Self::governs_recovery).
pub trait CongestionControl {
    /// Congestion window in bytes, at least one `mss`.
    fn cwnd(&self) -> u32;

    /// Slow start threshold in bytes.
    fn ssthresh(&self) -> u32;

    /// Bytes a second at which data is to leave; `None` for as fast as the window lets it.
    fn pacing_rate(&self) -> Option<u64> {
        None
    }

    /// An ACK came, in whatever phase of recovery.
    fn on_ack(&mut self, sample: &AckSample, mss: u32);

    /// `bytes` that were sent when `tx_in_flight` bytes were in flight are found lost; `delivered` and
    /// `lost` count since they left, these included.
    fn on_lost(&mut self, bytes: u32, tx_in_flight: u32, delivered: u64, lost: u64) {
        let _ = (bytes, tx_in_flight, delivered, lost);
    }

    /// The first sign of congestion in a round trip, with `flight` bytes outstanding. What is needed
    /// for [`on_undo`](Self::on_undo) is kept here and in [`on_timeout`](Self::on_timeout).
    fn on_congestion(&mut self, now: Instant, cause: Cause, flight: u32, mss: u32);

    /// Recovery brings the window to `cwnd` bytes.
    fn set_cwnd(&mut self, cwnd: u32);

    /// Takes over the threshold of the algorithm before it, in bytes.
    fn set_ssthresh(&mut self, ssthresh: u32);

    /// Fast recovery ended with `flight` bytes outstanding.
    fn on_recovered(&mut self, now: Instant, flight: u32, mss: u32);

    /// The retransmission timer expired while `flight` bytes were outstanding. `repeated` says that
    /// it did so before for the same data.
    fn on_timeout(&mut self, now: Instant, flight: u32, mss: u32, repeated: bool);

    /// The last [`on_congestion`](Self::on_congestion) or [`on_timeout`](Self::on_timeout) was for
    /// nothing: no segment was lost (RFC 3522, RFC 4015).
    fn on_undo(&mut self, now: Instant);

    /// Data is sent, `in_flight` bytes being outstanding before it. `app_limited` says that the
    /// connection had run out of data to send.
    fn on_sent(&mut self, now: Instant, in_flight: u32, app_limited: bool) {
        let _ = (now, in_flight, app_limited);
    }

    /// Data is sent again after nothing was in flight for longer than a retransmission timeout: of the
    /// window, at most `window` bytes are left.
    fn on_idle(&mut self, now: Instant, window: u32);

    /// The segment size changed from `old` to `mss`.
    fn on_mss_change(&mut self, old: u32, mss: u32);

    /// The algorithm sets its own window during fast recovery.
    fn governs_recovery(&self) -> bool {
        false
    }
}

/// The algorithm of one connection; the common ones are held inline.
#[derive(Clone, Debug)]
pub(super) enum Controller {
    NewReno(NewReno),
    Cubic(Cubic),
    Bbr(Box<Bbr>),
    Dctcp(Box<Dctcp>),
}

/// What every segment asks of the algorithm, it asks without a table of functions.
macro_rules! with {
    ($controller:expr, $algorithm:ident => $call:expr) => {
        match $controller {
            Controller::NewReno($algorithm) => $call,
            Controller::Cubic($algorithm) => $call,
            Controller::Bbr($algorithm) => $call,
            Controller::Dctcp($algorithm) => $call,
        }
    };
}

impl Controller {
    pub(super) fn new(algorithm: Algorithm, initial_window: u32) -> Self {
        match algorithm {
            Algorithm::NewReno => Controller::NewReno(NewReno::new(initial_window)),
            Algorithm::Cubic => Controller::Cubic(Cubic::new(initial_window)),
            Algorithm::Bbr => Controller::Bbr(Box::new(Bbr::new(initial_window))),
            Algorithm::Dctcp => Controller::Dctcp(Box::new(Dctcp::new(initial_window))),
        }
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Controller::NewReno(_) => Algorithm::NewReno,
            Controller::Cubic(_) => Algorithm::Cubic,
            Controller::Bbr(_) => Algorithm::Bbr,
            Controller::Dctcp(_) => Algorithm::Dctcp,
        }
    }

    /// Goes on with another algorithm, which takes over the windows.
    pub(super) fn change(&mut self, algorithm: Algorithm) {
        if self.algorithm() != algorithm {
            let (cwnd, ssthresh) = (self.cwnd(), self.ssthresh());
            *self = Controller::new(algorithm, cwnd);
            self.get_mut().set_ssthresh(ssthresh);
        }
    }

    pub(super) fn get_mut(&mut self) -> &mut dyn CongestionControl {
        match self {
            Controller::NewReno(newreno) => newreno,
            Controller::Cubic(cubic) => cubic,
            Controller::Bbr(bbr) => &mut **bbr,
            Controller::Dctcp(dctcp) => &mut **dctcp,
        }
    }

    pub(super) fn cwnd(&self) -> u32 {
        with!(self, algorithm => algorithm.cwnd())
    }

    pub(super) fn ssthresh(&self) -> u32 {
        with!(self, algorithm => algorithm.ssthresh())
    }

    pub(super) fn pacing_rate(&self) -> Option<u64> {
        with!(self, algorithm => algorithm.pacing_rate())
    }

    pub(super) fn governs_recovery(&self) -> bool {
        with!(self, algorithm => algorithm.governs_recovery())
    }

    pub(super) fn on_sent(&mut self, now: Instant, in_flight: u32, app_limited: bool) {
        with!(self, algorithm => algorithm.on_sent(now, in_flight, app_limited));
    }

    pub(super) fn on_ack(&mut self, sample: &AckSample, mss: u32) {
        with!(self, algorithm => algorithm.on_ack(sample, mss));
    }
}

#[cfg(test)]
mod testing {
    use super::*;

    /// Segment size of the algorithms' tests, in bytes.
    pub(super) const MSS: u32 = 1000;

    /// An ACK of `acked` bytes to a sender that fills its window.
    pub(super) fn ack(acked: u32) -> AckSample {
        AckSample {
            now: Instant::ZERO,
            una: 0,
            nxt: 0,
            acked,
            delivered: acked,
            lost: 0,
            marked: 0,
            flight_before: acked,
            in_flight: 0,
            rtt: None,
            rate: None,
            window_limited: true,
            phase: Phase::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back_to_their_algorithm() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.name()), Some(algorithm));
            assert_eq!(Algorithm::from_number(algorithm.number()), Some(algorithm));
        }
        assert_eq!(Algorithm::parse("vegas"), None);
        assert_eq!(Algorithm::from_number(0), None);
    }

    #[test]
    fn another_algorithm_takes_over_the_windows() {
        let mut controller = Controller::new(Algorithm::NewReno, 20_000);
        controller
            .get_mut()
            .on_congestion(Instant::ZERO, Cause::Loss, 20_000, 1000);
        controller.change(Algorithm::Cubic);
        assert_eq!(controller.algorithm(), Algorithm::Cubic);
        assert_eq!((controller.cwnd(), controller.ssthresh()), (10_000, 10_000));
    }
}
