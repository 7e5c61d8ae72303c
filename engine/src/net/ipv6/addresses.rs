//! Our IPv6 addresses: their life (RFC 4862 §5.4, §5.5), the groups that they make us join, and
//! which of them to speak from (RFC 6724 §5).

use std::net::Ipv6Addr;

use super::Prefix6;
use crate::wire::ipv6::{ALL_NODES, solicited_node};

/// How far an address means something (RFC 4007, RFC 6724 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Scope {
    Link,
    Global,
}

fn scope(address: Ipv6Addr) -> Scope {
    match address.is_unicast_link_local() || address.is_loopback() {
        true => Scope::Link,
        false => Scope::Global,
    }
}

/// Times at which an address stops to be preferred and to be valid, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetime {
    /// After this no new connection begins from it, if another address will do.
    pub preferred: u64,
    /// After this it is not ours any more.
    pub valid: u64,
}

impl Lifetime {
    /// Without end.
    pub const FOREVER: Lifetime = Lifetime {
        preferred: u64::MAX,
        valid: u64::MAX,
    };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Not known to be unique: probes are sent.
    Tentative { probes: u8, next: u64 },
    /// In use.
    Assigned,
    /// Another station has it.
    Duplicate,
}

#[derive(Clone, Copy, Debug)]
struct Own {
    address: Ipv6Addr,
    prefix: Prefix6,
    lifetime: Lifetime,
    phase: Phase,
}

impl Own {
    fn is_tentative(&self) -> bool {
        matches!(self.phase, Phase::Tentative { .. })
    }
}

/// Our addresses.
#[derive(Debug)]
pub struct Addresses {
    list: Vec<Own>,
    /// Networks all of whose addresses are ours.
    networks: Vec<Prefix6>,
    /// Probes for each new address (DupAddrDetectTransmits); 0: addresses are taken as unique.
    probes: u8,
    /// Microseconds between probes (RetransTimer).
    interval: u64,
    version: u64,
}

impl Addresses {
    /// Addresses at most; more are not taken.
    pub const LIMIT: usize = 16;

    /// No addresses. New ones are probed for `probes` times, `interval` microseconds apart.
    pub fn new(probes: u8, interval: u64) -> Addresses {
        Addresses {
            list: Vec::new(),
            networks: Vec::new(),
            probes,
            interval,
            version: 0,
        }
    }

    /// The same, with all addresses of some networks ours.
    pub(super) fn with_networks(mut self, networks: &[Prefix6]) -> Addresses {
        self.networks = networks.to_vec();
        self
    }

    /// Adds an address, or gives it another lifetime if it is there. Probing starts at `start`
    /// (microseconds). False if there is no room, or no host can have it.
    pub fn add(
        &mut self,
        address: Ipv6Addr,
        prefix: Prefix6,
        lifetime: Lifetime,
        start: u64,
    ) -> bool {
        if let Some(own) = self.list.iter_mut().find(|own| own.address == address) {
            own.lifetime = lifetime;
            return true;
        }
        if !is_host(address) || self.list.len() == Self::LIMIT {
            return false;
        }
        let phase = match self.probes {
            0 => Phase::Assigned,
            _ => Phase::Tentative {
                probes: 0,
                next: start,
            },
        };
        self.list.push(Own {
            address,
            prefix,
            lifetime,
            phase,
        });
        self.version += 1;
        true
    }

    /// Whether the address is ours to use.
    #[inline]
    pub fn is_ours(&self, address: Ipv6Addr) -> bool {
        self.list
            .iter()
            .any(|own| own.address == address && own.phase == Phase::Assigned)
            || self.networks.iter().any(|ours| ours.contains(address))
    }

    /// Whether the address would be ours, were it known to be unique.
    pub fn is_tentative(&self, address: Ipv6Addr) -> bool {
        let is_it = |own: &Own| own.address == address && own.is_tentative();
        self.list.iter().any(is_it)
    }

    /// Whether the address would be ours, had no other station claimed it.
    pub fn is_duplicate(&self, address: Ipv6Addr) -> bool {
        let is_it = |own: &Own| own.address == address && own.phase == Phase::Duplicate;
        self.list.iter().any(is_it)
    }

    /// Whether an address is still being looked into.
    pub fn any_tentative(&self) -> bool {
        self.list.iter().any(Own::is_tentative)
    }

    /// The addresses that sockets can be bound to: those in use, and those that will be unless
    /// another station has them.
    pub fn bindable(&self) -> impl Iterator<Item = Ipv6Addr> {
        let live = |own: &&Own| own.phase != Phase::Duplicate;
        self.list.iter().filter(live).map(|own| own.address)
    }

