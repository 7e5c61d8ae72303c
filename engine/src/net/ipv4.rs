//! How an IPv4 host treats addresses (RFC 1122 §3.2.1.3) and identifies its datagrams (RFC 6864).

use std::hash::Hasher;
use std::net::Ipv4Addr;

use siphasher::sip::SipHasher13;

use super::{InterfaceAddress, NetError, Prefix};
use crate::wire::{DropReason, Ipv4Packet, LinkDestination};
pub use crate::wire::{Ipv4Header, ipv4::HEADER_LEN};

/// Time to live of what we send, in hops (IANA "IP Option Numbers", IP time to live).
pub const DEFAULT_TTL: u8 = 64;

/// What a destination address means to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// One of our addresses.
    Ours,
    /// The limited broadcast address, or that of a connected network.
    Broadcast,
    /// A multicast group (224/4).
    Multicast,
    /// This host by its loopback network (127/8).
    Loopback,
    /// Another host.
    Elsewhere,
}

/// Our addresses, with the networks that they connect us to.
#[derive(Clone, Debug, Default)]
pub struct LocalAddresses {
    addresses: Vec<InterfaceAddress>,
    networks: Vec<Prefix>,
}

impl LocalAddresses {
    /// How many addresses there can be.
    pub const LIMIT: usize = 64;

    /// Adds an address; the first is the one preferred where several would do.
    ///
    /// # Errors
    /// [`NetError::NotAHostAddress`], [`NetError::DuplicateAddress`] or [`NetError::Full`].
    pub fn add(&mut self, new: InterfaceAddress) -> Result<(), NetError> {
        let address = new.address;
        if new.network.is_broadcast(address) || unusable_source(address).is_some() {
            return Err(NetError::NotAHostAddress(address.into()));
        }
        if self.is_ours(address) {
            return Err(NetError::DuplicateAddress(address));
        }
        if self.addresses.len() == Self::LIMIT {
            return Err(NetError::Full {
                table: "address",
                limit: Self::LIMIT,
            });
        }
        self.addresses.push(new);
        Ok(())
    }

    /// Makes all addresses of a network ours.
    ///
    /// # Errors
    /// [`NetError::Full`].
    pub fn add_network(&mut self, network: Prefix) -> Result<(), NetError> {
        if self.networks.len() == Self::LIMIT {
            return Err(NetError::Full {
                table: "local network",
                limit: Self::LIMIT,
            });
        }
        self.networks.push(network);
        Ok(())
    }

