//! Socket addresses, in C's form and back: getsockname(2), getpeername(2).

#![allow(unsafe_code)]

use super::SocketRef;
use crate::errno::{Errno, Result};
use crate::wait;
use context::socket::{flag, state};
use libc::{sockaddr, sockaddr_in, sockaddr_in6, socklen_t};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// How long the local address of a socket that is just connecting is waited for.
const PATIENCE: Duration = Duration::from_millis(100);

/// A `struct sockaddr` of the caller, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Address {
    /// An address of the socket's family, in its own form (a mapped one stays mapped).
    Internet(SocketAddr),
    /// `AF_UNSPEC`.
    Unspecified,
}

/// As [`read`], where a call may come without an address.
///
/// # Errors
/// As [`read`].
///
/// # Safety
/// As [`read`].
pub unsafe fn read_some(
    address: *const sockaddr,
    len: socklen_t,
    inet6: bool,
) -> Result<Option<Address>> {
    if address.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { read(address, len, inet6) }.map(Some)
}

/// Reads an address for a socket of the given family, as bind(2) and connect(2) check it.
///
/// # Errors
/// `EFAULT` for null, `EINVAL` for a length that is too small, `EAFNOSUPPORT` for another family.
///
/// # Safety
/// `address` is null, or points to `len` readable bytes.
pub unsafe fn read(address: *const sockaddr, len: socklen_t, inet6: bool) -> Result<Address> {
    let len = len as usize;
    if len > size_of::<libc::sockaddr_storage>() || len < size_of::<libc::sa_family_t>() {
        return Err(Errno(libc::EINVAL));
    }
    if address.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    // SAFETY: at least the family is there; the caller may have aligned it for bytes only.
    let family = i32::from(unsafe { (&raw const (*address).sa_family).read_unaligned() });
    if family == libc::AF_UNSPEC {
        return Ok(Address::Unspecified);
    }
    // The kernel takes an IPv6 address without its scope (RFC 2133).
    let (wanted, least) = if inet6 {
        (
            libc::AF_INET6,
            std::mem::offset_of!(sockaddr_in6, sin6_scope_id),
        )
    } else {
        (libc::AF_INET, size_of::<sockaddr_in>())
    };
    if len < least {
        return Err(Errno(libc::EINVAL));
    }
    if family != wanted {
        return Err(Errno(libc::EAFNOSUPPORT));
    }
    Ok(Address::Internet(if inet6 {
        let address = address.cast::<sockaddr_in6>();
        // SAFETY: `least` bytes are there, which end before the scope.
        let (ip, port, flow) = unsafe {
            (
                (&raw const (*address).sin6_addr.s6_addr).read_unaligned(),
                (&raw const (*address).sin6_port).read_unaligned(),
                (&raw const (*address).sin6_flowinfo).read_unaligned(),
            )
        };
        SocketAddrV6::new(Ipv6Addr::from(ip), u16::from_be(port), flow, 0).into()
    } else {
        // SAFETY: a whole sockaddr_in is there.
        let address = unsafe { address.cast::<sockaddr_in>().read_unaligned() };
        let ip = Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr));
        SocketAddr::new(ip.into(), u16::from_be(address.sin_port))
    }))
}

/// As [`read`], for bind(2): `AF_UNSPEC` with no address stands for "any" of IPv4.
///
/// # Errors
/// As [`read`].
///
/// # Safety
/// As [`read`].
pub unsafe fn read_local(
    address: *const sockaddr,
    len: socklen_t,
    inet6: bool,
) -> Result<SocketAddr> {
    // SAFETY: the caller's promise.
    match unsafe { read(address, len, inet6) }? {
        Address::Internet(address) => Ok(address),
        Address::Unspecified if !inet6 && len as usize >= size_of::<sockaddr_in>() => {
            // SAFETY: a whole sockaddr_in is there.
            let address = unsafe { address.cast::<sockaddr_in>().read_unaligned() };
            let port = u16::from_be(address.sin_port);
            match address.sin_addr.s_addr {
                0 => Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)),
                _ => Err(Errno(libc::EAFNOSUPPORT)),
            }
        }
        Address::Unspecified if !inet6 => Err(Errno(libc::EINVAL)),
        Address::Unspecified => Err(Errno(libc::EAFNOSUPPORT)),
    }
}

