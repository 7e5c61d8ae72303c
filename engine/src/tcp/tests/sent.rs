//! The records of what was sent.

use core::cell::Cell;

use super::*;
use crate::tcp::rate::DeliveryRate;
use crate::tcp::time::Instant;

thread_local! {
    pub(super) static WORK: Cell<usize> = const { Cell::new(0) };
}

const CUT: u16 = 100;

fn at(millis: u64) -> Stamp {
    DeliveryRate::new().stamp(Instant::from_millis(millis), 0, false)
}

/// Bursts of `segments` each, sent one millisecond after the other.
fn sent(bursts: &[u64]) -> Sent {
    let mut sent = Sent::default();
    let mut start = 1;
    for (index, segments) in bursts.iter().enumerate() {
        let end = start + segments * u64::from(CUT);
        sent.push(start..end, *segments as u32, CUT, at(index as u64));
        start = end;
    }
    sent
}

fn news() -> News {
    News::new(Instant::from_millis(1000), 0, None, 0)
}

impl Sent {
    /// The records have no gap from `una` to `nxt`, and all that is counted can be counted again.
    pub(in crate::tcp) fn check(&self, una: u64, nxt: u64) {
        let mut fresh = Sent::default();
        let mut at = una;
        for record in &self.records {
            assert_eq!(record.start, at, "no gap");
            assert!(record.end > record.start && record.segments > 0);
            assert!(!record.sacked || !(record.lost || record.resent));
            assert!(!record.to_repair() || record.end > self.told(|board| board.repair_from));
            at = record.end;
            fresh.count(record);
        }
        assert_eq!(at, nxt, "the records end where the flight does");
        assert_eq!(self.tallies(), fresh.tallies());
        let to_repair = |sent: &Sent| sent.told(|board| board.to_repair);
        assert_eq!(to_repair(self), to_repair(&fresh));
    }

    fn tallies(&self) -> [Tally; 4] {
        [self.out, self.sacked(), self.lost(), self.resent()]
    }
}

/// Tallies, which have to agree with what the records say.
fn tallies(sent: &Sent) -> [Tally; 4] {
    let position = |record: Option<&Record>, at: fn(&Record) -> u64| record.map_or(0, at);
    let una = position(sent.records.front(), |first| first.start);
    sent.check(una, position(sent.records.back(), |last| last.end));
    sent.tallies()
}

fn lose_all(sent: &mut Sent) {
    sent.find_lost(|_| Some(true), |_| {});
}

#[test]
fn bursts_of_one_moment_are_one_record() {
    let mut sent = sent(&[2]);
    sent.push(201..401, 2, CUT, at(0));
    assert_eq!(sent.records.len(), 1);
    sent.push(401..450, 1, CUT, at(0));
    sent.push(450..550, 1, CUT, at(0));
    assert_eq!(sent.records.len(), 2, "nothing joins a short segment");
    sent.push(550..650, 1, CUT, at(7));
    assert_eq!(sent.records.len(), 3, "nor what left at another time");
    assert_eq!(tallies(&sent)[0].segments, 7);
}

#[test]
fn a_report_cuts_records_at_whole_segments() {
    let mut sent = sent(&[10]);
    let mut news = news();
    sent.sack(250..655, &mut news);
    assert_eq!(news.delivered, 300, "301 to 601");
    assert_eq!(tallies(&sent)[1].segments, 3);
    assert_eq!(sent.highest_sacked(), 601);
    sent.sack(301..601, &mut news);
    assert_eq!(news.delivered, 300, "only news count");
    sent.sack(601..1001, &mut news);
    assert_eq!(news.delivered, 700);
    assert_eq!(sent.records.len(), 2, "reported neighbours become one");
}

#[test]
fn acknowledgements_take_whole_records_and_parts_of_them() {
    let mut sent = sent(&[3, 4, 3]);
    let mut news = news();
    sent.sack(701..801, &mut news);
    sent.acknowledge(451, &mut news);
    assert_eq!(news.delivered, 550);
    let [out, sacked, ..] = tallies(&sent);
    assert_eq!((out.segments, sacked.segments), (6, 1));
    assert_eq!(sent.pipe(550), 450);
    sent.acknowledge(1001, &mut news);
    assert_eq!(news.delivered, 1000, "what was reported counts once");
    assert!(sent.is_empty() && sent.records.capacity() <= Sent::KEPT);
    sent.give_back();
    assert_eq!(sent.records.capacity(), 0, "idle");
    assert_eq!(tallies(&sent), [Tally::default(); 4]);
}

