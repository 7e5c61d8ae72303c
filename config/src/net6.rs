//! IPv6 addresses with prefixes, networks of either family, and how the stack gets its address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::net::{Ipv4Net, Net, ParseError};

/// An IPv6 address with the length of its network's prefix, e.g. `fd77::2/64`.
///
/// The bits behind the prefix are kept: the same type names a host in its network and a network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ipv6Net {
    address: Ipv6Addr,
    prefix: u8,
}

impl Ipv6Net {
    /// Every address: `::/0`.
    pub const ALL: Ipv6Net = Ipv6Net {
        address: Ipv6Addr::UNSPECIFIED,
        prefix: 0,
    };

    /// `address/prefix`; `None` if the prefix is longer than 128 bits.
    pub const fn new(address: Ipv6Addr, prefix: u8) -> Option<Ipv6Net> {
        if prefix <= 128 {
            Some(Ipv6Net { address, prefix })
        } else {
            None
        }
    }

    /// The address, with its host bits.
    pub const fn address(self) -> Ipv6Addr {
        self.address
    }

    /// Length of the prefix, 0 to 128 bits.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    fn mask(self) -> u128 {
        let bits = u128::MAX.checked_shl(128 - u32::from(self.prefix));
        bits.unwrap_or(0)
    }

    /// The same network with all host bits 0.
    pub fn network(self) -> Ipv6Net {
        Ipv6Net {
            address: Ipv6Addr::from_bits(self.address.to_bits() & self.mask()),
            prefix: self.prefix,
        }
    }

    /// Whether the address is the network's subnet-router anycast address (RFC 4291 §2.6.1), which
    /// networks of two hosts do not have (RFC 6164 §6).
    pub(crate) fn is_routers_anycast(self) -> bool {
        self.prefix < 127 && self.network() == self
    }

    /// Whether `address` lies in the network.
    pub fn contains(self, address: Ipv6Addr) -> bool {
        (self.address.to_bits() ^ address.to_bits()) & self.mask() == 0
    }

    /// The network's first usable address other than this one.
    pub(crate) fn neighbour(self) -> Option<Ipv6Net> {
        let network = self.network().address.to_bits();
        (1..3)
            .map(|i| Ipv6Addr::from_bits(network.wrapping_add(i)))
            .find(|a| *a != self.address && self.contains(*a))
            .map(|address| Ipv6Net {
                address,
                prefix: self.prefix,
            })
    }

    /// The address that goes with an IPv4 address of the stack's network, in fd77::/64 for the
    /// default network 10.77.0.0/24 and in one of its own for each other.
    pub(crate) fn derived(from: Ipv4Net) -> Ipv6Net {
        const HOME: u32 = u32::from_be_bytes([10, 77, 0, 0]);
        let network = from.network().address().to_bits() ^ HOME;
        let host = from.address().to_bits() & !from.mask().to_bits();
        let [high, low] = [(network >> 16) as u16, network as u16];
        let [host_high, host_low] = [(host >> 16) as u16, host as u16];
        Ipv6Net {
            address: Ipv6Addr::new(0xfd77, 0, high, low, 0, 0, host_high, host_low),
            prefix: 64,
        }
    }
}

impl fmt::Display for Ipv6Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Ipv6Net {
    type Err = ParseError;

    /// Reads `address/prefix`; the prefix is needed.
    fn from_str(text: &str) -> Result<Ipv6Net, ParseError> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            Ipv6Net::new(
                address.parse().ok()?,
                crate::value::number(prefix, 0..=128)?,
            )
        };
        parse().ok_or(ParseError("an IPv6 address and prefix such as fd77::2/64"))
    }
}

impl Net for Ipv6Net {
    type Address = Ipv6Addr;
    const ADDRESS: &'static str = "an IPv6 address";

    fn parse_network(text: &str) -> Option<Ipv6Net> {
        let net = match text.parse() {
            Ok(address) => Ipv6Net::new(address, 128),
            Err(_) => text.parse().ok(),
        };
        net.map(Ipv6Net::network)
    }
}

/// A network of either family, or all addresses of both.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IpNet {
    /// Every address.
    Any,
    /// Of IPv4.
    V4(Ipv4Net),
    /// Of IPv6.
    V6(Ipv6Net),
}

impl IpNet {
    /// Whether `address` lies in the network.
    pub fn contains(self, address: IpAddr) -> bool {
        match (self, address) {
            (IpNet::Any, _) => true,
            (IpNet::V4(net), IpAddr::V4(v4)) => net.contains(v4),
            (IpNet::V6(net), IpAddr::V6(v6)) => net.contains(v6),
            _ => false,
        }
    }

    /// Reads `address/prefix` or an address alone, of either family; host bits become 0.
    pub(crate) fn parse(text: &str) -> Option<IpNet> {
        if let Some(v4) = Ipv4Net::parse_network(text) {
            return Some(IpNet::V4(v4));
        }
        Ipv6Net::parse_network(text).map(IpNet::V6)
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IpNet::Any => f.write_str("*"),
            IpNet::V4(net) => net.fmt(f),
            IpNet::V6(net) => net.fmt(f),
        }
    }
}

