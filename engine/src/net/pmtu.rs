//! What routers have said of the paths to destinations, so that new connections start right.

use super::Address;
use std::collections::HashMap;

/// Destinations remembered; a further one takes the place of the one that is forgotten soonest.
const MOST: usize = 1024;

/// Path MTUs by destination. Only what a connection has found plausible belongs here.
#[derive(Debug, Default)]
pub struct PathMtus {
    known: HashMap<Address, Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    mss: u16,
    /// Microseconds.
    until: u64,
}

impl PathMtus {
    /// A router said that the path to `remote` takes no TCP segment above `mss` bytes (in the measure
    /// of an MSS option); that counts until `until`, in microseconds.
    pub fn learn(&mut self, remote: Address, mss: u16, until: u64) {
        if self.known.len() >= MOST && !self.known.contains_key(&remote) {
            let soonest = self.known.iter().min_by_key(|(_, known)| known.until);
            if let Some(soonest) = soonest.map(|(remote, _)| *remote) {
                self.known.remove(&soonest);
            }
        }
        self.known.insert(remote, Known { mss, until });
    }

    /// What is known of the path to `remote` at the time `now`, and until when it counts, in
    /// microseconds.
    pub fn get(&mut self, now: u64, remote: Address) -> Option<(u16, u64)> {
        let known = *self.known.get(&remote)?;
        if known.until <= now {
            self.known.remove(&remote);
            return None;
        }
        Some((known.mss, known.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn host(n: u32) -> Address {
        Ipv4Addr::from_bits(n).into()
    }

    #[test]
    fn a_path_is_known_until_its_time_is_over() {
        let mut paths = PathMtus::default();
        paths.learn(host(1), 1000, 50);
        assert_eq!(paths.get(49, host(1)), Some((1000, 50)));
        assert_eq!(paths.get(49, host(2)), None);
        assert_eq!(paths.get(50, host(1)), None);
        assert!(paths.known.is_empty());
    }

    #[test]
    fn a_full_table_forgets_what_it_would_forget_soonest() {
        let mut paths = PathMtus::default();
        for n in 0..2 * MOST as u32 {
            paths.learn(host(n), 1000, 100 + u64::from(n));
            paths.learn(host(n), 900, 100 + u64::from(n));
        }
        assert_eq!(paths.known.len(), MOST);
        assert_eq!(paths.get(0, host(MOST as u32 - 1)), None);
        assert!(paths.get(0, host(MOST as u32)).is_some());
    }
}
