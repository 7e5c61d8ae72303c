//! What an algorithm tells of itself beyond its window, for TCP_CC_INFO and for tools.

use super::Controller;
use crate::tcp::time::Duration;

/// State that only one algorithm has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Details {
    /// The algorithm has none.
    #[default]
    None,
    /// Of BBR.
    Bbr(BbrDetails),
    /// Of DCTCP.
    Dctcp(DctcpDetails),
}

/// The model that BBR has of the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BbrDetails {
    /// Bandwidth in bytes a second.
    pub bandwidth: u64,
    /// Least round trip of late, if one was measured.
    pub min_rtt: Option<Duration>,
    /// Pacing rate in hundredths of the bandwidth.
    pub pacing_gain: u64,
    /// Window in hundredths of the bandwidth-delay product.
    pub cwnd_gain: u64,
}

/// What DCTCP counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DctcpDetails {
    /// Marks are in use; without, it is NewReno.
    pub enabled: bool,
    /// The latest segment that came was marked.
    pub congested: bool,
    /// Estimated part of bytes that are marked, of 1,024.
    pub alpha: u32,
    /// Bytes acknowledged in this window of observation that were marked.
    pub marked: u64,
    /// Bytes acknowledged in it.
    pub delivered: u64,
}

impl Controller {
    /// What there is to tell. `ecn` says that marks are in use, `congested` that the latest segment
    /// received was marked.
    pub(in crate::tcp) fn details(&self, ecn: bool, congested: bool) -> Details {
        match self {
            Controller::NewReno(_) | Controller::Cubic(_) => Details::None,
            Controller::Bbr(bbr) => Details::Bbr(bbr.details()),
            Controller::Dctcp(dctcp) => Details::Dctcp(dctcp.details(ecn, congested)),
        }
    }
}
