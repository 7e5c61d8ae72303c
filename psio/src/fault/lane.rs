//! One direction of a wire on which things go wrong.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::config::Faults;
use crate::segment::{fill_checksum, segment};
use crate::{RxChecksum, RxMeta};

/// How long a frame is held back at most for others to pass it, where no others come.
const HELD_AT_MOST: Duration = Duration::from_millis(5);

/// splitmix64 (Steele, Lea, Flood 2014): small, and good enough to roll dice.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to below 1.
    fn fraction(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn happens(&mut self, rate: f64) -> bool {
        self.fraction() < rate
    }
}

/// A frame in flight.
pub struct Frame {
    pub bytes: Box<[u8]>,
    pub meta: RxMeta,
}

struct Flying {
    due: Duration,
    /// Keeps frames in order which are due at the same time.
    number: u64,
    frame: Frame,
}

impl Ord for Flying {
    /// The frame due first is the greatest, so that it is the top of a heap.
    fn cmp(&self, other: &Flying) -> Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Flying) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Flying {
    fn eq(&self, other: &Flying) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Flying {}

struct HeldBack {
    /// Frames that have yet to pass.
    gap: u32,
    until: Duration,
    frame: Frame,
}

/// Frames on their way in one direction.
pub struct Lane {
    faults: Faults,
    dice: Dice,
    flying: BinaryHeap<Flying>,
    held_back: Vec<HeldBack>,
    /// Arrived, and not taken yet.
    arrived: VecDeque<Frame>,
    entered: u64,
    dropped: u64,
    room: Vec<u8>,
}

impl Lane {
    pub fn new(faults: Faults, seed: u64) -> Lane {
        Lane {
            faults,
            dice: Dice(seed),
            flying: BinaryHeap::new(),
            held_back: Vec::new(),
            arrived: VecDeque::new(),
            entered: 0,
            dropped: 0,
            room: Vec::new(),
        }
    }

    /// Whether anything can go wrong here.
    pub fn any(&self) -> bool {
        self.faults.any()
    }

    /// Frames dropped, whether by chance or because too many were in flight.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes a frame in at the time `now`. A super-segment enters as the frames it stands for,
    /// and a checksum that was left out is filled in: on a real wire it would have been.
    pub fn enter(&mut self, frame: &[u8], meta: RxMeta, now: Duration) {
        if meta.gso_size > 0 {
            let mut room = std::mem::take(&mut self.room);
            let plain = RxMeta {
                gso_size: 0,
                ..meta
            };
            let cut = segment(frame, meta.gso_size, &mut room, &mut |frame| {
                self.enter_packet((*frame).into(), plain, now);
            });
            self.room = room;
            if cut.is_ok() {
                return;
            }
        }
        let mut bytes: Box<[u8]> = frame.into();
        if meta.checksum == RxChecksum::Good {
            fill_checksum(&mut bytes);
        }
        self.enter_packet(bytes, meta, now);
    }

    fn enter_packet(&mut self, bytes: Box<[u8]>, meta: RxMeta, now: Duration) {
        if self.dice.happens(self.faults.loss) {
            self.dropped += 1;
            return;
        }
        if self.dice.happens(self.faults.duplicate) {
            self.launch(bytes.clone(), meta, now);
        }
        self.launch(bytes, meta, now);
    }

    fn launch(&mut self, mut bytes: Box<[u8]>, mut meta: RxMeta, now: Duration) {
        let in_flight = self.flying.len() + self.held_back.len() + self.arrived.len();
        if in_flight >= self.faults.limit {
            self.dropped += 1;
            return;
        }
        if self.dice.happens(self.faults.corrupt) && !bytes.is_empty() {
            let bit = self.dice.roll() % (bytes.len() as u64 * 8);
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
            meta.checksum = RxChecksum::Unknown;
        }
        let shift = self.faults.jitter.mul_f64(self.dice.fraction() * 2.0);
        let latest = self.faults.delay.saturating_add(shift);
        let delay = latest.saturating_sub(self.faults.jitter);
        self.entered += 1;
        self.flying.push(Flying {
            due: now.saturating_add(delay),
            number: self.entered,
            frame: Frame { bytes, meta },
        });
    }

    /// Lets all frames arrive which are due at the time `now`.
    pub fn advance(&mut self, now: Duration) {
        while self.flying.peek().is_some_and(|next| next.due <= now) {
            let Some(Flying { frame, .. }) = self.flying.pop() else {
                break;
            };
            if self.faults.gap > 0 && self.dice.happens(self.faults.reorder) {
                self.held_back.push(HeldBack {
                    gap: self.faults.gap,
                    until: now + HELD_AT_MOST,
                    frame,
                });
                continue;
            }
            self.arrived.push_back(frame);
            for held in &mut self.held_back {
                held.gap -= 1;
            }
            self.release(|held| held.gap == 0);
        }
        self.release(|held| held.until <= now);
    }

    fn release(&mut self, free: impl Fn(&HeldBack) -> bool) {
        let freed = self.held_back.extract_if(.., |held| free(held));
        self.arrived.extend(freed.map(|held| held.frame));
    }

    /// The frame that arrived first.
    pub fn first(&self) -> Option<&Frame> {
        self.arrived.front()
    }

    /// Takes the frame that arrived first.
    pub fn pop(&mut self) -> Option<Frame> {
        self.arrived.pop_front()
    }

    /// How many have arrived.
    pub fn arrived(&self) -> usize {
        self.arrived.len()
    }

    /// When the next frame will arrive.
    pub fn next_due(&self) -> Option<Duration> {
        let held = self.held_back.iter().map(|held| held.until).min();
        let flying = self.flying.peek().map(|next| next.due);
        held.into_iter().chain(flying).min()
    }
}