/// An address as the kernel's calls take it.
pub struct Raw {
    storage: libc::sockaddr_storage,
    /// Bytes used.
    pub len: socklen_t,
}

impl Raw {
    /// `address` as a socket of the given family shows it: IPv4 mapped if need be.
    pub fn new(address: SocketAddr, inet6: bool) -> Raw {
        // SAFETY: zero is a valid address of no family.
        let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let port = address.port().to_be();
        let len = match (address.ip(), inet6) {
            (IpAddr::V4(ip), false) => {
                let out = (&raw mut storage).cast::<sockaddr_in>();
                // SAFETY: the storage is large enough for every family, and aligned.
                let out = unsafe { &mut *out };
                out.sin_family = libc::AF_INET as libc::sa_family_t;
                out.sin_port = port;
                out.sin_addr.s_addr = ip.to_bits().to_be();
                size_of::<sockaddr_in>()
            }
            (ip, _) => {
                let ip = match ip {
                    // "Any" of IPv4 is "any" of IPv6, not a mapped address.
                    IpAddr::V4(ip) if ip.is_unspecified() => Ipv6Addr::UNSPECIFIED,
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                let out = (&raw mut storage).cast::<sockaddr_in6>();
                // SAFETY: as above.
                let out = unsafe { &mut *out };
                out.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                out.sin6_port = port;
                out.sin6_addr.s6_addr = ip.octets();
                size_of::<sockaddr_in6>()
            }
        };
        Raw {
            storage,
            len: len as socklen_t,
        }
    }

    /// Where it lies.
    pub fn as_ptr(&self) -> *const sockaddr {
        (&raw const self.storage).cast()
    }

    /// Where a call may write another address, of at most [`Raw::len`] bytes.
    pub fn as_mut_ptr(&mut self) -> *mut sockaddr {
        (&raw mut self.storage).cast()
    }

    /// Copies it to the caller as accept(2) and getsockname(2) do: no more than `*len` bytes, and
    /// `*len` becomes the whole length.
    ///
    /// # Errors
    /// `EFAULT` for null, `EINVAL` for a negative length.
    ///
    /// # Safety
    /// `len` is null or can be read and written; `out` is null or has `*len` writable bytes.
    pub unsafe fn write(&self, out: *mut sockaddr, len: *mut socklen_t) -> Result<()> {
        if len.is_null() {
            return Err(Errno(libc::EFAULT));
        }
        // SAFETY: the caller's promise.
        let room = unsafe { len.read_unaligned() };
        if room > i32::MAX as u32 {
            return Err(Errno(libc::EINVAL));
        }
        let n = room.min(self.len);
        if n > 0 {
            if out.is_null() {
                return Err(Errno(libc::EFAULT));
            }
            // SAFETY: `n` bytes fit at both ends, which do not overlap.
            unsafe {
                std::ptr::copy_nonoverlapping(self.as_ptr().cast::<u8>(), out.cast(), n as usize);
            }
        }
        // SAFETY: as above.
        unsafe { len.write_unaligned(self.len) };
        Ok(())
    }
}

impl SocketRef {
    /// Whether the socket is of family AF_INET6.
    pub fn is_inet6(&self) -> bool {
        self.flags() & flag::INET6 != 0
    }

