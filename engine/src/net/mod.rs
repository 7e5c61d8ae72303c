//! What an IP host knows about its network: its addresses, neighbours, routes and ICMP.
//!
//! Nothing here reads a clock or a socket: the time is a parameter, in microseconds since an
//! arbitrary start.

mod address;
mod deadlines;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod neighbor;
mod plain;
mod pmtu;
mod prefix;
mod rate_limit;
pub mod route;

pub use address::Address;
pub use ipv4::{Destination, Identifications, LocalAddresses};
pub use neighbor::{Lookup, NeighborConfig, NeighborTable};
pub use plain::PlainFrames;
pub use pmtu::PathMtus;
pub use prefix::{InterfaceAddress, Prefix};
pub use rate_limit::RateLimit;
pub use route::{NextHop, Route, RoutingTable};

/// Why a table of this module refused an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NetError {
    /// The table is full.
    #[error("the {table} table is full: it holds at most {limit} entries")]
    Full {
        /// Which table.
        table: &'static str,
        /// How many entries it holds.
        limit: usize,
    },
    /// The address cannot be that of a host.
    #[error("{0} is not an address that a host can have")]
    NotAHostAddress(std::net::IpAddr),
    /// The address is there already.
    #[error("the address {0} is there already")]
    DuplicateAddress(std::net::Ipv4Addr),
    /// A route to the same destination with the same metric is there already.
    #[error("a route to {prefix} with metric {metric} is there already")]
    DuplicateRoute {
        /// The destination.
        prefix: Prefix,
        /// The metric.
        metric: u32,
    },
    /// A route to the same IPv6 destination is there already.
    #[error("a route to {0} is there already")]
    DuplicateRoute6(ipv6::Prefix6),
    /// The gateway is in no network that the route's interface is connected to.
    #[error("gateway {0} is in no network connected to the route's interface")]
    UnreachableGateway(std::net::IpAddr),
}
