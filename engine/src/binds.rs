//! Which local addresses sockets are bound to, for all workers together.
//!
//! The rules of conflict are those of Linux's `inet_csk_get_port` (`ip(7)`, `socket(7)`): two
//! sockets may share a port if their addresses differ and neither is the any-address, or if both
//! have `SO_REUSEADDR` and the first does not listen, or if both have `SO_REUSEPORT` and one user.

use std::collections::HashMap;
use std::net::IpAddr;

/// Ports that are chosen for a socket which asks for none (`ip_local_port_range`).
pub const EPHEMERAL: std::ops::RangeInclusive<u16> = 32768..=60999;

/// Longest step from one such port to the next.
const EPHEMERAL_STEP: u16 = 8;

/// One socket's claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bind {
    /// The socket.
    pub socket: u32,
    /// Its address; unspecified for any. The any-address of IPv6 means IPv4, too, unless
    /// `only_v6`.
    pub address: IpAddr,
    /// `IPV6_V6ONLY` at the time of the bind.
    pub only_v6: bool,
    /// `SO_REUSEADDR`.
    pub reuse_address: bool,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// The user whose it is.
    pub uid: u32,
    /// Whether it listens.
    pub listens: bool,
}

impl Bind {
    /// Whether it is for any address of the other's family.
    fn covers(&self, other: &Bind) -> bool {
        let family = self.address.is_ipv4() == other.address.is_ipv4();
        self.address.is_unspecified() && (family || self.address.is_ipv6() && !self.only_v6)
    }

    /// Whether it may not have the port that the other has.
    pub fn conflicts(&self, other: &Bind) -> bool {
        let same_address =
            self.address == other.address || self.covers(other) || other.covers(self);
        let address_shared = self.reuse_address && other.reuse_address && !other.listens;
        let port_shared = self.reuse_port && other.reuse_port && self.uid == other.uid;
        same_address && !address_shared && !port_shared
    }
}

/// All claims, by port.
#[derive(Default)]
pub struct Binds {
    ports: HashMap<u16, Vec<Bind>>,
    by_socket: HashMap<u32, u16>,
    /// Where the search for a free port last began, from the first of them.
    next_ephemeral: Option<u16>,
}

impl Binds {
    /// All sockets that have a claim.
    pub fn sockets(&self) -> impl Iterator<Item = u32> {
        self.by_socket.keys().copied()
    }

    /// Claims `port` (0: a free one, if possible none of those `in_use`) and returns it. `None`: the
    /// address is in use, or no port is free, or the socket has a claim already.
    pub fn bind(
        &mut self,
        port: u16,
        bind: Bind,
        seed: u16,
        in_use: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        if self.by_socket.contains_key(&bind.socket) {
            return None;
        }
        let port = match port {
            0 => self.free_port(seed, in_use)?,
            port if self.admits(port, &bind) => port,
            _ => return None,
        };
        self.ports.entry(port).or_default().push(bind);
        self.by_socket.insert(bind.socket, port);
        Some(port)
    }

    /// Takes over what sockets say now of `SO_REUSEADDR` and `SO_REUSEPORT`: as on Linux, what counts
    /// is the option when the next socket wants the port.
    pub fn refresh(&mut self, port: u16, options: impl Fn(u32) -> Option<(bool, bool)>) {
        for bind in self.ports.get_mut(&port).into_iter().flatten() {
            if let Some(now) = options(bind.socket) {
                (bind.reuse_address, bind.reuse_port) = now;
            }
        }
    }

    fn admits(&self, port: u16, bind: &Bind) -> bool {
        self.ports
            .get(&port)
            .is_none_or(|others| !others.iter().any(|other| bind.conflicts(other)))
    }