#[test]
fn memory_that_an_ended_connection_has_kept_serves_the_next_one() {
    let mut ended = sent(&[3]);
    let kept = ended.records.capacity();
    let next = ended.leave();
    assert!(kept > 0 && next.is_empty() && next.out == Tally::default());
    assert_eq!(
        (next.records.capacity(), ended.records.capacity()),
        (kept, 0)
    );
    let mut large = sent(&[1; 2 * Sent::KEPT]);
    assert_eq!(large.leave().records.capacity(), 0);
}

#[test]
fn what_was_sent_in_order_and_once_is_taken_as_any_other() {
    for step in [1, 99, 100, 250, 1000] {
        let mut short = sent(&[3, 4, 3]);
        let mut long = short.clone();
        for ack in (1..1001).step_by(step).chain([1001]) {
            let mut news = news();
            long.acknowledge(ack, &mut news);
            let arrival = short.take(ack);
            let told = arrival
                .as_ref()
                .map(|a| (a.bytes, a.segments, a.end, a.last.sent_at));
            let expected = news
                .latest
                .map(|(at, end)| (news.delivered, news.segments, end, at));
            assert_eq!(told, expected, "up to {ack}");
            assert_eq!(format!("{short:?}"), format!("{long:?}"));
        }
        assert!(short.is_empty());
    }
}

#[test]
fn a_super_segment_acknowledged_in_pieces_counts_its_segments_once() {
    for step in [1, 30, 100, 130, 250] {
        let mut sent = sent(&[20, 20]);
        sent.push(4001..4051, 1, CUT, at(2));
        let mut news = news();
        for ack in (1..4051).step_by(step).chain([4051]) {
            sent.acknowledge(ack, &mut news);
            let [out, ..] = tallies(&sent);
            assert_eq!(news.segments + out.segments, 41, "{step} bytes at a time");
        }
        assert_eq!((news.segments, news.delivered), (41, 4050));
    }
}

#[test]
fn what_is_lost_is_repeated_once_and_in_order() {
    let mut sent = sent(&[10]);
    let mut news = news();
    sent.sack(301..401, &mut news);
    lose_all(&mut sent);
    assert_eq!(sent.pipe(1000), 0);
    assert_eq!(sent.next_lost(), Some(1..301));
    sent.resend(&(1..101), 1, CUT, at(50), false);
    assert_eq!(sent.next_lost(), Some(101..301));
    sent.resend(&(101..301), 2, CUT, at(50), false);
    assert_eq!(sent.next_lost(), Some(401..1001));
    sent.resend(&(401..1001), 6, CUT, at(51), false);
    assert_eq!(sent.next_lost(), None);
    assert_eq!(sent.pipe(1000), 900);
    let [_, sacked, lost, resent] = tallies(&sent);
    assert_eq!([sacked.segments, lost.segments, resent.segments], [1, 9, 9]);
    // A repetition is lost in turn.
    sent.find_lost(
        |record| Some(record.stamp.sent_at < Instant::from_millis(51)),
        |_| {},
    );
    assert_eq!(sent.next_lost(), Some(1..301));
    sent.forget_lost();
    assert_eq!((sent.next_lost(), tallies(&sent)[2].segments), (None, 0));
}

#[test]
fn a_report_ends_a_loss() {
    let mut sent = sent(&[4]);
    lose_all(&mut sent);
    sent.resend(&(1..201), 2, CUT, at(9), false);
    sent.sack(1..301, &mut news());
    let [_, sacked, lost, resent] = tallies(&sent);
    assert_eq!([sacked.segments, lost.segments, resent.segments], [3, 1, 0]);
    assert_eq!(sent.pipe(400), 0);
}

