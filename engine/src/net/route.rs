//! The IPv4 routing table: longest prefix first (RFC 1812 §5.2.4.3), then lowest metric.

use std::net::Ipv4Addr;

use super::{InterfaceAddress, NetError, Prefix};

/// How to reach the addresses of a prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The destinations.
    pub prefix: Prefix,
    /// Index of the interface that leads there.
    pub interface: u16,
    /// The next router; `None` if the destinations are on the link.
    pub gateway: Option<Ipv4Addr>,
    /// The source address to use, if nothing else decides.
    pub source: Option<Ipv4Addr>,
    /// The lower, the better, among routes to the same prefix.
    pub metric: u32,
}

/// Where a datagram goes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NextHop {
    /// Index of the interface to send it on.
    pub interface: u16,
    /// The neighbour to send it to: a gateway, or the destination itself.
    pub neighbor: Ipv4Addr,
    /// The preferred source address.
    pub source: Option<Ipv4Addr>,
}

/// A routing table.
#[derive(Clone, Debug, Default)]
pub struct RoutingTable {
    /// In the order in which they are tried.
    routes: Vec<Route>,
}

impl RoutingTable {
    /// How many routes there can be.
    pub const LIMIT: usize = 1024;

    /// Adds a route. Its gateway must be in a network that a route without a gateway leads to on
    /// the same interface, so connected networks come first.
    ///
    /// # Errors
    /// [`NetError::UnreachableGateway`], [`NetError::DuplicateRoute`] or [`NetError::Full`].
    pub fn add(&mut self, route: Route) -> Result<(), NetError> {
        if let Some(gateway) = route.gateway
            && !self.is_on_link(gateway, route.interface)
        {
            return Err(NetError::UnreachableGateway(gateway.into()));
        }
        let order = |r: &Route| (u8::MAX - r.prefix.len(), r.prefix.network(), r.metric);
        let Err(position) = self.routes.binary_search_by_key(&order(&route), order) else {
            return Err(NetError::DuplicateRoute {
                prefix: route.prefix,
                metric: route.metric,
            });
        };
        if self.routes.len() == Self::LIMIT {
            return Err(NetError::Full {
                table: "routing",
                limit: Self::LIMIT,
            });
        }
        self.routes.insert(position, route);
        Ok(())
    }

