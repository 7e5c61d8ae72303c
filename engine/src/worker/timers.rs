//! A timing wheel: two levels of 1,024 slots, of one millisecond and of about one second, and a heap
//! for what is due so soon that a tick is too coarse (pacing).
//!
//! Each slot is a ring of linked nodes, so that an entry is set and cancelled in a few steps, and a
//! connection that ends leaves nothing behind. Entries are hints: when one fires, the owner asks the
//! connection what is really due. A deadline that moves later costs nothing: the early entry fires
//! and is set anew.
//!
//! Most entries are cancelled within milliseconds, when an ACK comes or the connection ends. So what is
//! set stands in a list at first, and only what is left after a few ticks comes into a slot.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

const SLOTS: u64 = 1024;
const TICK: u64 = 1000;
const NONE: u32 = u32::MAX;
/// Ticks that an entry stands in the list of young ones, if it is not due before.
const YOUTH: u64 = 8;
/// Most young entries, cancelled ones included.
const MOST_YOUNG: usize = 1024;

/// What is woken: any number that its owner understands, and a stamp against reuse.
pub type Token = (u32, u32);

/// An entry, for cancelling it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    node: u32,
    life: u32,
}

impl Entry {
    /// None that could be cancelled.
    pub const NONE: Entry = Entry {
        node: NONE,
        life: 0,
    };
}

/// The wheel. Times are in microseconds; entries further away than about 17 minutes fire early.
pub struct TimerWheel {
    levels: [Level; 2],
    nodes: Vec<Node>,
    /// The first of the nodes that stand in no slot; they are linked by `next`.
    free: u32,
    /// Nodes set in the last ticks, and how many of them were not cancelled.
    young: Vec<u32>,
    young_left: usize,
    /// No young node is due before this tick.
    young_due: u64,
    /// The tick at which the young nodes come into slots; not after `young_due`.
    sort_at: u64,
    /// Due within two ticks when set, to the microsecond.
    soon: BinaryHeap<Reverse<(u64, Token)>>,
    /// Ticks that have been handled: all entries before it have fired.
    now: u64,
    /// Nodes that stand in slots.
    len: usize,
}

struct Node {
    tick: u64,
    token: Token,
    /// How many entries it has been.
    life: u32,
    previous: u32,
    next: u32,
    stands: Stands,
}

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// Nowhere: it is free, or was cancelled while it was young.
    Nowhere,
    /// In the list of young ones.
    Young,
    /// In a slot of a level.
    Slot(u8, u16),
}

/// The slots of one level: the first node of each ring.
struct Level {
    first: Box<[u32; SLOTS as usize]>,
    occupied: [u64; (SLOTS / 64) as usize],
}

impl Level {
    fn new() -> Self {
        Level {
            first: Box::new([NONE; SLOTS as usize]),
            occupied: [0; (SLOTS / 64) as usize],
        }
    }

    fn set_first(&mut self, slot: u16, node: u32) {
        let slot = usize::from(slot);
        self.first[slot] = node;
        let bit = 1 << (slot % 64);
        match node {
            NONE => self.occupied[slot / 64] &= !bit,
            _ => self.occupied[slot / 64] |= bit,
        }
    }

    /// Steps from `index` to the next slot that is in use, 0 to 1,023.
    fn distance(&self, index: u64) -> Option<u64> {
        let first = index % SLOTS;
        let words = self.occupied.len() as u64;
        for i in 0..=words {
            let word = (first / 64 + i) % words;
            let mut bits = self.occupied[word as usize];
            if i == 0 {
                bits &= !0 << (first % 64);
            } else if i == words {
                bits &= !(!0 << (first % 64));
            }
            if bits != 0 {
                let slot = word * 64 + u64::from(bits.trailing_zeros());
                return Some((slot + SLOTS - first) % SLOTS);
            }
        }
        None
    }
}

impl TimerWheel {
    /// An empty wheel at time `now`.
    pub fn new(now: u64) -> Self {
        TimerWheel {
            levels: [Level::new(), Level::new()],
            nodes: Vec::new(),
            free: NONE,
            young: Vec::new(),
            young_left: 0,
            young_due: u64::MAX,
            sort_at: u64::MAX,
            soon: BinaryHeap::new(),
            now: now / TICK,
            len: 0,
        }
    }

