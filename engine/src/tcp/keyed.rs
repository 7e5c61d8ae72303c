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

/// A hasher for one purpose under `key`.
pub(super) fn hasher(key: &[u8; 16], purpose: Purpose) -> SipHasher24 {
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write_u8(purpose as u8);
    hasher
}

/// The same, having taken in both ends of a connection.
pub(super) fn flow_hasher(
    key: &[u8; 16],
    purpose: Purpose,
    local: SocketAddr,
    remote: SocketAddr,
) -> SipHasher24 {
    let mut hasher = hasher(key, purpose);
    for end in [local, remote] {
        write_addr(&mut hasher, end.ip());
        hasher.write_u16(end.port());
    }
    hasher
}

/// Takes in an address.
pub(super) fn write_addr(hasher: &mut SipHasher24, addr: IpAddr) {
    match addr {
        IpAddr::V4(addr) => hasher.write(&addr.octets()),
        IpAddr::V6(addr) => hasher.write(&addr.octets()),
    }
}
