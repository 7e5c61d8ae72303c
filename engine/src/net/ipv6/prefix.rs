//! IPv6 address prefixes (RFC 4291 §2.3).

use std::fmt;
use std::net::Ipv6Addr;

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

    /// The address of the block with the interface identifier that is made from a station's
    /// address (modified EUI-64, RFC 4291 appendix A); for blocks of 64 bits.
    pub fn with_identifier_of(self, mac: psio::MacAddr) -> Ipv6Addr {
        let [a, b, c, d, e, f] = mac.0;
        let identifier = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        Ipv6Addr::from_bits(self.network.to_bits() | u128::from(identifier))
    }
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
    fn identifiers_are_modified_eui_64() {
        let mac = psio::MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(
            Prefix6::LINK_LOCAL.with_identifier_of(mac),
            ip("fe80::3656:78ff:fe9a:bcde"),
            "the example of RFC 4291"
        );
    }
}
