//! Which connection a flow leads to: tables of numbers under a keyed hash. The flows themselves stand in
//! the connections, which a lookup needs anyway.

use super::connection::{Flow, Place};
use crate::net::Address;
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
#[derive(Clone, Copy)]
struct Entry {
    hash: u32,
    place: u32,
}

impl Entry {
    const EMPTY: Entry = Entry {
        hash: 0,
        place: u32::MAX,
    };

    fn is_empty(self) -> bool {
        self.place == Self::EMPTY.place
    }
}

/// Entries that a table has at first; a power of two.
const LEAST: usize = 64;

/// Places by the hash of their flow, found by linear probing: an entry stands where its hash says, or
/// behind it with no gap between. A search most often looks at one cache line.
pub struct FlowTable {
    /// A power of two of them.
    entries: Box<[Entry]>,
    len: usize,
}

impl Default for FlowTable {
    fn default() -> Self {
        FlowTable {
            entries: vec![Entry::EMPTY; LEAST].into(),
            len: 0,
        }
    }
}

impl FlowTable {
    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where a flow of this hash leads to; `leads` says of a place whether it is the flow's.
    #[inline]
    pub fn find(&self, hash: u32, leads: impl Fn(Place) -> bool) -> Option<Place> {
        let is_it = |entry: Entry| entry.hash == hash && leads(Place::unpack(entry.place));
        let at = self.search(hash, is_it)?;
        Some(Place::unpack(self.entries[at].place))
    }

    /// Fetches what a search for a flow of this hash looks at.
    pub fn fetch(&self, hash: u32) {
        crate::sys::prefetch(&self.entries[hash as usize & self.mask()]);
    }

    /// Adds the place of a flow that is not in it.
    pub fn insert(&mut self, hash: u32, place: Place) {
        // Of eight, one at least is empty.
        if self.len + 1 > self.entries.len() / 8 * 7 {
            self.grow();
        }
        let place = place.pack();
        self.put(Entry { hash, place });
        self.len += 1;
    }

    /// Takes out a flow of this hash that leads to a place.
    pub fn remove(&mut self, hash: u32, place: Place) {
        let place = place.pack();
        let is_it = |entry: Entry| entry.place == place;
        if let Some(at) = self.search(hash, is_it) {
            self.close_gap(at);
            self.len -= 1;
        }
    }

    /// All places.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        let entries = self.entries.iter().filter(|entry| !entry.is_empty());
        entries.map(|entry| Place::unpack(entry.place))
    }

    fn mask(&self) -> usize {
        self.entries.len() - 1
    }

    #[inline]
    fn search(&self, hash: u32, is_it: impl Fn(Entry) -> bool) -> Option<usize> {
        let mut at = hash as usize & self.mask();
        loop {
            let entry = self.entries[at];
            if entry.is_empty() {
                return None;
            }
            if is_it(entry) {
                return Some(at);
            }
            at = (at + 1) & self.mask();
        }
    }

    fn put(&mut self, entry: Entry) {
        let mut at = entry.hash as usize & self.mask();
        while !self.entries[at].is_empty() {
            at = (at + 1) & self.mask();
        }
        self.entries[at] = entry;
    }

    /// Takes out the entry at `gap`, and moves those behind it up that a search would no longer get to.
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.mask();
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let entry = self.entries[at];
            if entry.is_empty() {
                break;
            }
            let home = entry.hash as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(gap) & mask {
                self.entries[gap] = entry;
                gap = at;
            }
        }
        self.entries[gap] = Entry::EMPTY;
    }

    #[cold]
    fn grow(&mut self) {
        let larger = vec![Entry::EMPTY; 2 * self.entries.len()].into();
        for entry in std::mem::replace(&mut self.entries, larger) {
            if !entry.is_empty() {
                self.put(entry);
            }
        }
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
        let hasher = FlowHasher::new([1, 2]);
        let mut table = FlowTable::default();
        let v4 = (0..1000).map(|port| flow(Ipv4Addr::LOCALHOST, port));
        let v6 = (0..1000).map(|port| flow(Ipv6Addr::LOCALHOST, port));
        let flows: Vec<Flow> = v4.chain(v6).collect();
        let places = [Place::Connection, Place::HalfOpen, Place::TimeWait];
        let place = |n: usize| places[n % 3](n as u32);
        let flow_of = |place: Place| &flows[(place.pack() & 0xffff) as usize];
        for (n, flow) in flows.iter().enumerate() {
            assert_eq!(
                table.find(hasher.hash(flow), |place| flow_of(place) == flow),
                None
            );
            table.insert(hasher.hash(flow), place(n));
        }
        for (n, flow) in flows.iter().enumerate() {
            assert_eq!(
                table.find(hasher.hash(flow), |place| flow_of(place) == flow),
                Some(place(n))
            );
        }
        assert_eq!(table.places().count(), 2000);
        for (n, flow) in flows.iter().enumerate() {
            table.remove(hasher.hash(flow), place(n));
            assert_eq!(
                table.find(hasher.hash(flow), |place| flow_of(place) == flow),
                None
            );
        }
        assert!(table.is_empty());
    }

    #[test]
    fn what_comes_and_goes_in_a_crowd_is_found_while_it_is_there() {
        let flows: Vec<Flow> = (0..448).map(|n| flow(Ipv4Addr::LOCALHOST, n)).collect();
        for key in 0..20 {
            let hasher = FlowHasher::new([key, 1]);
            let mut table = FlowTable::default();
            let mut there = vec![false; flows.len()];
            let mut seed = key;
            for _ in 0..20_000 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
                let n = (seed >> 33) as usize % flows.len();
                let (hash, place) = (hasher.hash(&flows[n]), Place::Connection(n as u32));
                let found = table.find(hash, |found| found == place);
                assert_eq!(found, there[n].then_some(place));
                match there[n] {
                    true => table.remove(hash, place),
                    false => table.insert(hash, place),
                }
                there[n] = !there[n];
            }
            let left = there.iter().filter(|there| **there).count();
            assert_eq!((table.len(), table.places().count()), (left, left));
        }
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
