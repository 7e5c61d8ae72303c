//! Which connection a flow leads to: a table of numbers under a keyed hash. The flows themselves stand in
//! the connections, which a lookup needs anyway.

use super::connection::{Flow, Place};
use crate::net::Address;
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// A keyed hash, so that nobody outside can make flows collide. It guards no secret but its own key, of
/// which nothing leaves the worker; like Linux's (`inet_ehashfn`) it need not be a cryptographic one.
pub struct FlowHasher([u64; 7]);

impl FlowHasher {
    /// Under a secret key.
    pub fn new(key: [u64; 2]) -> Self {
        let key = SipHasher13::new_with_keys(key[0], key[1]);
        FlowHasher(std::array::from_fn(|n| {
            let mut hasher = key;
            hasher.write_usize(n);
            hasher.finish()
        }))
    }

    /// The hash of a flow.
    #[inline]
    pub fn hash(&self, flow: &Flow) -> u32 {
        let [a, b, c, d, e, f, last] = self.0;
        let ([upper, lower], [upper_peer, lower_peer]) = (words(flow.local), words(flow.remote));
        let ports = u64::from(flow.local_port) << 16 | u64::from(flow.remote_port);
        let addresses = fold(lower ^ a, lower_peer ^ b) ^ fold(upper ^ c, upper_peer ^ d);
        // Once more, for products of a row of ports by one number form a row as well.
        (fold(fold(addresses ^ e, ports ^ f), last) >> 32) as u32
    }
}

/// Both halves of an address.
#[inline]
fn words(address: Address) -> [u64; 2] {
    let bits = u128::from_ne_bytes(address.mapped().octets());
    [bits as u64, (bits >> 64) as u64]
}

/// Both halves of a product: each bit of either factor bears upon most bits of it.
#[inline]
fn fold(x: u64, y: u64) -> u64 {
    let product = u128::from(x) * u128::from(y);
    product as u64 ^ (product >> 64) as u64
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

    /// Where a flow leads to; `leads` says of a place whether it is the flow's.
    #[inline]
    pub fn find(&self, flow: &Flow, leads: impl Fn(Place) -> bool) -> Option<Place> {
        let hash = self.hasher.hash(flow);
        let is_it = |entry: &Entry| entry.hash == hash && leads(Place::unpack(entry.place));
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
        let flow_of = |place: Place| &flows[(place.pack() & 0xffff) as usize];
        for (n, flow) in flows.iter().enumerate() {
            assert_eq!(table.find(flow, |place| flow_of(place) == flow), None);
            table.insert(flow, place(n));
        }
        for (n, flow) in flows.iter().enumerate() {
            assert_eq!(
                table.find(flow, |place| flow_of(place) == flow),
                Some(place(n))
            );
        }
        assert_eq!(table.places().count(), 2000);
        for (n, flow) in flows.iter().enumerate() {
            table.remove(flow, place(n));
            assert_eq!(table.find(flow, |place| flow_of(place) == flow), None);
        }
        assert!(table.is_empty());
    }

    #[test]
    fn the_key_decides_where_a_flow_stands() {
        let flow = flow(Ipv4Addr::LOCALHOST, 1);
        let hash = |key| FlowHasher::new(key).hash(&flow);
        assert_ne!(hash([1, 2]), hash([1, 3]));
    }

    #[test]
    fn flows_that_differ_little_are_spread_at_least_as_by_chance() {
        const FLOWS: usize = 4096;
        let n = 0..FLOWS as u32;
        let by_port = n.clone().map(|n| flow(Ipv4Addr::LOCALHOST, n as u16));
        let by_address = n.clone().map(|n| flow(Ipv4Addr::from_bits(n << 8), 1));
        let by_subnet = n.map(|n| flow(Ipv6Addr::from_bits(u128::from(n) << 64), 1));
        let families: [Vec<Flow>; 3] =
            [by_port.collect(), by_address.collect(), by_subnet.collect()];
        for (flows, key) in families
            .iter()
            .flat_map(|f| (0..32).map(move |key| (f, key)))
        {
            let hasher = FlowHasher::new([key, 1]);
            for shift in [0, 8, 20] {
                let mut taken = [false; FLOWS];
                for flow in flows {
                    taken[(hasher.hash(flow) >> shift) as usize % FLOWS] = true;
                }
                let taken = taken.iter().filter(|taken| **taken).count();
                // By chance 1 - 1/e of the places are taken, 2,589.
                assert!(taken > 2400, "{taken} of {FLOWS} under key {key}");
            }
        }
    }
}