    /// An address as this socket shows it.
    pub fn show(&self, address: SocketAddr) -> Raw {
        Raw::new(address, self.is_inet6())
    }
}

/// getsockname(2).
///
/// # Errors
/// `EINTR` while the address of a connection that is just being opened is waited for.
pub fn local(socket: SocketRef) -> Result<Raw> {
    let is_bound = || socket.state_bits() & state::BOUND != 0;
    let attempt = socket.flags() & (flag::CONNECTING | flag::DEFERRED);
    if !is_bound() && attempt == flag::CONNECTING {
        let decided = || (is_bound() || !super::connect::is_under_way(socket)).then_some(());
        wait::until(socket, Some(PATIENCE), decided)?;
    }
    // After a connection, as on Linux, what it had is still shown.
    Ok(socket.show(socket.record().names.local()))
}

/// getpeername(2).
///
/// # Errors
/// `ENOTCONN`.
pub fn remote(socket: SocketRef) -> Result<Raw> {
    let bits = socket.state_bits();
    let is_connected = bits & state::WAS_CONNECTED != 0
        && !matches!(
            bits & state::MASK,
            0 | state::CLOSE | state::SYN_SENT | state::LISTEN
        );
    if !is_connected {
        return Err(Errno(libc::ENOTCONN));
    }
    Ok(socket.show(socket.record().names.remote()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{engine, established, fresh};

    fn round_trip(raw: &Raw, inet6: bool) -> Result<Address> {
        // SAFETY: the address is whole.
        unsafe { read(raw.as_ptr(), raw.len, inet6) }
    }

    #[test]
    fn addresses_of_both_families_survive() {
        let v4 = "10.1.2.3:80".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:443".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:10.1.2.3]:80".parse().unwrap();
        let read = |address, inet6| round_trip(&Raw::new(address, inet6), inet6);
        assert_eq!(read(v4, false), Ok(Address::Internet(v4)));
        assert_eq!(read(v6, true), Ok(Address::Internet(v6)));
        assert_eq!(read(v4, true), Ok(Address::Internet(mapped)));
    }

    #[test]
    fn what_is_no_address_of_the_family_is_refused_as_the_kernel_does() {
        let raw = Raw::new("10.1.2.3:80".parse().unwrap(), false);
        assert_eq!(
            round_trip(&raw, true),
            Err(Errno(libc::EINVAL)),
            "too short"
        );
        let raw6 = Raw::new("[::1]:80".parse().unwrap(), true);
        assert_eq!(round_trip(&raw6, false), Err(Errno(libc::EAFNOSUPPORT)));
        // SAFETY: null is allowed, and lengths that are refused are not read.
        unsafe {
            assert_eq!(read(std::ptr::null(), 16, false), Err(Errno(libc::EFAULT)));
            assert_eq!(read(raw.as_ptr(), 1, false), Err(Errno(libc::EINVAL)));
            assert_eq!(read(raw.as_ptr(), 15, false), Err(Errno(libc::EINVAL)));
            assert_eq!(read(raw.as_ptr(), 4096, false), Err(Errno(libc::EINVAL)));
        }
    }

    #[test]
    fn a_short_buffer_gets_the_beginning_and_the_whole_length() {
        let raw = Raw::new("10.1.2.3:80".parse().unwrap(), false);
        let mut out = [0xeeu8; 16];
        let mut len: socklen_t = 4;
        // SAFETY: 4 bytes are there.
        unsafe { raw.write(out.as_mut_ptr().cast(), &raw mut len).unwrap() };
        assert_eq!(len, 16);
        assert_eq!(&out[..5], &[2, 0, 0, 80, 0xee]);
        let mut len = -1i32 as socklen_t;
        // SAFETY: a length that is refused is not written.
        let result = unsafe { raw.write(out.as_mut_ptr().cast(), &raw mut len) };
        assert_eq!(result, Err(Errno(libc::EINVAL)));
    }

    #[test]
    fn names_follow_the_connection() {
        let socket = fresh();
        let any = Address::Internet("0.0.0.0:0".parse().unwrap());
        assert_eq!(round_trip(&local(socket).unwrap(), false), Ok(any));
        assert!(matches!(remote(socket), Err(Errno(libc::ENOTCONN))));
        let socket = established();
        let here = Address::Internet("10.77.0.2:80".parse().unwrap());
        assert_eq!(round_trip(&local(socket).unwrap(), false), Ok(here));
        let there = Address::Internet("10.77.0.1:40000".parse().unwrap());
        assert_eq!(round_trip(&remote(socket).unwrap(), false), Ok(there));
        engine().fail(socket, libc::ECONNRESET);
        assert!(matches!(remote(socket), Err(Errno(libc::ENOTCONN))));
    }
}
