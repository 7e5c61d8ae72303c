//! IPv6 address prefixes (RFC 4291 §2.3).

use std::fmt;
use std::hash::Hasher;
use std::net::Ipv6Addr;

use siphasher::sip::SipHasher24;

/// A block of IPv6 addresses that share their first bits. The other bits are kept zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Prefix6 {
    network: Ipv6Addr,
    len: u8,
}

impl Prefix6 {
    /// All addresses: the destination of a default route.
    pub const ALL: Prefix6 = Prefix6 {
        network: Ipv6Addr::UNSPECIFIED,
        len: 0,
    };

    /// The addresses that mean something on one link only.
    pub const LINK_LOCAL: Prefix6 = Prefix6 {
        network: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
        len: 64,
    };

    /// The block of `len` bits that `address` is in; `None` if `len` is above 128.
    pub const fn new(address: Ipv6Addr, len: u8) -> Option<Prefix6> {
        if len > 128 {
            return None;
        }
        Some(Prefix6 {
            network: Ipv6Addr::from_bits(address.to_bits() & mask(len)),
            len,
        })
    }

    /// The first address.
    pub const fn network(self) -> Ipv6Addr {
        self.network
    }

    /// Bits shared.
    #[expect(clippy::len_without_is_empty, reason = "bits, not elements")]
    pub const fn len(self) -> u8 {
        self.len
    }

    /// Whether `address` is in the block.
    pub const fn contains(self, address: Ipv6Addr) -> bool {
        address.to_bits() & mask(self.len) == self.network.to_bits()
    }

    /// The address of the block whose interface identifier a station makes for itself: opaque, and
    /// the same in every run (RFC 7217 §5, with a key that is no secret); for blocks of 64 bits.
    ///
    /// It never has the form that is made from the station's address alone (modified EUI-64): on an
    /// interface that is shared with the kernel that one is the kernel's.
    pub fn with_identifier_of(self, mac: psio::MacAddr) -> Ipv6Addr {
        self.with_identifier_after(mac, 0)
    }

    /// The same after so many conflicts, each of which asks for another identifier (RFC 7217 §6).
    pub fn with_identifier_after(self, mac: psio::MacAddr, conflicts: u8) -> Ipv6Addr {
        let mut left = conflicts;
        let mut counter = 0;
        loop {
            let identifier = self.identifier(mac, counter);
            counter += 1;
            match (is_taken(identifier), left) {
                (true, _) => {}
                (false, 0) => {
                    return Ipv6Addr::from_bits(self.network.to_bits() | u128::from(identifier));
                }
                (false, _) => left -= 1,
            }
        }
    }

    fn identifier(self, mac: psio::MacAddr, counter: u64) -> u64 {
        let mut hasher = SipHasher24::new_with_key(b"mtcp identifiers");
        hasher.write(&self.network.octets());
        hasher.write(&mac.0);
        hasher.write_u64(counter);
        hasher.finish()
    }
}

/// Whether an identifier is set aside: for all routers of a network (RFC 4291 §2.6.1), for anycast
/// (RFC 2526 §2), or for who makes it from a station's address (RFC 4291 appendix A).
fn is_taken(identifier: u64) -> bool {
    identifier == 0
        || identifier >> 7 == 0xfdff_ffff_ffff_ff80 >> 7
        || identifier >> 24 & 0xffff == 0xfffe
}

const fn mask(len: u8) -> u128 {
    match u128::MAX.checked_shl(128 - len as u32) {
        Some(mask) => mask,
        None => 0,
    }
}

impl fmt::Display for Prefix6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_contains_what_shares_its_bits() {
        let block = Prefix6::new(ip("fd77:0:0:1::9"), 63).unwrap();
        assert_eq!(block.to_string(), "fd77::/63");
        assert!(block.contains(ip("fd77:0:0:1:ffff::")));
        assert!(!block.contains(ip("fd77:0:0:2::")));
        assert!(Prefix6::ALL.contains(ip("ffff::")));
        let host = Prefix6::new(ip("fd77::2"), 128).unwrap();
        assert!(host.contains(ip("fd77::2")) && !host.contains(ip("fd77::3")));
        assert_eq!(Prefix6::new(ip("::"), 129), None);
    }

    #[test]
    fn an_identifier_is_the_same_in_every_run() {
        let mac = psio::MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        let known = ip("fe80::aa73:d21d:fb85:a9fd");
        assert_eq!(Prefix6::LINK_LOCAL.with_identifier_of(mac), known);
    }

    #[test]
    fn an_identifier_differs_by_station_and_by_network() {
        let [here, there] = ["fd77::", "fd78::"].map(|net| Prefix6::new(ip(net), 64).unwrap());
        let [one, other] = [1, 2].map(|last| psio::MacAddr([2, 0, 0, 0, 0, last]));
        let identifier = |prefix: Prefix6, mac| prefix.with_identifier_of(mac).to_bits() as u64;
        assert!(here.contains(here.with_identifier_of(one)));
        assert_ne!(identifier(here, one), identifier(here, other));
        assert_ne!(identifier(here, one), identifier(there, one));
    }

    #[test]
    fn identifiers_that_are_set_aside_are_not_made() {
        let eui_64 = 0x3656_78ff_fe9a_bcde;
        let free = [
            1,
            0xfdff_ffff_ffff_ff7f,
            0xfe00_0000_0000_0000,
            0x3656_78ff_ff9a_bcde,
        ];
        assert!(
            [0, 0xfdff_ffff_ffff_ff80, u64::MAX - (2 << 56), eui_64]
                .into_iter()
                .all(is_taken)
        );
        assert!(!free.into_iter().any(is_taken));
        for last in 0..=255 {
            let address =
                Prefix6::LINK_LOCAL.with_identifier_of(psio::MacAddr([2, 0, 0, 0, 0, last]));
            assert!(!is_taken(address.to_bits() as u64));
        }
    }
}
