use super::*;
use crate::net::InterfaceAddress;
use crate::wire::DropReason;
use crate::wire::arp::Operation;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000;

const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const US: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

type Table = NeighborTable<&'static str>;

fn table_with(config: NeighborConfig) -> Table {
    let mut local = LocalAddresses::default();
    local.add(InterfaceAddress::new(US, 24).unwrap()).unwrap();
    NeighborTable::new(OUR_MAC, local, config)
}

fn table() -> Table {
    table_with(NeighborConfig::default())
}

fn host(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, n)
}

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, n])
}

fn reply(n: u8) -> ArpPacket {
    ArpPacket {
        operation: Operation::Reply,
        sender_mac: mac(n),
        sender_ip: host(n),
        target_mac: OUR_MAC,
        target_ip: US,
    }
}

fn request(n: u8) -> ArpPacket {
    ArpPacket {
        operation: Operation::Request,
        target_mac: MacAddr::default(),
        ..reply(n)
    }
}

fn announcement(n: u8, mac: MacAddr) -> ArpPacket {
    ArpPacket {
        operation: Operation::Request,
        sender_mac: mac,
        sender_ip: host(n),
        target_mac: MacAddr::default(),
        target_ip: host(n),
    }
}

/// Sends all that is due; returns whom it was about, and to which station it went.
fn sent(table: &mut Table, now: u64) -> Vec<(Ipv4Addr, MacAddr)> {
    std::iter::from_fn(|| table.poll_transmit(now))
        .map(|(packet, to)| (packet.target_ip, to))
        .collect()
}

/// A table that has learned host `n` at time 0.
fn table_knowing(n: u8) -> Table {
    let mut table = table();
    assert_eq!(table.lookup(0, host(n)), Lookup::Pending);
    assert_eq!(sent(&mut table, 0).len(), 1);
    table.on_arp(0, &reply(n)).unwrap();
    table
}

#[test]
fn an_unknown_neighbour_is_asked_for_by_broadcast() {
    let mut table = table();
    assert_eq!(table.lookup(5, host(1)), Lookup::Pending);
    assert_eq!(table.next_deadline(), Some(5));
    let (packet, to) = table.poll_transmit(5).unwrap();
    assert_eq!(to, MacAddr::BROADCAST);
    assert_eq!(
        packet,
        ArpPacket {
            operation: Operation::Request,
            sender_mac: OUR_MAC,
            sender_ip: US,
            target_mac: MacAddr([0; 6]),
            target_ip: host(1),
        }
    );
}

#[test]
fn a_reply_resolves_and_releases_what_was_held_in_order() {
    let mut table = table();
    assert_eq!(table.lookup(0, host(1)), Lookup::Pending);
    assert_eq!(table.hold(host(1), "a"), None);
    assert_eq!(table.hold(host(1), "b"), None);
    sent(&mut table, 0);
    let action = table.on_arp(10, &reply(1)).unwrap();
    assert_eq!(action.released, ["a", "b"]);
    assert_eq!((action.reply, action.conflict), (None, false));
    assert_eq!(table.lookup(10, host(1)), Lookup::Resolved(mac(1)));
    assert_eq!(table.next_deadline(), None);
}

#[test]
fn an_unresolved_neighbour_blocks_nobody_else() {
    let mut table = table_knowing(1);
    assert_eq!(table.lookup(0, host(9)), Lookup::Pending);
    for item in ["x", "y", "z"] {
        assert_eq!(table.hold(host(9), item), None);
    }
    assert_eq!(table.hold(host(9), "one too many"), Some("x"));

    assert_eq!(table.lookup(0, host(1)), Lookup::Resolved(mac(1)));
    assert_eq!(table.lookup(0, host(3)), Lookup::Pending);
    assert_eq!(table.hold(host(3), "to 3"), None);
    let asked: Vec<_> = sent(&mut table, 0).into_iter().map(|(ip, _)| ip).collect();
    assert_eq!(asked, [host(3), host(9)]);
    assert_eq!(table.on_arp(1, &reply(3)).unwrap().released, ["to 3"]);
}

