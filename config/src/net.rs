//! Addresses with prefixes, routes and static neighbours.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Why a text is not an address, prefix or MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected {0}")]
pub struct ParseError(pub &'static str);

/// An IPv4 address with the length of its network's prefix, e.g. `10.77.0.2/24`.
///
/// The bits behind the prefix are kept: the same type names a host in its network and a network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ipv4Net {
    address: Ipv4Addr,
    prefix: u8,
}

impl Ipv4Net {
    /// Every address: `0.0.0.0/0`.
    pub const ALL: Ipv4Net = Ipv4Net {
        address: Ipv4Addr::UNSPECIFIED,
        prefix: 0,
    };

    /// `address/prefix`; `None` if the prefix is longer than 32 bits.
    pub const fn new(address: Ipv4Addr, prefix: u8) -> Option<Ipv4Net> {
        if prefix <= 32 {
            Some(Ipv4Net { address, prefix })
        } else {
            None
        }
    }

    /// One address alone, `address/32`.
    pub const fn host(address: Ipv4Addr) -> Ipv4Net {
        Ipv4Net {
            address,
            prefix: 32,
        }
    }

    /// The address, with its host bits.
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// Length of the prefix, 0 to 32 bits.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The netmask, e.g. `255.255.255.0`.
    pub fn mask(self) -> Ipv4Addr {
        let bits = u32::MAX.checked_shl(32 - u32::from(self.prefix));
        Ipv4Addr::from_bits(bits.unwrap_or(0))
    }

    /// The same network with all host bits 0.
    pub fn network(self) -> Ipv4Net {
        Ipv4Net {
            address: Ipv4Addr::from_bits(self.address.to_bits() & self.mask().to_bits()),
            prefix: self.prefix,
        }
    }

    /// The network's broadcast address; a `/31` (RFC 3021) and a `/32` have none.
    pub fn broadcast(self) -> Option<Ipv4Addr> {
        let all_ones = self.address.to_bits() | !self.mask().to_bits();
        (self.prefix < 31).then(|| Ipv4Addr::from_bits(all_ones))
    }

    /// Whether `address` lies in the network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.address.to_bits() ^ address.to_bits()) & self.mask().to_bits() == 0
    }

    /// Reads `address/prefix`, or an address alone as one of 32 bits.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse_or_host(text: &str) -> Result<Ipv4Net, ParseError> {
        match text.parse() {
            Ok(address) => Ok(Ipv4Net::host(address)),
            Err(_) => text.parse(),
        }
    }

    /// The network's first usable address other than this one: the usual place of a gateway.
    pub(crate) fn neighbour(self) -> Option<Ipv4Net> {
        let network = self.network().address.to_bits();
        (0..4)
            .map(|i| network.wrapping_add(i))
            .map(Ipv4Addr::from_bits)
            .find(|a| self.is_host(*a) && *a != self.address)
            .map(|address| Ipv4Net {
                address,
                prefix: self.prefix,
            })
    }

    /// Whether `address` can be a host's in this network.
    pub(crate) fn is_host(self, address: Ipv4Addr) -> bool {
        let reserved = self.prefix < 31
            && (address == self.network().address || Some(address) == self.broadcast());
        self.contains(address) && !reserved
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Ipv4Net {
    type Err = ParseError;

    /// Reads `address/prefix`; the prefix is needed.
    fn from_str(text: &str) -> Result<Ipv4Net, ParseError> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            Ipv4Net::new(address.parse().ok()?, crate::value::number(prefix, 0..=32)?)
        };
        parse().ok_or(ParseError(
            "an IPv4 address and prefix such as 10.77.0.2/24",
        ))
    }
}

/// A network of either family: an address with a prefix.
pub trait Net: Copy + fmt::Display {
    /// An address of the family.
    type Address: Copy + fmt::Display + FromStr;
    /// What is expected where one address is, to follow "expected".
    const ADDRESS: &'static str;

    /// Reads `address/prefix` or an address alone; host bits become 0.
    fn parse_network(text: &str) -> Option<Self>;
}

impl Net for Ipv4Net {
    type Address = Ipv4Addr;
    const ADDRESS: &'static str = "an IPv4 address";

    fn parse_network(text: &str) -> Option<Ipv4Net> {
        Ipv4Net::parse_or_host(text).ok().map(Ipv4Net::network)
    }
}

