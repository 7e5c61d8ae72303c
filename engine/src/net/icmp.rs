//! ICMP as a host speaks it (RFC 792, RFC 1122 §3.2.2): answers to echo requests, errors that we
//! send, and errors that we get about what we sent.

use std::net::{IpAddr, Ipv4Addr};

use super::ipv4::{DEFAULT_TTL, Destination, Ipv4Header, LocalAddresses};
use super::rate_limit::RateLimit;
use crate::wire::checksum::Sum;
use crate::wire::icmpv4::{kind, unreachable};
use crate::wire::{DropReason, IcmpMessage, Ipv4Packet, ipv4, protocol};

/// Errors sent in a second at most, as Linux's `icmp_msgs_per_sec`.
const ERRORS_PER_SECOND: u32 = 1000;

/// Errors sent at once at most, as Linux's `icmp_msgs_burst`.
const ERRORS_BURST: u32 = 50;

/// Bytes of an error we send at most, with its IP header (RFC 1812 §4.3.2.3).
const MAX_ERROR_LEN: usize = 576;

/// The smallest MTU of an IPv4 link (RFC 791 §3.2).
const MIN_MTU: u16 = 68;

/// An ICMP datagram to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply<'a> {
    /// Our address.
    pub src: Ipv4Addr,
    /// The peer.
    pub dst: Ipv4Addr,
    tos: u8,
    message: IcmpMessage<'a>,
}

impl Reply<'_> {
    /// Bytes of the datagram with its IP header.
    #[expect(clippy::len_without_is_empty, reason = "a datagram is never empty")]
    pub fn len(&self) -> usize {
        ipv4::HEADER_LEN + self.message.len()
    }

    /// Writes IP header and message to the first [`len`](Self::len) bytes of `out`.
    ///
    /// # Panics
    /// If `out` is shorter.
    pub fn emit(&self, out: &mut [u8]) {
        let header = Ipv4Header {
            src: self.src,
            dst: self.dst,
            protocol: protocol::ICMP,
            ttl: DEFAULT_TTL,
            tos: self.tos,
            // It is no longer than what it answers, which came unfragmented.
            df: true,
            id: 0,
            payload_len: u16::try_from(self.message.len()).expect("as long as a datagram received"),
        };
        header.emit(out);
        self.message.emit(Sum::ZERO, &mut out[ipv4::HEADER_LEN..]);
    }
}

/// What an ICMP error says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// The network cannot be reached.
    NetworkUnreachable,
    /// The host cannot be reached.
    HostUnreachable,
    /// The host does not speak the protocol.
    ProtocolUnreachable,
    /// Nobody listens on the port.
    PortUnreachable,
    /// The datagram is longer than the next hop's MTU, which may not be fragmented (RFC 1191).
    FragmentationNeeded {
        /// The MTU of the next hop, in bytes, at least 68; guessed by the plateaus of RFC 1191
        /// §7.1 if the router does not tell.
        mtu: u16,
    },
    /// A source route failed.
    SourceRouteFailed,
    /// Forbidden by the administrator.
    Prohibited,
    /// The time to live ran out on the way, or in reassembly.
    TimeExceeded,
    /// A header field makes no sense to the receiver.
    ParameterProblem,
}

impl ErrorKind {
    /// Whether it will not pass by itself. RFC 1122 §4.2.3.9 ends the connection then; RFC 5927
    /// §5.2 advises against it once a connection is established.
    pub const fn is_hard(self) -> bool {
        matches!(
            self,
            Self::ProtocolUnreachable | Self::PortUnreachable | Self::Prohibited
        )
    }
}

/// An ICMP error about a TCP or UDP datagram that was sent from one of our addresses.
///
/// It can be forged: TCP must check that `sequence` is in flight (RFC 5927 §4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpError {
    /// What it says.
    pub kind: ErrorKind,
    /// Who says so: the peer, or a router on the way.
    pub from: IpAddr,
    /// Protocol of the datagram in question: TCP or UDP.
    pub protocol: u8,
    /// The address it was sent from.
    pub src: IpAddr,
    /// The address it was sent to.
    pub dst: IpAddr,
    /// The port it was sent from.
    pub src_port: u16,
    /// The port it was sent to.
    pub dst_port: u16,
    /// Sequence number of the TCP segment; UDP's length and checksum otherwise.
    pub sequence: u32,
}

