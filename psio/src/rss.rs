//! Receive-side scaling: which queue a flow's frames arrive on (Microsoft, "RSS Hashing Functions";
//! Intel 82599 datasheet §7.1.2.8).

use std::net::{IpAddr, SocketAddr};

/// Bytes of a hash key: enough for a pair of IPv6 addresses and ports.
pub const KEY_LEN: usize = 40;

/// Entries of the indirection table, which the hash's low bits choose from.
pub const TABLE_LEN: usize = 128;

/// Microsoft's sample key, which drivers commonly use: the two directions of a flow hash apart.
#[rustfmt::skip]
pub const MICROSOFT_KEY: [u8; KEY_LEN] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
    0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
    0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
    0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// A key of 16 repeated bits: both directions of a flow hash alike, so they meet on one core.
pub const SYMMETRIC_KEY: [u8; KEY_LEN] = {
    let mut key = [0x6d; KEY_LEN];
    let mut i = 1;
    while i < KEY_LEN {
        key[i] = 0x5a;
        i += 2;
    }
    key
};

/// The Toeplitz hash of at most 36 bytes: the exclusive or, over the bits set in `input`, of the 32
/// bits of the key that begin at the bit's own place.
///
/// # Panics
/// If `input` is longer.
pub fn toeplitz(key: &[u8; KEY_LEN], input: &[u8]) -> u32 {
    assert!(input.len() <= KEY_LEN - 4, "the key is too short");
    let mut hash = 0;
    for (byte, key) in input.iter().zip(key.windows(5)) {
        // Five bytes of key hold the 32 bits at each of the byte's eight places.
        let window = key
            .iter()
            .fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        for place in 0..8 {
            if byte & (0x80 >> place) != 0 {
                hash ^= (window >> (8 - place)) as u32;
            }
        }
    }
    hash
}

/// A device's receive-side scaling: its key and indirection table.
#[derive(Clone, Debug)]
pub struct Rss {
    key: [u8; KEY_LEN],
    table: [u16; TABLE_LEN],
}

impl Rss {
    /// A table that spreads flows evenly over `queues` queues; 0 counts as 1.
    pub fn new(key: [u8; KEY_LEN], queues: u16) -> Rss {
        let queues = usize::from(queues.max(1));
        Rss {
            key,
            // Below `queues`, so it fits.
            table: std::array::from_fn(|i| (i % queues) as u16),
        }
    }

    /// A table of one's own, e.g. one read back from the device.
    pub fn with_table(key: [u8; KEY_LEN], table: [u16; TABLE_LEN]) -> Rss {
        Rss { key, table }
    }

    /// The key to be given to the device.
    pub fn key(&self) -> &[u8; KEY_LEN] {
        &self.key
    }

    /// The indirection table to be given to the device.
    pub fn table(&self) -> &[u16; TABLE_LEN] {
        &self.table
    }

    /// The hash of a TCP segment as it arrives: `from` is the peer, `to` the stack.
    pub fn hash(&self, from: SocketAddr, to: SocketAddr) -> u32 {
        let mut input = [0; KEY_LEN - 4];
        let mut len = 0;
        let mut add = |bytes: &[u8]| {
            input[len..][..bytes.len()].copy_from_slice(bytes);
            len += bytes.len();
        };
        for end in [from, to] {
            match end.ip() {
                IpAddr::V4(ip) => add(&ip.octets()),
                IpAddr::V6(ip) => add(&ip.octets()),
            }
        }
        for end in [from, to] {
            add(&end.port().to_be_bytes());
        }
        toeplitz(&self.key, &input[..len])
    }

