//! The neighbour table: which Ethernet address an IPv4 address on the link has (RFC 826), with
//! RFC 1122 §2.3.2's demands: entries age, requests are not sent in floods, and what is to be sent
//! waits, a little of it for each neighbour, until its address is known.
//!
//! An entry is *resolving* (requests are broadcast), *reachable* for a while after each
//! confirmation, and then *probed* when next used: with unicast requests, and still usable
//! meanwhile. A neighbour that answers none is *unreachable* for a moment.
//!
//! What was only *heard*, unasked, anyone may have sent. It is used, and if nothing has confirmed it a
//! while after (Linux's DELAY), everybody is asked. If two stations want one address, everybody is
//! asked as soon as the entry is used, and until somebody answers a station that was confirmed keeps it.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

use super::deadlines::Deadlines;
use super::{LocalAddresses, NetError, Prefix};
use crate::wire::MacAddr;
use crate::wire::arp::ArpPacket;

mod arp;

/// Limits and times of a [`NeighborTable`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighborConfig {
    /// Entries at most. At the bound the one unused for longest gives way, unless it is static.
    pub max_entries: usize,
    /// Items held for each neighbour whose address is not known. At the bound the oldest goes.
    pub max_held: usize,
    /// Microseconds from a confirmation to the next probe.
    pub reachable: u64,
    /// Microseconds between requests to one neighbour.
    pub retry: u64,
    /// Microseconds from the first use of what was only heard to the request that asks everybody.
    pub delay: u64,
    /// Microseconds after an answer during which another one is ignored (Linux's locktime).
    pub lock: u64,
    /// Requests without an answer before a neighbour counts as unreachable.
    pub max_tries: u8,
}

impl Default for NeighborConfig {
    fn default() -> Self {
        Self {
            max_entries: 1024,
            max_held: 3,
            reachable: 60_000_000,
            retry: 1_000_000,
            delay: 5_000_000,
            lock: 1_000_000,
            max_tries: 3,
        }
    }
}

impl NeighborConfig {
    /// The state of a neighbour that has just been confirmed.
    fn reachable<T>(&self, now: u64, mac: MacAddr) -> State<T> {
        State::Reachable {
            mac,
            since: now,
            until: now.saturating_add(self.reachable),
        }
    }
}

/// What the table knows of a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// Its Ethernet address.
    Resolved(MacAddr),
    /// Not known yet: requests are on their way. See [`NeighborTable::hold`].
    Pending,
    /// It has not answered: EHOSTUNREACH.
    Unreachable,
    /// Not known, and no room to find it out: the table is full of static entries, or of failures
    /// that nobody fetches.
    NoRoom,
}

/// What is to be done after an ARP packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Action<T> {
    /// A reply for the packet's sender.
    pub reply: Option<ArpPacket>,
    /// What was held for the sender, whose address is known now, oldest first.
    pub released: Vec<T>,
    /// Another station uses one of our addresses: the packet's sender address.
    pub conflict: bool,
}

/// A neighbour whose address was not found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unresolved<T> {
    /// The neighbour.
    pub address: Ipv4Addr,
    /// What was held for it, oldest first: to be dropped.
    pub held: Vec<T>,
    /// Given up for want of room, rather than for want of an answer.
    pub evicted: bool,
}

#[derive(Debug)]
enum State<T> {
    Static(MacAddr),
    Resolving {
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
    Heard {
        mac: MacAddr,
        contested: bool,
    },
    /// Heard, and used since.
    Delayed {
        mac: MacAddr,
    },
    /// Asked for: that station, or `everybody`.
    Probing {
        mac: MacAddr,
        tries: u8,
        everybody: bool,
    },
    Unreachable {
        until: u64,
    },
}

#[derive(Debug)]
struct Entry<T> {
    state: State<T>,
    /// When the entry was last looked up or learned.
    used: u64,
    /// When the neighbour may be asked again.
    ask_after: u64,
}

/// The neighbours on one link. `T` is what waits for an address: frames, or connections.
#[derive(Debug)]
pub struct NeighborTable<T> {
    mac: MacAddr,
    local: LocalAddresses,
    config: NeighborConfig,
    entries: HashMap<Ipv4Addr, Entry<T>>,
    /// Static entries for whole prefixes, longest first.
    static_prefixes: Vec<(Prefix, MacAddr)>,
    /// When an entry's next request is due, or its last one has gone unanswered.
    deadlines: Deadlines<Ipv4Addr>,
    unresolved: VecDeque<Unresolved<T>>,
}

impl<T> NeighborTable<T> {
    /// Static entries for prefixes at most.
    pub const MAX_STATIC_PREFIXES: usize = 64;

