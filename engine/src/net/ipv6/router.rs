//! Routes, and what routers advertise: default routers and prefixes on the link (RFC 4861 §5.1).

use std::net::Ipv6Addr;

use super::Prefix6;

/// A configured way to the addresses of a prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route6 {
    /// The destinations.
    pub prefix: Prefix6,
    /// The next router; `None` if the destinations are on the link.
    pub gateway: Option<Ipv6Addr>,
}

/// Which neighbour a packet goes to first.
#[derive(Debug, Default)]
pub struct Routes {
    /// Longest prefix first.
    fixed: Vec<Route6>,
    /// Advertised prefixes on the link, each with the time at which it ends.
    on_link: Vec<(Prefix6, u64)>,
    /// Advertised default routers, each with the time at which it ends.
    routers: Vec<(Ipv6Addr, u64)>,
}

impl Routes {
    /// Configured routes at most.
    pub const MAX_FIXED: usize = 1024;
    /// Advertised prefixes at most; more are not listened to.
    pub const MAX_ON_LINK: usize = 16;
    /// Default routers at most; more are not listened to (RFC 4861 §6.3.4 asks for two).
    pub const MAX_ROUTERS: usize = 8;

    /// Adds a configured route. False if there is no room.
    pub fn add(&mut self, route: Route6) -> bool {
        if self.fixed.len() == Self::MAX_FIXED {
            return false;
        }
        let shorter = |other: &Route6| other.prefix.len() >= route.prefix.len();
        let position = self.fixed.partition_point(shorter);
        self.fixed.insert(position, route);
        true
    }

    /// Whether there is a configured route to the prefix.
    pub fn has(&self, prefix: Prefix6) -> bool {
        self.fixed.iter().any(|route| route.prefix == prefix)
    }

    /// A prefix is on the link until the time given; one that has passed takes it off. False if
    /// there is no room.
    pub fn advertise_prefix(&mut self, now: u64, prefix: Prefix6, until: u64) -> bool {
        advertise(&mut self.on_link, Self::MAX_ON_LINK, now, prefix, until)
    }

    /// A router is a default router until the time given; one that has passed ends that. False if
    /// there is no room.
    pub fn advertise_router(&mut self, now: u64, router: Ipv6Addr, until: u64) -> bool {
        advertise(&mut self.routers, Self::MAX_ROUTERS, now, router, until)
    }

    /// The neighbour to send to for `destination`: itself on the link, a configured gateway, or
    /// an advertised router, of which one that is not `unreachable` is preferred (RFC 4861 §6.3.6).
    pub fn next_hop(
        &self,
        now: u64,
        destination: Ipv6Addr,
        unreachable: impl Fn(Ipv6Addr) -> bool,
    ) -> Option<Ipv6Addr> {
        if Prefix6::LINK_LOCAL.contains(destination) {
            return Some(destination);
        }
        let fixed = self.fixed.iter().find(|r| r.prefix.contains(destination));
        let on_link = self
            .on_link
            .iter()
            .filter(|(prefix, until)| *until > now && prefix.contains(destination))
            .map(|(prefix, _)| prefix.len())
            .max();
        match (fixed, on_link) {
            (Some(route), longest) if longest.is_none_or(|len| route.prefix.len() >= len) => {
                return Some(route.gateway.unwrap_or(destination));
            }
            (_, Some(_)) => return Some(destination),
            _ => {}
        }
        let live = || self.routers.iter().filter(|(_, until)| *until > now);
        live()
            .find(|(router, _)| !unreachable(*router))
            .or_else(|| live().next())
            .map(|(router, _)| *router)
    }
}

fn advertise<K: PartialEq>(
    list: &mut Vec<(K, u64)>,
    limit: usize,
    now: u64,
    key: K,
    until: u64,
) -> bool {
    list.retain(|(other, until)| *other != key && *until > now);
    if until <= now {
        return true;
    }
    if list.len() == limit {
        return false;
    }
    list.push((key, until));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn prefix(text: &str, len: u8) -> Prefix6 {
        Prefix6::new(ip(text), len).unwrap()
    }

    fn hop(routes: &Routes, to: &str) -> Option<Ipv6Addr> {
        routes.next_hop(0, ip(to), |_| false)
    }

    #[test]
    fn the_longest_configured_prefix_decides() {
        let mut routes = Routes::default();
        let mut add = |text, len, gateway: Option<&str>| {
            let gateway = gateway.map(ip);
            let prefix = prefix(text, len);
            assert!(routes.add(Route6 { prefix, gateway }));
        };
        add("::", 0, Some("fd77::1"));
        add("fd77::", 64, None);
        add("fd77:0:0:5::", 64, Some("fd77::5"));
        assert_eq!(hop(&routes, "fd77::9"), Some(ip("fd77::9")));
        assert_eq!(hop(&routes, "fd77:0:0:5::9"), Some(ip("fd77::5")));
        assert_eq!(hop(&routes, "2001:db8::1"), Some(ip("fd77::1")));
        assert_eq!(hop(&routes, "fe80::9"), Some(ip("fe80::9")));
    }

    #[test]
    fn without_a_route_there_is_no_way_out() {
        assert_eq!(hop(&Routes::default(), "2001:db8::1"), None);
    }

    #[test]
    fn routers_and_prefixes_end_with_their_lifetimes() {
        let mut routes = Routes::default();
        routes.advertise_router(0, ip("fe80::1"), 100);
        routes.advertise_prefix(0, prefix("fd77::", 64), 50);
        let at = |now, to| routes.next_hop(now, ip(to), |_| false);
        assert_eq!(at(49, "fd77::9"), Some(ip("fd77::9")));
        assert_eq!(at(50, "fd77::9"), Some(ip("fe80::1")));
        assert_eq!(at(100, "fd77::9"), None);
    }

    #[test]
    fn a_router_that_gives_up_its_role_is_left() {
        let mut routes = Routes::default();
        routes.advertise_router(0, ip("fe80::1"), 100);
        routes.advertise_router(1, ip("fe80::1"), 1);
        assert_eq!(hop(&routes, "2001:db8::1"), None);
    }

    #[test]
    fn a_router_that_answers_is_preferred() {
        let mut routes = Routes::default();
        routes.advertise_router(0, ip("fe80::1"), 100);
        routes.advertise_router(0, ip("fe80::2"), 100);
        let to = ip("2001:db8::1");
        let first_is_down = |router| router == ip("fe80::1");
        assert_eq!(routes.next_hop(0, to, first_is_down), Some(ip("fe80::2")));
        assert_eq!(routes.next_hop(0, to, |_| true), Some(ip("fe80::1")));
    }

    #[test]
    fn what_is_advertised_is_bounded() {
        let mut routes = Routes::default();
        for i in 0..100 {
            let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, i);
            let block = Prefix6::new(Ipv6Addr::new(0xfd77, 0, 0, i, 0, 0, 0, 0), 64).unwrap();
            let room = routes.advertise_router(0, router, 100);
            assert_eq!(room, usize::from(i) < Routes::MAX_ROUTERS);
            let room = routes.advertise_prefix(0, block, 100);
            assert_eq!(room, usize::from(i) < Routes::MAX_ON_LINK);
        }
    }
}
