//! Initial sequence numbers (RFC 6528) and timestamp offsets (RFC 7323 section 5.4) that nobody off
//! the path can guess.

use core::hash::Hasher;
use core::net::{IpAddr, SocketAddr};

use super::keyed::{Purpose, flow_hasher, hasher, write_addrs};
use super::seq::SeqNum;
use super::time::Instant;

/// Source of initial sequence numbers: a clock of 4 µs plus a keyed hash of the connection's addresses.
#[derive(Clone)]
pub struct IsnGenerator {
    key: [u8; 16],
}

impl IsnGenerator {
    /// `key` is secret and random, and stays the same while the stack runs.
    pub fn new(key: [u8; 16]) -> Self {
        IsnGenerator { key }
    }

    /// The initial sequence number of a connection opened now.
    pub fn isn(&self, now: Instant, local: SocketAddr, remote: SocketAddr) -> SeqNum {
        let hash = flow_hasher(&self.key, Purpose::InitialSequence, local, remote).finish();
        SeqNum((hash as u32).wrapping_add((now.as_micros() / 4) as u32))
    }

    /// The offset of the timestamp clock towards a host. It does not depend on ports, so that
    /// timestamps of successive connections grow, which TIME-WAIT reuse needs (RFC 6191).
    pub fn timestamp_offset(&self, local: IpAddr, remote: IpAddr) -> u32 {
        let mut hasher = hasher(&self.key, Purpose::TimestampOffset);
        write_addrs(&mut hasher, local, remote);
        hasher.finish() as u32
    }
}

impl core::fmt::Debug for IsnGenerator {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("IsnGenerator(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 77, 0, 2], port))
    }

    #[test]
    fn numbers_grow_by_one_in_four_microseconds() {
        let isn = IsnGenerator::new([7; 16]);
        let at = |micros| isn.isn(Instant::from_micros(micros), addr(80), addr(4000));
        assert_eq!(at(4), at(0) + 1);
        assert_eq!(at(4_000_000), at(0) + 1_000_000);
    }

    #[test]
    fn each_connection_and_each_key_has_its_own_numbers() {
        let (a, b) = (IsnGenerator::new([7; 16]), IsnGenerator::new([8; 16]));
        let isn = a.isn(Instant::ZERO, addr(80), addr(4000));
        assert_ne!(isn, a.isn(Instant::ZERO, addr(80), addr(4001)));
        assert_ne!(isn, a.isn(Instant::ZERO, addr(4000), addr(80)));
        assert_ne!(isn, b.isn(Instant::ZERO, addr(80), addr(4000)));
    }
}
