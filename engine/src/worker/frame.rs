//! From segment to datagram: headers built in place, the payload copied (and summed, where the
//! device does not) in one pass.

use super::connection::{Connection, Flow};
use super::datagram::pseudo_header;
use crate::net::Address;
use crate::tcp::Outgoing;
use crate::wire::{Ipv4Header, Ipv6Header, checksum, ethernet, ipv4, ipv6, protocol};
use context::Segment;
use psio::{ChecksumOffload, Gso, GsoKind, TxMeta};

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

/// Builds a connection's segment. With `offload`, the checksum field gets the pseudo-header's sum.
pub fn build(
    connection: &Connection,
    out: &Outgoing,
    segment: &Segment,
    datagram: &mut [u8],
    offload: bool,
) {
    let flow = &connection.flow;
    let at = ip_len(flow);
    emit_headers(flow, out, connection.tos_ttl, datagram);
    let tcp = &mut datagram[at..];
    let payload = &mut tcp[out.header_len()..];
    if !connection
        .send
        .copy_out(segment, out.payload.start, payload)
    {
        // The core never asks for more than was collected; if it did, zeros are better than
        // another connection's bytes.
        payload.fill(0);
    }
    if offload {
        let sum = pseudo_header(flow.local, flow.remote, tcp.len());
        tcp[TCP_CHECKSUM..][..2].copy_from_slice(&sum.value().to_be_bytes());
    } else {
        fill_checksum(flow, tcp);
    }
}

/// Builds a segment without payload that belongs to no connection.
pub fn build_bare(flow: &Flow, out: &Outgoing, tos_ttl: (u8, u8), datagram: &mut [u8]) {
    emit_headers(flow, out, tos_ttl, datagram);
    fill_checksum(flow, &mut datagram[ip_len(flow)..]);
}

fn emit_headers(flow: &Flow, out: &Outgoing, (tos, ttl): (u8, u8), datagram: &mut [u8]) {
    // `MAX_SUPER` leaves room for both headers.
    let payload_len = (out.header_len() + out.payload_len()) as u16;
    let tos = out.ecn.within(tos);
    match (flow.local.v4(), flow.remote.v4()) {
        (Some(src), Some(dst)) => Ipv4Header {
            src,
            dst,
            protocol: protocol::TCP,
            ttl,
            tos,
            df: true,
            id: 0,
            payload_len,
        }
        .emit(datagram),
        _ => Ipv6Header {
            src: flow.local.mapped(),
            dst: flow.remote.mapped(),
            next_header: protocol::TCP,
            hop_limit: ttl,
            traffic_class: tos,
            payload_len,
        }
        .emit(datagram),
    }
    out.emit(
        flow.local_port,
        flow.remote_port,
        &mut datagram[ip_len(flow)..],
    );
}

fn fill_checksum(flow: &Flow, tcp: &mut [u8]) {
    let sum = pseudo_header(flow.local, flow.remote, tcp.len()).plus(checksum::sum(tcp));
    tcp[TCP_CHECKSUM..][..2].copy_from_slice(&sum.checksum().to_be_bytes());
}

/// What the device is to do with a segment's frame.
pub fn meta(flow: &Flow, out: &Outgoing, offload: bool) -> TxMeta {
    if !offload {
        return TxMeta::default();
    }
    let start = (ethernet::HEADER_LEN + ip_len(flow)) as u16;
    let kind = match flow.remote.v4() {
        Some(_) => GsoKind::TcpV4,
        None => GsoKind::TcpV6,
    };
    TxMeta {
        checksum: Some(ChecksumOffload {
            start,
            offset: TCP_CHECKSUM as u16,
        }),
        gso: (out.payload_len() > usize::from(out.mss)).then_some(Gso {
            kind,
            size: out.mss,
            header_len: start + out.header_len() as u16,
        }),
    }
}
