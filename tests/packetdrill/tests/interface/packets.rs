//! IPv4 packets with TCP, as packetdrill would inject them and look at them.

use std::net::Ipv4Addr;

use psio::segment::{fill_checksum, verify_checksum};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// packetdrill's default peer.
pub const PEER: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 40_000);

const ETHERNET: [u8; 14] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0];

/// A TCP segment with its addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    pub from: (Ipv4Addr, u16),
    pub to: (Ipv4Addr, u16),
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
        let len = (20 + offset + self.payload.len()) as u16;
        let mut ip = vec![0x45, 0];
        ip.extend(len.to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        ip.extend(self.from.0.octets());
        ip.extend(self.to.0.octets());
        let sum = ip
            .as_chunks::<2>()
            .0
            .iter()
            .map(|w| u32::from(u16::from_be_bytes(*w)))
            .sum::<u32>();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut frame = [&ETHERNET[..], &ip].concat();
        frame.extend(self.from.1.to_be_bytes());
        frame.extend(self.to.1.to_be_bytes());
        frame.extend(self.seq.to_be_bytes());
        frame.extend(self.ack.to_be_bytes());
        frame.extend([(offset as u8 / 4) << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend(&self.options);
        frame.extend(&self.payload);
        assert!(fill_checksum(&mut frame));
        frame.split_off(ETHERNET.len())
    }

    /// Reads a packet, which has to be whole and right.
    pub fn from_packet(packet: &[u8]) -> Segment {
        let frame = [&ETHERNET[..], packet].concat();
        assert_eq!(verify_checksum(&frame), Some(true), "{packet:02x?}");
        let word = |at| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let long = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| packet[at + i]));
        assert_eq!((packet[0], packet[9]), (0x45, 6));
        assert_eq!(usize::from(word(2)), packet.len());
        let header: u32 = (0..20).step_by(2).map(|at| u32::from(word(at))).sum();
        assert_eq!((header & 0xffff) + (header >> 16), 0xffff);
        let payload = 20 + usize::from(packet[32] >> 4) * 4;
        Segment {
            from: (long(12).into(), word(20)),
            to: (long(16).into(), word(22)),
            flags: packet[33],
            seq: long(24),
            ack: long(28),
            options: packet[40..payload].to_vec(),
            payload: packet[payload..].to_vec(),
        }
    }
}