    /// Has `token` fire at `at` or at most a tick later (never before, unless far away); on time if
    /// that is less than a tick ahead.
    pub fn set(&mut self, at: u64, token: Token) -> Entry {
        if at < (self.now + 2) * TICK {
            self.soon.push(Reverse((at, token)));
            return Entry::NONE;
        }
        let tick = at.div_ceil(TICK);
        let node = self.allocate(tick, token);
        if self.young.len() >= MOST_YOUNG {
            self.sort_young();
        }
        self.young.push(node);
        self.young_left += 1;
        self.note_young(tick);
        let life = self.nodes[node as usize].life;
        Entry { node, life }
    }

    /// A young entry is due at `tick`.
    fn note_young(&mut self, tick: u64) {
        self.young_due = self.young_due.min(tick);
        self.sort_at = self.sort_at.min(tick).min(self.now + YOUTH);
    }

    /// Like [`set`](Self::set), in place of another entry of the same token.
    pub fn set_anew(&mut self, entry: Entry, at: u64, token: Token) -> Entry {
        let tick = at.div_ceil(TICK);
        if tick > self.now + 2
            && let Some(node) = self.nodes.get_mut(entry.node as usize)
            && node.life == entry.life
            && node.stands == Stands::Young
        {
            node.tick = tick;
            self.note_young(tick);
            return entry;
        }
        self.cancel(entry);
        self.set(at, token)
    }

    /// Takes an entry back, unless it has fired. What is due within two ticks may fire nevertheless.
    pub fn cancel(&mut self, entry: Entry) {
        let Some(node) = self.nodes.get_mut(entry.node as usize) else {
            return;
        };
        match node.stands {
            _ if node.life != entry.life => {}
            Stands::Nowhere => {}
            Stands::Young => {
                node.stands = Stands::Nowhere;
                self.young_left -= 1;
            }
            Stands::Slot(..) => {
                self.unlink(entry.node);
                self.release(entry.node);
            }
        }
    }

    /// Puts the young entries that are left into slots.
    fn sort_young(&mut self) {
        let mut young = std::mem::take(&mut self.young);
        for node in young.drain(..) {
            if self.nodes[node as usize].stands == Stands::Young {
                self.place(node);
            } else {
                self.release(node);
            }
        }
        self.young = young;
        self.young_left = 0;
        (self.young_due, self.sort_at) = (u64::MAX, u64::MAX);
    }

    fn allocate(&mut self, tick: u64, token: Token) -> u32 {
        if self.free == NONE {
            self.free = self.nodes.len() as u32;
            self.nodes.push(Node {
                tick,
                token,
                life: 0,
                previous: NONE,
                next: NONE,
                stands: Stands::Nowhere,
            });
        }
        let index = self.free;
        let node = &mut self.nodes[index as usize];
        self.free = node.next;
        (node.tick, node.token) = (tick, token);
        node.stands = Stands::Young;
        node.life = node.life.wrapping_add(1);
        index
    }

    fn release(&mut self, node: u32) {
        self.nodes[node as usize].next = self.free;
        self.free = node;
    }

    /// Puts a node last into the slot of its time.
    fn place(&mut self, index: u32) {
        let tick = self.nodes[index as usize].tick;
        let (level, slot) = match tick - self.now {
            0..SLOTS => (0, tick % SLOTS),
            // Fires when its second begins, and is then put into the lower level.
            _ => (1, (tick / SLOTS).min(self.now / SLOTS + SLOTS - 1) % SLOTS),
        };
        let (slot, first) = (slot as u16, self.levels[level].first[slot as usize]);
        let (previous, next) = match first {
            NONE => (index, index),
            first => (self.nodes[first as usize].previous, first),
        };
        let node = &mut self.nodes[index as usize];
        (node.previous, node.next) = (previous, next);
        node.stands = Stands::Slot(level as u8, slot);
        self.len += 1;
        self.nodes[previous as usize].next = index;
        self.nodes[next as usize].previous = index;
        if first == NONE {
            self.levels[level].set_first(slot, index);
        }
    }

