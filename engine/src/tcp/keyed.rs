//! Hashes under a secret key: what nobody off the path can compute.

use core::hash::Hasher;
use core::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher24;

/// What a hash is for: equal input gives unrelated hashes for different purposes.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    InitialSequence = 0,
    TimestampOffset = 1,
    PortDraw = 2,
    PortOffset = 3,
    SynCookie = 4,
    SynCookieTime = 5,
    FastOpenKey = 6,
}

/// A hasher for one purpose under `key`. Fed with whole words, it takes one in fastest.
pub(super) fn hasher(key: &[u8; 16], purpose: Purpose) -> SipHasher24 {
    hasher_with(key, purpose, 0)
}

/// The same, having taken in a number.
#[inline(always)]
pub(super) fn hasher_with(key: &[u8; 16], purpose: Purpose, number: u32) -> SipHasher24 {
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write_u64((purpose as u64) << 32 | u64::from(number));
    hasher
}

/// The same, having taken in both ends of a connection.
#[inline(always)]
pub(super) fn flow_hasher(
    key: &[u8; 16],
    purpose: Purpose,
    local: SocketAddr,
    remote: SocketAddr,
) -> SipHasher24 {
    let ports = u32::from(local.port()) << 16 | u32::from(remote.port());
    let mut hasher = hasher_with(key, purpose, ports);
    write_addrs(&mut hasher, local.ip(), remote.ip());
    hasher
}

/// Takes in two addresses: a word for both of IPv4, or two for each. Inlined, so that the hasher stays
/// in registers.
#[inline(always)]
pub(super) fn write_addrs(hasher: &mut SipHasher24, local: IpAddr, remote: IpAddr) {
    if let (IpAddr::V4(local), IpAddr::V4(remote)) = (local, remote) {
        hasher.write_u64(u64::from(local.to_bits()) << 32 | u64::from(remote.to_bits()));
        return;
    }
    for addr in [local, remote] {
        let bits = match addr {
            IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
            IpAddr::V6(addr) => addr.to_bits(),
        };
        hasher.write_u64((bits >> 64) as u64);
        hasher.write_u64(bits as u64);
    }
}