    /// All addresses, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &InterfaceAddress> {
        self.addresses.iter()
    }

    /// Whether the address is one of ours; 127/8 does not count.
    #[inline]
    pub fn is_ours(&self, address: Ipv4Addr) -> bool {
        self.addresses.iter().any(|ours| ours.address == address)
            || self.networks.iter().any(|ours| ours.contains(address))
    }

    /// The only address, if there is just one and no network besides.
    pub fn only(&self) -> Option<&InterfaceAddress> {
        let first = self.addresses.first();
        first.filter(|_| self.addresses.len() == 1 && self.networks.is_empty())
    }

    /// The network connected to us that the address is in: the longest, if several are.
    pub fn connected_network(&self, address: Ipv4Addr) -> Option<Prefix> {
        self.on_link_with(address).map(|ours| ours.network)
    }

    /// The address of ours to speak to a neighbour from: one in its network, else the first.
    pub fn source_for(&self, neighbor: Ipv4Addr) -> Option<Ipv4Addr> {
        self.on_link_with(neighbor)
            .or(self.addresses.first())
            .map(|ours| ours.address)
    }

    fn on_link_with(&self, address: Ipv4Addr) -> Option<&InterfaceAddress> {
        let mut best: Option<&InterfaceAddress> = None;
        for ours in &self.addresses {
            if ours.network.contains(address)
                && best.is_none_or(|best| ours.network.len() > best.network.len())
            {
                best = Some(ours);
            }
        }
        best
    }

    /// Says what a destination address means to us.
    pub fn classify(&self, dst: Ipv4Addr) -> Destination {
        if self.is_ours(dst) {
            Destination::Ours
        } else if dst.is_multicast() {
            Destination::Multicast
        } else if dst.is_loopback() {
            Destination::Loopback
        } else if self.is_broadcast(dst) {
            Destination::Broadcast
        } else {
            Destination::Elsewhere
        }
    }

    fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        address.is_broadcast()
            || self
                .addresses
                .iter()
                .any(|ours| ours.network.is_broadcast(address))
    }

    /// Checks that a datagram from outside can have come from its source.
    ///
    /// # Errors
    /// The `Ipv4Source…` reasons of [`DropReason`].
    pub fn check_source(&self, src: Ipv4Addr) -> Result<(), DropReason> {
        if let Some(reason) = unusable_source(src) {
            return Err(reason);
        }
        if self.is_ours(src) {
            return Err(DropReason::Ipv4SourceOurs);
        }
        if self.is_broadcast(src) {
            return Err(DropReason::Ipv4SourceBroadcast);
        }
        Ok(())
    }

    /// Decides whether a datagram from outside is for us: then it is [`Destination::Ours`] or
    /// [`Destination::Broadcast`].
    ///
    /// # Errors
    /// The `Ipv4Source…` and `Ipv4Destination…` reasons, [`DropReason::Ipv4NotForUs`] and
    /// [`DropReason::Ipv4UnicastInBroadcast`].
    pub fn accept(
        &self,
        packet: &Ipv4Packet<'_>,
        link: LinkDestination,
    ) -> Result<Destination, DropReason> {
        self.check_source(packet.src)?;
        match self.classify(packet.dst) {
            Destination::Ours if link == LinkDestination::Broadcast => {
                Err(DropReason::Ipv4UnicastInBroadcast)
            }
            Destination::Elsewhere => Err(DropReason::Ipv4NotForUs),
            Destination::Multicast => Err(DropReason::Ipv4DestinationMulticast),
            Destination::Loopback => Err(DropReason::Ipv4DestinationLoopback),
            accepted @ (Destination::Ours | Destination::Broadcast) => Ok(accepted),
        }
    }
}

/// Why no host on a network can have this address, whatever the network (RFC 1122 §3.2.1.3).
#[inline]
fn unusable_source(address: Ipv4Addr) -> Option<DropReason> {
    match address.octets() {
        [0, ..] => Some(DropReason::Ipv4SourceUnspecified),
        [127, ..] => Some(DropReason::Ipv4SourceLoopback),
        [255, 255, 255, 255] => Some(DropReason::Ipv4SourceBroadcast),
        [224..=255, ..] => Some(DropReason::Ipv4SourceMulticast),
        _ => None,
    }
}

/// Chooses the identification of datagrams that routers may fragment: a counter for each of 256
/// groups of peers, so that numbers neither repeat soon nor tell one peer how much we send to
/// others (RFC 7739 §5). Atomic datagrams (DF set) may carry anything (RFC 6864 §4.1): they get 0.
#[derive(Clone, Debug)]
pub struct Identifications {
    key: SipHasher13,
    next: [u16; 256],
}

impl Identifications {
    /// Counters that start at places which depend on the secret `key`.
    pub fn new(key: [u64; 2]) -> Identifications {
        let key = SipHasher13::new_with_keys(key[0], key[1]);
        let next = std::array::from_fn(|group| {
            let mut hasher = key;
            hasher.write_usize(group);
            hasher.finish() as u16
        });
        Identifications { key, next }
    }

