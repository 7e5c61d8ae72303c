//! The largest segment that a path carries: what the link and routers say (RFC 1191, RFC 8201), and
//! what is found out where they say nothing (RFC 4821, as Linux's `tcp_mtu_probing`).
//!
//! Sizes are those of an MSS option: a packet less the IP header and a TCP header without options.

use super::config::DEFAULT_MSS;
use super::event::Events;
use super::options::TIMESTAMPS_LEN;
use super::output::Piece;
use super::tcb::{State, Tcb};
use super::time::{Duration, Instant};

/// How long a router's word counts (RFC 1191 section 6.3).
pub const PATH_MTU_LIFETIME: Duration = Duration::from_secs(600);

/// Timeouts in a row after which a path is suspected of swallowing large segments (RFC 4821 section 7.7, Linux's
/// `tcp_retries1`).
const BLACK_HOLE_TIMEOUTS: u8 = 3;

/// First segment size tried in a black hole (RFC 4821 section 7.2).
const BASE: u16 = 1024;

/// Smallest segment size tried or believed: that of Linux's `min_pmtu`, 552 bytes.
const FLOOR: u16 = 512;

/// The search ends when what works and what does not are this close, in bytes.
const CLOSE: u16 = 8;

/// Segments beside the probe that have to wait to be sent, so that ACKs tell of its loss.
const BESIDE: u64 = 4;

/// Congestion window, in segments, below which nothing is risked.
const LEAST_WINDOW: u32 = 11;

/// Time after which a search that ended begins anew.
const SEARCH_AGAIN: Duration = Duration::from_secs(600);

/// When to find out by trying how large segments may be (Linux's `tcp_mtu_probing`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MtuProbing {
    /// Never.
    #[default]
    Off,
    /// Once large segments seem to be swallowed.
    BlackHole,
    /// From the start of each connection.
    Always,
}

/// What one connection knows of its path.
#[derive(Clone, Debug)]
pub(super) struct PathMtu {
    /// What the first link takes.
    link: u16,
    /// What the link takes, or less if a router said so.
    limit: u16,
    /// The peer's MSS option, or the default.
    pub(super) peer_mss: u16,
    probing: MtuProbing,
    findings: Option<Box<Findings>>,
}

/// What is known of the path beyond the link.
#[derive(Clone, Debug)]
struct Findings {
    /// When a router's word is forgotten; [`Instant::NEVER`] if there is none.
    until: Instant,
    search: Option<Search>,
}

impl Default for Findings {
    fn default() -> Self {
        Findings {
            until: Instant::NEVER,
            search: None,
        }
    }
}

/// Search for the largest segment that arrives.
#[derive(Clone, Debug)]
struct Search {
    /// Known to arrive.
    low: u16,
    /// Not known to be lost.
    high: u16,
    /// The probe under way.
    probe: Option<Probe>,
    /// When `high` was last what the link and routers say.
    since: Instant,
}

/// A segment that is larger than any known to arrive.
#[derive(Clone, Copy, Debug)]
struct Probe {
    start: u64,
    end: u64,
    size: u16,
}

impl PathMtu {
    pub(super) fn new(now: Instant, link: u16, probing: MtuProbing) -> Self {
        let mut path = PathMtu {
            link,
            limit: link,
            peer_mss: DEFAULT_MSS,
            probing,
            findings: None,
        };
        if probing == MtuProbing::Always {
            path.begin_search(now, BASE);
        }
        path
    }

    fn begin_search(&mut self, now: Instant, low: u16) {
        let limit = self.limit;
        self.findings.get_or_insert_default().search = Some(Search {
            low: low.min(limit),
            high: limit,
            probe: None,
            since: now,
        });
    }

    fn search(&self) -> Option<&Search> {
        self.findings.as_ref()?.search.as_ref()
    }

    fn search_mut(&mut self) -> Option<&mut Search> {
        self.findings.as_mut()?.search.as_mut()
    }

