//! What a host knows of its IPv6 network: addresses, neighbours, routers, groups (RFC 4861,
//! RFC 4862), and ICMPv6.
//!
//! Nothing here reads a clock or a socket: the time is a parameter, in microseconds.

mod addresses;
mod autoconf;
pub mod icmp;
pub mod neighbor;
mod prefix;
mod router;

pub use addresses::{Addresses, Lifetime};
pub use prefix::Prefix6;
pub use router::{Route6, Routes};

use std::net::Ipv6Addr;

use crate::net::Lookup;
use crate::wire::ipv6::{ALL_NODES, multicast_mac, solicited_node};
use crate::wire::mld::{self, Record};
use crate::wire::ndp::{self, NdpMessage};
use crate::wire::{DropReason, Ipv6Packet, LinkDestination, MacAddr};
use addresses::is_host;
use autoconf::Solicitor;
use neighbor::{Advertised, NeighborCache};

/// How the stack gets its addresses and routes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ipv6Config {
    /// Static addresses, each with its network's prefix length; the link-local one is added.
    pub addresses: Vec<(Ipv6Addr, u8)>,
    /// Routes besides those to connected networks.
    pub routes: Vec<Route6>,
    /// Whether routers are listened to, and addresses made from what they advertise.
    pub autoconf: bool,
    /// Probes for each new address before it is used (DupAddrDetectTransmits); 0: none.
    pub dad_probes: u8,
    /// Networks all of whose addresses are the stack's own, for tests that make up addresses.
    pub local: Vec<Prefix6>,
    /// Stations that are not asked for, each of the addresses of a prefix; the longest one decides.
    pub neighbors: Vec<(Prefix6, MacAddr)>,
    /// Nothing is sent unasked: no probes, reports, or solicitations of routers.
    pub silent: bool,
}

/// A packet to be sent, and the station or group that it goes to.
pub type Outgoing = (Vec<u8>, MacAddr);

/// What follows from a neighbour discovery message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Action<T> {
    /// An answer to be sent.
    pub reply: Option<Outgoing>,
    /// What was held for a neighbour whose station is known now, oldest first.
    pub released: Vec<T>,
    /// One of our addresses, which another station claims.
    pub conflict: Option<Ipv6Addr>,
}

impl<T> Action<T> {
    fn released(released: Vec<T>) -> Self {
        Action {
            reply: None,
            released,
            conflict: None,
        }
    }
}

/// The address to speak to somebody from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// This one.
    Address(Ipv6Addr),
    /// It is not known yet.
    Awaited,
    /// There is none, or no way there.
    None,
}

/// What a packet's destination means to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination6 {
    /// One of our addresses.
    Ours,
    /// A group that we are in.
    Group,
}

/// An IPv6 host on one link. `T` is what waits for a neighbour's station.
#[derive(Debug)]
pub struct Host<T> {
    mac: MacAddr,
    /// Our addresses.
    pub addresses: Addresses,
    routes: Routes,
    neighbors: NeighborCache<T>,
    solicitor: Solicitor,
    /// The link's MTU as routers say, or the device's.
    mtu: u16,
    device_mtu: u16,
    /// Groups that have been reported, and the addresses' version then.
    reported: (Vec<Ipv6Addr>, u64),
    /// A router has asked for our groups.
    asked: bool,
    /// Whether this host speaks for itself, or another with the same addresses does.
    speaks: bool,
    /// Configured stations, the longest prefix first.
    fixed: Vec<(Prefix6, MacAddr)>,
}