    /// The addresses in use.
    pub fn iter(&self) -> impl Iterator<Item = Ipv6Addr> {
        let assigned = |own: &&Own| own.phase == Phase::Assigned;
        self.list.iter().filter(assigned).map(|own| own.address)
    }

    /// When an address stops to be valid, in microseconds.
    pub fn valid_until(&self, address: Ipv6Addr) -> Option<u64> {
        let own = self.list.iter().find(|own| own.address == address)?;
        Some(own.lifetime.valid)
    }

    /// Whether we are in a group.
    pub fn is_member(&self, group: Ipv6Addr) -> bool {
        group == ALL_NODES || self.groups().contains(&group)
    }

    /// The solicited-node groups of all addresses, each once.
    pub fn groups(&self) -> Vec<Ipv6Addr> {
        let live = self.list.iter().filter(|own| own.phase != Phase::Duplicate);
        let mut groups: Vec<_> = live.map(|own| solicited_node(own.address)).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// Our link-local address.
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        self.iter().find(Ipv6Addr::is_unicast_link_local)
    }

    /// The address to speak to `destination` from (RFC 6724 §5, rules 1, 2, 3 and 8): the same,
    /// one of its scope, one that is preferred, and then the one that shares most bits.
    pub fn source_for(&self, now: u64, destination: Ipv6Addr) -> Option<Ipv6Addr> {
        let to = scope(destination);
        let rank = |own: &&Own| {
            let from = scope(own.address);
            // The nearest scope that reaches so far; failing that, the widest.
            let reach = match from >= to {
                true => 2 - (from as u8 - to as u8),
                false => 0,
            };
            let same = own.address.to_bits() ^ destination.to_bits();
            (
                own.address == destination,
                reach,
                own.lifetime.preferred > now,
                same.leading_zeros().min(u32::from(own.prefix.len())),
            )
        };
        let mut best: Option<&Own> = None;
        for own in self.list.iter().filter(|own| own.phase == Phase::Assigned) {
            if best.is_none_or(|best| rank(&own) > rank(&best)) {
                best = Some(own);
            }
        }
        best.map(|own| own.address)
    }

    /// Whether packets from `source` are answered from as far as `destination` is
    /// (RFC 6724 §5, rule 2).
    pub fn reaches(source: Ipv6Addr, destination: Ipv6Addr) -> bool {
        scope(source) >= scope(destination)
    }

    /// Another station has the address, or asks for it at the same time: it is not ours.
    pub fn give_up(&mut self, address: Ipv6Addr) {
        if let Some(own) = self.list.iter_mut().find(|own| own.address == address) {
            own.phase = Phase::Duplicate;
            self.version += 1;
        }
    }

    /// Puts another address of the same network and lifetime in the place of one. Probing starts at
    /// `start` (microseconds).
    pub fn replace(&mut self, address: Ipv6Addr, by: Ipv6Addr, start: u64) {
        if let Some(own) = self.list.iter_mut().find(|own| own.address == address) {
            own.address = by;
            own.phase = Phase::Tentative {
                probes: 0,
                next: start,
            };
            self.version += 1;
        }
    }

    /// The network of one of our addresses.
    pub fn network_of(&self, address: Ipv6Addr) -> Option<Prefix6> {
        let own = self.list.iter().find(|own| own.address == address)?;
        Some(own.prefix)
    }

    /// The next address for which to ask whether anybody has it; to be called until `None`.
    /// Addresses whose time is over are dropped.
    pub fn poll(&mut self, now: u64) -> Option<Ipv6Addr> {
        let before = self.list.len();
        self.list.retain(|own| own.lifetime.valid > now);
        self.version += u64::from(self.list.len() != before);
        for own in &mut self.list {
            let Phase::Tentative { probes, next } = own.phase else {
                continue;
            };
            if next > now {
                continue;
            }
            if probes == self.probes {
                own.phase = Phase::Assigned;
                self.version += 1;
                continue;
            }
            own.phase = Phase::Tentative {
                probes: probes + 1,
                next: now.saturating_add(self.interval),
            };
            return Some(own.address);
        }
        None
    }

    /// A number that changes whenever an address comes, goes, or is found to be unique or not.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When [`poll`](Self::poll) has something to do, in microseconds.
    pub fn next_deadline(&self) -> Option<u64> {
        let due = |own: &Own| match own.phase {
            Phase::Tentative { next, .. } => next.min(own.lifetime.valid),
            _ => own.lifetime.valid,
        };
        self.list.iter().map(due).min().filter(|at| *at != u64::MAX)
    }
}