    /// The largest segment to send.
    pub(super) fn segment(&self) -> u16 {
        let found = self.search().map_or(u16::MAX, |search| search.low);
        self.limit.min(found)
    }

    /// What a router said, and until when that counts.
    pub(super) fn told(&self) -> Option<(u16, Instant)> {
        let until = self.findings.as_ref()?.until;
        (until != Instant::NEVER).then_some((self.limit, until))
    }

    /// A router's word: no segment above `size` until `until`. One that asks for less than any path
    /// takes is not believed that far. Says whether it is news.
    pub(super) fn limit(&mut self, size: u16, until: Instant) -> bool {
        let size = size.max(FLOOR);
        if size >= self.limit {
            return false;
        }
        self.limit = size;
        self.findings.get_or_insert_default().until = until;
        if let Some(search) = self.search_mut() {
            search.high = search.high.min(size);
            search.low = search.low.min(size);
            search.probe = None;
        }
        true
    }

    /// Whether it is not being searched, and no router's word is too old.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        let settled = |found: &Findings| found.search.is_none() && now < found.until;
        self.findings.as_deref().is_none_or(settled)
    }

    /// Forgets a router's word that is too old. Says whether there was one.
    pub(super) fn forget(&mut self, now: Instant) -> bool {
        let Some(findings) = self.findings.as_mut().filter(|found| found.until <= now) else {
            return false;
        };
        findings.until = Instant::NEVER;
        self.limit = self.link;
        true
    }

    /// The timer has expired once more after `timeouts` times in a row, with `flight` bytes
    /// outstanding. Says whether segments are to be smaller from now on.
    pub(super) fn on_timeout(&mut self, now: Instant, timeouts: u8, flight: u32) -> bool {
        if let Some(search) = self.search_mut() {
            // Nothing is known of a probe that a timeout has overtaken.
            search.probe = None;
        }
        let suspect = timeouts >= BLACK_HOLE_TIMEOUTS && flight > FLOOR.into();
        if self.probing == MtuProbing::Off || !suspect {
            return false;
        }
        let before = self.segment();
        match self.search_mut() {
            None => self.begin_search(now, BASE),
            Some(search) => search.low = (search.low / 2).clamp(FLOOR, BASE).min(search.low),
        }
        self.segment() < before
    }

    /// The largest probe that there may be; `None` while there is nothing to search for.
    fn largest_probe(&self) -> Option<u16> {
        self.search().map(|search| search.high)
    }

    /// Size of the probe to send next, at most `most`, if the search is not at its end.
    fn next_probe(&mut self, now: Instant, most: u16) -> Option<u16> {
        let limit = self.limit;
        let search = self.search_mut()?;
        if search.probe.is_some() {
            return None;
        }
        let high = search.high.min(most);
        if high.saturating_sub(search.low) < CLOSE {
            if now.since(search.since) >= SEARCH_AGAIN {
                search.since = now;
                search.high = limit;
            }
            return None;
        }
        Some(search.low + (high - search.low).div_ceil(2))
    }

    /// The probe of `size` went out as `start..end` of the send direction.
    fn probe_sent(&mut self, start: u64, end: u64, size: u16) {
        if let Some(search) = self.search_mut() {
            search.probe = Some(Probe { start, end, size });
        }
    }

    /// All before `una` has arrived. Says whether larger segments may be sent from now on.
    pub(super) fn on_ack(&mut self, una: u64) -> bool {
        let Some(search) = self.search_mut() else {
            return false;
        };
        match search.probe {
            Some(probe) if probe.end <= una => {
                search.low = probe.size.min(search.high);
                search.probe = None;
                true
            }
            _ => false,
        }
    }

    /// The segment at `una` is lost. If that was a probe, it was too large, and the loss no sign of
    /// congestion (RFC 4821 section 7.6.2): says where it ended.
    pub(super) fn on_loss(&mut self, una: u64) -> Option<u64> {
        let search = self.search_mut()?;
        let probe = search.probe.take_if(|probe| probe.start == una)?;
        search.high = probe.size - 1;
        Some(probe.end)
    }
}