#[test]
fn at_the_bound_the_oldest_item_held_makes_room() {
    let mut table = table();
    table.lookup(0, host(1));
    for item in ["a", "b", "c"] {
        assert_eq!(table.hold(host(1), item), None);
    }
    assert_eq!(table.hold(host(1), "d"), Some("a"));
    assert_eq!(
        table.on_arp(0, &reply(1)).unwrap().released,
        ["b", "c", "d"]
    );
}

#[test]
fn nothing_is_held_for_a_neighbour_that_is_not_pending() {
    let mut table = table_knowing(1);
    assert_eq!(table.hold(host(1), "known"), Some("known"));
    assert_eq!(
        table.hold(host(2), "never looked up"),
        Some("never looked up")
    );
}

#[test]
fn requests_go_out_once_a_second_however_often_a_neighbour_is_looked_up() {
    let mut table = table();
    let mut times = Vec::new();
    for now in (0..2_900_000).step_by(10_000) {
        table.lookup(now, host(1));
        times.extend(sent(&mut table, now).iter().map(|_| now));
    }
    assert_eq!(times, [0, SECOND, 2 * SECOND]);
}

#[test]
fn a_neighbour_that_never_answers_is_unreachable_after_three_tries() {
    let mut table = table();
    table.lookup(0, host(1));
    assert_eq!(table.hold(host(1), "syn"), None);
    for second in 0..3 {
        assert_eq!(table.next_deadline(), Some(second * SECOND));
        assert_eq!(
            sent(&mut table, second * SECOND),
            [(host(1), MacAddr::BROADCAST)]
        );
        assert_eq!(table.poll_unresolved(), None);
    }
    assert_eq!(table.next_deadline(), Some(3 * SECOND));
    assert_eq!(sent(&mut table, 3 * SECOND), []);
    assert_eq!(table.next_deadline(), Some(0));
    assert_eq!(
        table.poll_unresolved(),
        Some(Unresolved {
            address: host(1),
            held: vec!["syn"],
            evicted: false,
        })
    );
    assert_eq!(table.poll_unresolved(), None);
    assert_eq!(table.lookup(3 * SECOND, host(1)), Lookup::Unreachable);
    assert_eq!(table.next_deadline(), None);
}

#[test]
fn an_unreachable_neighbour_is_asked_for_again_later() {
    let mut table = table();
    table.lookup(0, host(1));
    for second in 0..=3 {
        sent(&mut table, second * SECOND);
    }
    assert_eq!(table.lookup(4 * SECOND - 1, host(1)), Lookup::Unreachable);
    assert_eq!(table.lookup(4 * SECOND, host(1)), Lookup::Pending);
    assert_eq!(sent(&mut table, 4 * SECOND).len(), 1);
    table.on_arp(4 * SECOND, &reply(1)).unwrap();
    assert_eq!(table.lookup(4 * SECOND, host(1)), Lookup::Resolved(mac(1)));
}

#[test]
fn an_old_entry_is_probed_by_unicast_and_usable_meanwhile() {
    let mut table = table_knowing(1);
    assert_eq!(
        table.lookup(60 * SECOND - 1, host(1)),
        Lookup::Resolved(mac(1))
    );
    assert_eq!(sent(&mut table, 60 * SECOND - 1), []);

    assert_eq!(table.lookup(60 * SECOND, host(1)), Lookup::Resolved(mac(1)));
    let (packet, to) = table.poll_transmit(60 * SECOND).unwrap();
    assert_eq!((to, packet.target_mac), (mac(1), mac(1)));
    assert_eq!(table.lookup(61 * SECOND, host(1)), Lookup::Resolved(mac(1)));

    table.on_arp(61 * SECOND, &reply(1)).unwrap();
    table.lookup(120 * SECOND, host(1));
    assert_eq!(sent(&mut table, 120 * SECOND), []);
    assert_eq!(table.next_deadline(), None);
}

#[test]
fn an_entry_that_nobody_uses_is_not_probed() {
    let mut table = table_knowing(1);
    assert_eq!(table.next_deadline(), None);
    assert_eq!(sent(&mut table, 3600 * SECOND), []);
}