/// Whether one host can have the address.
pub fn is_host(address: Ipv6Addr) -> bool {
    !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && address.to_ipv4_mapped().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn addresses(probes: u8, list: &[&str]) -> Addresses {
        let mut addresses = Addresses::new(probes, SECOND);
        for text in list {
            let prefix = Prefix6::new(ip(text), 64).unwrap();
            assert!(addresses.add(ip(text), prefix, Lifetime::FOREVER, 0));
        }
        addresses
    }

    #[test]
    fn an_address_is_ours_once_nobody_has_answered_its_probes() {
        let mut own = addresses(2, &["fd77::2"]);
        for at in [0, SECOND] {
            assert_eq!(own.poll(at), Some(ip("fd77::2")));
            assert_eq!(own.poll(at), None);
            assert!(own.is_tentative(ip("fd77::2")) && !own.is_ours(ip("fd77::2")));
            assert_eq!(own.next_deadline(), Some(at + SECOND));
        }
        assert_eq!(own.source_for(0, ip("fd77::1")), None);
        assert_eq!(own.poll(2 * SECOND), None);
        assert!(own.is_ours(ip("fd77::2")));
    }

    #[test]
    fn a_duplicate_is_never_used() {
        let mut own = addresses(1, &["fd77::2"]);
        own.poll(0);
        own.give_up(ip("fd77::2"));
        assert_eq!(own.poll(9 * SECOND), None);
        assert!(!own.is_ours(ip("fd77::2")) && own.groups().is_empty());
    }

    #[test]
    fn an_address_ends_with_its_lifetime() {
        let mut own = addresses(0, &[]);
        let prefix = Prefix6::new(ip("fd77::"), 64).unwrap();
        let lifetime = Lifetime {
            preferred: SECOND,
            valid: 2 * SECOND,
        };
        own.add(ip("fd77::2"), prefix, lifetime, 0);
        assert_eq!(own.next_deadline(), Some(2 * SECOND));
        own.poll(2 * SECOND - 1);
        assert!(own.is_ours(ip("fd77::2")));
        own.poll(2 * SECOND);
        assert!(!own.is_ours(ip("fd77::2")));
    }

    #[test]
    fn the_source_has_the_destinations_scope_and_the_longest_prefix() {
        let own = addresses(0, &["fe80::2", "fd77::2", "2001:db8::2"]);
        for (to, from) in [
            ("fd77::1", "fd77::2"),
            ("2001:db8:1::1", "2001:db8::2"),
            ("fe80::1", "fe80::2"),
            ("2001:db8::2", "2001:db8::2"),
        ] {
            assert_eq!(own.source_for(0, ip(to)), Some(ip(from)), "{to}");
        }
        let only = addresses(0, &["fe80::2"]);
        assert_eq!(only.source_for(0, ip("fd77::1")), Some(ip("fe80::2")));
    }

    #[test]
    fn a_deprecated_source_is_the_last_choice_of_its_scope() {
        let mut own = addresses(0, &["fe80::2", "2001:db8::2"]);
        let prefix = Prefix6::new(ip("fd77::"), 64).unwrap();
        let lifetime = Lifetime {
            preferred: SECOND,
            valid: u64::MAX,
        };
        own.add(ip("fd77::2"), prefix, lifetime, 0);
        assert_eq!(own.source_for(0, ip("fd77::1")), Some(ip("fd77::2")));
        assert_eq!(
            own.source_for(SECOND, ip("fd77::1")),
            Some(ip("2001:db8::2"))
        );
    }

    #[test]
    fn what_no_host_can_have_and_what_is_too_much_is_refused() {
        let mut own = addresses(0, &[]);
        for text in ["::", "::1", "ff02::1", "::ffff:10.0.0.1"] {
            assert!(!own.add(ip(text), Prefix6::ALL, Lifetime::FOREVER, 0));
        }
        for i in 0..=Addresses::LIMIT as u16 {
            let address = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, i + 1);
            let added = own.add(address, Prefix6::ALL, Lifetime::FOREVER, 0);
            assert_eq!(added, usize::from(i) < Addresses::LIMIT);
        }
    }

    #[test]
    fn addresses_with_the_same_end_share_a_group() {
        let own = addresses(0, &["fd77::2", "2001:db8::2", "fd77::3"]);
        assert_eq!(own.groups().len(), 2);
        assert!(own.is_member(ip("ff02::1:ff00:2")) && own.is_member(ip("ff02::1")));
        assert!(!own.is_member(ip("ff02::2")));
    }
}
