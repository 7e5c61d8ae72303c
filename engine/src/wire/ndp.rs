//! Messages of neighbour discovery (RFC 4861 §4), and the checks that each must pass.

use std::net::Ipv6Addr;

use super::icmpv6::{self, kind};
use super::{DropReason, IcmpMessage, MacAddr, ethernet, ipv6};

/// Hop limit of every message: one that came through a router has less (RFC 4861 §11.2).
pub const HOP_LIMIT: u8 = 255;

/// Prefixes read from one router advertisement; the rest is not looked at.
pub const MAX_PREFIXES: usize = 16;

const SOURCE_MAC: u8 = 1;
const TARGET_MAC: u8 = 2;
const PREFIX: u8 = 3;
const MTU: u8 = 5;

const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// A message that passed the checks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NdpMessage {
    /// Who has `target`?
    Solicitation {
        /// The address in question.
        target: Ipv6Addr,
        /// The asker's station; `None` from who has no address yet.
        mac: Option<MacAddr>,
    },
    /// I have `target`.
    Advertisement {
        /// The address in question.
        target: Ipv6Addr,
        /// Its station.
        mac: Option<MacAddr>,
        /// The sender is a router.
        router: bool,
        /// It answers a solicitation.
        solicited: bool,
        /// It is to replace what is known.
        overrides: bool,
    },
    /// A router and the link's parameters.
    Router(RouterAdvertisement),
    /// A better first hop.
    Redirect,
}

/// A router advertisement (RFC 4861 §4.2).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RouterAdvertisement {
    /// Seconds for which it is a default router; 0: it is none.
    pub lifetime: u16,
    /// Milliseconds that a neighbour is reachable after a confirmation; 0: not said.
    pub reachable: u32,
    /// Milliseconds between solicitations; 0: not said.
    pub retransmit: u32,
    /// The router's station.
    pub mac: Option<MacAddr>,
    /// The link's MTU.
    pub mtu: Option<u32>,
    /// Prefixes, at most [`MAX_PREFIXES`].
    pub prefixes: Vec<PrefixInformation>,
}

/// A prefix in a router advertisement (RFC 4861 §4.6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrefixInformation {
    /// The prefix; bits behind its length mean nothing.
    pub prefix: Ipv6Addr,
    /// Its length, at most 128 bits.
    pub len: u8,
    /// Its addresses are on the link.
    pub on_link: bool,
    /// Addresses may be made from it (RFC 4862).
    pub autonomous: bool,
    /// Seconds for which it is on the link and its addresses are valid.
    pub valid: u32,
    /// Seconds for which its addresses are preferred.
    pub preferred: u32,
}

impl NdpMessage {
    /// Reads an ICMPv6 message of type 134 to 137 from a packet's addresses and hop limit.
    ///
    /// # Errors
    /// [`DropReason::NdpInvalid`].
    pub fn parse(
        (src, dst): (Ipv6Addr, Ipv6Addr),
        hop_limit: u8,
        message: &IcmpMessage<'_>,
    ) -> Result<NdpMessage, DropReason> {
        if hop_limit != HOP_LIMIT || message.code != 0 {
            return Err(DropReason::NdpInvalid);
        }
        let read = match message.kind {
            kind::NEIGHBOR_SOLICITATION => solicitation_of(src, dst, message.data),
            kind::NEIGHBOR_ADVERTISEMENT => advertisement_of(dst, message),
            kind::ROUTER_ADVERTISEMENT => router_of(src, message),
            kind::REDIRECT => Some(NdpMessage::Redirect),
            _ => None,
        };
        read.ok_or(DropReason::NdpInvalid)
    }
}

fn target_of(data: &[u8]) -> Option<(Ipv6Addr, &[u8])> {
    let (target, options) = data.split_first_chunk::<16>()?;
    let target = Ipv6Addr::from(*target);
    (!target.is_multicast()).then_some((target, options))
}

fn solicitation_of(src: Ipv6Addr, dst: Ipv6Addr, data: &[u8]) -> Option<NdpMessage> {
    let (target, options) = target_of(data)?;
    let mac = mac_among(options, SOURCE_MAC)?;
    // RFC 4861 §7.1.1: from nobody it may only go to the group, and must not name a station.
    let from_nobody = src.is_unspecified();
    if from_nobody && (mac.is_some() || dst != ipv6::solicited_node(target)) {
        return None;
    }
    Some(NdpMessage::Solicitation { target, mac })
}

fn advertisement_of(dst: Ipv6Addr, message: &IcmpMessage<'_>) -> Option<NdpMessage> {
    let (target, options) = target_of(message.data)?;
    let flags = message.rest[0];
    let solicited = flags & SOLICITED != 0;
    // RFC 4861 §7.1.2: what answers somebody goes to it alone.
    if solicited && dst.is_multicast() {
        return None;
    }
    Some(NdpMessage::Advertisement {
        target,
        mac: mac_among(options, TARGET_MAC)?,
        router: flags & ROUTER != 0,
        solicited,
        overrides: flags & OVERRIDE != 0,
    })
}