    /// Takes a node out of its slot.
    fn unlink(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        let (previous, next) = (node.previous, node.next);
        let Stands::Slot(level, slot) = std::mem::replace(&mut node.stands, Stands::Nowhere) else {
            return;
        };
        self.len -= 1;
        self.nodes[previous as usize].next = next;
        self.nodes[next as usize].previous = previous;
        let level = &mut self.levels[usize::from(level)];
        if level.first[usize::from(slot)] == index {
            level.set_first(slot, if next == index { NONE } else { next });
        }
    }

    /// Takes the first node out of a slot.
    fn pop(&mut self, level: usize, slot: u64) -> Option<u32> {
        let first = self.levels[level].first[(slot % SLOTS) as usize];
        (first != NONE).then(|| {
            self.unlink(first);
            first
        })
    }

    /// Fires everything due at `now`.
    pub fn advance(&mut self, now: u64, mut fire: impl FnMut(Token)) {
        while let Some(Reverse((at, token))) = self.soon.peek().copied()
            && at <= now
        {
            self.soon.pop();
            fire(token);
        }
        let until = now / TICK;
        if until >= self.sort_at {
            self.sort_young();
        }
        while self.now < until {
            if self.len == 0 {
                self.now = until;
                return;
            }
            let next = self.next_tick().min(until);
            self.now = next;
            if self.now.is_multiple_of(SLOTS) {
                // What is put into this level again comes into another slot: its time is further away.
                while let Some(node) = self.pop(1, self.now / SLOTS) {
                    if self.nodes[node as usize].tick <= self.now {
                        self.release(node);
                        fire(self.nodes[node as usize].token);
                    } else {
                        self.place(node);
                    }
                }
            }
            while let Some(node) = self.pop(0, self.now) {
                self.release(node);
                fire(self.nodes[node as usize].token);
            }
        }
    }

    /// The next tick at which there is something to do.
    fn next_tick(&self) -> u64 {
        let near = self.levels[0]
            .distance(self.now + 1)
            .map_or(u64::MAX, |d| self.now + 1 + d);
        let second = self.now / SLOTS + 1;
        let far = self.levels[1]
            .distance(second)
            .map_or(u64::MAX, |d| (second + d) * SLOTS);
        near.min(far)
    }

    /// When [`advance`](TimerWheel::advance) is to be called next, in microseconds.
    pub fn next_deadline(&self) -> Option<u64> {
        let in_slots = (self.len > 0).then(|| self.next_tick());
        let young = (self.young_left > 0).then_some(self.young_due);
        let tick = in_slots.into_iter().chain(young).min();
        let soon = self.soon.peek().map(|Reverse((at, _))| *at);
        let at = tick.map(|tick| tick.saturating_mul(TICK));
        at.into_iter().chain(soon).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_fires_once_in_time_and_never_early() {
        let mut wheel = TimerWheel::new(5_000_000);
        let mut seed = 1u64;
        let mut due = Vec::new();
        for i in 0..2000u32 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
            let at = 5_000_000 + (seed >> 33) % 300_000_000;
            due.push(at);
            wheel.set(at, (i, 0));
        }
        let mut fired = vec![false; due.len()];
        let mut now = 5_000_000;
        while let Some(next) = wheel.next_deadline() {
            assert!(next > now);
            now = next;
            wheel.advance(now, |(i, _)| {
                let at = due[i as usize];
                assert!(!fired[i as usize], "twice");
                assert!(at <= now && now < at + 2 * TICK, "due {at}, fired {now}");
                fired[i as usize] = true;
            });
        }
        assert!(fired.iter().all(|f| *f));
    }