#[test]
fn a_neighbour_whose_probes_fail_is_asked_for_by_broadcast() {
    let mut table = table_knowing(1);
    let start = 100 * SECOND;
    table.lookup(start, host(1));
    for second in 0..3 {
        assert_eq!(
            sent(&mut table, start + second * SECOND),
            [(host(1), mac(1))]
        );
    }
    let gone = start + 3 * SECOND;
    assert_eq!(sent(&mut table, gone), []);
    assert_eq!(table.poll_unresolved(), None);
    assert_eq!(table.lookup(gone, host(1)), Lookup::Pending);
    assert_eq!(sent(&mut table, gone), [(host(1), MacAddr::BROADCAST)]);
}

#[test]
fn a_confirmation_by_other_means_spares_the_probe() {
    let mut table = table_knowing(1);
    table.confirm(59 * SECOND, host(1), mac(1));
    table.lookup(118 * SECOND, host(1));
    assert_eq!(sent(&mut table, 118 * SECOND), []);
    table.lookup(119 * SECOND, host(1));
    table.confirm(119 * SECOND, host(1), mac(7));
    assert_eq!(table.next_deadline(), Some(119 * SECOND), "another station");
    table.confirm(119 * SECOND, host(1), mac(1));
    assert_eq!(sent(&mut table, 119 * SECOND), []);
}

#[test]
fn confirming_an_unknown_neighbour_resolves_nothing() {
    let mut table = table();
    table.confirm(0, host(1), mac(1));
    assert!(table.is_empty());
    table.lookup(0, host(1));
    table.confirm(0, host(1), mac(1));
    assert_eq!(table.lookup(0, host(1)), Lookup::Pending);
}

#[test]
fn a_request_for_our_address_is_answered_and_its_sender_learned() {
    let mut table = table();
    let action = table.on_arp(0, &request(1)).unwrap();
    assert_eq!(
        action.reply,
        Some(ArpPacket {
            operation: Operation::Reply,
            sender_mac: OUR_MAC,
            sender_ip: US,
            target_mac: mac(1),
            target_ip: host(1),
        })
    );
    assert_eq!(table.lookup(0, host(1)), Lookup::Resolved(mac(1)));
}

#[test]
fn everybody_is_asked_for_who_was_only_heard_unless_it_is_confirmed_meanwhile() {
    for confirmed in [false, true] {
        let mut table = table();
        table.on_arp(0, &request(1)).unwrap();
        assert_eq!(sent(&mut table, 90 * SECOND), [], "nobody uses it");
        let start = 100 * SECOND;
        assert_eq!(table.lookup(start, host(1)), Lookup::Resolved(mac(1)));
        // Nobody has asked for this.
        table.on_arp(start, &reply(1)).unwrap();
        let due = start + 5 * SECOND;
        assert_eq!(table.next_deadline(), Some(due));
        if confirmed {
            table.confirm(due - 1, host(1), mac(1));
            assert_eq!(sent(&mut table, due), []);
        } else {
            assert_eq!(sent(&mut table, due), [(host(1), MacAddr::BROADCAST)]);
            table.on_arp(due, &announcement(1, mac(7))).unwrap();
            let owner = ArpPacket {
                sender_mac: mac(3),
                ..reply(1)
            };
            table.on_arp(due, &owner).unwrap();
            assert_eq!(table.lookup(due, host(1)), Lookup::Resolved(mac(3)));
        }
        assert_eq!(table.next_deadline(), None);
    }
}

#[test]
fn a_request_from_a_pending_neighbour_releases_what_was_held() {
    let mut table = table();
    table.lookup(0, host(1));
    assert_eq!(table.hold(host(1), "a"), None);
    assert_eq!(table.on_arp(0, &request(1)).unwrap().released, ["a"]);
}

#[test]
fn a_probe_for_our_address_is_answered_but_teaches_nothing() {
    let mut table = table();
    let probe = ArpPacket {
        sender_ip: Ipv4Addr::UNSPECIFIED,
        ..request(1)
    };
    let action = table.on_arp(0, &probe).unwrap();
    assert_eq!(action.reply.unwrap().target_mac, mac(1));
    assert!(table.is_empty());
}

#[test]
fn requests_and_replies_between_others_are_ignored() {
    let mut table = table_knowing(1);
    let for_another = ArpPacket {
        sender_mac: mac(99),
        target_ip: host(50),
        ..request(1)
    };
    let to_another_station = ArpPacket {
        sender_mac: mac(99),
        target_mac: mac(50),
        ..reply(1)
    };
    for packet in [for_another, to_another_station] {
        assert_eq!(
            table.on_arp(0, &packet),
            Err(DropReason::ArpNotForUs),
            "{packet:?}"
        );
    }
    assert_eq!(table.lookup(0, host(1)), Lookup::Resolved(mac(1)));
}

