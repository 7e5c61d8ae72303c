use super::*;
use crate::wire::icmpv6::{self, kind};
use crate::wire::ndp::{PrefixInformation, RouterAdvertisement};
use crate::wire::{Ipv6Header, extension, ipv6};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000;
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn host(change: impl FnOnce(&mut Ipv6Config)) -> Host<u32> {
    let mut config = Ipv6Config {
        addresses: vec![(ip("fd77::2"), 64)],
        ..Ipv6Config::default()
    };
    change(&mut config);
    let neighbors = neighbor::Config::default();
    let mut host = Host::new(&config, (MAC, 1500), neighbors, 0, true).unwrap();
    while host.poll_transmit(0).is_some() {}
    host
}

fn listening() -> Host<u32> {
    host(|config| {
        config.addresses.clear();
        config.autoconf = true;
    })
}

/// The ICMPv6 message in a packet, with its addresses.
fn opened(packet: &[u8]) -> (Ipv6Addr, Ipv6Addr, u8, Vec<u8>) {
    let packet = Ipv6Packet::parse(packet).unwrap();
    let upper = extension::walk(&packet).unwrap();
    let message = icmpv6::parse(packet.src, packet.dst, upper.payload).unwrap();
    (packet.src, packet.dst, message.kind, message.data.to_vec())
}

fn solicited(host: &mut Host<u32>, src: &str, target: &str, mac: Option<MacAddr>) -> Action<u32> {
    let message = NdpMessage::Solicitation {
        target: ip(target),
        mac,
    };
    host.on_ndp(0, ip(src), &message).unwrap()
}

fn advertisement(target: &str, mac: MacAddr) -> NdpMessage {
    NdpMessage::Advertisement {
        target: ip(target),
        mac: Some(mac),
        router: true,
        solicited: true,
        overrides: true,
    }
}

fn prefix(text: &str) -> PrefixInformation {
    PrefixInformation {
        prefix: ip(text),
        len: 64,
        on_link: true,
        autonomous: true,
        valid: 86_400,
        preferred: 3600,
    }
}

fn router(prefixes: &[PrefixInformation]) -> NdpMessage {
    NdpMessage::Router(RouterAdvertisement {
        lifetime: 1800,
        mac: Some(PEER),
        prefixes: prefixes.to_vec(),
        ..RouterAdvertisement::default()
    })
}

#[test]
fn a_neighbour_that_asks_is_answered_and_learned() {
    let mut host = host(|_| {});
    let action = solicited(&mut host, "fd77::1", "fd77::2", Some(PEER));
    let (packet, station) = action.reply.unwrap();
    let (src, dst, kind, data) = opened(&packet);
    assert_eq!((src, dst, station), (ip("fd77::2"), ip("fd77::1"), PEER));
    assert_eq!(kind, kind::NEIGHBOR_ADVERTISEMENT);
    assert_eq!(data[..16], ip("fd77::2").octets());
    assert_eq!(data[16..], [2, 1, 2, 0, 0, 0, 0, 1]);
    assert_eq!(host.lookup(0, ip("fd77::1")), Lookup::Resolved(PEER));
}

#[test]
fn a_question_about_others_is_not_answered() {
    let mut host = host(|_| {});
    let message = NdpMessage::Solicitation {
        target: ip("fd77::9"),
        mac: Some(PEER),
    };
    assert_eq!(
        host.on_ndp(0, ip("fd77::1"), &message),
        Err(DropReason::NdpNotForUs)
    );
}

#[test]
fn a_probe_for_our_address_is_answered_to_all() {
    let mut host = host(|_| {});
    let action = solicited(&mut host, "::", "fd77::2", None);
    let (packet, station) = action.reply.unwrap();
    assert_eq!(opened(&packet).1, ip("ff02::1"));
    assert_eq!(station, multicast_mac(ip("ff02::1")));
}

#[test]
fn a_question_without_a_station_is_answered_only_to_known_neighbours() {
    let mut host = host(|_| {});
    assert_eq!(solicited(&mut host, "fd77::1", "fd77::2", None).reply, None);
    assert_eq!(host.next_deadline(), None, "and nobody is asked for");
    solicited(&mut host, "fd77::1", "fd77::2", Some(PEER));
    let action = solicited(&mut host, "fd77::1", "fd77::2", None);
    assert_eq!(action.reply.unwrap().1, PEER);
}

