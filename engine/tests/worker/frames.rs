//! Frames by hand, with whatever the test wants in them.

use engine::tcp::{Flags, Options, SackBlocks, SeqNum};
use engine::wire::{checksum, protocol};
use psio::MacAddr;
use std::net::Ipv4Addr;

/// Offset of the IP header.
pub const IP: usize = 14;
/// Offset of the TCP header behind an IP header without options.
pub const TCP: usize = IP + 20;

/// A TCP segment in an Ethernet frame.
#[derive(Clone, Debug)]
pub struct TcpFrame {
    pub dst_mac: MacAddr,
    pub src_mac: MacAddr,
    pub src: (Ipv4Addr, u16),
    pub dst: (Ipv4Addr, u16),
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
        let datagram = ipv4(self.src.0, self.dst.0, protocol::TCP, &tcp);
        let mut frame = ethernet(self.dst_mac, self.src_mac, 0x0800, &datagram);
        fix_checksums(&mut frame);
        frame
    }

    /// Reads a frame; `None` if it is no TCP segment in plain IPv4.
    pub fn parse(frame: &[u8]) -> Option<TcpFrame> {
        if frame.len() < TCP + 20 || frame[12..15] != [8, 0, 0x45] || frame[IP + 9] != protocol::TCP
        {
            return None;
        }
        let total = usize::from(be16(frame, IP + 2)) + IP;
        let data = TCP + usize::from(frame[TCP + 12] >> 4) * 4;
        let (options, payload) = (frame.get(TCP + 20..data)?, frame.get(data..total)?);
        let ip = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
        let mac = |at: usize| MacAddr(frame[at..at + 6].try_into().unwrap());
        Some(TcpFrame {
            dst_mac: mac(0),
            src_mac: mac(6),
            src: (ip(IP + 12), be16(frame, TCP)),
            dst: (ip(IP + 16), be16(frame, TCP + 2)),
            seq: be32(frame, TCP + 4),
            ack: be32(frame, TCP + 8),
            flags: Flags(frame[TCP + 13]),
            window: be16(frame, TCP + 14),
            options: options.to_vec(),
            payload: payload.to_vec(),
        })
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

/// Makes the checksums of an IPv4 frame right, of TCP and ICMP too, as far as its lengths allow: so
/// that what was changed in it is looked at by the layer that it is meant for.
pub fn fix_checksums(frame: &mut [u8]) {
    if frame.len() < TCP || frame[12..14] != [8, 0] {
        return;
    }
    let header = usize::from(frame[IP] & 0xf) * 4;
    let end = (usize::from(be16(frame, IP + 2)) + IP).min(frame.len());
    if header < 20 || IP + header > end {
        return;
    }
    frame[IP + 10..IP + 12].fill(0);
    let sum = checksum::sum(&frame[IP..IP + header]).checksum();
    frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
    let ip =
        |frame: &[u8], at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
    let (start, kind) = (IP + header, frame[IP + 9]);
    let (at, pseudo) = match kind {
        protocol::TCP => {
            let length = (end - start) as u16;
            let (src, dst) = (ip(frame, IP + 12), ip(frame, IP + 16));
            let sum = checksum::pseudo_header_v4(src, dst, kind, length);
            (start + 16, Some(sum))
        }
        protocol::ICMP => (start + 2, None),
        _ => return,
    };
    if at + 2 > end {
        return;
    }
    frame[at..at + 2].fill(0);
    let sum = checksum::sum(&frame[start..end]);
    let sum = pseudo.map_or(sum, |pseudo| pseudo.plus(sum));
    frame[at..at + 2].copy_from_slice(&sum.checksum().to_be_bytes());
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}
