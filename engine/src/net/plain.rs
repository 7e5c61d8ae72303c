//! The frames that nearly all are, told by a few wide comparisons: TCP in IPv4 without options and in
//! one piece, from a host to our only address. Any other frame, and any that is wrong, is left to the
//! parsers, which say why.

use super::LocalAddresses;
use crate::wire::ethernet::{self, ethertype};
use crate::wire::{Ipv4Packet, checksum, ipv4, protocol};
use psio::MacAddr;
use std::net::Ipv4Addr;

/// Bytes up to the end of a TCP header without options.
const HEADERS_LEN: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN + 20;

/// The bytes of a station's address in a word that begins with it.
const STATION: u64 = (1 << 48) - 1;
/// The bit of it that names a group of stations (IEEE 802 §8.2.2).
const GROUP: u64 = 1;

/// Of the word that begins with the flags: more fragments, offset, and protocol.
const WHOLE_TCP: (u32, u32) = (0x3fff_00ff, protocol::TCP as u32);
/// The time to live in it.
const TTL: u32 = 0xff00;

/// What such frames look like.
#[derive(Clone, Copy, Debug)]
pub struct PlainFrames {
    station: u64,
    address: Ipv4Addr,
    /// First and last address of our network where they mean all of its hosts, else our own.
    ends: [Ipv4Addr; 2],
}

impl PlainFrames {
    /// Those to station `us`; `None` if it has not exactly one address.
    pub fn to(us: MacAddr, local: &LocalAddresses) -> Option<PlainFrames> {
        let ours = local.only()?;
        let [a, b, c, d, e, f] = us.0;
        Some(PlainFrames {
            station: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
            address: ours.address,
            ends: match ours.network.broadcast() {
                Some(last) => [ours.network.network(), last],
                None => [ours.address; 2],
            },
        })
    }

    /// The datagram of a frame that is one of them.
    #[inline]
    pub fn read<'a>(&self, frame: &'a [u8]) -> Option<Ipv4Packet<'a>> {
        let headers: &[u8; HEADERS_LEN] = frame.first_chunk()?;
        let (to, from) = (word(headers, 0), word(headers, 6));
        let (station, kind) = (from & STATION, (from >> 48) as u16);
        if to & STATION != self.station
            || kind != ethertype::IPV4.swap_bytes()
            || station == self.station
            || station == 0
            || station & GROUP != 0
        {
            return None;
        }
        let ip: &[u8; ipv4::HEADER_LEN] = headers[ethernet::HEADER_LEN..].first_chunk()?;
        let about = u32::from_be_bytes([ip[6], ip[7], ip[8], ip[9]]);
        let len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        if ip[0] != 0x45
            || about & WHOLE_TCP.0 != WHOLE_TCP.1
            || about & TTL == 0
            || len < HEADERS_LEN - ethernet::HEADER_LEN
            || !checksum::sum_of_header(ip).is_valid()
        {
            return None;
        }
        let datagram = frame[ethernet::HEADER_LEN..].get(..len)?;
        let packet = Ipv4Packet::of_checked(ip, datagram);
        (packet.dst == self.address && self.is_host(packet.src)).then_some(packet)
    }

    /// Whether an address can be that of another host, as far as we can know.
    #[inline]
    fn is_host(&self, address: Ipv4Addr) -> bool {
        let first = address.octets()[0];
        (1..224).contains(&first)
            && first != 127
            && address != self.address
            && address != self.ends[0]
            && address != self.ends[1]
    }
}