#[test]
fn a_neighbour_is_asked_for_in_its_group_from_the_right_address() {
    let mut host = host(|_| {});
    assert_eq!(host.lookup(0, ip("fd77::1")), Lookup::Pending);
    assert_eq!(host.hold(ip("fd77::1"), 5), None);
    let (packet, station) = host.poll_transmit(0).unwrap();
    let group = ip("ff02::1:ff00:1");
    let (src, dst, kind, data) = opened(&packet);
    assert_eq!((src, dst, kind), (ip("fd77::2"), group, 135));
    assert_eq!(station, multicast_mac(group));
    assert_eq!(data[16..], [1, 1, 2, 0, 0, 0, 0, 1]);
    let answer = advertisement("fd77::1", PEER);
    let action = host.on_ndp(0, ip("fd77::1"), &answer).unwrap();
    assert_eq!(action.released, [5]);
}

#[test]
fn a_new_address_is_probed_and_its_group_reported_before_use() {
    let config = Ipv6Config {
        addresses: vec![(ip("fd77::2"), 64)],
        dad_probes: 1,
        ..Ipv6Config::default()
    };
    let neighbors = neighbor::Config::default();
    let mut host: Host<u32> = Host::new(&config, (MAC, 1500), neighbors, 0, true).unwrap();
    let start = autoconf::jitter(MAC, 1);
    let (report, _) = host.poll_transmit(0).unwrap();
    assert_eq!(opened(&report).0, Ipv6Addr::UNSPECIFIED);
    assert_eq!(host.poll_transmit(0), None);
    let mut probed = Vec::new();
    while let Some((packet, _)) = host.poll_transmit(start) {
        let (src, dst, kind, data) = opened(&packet);
        assert_eq!((src, kind, data.len()), (Ipv6Addr::UNSPECIFIED, 135, 16));
        probed.push(dst);
    }
    let own = Prefix6::LINK_LOCAL.with_identifier_of(MAC);
    assert_eq!(probed, [solicited_node(own), ip("ff02::1:ff00:2")]);
    while host.poll_transmit(start + SECOND).is_some() {}
    assert!(host.addresses.is_ours(ip("fd77::2")));
}

#[test]
fn an_address_that_another_has_or_probes_for_is_given_up() {
    for probe in [true, false] {
        let config = Ipv6Config {
            addresses: vec![(ip("fd77::2"), 64)],
            dad_probes: 1,
            ..Ipv6Config::default()
        };
        let neighbors = neighbor::Config::default();
        let mut host: Host<u32> = Host::new(&config, (MAC, 1500), neighbors, 0, true).unwrap();
        while host.poll_transmit(SECOND).is_some() {}
        let action = match probe {
            true => solicited(&mut host, "::", "fd77::2", None),
            false => {
                let answer = advertisement("fd77::2", PEER);
                host.on_ndp(0, ip("fd77::2"), &answer).unwrap()
            }
        };
        assert_eq!(action.conflict, Some(ip("fd77::2")));
        while host.poll_transmit(9 * SECOND).is_some() {}
        assert!(!host.addresses.is_ours(ip("fd77::2")));
    }
}

#[test]
fn an_address_made_here_that_another_has_is_replaced_three_times_and_then_given_up() {
    let config = Ipv6Config {
        autoconf: true,
        dad_probes: 1,
        ..Ipv6Config::default()
    };
    let neighbors = neighbor::Config::default();
    let mut host: Host<u32> = Host::new(&config, (MAC, 1500), neighbors, 0, true).unwrap();
    let network = Prefix6::new(ip("2001:db8::"), 64).unwrap();
    let advertise = |host: &mut Host<u32>, now| {
        let router = router(&[prefix("2001:db8::")]);
        host.on_ndp(now, ip("fe80::1"), &router).unwrap();
    };
    let mut now = SECOND;
    advertise(&mut host, now);
    for conflicts in 0..=3 {
        let made = network.with_identifier_after(MAC, conflicts);
        while host.poll_transmit(now).is_some() {}
        assert!(host.addresses.is_tentative(made), "{conflicts}");
        let action = host.on_ndp(
            now,
            made,
            &NdpMessage::Advertisement {
                target: made,
                mac: Some(PEER),
                router: false,
                solicited: false,
                overrides: true,
            },
        );
        assert_eq!(action.unwrap().conflict, Some(made));
        assert!(!host.addresses.is_tentative(made));
        now += SECOND;
    }
    // The router's next advertisement does not begin all over.
    advertise(&mut host, now);
    now += 9 * SECOND;
    while host.poll_transmit(now).is_some() {}
    let mut own = host.addresses.iter();
    assert!(own.all(|address| address.is_unicast_link_local()));
}

