//! IP packets with TCP, as packetdrill would inject them and look at them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psio::segment::{fill_checksum, verify_checksum};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// packetdrill's default peer.
pub const PEER: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 40_000);
/// The same for IPv6.
pub const PEER6: (IpAddr, u16) = (
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    40_000,
);

/// The Ethernet header of a packet.
fn ethernet(packet: &[u8]) -> Vec<u8> {
    let kind = match packet[0] >> 4 {
        6 => [0x86, 0xdd],
        _ => [8, 0],
    };
    [&[0; 12][..], &kind].concat()
}

/// An IP header for a segment of `len` bytes.
fn ip_header(from: IpAddr, to: IpAddr, len: usize) -> Vec<u8> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else {
        let mut ip = vec![0x60, 0, 0, 0];
        ip.extend((len as u16).to_be_bytes());
        ip.extend([6, 64]);
        for end in [from, to] {
            let IpAddr::V6(end) = end else {
                panic!("{from} and {to} are of different kinds");
            };
            ip.extend(end.octets());
        }
        return ip;
    };
    let mut ip = vec![0x45, 0];
    ip.extend((20 + len as u16).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    ip.extend(from.octets());
    ip.extend(to.octets());
    let words = ip.as_chunks::<2>().0.iter();
    let sum: u32 = words.map(|w| u32::from(u16::from_be_bytes(*w))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip
}

/// The ends of a packet whose header has to be right, and the header's length.
fn ends(packet: &[u8]) -> (IpAddr, IpAddr, usize) {
    let word = |at| u16::from_be_bytes([packet[at], packet[at + 1]]);
    if packet[0] >> 4 == 6 {
        assert_eq!((packet[0], packet[6]), (0x60, 6), "{packet:02x?}");
        assert_eq!(usize::from(word(4)), packet.len() - 40);
        let end = |at| IpAddr::from(*packet[at..].first_chunk::<16>().unwrap());
        return (end(8), end(24), 40);
    }
    assert_eq!((packet[0], packet[9]), (0x45, 6), "{packet:02x?}");
    assert_eq!(usize::from(word(2)), packet.len());
    let header: u32 = (0..20).step_by(2).map(|at| u32::from(word(at))).sum();
    assert_eq!((header & 0xffff) + (header >> 16), 0xffff);
    let end = |at| IpAddr::from(*packet[at..].first_chunk::<4>().unwrap());
    (end(12), end(16), 20)
}

/// A TCP segment with its addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    pub from: (IpAddr, u16),
    pub to: (IpAddr, u16),
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Segment {
    pub fn to_packet(&self) -> Vec<u8> {
        assert_eq!(self.options.len() % 4, 0);
        let offset = 20 + self.options.len();
        let ip = ip_header(self.from.0, self.to.0, offset + self.payload.len());
        let mut frame = [ethernet(&ip), ip].concat();
        frame.extend(self.from.1.to_be_bytes());
        frame.extend(self.to.1.to_be_bytes());
        frame.extend(self.seq.to_be_bytes());
        frame.extend(self.ack.to_be_bytes());
        frame.extend([(offset as u8 / 4) << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend(&self.options);
        frame.extend(&self.payload);
        assert!(fill_checksum(&mut frame));
        frame.split_off(14)
    }

    /// Reads a packet, which has to be whole and right.
    pub fn from_packet(packet: &[u8]) -> Segment {
        let frame = [&ethernet(packet)[..], packet].concat();
        assert_eq!(verify_checksum(&frame), Some(true), "{packet:02x?}");
        let (from, to, header) = ends(packet);
        let tcp = &packet[header..];
        let word = |at| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let long = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| tcp[at + i]));
        let payload = usize::from(tcp[12] >> 4) * 4;
        Segment {
            from: (from, word(0)),
            to: (to, word(2)),
            flags: tcp[13],
            seq: long(4),
            ack: long(8),
            options: tcp[20..payload].to_vec(),
            payload: tcp[payload..].to_vec(),
        }
    }
}
