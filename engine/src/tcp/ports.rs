//! Choice of source ports (RFC 6056 section 3.3.4, double-hash port selection): hard to guess for
//! others, and slow to come back to a port used before for the same peer.

use core::hash::Hasher;
use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;

use super::keyed::{Purpose, hasher, hasher_with, write_addrs};

/// Counters that connections share by hash, so that one peer's do not tell of another's.
const TABLE_LEN: usize = 256;

/// Largest step of a counter: steps are random, so that observing ports does not count connections.
const MAX_STEP: u16 = 8;

/// Source of ephemeral ports.
#[derive(Clone)]
pub struct PortSelector {
    key: [u8; 16],
    first: u16,
    count: u32,
    table: Box<[u16; TABLE_LEN]>,
    draws: u64,
}

impl PortSelector {
    /// Chooses ports of `range` (Linux: 32768 to 60999). `key` is secret and random.
    pub fn new(key: [u8; 16], range: RangeInclusive<u16>) -> Self {
        let mut selector = PortSelector {
            key,
            first: *range.start(),
            count: range.len() as u32,
            table: Box::new([0; TABLE_LEN]),
            draws: 0,
        };
        for slot in 0..TABLE_LEN {
            selector.table[slot] = selector.draw();
        }
        selector
    }

    fn draw(&mut self) -> u16 {
        self.draws = self.draws.wrapping_add(1);
        let mut hasher = hasher(&self.key, Purpose::PortDraw);
        hasher.write_u64(self.draws);
        hasher.finish() as u16
    }

    /// A port for a connection from `local` to `remote` for which `is_free` holds, or `None` if it
    /// holds for none. Tries each port of the range at most once.
    pub fn select(
        &mut self,
        local: IpAddr,
        remote: SocketAddr,
        mut is_free: impl FnMut(u16) -> bool,
    ) -> Option<u16> {
        let port = remote.port().into();
        let mut hasher = hasher_with(&self.key, Purpose::PortOffset, port);
        write_addrs(&mut hasher, local, remote.ip());
        let hash = hasher.finish();
        let (offset, slot) = (hash as u32, (hash >> 32) as usize % TABLE_LEN);
        let step = 1 + self.draw() % MAX_STEP;
        self.table[slot] = self.table[slot].wrapping_add(step);
        let start = offset.wrapping_add(self.table[slot].into());
        for tried in 0..self.count {
            let port = self.first + (start.wrapping_add(tried) % self.count) as u16;
            if is_free(port) {
                // The next one begins behind this one.
                self.table[slot] = self.table[slot].wrapping_add(tried as u16);
                return Some(port);
            }
        }
        None
    }
}

impl core::fmt::Debug for PortSelector {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PortSelector")
            .field("first", &self.first)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 77, 0, 1], port))
    }

    const LOCAL: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 77, 0, 2));

    #[test]
    fn finds_the_last_free_port_and_says_when_there_is_none() {
        let mut ports = PortSelector::new([1; 16], 40_000..=40_099);
        assert_eq!(
            ports.select(LOCAL, remote(80), |port| port == 40_057),
            Some(40_057)
        );
        assert_eq!(ports.select(LOCAL, remote(80), |_| false), None);
        let mut tried = Vec::new();
        ports.select(LOCAL, remote(80), |port| {
            tried.push(port);
            false
        });
        tried.sort_unstable();
        assert_eq!(tried, Vec::from_iter(40_000..=40_099), "each port once");
    }

    #[test]
    fn fresh_connections_to_one_peer_do_not_repeat_a_port_soon() {
        let mut ports = PortSelector::new([1; 16], 32_768..=60_999);
        let chosen: Vec<_> = (0..1000)
            .map(|_| ports.select(LOCAL, remote(80), |_| true).unwrap())
            .collect();
        let mut distinct = chosen.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), chosen.len());
    }

    #[test]
    fn another_key_gives_other_ports() {
        let sequence = |key| {
            let mut ports = PortSelector::new([key; 16], 32_768..=60_999);
            Vec::from_iter((0..8).map(|_| ports.select(LOCAL, remote(80), |_| true)))
        };
        assert_ne!(sequence(1), sequence(2));
    }

    #[test]
    fn the_whole_port_space_and_a_single_port_are_ranges_too() {
        let mut all = PortSelector::new([1; 16], 0..=u16::MAX);
        assert!(all.select(LOCAL, remote(80), |port| port == 0).is_some());
        let mut one = PortSelector::new([1; 16], 7..=7);
        assert_eq!(one.select(LOCAL, remote(80), |_| true), Some(7));
    }
}