impl<T> Host<T> {
    /// A host with station `mac` on a link of `mtu` bytes at the time `now`. Of several with one
    /// configuration (one for each worker) one `speaks`: it probes, reports and solicits for all.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(
        config: &Ipv6Config,
        (mac, mtu): (MacAddr, u16),
        neighbors: neighbor::Config,
        now: u64,
        speaks: bool,
    ) -> Result<Host<T>, crate::net::NetError> {
        use crate::net::NetError;
        let mut host = Host {
            mac,
            addresses: Addresses::new(config.dad_probes, neighbors.retransmit)
                .with_networks(&config.local),
            routes: Routes::default(),
            solicitor: Solicitor::new(config.autoconf, now),
            neighbors: NeighborCache::new(neighbors),
            mtu,
            device_mtu: mtu,
            reported: (Vec::new(), 0),
            asked: false,
            speaks: speaks && !config.silent,
            fixed: config.neighbors.clone(),
        };
        host.fixed
            .sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let link_local = Prefix6::LINK_LOCAL.with_identifier_of(mac);
        let start = now + autoconf::jitter(mac, config.dad_probes);
        let forever = Lifetime::FOREVER;
        host.addresses
            .add(link_local, Prefix6::LINK_LOCAL, forever, start);
        for (address, len) in &config.addresses {
            let prefix =
                Prefix6::new(*address, *len).ok_or(NetError::NotAHostAddress((*address).into()))?;
            if !host.addresses.add(*address, prefix, forever, start) {
                return Err(NetError::NotAHostAddress((*address).into()));
            }
            let connected = Route6 {
                prefix,
                gateway: None,
            };
            host.add_route(connected)?;
        }
        for route in &config.routes {
            if let Some(gateway) = route.gateway
                && host.routes.next_hop(now, gateway, |_| false) != Some(gateway)
            {
                return Err(NetError::UnreachableGateway(gateway.into()));
            }
            if host.routes.has(route.prefix) {
                return Err(NetError::DuplicateRoute6(route.prefix));
            }
            host.add_route(*route)?;
        }
        Ok(host)
    }

    fn add_route(&mut self, route: Route6) -> Result<(), crate::net::NetError> {
        match self.routes.add(route) {
            true => Ok(()),
            false => Err(crate::net::NetError::Full {
                table: "IPv6 routing",
                limit: Routes::MAX_FIXED,
            }),
        }
    }

    /// The link's MTU, in bytes.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Decides whether a packet from outside is for us.
    ///
    /// # Errors
    /// [`DropReason::Ipv6BadSource`], [`DropReason::Ipv6NotForUs`] or
    /// [`DropReason::Ipv6UnicastInMulticast`].
    #[inline]
    pub fn accept(
        &self,
        packet: &Ipv6Packet<'_>,
        link: LinkDestination,
    ) -> Result<Destination6, DropReason> {
        // Nobody's address is the source of probes for an address, and of nothing else.
        let (src, dst) = (packet.src, packet.dst);
        if !(is_host(src) || src.is_unspecified()) || self.addresses.is_ours(src) {
            return Err(DropReason::Ipv6BadSource);
        }
        match dst {
            group if group.is_multicast() && self.addresses.is_member(group) => {
                Ok(Destination6::Group)
            }
            ours if self.addresses.is_ours(ours) => match link {
                LinkDestination::Unicast => Ok(Destination6::Ours),
                LinkDestination::Broadcast => Err(DropReason::Ipv6UnicastInMulticast),
            },
            _ => Err(DropReason::Ipv6NotForUs),
        }
    }

    /// The neighbour that a packet for `destination` goes to first.
    pub fn next_hop(&self, now: u64, destination: Ipv6Addr) -> Option<Ipv6Addr> {
        let unreachable = |router| self.neighbors.is_unreachable(router);
        self.routes.next_hop(now, destination, unreachable)
    }

    /// Which address to speak to `destination` from. One that reaches so far is waited for while
    /// there may be one soon: while new addresses are probed (RFC 4862 §5.4), and while the first
    /// router solicitation may be answered.
    pub fn source_for(&self, now: u64, destination: Ipv6Addr) -> Source {
        let way = self.next_hop(now, destination).is_some();
        let source = self.addresses.source_for(now, destination);
        let best = source.filter(|source| Addresses::reaches(*source, destination));
        match (source, best) {
            (_, Some(best)) if way => Source::Address(best),
            _ if self.solicitor.awaits_first(now) => Source::Awaited,
            _ if way && self.addresses.any_tentative() => Source::Awaited,
            (Some(source), _) if way => Source::Address(source),
            _ => Source::None,
        }
    }

    /// A number that grows whenever [`source_for`](Self::source_for) may say something else of what
    /// was awaited.
    pub fn version(&self) -> u64 {
        self.addresses.version() + self.solicitor.version()
    }

    /// The station of a neighbour: the configured one, else see [`NeighborCache::lookup`].
    pub fn lookup(&mut self, now: u64, neighbor: Ipv6Addr) -> Lookup {
        let fixed = self.fixed.iter().find(|fixed| fixed.0.contains(neighbor));
        match fixed {
            Some((_, station)) => Lookup::Resolved(*station),
            None => self.neighbors.lookup(now, neighbor),
        }
    }

    /// What was sent to a neighbour's station has arrived; see [`NeighborCache::confirm`].
    pub fn confirm(&mut self, now: u64, neighbor: Ipv6Addr, station: MacAddr) {
        self.neighbors.confirm(now, neighbor, station);
    }

    /// Holds what waits for a neighbour; see [`NeighborCache::hold`].
    #[must_use = "what is returned has been dropped and should be counted"]
    pub fn hold(&mut self, neighbor: Ipv6Addr, item: T) -> Option<T> {
        self.neighbors.hold(neighbor, item)
    }

    /// Takes a neighbour discovery message from `src` that has passed its checks.
    ///
    /// # Errors
    /// [`DropReason::NdpNotForUs`] or [`DropReason::NdpIgnored`].
    pub fn on_ndp(
        &mut self,
        now: u64,
        src: Ipv6Addr,
        message: &NdpMessage,
    ) -> Result<Action<T>, DropReason> {
        match message {
            NdpMessage::Solicitation { target, mac } => {
                self.on_solicitation(now, src, *target, *mac)
            }
            NdpMessage::Advertisement {
                target,
                mac,
                router,
                solicited,
                overrides,
            } => {
                if self.claims(*target) {
                    return Ok(self.on_conflict(now, *target));
                }
                if !router {
                    // Who is a host now is no default router any more (RFC 4861 §7.2.5).
                    self.routes.advertise_router(now, *target, now);
                }
                let said = Advertised {
                    mac: *mac,
                    solicited: *solicited,
                    overrides: *overrides,
                };
                let released = self.neighbors.advertised(now, *target, said);
                Ok(Action::released(released))
            }
            NdpMessage::Router(router) => self.on_router(now, src, router),
            NdpMessage::Redirect => Err(DropReason::NdpIgnored),
        }
    }

    fn claims(&self, address: Ipv6Addr) -> bool {
        self.addresses.is_ours(address) || self.addresses.is_tentative(address)
    }

    /// RFC 4862 §5.4.3, §5.4.4: an address that is only tentative is given up. If it was made here,
    /// another takes its place.
    fn on_conflict(&mut self, now: u64, address: Ipv6Addr) -> Action<T> {
        if self.addresses.is_tentative(address) && !self.try_next_identifier(now, address) {
            self.addresses.give_up(address);
        }
        Action {
            reply: None,
            released: Vec::new(),
            conflict: Some(address),
        }
    }

    /// RFC 4861 §7.2.3 and §7.2.4.
    fn on_solicitation(
        &mut self,
        now: u64,
        src: Ipv6Addr,
        target: Ipv6Addr,
        mac: Option<MacAddr>,
    ) -> Result<Action<T>, DropReason> {
        if self.addresses.is_tentative(target) {
            // Another asks for the address as we do; one that resolves it is not answered.
            return match src.is_unspecified() {
                true => Ok(self.on_conflict(now, target)),
                false => Err(DropReason::NdpNotForUs),
            };
        }
        if !self.addresses.is_ours(target) {
            return Err(DropReason::NdpNotForUs);
        }
        if src.is_unspecified() {
            let ends = (target, ALL_NODES);
            let packet = ndp::advertisement(ends, target, self.mac, false);
            return Ok(Action {
                reply: Some((packet, multicast_mac(ALL_NODES))),
                released: Vec::new(),
                conflict: None,
            });
        }
        let released = match mac {
            Some(mac) if mac != self.mac => self.neighbors.heard(src, mac),
            _ => Vec::new(),
        };
        let packet = ndp::advertisement((target, src), target, self.mac, true);
        // Who does not name its station is answered where it is known to be, and not asked for:
        // the source may be anybody's.
        let station = mac.or_else(|| self.neighbors.station(src));
        Ok(Action {
            reply: station.map(|station| (packet, station)),
            released,
            conflict: None,
        })
    }

    /// A router asks which groups we are in.
    pub fn on_listener_query(&mut self) {
        self.asked = true;
    }

    /// The next packet that is due. To be called until `None`; then
    /// [`poll_given_up`](Self::poll_given_up) has what waited for those who do not answer.
    pub fn poll_transmit(&mut self, now: u64) -> Option<Outgoing> {
        if self.next_deadline().is_none_or(|due| due > now) {
            return None;
        }
        if let Some(report) = self.report_due() {
            return Some(report);
        }
        while let Some(address) = self.addresses.poll(now) {
            if self.speaks {
                let group = solicited_node(address);
                let ends = (Ipv6Addr::UNSPECIFIED, group);
                return Some((ndp::solicitation(ends, address, None), multicast_mac(group)));
            }
        }
        if let Some(solicitation) = self.solicit_router(now) {
            return Some(solicitation);
        }
        while let Some(due) = self.neighbors.poll_solicit(now) {
            let target = due.target;
            // From nobody's address it would be a probe for the target.
            let Some(src) = self.addresses.source_for(now, target) else {
                continue;
            };
            let group = solicited_node(target);
            let (dst, station) = match due.station {
                Some(station) => (target, station),
                None => (group, multicast_mac(group)),
            };
            let packet = ndp::solicitation((src, dst), target, Some(self.mac));
            return Some((packet, station));
        }
        None
    }

    /// A report of groups that are new, or of all if a router has asked. Once an address is in use
    /// it comes from there, before that from nobody (RFC 3590).
    fn report_due(&mut self) -> Option<Outgoing> {
        if !self.has_news() {
            return None;
        }
        let groups = self.addresses.groups();
        let asked = std::mem::take(&mut self.asked);
        let (reported, _) = &self.reported;
        let new: Vec<_> = groups
            .iter()
            .filter(|group| !reported.contains(group))
            .copied()
            .collect();
        self.reported = (groups, self.addresses.version());
        if !self.speaks || !asked && new.is_empty() {
            return None;
        }
        let src = self.addresses.link_local().unwrap_or(Ipv6Addr::UNSPECIFIED);
        let packet = match asked {
            true => mld::report(src, Record::IsExclude, &self.reported.0),
            false => mld::report(src, Record::ToExclude, &new),
        };
        Some((packet, multicast_mac(mld::REPORTS)))
    }

    fn has_news(&self) -> bool {
        self.asked || self.reported.1 != self.addresses.version()
    }

    /// What waited for a neighbour that does not answer. To be called until `None`.
    pub fn poll_given_up(&mut self) -> Option<T> {
        self.neighbors.poll_given_up()
    }

    /// When there is something to do, in microseconds; a time that has passed means at once.
    pub fn next_deadline(&self) -> Option<u64> {
        let report = self.has_news().then_some(0);
        [
            report,
            self.addresses.next_deadline(),
            self.solicitor.next_deadline(),
            self.neighbors.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

#[cfg(test)]
mod tests;