impl Tcb {
    /// A router has told this host what the path takes: no segment above `mss`, in the measure of an
    /// MSS option, until `until`.
    pub fn limit_path(&mut self, mss: u16, until: Instant) {
        if self.path.limit(mss, until) {
            self.update_mss();
        }
    }

    /// What a router said of the path, for other connections to the same destination.
    pub fn path_limit(&self) -> Option<(u16, Instant)> {
        self.path.told()
    }

    /// Payload of the largest segment that [`poll_transmit`](Self::poll_transmit) may give, be it a
    /// probe of the path or a SYN.
    pub fn largest_segment(&self) -> u16 {
        let probe = self.path.largest_probe().unwrap_or(0);
        let probe = probe.min(self.set.own_mss).min(self.path.peer_mss);
        probe.max(self.mss).max(self.largest_syn())
    }

    pub(super) fn on_packet_too_big(&mut self, now: Instant, mss: u16) -> Events {
        let old = self.mss;
        self.path.limit(mss, now + PATH_MTU_LIFETIME);
        self.update_mss();
        let connecting = matches!(self.state, State::SynSent | State::SynReceived);
        if self.mss >= old || connecting {
            return Events::NONE;
        }
        // Too big is not congestion: repeat in smaller pieces without slowing down.
        self.repeat_in_smaller_segments(now);
        Events::SEND
    }

    /// The lost segment at SND.UNA was a probe: it is repeated in smaller pieces, without slowing
    /// down.
    pub(super) fn repeat_probe(&mut self, now: Instant) -> bool {
        let Some(end) = self.path.on_loss(self.snd.una) else {
            return false;
        };
        self.repair_without_reduction(now, end);
        true
    }

    /// A probe arrived. The congestion window stays what it is in bytes, as on Linux.
    pub(super) fn take_larger_segments(&mut self) {
        let window = self.cc.cwnd();
        self.update_mss();
        self.cc.get_mut().set_cwnd(window.max(self.mss.into()));
    }