    fn free_port(&mut self, seed: u16, in_use: impl Fn(u16) -> bool) -> Option<u16> {
        let span = EPHEMERAL.end() - EPHEMERAL.start() + 1;
        // RFC 6056 3.3.5: begins anywhere and goes on by small steps, so that thousands of ports are
        // given out before one is that a connection in TIME-WAIT may have had.
        let step = match self.next_ephemeral {
            None => seed % span,
            Some(_) => 1 + seed % EPHEMERAL_STEP,
        };
        let first = (self.next_ephemeral.unwrap_or(0) + step) % span;
        self.next_ephemeral = Some(first);
        let mut unclaimed = (0..span)
            .map(|i| EPHEMERAL.start() + (first + i) % span)
            .filter(|port| !self.ports.contains_key(port));
        let used = unclaimed.clone().next();
        unclaimed.find(|port| !in_use(*port)).or(used)
    }

    /// Marks a bound socket as listening; false if that conflicts with another (then it is not
    /// marked).
    pub fn listen(&mut self, socket: u32) -> bool {
        let Some(binds) = self
            .by_socket
            .get(&socket)
            .and_then(|port| self.ports.get_mut(port))
        else {
            return false;
        };
        let Some(i) = binds.iter().position(|bind| bind.socket == socket) else {
            return false;
        };
        let mine = Bind {
            listens: true,
            ..binds[i]
        };
        let conflict = binds
            .iter()
            .any(|other| other.socket != socket && mine.conflicts(other));
        if !conflict {
            binds[i] = mine;
        }
        !conflict
    }

    /// Drops a socket's claim, if it has one.
    pub fn release(&mut self, socket: u32) {
        if self.by_socket.is_empty() {
            return;
        }
        if let Some(port) = self.by_socket.remove(&socket)
            && let Some(binds) = self.ports.get_mut(&port)
        {
            binds.retain(|bind| bind.socket != socket);
            if binds.is_empty() {
                self.ports.remove(&port);
            }
        }
    }

    /// What a socket is bound to.
    pub fn claim(&self, socket: u32) -> Option<(IpAddr, u16)> {
        let port = *self.by_socket.get(&socket)?;
        let bind = self.ports.get(&port)?.iter().find(|b| b.socket == socket)?;
        Some((bind.address, port))
    }

    /// A socket that claims the port; of several, one that does not listen.
    pub fn claimer(&self, port: u16) -> Option<u32> {
        let binds = self.ports.get(&port)?;
        let bind = binds.iter().find(|b| !b.listens).or(binds.first())?;
        Some(bind.socket)
    }

