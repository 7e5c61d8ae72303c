//! IPv6 extension headers (RFC 8200 §4): walked once, within bounds, up to what they carry.

use super::{DropReason, Ipv6Packet, ipv6};

/// Next header values of extension headers (IANA "Internet Protocol Numbers").
mod next {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const NONE: u8 = 59;
    pub const DESTINATION: u8 = 60;
}

/// Extension headers of one packet (RFC 8504 §5.3 asks for a limit).
const MAX_HEADERS: usize = 8;
/// Options in one header, padding aside, as Linux's `max_hbh_opts_number`.
const MAX_OPTIONS: usize = 8;
/// Bytes of padding in a row: more than alignment to eight needs is a covert channel at best.
const MAX_PADDING: usize = 7;
/// Bytes of all extension headers.
const MAX_LEN: usize = 512;

/// What the extension headers lead to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upper<'a> {
    /// Its protocol.
    pub protocol: u8,
    /// Its header and data.
    pub payload: &'a [u8],
    /// Where in the packet the field stands that names the protocol.
    pub named_at: usize,
    /// Whether the packet came with a fragment header (RFC 6946).
    pub fragmented: bool,
}

/// Why a packet is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What is counted.
    pub reason: DropReason,
    /// What the sender is told.
    pub problem: Option<Problem>,
}

/// An ICMPv6 parameter problem (RFC 4443 §3.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Its code; see [`problem`].
    pub code: u8,
    /// Offset in the packet of the byte in question.
    pub pointer: usize,
    /// Whether it is told even about packets to a group.
    pub to_groups: bool,
}

/// Codes of a parameter problem.
pub mod problem {
    /// A header field makes no sense.
    pub const FIELD: u8 = 0;
    /// The next header is not known.
    pub const NEXT_HEADER: u8 = 1;
    /// The option is not known.
    pub const OPTION: u8 = 2;
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Refusal {
            reason,
            problem: None,
        }
    }
}

fn refuse(reason: DropReason, code: u8, pointer: usize, to_groups: bool) -> Refusal {
    Refusal {
        reason,
        problem: Some(Problem {
            code,
            pointer,
            to_groups,
        }),
    }
}

/// The refusal of a protocol that nobody here speaks.
pub fn unknown_protocol(named_at: usize) -> Refusal {
    let reason = DropReason::Ipv6UnknownProtocol;
    refuse(reason, problem::NEXT_HEADER, named_at, false)
}

/// Walks the extension headers of a packet.
///
/// # Errors
/// The `Ipv6…` reasons of [`DropReason`] that are about extension headers.
#[inline]
pub fn walk<'a>(packet: &Ipv6Packet<'a>) -> Result<Upper<'a>, Refusal> {
    let upper = Upper {
        protocol: packet.next_header,
        payload: packet.payload,
        named_at: 6,
        fragmented: false,
    };
    if is_extension(packet.next_header) {
        walk_headers(packet.packet(), upper)
    } else {
        Ok(upper)
    }
}

fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        next::HOP_BY_HOP | next::ROUTING | next::FRAGMENT | next::NONE | next::DESTINATION
    )
}

fn walk_headers<'a>(packet: &'a [u8], mut upper: Upper<'a>) -> Result<Upper<'a>, Refusal> {
    let mut at = ipv6::HEADER_LEN;
    for nth in 0..=MAX_HEADERS {
        let header = &packet[at..];
        let len = match upper.protocol {
            next::HOP_BY_HOP if nth > 0 => return Err(unknown_protocol(upper.named_at)),
            next::HOP_BY_HOP | next::DESTINATION => {
                let len = header_len(header)?;
                check_options(&header[..len], at)?;
                len
            }
            next::ROUTING => {
                let len = header_len(header)?;
                if header[3] != 0 {
                    let reason = DropReason::Ipv6RoutingHeader;
                    return Err(refuse(reason, problem::FIELD, at + 2, false));
                }
                len
            }
            next::FRAGMENT => {
                check_fragment(header)?;
                upper.fragmented = true;
                8
            }
            next::NONE => return Err(DropReason::Ipv6NoNextHeader.into()),
            _ => {
                upper.payload = header;
                return Ok(upper);
            }
        };
        upper.protocol = header[0];
        upper.named_at = at;
        at += len;
        if at > ipv6::HEADER_LEN + MAX_LEN {
            break;
        }
    }
    Err(DropReason::Ipv6ExtensionLimit.into())
}

/// The length of a header that says it in units of eight bytes, all of which are there.
fn header_len(header: &[u8]) -> Result<usize, DropReason> {
    let units = *header.get(1).ok_or(DropReason::Ipv6BadExtension)?;
    let len = 8 * (1 + usize::from(units));
    if len > header.len() {
        return Err(DropReason::Ipv6BadExtension);
    }
    Ok(len)
}

