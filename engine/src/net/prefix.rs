//! Address prefixes (RFC 4632).

use std::fmt;
use std::net::Ipv4Addr;

/// A block of IPv4 addresses that share their first bits. The other bits are kept zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Prefix {
    network: Ipv4Addr,
    len: u8,
}

impl Prefix {
    /// All addresses: the destination of a default route.
    pub const ALL: Prefix = Prefix {
        network: Ipv4Addr::UNSPECIFIED,
        len: 0,
    };

    /// The block of `len` bits that `address` is in; `None` if `len` is above 32.
    pub const fn new(address: Ipv4Addr, len: u8) -> Option<Prefix> {
        if len > 32 {
            return None;
        }
        Some(Prefix {
            network: Ipv4Addr::from_bits(address.to_bits() & mask_bits(len)),
            len,
        })
    }

    /// The block of one address.
    pub const fn host(address: Ipv4Addr) -> Prefix {
        Prefix {
            network: address,
            len: 32,
        }
    }

    /// The first address.
    pub const fn network(self) -> Ipv4Addr {
        self.network
    }

    /// Bits shared.
    #[expect(clippy::len_without_is_empty, reason = "bits, not elements")]
    pub const fn len(self) -> u8 {
        self.len
    }

    /// The netmask, e.g. 255.255.255.0.
    pub const fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask_bits(self.len))
    }

    /// The directed broadcast address; none in blocks of one or two addresses (RFC 3021).
    pub const fn broadcast(self) -> Option<Ipv4Addr> {
        if self.len >= 31 {
            return None;
        }
        Some(Ipv4Addr::from_bits(
            self.network.to_bits() | !mask_bits(self.len),
        ))
    }

    /// Whether `address` means all hosts of the block: its last address or, as old hosts had it, its
    /// first (RFC 1122 §3.3.6).
    pub fn is_broadcast(self, address: Ipv4Addr) -> bool {
        self.broadcast()
            .is_some_and(|broadcast| address == broadcast || address == self.network)
    }

    /// Whether `address` is in the block.
    pub const fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask_bits(self.len) == self.network.to_bits()
    }
}

const fn mask_bits(len: u8) -> u32 {
    match u32::MAX.checked_shl(32 - len as u32) {
        Some(mask) => mask,
        None => 0,
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.len)
    }
}

/// An address of our own, and the network that it is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterfaceAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// The connected network: whatever it contains is on the link.
    pub network: Prefix,
}

impl InterfaceAddress {
    /// `address` in a network of `prefix_len` bits; `None` if that is above 32.
    pub const fn new(address: Ipv4Addr, prefix_len: u8) -> Option<InterfaceAddress> {
        match Prefix::new(address, prefix_len) {
            Some(network) => Some(InterfaceAddress { address, network }),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(a: u8, b: u8, c: u8, d: u8, len: u8) -> Prefix {
        Prefix::new(Ipv4Addr::new(a, b, c, d), len).unwrap()
    }

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(prefix(10, 77, 3, 9, 16), prefix(10, 77, 0, 0, 16));
        assert_eq!(prefix(10, 77, 3, 9, 22).to_string(), "10.77.0.0/22");
        assert_eq!(prefix(1, 2, 3, 4, 0), Prefix::ALL);
    }

    #[test]
    fn more_than_32_bits_are_refused() {
        assert_eq!(Prefix::new(Ipv4Addr::LOCALHOST, 33), None);
        assert_eq!(InterfaceAddress::new(Ipv4Addr::LOCALHOST, 255), None);
    }

    #[test]
    fn a_prefix_contains_its_first_and_last_address_only() {
        let block = prefix(10, 77, 0, 128, 25);
        assert!(block.contains(Ipv4Addr::new(10, 77, 0, 128)));
        assert!(block.contains(Ipv4Addr::new(10, 77, 0, 255)));
        assert!(!block.contains(Ipv4Addr::new(10, 77, 0, 127)));
        assert!(!block.contains(Ipv4Addr::new(10, 77, 1, 0)));
        assert!(Prefix::ALL.contains(Ipv4Addr::BROADCAST));
        assert!(!Prefix::host(Ipv4Addr::LOCALHOST).contains(Ipv4Addr::new(127, 0, 0, 2)));
    }

    #[test]
    fn point_to_point_links_have_no_broadcast_address() {
        assert_eq!(
            prefix(10, 77, 0, 0, 24).broadcast(),
            Some(Ipv4Addr::new(10, 77, 0, 255))
        );
        for len in [31, 32] {
            let link = prefix(10, 77, 0, 0, len);
            assert_eq!(link.broadcast(), None);
            assert!(!link.is_broadcast(link.network()));
        }
    }

    #[test]
    fn the_first_and_last_address_of_a_network_are_broadcasts() {
        let network = prefix(10, 77, 0, 0, 24);
        assert!(network.is_broadcast(Ipv4Addr::new(10, 77, 0, 255)));
        assert!(network.is_broadcast(Ipv4Addr::new(10, 77, 0, 0)));
        assert!(!network.is_broadcast(Ipv4Addr::new(10, 77, 0, 1)));
        assert!(!network.is_broadcast(Ipv4Addr::new(10, 77, 1, 255)));
    }

    #[test]
    fn masks_are_written_as_addresses() {
        assert_eq!(prefix(0, 0, 0, 0, 0).mask(), Ipv4Addr::UNSPECIFIED);
        assert_eq!(prefix(10, 0, 0, 0, 9).mask(), Ipv4Addr::new(255, 128, 0, 0));
        assert_eq!(prefix(10, 0, 0, 0, 32).mask(), Ipv4Addr::BROADCAST);
    }
}
