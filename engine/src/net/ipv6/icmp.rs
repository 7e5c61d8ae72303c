//! ICMPv6 as a host speaks it (RFC 4443): answers to echo requests, errors that we send, and
//! errors that we get about what we sent.

use std::net::Ipv6Addr;

use super::{Destination6, Host};
use crate::net::RateLimit;
use crate::net::icmp::{ErrorKind, IcmpError};
use crate::wire::extension::Problem;
use crate::wire::icmp;
use crate::wire::icmpv6::{self, PORT_UNREACHABLE, kind};
use crate::wire::ipv6::{HEADER_LEN, MIN_MTU};
use crate::wire::{DropReason, IcmpMessage, Ipv6Packet, protocol};

/// Hop limit of what we send, as of IPv4.
pub const HOP_LIMIT: u8 = 64;

/// Messages sent in a second at most, and at once, as Linux's `icmp_msgs_per_sec` and
/// `icmp_msgs_burst` (RFC 4443 §2.4 (f) demands a limit).
const PER_SECOND: u32 = 1000;
const BURST: u32 = 50;

/// A packet to be sent, and whom to.
pub type Reply = (Ipv6Addr, Vec<u8>);

/// What an ICMPv6 error says of a packet of ours.
///
/// # Errors
/// The `Icmp…` reasons of [`DropReason`].
pub fn read_error<T>(
    from: Ipv6Addr,
    message: &IcmpMessage<'_>,
    host: &Host<T>,
) -> Result<IcmpError, DropReason> {
    let kind = match (message.kind, message.code) {
        (kind::UNREACHABLE, 0) => ErrorKind::NetworkUnreachable,
        (kind::UNREACHABLE, 1 | 5 | 6) => ErrorKind::Prohibited,
        (kind::UNREACHABLE, 2 | 3) => ErrorKind::HostUnreachable,
        (kind::UNREACHABLE, PORT_UNREACHABLE) => ErrorKind::PortUnreachable,
        (kind::PACKET_TOO_BIG, _) => {
            let mtu = u32::from_be_bytes(message.rest);
            if mtu < u32::from(MIN_MTU) {
                return Err(DropReason::IcmpBadMtu);
            }
            let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
            ErrorKind::FragmentationNeeded { mtu }
        }
        (kind::TIME_EXCEEDED, 0 | 1) => ErrorKind::TimeExceeded,
        (kind::PARAMETER_PROBLEM, 0..=2) => ErrorKind::ParameterProblem,
        _ => return Err(DropReason::IcmpUnknownType),
    };
    let error = quoted(kind, from, message.data).ok_or(DropReason::IcmpBadQuote)?;
    match error.src {
        std::net::IpAddr::V6(src) if host.addresses.is_ours(src) => Ok(error),
        _ => Err(DropReason::IcmpBadQuote),
    }
}

/// The error about the packet whose first bytes are quoted: a TCP or UDP packet such as we send,
/// without extension headers.
fn quoted(kind: ErrorKind, from: Ipv6Addr, bytes: &[u8]) -> Option<IcmpError> {
    let quote: &[u8; HEADER_LEN + 8] = bytes.first_chunk()?;
    let address = |at: usize| Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|i| quote[at + i]));
    let be16 = |at: usize| u16::from_be_bytes([quote[at], quote[at + 1]]);
    let protocol = quote[6];
    let ours_to_handle = matches!(protocol, protocol::TCP | protocol::UDP);
    (quote[0] >> 4 == 6 && ours_to_handle).then(|| IcmpError {
        kind,
        from: from.into(),
        protocol,
        src: address(8).into(),
        dst: address(24).into(),
        src_port: be16(40),
        dst_port: be16(42),
        sequence: u32::from(be16(44)) << 16 | u32::from(be16(46)),
    })
}

/// What cannot be done with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Complaint {
    /// Nobody listens on the UDP port.
    Port,
    /// A header makes no sense to us.
    Parameter(Problem),
}

/// Sends echo replies and errors, within the limits of RFC 4443 §2.4 and of a rate.
#[derive(Clone, Debug)]
pub struct Sender {
    limit: RateLimit,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            limit: RateLimit::new(PER_SECOND, BURST),
        }
    }
}

impl Sender {
    /// The same limits with jitter, so that nobody can count what others took from them. `seed` is
    /// secret.
    pub fn jittered(seed: [u8; 8]) -> Sender {
        Sender {
            limit: RateLimit::jittered(PER_SECOND, BURST, seed),
        }
    }

