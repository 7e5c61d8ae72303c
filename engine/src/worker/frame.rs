//! From segment to datagram: headers built in place, the payload copied (and summed, where the
//! device does not) in one pass.

use super::connection::{Connection, Flow};
use crate::net::Address;
use crate::tcp::Outgoing;
use crate::wire::checksum::{self, Sum};
use crate::wire::{Ipv4Header, Ipv6Header, ethernet, ipv4, ipv6, protocol};
use context::Segment;
use psio::{ChecksumOffload, Gso, GsoKind, TxMeta};
use std::net::Ipv4Addr;

/// Offset of the checksum field in a TCP header.
const TCP_CHECKSUM: usize = 16;

/// Bytes of a flow's IP header.
fn ip_len(flow: &Flow) -> usize {
    match flow.remote.v4() {
        Some(_) => ipv4::HEADER_LEN,
        None => ipv6::HEADER_LEN,
    }
}

/// Bytes of a flow's IP and TCP headers, without options.
pub fn headers_len(flow: &Flow) -> u16 {
    ip_len(flow) as u16 + 20
}

/// The EtherType of frames to an address.
pub fn ethertype(to: Address) -> u16 {
    match to.v4() {
        Some(_) => ethernet::ethertype::IPV4,
        None => ethernet::ethertype::IPV6,
    }
}

/// Bytes of a segment's datagram.
pub fn datagram_len(flow: &Flow, out: &Outgoing) -> usize {
    ip_len(flow) + out.header_len() + out.payload_len()
}

/// Writes a connection's segment to the start of `datagram`. Says how long it is, and what the device
/// is to do with its frame. With `offload`, the checksum field gets the pseudo-header's sum.
#[inline]
pub fn build(
    connection: &Connection,
    out: &Outgoing,
    segment: &Segment,
    datagram: &mut [u8],
    offload: bool,
) -> (usize, TxMeta) {
    let (flow, tos_ttl) = (&connection.flow, connection.tos_ttl);
    emit(flow, out, tos_ttl, datagram, offload, |payload| {
        let at = out.payload.start;
        // The core never asks for more than was collected; if it did, zeros are better than
        // another connection's bytes.
        if !payload.is_empty() && !connection.send.copy_out(segment, at, payload) {
            payload.fill(0);
        }
    })
}

/// Like [`build`], for a segment without payload that belongs to no connection.
pub fn build_bare(
    flow: &Flow,
    out: &Outgoing,
    tos_ttl: (u8, u8),
    datagram: &mut [u8],
    offload: bool,
) -> (usize, TxMeta) {
    emit(flow, out, tos_ttl, datagram, offload, |_| ())
}

#[inline(always)]
fn emit(
    flow: &Flow,
    out: &Outgoing,
    (tos, ttl): (u8, u8),
    datagram: &mut [u8],
    offload: bool,
    fill: impl FnOnce(&mut [u8]),
) -> (usize, TxMeta) {
    // Both ends are of one family.
    let remote = flow.remote.v4();
    let v4 = remote.map(|dst| (flow.local.low_bits(), dst));
    let ip_len = match v4 {
        Some(_) => ipv4::HEADER_LEN,
        None => ipv6::HEADER_LEN,
    };
    let (ip, tcp) = datagram.split_at_mut(ip_len);
    let header_len = out.emit(flow.local_port, flow.remote_port, tcp);
    let tcp = &mut tcp[..header_len + out.payload_len()];
    fill(&mut tcp[header_len..]);
    // `MAX_SUPER` leaves room for both headers.
    let payload_len = tcp.len() as u16;
    let tos = out.ecn.within(tos);
    let pseudo_header = match v4 {
        Some((src, dst)) => {
            let header = Ipv4Header {
                src: Ipv4Addr::from_bits(src),
                dst,
                protocol: protocol::TCP,
                ttl,
                tos,
                df: true,
                id: 0,
                payload_len,
            };
            header.emit(ip);
            header.pseudo_header()
        }
        None => emit_ipv6(flow, ttl, tos, payload_len, ip),
    };
    let sum = match offload {
        true => pseudo_header.value(),
        false => pseudo_header.plus(checksum::sum(tcp)).checksum(),
    };
    tcp[TCP_CHECKSUM..][..2].copy_from_slice(&sum.to_be_bytes());
    let len = ip_len + tcp.len();
    if !offload {
        return (len, TxMeta::default());
    }
    let start = (ethernet::HEADER_LEN + ip_len) as u16;
    let meta = TxMeta {
        checksum: Some(ChecksumOffload {
            start,
            offset: TCP_CHECKSUM as u16,
        }),
        gso: (out.payload_len() > usize::from(out.mss)).then_some(Gso {
            kind: match v4 {
                Some(_) => GsoKind::TcpV4,
                None => GsoKind::TcpV6,
            },
            size: out.mss,
            header_len: start + header_len as u16,
        }),
    };
    (len, meta)
}

/// Writes an IPv6 header; returns the sum of the pseudo-header.
fn emit_ipv6(flow: &Flow, hop_limit: u8, traffic_class: u8, len: u16, out: &mut [u8]) -> Sum {
    let (src, dst) = (flow.local.mapped(), flow.remote.mapped());
    Ipv6Header {
        src,
        dst,
        next_header: protocol::TCP,
        hop_limit,
        traffic_class,
        payload_len: len,
    }
    .emit(out);
    checksum::pseudo_header_v6(src, dst, protocol::TCP, len.into())
}