    /// An empty table for a station with address `mac` and the IPv4 addresses `local`.
    pub fn new(mac: MacAddr, local: LocalAddresses, config: NeighborConfig) -> Self {
        Self {
            mac,
            local,
            config,
            entries: HashMap::new(),
            static_prefixes: Vec::new(),
            deadlines: Deadlines::new(),
            unresolved: VecDeque::new(),
        }
    }

    /// Adds an entry that neither ages nor is overwritten by what others send; it replaces what
    /// is known of an address. An entry for a single address goes before one for a prefix.
    ///
    /// # Errors
    /// [`NetError::Full`].
    pub fn add_static(&mut self, prefix: Prefix, mac: MacAddr) -> Result<(), NetError> {
        if prefix.len() < 32 {
            return self.add_static_prefix(prefix, mac);
        }
        let address = prefix.network();
        if self.entries.contains_key(&address) {
            self.evict(address);
        }
        let entry = Entry {
            state: State::Static(mac),
            used: 0,
            ask_after: 0,
        };
        if !self.insert(address, entry) {
            return Err(NetError::Full {
                table: "neighbour",
                limit: self.config.max_entries,
            });
        }
        Ok(())
    }

    fn add_static_prefix(&mut self, prefix: Prefix, mac: MacAddr) -> Result<(), NetError> {
        self.static_prefixes.retain(|(other, _)| *other != prefix);
        if self.static_prefixes.len() == Self::MAX_STATIC_PREFIXES {
            return Err(NetError::Full {
                table: "static neighbour prefix",
                limit: Self::MAX_STATIC_PREFIXES,
            });
        }
        let position = self
            .static_prefixes
            .partition_point(|(other, _)| other.len() >= prefix.len());
        self.static_prefixes.insert(position, (prefix, mac));
        Ok(())
    }

    /// Looks up a neighbour that something is to be sent to, and sees to it that its address is
    /// found, or found to be still right. `now` is in microseconds.
    pub fn lookup(&mut self, now: u64, address: Ipv4Addr) -> Lookup {
        let Some(entry) = self.entries.get_mut(&address) else {
            return self.lookup_unknown(now, address);
        };
        entry.used = now;
        match entry.state {
            State::Static(mac) | State::Delayed { mac } | State::Probing { mac, .. } => {
                Lookup::Resolved(mac)
            }
            State::Reachable { mac, until, .. } if now < until => Lookup::Resolved(mac),
            State::Reachable { mac, .. }
            | State::Heard {
                mac,
                contested: true,
            } => {
                let everybody = matches!(entry.state, State::Heard { .. });
                entry.state = State::Probing {
                    mac,
                    tries: 0,
                    everybody,
                };
                self.deadlines.set(address, now.max(entry.ask_after));
                Lookup::Resolved(mac)
            }
            State::Heard { mac, .. } => {
                entry.state = State::Delayed { mac };
                let due = now.saturating_add(self.config.delay).max(entry.ask_after);
                self.deadlines.set(address, due);
                Lookup::Resolved(mac)
            }
            State::Resolving { .. } => Lookup::Pending,
            State::Unreachable { until } if now < until => Lookup::Unreachable,
            State::Unreachable { .. } => {
                entry.state = State::resolving();
                self.deadlines.set(address, now.max(entry.ask_after));
                Lookup::Pending
            }
        }
    }

    fn lookup_unknown(&mut self, now: u64, address: Ipv4Addr) -> Lookup {
        if let Some(mac) = self.fixed(address) {
            return Lookup::Resolved(mac);
        }
        let entry = Entry {
            state: State::resolving(),
            used: now,
            ask_after: now,
        };
        if !self.insert(address, entry) {
            return Lookup::NoRoom;
        }
        self.deadlines.set(address, now);
        Lookup::Pending
    }

    /// The station that a static entry for a prefix names.
    fn fixed(&self, address: Ipv4Addr) -> Option<MacAddr> {
        let mut fixed = self.static_prefixes.iter();
        let found = fixed.find(|(prefix, _)| prefix.contains(address));
        found.map(|(_, mac)| *mac)
    }

    /// Holds `item` until the address of a [pending](Lookup::Pending) neighbour is known. Returns
    /// what must be dropped: the oldest item held, if it had to make room, or `item` itself, if
    /// the neighbour is not pending.
    #[must_use = "what is returned has been dropped and should be counted"]
    pub fn hold(&mut self, address: Ipv4Addr, item: T) -> Option<T> {
        let limit = self.config.max_held;
        match self.entries.get_mut(&address).map(|entry| &mut entry.state) {
            Some(State::Resolving { held, .. }) if limit > 0 => {
                let displaced = if held.len() < limit {
                    None
                } else {
                    held.pop_front()
                };
                held.push_back(item);
                displaced
            }
            _ => Some(item),
        }
    }