/// What is to be done about an ICMP message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IcmpInput<'a> {
    /// An echo request: send this reply.
    Echo(Reply<'a>),
    /// An error: tell the connection.
    Error(IcmpError),
}

/// Takes an ICMP datagram that has been accepted as `to` one of `local` addresses.
///
/// # Errors
/// The `Icmp…` reasons of [`DropReason`].
pub fn receive<'a>(
    packet: &Ipv4Packet<'a>,
    to: Destination,
    local: &LocalAddresses,
) -> Result<IcmpInput<'a>, DropReason> {
    let message = IcmpMessage::parse(Sum::ZERO, packet.payload())?;
    match (message.kind, message.code) {
        (kind::ECHO_REQUEST, 0) if to != Destination::Ours => Err(DropReason::IcmpEchoBroadcast),
        (kind::ECHO_REQUEST, 0) => Ok(IcmpInput::Echo(Reply {
            src: packet.dst,
            dst: packet.src,
            tos: packet.tos,
            message: IcmpMessage {
                kind: kind::ECHO_REPLY,
                ..message
            },
        })),
        (kind::ECHO_REPLY, _) => Err(DropReason::IcmpEchoReply),
        _ => read_error(packet.src, &message, local).map(IcmpInput::Error),
    }
}

fn read_error(
    from: Ipv4Addr,
    message: &IcmpMessage<'_>,
    local: &LocalAddresses,
) -> Result<IcmpError, DropReason> {
    let kind = match (message.kind, message.code) {
        (kind::UNREACHABLE, unreachable::NETWORK | 6 | 8 | 11) => ErrorKind::NetworkUnreachable,
        (kind::UNREACHABLE, unreachable::HOST | 7 | 12) => ErrorKind::HostUnreachable,
        (kind::UNREACHABLE, unreachable::PROTOCOL) => ErrorKind::ProtocolUnreachable,
        (kind::UNREACHABLE, unreachable::PORT) => ErrorKind::PortUnreachable,
        (kind::UNREACHABLE, unreachable::FRAGMENTATION_NEEDED) => {
            let [_, _, high, low] = message.rest;
            let mtu = u16::from_be_bytes([high, low]);
            ErrorKind::FragmentationNeeded { mtu }
        }
        (kind::UNREACHABLE, unreachable::SOURCE_ROUTE_FAILED) => ErrorKind::SourceRouteFailed,
        (kind::UNREACHABLE, 9 | 10 | 13..=unreachable::PRECEDENCE_CUTOFF) => ErrorKind::Prohibited,
        (kind::TIME_EXCEEDED, 0 | 1) => ErrorKind::TimeExceeded,
        (kind::PARAMETER_PROBLEM, 0..=2) => ErrorKind::ParameterProblem,
        _ => return Err(DropReason::IcmpUnknownType),
    };
    let quote = Quote::read(message.data).ok_or(DropReason::IcmpBadQuote)?;
    if !local.is_ours(quote.src) {
        return Err(DropReason::IcmpBadQuote);
    }
    let kind = match kind {
        ErrorKind::FragmentationNeeded { mtu: 0 } => ErrorKind::FragmentationNeeded {
            mtu: plateau_below(quote.total_len),
        },
        ErrorKind::FragmentationNeeded { mtu } => ErrorKind::FragmentationNeeded {
            mtu: mtu.max(MIN_MTU),
        },
        other => other,
    };
    Ok(IcmpError {
        kind,
        from: from.into(),
        protocol: quote.protocol,
        src: quote.src.into(),
        dst: quote.dst.into(),
        src_port: quote.src_port,
        dst_port: quote.dst_port,
        sequence: quote.sequence,
    })
}

