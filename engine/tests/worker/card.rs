//! Two stacks on two 82599s, each a driver on a software model of the card, joined by a cable.

#[path = "../../../psio/tests/ixgbe/model.rs"]
mod model;

use crate::bed::{Bed, Family, Setup, exchange, mac, pass_together};
use crate::conversation::Conversation;
use crate::dice::Dice;
use engine::stats::Counter;
use ixgbe_model::Card;
use model::Model;
use psio::ixgbe::{Ixgbe, IxgbeConfig};
use psio::{Error, Queue, QueueStats, RxMeta, TxMeta};
use std::os::fd::RawFd;

over_both_families! {
    streams_pass_whole_with_all_offloads_of_the_card,
    a_cable_that_was_pulled_out_delays_streams_and_loses_nothing,
}

/// The far end of a card's cable.
struct Cable {
    card: Model,
    frame: Vec<u8>,
}

impl Queue for Cable {
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&[u8], RxMeta),
    ) -> Result<usize, Error> {
        self.card.card(|card| {
            card.settle();
            let mut taken = 0;
            while taken < budget
                && let Some(frame) = card.sent().front()
            {
                sink(frame, RxMeta::default());
                card.sent().pop();
                taken += 1;
            }
            Ok(taken)
        })
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.frame.resize(len, 0);
        Some(&mut self.frame)
    }

    fn commit(&mut self, len: usize, meta: TxMeta) {
        assert_eq!(meta, TxMeta::default(), "a cable does nothing");
        let frame = &self.frame[..len];
        self.card.card(|card| card.arrive(frame));
    }

    fn flush(&mut self) -> Result<usize, Error> {
        self.card.card(Card::work);
        Ok(0)
    }

    fn wait_fd(&self) -> Option<RawFd> {
        None
    }

    fn stats(&self) -> QueueStats {
        QueueStats::default()
    }
}

/// A stack on a card whose link is up.
fn on_card(setup: Setup, host: u8) -> (Bed, Model) {
    let card = Model::new(mac(host).0, host.into());
    let mut device = Ixgbe::open(card.clone(), IxgbeConfig::default()).unwrap();
    for _ in 0..32 {
        card.card(Card::work);
    }
    let cable = Cable {
        card: card.clone(),
        frame: Vec::new(),
    };
    (setup.build_on(&mut device, Box::new(cable)), card)
}

fn both(family: Family) -> [(Bed, Model); 2] {
    [1, 2].map(|host| on_card(Setup::over(family, host), host))
}

fn streams_pass_whole_with_all_offloads_of_the_card(family: Family) {
    let [(mut a, card_a), (mut b, card_b)] = both(family);
    let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
    let mut dice = Dice::seeded(5);
    for _ in 0..400 {
        talk.go_on(&mut dice);
        exchange(&mut a, &mut b, |_, _| true);
    }
    talk.finish(&mut a, &mut b);
    assert!(talk.bytes() > 1 << 20, "{}", talk.bytes());
    for card in [card_a, card_b] {
        let did = card.card(|card| card.offloaded());
        assert!(did.cut > 200 && did.merged > 200, "{did:?}");
    }
}

fn a_cable_that_was_pulled_out_delays_streams_and_loses_nothing(family: Family) {
    let [(mut a, card_a), (mut b, card_b)] = both(family);
    let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
    let mut dice = Dice::seeded(6);
    for _ in 0..5 {
        for plugged in [false, true] {
            for card in [&card_a, &card_b] {
                card.card(|card| card.plug(plugged));
            }
            for _ in 0..20 {
                talk.go_on(&mut dice);
                pass_together(&mut a, &mut b, 50_000);
            }
        }
    }
    talk.finish(&mut a, &mut b);
}

#[test]
fn frames_that_the_card_has_no_room_for_are_counted() {
    let (mut bed, card) = on_card(Setup::over(Family::V4, 1), 1);
    assert_eq!(bed.count(Counter::rx_dropped), 0);
    card.card(|card| {
        for _ in 0..2000 {
            card.arrive(&[0xff; 64]);
        }
        card.settle();
    });
    let dropped = bed.count(Counter::rx_dropped);
    assert!((1_400..2_000).contains(&dropped), "{dropped}");
}
