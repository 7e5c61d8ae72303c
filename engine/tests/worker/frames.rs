//! Frames by hand, with whatever the test wants in them.

use engine::tcp::{Flags, Options, SackBlocks, SeqNum};
use engine::wire::{checksum, protocol};
use psio::MacAddr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Offset of the IP header.
pub const IP: usize = 14;
/// Ethernet's numbers for both versions of IP.
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// Offset of the TCP header behind an IPv4 header without options.
pub const TCP: usize = IP + 20;

/// A TCP segment in an Ethernet frame.
#[derive(Clone, Debug)]
pub struct TcpFrame {
    pub dst_mac: MacAddr,
    pub src_mac: MacAddr,
    pub src: (IpAddr, u16),
    pub dst: (IpAddr, u16),
    pub seq: u32,
    pub ack: u32,
    pub flags: Flags,
    pub window: u16,
    /// As they stand in the header; filled up with zeros to a multiple of four.
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl TcpFrame {
    /// The frame, with correct lengths and checksums.
    pub fn bytes(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let mut tcp = Vec::new();
        tcp.extend(self.src.1.to_be_bytes());
        tcp.extend(self.dst.1.to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend([((20 + options.len()) << 2) as u8, self.flags.0]);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&options);
        tcp.extend(&self.payload);
        let (kind, datagram) = match (self.src.0, self.dst.0) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => (IPV4, ipv4(src, dst, protocol::TCP, &tcp)),
            (IpAddr::V6(src), IpAddr::V6(dst)) => (IPV6, ipv6(src, dst, protocol::TCP, &tcp)),
            ends => panic!("no packet goes from one family to the other: {ends:?}"),
        };
        let mut frame = ethernet(self.dst_mac, self.src_mac, kind, &datagram);
        fix_checksums(&mut frame);
        frame
    }

    /// Reads a frame; `None` if it is no TCP segment in plain IPv4 or IPv6.
    pub fn parse(frame: &[u8]) -> Option<TcpFrame> {
        let (src, dst, tcp) = match be16(frame.get(..IP)?, 12) {
            IPV4 if frame.get(IP) == Some(&0x45) && frame.get(IP + 9) == Some(&protocol::TCP) => {
                let end = IP + usize::from(be16(frame, IP + 2));
                let (src, dst) = (v4(frame, IP + 12), v4(frame, IP + 16));
                (src.into(), dst.into(), frame.get(IP + 20..end)?)
            }
            IPV6 if frame.len() >= IP + 40 && frame[IP + 6] == protocol::TCP => {
                let end = IP + 40 + usize::from(be16(frame, IP + 4));
                let (src, dst) = (v6(frame, IP + 8), v6(frame, IP + 24));
                (src.into(), dst.into(), frame.get(IP + 40..end)?)
            }
            _ => return None,
        };
        let data = usize::from(tcp.get(12)? >> 4) * 4;
        let (options, payload) = (tcp.get(20..data)?, tcp.get(data..)?);
        let mac = |at: usize| MacAddr(frame[at..at + 6].try_into().unwrap());
        Some(TcpFrame {
            dst_mac: mac(0),
            src_mac: mac(6),
            src: (src, be16(tcp, 0)),
            dst: (dst, be16(tcp, 2)),
            seq: be32(tcp, 4),
            ack: be32(tcp, 8),
            flags: Flags(tcp[13]),
            window: be16(tcp, 14),
            options: options.to_vec(),
            payload: payload.to_vec(),
        })
    }

    /// The segment without Ethernet and IP headers, its checksum correct.
    pub fn segment(&self) -> Vec<u8> {
        let header = if self.src.0.is_ipv4() { 20 } else { 40 };
        self.bytes().split_off(IP + header)
    }

    /// Whether all of `flags` are set.
    pub fn has(&self, flags: Flags) -> bool {
        self.flags.contains(flags)
    }
}

/// Options that are well formed.
pub fn options(mss: Option<u16>, scale: Option<u8>, sack: &[(u32, u32)]) -> Vec<u8> {
    let mut blocks = SackBlocks::default();
    for (left, right) in sack {
        blocks.push(SeqNum(*left), SeqNum(*right));
    }
    let options = Options {
        mss,
        window_scale: scale,
        sack_permitted: mss.is_some(),
        timestamps: None,
        fast_open: None,
        sack: blocks,
    };
    let mut bytes = vec![0; 40];
    let len = options.emit(&mut bytes);
    bytes.truncate(len);
    bytes
}

/// An Ethernet frame.
pub fn ethernet(dst: MacAddr, src: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::from(dst.0);
    frame.extend(src.0);
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 datagram without options.
pub fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x45, 0];
    datagram.extend(((20 + payload.len()) as u16).to_be_bytes());
    datagram.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    datagram.extend(src.octets());
    datagram.extend(dst.octets());
    let sum = checksum::sum(&datagram).checksum();
    datagram[10..12].copy_from_slice(&sum.to_be_bytes());
    datagram.extend(payload);
    datagram
}

/// An IPv6 packet without extension headers.
pub fn ipv6(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend(payload);
    packet
}

/// Makes the checksums of an IP frame right, of TCP and ICMP too, as far as its lengths allow: so
/// that what was changed in it is looked at by the layer that it is meant for.
pub fn fix_checksums(frame: &mut [u8]) {
    let Some((start, end, kind)) = transport(frame) else {
        return;
    };
    if frame[12..14] == IPV4.to_be_bytes() {
        frame[IP + 10..IP + 12].fill(0);
        let sum = checksum::sum(&frame[IP..start]).checksum();
        frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
    }
    let at = match kind {
        protocol::TCP => start + 16,
        protocol::ICMP | protocol::ICMPV6 => start + 2,
        _ => return,
    };
    if at + 2 > end {
        return;
    }
    frame[at..at + 2].fill(0);
    let len = end - start;
    let pseudo = match be16(frame, 12) {
        IPV4 if kind == protocol::ICMP => None,
        IPV4 => {
            let (src, dst) = (v4(frame, IP + 12), v4(frame, IP + 16));
            Some(checksum::pseudo_header_v4(src, dst, kind, len as u16))
        }
        _ => {
            let (src, dst) = (v6(frame, IP + 8), v6(frame, IP + 24));
            Some(checksum::pseudo_header_v6(src, dst, kind, len as u32))
        }
    };
    let sum = checksum::sum(&frame[start..end]);
    let sum = pseudo.map_or(sum, |pseudo| pseudo.plus(sum));
    frame[at..at + 2].copy_from_slice(&sum.checksum().to_be_bytes());
}

/// Where what an IP packet carries begins and ends in a frame, and its protocol.
fn transport(frame: &[u8]) -> Option<(usize, usize, u8)> {
    let (header, total, kind) = match be16(frame.get(..TCP)?, 12) {
        IPV4 => (
            usize::from(frame[IP] & 0xf) * 4,
            be16(frame, IP + 2),
            frame[IP + 9],
        ),
        IPV6 if frame.len() >= IP + 40 => {
            (40, be16(frame, IP + 4).saturating_add(40), frame[IP + 6])
        }
        _ => return None,
    };
    let end = (usize::from(total) + IP).min(frame.len());
    (header >= 20 && IP + header <= end).then_some((IP + header, end, kind))
}

fn v4(frame: &[u8], at: usize) -> Ipv4Addr {
    <[u8; 4]>::try_from(&frame[at..at + 4]).unwrap().into()
}

fn v6(frame: &[u8], at: usize) -> Ipv6Addr {
    <[u8; 16]>::try_from(&frame[at..at + 16]).unwrap().into()
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}