    /// The identification of the first of `datagrams` successive ones to a peer; the others
    /// follow in steps of one.
    pub fn next(
        &mut self,
        src: Ipv4Addr,
        dst: Ipv4Addr,
        protocol: u8,
        df: bool,
        datagrams: u16,
    ) -> u16 {
        if df {
            return 0;
        }
        let mut hasher = self.key;
        hasher.write_u64(u64::from(src.to_bits()) << 32 | u64::from(dst.to_bits()));
        hasher.write_u8(protocol);
        let next = &mut self.next[usize::from(hasher.finish() as u8)];
        let id = *next;
        *next = id.wrapping_add(datagrams);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::protocol;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn local() -> LocalAddresses {
        let mut local = LocalAddresses::default();
        for (address, len) in [("10.77.0.2", 24), ("10.77.0.130", 25), ("192.0.2.1", 31)] {
            local
                .add(InterfaceAddress::new(ip(address), len).unwrap())
                .unwrap();
        }
        local
    }

    fn accept(src: &str, dst: &str, link: LinkDestination) -> Result<Destination, DropReason> {
        let mut bytes = [0; HEADER_LEN];
        Ipv4Header {
            src: ip(src),
            dst: ip(dst),
            protocol: protocol::TCP,
            ttl: DEFAULT_TTL,
            tos: 0,
            df: true,
            id: 0,
            payload_len: 0,
        }
        .emit(&mut bytes);
        local().accept(&Ipv4Packet::parse(&bytes).unwrap(), link)
    }

    #[test]
    fn datagrams_to_our_addresses_and_broadcasts_are_accepted() {
        for (dst, meaning) in [
            ("10.77.0.2", Destination::Ours),
            ("10.77.0.130", Destination::Ours),
            ("192.0.2.1", Destination::Ours),
        ] {
            assert_eq!(
                accept("10.77.0.1", dst, LinkDestination::Unicast),
                Ok(meaning),
                "{dst}"
            );
        }
        for dst in ["255.255.255.255", "10.77.0.255", "10.77.0.0", "10.77.0.128"] {
            assert_eq!(
                accept("10.77.0.1", dst, LinkDestination::Broadcast),
                Ok(Destination::Broadcast),
                "{dst}"
            );
        }
    }

    #[test]
    fn datagrams_to_others_are_dropped() {
        for (dst, reason) in [
            ("10.77.0.3", DropReason::Ipv4NotForUs),
            ("192.0.2.0", DropReason::Ipv4NotForUs),
            ("0.0.0.0", DropReason::Ipv4NotForUs),
            ("127.0.0.1", DropReason::Ipv4DestinationLoopback),
            ("224.0.0.1", DropReason::Ipv4DestinationMulticast),
        ] {
            assert_eq!(
                accept("10.77.0.1", dst, LinkDestination::Unicast),
                Err(reason),
                "{dst}"
            );
        }
    }

    #[test]
    fn martian_sources_are_dropped() {
        for (src, reason) in [
            ("0.0.0.0", DropReason::Ipv4SourceUnspecified),
            ("0.1.2.3", DropReason::Ipv4SourceUnspecified),
            ("127.0.0.1", DropReason::Ipv4SourceLoopback),
            ("224.0.0.5", DropReason::Ipv4SourceMulticast),
            ("239.255.255.255", DropReason::Ipv4SourceMulticast),
            ("240.0.0.1", DropReason::Ipv4SourceMulticast),
            ("255.255.255.255", DropReason::Ipv4SourceBroadcast),
            ("10.77.0.255", DropReason::Ipv4SourceBroadcast),
            ("10.77.0.0", DropReason::Ipv4SourceBroadcast),
            ("10.77.0.2", DropReason::Ipv4SourceOurs),
            ("10.77.0.130", DropReason::Ipv4SourceOurs),
        ] {
            assert_eq!(
                accept(src, "10.77.0.2", LinkDestination::Unicast),
                Err(reason),
                "{src}"
            );
        }
    }

    #[test]
    fn every_address_of_a_local_network_is_ours() {
        let mut local = LocalAddresses::default();
        let network = Prefix::new(Ipv4Addr::new(192, 168, 0, 0), 16).unwrap();
        local.add_network(network).unwrap();
        let inside = Ipv4Addr::new(192, 168, 7, 9);
        assert_eq!(local.classify(inside), Destination::Ours);
        assert_eq!(local.check_source(inside), Err(DropReason::Ipv4SourceOurs));
        let outside = Ipv4Addr::new(192, 169, 0, 1);
        assert_eq!(local.classify(outside), Destination::Elsewhere);
        for _ in 1..LocalAddresses::LIMIT {
            local.add_network(network).unwrap();
        }
        assert!(local.add_network(network).is_err());
    }

    #[test]
    fn both_addresses_of_a_point_to_point_link_are_hosts() {
        assert_eq!(
            accept("192.0.2.0", "192.0.2.1", LinkDestination::Unicast),
            Ok(Destination::Ours)
        );
    }

    #[test]
    fn a_unicast_datagram_in_a_link_broadcast_is_dropped() {
        assert_eq!(
            accept("10.77.0.1", "10.77.0.2", LinkDestination::Broadcast),
            Err(DropReason::Ipv4UnicastInBroadcast)
        );
    }

    #[test]
    fn addresses_that_no_host_can_have_are_refused() {
        for (address, len) in [
            ("0.0.0.0", 24),
            ("127.0.0.1", 8),
            ("224.0.0.1", 24),
            ("255.255.255.255", 32),
            ("10.0.0.255", 24),
            ("10.0.0.0", 24),
        ] {
            let mut local = LocalAddresses::default();
            assert_eq!(
                local.add(InterfaceAddress::new(ip(address), len).unwrap()),
                Err(NetError::NotAHostAddress(ip(address).into()))
            );
        }
    }

    #[test]
    fn an_address_cannot_be_added_twice_nor_beyond_the_limit() {
        let mut local = LocalAddresses::default();
        for i in 0..LocalAddresses::LIMIT {
            let address = Ipv4Addr::new(10, 0, 1, i as u8);
            local
                .add(InterfaceAddress::new(address, 32).unwrap())
                .unwrap();
        }
        let again = InterfaceAddress::new(ip("10.0.1.7"), 24).unwrap();
        assert_eq!(
            local.add(again),
            Err(NetError::DuplicateAddress(again.address))
        );
        let beyond = InterfaceAddress::new(ip("10.0.2.1"), 24).unwrap();
        assert!(matches!(local.add(beyond), Err(NetError::Full { .. })));
    }

    #[test]
    fn the_source_is_in_the_neighbours_network() {
        let local = local();
        assert_eq!(local.source_for(ip("10.77.0.9")), Some(ip("10.77.0.2")));
        assert_eq!(local.source_for(ip("10.77.0.200")), Some(ip("10.77.0.130")));
        assert_eq!(local.source_for(ip("8.8.8.8")), Some(ip("10.77.0.2")));
        assert_eq!(LocalAddresses::default().source_for(ip("8.8.8.8")), None);
    }

    #[test]
    fn identifications_of_fragmentable_datagrams_do_not_repeat_soon() {
        let mut ids = Identifications::new([1, 2]);
        let mut next = |count| ids.next(ip("10.77.0.2"), ip("10.77.0.1"), 6, false, count);
        let first = next(1);
        assert_eq!(next(45), first.wrapping_add(1));
        assert_eq!(next(1), first.wrapping_add(46));
    }

    #[test]
    fn identifications_begin_at_a_secret_place() {
        let first =
            |key| Identifications::new(key).next(ip("10.77.0.2"), ip("10.77.0.1"), 6, false, 1);
        assert_eq!(first([1, 2]), first([1, 2]));
        assert_ne!(first([1, 2]), first([3, 4]));
    }

    #[test]
    fn an_atomic_datagram_uses_up_no_identification() {
        let mut ids = Identifications::new([1, 2]);
        let (src, dst) = (ip("10.77.0.2"), ip("10.77.0.1"));
        let before = ids.next(src, dst, 6, false, 1);
        assert_eq!(ids.next(src, dst, 6, true, 9), 0);
        assert_eq!(ids.next(src, dst, 6, false, 1), before.wrapping_add(1));
    }
}