/// A way to a network that is not connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route<N: Net = Ipv4Net> {
    /// Destinations, host bits 0.
    pub to: N,
    /// The router; `None` if the destinations answer on the device themselves.
    pub via: Option<N::Address>,
}

impl<N: Net> fmt::Display for Route<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.via {
            Some(via) => write!(f, "{} via {via}", self.to),
            None => write!(f, "{} on the device", self.to),
        }
    }
}

/// A neighbour, or a network of them, whose hardware address is known and is not asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbor<N: Net = Ipv4Net> {
    /// Its address (a prefix shorter than the address stands for a whole network), host bits 0.
    pub ip: N,
    /// Its hardware address.
    pub mac: [u8; 6],
}

impl<N: Net> fmt::Display for Neighbor<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.mac;
        write!(
            f,
            "{} is at {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}",
            self.ip
        )
    }
}

/// Reads a unicast MAC address, six groups of one or two hexadecimal digits with colons between.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut groups = text.split(':');
    for byte in &mut mac {
        let group = groups.next()?;
        let hexadecimal = group.bytes().all(|b| b.is_ascii_hexdigit());
        if group.len() > 2 || !hexadecimal {
            return None;
        }
        *byte = u8::from_str_radix(group, 16).ok()?;
    }
    let is_unicast = mac[0] & 1 == 0 && mac != [0; 6];
    (groups.next().is_none() && is_unicast).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_contains_what_shares_its_prefix() {
        let n = net("10.77.0.2/24");
        assert!(n.contains(Ipv4Addr::new(10, 77, 0, 255)));
        assert!(!n.contains(Ipv4Addr::new(10, 77, 1, 2)));
        assert!(Ipv4Net::ALL.contains(Ipv4Addr::new(8, 8, 8, 8)));
        assert!(net("1.2.3.4/32").contains(Ipv4Addr::new(1, 2, 3, 4)));
        assert!(!net("1.2.3.4/32").contains(Ipv4Addr::new(1, 2, 3, 5)));
    }

    #[test]
    fn mask_network_and_broadcast_follow_the_prefix() {
        assert_eq!(net("10.77.3.2/22").mask(), Ipv4Addr::new(255, 255, 252, 0));
        assert_eq!(net("10.77.3.2/22").network(), net("10.77.0.0/22"));
        let broadcast = net("10.77.3.2/22").broadcast();
        assert_eq!(broadcast, Some(Ipv4Addr::new(10, 77, 3, 255)));
        assert_eq!(net("10.77.0.0/31").broadcast(), None);
        assert_eq!(net("10.77.0.0/0").mask(), Ipv4Addr::UNSPECIFIED);
    }

    #[test]
    fn the_neighbour_is_the_first_other_host() {
        assert_eq!(net("10.77.0.2/24").neighbour(), Some(net("10.77.0.1/24")));
        assert_eq!(net("10.77.0.1/24").neighbour(), Some(net("10.77.0.2/24")));
        assert_eq!(net("10.77.0.0/31").neighbour(), Some(net("10.77.0.1/31")));
        assert_eq!(net("10.77.0.1/32").neighbour(), None);
    }

    #[test]
    fn prefixes_need_their_form() {
        for wrong in [
            "",
            "10.0.0.1",
            "10.0.0.1/",
            "10.0.0.1/33",
            "10.0.0/8",
            "::1/64",
            "a/8",
        ] {
            assert!(wrong.parse::<Ipv4Net>().is_err(), "{wrong:?}");
        }
        assert_eq!(Ipv4Net::parse_or_host("10.0.0.1"), Ok(net("10.0.0.1/32")));
    }

    #[test]
    fn only_unicast_mac_addresses_are_taken() {
        assert_eq!(parse_mac("02:00:00:00:00:Fe"), Some([2, 0, 0, 0, 0, 0xfe]));
        assert_eq!(parse_mac("0:1b:21:3:4:5"), Some([0, 0x1b, 0x21, 3, 4, 5]));
        for wrong in [
            "",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "02:00:00:00:00:+1",
            "02:00:00:00:00:",
            "02:00:00:00:00:100",
        ] {
            assert_eq!(parse_mac(wrong), None, "{wrong:?}");
        }
    }
}