    /// Adds the route to the network that an address of `interface` connects us to.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_connected(
        &mut self,
        interface: u16,
        address: InterfaceAddress,
    ) -> Result<(), NetError> {
        self.add(Route {
            prefix: address.network,
            interface,
            gateway: None,
            source: Some(address.address),
            metric: 0,
        })
    }

    /// Adds a default route.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_default(&mut self, interface: u16, gateway: Ipv4Addr) -> Result<(), NetError> {
        self.add(Route {
            prefix: Prefix::ALL,
            interface,
            gateway: Some(gateway),
            source: None,
            metric: 0,
        })
    }

    fn is_on_link(&self, address: Ipv4Addr, interface: u16) -> bool {
        self.routes.iter().any(|route| {
            route.gateway.is_none()
                && route.interface == interface
                && route.prefix.contains(address)
        })
    }

    /// The way to `dst`, or `None` if there is none.
    pub fn lookup(&self, dst: Ipv4Addr) -> Option<NextHop> {
        let route = self
            .routes
            .iter()
            .find(|route| route.prefix.contains(dst))?;
        Some(NextHop {
            interface: route.interface,
            neighbor: route.gateway.unwrap_or(dst),
            source: route.source,
        })
    }

    /// All routes, in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn prefix(text: &str, len: u8) -> Prefix {
        Prefix::new(ip(text), len).unwrap()
    }

    fn on_link(prefix: Prefix, interface: u16, metric: u32) -> Route {
        Route {
            prefix,
            interface,
            gateway: None,
            source: None,
            metric,
        }
    }

    /// 10.77.0.2/24 on interface 0, 192.0.2.2/30 on interface 1, default by 192.0.2.1.
    fn table() -> RoutingTable {
        let mut table = RoutingTable::default();
        table
            .add_connected(0, InterfaceAddress::new(ip("10.77.0.2"), 24).unwrap())
            .unwrap();
        table
            .add_connected(1, InterfaceAddress::new(ip("192.0.2.2"), 30).unwrap())
            .unwrap();
        table.add_default(1, ip("192.0.2.1")).unwrap();
        table
    }

    #[test]
    fn a_connected_network_is_reached_without_a_gateway() {
        assert_eq!(
            table().lookup(ip("10.77.0.9")),
            Some(NextHop {
                interface: 0,
                neighbor: ip("10.77.0.9"),
                source: Some(ip("10.77.0.2")),
            })
        );
    }

    #[test]
    fn everything_else_goes_to_the_default_gateway() {
        let hop = table().lookup(ip("198.51.100.7")).unwrap();
        assert_eq!((hop.interface, hop.neighbor), (1, ip("192.0.2.1")));
    }

    #[test]
    fn without_a_default_route_there_is_no_way_out() {
        let mut table = RoutingTable::default();
        assert_eq!(table.lookup(ip("10.77.0.9")), None);
        table.add(on_link(prefix("10.77.0.0", 24), 0, 0)).unwrap();
        assert_eq!(table.lookup(ip("10.77.1.9")), None);
    }

    #[test]
    fn the_longest_prefix_wins_whatever_the_order_of_adding() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut table = RoutingTable::default();
            let routes = [prefix("10.0.0.0", 8), prefix("10.77.0.0", 16), Prefix::ALL];
            for i in order {
                table.add(on_link(routes[i], i as u16, 0)).unwrap();
            }
            assert_eq!(table.lookup(ip("10.77.1.1")).unwrap().interface, 1);
            assert_eq!(table.lookup(ip("10.78.1.1")).unwrap().interface, 0);
            assert_eq!(table.lookup(ip("11.0.0.1")).unwrap().interface, 2);
        }
    }

    #[test]
    fn the_lowest_metric_wins_among_routes_to_one_prefix() {
        let mut table = RoutingTable::default();
        table.add(on_link(prefix("10.0.0.0", 8), 0, 20)).unwrap();
        table.add(on_link(prefix("10.0.0.0", 8), 1, 10)).unwrap();
        assert_eq!(table.lookup(ip("10.1.1.1")).unwrap().interface, 1);
    }

    #[test]
    fn a_second_route_to_the_same_destination_is_refused() {
        let mut table = table();
        assert_eq!(
            table.add(on_link(prefix("10.77.0.0", 24), 1, 0)),
            Err(NetError::DuplicateRoute {
                prefix: prefix("10.77.0.0", 24),
                metric: 0
            })
        );
        assert_eq!(table.iter().count(), 3);
    }

    #[test]
    fn a_gateway_must_be_on_the_interfaces_link() {
        let mut table = table();
        let route = |gateway: &str, interface| Route {
            prefix: prefix("172.16.0.0", 12),
            interface,
            gateway: Some(ip(gateway)),
            source: None,
            metric: 0,
        };
        for (gateway, interface) in [("203.0.113.1", 0), ("192.0.2.1", 0)] {
            assert_eq!(
                table.add(route(gateway, interface)),
                Err(NetError::UnreachableGateway(ip(gateway).into()))
            );
        }
        table.add(route("10.77.0.1", 0)).unwrap();
        assert_eq!(
            table.lookup(ip("172.20.1.1")).unwrap().neighbor,
            ip("10.77.0.1")
        );
    }

    #[test]
    fn a_full_table_refuses_more() {
        let mut table = RoutingTable::default();
        for i in 0..RoutingTable::LIMIT as u32 {
            let host = Prefix::host(Ipv4Addr::from_bits(0x0a00_0000 + i));
            table.add(on_link(host, 0, 0)).unwrap();
        }
        assert!(matches!(
            table.add(on_link(Prefix::ALL, 0, 0)),
            Err(NetError::Full { .. })
        ));
    }

    proptest! {
        #[test]
        fn lookup_finds_the_most_specific_route(
            routes in prop::collection::vec((any::<u32>(), 0u8..=8), 1..40),
            dst: u32,
        ) {
            let dst = Ipv4Addr::from_bits(dst);
            let mut table = RoutingTable::default();
            for (i, (bits, len)) in routes.iter().enumerate() {
                let prefix = Prefix::new(Ipv4Addr::from_bits(*bits), *len).unwrap();
                let _ = table.add(on_link(prefix, i as u16, 0));
            }
            let longest = table
                .iter()
                .filter(|route| route.prefix.contains(dst))
                .max_by_key(|route| route.prefix.len())
                .map(|route| route.interface);
            prop_assert_eq!(table.lookup(dst).map(|hop| hop.interface), longest);
        }
    }
}