    /// The queue that a segment arrives on: `from` is the peer, `to` the stack.
    pub fn queue_for(&self, from: SocketAddr, to: SocketAddr) -> u16 {
        self.table[self.hash(from, to) as usize % TABLE_LEN]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn end(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
        SocketAddr::new(ip.into(), port)
    }

    #[test]
    fn ipv4_hashes_equal_microsofts_verification_suite() {
        for (src, src_port, dst, dst_port, addresses_only, with_ports) in [
            (
                "66.9.149.187",
                2794,
                "161.142.100.80",
                1766,
                0x323e_8fc2,
                0x51cc_c178,
            ),
            (
                "199.92.111.2",
                14230,
                "65.69.140.83",
                4739,
                0xd718_262a,
                0xc626_b0ea,
            ),
            (
                "24.19.198.95",
                12898,
                "12.22.207.184",
                38024,
                0xd2d0_a5de,
                0x5c2b_394a,
            ),
            (
                "38.27.205.30",
                48228,
                "209.142.163.6",
                2217,
                0x8298_9176,
                0xafc7_327f,
            ),
            (
                "153.39.163.191",
                44251,
                "202.188.127.2",
                1303,
                0x5d18_09c5,
                0x10e8_28a2,
            ),
        ] {
            let (src, dst) = (ip(src), ip(dst));
            let addresses = [src.octets(), dst.octets()].concat();
            assert_eq!(toeplitz(&MICROSOFT_KEY, &addresses), addresses_only);
            let rss = Rss::new(MICROSOFT_KEY, 8);
            assert_eq!(rss.hash(end(src, src_port), end(dst, dst_port)), with_ports);
            assert_eq!(
                u32::from(rss.queue_for(end(src, src_port), end(dst, dst_port))),
                with_ports % 128 % 8
            );
        }
    }

    #[test]
    fn ipv6_hashes_equal_microsofts_verification_suite() {
        for (src, src_port, dst, dst_port, addresses_only, with_ports) in [
            (
                "3ffe:2501:200:1fff::7",
                2794_u16,
                "3ffe:2501:200:3::1",
                1766_u16,
                0x2cc1_8cd5,
                0x4020_7d3d,
            ),
            (
                "3ffe:501:8::260:97ff:fe40:efab",
                14230,
                "ff02::1",
                4739,
                0x0f0c_461c,
                0xdde5_1bbf,
            ),
            (
                "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
                44251,
                "fe80::200:f8ff:fe21:67cf",
                38024,
                0x4b61_e985,
                0x02d1_feef,
            ),
        ] {
            let src: Ipv6Addr = src.parse().unwrap();
            let dst: Ipv6Addr = dst.parse().unwrap();
            let addresses = [src.octets(), dst.octets()].concat();
            assert_eq!(toeplitz(&MICROSOFT_KEY, &addresses), addresses_only);
            let rss = Rss::new(MICROSOFT_KEY, 8);
            assert_eq!(rss.hash(end(src, src_port), end(dst, dst_port)), with_ports);
        }
    }

    #[test]
    fn flows_spread_over_every_queue() {
        for (key, queues) in [MICROSOFT_KEY, SYMMETRIC_KEY]
            .into_iter()
            .flat_map(|key| [1, 2, 3, 4, 16].map(|queues| (key, queues)))
        {
            let rss = Rss::new(key, queues);
            let mut flows = vec![0; usize::from(queues)];
            for port in 1024..=u16::MAX {
                let (from, to) = (end(ip("10.77.0.1"), port), end(ip("10.77.0.2"), 80));
                flows[usize::from(rss.queue_for(from, to))] += 1;
            }
            let share = (65_536 - 1024) / i32::from(queues);
            assert!(
                flows.iter().all(|n| (n - share).abs() < share / 2),
                "{queues} queues: {flows:?}"
            );
        }
    }

    #[test]
    fn without_queues_everything_goes_to_the_first() {
        let rss = Rss::new(MICROSOFT_KEY, 0);
        assert_eq!(
            rss.queue_for(end(ip("10.77.0.1"), 1), end(ip("10.77.0.2"), 2)),
            0
        );
    }

    proptest! {
        #[test]
        fn the_symmetric_key_brings_both_directions_together(a: u32, b: u32, p: u16, q: u16) {
            let (a, b) = (end(Ipv4Addr::from_bits(a), p), end(Ipv4Addr::from_bits(b), q));
            let rss = Rss::new(SYMMETRIC_KEY, 16);
            prop_assert_eq!(rss.hash(a, b), rss.hash(b, a));
        }
    }
}
