use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000;
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const PEER: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);

fn cache() -> NeighborCache<u32> {
    NeighborCache::new(Config::default())
}

fn said(mac: Option<MacAddr>, solicited: bool, overrides: bool) -> Advertised {
    Advertised {
        mac,
        solicited,
        overrides,
    }
}

const ANSWER: Advertised = Advertised {
    mac: Some(MAC),
    solicited: true,
    overrides: true,
};

fn to(station: Option<MacAddr>) -> Option<Solicit> {
    Some(Solicit {
        target: PEER,
        station,
    })
}

/// A cache that has learned PEER's station by asking at time 0.
fn resolved() -> NeighborCache<u32> {
    let mut cache = cache();
    assert_eq!(cache.lookup(0, PEER), Lookup::Pending);
    assert_eq!(cache.poll_solicit(0), to(None));
    cache.advertised(0, PEER, ANSWER);
    cache
}

#[test]
fn an_unknown_neighbour_is_asked_for_and_what_waits_is_released() {
    let mut cache = cache();
    assert_eq!(cache.lookup(0, PEER), Lookup::Pending);
    assert_eq!(cache.hold(PEER, 7), None);
    assert_eq!(cache.poll_solicit(0), to(None));
    assert_eq!(cache.poll_solicit(0), None);
    assert_eq!(cache.advertised(5, PEER, ANSWER), vec![7]);
    assert_eq!(cache.lookup(6, PEER), Lookup::Resolved(MAC));
    assert_eq!(cache.next_deadline(), None);
}

#[test]
fn who_does_not_answer_three_solicitations_is_unreachable_for_a_moment() {
    let mut cache = cache();
    cache.lookup(0, PEER);
    assert_eq!(cache.hold(PEER, 7), None);
    for second in 0..3 {
        assert_eq!(cache.poll_solicit(second * SECOND), to(None));
    }
    assert_eq!(cache.poll_solicit(3 * SECOND), None);
    assert_eq!(cache.poll_given_up(), Some(7));
    assert_eq!(cache.poll_given_up(), None);
    assert_eq!(cache.lookup(3 * SECOND, PEER), Lookup::Unreachable);
    assert!(cache.is_unreachable(PEER));
    assert_eq!(cache.lookup(4 * SECOND, PEER), Lookup::Pending);
}

#[test]
fn a_stale_neighbour_is_used_and_then_probed() {
    let mut cache = resolved();
    let stale = 30 * SECOND;
    assert_eq!(cache.lookup(stale, PEER), Lookup::Resolved(MAC));
    assert_eq!(cache.poll_solicit(stale), None, "first it is waited");
    assert_eq!(cache.next_deadline(), Some(stale + 5 * SECOND));
    assert_eq!(cache.poll_solicit(stale + 5 * SECOND), to(Some(MAC)));
    cache.advertised(stale + 5 * SECOND, PEER, ANSWER);
    assert_eq!(cache.next_deadline(), None);
}

#[test]
fn a_probed_neighbour_that_is_gone_is_forgotten() {
    let mut cache = resolved();
    cache.lookup(30 * SECOND, PEER);
    for second in 35..38 {
        assert_eq!(cache.poll_solicit(second * SECOND), to(Some(MAC)));
        let known = cache.lookup(second * SECOND, PEER);
        assert_eq!(known, Lookup::Resolved(MAC));
    }
    assert_eq!(cache.poll_solicit(38 * SECOND), None);
    assert_eq!(cache.lookup(38 * SECOND, PEER), Lookup::Pending);
}

#[test]
fn an_advertisement_nobody_waits_for_makes_no_entry() {
    let mut cache = cache();
    assert!(cache.advertised(0, PEER, ANSWER).is_empty());
    assert!(cache.is_empty());
}

#[test]
fn an_advertisement_that_does_not_override_only_makes_the_entry_stale() {
    let mut cache = resolved();
    cache.advertised(1, PEER, said(Some(OTHER), true, false));
    assert_eq!(cache.lookup(2, PEER), Lookup::Resolved(MAC));
    assert_eq!(cache.next_deadline(), Some(2 + 5 * SECOND), "delayed probe");
    cache.advertised(3, PEER, said(Some(OTHER), true, false));
    assert_eq!(cache.lookup(4, PEER), Lookup::Resolved(MAC));
}

#[test]
fn of_two_stations_with_one_address_it_has_who_answers_when_everybody_is_asked() {
    for owner in [MAC, OTHER] {
        for solicited in [false, true] {
            let mut cache = resolved();
            for _ in 0..10 {
                cache.advertised(SECOND, PEER, said(Some(OTHER), solicited, true));
                cache.heard(PEER, OTHER);
                // The station that was confirmed keeps it until then.
                assert_eq!(cache.lookup(SECOND, PEER), Lookup::Resolved(MAC));
            }
            assert_eq!(cache.poll_solicit(SECOND), to(None));
            assert_eq!(cache.poll_solicit(SECOND), None);
            cache.advertised(SECOND, PEER, said(Some(owner), true, true));
            assert_eq!(cache.lookup(SECOND, PEER), Lookup::Resolved(owner));
            assert_eq!(cache.next_deadline(), None);
        }
    }
}

#[test]
fn of_several_answers_the_first_counts() {
    let mut cache = resolved();
    cache.advertised(SECOND - 1, PEER, said(Some(OTHER), true, true));
    assert_eq!(cache.lookup(SECOND, PEER), Lookup::Resolved(MAC));
    assert_eq!(cache.next_deadline(), None);
}

