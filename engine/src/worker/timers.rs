//! A timing wheel: two levels of 1,024 slots, of one millisecond and of about one second, and a heap
//! for what is due so soon that a tick is too coarse (pacing).
//!
//! Entries are hints. A connection has at most one that counts; when it fires, the owner asks the
//! connection what is really due. A deadline that moves later costs nothing: the early entry fires
//! and is set anew.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

const SLOTS: u64 = 1024;
const TICK: u64 = 1000;

/// What is woken: any number that its owner understands, and a stamp against reuse.
pub type Token = (u32, u32);

/// The wheel. Times are in microseconds; entries further away than about 17 minutes fire early.
pub struct TimerWheel {
    levels: [Level; 2],
    /// Due within two ticks when set, to the microsecond.
    soon: BinaryHeap<Reverse<(u64, Token)>>,
    /// Ticks that have been handled: all entries before it have fired.
    now: u64,
    len: usize,
}

struct Level {
    slots: Vec<Vec<(u64, Token)>>,
    occupied: [u64; (SLOTS / 64) as usize],
}

impl Level {
    fn new() -> Self {
        Level {
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            occupied: [0; (SLOTS / 64) as usize],
        }
    }

    fn put(&mut self, index: u64, at: u64, token: Token) {
        let index = (index % SLOTS) as usize;
        self.slots[index].push((at, token));
        self.occupied[index / 64] |= 1 << (index % 64);
    }

    fn take(&mut self, index: u64) -> Vec<(u64, Token)> {
        let index = (index % SLOTS) as usize;
        self.occupied[index / 64] &= !(1 << (index % 64));
        std::mem::take(&mut self.slots[index])
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
            soon: BinaryHeap::new(),
            now: now / TICK,
            len: 0,
        }
    }

    /// Has `token` fire at `at` or at most a tick later (never before, unless far away); on time if
    /// that is less than a tick ahead.
    pub fn set(&mut self, at: u64, token: Token) {
        if at < (self.now + 2) * TICK {
            self.soon.push(Reverse((at, token)));
            return;
        }
        let tick = at.div_ceil(TICK).max(self.now + 1);
        self.len += 1;
        let ahead = tick - self.now;
        if ahead < SLOTS {
            self.levels[0].put(tick, tick, token);
        } else {
            // Fires when its second begins, and is then put into the lower level.
            let second = (tick / SLOTS).min(self.now / SLOTS + SLOTS - 1);
            self.levels[1].put(second, tick, token);
        }
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
        while self.now < until {
            if self.len == 0 {
                self.now = until;
                return;
            }
            let next = self.next_tick().min(until);
            self.now = next;
            if self.now.is_multiple_of(SLOTS) {
                for (tick, token) in self.levels[1].take(self.now / SLOTS) {
                    if tick <= self.now {
                        self.len -= 1;
                        fire(token);
                    } else if tick - self.now < SLOTS {
                        self.levels[0].put(tick, tick, token);
                    } else {
                        let second = (tick / SLOTS).min(self.now / SLOTS + SLOTS - 1);
                        self.levels[1].put(second, tick, token);
                    }
                }
            }
            for (_, token) in self.levels[0].take(self.now) {
                self.len -= 1;
                fire(token);
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
        let tick = (self.len > 0).then(|| self.next_tick().saturating_mul(TICK));
        let soon = self.soon.peek().map(|Reverse((at, _))| *at);
        [tick, soon].into_iter().flatten().min()
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
}
