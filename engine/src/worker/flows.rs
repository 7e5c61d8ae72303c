//! Which connection a flow leads to: a table of numbers under a keyed hash. The flows themselves stand in
//! the connections, which a lookup needs anyway.

use super::connection::{Flow, Place};
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

/// A keyed hash, so that nobody outside can make flows collide.
pub struct FlowHasher(SipHasher13);

impl FlowHasher {
    /// Under a secret key.
    pub fn new(key: [u64; 2]) -> Self {
        FlowHasher(SipHasher13::new_with_keys(key[0], key[1]))
    }

    /// The hash of a flow.
    #[inline]
    pub fn hash(&self, flow: &Flow) -> u32 {
        let ports = u32::from(flow.local_port) << 16 | u32::from(flow.remote_port);
        let hash = match (flow.local.v4(), flow.remote.v4()) {
            (Some(local), Some(remote)) => {
                let mut bytes = [0; 12];
                bytes[..4].copy_from_slice(&local.octets());
                bytes[4..8].copy_from_slice(&remote.octets());
                bytes[8..].copy_from_slice(&ports.to_ne_bytes());
                self.0.hash(&bytes)
            }
            _ => {
                let mut bytes = [0; 36];
                bytes[..16].copy_from_slice(&flow.local.mapped().octets());
                bytes[16..32].copy_from_slice(&flow.remote.mapped().octets());
                bytes[32..].copy_from_slice(&ports.to_ne_bytes());
                self.0.hash(&bytes)
            }
        };
        (hash >> 32) as u32
    }
}

/// The place of a flow, packed, with the flow's hash.
struct Entry {
    hash: u32,
    place: u32,
}

impl Entry {
    /// The table takes its index from the low bits, and what tells entries apart from the high ones.
    #[inline]
    fn spread(hash: u32) -> u64 {
        u64::from(hash) << 32 | u64::from(hash)
    }
}

/// Places by flow.
pub struct FlowTable {
    hasher: FlowHasher,
    entries: HashTable<Entry>,
}

impl FlowTable {
    /// An empty one; `key` is secret.
    pub fn new(key: [u64; 2]) -> Self {
        FlowTable {
            hasher: FlowHasher::new(key),
            entries: HashTable::new(),
        }
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where a flow leads to; `flow_of` says of places what their flows are.
    #[inline]
    pub fn find<'a>(
        &self,
        flow: &Flow,
        flow_of: impl Fn(Place) -> Option<&'a Flow>,
    ) -> Option<Place> {
        let hash = self.hasher.hash(flow);
        let is_it =
            |entry: &Entry| entry.hash == hash && flow_of(Place::unpack(entry.place)) == Some(flow);
        let entry = self.entries.find(Entry::spread(hash), is_it)?;
        Some(Place::unpack(entry.place))
    }

    /// Adds a flow that is not in it.
    pub fn insert(&mut self, flow: &Flow, place: Place) {
        let hash = self.hasher.hash(flow);
        let place = place.pack();
        let spread = |entry: &Entry| Entry::spread(entry.hash);
        self.entries
            .insert_unique(Entry::spread(hash), Entry { hash, place }, spread);
    }

    /// Takes a flow out that leads to a place.
    pub fn remove(&mut self, flow: &Flow, place: Place) {
        let hash = self.hasher.hash(flow);
        let place = place.pack();
        let is_it = |entry: &Entry| entry.place == place;
        if let Ok(entry) = self.entries.find_entry(Entry::spread(hash), is_it) {
            entry.remove();
        }
    }

    /// All places.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.entries.iter().map(|entry| Place::unpack(entry.place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Address;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    fn flow(local: impl Into<IpAddr>, remote_port: u16) -> Flow {
        let local = Address::from(local.into());
        Flow {
            local,
            remote: local,
            local_port: 80,
            remote_port,
        }
    }

    #[test]
    fn flows_of_both_families_are_found_until_they_are_taken_out() {
        let mut table = FlowTable::new([1, 2]);
        let v4 = (0..1000).map(|port| flow(Ipv4Addr::LOCALHOST, port));
        let v6 = (0..1000).map(|port| flow(Ipv6Addr::LOCALHOST, port));
        let flows: Vec<Flow> = v4.chain(v6).collect();
        let places = [Place::Connection, Place::HalfOpen, Place::TimeWait];
        let place = |n: usize| places[n % 3](n as u32);
        let flow_of = |place: Place| Some(&flows[(place.pack() & 0xffff) as usize]);
        for (n, flow) in flows.iter().enumerate() {
            assert_eq!(table.find(flow, flow_of), None);
            table.insert(flow, place(n));
        }
        for (n, flow) in flows.iter().enumerate() {
            assert_eq!(table.find(flow, flow_of), Some(place(n)));
        }
        assert_eq!(table.places().count(), 2000);
        for (n, flow) in flows.iter().enumerate() {
            table.remove(flow, place(n));
            assert_eq!(table.find(flow, flow_of), None);
        }
        assert!(table.is_empty());
    }

    #[test]
    fn the_key_decides_where_a_flow_stands() {
        let flow = flow(Ipv4Addr::LOCALHOST, 1);
        let hash = |key| FlowHasher::new(key).hash(&flow);
        assert_ne!(hash([1, 2]), hash([1, 3]));
    }
}