#[test]
fn the_address_that_took_anothers_place_gets_the_networks_lifetime() {
    let mut host = listening();
    let network = Prefix6::new(ip("2001:db8::"), 64).unwrap();
    let first = network.with_identifier_of(MAC);
    let next = network.with_identifier_after(MAC, 1);
    host.on_ndp(0, ip("fe80::1"), &router(&[prefix("2001:db8::")]))
        .unwrap();
    assert!(host.try_next_identifier(0, first));
    let before = host.addresses.valid_until(next).unwrap();
    host.on_ndp(SECOND, ip("fe80::1"), &router(&[prefix("2001:db8::")]))
        .unwrap();
    assert_eq!(host.addresses.valid_until(next), Some(before + SECOND));
    assert_eq!(host.addresses.valid_until(first), None);
}

#[test]
fn an_address_in_use_is_defended_by_staying() {
    let mut host = host(|_| {});
    let answer = advertisement("fd77::2", PEER);
    let action = host.on_ndp(0, ip("fd77::2"), &answer).unwrap();
    assert_eq!(action.conflict, Some(ip("fd77::2")));
    assert!(host.addresses.is_ours(ip("fd77::2")));
}

#[test]
fn routers_are_solicited_until_one_answers() {
    let config = Ipv6Config {
        autoconf: true,
        ..Ipv6Config::default()
    };
    let neighbors = neighbor::Config::default();
    let mut host: Host<u32> = Host::new(&config, (MAC, 1500), neighbors, 0, true).unwrap();
    let mut asked = 0;
    for second in 0..60 {
        while let Some((packet, _)) = host.poll_transmit(second * SECOND) {
            asked += usize::from(opened(&packet).2 == kind::ROUTER_SOLICITATION);
        }
    }
    assert_eq!(asked, 3);
    let mut host = listening();
    host.on_ndp(0, ip("fe80::1"), &router(&[])).unwrap();
    assert_eq!(host.next_deadline(), None);
}

#[test]
fn a_router_gives_an_address_a_network_and_a_way_out() {
    let mut host = listening();
    host.on_ndp(0, ip("fe80::1"), &router(&[prefix("2001:db8::")]))
        .unwrap();
    let own = Prefix6::new(ip("2001:db8::"), 64)
        .unwrap()
        .with_identifier_of(MAC);
    assert!(host.addresses.is_ours(own));
    assert_eq!(host.next_hop(0, ip("2001:db8::9")), Some(ip("2001:db8::9")));
    assert_eq!(host.next_hop(0, ip("2001:db9::9")), Some(ip("fe80::1")));
    assert_eq!(host.lookup(0, ip("fe80::1")), Lookup::Resolved(PEER));
    assert_eq!(host.next_hop(1800 * SECOND, ip("2001:db9::9")), None);
}

#[test]
fn with_static_addresses_routers_are_not_listened_to() {
    let mut host = host(|_| {});
    assert_eq!(
        host.on_ndp(0, ip("fe80::1"), &router(&[prefix("2001:db8::")])),
        Err(DropReason::NdpIgnored)
    );
    assert_eq!(
        host.on_ndp(0, ip("fe80::1"), &NdpMessage::Redirect),
        Err(DropReason::NdpIgnored)
    );
    assert_eq!(host.next_hop(0, ip("2001:db8::9")), None);
}

#[test]
fn a_forged_lifetime_cannot_end_an_address_before_two_hours() {
    let mut host = listening();
    let long = prefix("2001:db8::");
    host.on_ndp(0, ip("fe80::1"), &router(&[long])).unwrap();
    let own = Prefix6::new(ip("2001:db8::"), 64)
        .unwrap()
        .with_identifier_of(MAC);
    for (said, left) in [(0, 7200), (10, 7200), (20_000, 20_000)] {
        let short = PrefixInformation {
            valid: said,
            preferred: 0,
            ..long
        };
        host.on_ndp(0, ip("fe80::1"), &router(&[long])).unwrap();
        host.on_ndp(0, ip("fe80::1"), &router(&[short])).unwrap();
        assert_eq!(host.addresses.valid_until(own), Some(left * SECOND));
    }
}