#[test]
fn the_first_segment_alone_is_lost_towards_a_peer_without_sack() {
    let mut sent = sent(&[4]);
    let mut told = 0;
    for _ in 0..2 {
        sent.lose_first(|record| told += record.bytes());
    }
    assert_eq!((told, sent.next_lost()), (100, Some(1..101)));
    assert_eq!(sent.pipe(400), 300);
}

#[test]
fn the_last_segment_may_be_short() {
    let mut sent = sent(&[2]);
    sent.push(201..250, 1, CUT, at(0));
    assert_eq!(sent.last_segment(), Some(201..250));
    assert_eq!(self::sent(&[3]).last_segment(), Some(201..301));
}

#[test]
fn records_are_bounded_however_they_are_cut() {
    let mut sent = sent(&[4 * MAX_RECORDS as u64]);
    let mut news = news();
    let segment = |n: u64| 1 + n * 100..101 + n * 100;
    for n in 0..2 * MAX_RECORDS as u64 {
        sent.sack(segment(2 * n + 1), &mut news);
        assert!(sent.records.len() <= MAX_RECORDS);
    }
    assert!(news.segments >= MAX_RECORDS as u32 / 2 - 1);
    tallies(&sent);
    // What is sent at the bound joins what left before, though it left at another time.
    let mut sent = self::sent(&vec![1; MAX_RECORDS + 500]);
    assert!(sent.records.len() <= MAX_RECORDS);
    assert!(sent.records.back().is_some_and(|last| last.mixed));
    sent.acknowledge(1001, &mut news);
    tallies(&sent);
}

#[test]
fn tiny_reports_of_everything_cost_a_bounded_amount_of_work() {
    // The shape of SegmentSmack and SACK Panic: ACK after ACK, each with reports of slivers.
    let segments = 20_000u64;
    let mut sent = sent(&[segments]);
    let mut news = news();
    let mut most = 0;
    for round in 0..20_000u64 {
        WORK.with(|work| work.set(0));
        for block in 0..4 {
            let start = (round * 7919 + block * 104_729) % (segments * 100) + 1;
            sent.sack(start..start + 1 + round % 250, &mut news);
        }
        sent.find_lost(|record| (record.end < 500_000).then_some(false), |_| {});
        sent.next_lost();
        most = most.max(WORK.with(Cell::get));
    }
    assert!(most <= 12 * MAX_RECORDS, "{most} records for one ACK");
    tallies(&sent);
}

#[test]
fn a_report_of_what_is_known_costs_nothing_but_a_look() {
    let mut sent = sent(&vec![1; 4000]);
    let mut news = news();
    sent.sack(101..400_001, &mut news);
    WORK.with(|work| work.set(0));
    for _ in 0..1000 {
        sent.sack(101..400_001, &mut news);
    }
    assert!(WORK.with(Cell::get) <= 2000);
}

#[test]
fn any_order_of_events_leaves_the_tallies_right() {
    let mut state = 1u64;
    let mut random = move |bound: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    for _ in 0..300 {
        let mut sent = Sent::default();
        let (mut una, mut nxt) = (1u64, 1u64);
        for step in 0..60 {
            let stamp = at(step / 3);
            match random(6) {
                0 | 1 => {
                    let len = 1 + random(2000);
                    sent.push(nxt..nxt + len, len.div_ceil(100) as u32, CUT, stamp);
                    nxt += len;
                }
                2 => {
                    let left = una + random(nxt - una + 1);
                    let right = (left + random(900)).min(nxt);
                    if left < right {
                        sent.sack(left..right, &mut news());
                    }
                }
                3 => {
                    una += random((nxt - una) / 2 + 1);
                    sent.acknowledge(una, &mut news());
                }
                4 => {
                    let bound = una + random(nxt - una + 1);
                    sent.find_lost(|record| Some(record.end <= bound), |_| {});
                }
                _ => {
                    if let Some(lost) = sent.next_lost() {
                        let end = lost.end.min(lost.start + 100 * (1 + random(5)));
                        let segments = (end - lost.start).div_ceil(100) as u32;
                        sent.resend(&(lost.start..end), segments, CUT, stamp, false);
                    }
                }
            }
            tallies(&sent);
            assert!(sent.pipe(nxt - una) <= 2 * (nxt - una));
        }
    }
}
