//! The neighbour cache (RFC 4861 §5.1, §7.3): which station an IPv6 address on the link has, and
//! whether it still answers.
//!
//! What somebody has only said, unasked, is used and checked a while later with everybody, not with that
//! station alone: it may be forged. If two stations want one address, everybody is asked as soon as the
//! entry is used, and until somebody answers a station that was confirmed keeps it.
//!
//! Bounded: at the limit the entry that was used longest ago gives way, and what others told about
//! themselves unasked counts as never used until something is sent there, so that a flood of
//! solicitations pushes out nothing but itself.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv6Addr;

use crate::net::Lookup;
use crate::net::deadlines::Deadlines;
use crate::wire::MacAddr;

/// Limits and times (RFC 4861 §10), in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Entries at most.
    pub max_entries: usize,
    /// Items held for each neighbour whose station is not known. At the bound the oldest goes.
    pub max_held: usize,
    /// From a confirmation to STALE (ReachableTime).
    pub reachable: u64,
    /// Between solicitations (RetransTimer).
    pub retransmit: u64,
    /// From the first use of a stale entry to its probe (DELAY_FIRST_PROBE_TIME).
    pub delay: u64,
    /// After an answer, during which another one is ignored (Linux's locktime).
    pub lock: u64,
    /// Solicitations without an answer (MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT).
    pub max_tries: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_entries: 1024,
            max_held: 3,
            reachable: 30_000_000,
            retransmit: 1_000_000,
            delay: 5_000_000,
            lock: 1_000_000,
            max_tries: 3,
        }
    }
}

#[derive(Debug)]
enum State<T> {
    Incomplete {
        tries: u8,
        held: VecDeque<T>,
    },
    /// `since`: the answer; `until`: by then it is to be confirmed again.
    Reachable {
        mac: MacAddr,
        since: u64,
        until: u64,
    },
    /// Said by a station that was not asked. `contested`: another says otherwise.
    Stale {
        mac: MacAddr,
        contested: bool,
    },
    /// Used since. `group`: everybody is to be asked.
    Delay {
        mac: MacAddr,
        group: bool,
    },
    /// Asked for: that station, or everybody.
    Probe {
        mac: MacAddr,
        tries: u8,
        group: bool,
    },
    Unreachable {
        until: u64,
    },
}

#[derive(Debug)]
struct Entry<T> {
    state: State<T>,
    /// When something was last sent there; 0: never.
    used: u64,
    /// When the neighbour may be asked again.
    ask_after: u64,
}

/// A solicitation to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Solicit {
    /// Whose station is asked for.
    pub target: Ipv6Addr,
    /// Whom to ask: the station alone, or `None` for the target's group.
    pub station: Option<MacAddr>,
}

/// What an advertisement says (RFC 4861 §4.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Advertised {
    /// The station.
    pub mac: Option<MacAddr>,
    /// It answers a solicitation.
    pub solicited: bool,
    /// It is to replace what is known.
    pub overrides: bool,
}

/// The neighbours on one link. `T` is what waits for a station's address.
#[derive(Debug)]
pub struct NeighborCache<T> {
    /// Limits and times.
    pub config: Config,
    entries: HashMap<Ipv6Addr, Entry<T>>,
    /// When an entry's next solicitation is due, or its last one has gone unanswered.
    deadlines: Deadlines<Ipv6Addr>,
    given_up: VecDeque<T>,
}

