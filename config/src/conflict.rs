//! What of the settings does not go together.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::choice::HostAddress;
use crate::net6::{Address6, Ipv6Net, is_host};
use crate::settings::{MIN_MTU6, Settings};
use crate::value;

/// Most workers of one stack, as the segment has room for.
const MAX_WORKERS: usize = 16;

impl Settings {
    fn conflict6(&self) -> Option<(&'static str, String)> {
        if matches!(self.address6, Address6::Is(_)) && !self.speaks_ipv6() {
            return Some(("address6", self.no_ipv6()));
        }
        let own = self.fixed_address6();
        if let Some(own) = own.filter(|own| !is_host(own.address())) {
            let message = format!("{own} is not the address of a host beyond its link");
            return Some(("address6", message));
        }
        if let Some(own) = own.filter(|own| own.is_routers_anycast()) {
            let message = format!("{own} is the address of all routers of its network");
            return Some(("address6", message));
        }
        let tables = [
            ("route", self.routes6.is_empty()),
            ("neighbor", self.neighbors6.is_empty()),
        ];
        let gateway = ("gateway6", self.gateway6.is_none());
        let mut used = tables.into_iter().chain([gateway]);
        if let Some((key, _)) = used.find(|(_, unused)| !unused && !self.speaks_ipv6()) {
            return Some((key, self.no_ipv6()));
        }
        let gateway = self.gateway6.map(|router| ("gateway6", router));
        let routers = self.routes6.iter().filter_map(|route| route.via);
        let routers = routers.map(|router| ("route", router));
        gateway
            .into_iter()
            .chain(routers)
            .find_map(|(key, router)| Some((key, self.unreachable_router6(router)?)))
    }

    /// Why there is no IPv6.
    fn no_ipv6(&self) -> String {
        match self.address6 {
            Address6::Off => "the stack has no IPv6 (address6 is off)".to_owned(),
            _ => format!(
                "mtu is {}, and IPv6 needs packets of {MIN_MTU6} bytes",
                self.mtu
            ),
        }
    }

    /// What is wrong with the address of an IPv6 router.
    fn unreachable_router6(&self, router: Ipv6Addr) -> Option<String> {
        let own = self.fixed_address6();
        let on_link = |own: Ipv6Net| own.contains(router) && own.address() != router;
        if router.is_unicast_link_local() || own.is_some_and(on_link) {
            return None;
        }
        Some(match own {
            Some(own) => format!("{router} is not another host of the stack's network {own}"),
            None => format!("{router} is not a link-local address, and no other is known"),
        })
    }

    /// The first thing that does not go together: the key at fault and what is wrong.
    pub(crate) fn conflict(&self) -> Option<(&'static str, String)> {
        let own = self.address;
        let special = |a: Ipv4Addr| {
            a.is_loopback() || a.is_multicast() || a.octets()[0] == 0 || a.octets()[0] >= 240
        };
        let off_link = |a: Ipv4Addr| !own.is_host(a) || a == own.address();

        if special(own.address()) || !own.is_host(own.address()) {
            return Some(("address", format!("{own} is not the address of a host")));
        }
        if let HostAddress::Is(host) = self.host_address
            && off_link(host.address())
        {
            let message = format!("{host} is not another host of the stack's network {own}");
            return Some(("host_address", message));
        }
        if let Some(gateway) = self.gateway.filter(|g| off_link(*g)) {
            let message = format!("{gateway} is not another host of the stack's network {own}");
            return Some(("gateway", message));
        }
        if let Some(route) = self.routes.iter().find(|r| r.via.is_some_and(off_link)) {
            let message =
                format!("the router of {route} is not another host of the stack's network {own}");
            return Some(("route", message));
        }
        if let Some(message) = self.conflict6() {
            return Some(message);
        }
        if self.workers() > MAX_WORKERS {
            let message = format!(
                "{} cores are more than {MAX_WORKERS}, the most that can each have a worker",
                self.workers()
            );
            return Some(("engine_cores", message));
        }
        if self.queue_count() < self.workers() {
            let message = format!(
                "{} for {}: each worker needs one of its own",
                count(self.queue_count(), "queue"),
                count(self.workers(), "worker")
            );
            return Some(("queues", message));
        }
        let buffers = [
            (
                "tcp.send_buffer",
                self.tcp.send_buffer,
                self.send_buffer_max(),
            ),
            (
                "tcp.recv_buffer",
                self.tcp.recv_buffer,
                self.recv_buffer_max(),
            ),
        ];
        buffers
            .iter()
            .find(|(_, n, max)| n > max)
            .map(|(key, n, max)| {
                let (n, max) = (value::size_text(*n as u64), value::size_text(*max as u64));
                (*key, format!("{n} is more than {key}_max, which is {max}"))
            })
    }
}

/// A number of things in words.
fn count(n: usize, thing: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {thing}{plural}")
}
