//! Which sockets the stack serves, and why.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::choice::Loopback;
use crate::net::Ipv4Net;
use crate::net6::{IpNet, Ipv6Net};

/// What a socket is about to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// listen(), at its bound address.
    Listen,
    /// connect(), to a destination.
    Connect,
}

/// Who serves a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The stack.
    Mtcp,
    /// The kernel.
    Kernel,
    /// A listening socket listens on both.
    Both,
}

/// Why the decision fell as it did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// A rule matched; the first rule is number 1.
    Rule(usize),
    /// The address is the stack's own.
    OwnAddress,
    /// The destination lies in the stack's connected network, here given.
    Connected(IpNet),
    /// A route of the stack, here given, leads to the destination.
    Route(IpNet),
    /// The address is one of the loopback's.
    Loopback,
    /// The socket listens on the any-address.
    AnyAddress,
    /// The socket listens on an address that is not the stack's.
    OtherAddress,
    /// No route of the stack leads to the destination.
    NoRoute,
    /// The destination is a broadcast or multicast address.
    NotUnicast,
    /// The address means something on one link only, and the kernel knows which.
    LinkLocal,
    /// The address is of IPv6, which this stack does not carry.
    Ipv6,
}

/// One rule of the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// File name of the program, `*` standing for any characters; `None` for every program.
    pub program: Option<String>,
    /// The role; `None` for both.
    pub role: Option<Role>,
    /// Addresses: where the socket listens, or the destination.
    pub address: IpNet,
    /// Ports: where the socket listens, or the destination's.
    pub ports: Ports,
    /// What it decides. `Both` is for listening sockets; such a rule matches no others.
    pub to: Decision,
}

/// A set of ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ports(Vec<(u16, u16)>);

/// Everything that the decision depends on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The stack's own addresses, each with its connected network.
    pub addresses: Vec<Ipv4Net>,
    /// Destinations beyond them that the stack has routes to (a gateway is `0.0.0.0/0`).
    pub routes: Vec<Ipv4Net>,
    /// The stack's static IPv6 addresses, each with its connected network.
    pub addresses6: Vec<Ipv6Net>,
    /// IPv6 destinations beyond them that the stack has routes to. Without these and those it has
    /// no IPv6.
    pub routes6: Vec<Ipv6Net>,
    /// Who carries the loopback.
    pub loopback: Loopback,
    /// Rules; the first match counts.
    pub rules: Vec<Rule>,
}

impl Policy {
    /// Who serves a TCP socket of `program` (its file name, without folders).
    ///
    /// `address` is where the socket is bound (to listen) or the destination (to connect). An
    /// IPv4-mapped IPv6 address counts as the IPv4 address within. `v6_only` is the socket's
    /// IPV6_V6ONLY: without it, listening on `::` is listening on `0.0.0.0` as well.
    pub fn decide(
        &self,
        program: &str,
        role: Role,
        address: SocketAddr,
        v6_only: bool,
    ) -> (Decision, Reason) {
        let speaks_v6 = !(self.addresses6.is_empty() && self.routes6.is_empty());
        let ip = match address.ip().to_canonical() {
            IpAddr::V6(ip) if ip.is_unspecified() && role == Role::Listen && !v6_only => {
                Ipv4Addr::UNSPECIFIED.into()
            }
            IpAddr::V6(_) if !speaks_v6 => return (Decision::Kernel, Reason::Ipv6),
            ip => ip,
        };
        let matching = self
            .rules
            .iter()
            .position(|rule| rule.matches(program, role, ip, address.port()));
        match (matching, role, ip) {
            (Some(i), _, _) => (self.rules[i].to, Reason::Rule(i + 1)),
            (None, Role::Listen, ip) => self.listening(ip),
            (None, Role::Connect, IpAddr::V4(ip)) => self.connecting(ip),
            (None, Role::Connect, IpAddr::V6(ip)) => self.connecting6(ip),
        }
    }

    fn listening(&self, ip: IpAddr) -> (Decision, Reason) {
        if ip.is_unspecified() {
            (Decision::Both, Reason::AnyAddress)
        } else if ip.is_loopback() {
            (self.loopback_carrier(), Reason::Loopback)
        } else if self.is_own(ip) {
            (Decision::Mtcp, Reason::OwnAddress)
        } else {
            (Decision::Kernel, Reason::OtherAddress)
        }
    }

    fn connecting6(&self, ip: Ipv6Addr) -> (Decision, Reason) {
        if ip.is_loopback() || ip.is_unspecified() {
            return (self.loopback_carrier(), Reason::Loopback);
        }
        if self.is_own(ip.into()) {
            return (self.loopback_carrier(), Reason::OwnAddress);
        }
        if ip.is_multicast() {
            return (Decision::Kernel, Reason::NotUnicast);
        }
        if ip.is_unicast_link_local() {
            return (Decision::Kernel, Reason::LinkLocal);
        }
        if let Some(net) = self.addresses6.iter().find(|net| net.contains(ip)) {
            return (Decision::Mtcp, Reason::Connected(net.network().into()));
        }
        let routes = self.routes6.iter().filter(|route| route.contains(ip));
        match routes.max_by_key(|route| route.prefix()) {
            Some(route) => (Decision::Mtcp, Reason::Route((*route).into())),
            None => (Decision::Kernel, Reason::NoRoute),
        }
    }

