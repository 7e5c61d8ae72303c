//! Frame formats below TCP: Ethernet, ARP, IPv4, IPv6, ICMP, neighbour discovery, and the Internet checksum.
//!
//! A parser borrows the frame and says in a [`DropReason`] what is wrong with it; it never looks
//! past the end of what it was given. A builder writes into a buffer that the caller lends.

pub mod arp;
pub mod checksum;
mod drop;
pub mod ethernet;
pub mod extension;
pub mod icmp;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod mld;
pub mod ndp;
pub mod udp;

pub use arp::ArpPacket;
pub use drop::DropReason;
pub use ethernet::{EthernetFrame, EthernetHeader, LinkDestination};
pub use icmp::IcmpMessage;
pub use ipv4::{Ipv4Header, Ipv4Packet};
pub use ipv6::{Ipv6Header, Ipv6Packet};
pub use psio::MacAddr;
pub use udp::UdpDatagram;

/// IP protocol numbers (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: u8 = 1;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
}

/// The 16-bit number in network byte order at `at`, of which the caller has checked the room.
fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests;