#[test]
fn a_reply_that_nobody_asked_for_makes_no_entry() {
    let mut table = table();
    table.on_arp(0, &reply(1)).unwrap();
    assert!(table.is_empty());
}

#[test]
fn of_two_stations_with_one_address_it_has_who_answers_when_everybody_is_asked() {
    for owner in [1, 7] {
        for claim in [reply(1), request(1), announcement(1, mac(1))] {
            let mut table = table_knowing(1);
            let claim = ArpPacket {
                sender_mac: mac(7),
                ..claim
            };
            for _ in 0..10 {
                table.on_arp(SECOND, &claim).unwrap();
                // The station that was confirmed keeps it until then.
                assert_eq!(table.lookup(SECOND, host(1)), Lookup::Resolved(mac(1)));
            }
            assert_eq!(sent(&mut table, SECOND), [(host(1), MacAddr::BROADCAST)]);
            let answer = ArpPacket {
                sender_mac: mac(owner),
                ..reply(1)
            };
            table.on_arp(SECOND, &answer).unwrap();
            let known = Lookup::Resolved(mac(owner));
            assert_eq!(table.lookup(SECOND, host(1)), known);
            assert_eq!(table.next_deadline(), None);
        }
    }
}

#[test]
fn of_several_answers_the_first_counts() {
    let mut table = table_knowing(1);
    let second = ArpPacket {
        sender_mac: mac(7),
        ..reply(1)
    };
    table.on_arp(SECOND - 1, &second).unwrap();
    assert_eq!(table.lookup(SECOND, host(1)), Lookup::Resolved(mac(1)));
    assert_eq!(table.next_deadline(), None);
}

#[test]
fn who_does_not_answer_when_two_want_its_address_loses_it() {
    let mut table = table_knowing(1);
    let start = 2 * SECOND;
    table.on_arp(start, &announcement(1, mac(7))).unwrap();
    table.lookup(start, host(1));
    for second in 0..3 {
        let asked = sent(&mut table, start + second * SECOND);
        assert_eq!(asked, [(host(1), MacAddr::BROADCAST)]);
    }
    assert_eq!(sent(&mut table, start + 3 * SECOND), []);
    assert_eq!(table.lookup(start + 3 * SECOND, host(1)), Lookup::Pending);
}

#[test]
fn a_flood_of_announcements_does_not_hasten_the_probes() {
    let mut table = table_knowing(1);
    table.on_arp(1, &announcement(1, mac(7))).unwrap();
    assert_eq!(table.lookup(1, host(1)), Lookup::Resolved(mac(1)));
    assert_eq!(sent(&mut table, 1), []);
    assert_eq!(table.next_deadline(), Some(SECOND));
}

#[test]
fn an_announcement_of_an_unknown_neighbour_makes_no_entry() {
    let mut table = table();
    let action = table.on_arp(0, &announcement(1, mac(1))).unwrap();
    assert_eq!(action.reply, None);
    assert!(table.is_empty());
}

#[test]
fn a_sender_off_the_link_is_answered_but_not_learned() {
    let mut table = table();
    let packet = ArpPacket {
        sender_ip: Ipv4Addr::new(192, 0, 2, 1),
        ..request(1)
    };
    assert!(table.on_arp(0, &packet).unwrap().reply.is_some());
    assert!(table.is_empty());
}

#[test]
fn another_station_with_our_address_is_noticed_and_not_learned() {
    let mut table = table();
    for packet in [announcement(2, mac(66)), request(2), reply(2)] {
        let action = table.on_arp(0, &packet).unwrap();
        assert!(action.conflict, "{packet:?}");
        assert_eq!(action.reply, None);
    }
    assert!(table.is_empty());
}

