//! One type for addresses of both families.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address of either family: IPv4 as an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2), so that
/// both are compared and hashed alike.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Address(Ipv6Addr);

impl Address {
    /// The address in its own family.
    #[inline]
    pub fn ip(self) -> IpAddr {
        match self.v4() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(self.0),
        }
    }

    /// The IPv4 address, if it is one.
    #[inline]
    pub fn v4(self) -> Option<Ipv4Addr> {
        // A comparison of words; the standard library's goes byte by byte.
        const MAPPED: u128 = 0xffff;
        let bits = self.0.to_bits();
        (bits >> 32 == MAPPED).then(|| Ipv4Addr::from_bits(bits as u32))
    }

    /// The last four bytes as a number: those of the IPv4 address, if it is one.
    #[inline]
    pub const fn low_bits(self) -> u32 {
        self.0.to_bits() as u32
    }

    /// The address as IPv6's sixteen bytes, IPv4 mapped.
    #[inline]
    pub const fn mapped(self) -> Ipv6Addr {
        self.0
    }
}

impl From<Ipv4Addr> for Address {
    #[inline]
    fn from(v4: Ipv4Addr) -> Address {
        Address(v4.to_ipv6_mapped())
    }
}

impl From<Ipv6Addr> for Address {
    #[inline]
    fn from(v6: Ipv6Addr) -> Address {
        Address(v6)
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Address {
        match ip {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

impl Hash for Address {
    /// IPv4 addresses cost a keyed hash one word, IPv6 addresses two.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let bits = self.0.to_bits();
        if self.v4().is_none() {
            state.write_u64((bits >> 64) as u64);
        }
        state.write_u64(bits as u64);
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_comes_back_as_itself() {
        for text in ["10.77.0.2", "0.0.0.0", "::", "::1", "fd77::2"] {
            let ip: IpAddr = text.parse().unwrap();
            let address = Address::from(ip);
            assert_eq!(address.ip(), ip);
            assert_eq!(address.v4().is_some(), ip.is_ipv4());
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let mapped: Ipv6Addr = "::ffff:10.77.0.2".parse().unwrap();
        assert_eq!(
            Address::from(mapped),
            Address::from(Ipv4Addr::new(10, 77, 0, 2))
        );
    }
}