    /// Whether anybody claims the port: then it is not chosen for a connection.
    pub fn is_claimed(&self, port: u16) -> bool {
        self.ports.contains_key(&port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(socket: u32, address: [u8; 4]) -> Bind {
        Bind {
            socket,
            address: address.into(),
            only_v6: false,
            reuse_address: false,
            reuse_port: false,
            uid: 0,
            listens: false,
        }
    }

    fn unused(_: u16) -> bool {
        false
    }

    #[test]
    fn the_same_port_on_different_addresses_is_no_conflict() {
        let mut binds = Binds::default();
        assert_eq!(binds.bind(80, bind(1, [10, 0, 0, 1]), 0, unused), Some(80));
        assert_eq!(binds.bind(80, bind(2, [10, 0, 0, 2]), 0, unused), Some(80));
        assert_eq!(binds.bind(80, bind(3, [10, 0, 0, 1]), 0, unused), None);
        assert_eq!(binds.bind(80, bind(3, [0, 0, 0, 0]), 0, unused), None);
        binds.release(1);
        binds.release(2);
        assert_eq!(binds.bind(80, bind(3, [0, 0, 0, 0]), 0, unused), Some(80));
    }

    #[test]
    fn the_any_address_of_ipv6_takes_ipv4_too_unless_v6only() {
        let mut binds = Binds::default();
        let v6 = |socket, address: &str, only_v6| Bind {
            address: address.parse().unwrap(),
            only_v6,
            ..bind(socket, [0; 4])
        };
        assert!(binds.bind(80, v6(1, "::", false), 0, unused).is_some());
        assert!(binds.bind(80, bind(2, [0; 4]), 0, unused).is_none());
        assert!(binds.bind(80, bind(2, [10, 0, 0, 1]), 0, unused).is_none());
        assert!(binds.bind(80, v6(2, "fd77::2", false), 0, unused).is_none());
        binds.release(1);
        assert!(binds.bind(80, v6(1, "::", true), 0, unused).is_some());
        assert!(binds.bind(80, bind(2, [0; 4]), 0, unused).is_some());
        assert!(binds.bind(80, v6(3, "::", true), 0, unused).is_none());
        assert!(binds.bind(81, bind(4, [0; 4]), 0, unused).is_some());
        assert!(binds.bind(81, v6(5, "fd77::2", false), 0, unused).is_some());
        assert!(binds.bind(81, v6(6, "::", false), 0, unused).is_none());
    }

    #[test]
    fn reuseaddr_lets_share_until_one_listens() {
        let mut binds = Binds::default();
        let shared = |socket| Bind {
            reuse_address: true,
            ..bind(socket, [0; 4])
        };
        assert!(binds.bind(80, shared(1), 0, unused).is_some());
        assert!(binds.bind(80, shared(2), 0, unused).is_some());
        assert!(binds.listen(1));
        assert!(!binds.listen(2));
        assert!(binds.bind(80, shared(3), 0, unused).is_none());
        binds.release(1);
        assert!(binds.listen(2));
    }

    #[test]
    fn an_option_counts_as_it_is_when_the_next_wants_the_port() {
        let mut binds = Binds::default();
        assert!(binds.bind(80, bind(1, [0; 4]), 0, unused).is_some());
        let second = Bind {
            reuse_address: true,
            ..bind(2, [0; 4])
        };
        assert!(binds.bind(80, second, 0, unused).is_none());
        binds.refresh(80, |socket| Some((socket == 1, false)));
        assert!(binds.bind(80, second, 0, unused).is_some());
    }

    #[test]
    fn a_chosen_port_is_not_chosen_again_for_long() {
        let mut binds = Binds::default();
        let mut seen = std::collections::HashSet::new();
        for seed in 0..3000u16 {
            let port = binds.bind(0, bind(1, [0; 4]), seed.wrapping_mul(40_503), unused);
            assert!(seen.insert(port.unwrap()), "after {seed}");
            binds.release(1);
        }
    }

    #[test]
    fn a_socket_has_one_claim_at_most() {
        let mut binds = Binds::default();
        assert_eq!(binds.claim(1), None);
        assert_eq!(binds.bind(80, bind(1, [10, 0, 0, 1]), 0, unused), Some(80));
        assert_eq!(binds.bind(81, bind(1, [10, 0, 0, 1]), 0, unused), None);
        assert_eq!(binds.claim(1), Some((IpAddr::from([10, 0, 0, 1]), 80)));
        binds.release(1);
        assert!(!binds.is_claimed(80) && !binds.is_claimed(81));
    }

    #[test]
    fn reuseport_lets_listeners_share() {
        let mut binds = Binds::default();
        let shared = |socket| Bind {
            reuse_port: true,
            ..bind(socket, [0; 4])
        };
        for socket in 1..5 {
            assert!(binds.bind(80, shared(socket), 0, unused).is_some());
            assert!(binds.listen(socket));
        }
        assert!(binds.bind(80, bind(9, [0; 4]), 0, unused).is_none());
        let strange = Bind {
            uid: 1,
            ..shared(9)
        };
        assert!(binds.bind(80, strange, 0, unused).is_none());
    }

    #[test]
    fn a_port_that_a_connection_has_is_chosen_last() {
        let mut binds = Binds::default();
        let other = |port| port != 40_000;
        let chosen = binds.bind(0, bind(1, [0; 4]), 7, other);
        assert_eq!(chosen, Some(40_000));
        let second = binds.bind(0, bind(2, [0; 4]), 7, other);
        assert!(second.is_some_and(|port| port != 40_000));
    }

    #[test]
    fn chosen_ports_are_free_and_run_out() {
        let mut binds = Binds::default();
        let mut seen = std::collections::HashSet::new();
        for socket in 0..28_232 {
            let port = binds.bind(0, bind(socket, [0; 4]), 77, unused).unwrap();
            assert!(EPHEMERAL.contains(&port) && seen.insert(port));
        }
        assert_eq!(binds.bind(0, bind(99_999, [0; 4]), 77, unused), None);
    }
}
