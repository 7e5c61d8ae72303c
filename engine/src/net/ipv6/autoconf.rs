//! Listening to routers: the link's parameters (RFC 4861 §6.3) and addresses from their prefixes
//! (RFC 4862 §5.5).

use std::net::Ipv6Addr;

use super::{Action, Host, Lifetime, Outgoing, Prefix6};
use crate::wire::ipv6::{ALL_ROUTERS, MIN_MTU, multicast_mac};
use crate::wire::ndp::{self, PrefixInformation, RouterAdvertisement};
use crate::wire::{DropReason, MacAddr};

/// RTR_SOLICITATION_INTERVAL and MAX_RTR_SOLICITATIONS (RFC 4861 §10).
const INTERVAL: u64 = 4_000_000;
const MAX_SOLICITATIONS: u8 = 3;

/// IDGEN_RETRIES and IDGEN_DELAY (RFC 7217 §6).
const IDENTIFIERS: u8 = 3;
const IDENTIFIER_DELAY: u64 = 1_000_000;

/// A prefix's addresses are not shortened below this by advertisements, which anybody can forge
/// (RFC 4862 §5.5.3 (e)).
const TWO_HOURS: u64 = 7_200_000_000;

/// Bounds on ReachableTime (RFC 4861 §6.3.4 asks for less than an hour) and RetransTimer.
const REACHABLE: std::ops::RangeInclusive<u64> = 1_000_000..=3_600_000_000;
const RETRANSMIT: std::ops::RangeInclusive<u64> = 100_000..=60_000_000;

/// How long after the start the first probe is sent, so that hosts which start together do not
/// probe together (RFC 4862 §5.4.2): up to a second, by the station's address.
pub fn jitter(mac: MacAddr, probes: u8) -> u64 {
    let [.., a, b] = mac.0;
    match probes {
        0 => 0,
        _ => (u64::from(u16::from_be_bytes([a, b])) * 1_000_000) >> 16,
    }
}

/// Asks routers to advertise themselves, until one has.
#[derive(Debug)]
pub struct Solicitor {
    listens: bool,
    sent: u8,
    next: u64,
}

impl Solicitor {
    pub fn new(listens: bool, now: u64) -> Solicitor {
        Solicitor {
            listens,
            sent: 0,
            next: now,
        }
    }

    /// Whether the first question is yet to be asked, or may still be answered.
    pub fn awaits_first(&self, now: u64) -> bool {
        self.listens && (self.sent == 0 || self.sent == 1 && now < self.next)
    }

    /// A number that changes with what [`awaits_first`](Self::awaits_first) says.
    pub fn version(&self) -> u64 {
        self.sent.into()
    }

    pub fn next_deadline(&self) -> Option<u64> {
        (self.listens && self.sent < MAX_SOLICITATIONS).then_some(self.next)
    }
}

/// The time `seconds` from now; all ones are forever (RFC 4861 §4.6.2).
fn after(now: u64, seconds: u32) -> u64 {
    match seconds {
        u32::MAX => u64::MAX,
        _ => now.saturating_add(u64::from(seconds) * 1_000_000),
    }
}

impl<T> Host<T> {
    /// The router solicitation that is due, if one is (RFC 4861 §6.3.7).
    pub(super) fn solicit_router(&mut self, now: u64) -> Option<Outgoing> {
        if self.solicitor.next_deadline().is_none_or(|due| due > now) {
            return None;
        }
        self.solicitor.sent += 1;
        self.solicitor.next = now + INTERVAL;
        let (src, mac) = match self.addresses.link_local() {
            Some(src) => (src, Some(self.mac)),
            None => (Ipv6Addr::UNSPECIFIED, None),
        };
        let packet = ndp::router_solicitation(src, mac);
        self.speaks.then(|| (packet, multicast_mac(ALL_ROUTERS)))
    }

    /// RFC 4861 §6.3.4.
    pub(super) fn on_router(
        &mut self,
        now: u64,
        src: Ipv6Addr,
        router: &RouterAdvertisement,
    ) -> Result<Action<T>, DropReason> {
        if !self.solicitor.listens {
            return Err(DropReason::NdpIgnored);
        }
        self.solicitor.sent = MAX_SOLICITATIONS;
        let until = after(now, router.lifetime.into());
        self.routes.advertise_router(now, src, until);
        let config = &mut self.neighbors.config;
        let set = |to: &mut u64, millis: u32, bounds: std::ops::RangeInclusive<u64>| {
            let micros = u64::from(millis) * 1000;
            if millis != 0 {
                *to = micros.clamp(*bounds.start(), *bounds.end());
            }
        };
        set(&mut config.reachable, router.reachable, REACHABLE);
        set(&mut config.retransmit, router.retransmit, RETRANSMIT);
        if let Some(mtu) = router.mtu.and_then(|mtu| u16::try_from(mtu).ok())
            && (MIN_MTU..=self.device_mtu).contains(&mtu)
        {
            self.mtu = mtu;
        }
        for prefix in &router.prefixes {
            self.on_prefix(now, prefix);
        }
        let released = match router.mac {
            Some(mac) if mac != self.mac => self.neighbors.heard(src, mac),
            _ => Vec::new(),
        };
        Ok(Action::released(released))
    }

    fn on_prefix(&mut self, now: u64, said: &PrefixInformation) {
        let Some(prefix) = Prefix6::new(said.prefix, said.len) else {
            return;
        };
        let network = prefix.network();
        if network.is_unicast_link_local() || network.is_multicast() {
            return;
        }
        if said.on_link {
            let until = after(now, said.valid);
            self.routes.advertise_prefix(now, prefix, until);
        }
        // Identifiers have 64 bits here (RFC 2464 §4), so only such prefixes make addresses.
        if said.autonomous && said.len == 64 && said.preferred <= said.valid {
            self.make_address(now, prefix, said);
        }
    }

    /// The address that stands for a network: the one that was made for it, or the first to be tried.
    fn made_address(&self, prefix: Prefix6) -> Ipv6Addr {
        let mut made = (0..=IDENTIFIERS).map(|n| prefix.with_identifier_after(self.mac, n));
        let known = made.find(|address| self.addresses.network_of(*address).is_some());
        known.unwrap_or(prefix.with_identifier_of(self.mac))
    }

    /// An address that was made here is another station's: goes on with the next one, if one is left
    /// to be tried (RFC 7217 §6). Whether one is.
    pub(super) fn try_next_identifier(&mut self, now: u64, address: Ipv6Addr) -> bool {
        let Some(prefix) = self.addresses.network_of(address) else {
            return false;
        };
        let made = |n: u8| prefix.with_identifier_after(self.mac, n);
        let Some(n) = (0..IDENTIFIERS).find(|n| made(*n) == address) else {
            return false;
        };
        let start = now.saturating_add(IDENTIFIER_DELAY);
        self.addresses.replace(address, made(n + 1), start);
        true
    }

    /// RFC 4862 §5.5.3 (d) and (e).
    fn make_address(&mut self, now: u64, prefix: Prefix6, said: &PrefixInformation) {
        let address = self.made_address(prefix);
        let mut valid = after(now, said.valid);
        if let Some(known) = self.addresses.valid_until(address) {
            let shortest = known.min(now.saturating_add(TWO_HOURS));
            valid = valid.max(shortest);
        } else if said.valid == 0 {
            return;
        }
        let lifetime = Lifetime {
            preferred: after(now, said.preferred).min(valid),
            valid,
        };
        self.addresses.add(address, prefix, lifetime, now);
    }
}