    /// A probe of the path, made of the next data to send, if now is the time for one.
    pub(super) fn next_probe(&mut self, now: Instant) -> Option<Piece> {
        self.path.largest_probe()?;
        let stamps = if self.ts.on { TIMESTAMPS_LEN } else { 0 };
        let quiet = self.is_quiet() && self.blocks_len() == 0;
        let mss = u64::from(self.mss);
        if !quiet || self.cc.cwnd() < LEAST_WINDOW * u32::from(self.mss) {
            return None;
        }
        let most = self.set.own_mss.min(self.path.peer_mss);
        let nxt = self.snd.nxt;
        let size = self.path.next_probe(now, most)?;
        let payload = u64::from(size).saturating_sub(stamps as u64);
        let needed = payload + BESIDE * mss;
        let end = self.record_end(&(nxt..self.snd.end.max(nxt)));
        let waiting = end - nxt;
        if payload <= mss || waiting.min(self.snd.usable()).min(self.congestion_room()) < needed {
            return None;
        }
        self.path.probe_sent(nxt, nxt + payload, size);
        Some(self.send_new(now, nxt..nxt + payload, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::from_millis(1000);

    fn path(probing: MtuProbing) -> PathMtu {
        PathMtu::new(T0, 1460, probing)
    }

    #[test]
    fn a_routers_word_counts_for_its_time() {
        let mut path = path(MtuProbing::Off);
        assert!(!path.limit(1460, T0 + PATH_MTU_LIFETIME));
        assert_eq!(path.told(), None);
        assert!(path.limit(1200, T0 + PATH_MTU_LIFETIME));
        assert_eq!(path.told(), Some((1200, T0 + PATH_MTU_LIFETIME)));
        assert!(!path.limit(1300, T0 + PATH_MTU_LIFETIME));
        assert_eq!(path.segment(), 1200);
        assert!(!path.forget(T0 + PATH_MTU_LIFETIME - Duration::from_micros(1)));
        assert!(path.forget(T0 + PATH_MTU_LIFETIME));
        assert_eq!((path.segment(), path.told()), (1460, None));
    }

    #[test]
    fn segments_become_smaller_in_a_black_hole_down_to_a_floor() {
        let mut path = path(MtuProbing::BlackHole);
        assert!(!path.on_timeout(T0, 2, 9000));
        assert!(!path.on_timeout(T0, 3, 512), "that much any path takes");
        assert_eq!(path.segment(), 1460);
        assert!(path.on_timeout(T0, 3, 9000));
        assert_eq!(path.segment(), 1024);
        assert!(path.on_timeout(T0, 4, 9000));
        assert_eq!(path.segment(), 512);
        assert!(!path.on_timeout(T0, 5, 9000));
        assert_eq!(path.segment(), 512);
    }

    #[test]
    fn without_probing_timeouts_say_nothing_about_size() {
        let mut path = path(MtuProbing::Off);
        assert!(!path.on_timeout(T0, 9, 9000));
        assert_eq!(path.segment(), 1460);
    }

    /// Sends probes over a path that carries `real`; says how many it took.
    fn search(path: &mut PathMtu, now: Instant, real: u16) -> u32 {
        let (mut at, mut probes) = (1, 0);
        while let Some(size) = path.next_probe(now, 1460) {
            let end = at + u64::from(size);
            path.probe_sent(at, end, size);
            assert_eq!(path.next_probe(now, 1460), None, "one at a time");
            if size <= real {
                assert!(!path.on_ack(end - 1));
                assert!(path.on_ack(end));
            } else {
                assert_eq!(path.on_loss(at + 1), None);
                assert_eq!(path.on_loss(at), Some(end));
            }
            (at, probes) = (end, probes + 1);
        }
        probes
    }

    #[test]
    fn the_search_ends_close_below_what_the_path_carries() {
        for real in [1024, 1100, 1237, 1400, 1459, 1460] {
            let mut path = path(MtuProbing::Always);
            let probes = search(&mut path, T0, real);
            assert!(path.segment() <= real && path.segment() + CLOSE > real);
            assert!(probes <= 6, "{probes} probes for {real}");
        }
    }

    #[test]
    fn a_search_that_ended_begins_anew_after_a_while() {
        let mut path = path(MtuProbing::Always);
        search(&mut path, T0, 1100);
        assert_eq!(search(&mut path, T0 + Duration::from_secs(599), 1460), 0);
        let later = T0 + SEARCH_AGAIN;
        assert_eq!(path.next_probe(later, 1460), None);
        search(&mut path, later, 1460);
        assert!(path.segment() > 1460 - CLOSE);
    }

    #[test]
    fn a_routers_word_bounds_the_search() {
        let mut path = path(MtuProbing::Always);
        assert!(path.limit(1100, T0 + PATH_MTU_LIFETIME));
        search(&mut path, T0, 1460);
        assert!(path.segment() <= 1100);
        assert!(path.limit(600, T0 + PATH_MTU_LIFETIME));
        assert_eq!(path.segment(), 600);
        assert_eq!(path.next_probe(T0, 1460), None);
    }

    #[test]
    fn a_probe_that_a_timeout_overtakes_says_nothing() {
        let mut path = path(MtuProbing::Always);
        let size = path.next_probe(T0, 1460).unwrap();
        path.probe_sent(1, 1 + u64::from(size), size);
        path.on_timeout(T0, 1, 9000);
        assert!(path.on_loss(1).is_none() && !path.on_ack(9000));
        assert_eq!(path.next_probe(T0, 1460), Some(size));
    }
}