#[test]
fn prefixes_that_make_no_sense_make_no_address() {
    let good = prefix("2001:db8::");
    for wrong in [
        PrefixInformation { len: 48, ..good },
        PrefixInformation {
            valid: 0,
            preferred: 0,
            ..good
        },
        PrefixInformation {
            preferred: 90_000,
            ..good
        },
        PrefixInformation {
            autonomous: false,
            ..good
        },
        prefix("fe80::"),
        prefix("ff02::"),
    ] {
        let mut host = listening();
        host.on_ndp(0, ip("fe80::1"), &router(&[wrong])).unwrap();
        assert_eq!(host.addresses.iter().count(), 1, "{wrong:?}");
    }
}

#[test]
fn a_flood_of_router_advertisements_is_bounded() {
    let mut host = listening();
    for i in 0..10_000u32 {
        let [a, b] = [(i >> 16) as u16, i as u16];
        let block = Ipv6Addr::new(0x2001, 0xdb8, a, b, 0, 0, 0, 0);
        let from = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, a, b);
        let mut one = prefix("::");
        one.prefix = block;
        host.on_ndp(0, from, &router(&[one])).unwrap();
    }
    assert_eq!(host.addresses.iter().count(), Addresses::LIMIT);
    assert!(host.neighbors.len() <= 1024);
}

#[test]
fn the_mtu_that_routers_say_is_taken_within_bounds() {
    let mut host = listening();
    for (said, taken) in [
        (1400, 1400),
        (1000, 1400),
        (9000, 1400),
        (1_000_000, 1400),
        (1280, 1280),
    ] {
        let advertised = NdpMessage::Router(RouterAdvertisement {
            mtu: Some(said),
            ..RouterAdvertisement::default()
        });
        host.on_ndp(0, ip("fe80::1"), &advertised).unwrap();
        assert_eq!(host.mtu(), taken);
    }
}

#[test]
fn packets_to_us_and_our_groups_are_accepted_and_no_others() {
    let host = host(|_| {});
    let accept = |src: &str, dst: &str, link| {
        let mut bytes = [0; ipv6::HEADER_LEN];
        Ipv6Header {
            src: ip(src),
            dst: ip(dst),
            next_header: 6,
            hop_limit: 64,
            traffic_class: 0,
            payload_len: 0,
        }
        .emit(&mut bytes);
        host.accept(&Ipv6Packet::parse(&bytes).unwrap(), link)
    };
    use LinkDestination::{Broadcast, Unicast};
    let ours = Ok(Destination6::Ours);
    assert_eq!(accept("fd77::1", "fd77::2", Unicast), ours);
    assert_eq!(
        accept("fd77::1", "ff02::1:ff00:2", Broadcast),
        Ok(Destination6::Group)
    );
    assert_eq!(
        accept("fd77::1", "fd77::2", Broadcast),
        Err(DropReason::Ipv6UnicastInMulticast)
    );
    for dst in [
        "fd77::3",
        "ff02::2",
        "ff02::fb",
        "::1",
        "::",
        "::ffff:10.77.0.2",
    ] {
        assert_eq!(
            accept("fd77::1", dst, Unicast),
            Err(DropReason::Ipv6NotForUs),
            "{dst}"
        );
    }
    for src in ["::1", "ff02::1", "::ffff:10.0.0.1", "fd77::2"] {
        assert_eq!(
            accept(src, "fd77::2", Unicast),
            Err(DropReason::Ipv6BadSource),
            "{src}"
        );
    }
}

#[test]
fn a_query_is_answered_with_all_groups() {
    let mut host = host(|_| {});
    assert_eq!(host.poll_transmit(0), None);
    host.on_listener_query();
    let (packet, _) = host.poll_transmit(0).unwrap();
    let (src, _, kind, data) = opened(&packet);
    assert!(src.is_unicast_link_local());
    assert_eq!((kind, data.len()), (kind::LISTENER_REPORT, 2 * 20));
    assert_eq!(host.poll_transmit(0), None);
}