/// RFC 6946: a fragment header without offset and more to come is about a whole packet.
fn check_fragment(header: &[u8]) -> Result<(), DropReason> {
    let header: &[u8; 8] = header.first_chunk().ok_or(DropReason::Ipv6BadExtension)?;
    let offset_and_more = u16::from_be_bytes([header[2], header[3]]) & !0b110;
    if offset_and_more != 0 {
        return Err(DropReason::Ipv6Fragment);
    }
    Ok(())
}

/// Goes through the options of the header at offset `at`. None has a meaning to this host, so each
/// is treated as the upper bits of its type say (RFC 8200 §4.2).
fn check_options(header: &[u8], at: usize) -> Result<(), Refusal> {
    const PAD1: u8 = 0;
    const PADN: u8 = 1;
    const ROUTER_ALERT: u8 = 5;
    let (mut place, mut options, mut padding) = (2, 0, 0);
    while let Some(kind) = header.get(place) {
        let len = match (*kind, header.get(place + 1)) {
            (PAD1, _) => 1,
            (_, Some(len)) => 2 + usize::from(*len),
            (_, None) => return Err(DropReason::Ipv6BadExtension.into()),
        };
        if place + len > header.len() {
            return Err(DropReason::Ipv6BadExtension.into());
        }
        if matches!(*kind, PAD1 | PADN) {
            padding += len;
        } else {
            padding = 0;
            options += 1;
        }
        if padding > MAX_PADDING || options > MAX_OPTIONS {
            return Err(DropReason::Ipv6ExtensionLimit.into());
        }
        let reason = DropReason::Ipv6UnknownOption;
        match kind >> 6 {
            _ if matches!(*kind, PAD1 | PADN | ROUTER_ALERT) => {}
            0 => {}
            1 => return Err(reason.into()),
            action => {
                let to_groups = action == 2;
                return Err(refuse(reason, problem::OPTION, at + place, to_groups));
            }
        }
        place += len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Ipv6Header;
    use proptest::prelude::*;

    const TCP: u8 = 6;

    fn packet(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; ipv6::HEADER_LEN];
        Ipv6Header {
            src: "fd77::1".parse().unwrap(),
            dst: "fd77::2".parse().unwrap(),
            next_header: first,
            hop_limit: 64,
            traffic_class: 0,
            payload_len: payload.len() as u16,
        }
        .emit(&mut bytes);
        bytes.extend(payload);
        bytes
    }

    fn walked(first: u8, payload: &[u8]) -> Result<(u8, Vec<u8>, usize), Refusal> {
        let bytes = packet(first, payload);
        walk(&Ipv6Packet::parse(&bytes).unwrap())
            .map(|upper| (upper.protocol, upper.payload.to_vec(), upper.named_at))
    }

    /// A header of eight bytes with the six given ones behind its length.
    fn header(next: u8, rest: [u8; 6]) -> Vec<u8> {
        [&[next, 0][..], &rest].concat()
    }

    const PADDED: [u8; 6] = [1, 4, 0, 0, 0, 0];

    #[test]
    fn a_packet_without_extensions_is_its_payload() {
        assert_eq!(walked(TCP, b"abc"), Ok((TCP, b"abc".to_vec(), 6)));
        assert_eq!(walked(200, b""), Ok((200, vec![], 6)));
    }

    #[test]
    fn headers_in_a_row_lead_to_what_they_carry() {
        let payload = [
            header(next::DESTINATION, PADDED),
            header(next::ROUTING, PADDED),
            header(next::FRAGMENT, [0, 0, 0, 0, 0, 0]),
            header(TCP, [0, 0, 1, 2, 3, 4]),
            b"abc".to_vec(),
        ]
        .concat();
        assert_eq!(
            walked(next::HOP_BY_HOP, &payload),
            Ok((TCP, b"abc".to_vec(), 64))
        );
    }

    #[test]
    fn hop_by_hop_options_come_first_or_not_at_all() {
        let payload = [header(next::HOP_BY_HOP, PADDED), header(TCP, PADDED)].concat();
        assert_eq!(
            walked(next::DESTINATION, &payload),
            Err(unknown_protocol(40))
        );
    }

    #[test]
    fn a_routing_header_with_segments_left_is_refused() {
        for kind in [0, 2, 3, 4, 99] {
            let payload = header(TCP, [kind, 1, 0, 0, 0, 0]);
            let refusal = walked(next::ROUTING, &payload).unwrap_err();
            assert_eq!(refusal.reason, DropReason::Ipv6RoutingHeader);
            let problem = refusal.problem.unwrap();
            assert_eq!((problem.code, problem.pointer), (problem::FIELD, 42));
        }
    }

    #[test]
    fn fragments_are_dropped_unless_they_are_whole() {
        for (offset, more) in [(0u16, 1), (8, 0), (8, 1), (65_528, 0)] {
            let [high, low] = (offset | more).to_be_bytes();
            let payload = header(TCP, [high, low, 0, 0, 0, 1]);
            assert_eq!(
                walked(next::FRAGMENT, &payload),
                Err(DropReason::Ipv6Fragment.into())
            );
        }
        let bytes = packet(next::FRAGMENT, &header(TCP, [0, 0b110, 0, 0, 0, 1]));
        let upper = walk(&Ipv6Packet::parse(&bytes).unwrap()).unwrap();
        assert!(upper.fragmented && upper.protocol == TCP);
    }

    #[test]
    fn unknown_options_are_treated_as_their_type_says() {
        let option = |kind| walked(next::DESTINATION, &header(TCP, [1, 0, kind, 0, 1, 0]));
        assert!(option(0x1e).is_ok());
        assert!(option(0x05).is_ok());
        let reason = DropReason::Ipv6UnknownOption;
        assert_eq!(option(0x5e), Err(reason.into()));
        let told = |to_groups| Err(refuse(reason, problem::OPTION, 44, to_groups));
        assert_eq!(option(0x9e), told(true));
        assert_eq!(option(0xde), told(false));
    }

    #[test]
    fn lengths_that_lie_are_dropped() {
        let bad = Err(DropReason::Ipv6BadExtension.into());
        for first in [next::HOP_BY_HOP, next::DESTINATION, next::ROUTING] {
            assert_eq!(walked(first, &[]), bad);
            assert_eq!(walked(first, &[TCP]), bad);
            assert_eq!(walked(first, &[TCP, 1, 1, 4, 0, 0, 0, 0]), bad);
        }
        assert_eq!(walked(next::FRAGMENT, &[TCP, 0, 0, 0]), bad);
        assert_eq!(
            walked(next::DESTINATION, &header(TCP, [1, 5, 0, 0, 0, 0])),
            bad
        );
        assert_eq!(
            walked(next::DESTINATION, &header(TCP, [0, 0, 0, 0, 0, 9])),
            bad
        );
    }

    #[test]
    fn headers_options_and_padding_without_end_are_refused() {
        let limit = Err(DropReason::Ipv6ExtensionLimit.into());
        let many = header(next::DESTINATION, PADDED).repeat(MAX_HEADERS + 2);
        assert_eq!(walked(next::DESTINATION, &many), limit);
        let mut options = vec![TCP, 2];
        options.extend([0x1e, 0].repeat(11));
        assert_eq!(walked(next::DESTINATION, &options), limit);
        let mut padding = vec![TCP, 1];
        padding.extend([0; 14]);
        assert_eq!(walked(next::DESTINATION, &padding), limit);
        let mut long = vec![TCP, 79];
        for _ in 0..3 {
            long.extend([&[0x1e, 208][..], &[0; 208]].concat());
        }
        long.resize(640, 0);
        long[632..634].copy_from_slice(&[0x1e, 6]);
        assert_eq!(walked(next::DESTINATION, &long), limit);
    }

    #[test]
    fn nothing_behind_the_headers_is_counted() {
        assert_eq!(
            walked(next::NONE, &[]),
            Err(DropReason::Ipv6NoNextHeader.into())
        );
    }

    proptest! {
        #[test]
        fn any_bytes_end_inside_the_packet(
            first in prop::sample::select(vec![0u8, 43, 44, 59, 60]),
            mut payload in prop::collection::vec(any::<u8>(), 0..200),
            chain in prop::collection::vec(prop::sample::select(vec![0u8, 6, 43, 44, 59, 60]), 8),
        ) {
            for (i, next) in chain.iter().enumerate() {
                if let Some([kind, len]) = payload.get_mut(8 * i..8 * i + 2) {
                    (*kind, *len) = (*next, *len % 3);
                }
            }
            let bytes = packet(first, &payload);
            match walk(&Ipv6Packet::parse(&bytes).unwrap()) {
                Ok(upper) => {
                    prop_assert!(bytes.ends_with(upper.payload));
                    prop_assert_eq!(bytes[upper.named_at], upper.protocol);
                }
                Err(Refusal { problem: Some(problem), .. }) => {
                    prop_assert!(problem.pointer < bytes.len());
                }
                Err(_) => {}
            }
        }
    }
}