fn router_of(src: Ipv6Addr, message: &IcmpMessage<'_>) -> Option<NdpMessage> {
    if !src.is_unicast_link_local() {
        return None;
    }
    let (times, options) = message.data.split_first_chunk::<8>()?;
    let mut router = RouterAdvertisement {
        lifetime: u16::from_be_bytes([message.rest[2], message.rest[3]]),
        reachable: be32(times, 0),
        retransmit: be32(times, 4),
        mac: mac_among(options, SOURCE_MAC)?,
        ..RouterAdvertisement::default()
    };
    for option in Options(options) {
        let (kind, data) = option?;
        match kind {
            MTU if data.len() == 6 => router.mtu = Some(be32(data, 2)),
            PREFIX if router.prefixes.len() < MAX_PREFIXES => {
                router.prefixes.extend(prefix_of(data));
            }
            _ => {}
        }
    }
    Some(NdpMessage::Router(router))
}

/// The prefix of an option, unless it is of another form than RFC 4861's.
fn prefix_of(data: &[u8]) -> Option<PrefixInformation> {
    let data: &[u8; 30] = data.try_into().ok()?;
    let prefix: [u8; 16] = data[14..].try_into().ok()?;
    (data[0] <= 128).then_some(PrefixInformation {
        prefix: prefix.into(),
        len: data[0],
        on_link: data[1] & 0x80 != 0,
        autonomous: data[1] & 0x40 != 0,
        valid: be32(data, 2),
        preferred: be32(data, 6),
    })
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The station that an option of this kind names. `None` if any option has a bad length, or the
/// address is none that a station can have.
fn mac_among(options: &[u8], wanted: u8) -> Option<Option<MacAddr>> {
    let mut found = None;
    for option in Options(options) {
        let (kind, data) = option?;
        if kind == wanted && found.is_none() {
            let mac = MacAddr(*data.first_chunk()?);
            if !ethernet::is_unicast(mac) {
                return None;
            }
            found = Some(mac);
        }
    }
    Some(found)
}

/// The options of a message: kind, and what follows kind and length. `None` is one with a bad
/// length, which makes the whole message invalid, and is the last.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Option<(u8, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        let first = *bytes.first()?;
        let option = bytes.get(1).and_then(|units| {
            let len = 8 * usize::from(*units);
            (len > 0).then(|| bytes.split_at_checked(len))?
        });
        Some(option.map(|(option, rest)| {
            self.0 = rest;
            (first, &option[2..])
        }))
    }
}

fn mac_option(kind: u8, mac: MacAddr) -> [u8; 8] {
    let [a, b, c, d, e, f] = mac.0;
    [kind, 1, a, b, c, d, e, f]
}

/// A packet that asks who has `target`; `mac` is our station, `None` while `src` is unspecified.
pub fn solicitation(
    (src, dst): (Ipv6Addr, Ipv6Addr),
    target: Ipv6Addr,
    mac: Option<MacAddr>,
) -> Vec<u8> {
    let mut data = target.octets().to_vec();
    data.extend(mac.iter().flat_map(|mac| mac_option(SOURCE_MAC, *mac)));
    let message = IcmpMessage {
        kind: kind::NEIGHBOR_SOLICITATION,
        code: 0,
        rest: [0; 4],
        data: &data,
    };
    icmpv6::packet(src, dst, HOP_LIMIT, &message)
}

/// A packet that says that our station `mac` has `target`.
pub fn advertisement(
    (src, dst): (Ipv6Addr, Ipv6Addr),
    target: Ipv6Addr,
    mac: MacAddr,
    solicited: bool,
) -> Vec<u8> {
    let mut data = target.octets().to_vec();
    data.extend(mac_option(TARGET_MAC, mac));
    let solicited = if solicited { SOLICITED } else { 0 };
    let message = IcmpMessage {
        kind: kind::NEIGHBOR_ADVERTISEMENT,
        code: 0,
        rest: [OVERRIDE | solicited, 0, 0, 0],
        data: &data,
    };
    icmpv6::packet(src, dst, HOP_LIMIT, &message)
}

/// A packet that asks routers to advertise themselves.
pub fn router_solicitation(src: Ipv6Addr, mac: Option<MacAddr>) -> Vec<u8> {
    let data: Vec<u8> = mac
        .iter()
        .flat_map(|mac| mac_option(SOURCE_MAC, *mac))
        .collect();
    let message = IcmpMessage {
        kind: kind::ROUTER_SOLICITATION,
        code: 0,
        rest: [0; 4],
        data: &data,
    };
    icmpv6::packet(src, ipv6::ALL_ROUTERS, HOP_LIMIT, &message)
}

#[cfg(test)]
#[path = "ndp_tests.rs"]
mod tests;