#[test]
fn of_several_hosts_with_one_station_one_speaks() {
    let config = Ipv6Config {
        addresses: vec![(ip("fd77::2"), 64)],
        autoconf: true,
        dad_probes: 1,
        ..Ipv6Config::default()
    };
    let neighbors = neighbor::Config::default();
    let mut host: Host<u32> = Host::new(&config, (MAC, 1500), neighbors, 0, false).unwrap();
    for second in 0..9 {
        assert_eq!(host.poll_transmit(second * SECOND), None);
    }
    assert!(host.addresses.is_ours(ip("fd77::2")));
    host.lookup(9 * SECOND, ip("fd77::1"));
    assert!(
        host.poll_transmit(9 * SECOND).is_some(),
        "it asks for its own neighbours"
    );
}

#[test]
fn a_gateway_that_is_not_on_the_link_is_refused() {
    let through = |gateway: &str| {
        let config = Ipv6Config {
            addresses: vec![(ip("fd77::2"), 64)],
            routes: vec![Route6 {
                prefix: Prefix6::ALL,
                gateway: Some(ip(gateway)),
            }],
            ..Ipv6Config::default()
        };
        let neighbors = neighbor::Config::default();
        Host::<u32>::new(&config, (MAC, 1500), neighbors, 0, true).map(drop)
    };
    assert_eq!(through("fd77::1"), Ok(()));
    assert_eq!(through("fe80::1"), Ok(()));
    assert!(through("2001:db8::1").is_err());
}

#[test]
fn a_second_route_to_the_same_destination_is_refused() {
    let to = |text: &str, len| {
        let prefix = Prefix6::new(ip(text), len).unwrap();
        let gateway = Some(ip("fd77::1"));
        Route6 { prefix, gateway }
    };
    let with = |routes| {
        let config = Ipv6Config {
            addresses: vec![(ip("fd77::2"), 64)],
            routes,
            ..Ipv6Config::default()
        };
        let neighbors = neighbor::Config::default();
        Host::<u32>::new(&config, (MAC, 1500), neighbors, 0, true).map(drop)
    };
    let twice = |route: Route6| Err(crate::net::NetError::DuplicateRoute6(route.prefix));
    let (far, connected) = (to("2001:db8::", 32), to("fd77::", 64));
    assert_eq!(with(vec![far, to("2001:db8::", 48)]), Ok(()));
    assert_eq!(with(vec![far, far]), twice(far));
    assert_eq!(with(vec![connected]), twice(connected));
}

proptest! {
    #[test]
    fn hostile_advertisements_keep_every_bound(
        events in prop::collection::vec((any::<u8>(), any::<[u32; 4]>(), any::<u8>()), 0..100),
    ) {
        let mut host = listening();
        let mut now = 0;
        for (kind, [a, b, c, d], len) in events {
            now += u64::from(a % 10_000_000);
            let address = Ipv6Addr::from_bits(u128::from(b) << 96 | u128::from(c));
            let message = match kind % 4 {
                0 => NdpMessage::Solicitation { target: address, mac: Some(PEER) },
                1 => NdpMessage::Advertisement {
                    target: address,
                    mac: (d & 1 != 0).then_some(PEER),
                    router: d & 2 != 0,
                    solicited: d & 4 != 0,
                    overrides: d & 8 != 0,
                },
                _ => NdpMessage::Router(RouterAdvertisement {
                    lifetime: a as u16,
                    reachable: b,
                    retransmit: c,
                    mac: Some(PEER),
                    mtu: Some(d),
                    prefixes: vec![PrefixInformation {
                        prefix: address,
                        len: len % 129,
                        on_link: d & 1 != 0,
                        autonomous: d & 2 != 0,
                        valid: c,
                        preferred: d,
                    }],
                }),
            };
            let _ = host.on_ndp(now, ip("fe80::1"), &message);
            let _ = host.lookup(now, address);
            let _ = host.next_hop(now, address);
            for _ in 0..2_000 {
                if host.poll_transmit(now).is_none() { break; }
            }
            prop_assert_eq!(host.poll_transmit(now), None);
            prop_assert!(host.addresses.iter().count() <= Addresses::LIMIT);
            prop_assert!((1280..=1500).contains(&host.mtu()));
        }
    }
}