    /// The answer to an echo request; one to a group is answered from an address of ours
    /// (RFC 4443 §4.2), within the rate.
    pub fn echo<T>(
        &mut self,
        now: u64,
        packet: &Ipv6Packet<'_>,
        to: Destination6,
        request: &IcmpMessage<'_>,
        host: &Host<T>,
    ) -> Option<Reply> {
        let src = match to {
            Destination6::Ours => packet.dst,
            Destination6::Group if !self.limit.allow(now) => return None,
            Destination6::Group => host.addresses.source_for(now, packet.src)?,
        };
        if packet.src.is_unspecified() {
            return None;
        }
        let reply = IcmpMessage {
            kind: kind::ECHO_REPLY,
            ..*request
        };
        let bytes = icmpv6::packet(src, packet.src, HOP_LIMIT, &reply);
        Some((packet.src, bytes))
    }

    /// The error to answer `packet` with: none about ICMPv6 errors, to nobody, about packets to a
    /// group (but for problems that are told even so), or beyond the rate.
    pub fn complain<T>(
        &mut self,
        now: u64,
        packet: &Ipv6Packet<'_>,
        to: Destination6,
        complaint: Complaint,
        host: &Host<T>,
    ) -> Option<Reply> {
        let (kind, code, rest, to_groups) = match complaint {
            Complaint::Port => (kind::UNREACHABLE, PORT_UNREACHABLE, 0, false),
            Complaint::Parameter(p) => {
                let pointer = u32::try_from(p.pointer).unwrap_or(u32::MAX);
                (kind::PARAMETER_PROBLEM, p.code, pointer, p.to_groups)
            }
        };
        let allowed = (to == Destination6::Ours || to_groups)
            && !packet.src.is_unspecified()
            && !is_error(packet)
            && self.limit.allow(now);
        if !allowed {
            return None;
        }
        let src = match to {
            Destination6::Ours => packet.dst,
            Destination6::Group => host.addresses.source_for(now, packet.src)?,
        };
        let quote = packet.packet();
        let room = usize::from(MIN_MTU) - HEADER_LEN - icmp::HEADER_LEN;
        let message = IcmpMessage {
            kind,
            code,
            rest: rest.to_be_bytes(),
            data: &quote[..quote.len().min(room)],
        };
        let bytes = icmpv6::packet(src, packet.src, HOP_LIMIT, &message);
        Some((packet.src, bytes))
    }
}

/// Whether a packet is, or may be, an ICMPv6 error or redirect, about which nothing is said.
fn is_error(packet: &Ipv6Packet<'_>) -> bool {
    let first = packet.payload.first().copied().unwrap_or(0);
    packet.next_header == protocol::ICMPV6
        && (first < kind::INFORMATIONAL || first == kind::REDIRECT)
}

#[cfg(test)]
mod tests {
    use super::super::{Ipv6Config, neighbor};
    use super::*;
    use crate::wire::extension::problem;
    use crate::wire::{Ipv6Header, MacAddr};

    const US: &str = "fd77::2";

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn host() -> Host<u32> {
        let config = Ipv6Config {
            addresses: vec![(ip(US), 64)],
            ..Ipv6Config::default()
        };
        let link = (MacAddr([2, 0, 0, 0, 0, 1]), 1500);
        Host::new(&config, link, neighbor::Config::default(), 0, true).unwrap()
    }

