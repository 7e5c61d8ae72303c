//! What IP of either family hands to TCP.

use crate::net::Address;
use crate::wire::checksum::{self, Sum};
use crate::wire::extension::Upper;
use crate::wire::{Ipv4Packet, Ipv6Packet, protocol};

/// A datagram that carries TCP.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Where it comes from.
    pub src: Address,
    /// Our address.
    pub dst: Address,
    /// Type of service, or traffic class: DSCP and ECN.
    pub tos: u8,
    /// TCP's header and data.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// The contents of an IPv4 datagram.
    #[inline]
    pub fn v4(packet: &Ipv4Packet<'a>) -> Self {
        Datagram {
            src: packet.src.into(),
            dst: packet.dst.into(),
            tos: packet.tos,
            payload: packet.payload(),
        }
    }

    /// What the headers of an IPv6 packet lead to.
    #[inline]
    pub fn v6(packet: &Ipv6Packet<'a>, upper: &Upper<'a>) -> Self {
        Datagram {
            src: packet.src.into(),
            dst: packet.dst.into(),
            tos: packet.traffic_class,
            payload: upper.payload,
        }
    }

    /// The sum of the pseudo-header for TCP's checksum.
    #[inline]
    pub fn pseudo_header(&self) -> Sum {
        pseudo_header(self.src, self.dst, self.payload.len())
    }
}

/// The sum of the pseudo-header of `len` bytes of TCP.
#[inline]
pub fn pseudo_header(src: Address, dst: Address, len: usize) -> Sum {
    match (src.v4(), dst.v4()) {
        // A datagram is at most 65,535 bytes long.
        (Some(src), Some(dst)) => checksum::pseudo_header_v4(src, dst, protocol::TCP, len as u16),
        _ => checksum::pseudo_header_v6(src.mapped(), dst.mapped(), protocol::TCP, len as u32),
    }
}
