//! The addresses of a socket, in words that both sides can read at any time.

use crate::sync::{AtomicU32, AtomicU64, Ordering};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Addresses: written by the engine, except the request.
#[repr(C, align(64))]
#[derive(Default)]
pub struct Names {
    local: [AtomicU64; 2],
    remote: [AtomicU64; 2],
    ports: AtomicU32,
    request_port: AtomicU32,
    request: [AtomicU64; 2],
    kernel_inode: AtomicU64,
}

/// 0.0.0.0 as an IPv4-mapped address, in two words.
const ANY: [u64; 2] = [0, 0xffff << 32];

impl Names {
    /// Engine: makes all addresses 0.0.0.0:0.
    pub fn reset(&self) {
        for address in [&self.local, &self.remote, &self.request] {
            for (word, any) in address.iter().zip(ANY) {
                word.store(any, Ordering::Relaxed);
            }
        }
        self.request_port.store(0, Ordering::Relaxed);
        self.kernel_inode.store(0, Ordering::Relaxed);
        self.ports.store(0, Ordering::Release);
    }

    /// Engine: sets both addresses.
    pub fn set(&self, local: SocketAddr, remote: Option<SocketAddr>) {
        store(&self.local, local.ip());
        let mut ports = u32::from(local.port()) << 16;
        if let Some(remote) = remote {
            store(&self.remote, remote.ip());
            ports |= u32::from(remote.port());
        }
        self.ports.store(ports, Ordering::Release);
    }

    /// The local address, IPv4 never mapped.
    pub fn local(&self) -> SocketAddr {
        let port = (self.ports.load(Ordering::Acquire) >> 16) as u16;
        SocketAddr::new(load(&self.local), port)
    }

    /// The peer's address, IPv4 never mapped.
    pub fn remote(&self) -> SocketAddr {
        let port = self.ports.load(Ordering::Acquire) as u16;
        SocketAddr::new(load(&self.remote), port)
    }

    /// Application: where to connect to.
    pub fn request(&self, to: SocketAddr) {
        store(&self.request, to.ip());
        self.request_port
            .store(u32::from(to.port()), Ordering::Release);
    }

    /// Application: the inode of the kernel socket that listens beside, 0 for none.
    pub fn set_kernel_inode(&self, inode: u64) {
        self.kernel_inode.store(inode, Ordering::Release);
    }

    /// The inode of the kernel socket that listens beside ([`flag::BOTH`](super::flag::BOTH)).
    pub fn kernel_inode(&self) -> u64 {
        self.kernel_inode.load(Ordering::Acquire)
    }

    /// Engine: where the application wants to connect to.
    pub fn requested(&self) -> SocketAddr {
        let port = self.request_port.load(Ordering::Acquire) as u16;
        SocketAddr::new(load(&self.request), port)
    }
}

fn store(to: &[AtomicU64; 2], ip: IpAddr) {
    let bits = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
    .to_bits();
    to[0].store((bits >> 64) as u64, Ordering::Relaxed);
    to[1].store(bits as u64, Ordering::Relaxed);
}

fn load(from: &[AtomicU64; 2]) -> IpAddr {
    let high = u128::from(from[0].load(Ordering::Relaxed)) << 64;
    Ipv6Addr::from_bits(high | u128::from(from[1].load(Ordering::Relaxed))).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_reset_all_addresses_are_the_any_address() {
        let names = Names::default();
        let end: SocketAddr = "[fd00::1]:80".parse().unwrap();
        names.set(end, Some(end));
        names.request(end);
        names.set_kernel_inode(1);
        names.reset();
        let any: SocketAddr = "0.0.0.0:0".parse().unwrap();
        assert_eq!([names.local(), names.remote(), names.requested()], [any; 3]);
        assert_eq!(names.kernel_inode(), 0);
    }
}
