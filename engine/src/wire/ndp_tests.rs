use super::*;
use crate::wire::Ipv6Packet;
use proptest::prelude::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn read(packet: &[u8]) -> Result<NdpMessage, DropReason> {
    let packet = Ipv6Packet::parse(packet)?;
    let message = icmpv6::parse(packet.src, packet.dst, packet.payload)?;
    NdpMessage::parse((packet.src, packet.dst), packet.hop_limit, &message)
}

fn message<'a>(kind: u8, rest: [u8; 4], data: &'a [u8]) -> IcmpMessage<'a> {
    IcmpMessage {
        kind,
        code: 0,
        rest,
        data,
    }
}

fn parse(src: &str, dst: &str, message: &IcmpMessage<'_>) -> Result<NdpMessage, DropReason> {
    NdpMessage::parse((ip(src), ip(dst)), HOP_LIMIT, message)
}

#[test]
fn what_is_sent_reads_back() {
    let ends = (ip("fd77::1"), ip("ff02::1:ff00:2"));
    assert_eq!(
        read(&solicitation(ends, ip("fd77::2"), Some(MAC))),
        Ok(NdpMessage::Solicitation {
            target: ip("fd77::2"),
            mac: Some(MAC)
        })
    );
    let ends = (ip("fd77::2"), ip("fd77::1"));
    assert_eq!(
        read(&advertisement(ends, ip("fd77::2"), MAC, true)),
        Ok(NdpMessage::Advertisement {
            target: ip("fd77::2"),
            mac: Some(MAC),
            router: false,
            solicited: true,
            overrides: true
        })
    );
}

#[test]
fn a_message_that_came_through_a_router_is_invalid() {
    let data = ip("fd77::2").octets();
    let message = message(kind::NEIGHBOR_SOLICITATION, [0; 4], &data);
    let ends = (ip("fd77::1"), ip("fd77::2"));
    for hop_limit in [0, 1, 64, 254] {
        assert_eq!(
            NdpMessage::parse(ends, hop_limit, &message),
            Err(DropReason::NdpInvalid)
        );
    }
    let coded = IcmpMessage { code: 1, ..message };
    assert_eq!(
        NdpMessage::parse(ends, HOP_LIMIT, &coded),
        Err(DropReason::NdpInvalid)
    );
}

#[test]
fn solicitations_must_be_of_the_form_that_rfc_4861_asks() {
    let invalid = Err(DropReason::NdpInvalid);
    let with_mac = [&ip("fd77::2").octets()[..], &mac_option(SOURCE_MAC, MAC)].concat();
    let bare = message(kind::NEIGHBOR_SOLICITATION, [0; 4], &with_mac[..16]);
    let full = message(kind::NEIGHBOR_SOLICITATION, [0; 4], &with_mac);
    assert!(parse("::", "ff02::1:ff00:2", &bare).is_ok());
    assert_eq!(parse("::", "ff02::1:ff00:2", &full), invalid);
    assert_eq!(parse("::", "fd77::2", &bare), invalid);
    assert!(parse("fd77::1", "fd77::2", &full).is_ok());
    let group = ip("ff02::5").octets();
    let group = message(kind::NEIGHBOR_SOLICITATION, [0; 4], &group);
    assert_eq!(parse("fd77::1", "ff02::5", &group), invalid);
    let short = message(kind::NEIGHBOR_SOLICITATION, [0; 4], &with_mac[..15]);
    assert_eq!(parse("fd77::1", "fd77::2", &short), invalid);
}

#[test]
fn an_answer_to_all_is_invalid() {
    let data = ip("fd77::1").octets();
    let answer = message(kind::NEIGHBOR_ADVERTISEMENT, [SOLICITED, 0, 0, 0], &data);
    assert!(parse("fd77::1", "fd77::2", &answer).is_ok());
    assert_eq!(
        parse("fd77::1", "ff02::1", &answer),
        Err(DropReason::NdpInvalid)
    );
}

#[test]
fn options_of_length_0_or_beyond_the_end_make_a_message_invalid() {
    for option in [
        &[1][..],
        &[1, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[99, 2, 0, 0, 0, 0, 0, 0],
        &[1, 1, 2, 0, 0, 0, 0],
    ] {
        let data = [&ip("fd77::2").octets()[..], option].concat();
        let message = message(kind::NEIGHBOR_SOLICITATION, [0; 4], &data);
        assert_eq!(
            parse("fd77::1", "fd77::2", &message),
            Err(DropReason::NdpInvalid),
            "{option:?}"
        );
    }
}

#[test]
fn a_station_that_cannot_be_makes_a_message_invalid() {
    for mac in [MacAddr::BROADCAST, MacAddr([0; 6]), MacAddr([3; 6])] {
        let data = [&ip("fd77::2").octets()[..], &mac_option(SOURCE_MAC, mac)].concat();
        let message = message(kind::NEIGHBOR_SOLICITATION, [0; 4], &data);
        assert_eq!(
            parse("fd77::1", "fd77::2", &message),
            Err(DropReason::NdpInvalid)
        );
    }
}

fn prefix_option(prefix: &str, len: u8, flags: u8) -> Vec<u8> {
    let mut option = vec![PREFIX, 4, len, flags];
    option.extend(7200u32.to_be_bytes());
    option.extend(3600u32.to_be_bytes());
    option.extend([0; 4]);
    option.extend(ip(prefix).octets());
    option
}

#[test]
fn a_router_advertisement_is_read_in_full() {
    let mut data = [30_000u32.to_be_bytes(), 2_000u32.to_be_bytes()].concat();
    data.extend(mac_option(SOURCE_MAC, MAC));
    data.extend([MTU, 1, 0, 0, 0, 0, 5, 0xdc]);
    data.extend(prefix_option("fd77::", 64, 0xc0));
    data.extend(prefix_option("fd78::", 129, 0xc0));
    data.extend([25, 1, 0, 0, 0, 0, 0, 0]);
    let router = message(kind::ROUTER_ADVERTISEMENT, [64, 0, 0x07, 0x08], &data);
    assert_eq!(
        parse("fe80::1", "ff02::1", &router),
        Ok(NdpMessage::Router(RouterAdvertisement {
            lifetime: 1800,
            reachable: 30_000,
            retransmit: 2_000,
            mac: Some(MAC),
            mtu: Some(1500),
            prefixes: vec![PrefixInformation {
                prefix: ip("fd77::"),
                len: 64,
                on_link: true,
                autonomous: true,
                valid: 7200,
                preferred: 3600,
            }],
        }))
    );
    assert_eq!(
        parse("fd77::1", "ff02::1", &router),
        Err(DropReason::NdpInvalid),
        "routers speak from their link-local address"
    );
}

#[test]
fn the_prefixes_of_an_advertisement_are_bounded() {
    let mut data = vec![0; 8];
    for _ in 0..200 {
        data.extend(prefix_option("fd77::", 64, 0xc0));
    }
    let router = message(kind::ROUTER_ADVERTISEMENT, [0; 4], &data);
    let Ok(NdpMessage::Router(router)) = parse("fe80::1", "ff02::1", &router) else {
        panic!("it is valid");
    };
    assert_eq!(router.prefixes.len(), MAX_PREFIXES);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        kind in 133u8..=137,
        rest: [u8; 4],
        data in prop::collection::vec(any::<u8>(), 0..120),
        src in prop::sample::select(vec!["::", "fe80::1", "fd77::1"]),
    ) {
        let _ = parse(src, "ff02::1", &message(kind, rest, &data));
    }
}