/// The datagram that an error quotes: its header and the first eight bytes of its payload. The
/// total length may exceed what is quoted, and routers have changed TTL and checksum.
struct Quote {
    total_len: u16,
    protocol: u8,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    src_port: u16,
    dst_port: u16,
    sequence: u32,
}

impl Quote {
    /// `None` unless it is the beginning of a TCP or UDP datagram such as we send: without
    /// options, and the first fragment if it has been fragmented.
    fn read(bytes: &[u8]) -> Option<Quote> {
        let quoted: &[u8; ipv4::HEADER_LEN + 8] = bytes.first_chunk()?;
        let be16 = |at: usize| u16::from_be_bytes([quoted[at], quoted[at + 1]]);
        let be32 = |at: usize| u32::from(be16(at)) << 16 | u32::from(be16(at + 2));
        let protocol = quoted[9];
        let is_first_fragment = be16(6) & 0x1fff == 0;
        let is_ours_to_handle = matches!(protocol, protocol::TCP | protocol::UDP);
        if quoted[0] != 0x45 || !is_first_fragment || !is_ours_to_handle {
            return None;
        }
        Some(Quote {
            total_len: be16(2),
            protocol,
            src: Ipv4Addr::from_bits(be32(12)),
            dst: Ipv4Addr::from_bits(be32(16)),
            src_port: be16(20),
            dst_port: be16(22),
            sequence: be32(24),
        })
    }
}

/// The next smaller MTU in common use (RFC 1191 §7.1).
fn plateau_below(total_len: u16) -> u16 {
    const PLATEAUS: [u16; 11] = [
        65_535, 32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, MIN_MTU,
    ];
    PLATEAUS
        .into_iter()
        .find(|mtu| *mtu < total_len)
        .unwrap_or(MIN_MTU)
}

/// What cannot be reached with us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreachable {
    /// The protocol is none that we speak.
    Protocol,
    /// Nobody listens on the UDP port.
    Port,
}

/// Sends ICMP errors, within the limits of RFC 1122 §3.2.2 and of a rate.
#[derive(Clone, Debug)]
pub struct ErrorSender {
    limit: RateLimit,
}

impl Default for ErrorSender {
    /// A sender with the limits of Linux: 1,000 errors a second, 50 at once.
    fn default() -> Self {
        Self {
            limit: RateLimit::new(ERRORS_PER_SECOND, ERRORS_BURST),
        }
    }
}

impl ErrorSender {
    /// The same limits with jitter, so that nobody can count what others took from them. `seed` is
    /// secret.
    pub fn jittered(seed: [u8; 8]) -> ErrorSender {
        ErrorSender {
            limit: RateLimit::jittered(ERRORS_PER_SECOND, ERRORS_BURST, seed),
        }
    }

    /// The error to answer `packet` with, which came `to` one of `local` addresses; none about
    /// ICMP, about datagrams not sent to us alone or by no single host, or beyond the rate.
    /// `now` is in microseconds.
    pub fn unreachable<'a>(
        &mut self,
        now: u64,
        packet: &Ipv4Packet<'a>,
        to: Destination,
        local: &LocalAddresses,
        what: Unreachable,
    ) -> Option<Reply<'a>> {
        let allowed = to == Destination::Ours
            && packet.protocol != protocol::ICMP
            && local.check_source(packet.src).is_ok()
            && self.limit.allow(now);
        if !allowed {
            return None;
        }
        let quote = packet.datagram();
        let room = MAX_ERROR_LEN - ipv4::HEADER_LEN - crate::wire::icmp::HEADER_LEN;
        Some(Reply {
            src: packet.dst,
            dst: packet.src,
            tos: 0,
            message: IcmpMessage {
                kind: kind::UNREACHABLE,
                code: match what {
                    Unreachable::Protocol => unreachable::PROTOCOL,
                    Unreachable::Port => unreachable::PORT,
                },
                rest: [0; 4],
                data: &quote[..quote.len().min(room)],
            },
        })
    }
}

#[cfg(test)]
mod tests;
