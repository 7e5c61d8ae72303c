//! Every parser takes any bytes without panicking, and reads back what the builders write.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::{arp::Operation, checksum::Sum, ethernet::ethertype, *};

/// What a worker does with a frame, down to the transport protocols.
fn parse_all(bytes: &[u8]) -> Result<(), DropReason> {
    let frame = EthernetFrame::parse(bytes)?;
    match frame.ethertype {
        ethertype::ARP => ArpPacket::parse(frame.payload).map(drop),
        ethertype::IPV4 => {
            let packet = Ipv4Packet::parse(frame.payload)?;
            match packet.protocol {
                protocol::ICMP => IcmpMessage::parse(Sum::ZERO, packet.payload()).map(drop),
                protocol::UDP => UdpDatagram::parse(&packet, false).map(drop),
                _ => Err(DropReason::Ipv4UnknownProtocol),
            }
        }
        ethertype::IPV6 => Ipv6Packet::parse(frame.payload).map(drop),
        _ => Err(DropReason::EthernetUnknownType),
    }
}

fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

fn ip() -> impl Strategy<Value = Ipv4Addr> {
    any::<[u8; 4]>().prop_map(Ipv4Addr::from)
}

prop_compose! {
    fn ipv4_header(protocols: Vec<u8>)(
        src in ip(), dst in ip(), protocol in prop::sample::select(protocols), ttl in 1u8..,
        tos: u8, df: bool, id: u16, payload_len in 0u16..200,
    ) -> Ipv4Header {
        Ipv4Header { src, dst, protocol, ttl, tos, df, id, payload_len }
    }
}

proptest! {
    #[test]
    fn no_parser_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_all(&bytes);
        let _ = EthernetFrame::parse(&bytes);
        let _ = ArpPacket::parse(&bytes);
        let _ = Ipv4Packet::parse(&bytes);
        let _ = Ipv6Packet::parse(&bytes);
        let _ = IcmpMessage::parse(Sum::ZERO, &bytes);
    }

    /// Random bytes hardly ever have a right checksum; here the outer headers are right.
    #[test]
    fn no_parser_panics_behind_a_valid_ipv4_header(
        header in ipv4_header(vec![protocol::ICMP, protocol::TCP, protocol::UDP]),
        payload in prop::collection::vec(any::<u8>(), 200),
        cut in 0usize..250,
    ) {
        let mut frame = vec![0; ethernet::HEADER_LEN + ipv4::HEADER_LEN];
        EthernetHeader { dst: MacAddr([2; 6]), src: MacAddr([4; 6]), ethertype: ethertype::IPV4 }
            .emit(&mut frame);
        header.emit(&mut frame[ethernet::HEADER_LEN..]);
        frame.extend(&payload[..header.payload_len.into()]);
        frame.truncate(cut);
        let _ = parse_all(&frame);
    }

    #[test]
    fn ethernet_headers_are_read_back(dst in mac(), src in mac(), ethertype: u16) {
        let header = EthernetHeader { dst, src, ethertype };
        let mut bytes = [0; ethernet::HEADER_LEN];
        header.emit(&mut bytes);
        let frame = EthernetFrame::parse(&bytes).unwrap();
        prop_assert_eq!(
            EthernetHeader { dst: frame.dst, src: frame.src, ethertype: frame.ethertype },
            header
        );
    }

    #[test]
    fn arp_packets_are_read_back(
        sender_mac in mac(), target_mac in mac(), sender_ip in ip(), target_ip in ip(),
        operation in prop::sample::select(vec![Operation::Request, Operation::Reply]),
    ) {
        let packet = ArpPacket { operation, sender_mac, sender_ip, target_mac, target_ip };
        let mut bytes = [0; arp::PACKET_LEN];
        packet.emit(&mut bytes);
        prop_assert_eq!(ArpPacket::parse(&bytes), Ok(packet));
    }

    #[test]
    fn ipv4_headers_are_read_back(header in ipv4_header((0..=255).collect())) {
        let mut bytes = vec![0x5a; ipv4::HEADER_LEN + usize::from(header.payload_len)];
        header.emit(&mut bytes);
        let packet = Ipv4Packet::parse(&bytes).unwrap();
        prop_assert_eq!(packet.payload().len(), usize::from(header.payload_len));
        prop_assert_eq!(
            Ipv4Header {
                src: packet.src,
                dst: packet.dst,
                protocol: packet.protocol,
                ttl: packet.ttl,
                tos: packet.tos,
                df: packet.df,
                id: packet.id,
                payload_len: header.payload_len,
            },
            header
        );
    }

    #[test]
    fn icmp_messages_are_read_back(
        kind: u8, code: u8, rest: [u8; 4],
        data in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let message = IcmpMessage { kind, code, rest, data: &data };
        let mut bytes = vec![0xee; message.len()];
        message.emit(Sum::ZERO, &mut bytes);
        prop_assert_eq!(IcmpMessage::parse(Sum::ZERO, &bytes), Ok(message));
    }
}