    #[test]
    fn a_long_silence_fires_everything_at_once() {
        let mut wheel = TimerWheel::new(0);
        for at in [1, 999, 70_000, 5_000_000, 900_000_000] {
            wheel.set(at, (at as u32, 0));
        }
        let mut fired = Vec::new();
        wheel.advance(1_000_000_000, |(i, _)| fired.push(i));
        assert_eq!(fired, [1, 999, 70_000, 5_000_000, 900_000_000]);
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn what_is_past_fires_at_once() {
        let mut wheel = TimerWheel::new(1_000_000);
        wheel.set(3, (1, 0));
        let mut fired = 0;
        wheel.advance(1_000_000, |_| fired += 1);
        assert_eq!(fired, 1);
    }

    #[test]
    fn what_is_due_soon_fires_to_the_microsecond() {
        let mut wheel = TimerWheel::new(1_000_000);
        wheel.set(1_000_052, (1, 0));
        wheel.set(1_000_031, (2, 0));
        wheel.set(1_400_000, (3, 0));
        let mut fired = Vec::new();
        assert_eq!(wheel.next_deadline(), Some(1_000_031));
        wheel.advance(1_000_051, |(i, _)| fired.push(i));
        assert_eq!(wheel.next_deadline(), Some(1_000_052));
        wheel.advance(1_000_052, |(i, _)| fired.push(i));
        assert_eq!(fired, [2, 1]);
        assert_eq!(wheel.next_deadline(), Some(1_400_000));
    }

    /// Long enough for entries to come into slots.
    const GROWN: u64 = (YOUTH + 1) * TICK;

    #[test]
    fn what_is_cancelled_does_not_fire_and_leaves_its_place_to_others() {
        for age in [0, GROWN] {
            let (mut wheel, mut now) = (TimerWheel::new(0), 0);
            for round in 0..1000 {
                let at = |i: u64| now + 100_000 + (i * 7919 + round) % 90_000_000;
                let entries: Vec<_> = (0..100).map(|i| wheel.set(at(i), (i as u32, 1))).collect();
                now += age;
                wheel.advance(now, |token| panic!("{token:?} is not due"));
                for entry in entries {
                    wheel.cancel(entry);
                    wheel.cancel(entry);
                }
                assert_eq!(wheel.next_deadline(), None);
            }
            let nodes = wheel.nodes.len();
            assert!(nodes <= 100 + MOST_YOUNG, "{nodes}");
            wheel.advance(now + 100_000_000, |token| panic!("{token:?} was cancelled"));
        }
    }

    #[test]
    fn an_entry_set_anew_fires_once_at_its_new_time() {
        for age in [0, GROWN] {
            for at in [age + 500, age + 3_000, age + 70_000, 3_000_000] {
                let mut wheel = TimerWheel::new(0);
                let entry = wheel.set(100_000, (1, 1));
                wheel.advance(age, |token| panic!("{token:?} is not due"));
                wheel.set_anew(entry, at, (1, 1));
                let mut fired = Vec::new();
                while let Some(next) = wheel.next_deadline() {
                    wheel.advance(next, |_| fired.push(next));
                }
                assert!(matches!(fired[..], [only] if only >= at && only < at + 2 * TICK));
            }
        }
    }

    #[test]
    fn the_place_of_one_that_has_fired_is_not_cancelled_for_another() {
        let mut wheel = TimerWheel::new(0);
        let first = wheel.set(5_000, (1, 1));
        wheel.advance(6_000, |_| ());
        wheel.set(50_000, (2, 1));
        wheel.cancel(first);
        let mut fired = Vec::new();
        wheel.advance(60_000, |token| fired.push(token));
        assert_eq!(fired, [(2, 1)]);
    }

    #[test]
    fn neighbours_in_a_slot_keep_their_order_when_one_is_cancelled() {
        for age in [0, GROWN] {
            let mut wheel = TimerWheel::new(0);
            let entries: Vec<_> = (0..5).map(|i| wheel.set(20_000, (i, 0))).collect();
            wheel.advance(age, |token| panic!("{token:?} is not due"));
            wheel.cancel(entries[0]);
            wheel.cancel(entries[2]);
            wheel.cancel(entries[4]);
            wheel.set(20_000, (5, 0));
            let mut fired = Vec::new();
            wheel.advance(20_000, |(i, _)| fired.push(i));
            assert_eq!(fired, [1, 3, 5]);
        }
    }

    #[test]
    fn young_and_grown_entries_fire_each_at_its_time() {
        let mut wheel = TimerWheel::new(0);
        let (mut now, mut due) = (0, Vec::new());
        for i in 0..5000u32 {
            now += 777;
            let at = now + 3_000 + u64::from(i) * 7919 % 40_000;
            wheel.set(at, (i, 0));
            due.push(at);
            wheel.advance(now, |(i, _)| {
                let at = std::mem::replace(&mut due[i as usize], 0);
                assert!(at <= now && now < at + 2 * TICK, "due {at}, fired {now}");
            });
        }
        while let Some(next) = wheel.next_deadline() {
            wheel.advance(next, |(i, _)| due[i as usize] = 0);
        }
        assert!(due.iter().all(|at| *at == 0));
    }
}