    fn packet(src: &str, dst: &str, next_header: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN];
        Ipv6Header {
            src: ip(src),
            dst: ip(dst),
            next_header,
            hop_limit: 64,
            traffic_class: 0,
            payload_len: payload.len() as u16,
        }
        .emit(&mut bytes);
        bytes.extend(payload);
        bytes
    }

    /// An error of this kind about a segment that we have sent.
    fn error(kind: u8, code: u8, rest: u32, quote: &[u8]) -> Result<IcmpError, DropReason> {
        let message = IcmpMessage {
            kind,
            code,
            rest: rest.to_be_bytes(),
            data: quote,
        };
        read_error(ip("fd77::1"), &message, &host())
    }

    fn sent() -> Vec<u8> {
        packet(US, "2001:db8::1", 6, &[0x80, 1, 0, 80, 1, 2, 3, 4, 9, 9])
    }

    #[test]
    fn an_error_names_the_segment_it_is_about() {
        let error = error(kind::UNREACHABLE, 3, 0, &sent()).unwrap();
        assert_eq!(error.kind, ErrorKind::HostUnreachable);
        assert_eq!(
            (error.src, error.dst),
            (ip(US).into(), ip("2001:db8::1").into())
        );
        assert_eq!((error.src_port, error.dst_port), (0x8001, 80));
        assert_eq!(error.sequence, 0x0102_0304);
    }

    #[test]
    fn each_code_has_the_meaning_that_linux_gives_it() {
        use ErrorKind as E;
        for (kind, code, meaning) in [
            (1, 0, E::NetworkUnreachable),
            (1, 1, E::Prohibited),
            (1, 2, E::HostUnreachable),
            (1, 4, E::PortUnreachable),
            (1, 5, E::Prohibited),
            (3, 0, E::TimeExceeded),
            (4, 1, E::ParameterProblem),
        ] {
            assert_eq!(error(kind, code, 0, &sent()).unwrap().kind, meaning);
        }
        for (kind, code) in [(1, 7), (3, 2), (4, 9), (5, 0), (127, 0), (200, 0)] {
            let unknown = Err(DropReason::IcmpUnknownType);
            assert_eq!(error(kind, code, 0, &sent()), unknown);
        }
    }

    #[test]
    fn packet_too_big_below_the_least_mtu_is_dropped() {
        let too_big = |mtu| error(kind::PACKET_TOO_BIG, 0, mtu, &sent()).map(|e| e.kind);
        let kind = |mtu| Ok(ErrorKind::FragmentationNeeded { mtu });
        assert_eq!(too_big(1280), kind(1280));
        assert_eq!(too_big(1_000_000), kind(u16::MAX));
        for mtu in [0, 68, 1279] {
            assert_eq!(too_big(mtu), Err(DropReason::IcmpBadMtu));
        }
    }

    #[test]
    fn errors_about_what_we_did_not_send_are_dropped() {
        let bad = Err(DropReason::IcmpBadQuote);
        let foreign = packet("fd77::3", "2001:db8::1", 6, &[0; 8]);
        let extended = packet(US, "2001:db8::1", 60, &[0; 8]);
        for quote in [&foreign, &extended, &sent()[..47].to_vec(), &vec![]] {
            assert_eq!(error(kind::UNREACHABLE, 3, 0, quote), bad);
        }
    }

    #[test]
    fn an_echo_request_comes_back_from_the_address_it_was_sent_to() {
        let request = IcmpMessage {
            kind: kind::ECHO_REQUEST,
            code: 0,
            rest: [0, 7, 0, 1],
            data: b"hello",
        };
        for (dst, to) in [(US, Destination6::Ours), ("ff02::1", Destination6::Group)] {
            let bytes = icmpv6::packet(ip("fd77::1"), ip(dst), 64, &request);
            let packet = Ipv6Packet::parse(&bytes).unwrap();
            let (dst, reply) = Sender::default()
                .echo(0, &packet, to, &request, &host())
                .unwrap();
            let reply = Ipv6Packet::parse(&reply).unwrap();
            assert_eq!(
                (reply.src, reply.dst, dst),
                (ip(US), ip("fd77::1"), reply.dst)
            );
            let message = icmpv6::parse(reply.src, reply.dst, reply.payload).unwrap();
            assert_eq!(
                (message.kind, message.rest),
                (kind::ECHO_REPLY, request.rest)
            );
            assert_eq!(message.data, b"hello");
        }
    }

    fn complain(bytes: &[u8], to: Destination6, complaint: Complaint) -> Option<Reply> {
        let packet = Ipv6Packet::parse(bytes).unwrap();
        Sender::default().complain(0, &packet, to, complaint, &host())
    }

    #[test]
    fn a_complaint_quotes_what_fits_the_least_mtu() {
        let bytes = packet("fd77::1", US, 17, &[7; 1400]);
        let (to, reply) = complain(&bytes, Destination6::Ours, Complaint::Port).unwrap();
        assert_eq!((to, reply.len()), (ip("fd77::1"), 1280));
        let reply = Ipv6Packet::parse(&reply).unwrap();
        let message = icmpv6::parse(reply.src, reply.dst, reply.payload).unwrap();
        assert_eq!((message.kind, message.code), (1, 4));
        assert!(bytes.starts_with(message.data));
    }

    #[test]
    fn nothing_is_said_about_errors_nor_to_nobody_nor_about_groups() {
        let port = Complaint::Port;
        let about = |bytes: &[u8], to| complain(bytes, to, port).is_some();
        assert!(about(
            &packet("fd77::1", US, 17, &[0; 8]),
            Destination6::Ours
        ));
        assert!(!about(
            &packet("fd77::1", US, 58, &[1; 8]),
            Destination6::Ours
        ));
        assert!(!about(&packet("::", US, 17, &[0; 8]), Destination6::Ours));
        let group = packet("fd77::1", "ff02::1", 17, &[0; 8]);
        assert!(!about(&group, Destination6::Group));
        let option = |to_groups| {
            let problem = Problem {
                code: problem::OPTION,
                pointer: 42,
                to_groups,
            };
            complain(&group, Destination6::Group, Complaint::Parameter(problem))
        };
        assert!(option(true).is_some() && option(false).is_none());
    }

    #[test]
    fn complaints_are_limited_to_a_burst_and_then_a_rate() {
        let bytes = packet("fd77::1", US, 17, &[0; 8]);
        let packet = Ipv6Packet::parse(&bytes).unwrap();
        let (mut sender, host) = (Sender::default(), host());
        let mut sent = |now| {
            (0..200)
                .filter(|_| {
                    let to = Destination6::Ours;
                    sender
                        .complain(now, &packet, to, Complaint::Port, &host)
                        .is_some()
                })
                .count()
        };
        assert_eq!((sent(0), sent(10_000)), (50, 10));
    }
}