impl From<Ipv4Net> for IpNet {
    fn from(net: Ipv4Net) -> IpNet {
        IpNet::V4(net)
    }
}

impl From<Ipv6Net> for IpNet {
    fn from(net: Ipv6Net) -> IpNet {
        IpNet::V6(net)
    }
}

/// How the stack gets its IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Address6 {
    /// By the IPv4 address: fd77::2/64 for 10.77.0.2/24.
    #[default]
    Derived,
    /// From what routers advertise (SLAAC).
    Auto,
    /// Not at all: the stack has no IPv6.
    Off,
    /// This one.
    Is(Ipv6Net),
}

impl Address6 {
    pub(crate) fn parse(text: &str) -> Option<Address6> {
        match text {
            "derived" => Some(Address6::Derived),
            "auto" => Some(Address6::Auto),
            "off" => Some(Address6::Off),
            _ => text.parse().ok().map(Address6::Is),
        }
    }

    /// The static address of a stack whose IPv4 address is `v4`.
    pub fn fixed(self, v4: Ipv4Net) -> Option<Ipv6Net> {
        match self {
            Address6::Derived => Some(Ipv6Net::derived(v4)),
            Address6::Is(net) => Some(net),
            Address6::Auto | Address6::Off => None,
        }
    }

    /// The kernel's address on its side of a TAP, where its IPv4 address is `kernel`.
    pub(crate) fn of_kernel(self, kernel: Option<Ipv4Net>) -> Option<Ipv6Net> {
        match self {
            Address6::Derived => kernel.map(Ipv6Net::derived),
            Address6::Is(net) => kernel.and_then(|_| net.neighbour()),
            Address6::Auto | Address6::Off => None,
        }
    }
}

impl fmt::Display for Address6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address6::Derived => f.write_str("derived"),
            Address6::Auto => f.write_str("auto"),
            Address6::Off => f.write_str("off"),
            Address6::Is(net) => net.fmt(f),
        }
    }
}

/// Whether one host can have the address as its own.
pub(crate) fn is_host(address: Ipv6Addr) -> bool {
    let mapped: Option<Ipv4Addr> = address.to_ipv4_mapped();
    !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && !address.is_unicast_link_local()
        && mapped.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv6Net {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_contains_what_shares_its_prefix() {
        assert!(net("fd77::2/64").contains("fd77::ffff".parse().unwrap()));
        assert!(!net("fd77::2/64").contains("fd77:0:0:1::".parse().unwrap()));
        assert!(Ipv6Net::ALL.contains("2001:db8::1".parse().unwrap()));
        for wrong in ["", "fd77::2", "fd77::2/129", "10.0.0.1/8", "fd77::g/64"] {
            assert!(wrong.parse::<Ipv6Net>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_derived_address_differs_wherever_the_ipv4_network_does() {
        let derived = |text: &str| Ipv6Net::derived(text.parse().unwrap()).to_string();
        assert_eq!(derived("10.77.0.2/24"), "fd77::2/64");
        assert_eq!(derived("10.77.0.1/24"), "fd77::1/64");
        assert_eq!(derived("10.78.0.2/24"), "fd77:0:3::2/64");
        assert_ne!(derived("10.77.1.2/24"), derived("10.77.0.2/24"));
    }

    #[test]
    fn the_kernels_address_is_another_of_the_network() {
        let kernel = "10.77.0.1/24".parse().ok();
        let of_kernel = |address: &str| Address6::parse(address)?.of_kernel(kernel);
        assert_eq!(of_kernel("derived"), Some(net("fd77::1/64")));
        assert_eq!(of_kernel("fd12::2/64"), Some(net("fd12::1/64")));
        assert_eq!(of_kernel("fd12::1/64"), Some(net("fd12::2/64")));
        assert_eq!(of_kernel("fd12::1/128"), None);
        assert_eq!((of_kernel("auto"), of_kernel("off")), (None, None));
        assert_eq!(Address6::Derived.of_kernel(None), None);
    }

    #[test]
    fn the_first_address_of_a_network_is_its_routers() {
        assert!(net("fd77::/64").is_routers_anycast());
        for host in ["fd77::1/64", "fd77::/127", "fd77::/128"] {
            assert!(!net(host).is_routers_anycast(), "{host}");
        }
    }

    #[test]
    fn networks_of_both_families_are_read() {
        let v6 = IpNet::parse("fd77::9/64").unwrap();
        assert_eq!(v6.to_string(), "fd77::/64");
        assert!(v6.contains("fd77::1".parse().unwrap()));
        assert!(!v6.contains("10.77.0.1".parse().unwrap()));
        let v4 = IpNet::parse("10.77.0.1").unwrap();
        assert_eq!(v4.to_string(), "10.77.0.1/32");
        assert!(!v4.contains("::1".parse().unwrap()));
        assert!(IpNet::Any.contains("::1".parse().unwrap()));
    }
}
