//! Ethernet II frames (IEEE 802.3 §3, RFC 894).

use super::{DropReason, MacAddr};

/// Bytes of an Ethernet header.
pub const HEADER_LEN: usize = 14;

/// EtherTypes (IANA "IEEE 802 Numbers").
pub mod ethertype {
    /// IPv4 (RFC 894).
    pub const IPV4: u16 = 0x0800;
    /// ARP (RFC 826).
    pub const ARP: u16 = 0x0806;
    /// IPv6 (RFC 2464).
    pub const IPV6: u16 = 0x86dd;
}

/// Whether an address names a group of stations; broadcast is one (IEEE 802 §8.2.2).
pub const fn is_multicast(mac: MacAddr) -> bool {
    mac.0[0] & 1 != 0
}

/// Whether one station can have this address.
pub fn is_unicast(mac: MacAddr) -> bool {
    !is_multicast(mac) && mac.0 != [0; 6]
}

/// Whom a frame is addressed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkDestination {
    /// Us alone.
    Unicast,
    /// All stations, or a group.
    Broadcast,
}

/// A received frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EthernetFrame<'a> {
    /// Destination station or group.
    pub dst: MacAddr,
    /// Sending station.
    pub src: MacAddr,
    /// What the payload is; see [`ethertype`].
    pub ethertype: u16,
    /// The payload with any padding that follows it.
    pub payload: &'a [u8],
}

impl<'a> EthernetFrame<'a> {
    /// Reads a frame without its preamble and check sequence.
    ///
    /// # Errors
    /// [`DropReason::FrameTooShort`].
    #[inline]
    pub fn parse(frame: &'a [u8]) -> Result<Self, DropReason> {
        let short = DropReason::FrameTooShort;
        let (dst, rest) = frame.split_first_chunk::<6>().ok_or(short)?;
        let (src, rest) = rest.split_first_chunk::<6>().ok_or(short)?;
        let (ethertype, payload) = rest.split_first_chunk::<2>().ok_or(short)?;
        Ok(Self {
            dst: MacAddr(*dst),
            src: MacAddr(*src),
            ethertype: u16::from_be_bytes(*ethertype),
            payload,
        })
    }

    /// Says whether station `us` should look at the frame.
    ///
    /// # Errors
    /// [`DropReason::EthernetNotForUs`], or [`DropReason::EthernetBadSource`] if no other station
    /// can have sent it.
    #[inline]
    pub fn accept(&self, us: MacAddr) -> Result<LinkDestination, DropReason> {
        if !is_unicast(self.src) || self.src == us {
            return Err(DropReason::EthernetBadSource);
        }
        if self.dst == us {
            Ok(LinkDestination::Unicast)
        } else if is_multicast(self.dst) {
            Ok(LinkDestination::Broadcast)
        } else {
            Err(DropReason::EthernetNotForUs)
        }
    }
}

/// The header of a frame to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EthernetHeader {
    /// Destination station or group.
    pub dst: MacAddr,
    /// Sending station.
    pub src: MacAddr,
    /// What the payload is; see [`ethertype`].
    pub ethertype: u16,
}

impl EthernetHeader {
    /// The header's bytes.
    #[inline]
    pub fn bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..6].copy_from_slice(&self.dst.0);
        bytes[6..12].copy_from_slice(&self.src.0);
        bytes[12..].copy_from_slice(&self.ethertype.to_be_bytes());
        bytes
    }

    /// Writes the header to the first [`HEADER_LEN`] bytes of `out`.
    ///
    /// # Panics
    /// If `out` is shorter.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        out[..HEADER_LEN].copy_from_slice(&self.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn frame(dst: MacAddr, src: MacAddr) -> EthernetFrame<'static> {
        EthernetFrame {
            dst,
            src,
            ethertype: ethertype::IPV4,
            payload: &[],
        }
    }

    #[test]
    fn a_header_is_read_back_as_written() {
        let header = EthernetHeader {
            dst: US,
            src: PEER,
            ethertype: ethertype::ARP,
        };
        let mut bytes = [9; 17];
        header.emit(&mut bytes);
        assert_eq!(bytes[..6], US.0);
        assert_eq!(bytes[12..14], [0x08, 0x06]);
        let frame = EthernetFrame::parse(&bytes).unwrap();
        assert_eq!((frame.dst, frame.src), (US, PEER));
        assert_eq!(frame.ethertype, ethertype::ARP);
        assert_eq!(frame.payload, [9, 9, 9]);
    }

    #[test]
    fn a_frame_shorter_than_its_header_is_dropped() {
        for len in 0..HEADER_LEN {
            assert_eq!(
                EthernetFrame::parse(&[0; HEADER_LEN][..len]),
                Err(DropReason::FrameTooShort)
            );
        }
    }

    #[test]
    fn frames_to_us_and_to_all_are_accepted() {
        assert_eq!(frame(US, PEER).accept(US), Ok(LinkDestination::Unicast));
        assert_eq!(
            frame(MacAddr::BROADCAST, PEER).accept(US),
            Ok(LinkDestination::Broadcast)
        );
    }

    #[test]
    fn frames_to_others_are_dropped() {
        let other = MacAddr([2, 0, 0, 0, 0, 3]);
        assert_eq!(
            frame(other, PEER).accept(US),
            Err(DropReason::EthernetNotForUs)
        );
    }

    #[test]
    fn a_source_that_no_peer_can_have_is_dropped() {
        for src in [
            MacAddr::BROADCAST,
            MacAddr([1, 0, 0, 0, 0, 9]),
            MacAddr([0; 6]),
            US,
        ] {
            assert_eq!(
                frame(US, src).accept(US),
                Err(DropReason::EthernetBadSource),
                "{src}"
            );
        }
    }
}
