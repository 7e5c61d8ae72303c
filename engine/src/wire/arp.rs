//! ARP packets for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use super::{DropReason, MacAddr, be16, ethernet::ethertype};

/// Bytes of an ARP packet for IPv4 over Ethernet.
pub const PACKET_LEN: usize = 28;

/// Hardware type of Ethernet (IANA "ARP Parameters").
const HARDWARE_ETHERNET: u16 = 1;

/// What an ARP packet wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// "Who has the target address?"
    Request,
    /// "The sender has the sender's address."
    Reply,
}

/// An ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArpPacket {
    /// Request or reply.
    pub operation: Operation,
    /// Ethernet address of the sender.
    pub sender_mac: MacAddr,
    /// IPv4 address of the sender; 0.0.0.0 in a probe (RFC 5227 §1.1).
    pub sender_ip: Ipv4Addr,
    /// Ethernet address of the target; nothing in a request.
    pub target_mac: MacAddr,
    /// IPv4 address of the target.
    pub target_ip: Ipv4Addr,
}

impl ArpPacket {
    /// Reads the payload of an Ethernet frame; padding may follow.
    ///
    /// # Errors
    /// [`DropReason::ArpTooShort`], [`DropReason::ArpBadFormat`] or
    /// [`DropReason::ArpUnknownOperation`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let bytes: &[u8; PACKET_LEN] = bytes.first_chunk().ok_or(DropReason::ArpTooShort)?;
        if be16(bytes, 0) != HARDWARE_ETHERNET
            || be16(bytes, 2) != ethertype::IPV4
            || bytes[4..6] != [6, 4]
        {
            return Err(DropReason::ArpBadFormat);
        }
        let operation = match be16(bytes, 6) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(DropReason::ArpUnknownOperation),
        };
        Ok(Self {
            operation,
            sender_mac: mac_at(bytes, 8),
            sender_ip: ip_at(bytes, 14),
            target_mac: mac_at(bytes, 18),
            target_ip: ip_at(bytes, 24),
        })
    }

    /// Writes the packet to the first [`PACKET_LEN`] bytes of `out`.
    ///
    /// # Panics
    /// If `out` is shorter.
    pub fn emit(&self, out: &mut [u8]) {
        let out = &mut out[..PACKET_LEN];
        let operation: u16 = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        out[..2].copy_from_slice(&HARDWARE_ETHERNET.to_be_bytes());
        out[2..4].copy_from_slice(&ethertype::IPV4.to_be_bytes());
        out[4..6].copy_from_slice(&[6, 4]);
        out[6..8].copy_from_slice(&operation.to_be_bytes());
        out[8..14].copy_from_slice(&self.sender_mac.0);
        out[14..18].copy_from_slice(&self.sender_ip.octets());
        out[18..24].copy_from_slice(&self.target_mac.0);
        out[24..].copy_from_slice(&self.target_ip.octets());
    }

    /// Whether a host announces its own address (gratuitous ARP, RFC 5227 §3).
    pub fn is_announcement(&self) -> bool {
        self.sender_ip == self.target_ip
    }
}

fn mac_at(bytes: &[u8; PACKET_LEN], at: usize) -> MacAddr {
    MacAddr(std::array::from_fn(|i| bytes[at + i]))
}

fn ip_at(bytes: &[u8; PACKET_LEN], at: usize) -> Ipv4Addr {
    Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(|i| bytes[at + i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Who has 10.77.0.2? Tell 10.77.0.1", as tcpdump shows it.
    const REQUEST: [u8; PACKET_LEN] = [
        0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 77, 0, 1, 0, 0, 0, 0, 0, 0, 10, 77, 0, 2,
    ];

    fn request() -> ArpPacket {
        ArpPacket {
            operation: Operation::Request,
            sender_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            sender_ip: Ipv4Addr::new(10, 77, 0, 1),
            target_mac: MacAddr([0; 6]),
            target_ip: Ipv4Addr::new(10, 77, 0, 2),
        }
    }

    #[test]
    fn a_request_is_read_and_written() {
        assert_eq!(ArpPacket::parse(&REQUEST), Ok(request()));
        let mut out = [0xee; PACKET_LEN];
        request().emit(&mut out);
        assert_eq!(out, REQUEST);
    }

    #[test]
    fn padding_to_the_minimum_frame_is_allowed() {
        let mut padded = [0; 46];
        padded[..PACKET_LEN].copy_from_slice(&REQUEST);
        assert_eq!(ArpPacket::parse(&padded), Ok(request()));
    }

    #[test]
    fn a_truncated_packet_is_dropped() {
        for len in 0..PACKET_LEN {
            assert_eq!(
                ArpPacket::parse(&REQUEST[..len]),
                Err(DropReason::ArpTooShort)
            );
        }
    }

    #[test]
    fn other_hardware_protocols_and_lengths_are_dropped() {
        for (at, value) in [(1, 6), (2, 0x86), (4, 8), (4, 255), (5, 16), (5, 0)] {
            let mut bytes = REQUEST;
            bytes[at] = value;
            assert_eq!(
                ArpPacket::parse(&bytes),
                Err(DropReason::ArpBadFormat),
                "byte {at} = {value}"
            );
        }
    }

    #[test]
    fn an_unknown_operation_is_dropped() {
        for operation in [0, 3, 8, 255] {
            let mut bytes = REQUEST;
            bytes[7] = operation;
            assert_eq!(
                ArpPacket::parse(&bytes),
                Err(DropReason::ArpUnknownOperation)
            );
        }
    }
}