/// Eight bytes, the first of them the lowest.
#[inline]
fn word(headers: &[u8; HEADERS_LEN], at: usize) -> u64 {
    let bytes = headers[at..].first_chunk();
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Destination, InterfaceAddress};
    use crate::wire::Ipv4Header;
    use crate::wire::ethernet::{EthernetFrame, EthernetHeader};

    const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn host(address: &str, len: u8) -> LocalAddresses {
        let mut local = LocalAddresses::default();
        let address = address.parse().unwrap();
        let ours = InterfaceAddress::new(address, len).unwrap();
        local.add(ours).unwrap();
        local
    }

    fn frame() -> [u8; 60] {
        let mut bytes = [0; 60];
        EthernetHeader {
            dst: US,
            src: MacAddr([2, 0, 0, 0, 0, 2]),
            ethertype: ethertype::IPV4,
        }
        .emit(&mut bytes);
        Ipv4Header {
            src: Ipv4Addr::new(10, 77, 0, 1),
            dst: Ipv4Addr::new(10, 77, 0, 2),
            protocol: protocol::TCP,
            ttl: 64,
            tos: 2,
            df: true,
            id: 7,
            payload_len: 24,
        }
        .emit(&mut bytes[ethernet::HEADER_LEN..]);
        bytes
    }

    fn at_length<'a>(local: &LocalAddresses, bytes: &'a [u8]) -> Option<Ipv4Packet<'a>> {
        let frame = EthernetFrame::parse(bytes).ok()?;
        let link = frame.accept(US).ok()?;
        if frame.ethertype != ethertype::IPV4 {
            return None;
        }
        let packet = Ipv4Packet::parse(frame.payload).ok()?;
        let to = local.accept(&packet, link).ok()?;
        let is_plain = to == Destination::Ours && packet.protocol == protocol::TCP;
        is_plain.then_some(packet)
    }

    /// Makes the checksum right again.
    fn mend(frame: &mut [u8; 60]) {
        let header = &mut frame[ethernet::HEADER_LEN..][..ipv4::HEADER_LEN];
        header[10..12].fill(0);
        let sum = checksum::sum(header).checksum();
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    #[test]
    fn a_plain_frame_is_read_as_the_parsers_read_it() {
        let local = host("10.77.0.2", 24);
        let plain = PlainFrames::to(US, &local).unwrap();
        let bytes = frame();
        let packet = plain.read(&bytes).unwrap();
        assert_eq!(Some(packet), at_length(&local, &bytes));
        assert_eq!(packet.payload().len(), 24);
    }

    #[test]
    fn whatever_byte_differs_nothing_is_read_that_the_parsers_refuse() {
        for len in [8, 24, 31, 32] {
            let local = host("10.77.0.2", len);
            let plain = PlainFrames::to(US, &local).unwrap();
            for at in 0..HEADERS_LEN {
                for value in 0..=u8::MAX {
                    let mut bytes = frame();
                    bytes[at] = value;
                    for mended in [false, true] {
                        if mended {
                            mend(&mut bytes);
                        }
                        let (read, parsed) = (plain.read(&bytes), at_length(&local, &bytes));
                        // One without room for a TCP header is left to the parsers, too.
                        if bytes[16] > 0 || bytes[17] >= 40 {
                            assert_eq!(read, parsed, "{value} at {at}");
                        } else {
                            assert_eq!(read, None, "{value} at {at}");
                        }
                    }
                }
            }
            for short in 0..frame().len() {
                let bytes = &frame()[..short];
                assert!(plain.read(bytes).is_none() || at_length(&local, bytes).is_some());
            }
        }
    }

    #[test]
    fn no_source_is_taken_that_the_rules_refuse() {
        for len in [8, 24, 31, 32] {
            let local = host("10.77.0.2", len);
            let plain = PlainFrames::to(US, &local).unwrap();
            for src in [
                "0.0.0.0",
                "0.1.2.3",
                "10.0.0.0",
                "10.255.255.255",
                "10.77.0.0",
                "10.77.0.255",
                "10.77.0.2",
                "10.77.0.3",
                "126.0.0.1",
                "127.0.0.1",
                "128.0.0.1",
                "223.255.255.255",
                "224.0.0.1",
                "240.0.0.1",
                "255.255.255.255",
            ] {
                let mut bytes = frame();
                let src: Ipv4Addr = src.parse().unwrap();
                bytes[26..30].copy_from_slice(&src.octets());
                mend(&mut bytes);
                assert_eq!(plain.read(&bytes), at_length(&local, &bytes), "{src}/{len}");
            }
        }
    }

    #[test]
    fn a_host_of_several_addresses_has_no_plain_frames() {
        let mut local = host("10.77.0.2", 24);
        let second = InterfaceAddress::new(Ipv4Addr::new(10, 78, 0, 2), 24).unwrap();
        local.add(second).unwrap();
        assert!(PlainFrames::to(US, &local).is_none());
    }
}