    /// Notes that a neighbour has just been heard from by other means, such as a TCP segment that
    /// acknowledges data sent to `station` (RFC 1122 §2.3.2.1 (d)): no probe is needed for a while.
    pub fn confirm(&mut self, now: u64, address: Ipv4Addr, station: MacAddr) {
        if let Some(entry) = self.entries.get_mut(&address)
            && entry.state.station() == Some(station)
        {
            entry.state = self.config.reachable(now, station);
            self.deadlines.clear(address);
        }
    }

    /// The next request that is due, and the Ethernet address to send it to. To be called until
    /// `None`; then [`poll_unresolved`](Self::poll_unresolved) has what was given up.
    pub fn poll_transmit(&mut self, now: u64) -> Option<(ArpPacket, MacAddr)> {
        while let Some(address) = self.deadlines.take_due(now) {
            let Some(entry) = self.entries.get_mut(&address) else {
                continue;
            };
            let to = match &mut entry.state {
                State::Resolving { tries, .. } if *tries < self.config.max_tries => {
                    *tries += 1;
                    MacAddr::BROADCAST
                }
                State::Delayed { mac } => {
                    let (mac, tries, everybody) = (*mac, 1, true);
                    entry.state = State::Probing {
                        mac,
                        tries,
                        everybody,
                    };
                    MacAddr::BROADCAST
                }
                State::Probing {
                    mac,
                    tries,
                    everybody,
                } if *tries < self.config.max_tries => {
                    *tries += 1;
                    if *everybody { MacAddr::BROADCAST } else { *mac }
                }
                State::Resolving { .. } => {
                    let until = now.saturating_add(self.config.retry);
                    let state = State::Unreachable { until };
                    let held = std::mem::replace(&mut entry.state, state).into_held();
                    self.unresolved.push_back(Unresolved {
                        address,
                        held,
                        evicted: false,
                    });
                    continue;
                }
                State::Probing { .. } => {
                    // It may have moved: the next lookup asks everybody.
                    self.entries.remove(&address);
                    continue;
                }
                State::Static(_)
                | State::Reachable { .. }
                | State::Heard { .. }
                | State::Unreachable { .. } => continue,
            };
            let ask_after = now.saturating_add(self.config.retry);
            entry.ask_after = ask_after;
            self.deadlines.set(address, ask_after);
            return Some((self.request(address, to), to));
        }
        None
    }

    /// The next neighbour that was given up. To be called until `None`.
    pub fn poll_unresolved(&mut self) -> Option<Unresolved<T>> {
        self.unresolved.pop_front()
    }

    /// When [`poll_transmit`](Self::poll_transmit) has something to do, in microseconds; a time
    /// that has passed means at once.
    pub fn next_deadline(&self) -> Option<u64> {
        if !self.unresolved.is_empty() {
            return Some(0);
        }
        self.deadlines.next()
    }

    /// Number of entries, static prefixes aside.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries, static prefixes aside.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds an entry, if need be in the place of the one unused for longest. Returns false if
    /// there is no room.
    fn insert(&mut self, address: Ipv4Addr, entry: Entry<T>) -> bool {
        let limit = self.config.max_entries;
        if self.unresolved.len() >= limit {
            return false;
        }
        if self.entries.len() >= limit {
            let oldest = self
                .entries
                .iter()
                .filter(|(_, entry)| !matches!(entry.state, State::Static(_)))
                .min_by_key(|(address, entry)| (entry.used, **address))
                .map(|(address, _)| *address);
            match oldest {
                Some(oldest) => self.evict(oldest),
                None => return false,
            }
        }
        self.entries.insert(address, entry);
        true
    }

    fn evict(&mut self, address: Ipv4Addr) {
        self.deadlines.clear(address);
        let Some(entry) = self.entries.remove(&address) else {
            return;
        };
        let held = entry.state.into_held();
        if !held.is_empty() {
            self.unresolved.push_back(Unresolved {
                address,
                held,
                evicted: true,
            });
        }
    }
}

impl<T> State<T> {
    fn resolving() -> Self {
        Self::Resolving {
            tries: 0,
            held: VecDeque::new(),
        }
    }

    /// The station that is used and may change.
    fn station(&self) -> Option<MacAddr> {
        match self {
            Self::Reachable { mac, .. }
            | Self::Heard { mac, .. }
            | Self::Delayed { mac }
            | Self::Probing { mac, .. } => Some(*mac),
            Self::Static(_) | Self::Resolving { .. } | Self::Unreachable { .. } => None,
        }
    }

    fn into_held(self) -> Vec<T> {
        match self {
            Self::Resolving { held, .. } => held.into(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
