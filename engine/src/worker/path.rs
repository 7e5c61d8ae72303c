//! Which way leads to a peer, and from which address of the stack.

use super::Stack;
use super::connection::Hop;
use super::loopback;
use super::opening::Unopened;
use crate::net::ipv6::Source;
use crate::net::{Address, Destination, Lookup};
use crate::tcp::MIN_MSS;
use psio::MacAddr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

impl Stack {
    /// Whether an address is reached inside this stack.
    pub fn is_local(&self, address: Address) -> bool {
        self.shared.config.loopback
            && match address.ip() {
                IpAddr::V4(v4) => v4.is_loopback() || self.addresses.is_ours(v4),
                IpAddr::V6(v6) => v6.is_loopback() || self.is_own_v6(v6),
            }
    }

    /// The address to connect to `remote` from, and whether that leads back into this stack.
    /// `bound` is the address that the socket is bound to, unspecified for none.
    ///
    /// # Errors
    /// ENETUNREACH, EADDRNOTAVAIL, EINVAL from the loopback to the outside, or that the address is still to be awaited.
    pub fn source_for(&self, bound: IpAddr, remote: Address) -> Result<(Address, Hop), Unopened> {
        let unreachable = Unopened::Failed(libc::ENETUNREACH);
        let local = self.is_local(remote);
        let chosen = match (local, remote.ip()) {
            // As the routes that Linux gives its loopback.
            (true, IpAddr::V4(v4)) if v4.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            (true, ip) => ip,
            (false, IpAddr::V4(v4)) => self.source_v4(v4).ok_or(unreachable)?.into(),
            (false, IpAddr::V6(v6)) => match self.source_v6(v6) {
                Source::Address(source) => source.into(),
                Source::Awaited => return Err(Unopened::Awaited),
                Source::None => return Err(unreachable),
            },
        };
        let source = match bound {
            any if any.is_unspecified() => chosen,
            bound if bound.is_loopback() && !local => {
                return Err(Unopened::Failed(libc::EINVAL));
            }
            bound if bound.is_ipv4() == chosen.is_ipv4() => self.usable(bound)?,
            _ => return Err(unreachable),
        };
        let hop = if local { Hop::Loopback } else { Hop::Unknown };
        Ok((source.into(), hop))
    }

    fn is_own_v6(&self, address: Ipv6Addr) -> bool {
        let host = self.ipv6.as_ref();
        host.is_some_and(|host| host.addresses.is_ours(address))
    }

    /// The address that a socket is bound to, if connections may begin from there.
    fn usable(&self, bound: IpAddr) -> Result<IpAddr, Unopened> {
        match (bound, &self.ipv6) {
            (IpAddr::V6(v6), Some(host)) if host.addresses.is_tentative(v6) => {
                Err(Unopened::Awaited)
            }
            (IpAddr::V6(v6), Some(host)) if host.addresses.is_duplicate(v6) => {
                Err(Unopened::Failed(libc::EADDRNOTAVAIL))
            }
            _ => Ok(bound),
        }
    }

    fn source_v6(&self, remote: Ipv6Addr) -> Source {
        let not_another = remote.is_unspecified()
            || remote.is_loopback()
            || remote.is_multicast()
            || self.is_own_v6(remote);
        match &self.ipv6 {
            Some(host) if !not_another => host.source_for(self.now.as_micros(), remote),
            _ => Source::None,
        }
    }

    fn source_v4(&self, remote: Ipv4Addr) -> Option<Ipv4Addr> {
        let to = self.addresses.classify(remote);
        if to != Destination::Elsewhere || remote.is_unspecified() {
            return None;
        }
        let hop = self.routes.lookup(remote)?;
        hop.source
            .or_else(|| self.addresses.source_for(hop.neighbor))
    }

    /// The neighbour that leads to an address, and its station; `None` without a route. What was found
    /// last holds for the rest of the round.
    pub fn way_to(&mut self, to: Address) -> Option<(Address, Lookup)> {
        if let Some((known, neighbor, station)) = self.latest_way
            && known == to
        {
            return Some((neighbor, Lookup::Resolved(station)));
        }
        let way = self.find_way(to)?;
        if let (neighbor, Lookup::Resolved(station)) = way {
            self.latest_way = Some((to, neighbor, station));
        }
        Some(way)
    }

    fn find_way(&mut self, to: Address) -> Option<(Address, Lookup)> {
        let now = self.now.as_micros();
        match to.ip() {
            IpAddr::V4(v4) => {
                let neighbor = self.routes.lookup(v4)?.neighbor;
                Some((neighbor.into(), self.neighbors.lookup(now, neighbor)))
            }
            IpAddr::V6(v6) => {
                let host = self.ipv6.as_mut()?;
                let neighbor = host.next_hop(now, v6)?;
                Some((neighbor.into(), host.lookup(now, neighbor)))
            }
        }
    }

    /// Data sent to a neighbour's station has been acknowledged: the station is right.
    pub fn confirm(&mut self, neighbor: Address, station: MacAddr) {
        let now = self.now.as_micros();
        match (neighbor.ip(), &mut self.ipv6) {
            (IpAddr::V4(v4), _) => self.neighbors.confirm(now, v4, station),
            (IpAddr::V6(v6), Some(host)) => host.confirm(now, v6, station),
            (IpAddr::V6(_), None) => {}
        }
    }

    /// Lets a connection wait for a neighbour; returns the one that had to make room, if any.
    #[must_use = "who had to make room goes on by itself"]
    pub fn hold(&mut self, neighbor: Address, token: (u32, u32)) -> Option<(u32, u32)> {
        match (neighbor.ip(), &mut self.ipv6) {
            (IpAddr::V4(v4), _) => self.neighbors.hold(v4, token),
            (IpAddr::V6(v6), Some(host)) => host.hold(v6, token),
            (IpAddr::V6(_), None) => Some(token),
        }
    }

    /// The segment size of links towards `remote`: it follows from the MTU and the headers of the
    /// family (RFC 6691).
    pub fn mss_for(&self, remote: Address) -> u16 {
        let mss = match (remote.v4(), &self.ipv6) {
            // The length of a datagram is a field of 16 bits.
            (Some(_), _) if self.is_local(remote) => loopback::MTU.min(u16::MAX.into()) - 40,
            (None, _) if self.is_local(remote) => loopback::MTU - 60,
            (None, Some(host)) => u32::from(host.mtu()).saturating_sub(60).min(65_000),
            _ => return self.tcp.mss,
        };
        u16::try_from(mss).unwrap_or(u16::MAX).max(MIN_MSS)
    }
}