    fn connecting(&self, ip: Ipv4Addr) -> (Decision, Reason) {
        // Linux takes a connection to 0.0.0.0 as one to the loopback.
        if ip.is_loopback() || ip.is_unspecified() {
            return (self.loopback_carrier(), Reason::Loopback);
        }
        if self.is_own(ip.into()) {
            return (self.loopback_carrier(), Reason::OwnAddress);
        }
        let mut networks = self.addresses.iter();
        let is_directed_broadcast = networks.any(|net| net.broadcast() == Some(ip));
        if ip.is_multicast() || ip.is_broadcast() || is_directed_broadcast {
            return (Decision::Kernel, Reason::NotUnicast);
        }
        if let Some(net) = self.addresses.iter().find(|net| net.contains(ip)) {
            return (Decision::Mtcp, Reason::Connected(net.network().into()));
        }
        let routes = self.routes.iter().filter(|route| route.contains(ip));
        match routes.max_by_key(|route| route.prefix()) {
            Some(route) => (Decision::Mtcp, Reason::Route((*route).into())),
            None => (Decision::Kernel, Reason::NoRoute),
        }
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(v4) => self.addresses.iter().any(|net| net.address() == v4),
            IpAddr::V6(v6) => self.addresses6.iter().any(|net| net.address() == v6),
        }
    }

    fn loopback_carrier(&self) -> Decision {
        match self.loopback {
            Loopback::Kernel => Decision::Kernel,
            Loopback::Stack => Decision::Mtcp,
        }
    }
}

impl Rule {
    fn matches(&self, program: &str, role: Role, ip: IpAddr, port: u16) -> bool {
        let is_for_role = match self.role {
            Some(wanted) => wanted == role,
            None => self.to != Decision::Both || role == Role::Listen,
        };
        is_for_role
            && self.address.contains(ip)
            && self.ports.contains(port)
            && self.program.as_ref().is_none_or(|p| glob(p, program))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.program.as_deref().unwrap_or("*");
        let role = self.role.map_or("any".to_owned(), |r| r.to_string());
        let Rule {
            address, ports, to, ..
        } = self;
        write!(f, "{program} {role} {address} port {ports} to {to}")
    }
}

impl Ports {
    /// Every port.
    pub fn all() -> Ports {
        Ports(vec![(0, u16::MAX)])
    }

    /// Reads numbers and ranges with commas between, e.g. `80,8000-8100`.
    pub fn parse(text: &str) -> Option<Ports> {
        let range = |item: &str| {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let first = crate::value::number(first.trim(), 0..=u16::MAX)?;
            let last = crate::value::number(last.trim(), first..=u16::MAX)?;
            Some((first, last))
        };
        text.split(',').map(range).collect::<Option<_>>().map(Ports)
    }

    /// Whether `port` belongs to the set.
    pub fn contains(&self, port: u16) -> bool {
        let mut ranges = self.0.iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&port))
    }

    pub(crate) fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    pub(crate) fn from_ranges(ranges: Vec<(u16, u16)>) -> Ports {
        Ports(ranges)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl Role {
    pub(crate) fn parse(text: &str) -> Option<Role> {
        match text {
            "listen" => Some(Role::Listen),
            "connect" => Some(Role::Connect),
            _ => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Listen => "listen",
            Role::Connect => "connect",
        })
    }
}

impl Decision {
    pub(crate) fn parse(text: &str) -> Option<Decision> {
        match text {
            "mtcp" => Some(Decision::Mtcp),
            "kernel" => Some(Decision::Kernel),
            "both" => Some(Decision::Both),
            _ => None,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Decision::Mtcp => "mtcp",
            Decision::Kernel => "kernel",
            Decision::Both => "both",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Rule(number) => write!(f, "rule {number}"),
            Reason::OwnAddress => f.write_str("the stack's own address"),
            Reason::Connected(net) => write!(f, "connected network {net}"),
            Reason::Route(net) => write!(f, "route to {net}"),
            Reason::Loopback => f.write_str("loopback"),
            Reason::AnyAddress => f.write_str("any-address"),
            Reason::OtherAddress => f.write_str("not the stack's address"),
            Reason::NoRoute => f.write_str("no route of the stack"),
            Reason::NotUnicast => f.write_str("broadcast or multicast"),
            Reason::LinkLocal => f.write_str("link-local"),
            Reason::Ipv6 => f.write_str("IPv6"),
        }
    }
}

/// Whether `text` has the form of `pattern`, in which `*` stands for any characters.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