impl<T> NeighborCache<T> {
    /// An empty cache.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            entries: HashMap::new(),
            deadlines: Deadlines::new(),
            given_up: VecDeque::new(),
        }
    }

    /// Looks up a neighbour that something is to be sent to, and sees to it that its station is
    /// found, or found to be still there.
    pub fn lookup(&mut self, now: u64, address: Ipv6Addr) -> Lookup {
        let Some(entry) = self.entries.get_mut(&address) else {
            let entry = Entry {
                state: State::incomplete(),
                used: now,
                ask_after: now,
            };
            if !self.insert(address, entry) {
                return Lookup::NoRoom;
            }
            self.deadlines.set(address, now);
            return Lookup::Pending;
        };
        entry.used = now;
        match entry.state {
            State::Delay { mac, .. } | State::Probe { mac, .. } => Lookup::Resolved(mac),
            State::Reachable { mac, until, .. } if now < until => Lookup::Resolved(mac),
            State::Stale {
                mac,
                contested: true,
            } => {
                entry.state = State::Probe {
                    mac,
                    tries: 0,
                    group: true,
                };
                self.deadlines.set(address, now.max(entry.ask_after));
                Lookup::Resolved(mac)
            }
            State::Reachable { mac, .. } | State::Stale { mac, .. } => {
                let group = matches!(entry.state, State::Stale { .. });
                entry.state = State::Delay { mac, group };
                let due = now.saturating_add(self.config.delay).max(entry.ask_after);
                self.deadlines.set(address, due);
                Lookup::Resolved(mac)
            }
            State::Incomplete { .. } => Lookup::Pending,
            State::Unreachable { until } if now < until => Lookup::Unreachable,
            State::Unreachable { .. } => {
                entry.state = State::incomplete();
                self.deadlines.set(address, now);
                Lookup::Pending
            }
        }
    }

    /// The neighbour's station, if it is known.
    pub fn station(&self, address: Ipv6Addr) -> Option<MacAddr> {
        self.entries.get(&address)?.state.mac()
    }

    /// Whether the neighbour has not answered lately.
    pub fn is_unreachable(&self, address: Ipv6Addr) -> bool {
        let entry = self.entries.get(&address);
        matches!(entry, Some(entry) if matches!(entry.state, State::Unreachable { .. }))
    }

    /// Holds `item` until the station of a [pending](Lookup::Pending) neighbour is known. Returns
    /// what must be dropped: the oldest item held, if it had to make room, or `item` itself, if
    /// the neighbour is not pending.
    #[must_use = "what is returned has been dropped and should be counted"]
    pub fn hold(&mut self, address: Ipv6Addr, item: T) -> Option<T> {
        let limit = self.config.max_held;
        match self.entries.get_mut(&address).map(|entry| &mut entry.state) {
            Some(State::Incomplete { held, .. }) if limit > 0 => {
                let displaced = (held.len() >= limit).then(|| held.pop_front()).flatten();
                held.push_back(item);
                displaced
            }
            _ => Some(item),
        }
    }

    /// A neighbour has named its station unasked, in a solicitation or a router advertisement
    /// (RFC 4861 §7.2.3, §6.3.4): believed, but stale. Returns what was held for it.
    pub fn heard(&mut self, address: Ipv6Addr, mac: MacAddr) -> Vec<T> {
        let contested = false;
        if self.entries.contains_key(&address) {
            return self.claimed(address, mac);
        }
        // Without room nothing is lost: it will be asked for when it is needed.
        self.insert(
            address,
            Entry {
                state: State::Stale { mac, contested },
                used: 0,
                ask_after: 0,
            },
        );
        Vec::new()
    }

    /// A station says unasked that it has an address that is known.
    fn claimed(&mut self, address: Ipv6Addr, mac: MacAddr) -> Vec<T> {
        let Some(entry) = self.entries.get(&address) else {
            return Vec::new();
        };
        let (mac, contested) = match entry.state {
            // Whoever answers has it.
            State::Probe { group: true, .. }
            | State::Stale {
                contested: true, ..
            } => return Vec::new(),
            State::Incomplete { .. } | State::Unreachable { .. } => (mac, false),
            _ if entry.state.mac() == Some(mac) => return Vec::new(),
            State::Reachable { mac: known, .. } => (known, true),
            _ => (mac, true),
        };
        self.become_known(address, State::Stale { mac, contested })
    }

    /// A neighbour has advertised its station (RFC 4861 §7.2.5). Returns what was held for it.
    pub fn advertised(&mut self, now: u64, address: Ipv6Addr, said: Advertised) -> Vec<T> {
        let Some(entry) = self.entries.get(&address) else {
            return Vec::new();
        };
        let reachable = |mac| State::Reachable {
            mac,
            since: now,
            until: now.saturating_add(self.config.reachable),
        };
        let Some(known) = entry.state.mac() else {
            let Some(mac) = said.mac else {
                return Vec::new();
            };
            let state = match said.solicited {
                true => reachable(mac),
                false => State::Stale {
                    mac,
                    contested: false,
                },
            };
            return self.become_known(address, state);
        };
        let mac = said.mac.unwrap_or(known);
        if mac != known && !said.overrides {
            return match entry.state {
                State::Reachable { .. } => {
                    let (mac, contested) = (known, false);
                    self.become_known(address, State::Stale { mac, contested })
                }
                _ => Vec::new(),
            };
        }
        match entry.state {
            _ if !said.solicited => self.claimed(address, mac),
            // Of several answers the first counts.
            State::Reachable { since, .. }
                if mac != known && now < since.saturating_add(self.config.lock) =>
            {
                Vec::new()
            }
            State::Reachable { .. } | State::Delay { group: false, .. } if mac == known => {
                self.become_known(address, reachable(mac))
            }
            State::Probe { tries, group, .. } if tries > 0 && (group || mac == known) => {
                self.become_known(address, reachable(mac))
            }
            // It answers what was not asked.
            _ => self.claimed(address, mac),
        }
    }

    /// Notes that a neighbour has just been heard from by other means, such as a TCP segment that
    /// acknowledges data sent to `station` (RFC 4861 §7.3.1): no probe is needed for a while.
    pub fn confirm(&mut self, now: u64, address: Ipv6Addr, station: MacAddr) {
        let entry = self.entries.get(&address);
        if entry.is_some_and(|entry| entry.state.mac() == Some(station)) {
            let until = now.saturating_add(self.config.reachable);
            let (mac, since) = (station, now);
            self.become_known(address, State::Reachable { mac, since, until });
        }
    }

    fn become_known(&mut self, address: Ipv6Addr, state: State<T>) -> Vec<T> {
        self.deadlines.clear(address);
        let Some(entry) = self.entries.get_mut(&address) else {
            return Vec::new();
        };
        std::mem::replace(&mut entry.state, state).into_held()
    }

    /// The next solicitation that is due. To be called until `None`; then
    /// [`poll_given_up`](Self::poll_given_up) has what was held for those who do not answer.
    pub fn poll_solicit(&mut self, now: u64) -> Option<Solicit> {
        while let Some(target) = self.deadlines.take_due(now) {
            let max_tries = self.config.max_tries;
            let Some(entry) = self.entries.get_mut(&target) else {
                continue;
            };
            let station = match &mut entry.state {
                State::Incomplete { tries, .. } if *tries < max_tries => {
                    *tries += 1;
                    None
                }
                State::Probe { mac, tries, group } if *tries < max_tries => {
                    *tries += 1;
                    (!*group).then_some(*mac)
                }
                State::Delay { mac, group } => {
                    let (mac, tries, group) = (*mac, 1, *group);
                    entry.state = State::Probe { mac, tries, group };
                    (!group).then_some(mac)
                }
                State::Incomplete { .. } => {
                    let until = now.saturating_add(self.config.retransmit);
                    let held = self.become_known(target, State::Unreachable { until });
                    self.given_up.extend(held);
                    continue;
                }
                State::Probe { .. } => {
                    // It may have moved: the next lookup asks the group.
                    self.entries.remove(&target);
                    continue;
                }
                _ => continue,
            };
            let again = now.saturating_add(self.config.retransmit);
            entry.ask_after = again;
            self.deadlines.set(target, again);
            return Some(Solicit { target, station });
        }
        None
    }

    /// The next item whose neighbour was given up. To be called until `None`.
    pub fn poll_given_up(&mut self) -> Option<T> {
        self.given_up.pop_front()
    }

    /// When there is something to do, in microseconds; a time that has passed means at once.
    pub fn next_deadline(&self) -> Option<u64> {
        if !self.given_up.is_empty() {
            return Some(0);
        }
        self.deadlines.next()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn insert(&mut self, address: Ipv6Addr, entry: Entry<T>) -> bool {
        // What was given up is fetched soon; nobody else may add to it without end.
        if self.given_up.len() >= self.config.max_entries {
            return false;
        }
        if self.entries.len() >= self.config.max_entries {
            let used = |(address, entry): &(&Ipv6Addr, &Entry<T>)| (entry.used, **address);
            let Some(oldest) = self.entries.iter().min_by_key(used).map(|(a, _)| *a) else {
                return false;
            };
            self.deadlines.clear(oldest);
            if let Some(entry) = self.entries.remove(&oldest) {
                self.given_up.extend(entry.state.into_held());
            }
        }
        self.entries.insert(address, entry);
        true
    }
}

impl<T> State<T> {
    fn incomplete() -> Self {
        Self::Incomplete {
            tries: 0,
            held: VecDeque::new(),
        }
    }

    fn mac(&self) -> Option<MacAddr> {
        match self {
            Self::Reachable { mac, .. }
            | Self::Stale { mac, .. }
            | Self::Delay { mac, .. }
            | Self::Probe { mac, .. } => Some(*mac),
            Self::Incomplete { .. } | Self::Unreachable { .. } => None,
        }
    }

    fn into_held(self) -> Vec<T> {
        match self {
            Self::Incomplete { held, .. } => held.into(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "neighbor_tests.rs"]
mod tests;