#[test]
fn senders_with_impossible_addresses_are_dropped() {
    let mut table = table();
    let packets = [
        ArpPacket {
            sender_mac: MacAddr::BROADCAST,
            ..request(1)
        },
        ArpPacket {
            sender_mac: MacAddr([0; 6]),
            ..request(1)
        },
        ArpPacket {
            sender_mac: OUR_MAC,
            ..request(1)
        },
        ArpPacket {
            sender_ip: Ipv4Addr::BROADCAST,
            ..request(1)
        },
        ArpPacket {
            sender_ip: Ipv4Addr::new(224, 0, 0, 1),
            ..request(1)
        },
        ArpPacket {
            sender_ip: Ipv4Addr::LOCALHOST,
            ..request(1)
        },
        ArpPacket {
            sender_ip: host(255),
            ..request(1)
        },
        ArpPacket {
            sender_ip: Ipv4Addr::UNSPECIFIED,
            ..reply(1)
        },
    ];
    for packet in packets {
        assert_eq!(
            table.on_arp(0, &packet),
            Err(DropReason::ArpBadSender),
            "{packet:?}"
        );
    }
    assert!(table.is_empty());
}

#[test]
fn static_entries_neither_age_nor_change() {
    let mut table = table();
    table.add_static(Prefix::host(host(1)), mac(1)).unwrap();
    table.on_arp(0, &announcement(1, mac(66))).unwrap();
    let forged = ArpPacket {
        sender_mac: mac(66),
        ..request(1)
    };
    table.on_arp(0, &forged).unwrap();
    let later = 7 * 24 * 3600 * SECOND;
    assert_eq!(table.lookup(later, host(1)), Lookup::Resolved(mac(1)));
    assert_eq!(sent(&mut table, later), []);
}

#[test]
fn a_static_prefix_covers_its_addresses_unless_one_has_its_own_entry() {
    let mut table = table();
    let wide = Prefix::new(host(0), 24).unwrap();
    let narrow = Prefix::new(host(128), 25).unwrap();
    table.add_static(narrow, mac(2)).unwrap();
    table.add_static(wide, mac(1)).unwrap();
    table.add_static(Prefix::host(host(5)), mac(3)).unwrap();
    assert_eq!(table.lookup(0, host(9)), Lookup::Resolved(mac(1)));
    assert_eq!(table.lookup(0, host(200)), Lookup::Resolved(mac(2)));
    assert_eq!(table.lookup(0, host(5)), Lookup::Resolved(mac(3)));
    assert_eq!(table.next_deadline(), None);
    table.add_static(wide, mac(4)).unwrap();
    assert_eq!(table.lookup(0, host(9)), Lookup::Resolved(mac(4)));
    table.on_arp(0, &request(9)).unwrap();
    assert_eq!(table.lookup(0, host(9)), Lookup::Resolved(mac(4)));
}

#[test]
fn a_full_table_evicts_what_was_unused_for_longest_but_never_static_entries() {
    let mut table = table_with(NeighborConfig {
        max_entries: 3,
        ..NeighborConfig::default()
    });
    table.add_static(Prefix::host(host(1)), mac(1)).unwrap();
    table.on_arp(10, &request(3)).unwrap();
    table.on_arp(20, &request(4)).unwrap();
    table.lookup(30, host(3));
    table.on_arp(40, &request(5)).unwrap();
    assert_eq!(table.len(), 3);
    assert_eq!(table.lookup(50, host(1)), Lookup::Resolved(mac(1)));
    assert_eq!(table.lookup(50, host(3)), Lookup::Resolved(mac(3)));
    assert_eq!(table.lookup(50, host(5)), Lookup::Resolved(mac(5)));
    assert_eq!(table.lookup(50, host(4)), Lookup::Pending);
}

#[test]
fn what_an_evicted_neighbour_held_is_given_back() {
    let mut table = table_with(NeighborConfig {
        max_entries: 1,
        ..NeighborConfig::default()
    });
    table.lookup(0, host(1));
    assert_eq!(table.hold(host(1), "a"), None);
    assert_eq!(table.lookup(1, host(3)), Lookup::Pending);
    assert_eq!(
        table.poll_unresolved(),
        Some(Unresolved {
            address: host(1),
            held: vec!["a"],
            evicted: true,
        })
    );
    assert_eq!(sent(&mut table, 1), [(host(3), MacAddr::BROADCAST)]);
}