#[test]
fn a_flood_of_claims_does_not_hasten_the_solicitations() {
    let mut cache = resolved();
    cache.heard(PEER, OTHER);
    assert_eq!(cache.lookup(1, PEER), Lookup::Resolved(MAC));
    assert_eq!(cache.poll_solicit(1), None);
    assert_eq!(cache.next_deadline(), Some(SECOND));
}

#[test]
fn everybody_is_asked_for_who_was_only_heard_unless_it_is_confirmed_meanwhile() {
    for confirmed in [false, true] {
        let mut cache = cache();
        cache.heard(PEER, MAC);
        assert_eq!(cache.lookup(SECOND, PEER), Lookup::Resolved(MAC));
        // Nobody has asked for this.
        cache.advertised(SECOND, PEER, ANSWER);
        if confirmed {
            cache.confirm(2 * SECOND, PEER, OTHER);
            assert_eq!(cache.next_deadline(), Some(6 * SECOND));
            cache.confirm(2 * SECOND, PEER, MAC);
            assert_eq!(cache.next_deadline(), None);
        } else {
            assert_eq!(cache.poll_solicit(6 * SECOND), to(None));
        }
    }
}

#[test]
fn an_advertisement_without_a_station_confirms_the_known_one_only() {
    let mut cache = resolved();
    cache.lookup(30 * SECOND, PEER);
    cache.advertised(31 * SECOND, PEER, said(None, true, false));
    assert_eq!(cache.next_deadline(), None);
    let unknown = Ipv6Addr::LOCALHOST;
    cache.lookup(0, unknown);
    cache.advertised(0, unknown, said(None, true, true));
    assert_eq!(cache.lookup(0, unknown), Lookup::Pending);
}

#[test]
fn a_neighbour_heard_from_is_known_but_stale() {
    let mut cache = cache();
    cache.heard(PEER, MAC);
    assert_eq!(cache.lookup(0, PEER), Lookup::Resolved(MAC));
    assert_eq!(cache.next_deadline(), Some(5 * SECOND));
    cache.heard(PEER, MAC);
    assert_eq!(cache.next_deadline(), Some(5 * SECOND), "nothing new");
    let mut waiting = cache_with_one_held();
    assert_eq!(waiting.heard(PEER, MAC), vec![9]);
}

fn cache_with_one_held() -> NeighborCache<u32> {
    let mut cache = cache();
    cache.lookup(0, PEER);
    assert_eq!(cache.hold(PEER, 9), None);
    cache
}

#[test]
fn what_is_held_is_bounded_and_the_oldest_goes() {
    let mut cache = cache();
    cache.lookup(0, PEER);
    let displaced: Vec<_> = (0..5).filter_map(|i| cache.hold(PEER, i)).collect();
    assert_eq!(displaced, [0, 1]);
    assert_eq!(cache.hold(Ipv6Addr::LOCALHOST, 9), Some(9), "not pending");
}

#[test]
fn a_flood_of_solicitations_pushes_out_only_itself() {
    let mut cache = resolved();
    cache.lookup(1, PEER);
    for i in 0..10_000u32 {
        let spoofed = Ipv6Addr::from_bits(0xfe80_u128 << 112 | u128::from(i));
        cache.heard(spoofed, OTHER);
    }
    assert_eq!(cache.len(), 1024);
    assert_eq!(cache.lookup(2, PEER), Lookup::Resolved(MAC));
}

#[test]
fn a_scan_of_absent_neighbours_is_bounded_and_loses_nothing() {
    let mut cache = cache();
    let mut held = 0;
    for i in 0..3000u32 {
        let absent = Ipv6Addr::from_bits(0xfd77_u128 << 112 | u128::from(i));
        if cache.lookup(u64::from(i), absent) == Lookup::Pending {
            held += u32::from(cache.hold(absent, i).is_none());
        }
        assert!(cache.len() <= 1024);
    }
    for second in 0..9 {
        while cache.poll_solicit(second * SECOND).is_some() {}
    }
    let given_up = std::iter::from_fn(|| cache.poll_given_up()).count();
    assert_eq!(given_up as u32, held);
}

proptest! {
    #[test]
    fn any_order_of_events_loses_no_item(
        events in prop::collection::vec((0u8..6, 0u8..4, any::<[bool; 3]>()), 0..200),
    ) {
        let mut cache = NeighborCache::new(Config { max_entries: 3, ..Config::default() });
        let (mut held, mut back, mut now) = (0, 0, 0);
        for (kind, who, [a, b, c]) in events {
            let address = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, who.into());
            now += 700_000;
            match kind {
                0 | 1 => {
                    if cache.lookup(now, address) == Lookup::Pending {
                        held += 1;
                        back += usize::from(cache.hold(address, 0u32).is_some());
                    }
                }
                2 => back += cache.heard(address, if a { MAC } else { OTHER }).len(),
                3 => {
                    let said = said(a.then_some(MAC), b, c);
                    back += cache.advertised(now, address, said).len();
                }
                4 => while cache.poll_solicit(now).is_some() {},
                _ => while cache.poll_given_up().is_some() { back += 1; },
            }
            prop_assert!(cache.len() <= 3);
        }
        for _ in 0..9 {
            now += SECOND;
            while cache.poll_solicit(now).is_some() {}
        }
        while cache.poll_given_up().is_some() { back += 1; }
        prop_assert_eq!(held, back);
    }
}