#[test]
fn a_table_full_of_static_entries_has_no_room() {
    let mut table = table_with(NeighborConfig {
        max_entries: 1,
        ..NeighborConfig::default()
    });
    table.add_static(Prefix::host(host(1)), mac(1)).unwrap();
    assert_eq!(table.lookup(0, host(3)), Lookup::NoRoom);
    assert!(table.on_arp(0, &request(3)).unwrap().reply.is_some());
    assert!(matches!(
        table.add_static(Prefix::host(host(4)), mac(4)),
        Err(NetError::Full { .. })
    ));
    assert_eq!(table.len(), 1);
}

#[test]
fn failures_that_nobody_fetches_are_bounded() {
    let mut table = table_with(NeighborConfig {
        max_entries: 2,
        ..NeighborConfig::default()
    });
    let mut no_room = 0;
    for n in 1..=200 {
        match table.lookup(u64::from(n), host(n)) {
            Lookup::Pending => assert_eq!(table.hold(host(n), "item"), None),
            Lookup::NoRoom => no_room += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(no_room > 0);
    let fetched = std::iter::from_fn(|| table.poll_unresolved()).count();
    assert!(fetched <= 4, "{fetched}");
    assert_eq!(table.lookup(300, host(250)), Lookup::Pending);
}

#[test]
fn our_addresses_are_announced() {
    let announced: Vec<_> = table().announcements().collect();
    assert_eq!(
        announced,
        [ArpPacket {
            operation: Operation::Request,
            sender_mac: OUR_MAC,
            sender_ip: US,
            target_mac: MacAddr([0; 6]),
            target_ip: US,
        }]
    );
}

#[derive(Clone, Debug)]
enum Step {
    Lookup(u8),
    Hold(u8),
    Confirm(u8),
    Reply(u8),
    Request(u8),
    Announce(u8, u8),
    Poll,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let n = 3u8..12;
    prop_oneof![
        n.clone().prop_map(Step::Lookup),
        n.clone().prop_map(Step::Hold),
        n.clone().prop_map(Step::Confirm),
        n.clone().prop_map(Step::Reply),
        n.clone().prop_map(Step::Request),
        (n.clone(), n).prop_map(|(n, m)| Step::Announce(n, m)),
        Just(Step::Poll),
        (0..20 * SECOND).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens: nothing held is lost or given back twice, requests to one neighbour keep
    /// their distance, and the table keeps its bounds.
    #[test]
    fn nothing_is_lost_and_no_bound_exceeded(steps in prop::collection::vec(step(), 0..200)) {
        let mut local = LocalAddresses::default();
        local.add(InterfaceAddress::new(US, 24).unwrap()).unwrap();
        let config = NeighborConfig { max_entries: 12, ..NeighborConfig::default() };
        let mut table: NeighborTable<usize> = NeighborTable::new(OUR_MAC, local, config);
        let mut now = 0;
        let mut given = 0;
        let mut returned = Vec::new();
        let mut last_request: HashMap<Ipv4Addr, u64> = HashMap::new();
        for step in steps {
            match step {
                Step::Lookup(n) => drop(table.lookup(now, host(n))),
                Step::Hold(n) => {
                    returned.extend(table.hold(host(n), given));
                    given += 1;
                }
                Step::Confirm(n) => table.confirm(now, host(n), mac(n)),
                Step::Reply(n) => returned.extend(table.on_arp(now, &reply(n)).unwrap().released),
                Step::Request(n) => {
                    returned.extend(table.on_arp(now, &request(n)).unwrap().released);
                }
                Step::Announce(n, m) => {
                    returned.extend(table.on_arp(now, &announcement(n, mac(m))).unwrap().released);
                }
                Step::Poll => {}
                Step::Wait(time) => now += time,
            }
            while let Some((packet, _)) = table.poll_transmit(now) {
                let last = last_request.insert(packet.target_ip, now);
                prop_assert!(
                    last.is_none_or(|last| now >= last + SECOND),
                    "{} asked for too soon", packet.target_ip
                );
            }
            while let Some(unresolved) = table.poll_unresolved() {
                returned.extend(unresolved.held);
            }
            prop_assert!(table.len() <= 12);
            prop_assert!(table.next_deadline().is_none_or(|due| due > now));
        }
        for n in 3..12 {
            returned.extend(table.on_arp(now, &reply(n)).unwrap().released);
        }
        returned.sort_unstable();
        prop_assert_eq!(returned, (0..given).collect::<Vec<_>>());
    }
}
