//! The transmit ring: frames are built in memory that the card reads, one behind the other, and
//! handed over a burst at a time.
#![allow(unsafe_code)]

use std::collections::VecDeque;

use super::access::Dma;
use super::descriptors::{
    Context, MAX_PIECE, TRANSMIT_DATA, TRANSMIT_LAST, TRANSMIT_REPORT, is_sent, payload,
};
use super::dma::{Descriptors, DmaMemory};
use super::offloads::{self, Offloads};
use crate::{Error, MAX_FRAME, TxMeta};

/// Bytes in which frames are built: a huge page.
const ARENA: usize = 2 << 20;

/// Frames start on a cache line.
const ALIGN: u64 = 64;

/// Descriptors after which the card is to report at the latest, so that a long burst gives room back
/// before its end.
const REPORT_AFTER: u16 = 32;

/// The shortest frame that the card takes, in bytes; it pads what is shorter than Ethernet wants.
const MIN_FRAME: usize = 17;

/// What was handed over and dropped, from the ring's opening on.
#[derive(Clone, Copy, Default)]
pub struct TxCounts {
    pub frames: u64,
    pub bytes: u64,
    pub dropped: u64,
}

/// What is free once the card reports that a descriptor is done.
#[derive(Clone, Copy)]
struct Report {
    /// The descriptor behind it.
    descriptor: u16,
    /// The end of its frame.
    byte: u64,
}

pub struct TxRing {
    ring: Descriptors,
    arena: DmaMemory,
    /// The next descriptor to be written, the first not handed over, and the oldest that may be in
    /// use; they count on past the ring's end.
    next: u16,
    handed: u16,
    oldest: u16,
    /// The same for the arena's bytes: the end of the newest frame and the start of the oldest.
    filled: u64,
    freed: u64,
    reports: VecDeque<Report>,
    /// Descriptors behind the newest that is to be reported.
    unreported: u16,
    /// Where the room last lent lies, and how long it is.
    reserved: Option<(u64, usize)>,
    /// What slots 0 and 1 of the card hold, and which was written last.
    contexts: [Option<Context>; 2],
    newest: usize,
    /// The longest frame that goes out uncut.
    longest: usize,
    /// Frames committed since the last hand-over.
    waiting: usize,
    pub counts: TxCounts,
}

impl TxRing {
    /// A ring of `count` descriptors for frames of at most `longest` bytes on the wire.
    pub fn new(dma: &impl Dma, count: usize, longest: usize) -> Result<TxRing, Error> {
        Ok(TxRing {
            ring: Descriptors::new(dma.allocate(count * 16)?, count),
            arena: dma.allocate(ARENA)?,
            next: 0,
            handed: 0,
            oldest: 0,
            filled: 0,
            freed: 0,
            reports: VecDeque::with_capacity(count),
            unreported: 0,
            reserved: None,
            contexts: [None; 2],
            newest: 0,
            longest,
            waiting: 0,
            counts: TxCounts::default(),
        })
    }

    pub fn address(&self) -> u64 {
        self.ring.address()
    }

    pub fn count(&self) -> usize {
        self.ring.count()
    }

    /// Room for a frame of `len` bytes, if ring and arena have it.
    pub fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = None;
        if len > MAX_FRAME {
            return None;
        }
        let at = self.place(len).or_else(|| {
            self.clean();
            self.place(len)
        })?;
        self.reserved = Some((at, len));
        // SAFETY: the range lies behind all frames that the card has not yet reported as sent, as
        // `place` has seen to; it is the card's only once it is committed and handed over.
        Some(unsafe { self.arena.bytes_mut(at as usize % ARENA, len) })
    }

    /// Where a frame of `len` bytes can be built, if there is room for it.
    fn place(&self, len: usize) -> Option<u64> {
        let used = usize::from(self.next.wrapping_sub(self.oldest));
        // One for a context; and one stays free, for a full ring would look like an empty one.
        let needed = len.div_ceil(MAX_PIECE) + 2;
        if used + needed > self.ring.count() {
            return None;
        }
        let within = self.filled as usize % ARENA;
        let at = match within + len > ARENA {
            true => self.filled + (ARENA - within) as u64,
            false => self.filled,
        };
        (at + len as u64 - self.freed <= ARENA as u64).then_some(at)
    }

    /// Takes back what the card has reported as sent.
    pub fn clean(&mut self) {
        while let Some(report) = self.reports.front() {
            if !is_sent(self.ring.load(report.descriptor.wrapping_sub(1), 1)) {
                return;
            }
            self.oldest = report.descriptor;
            self.freed = report.byte;
            self.reports.pop_front();
        }
    }

    /// All that was handed over has been reported as sent.
    pub fn is_idle(&self) -> bool {
        self.oldest == self.handed
    }

    /// Queues the first `len` bytes of the room last reserved.
    ///
    /// # Panics
    /// If nothing is reserved or `len` is longer than what is.
    pub fn commit(&mut self, len: usize, meta: TxMeta) {
        let Some((at, room)) = self.reserved.take() else {
            panic!("nothing reserved");
        };
        assert!(len <= room, "more committed than reserved");
        let offloads = if meta == TxMeta::default() {
            Some(Offloads::default())
        } else {
            // SAFETY: the room last reserved, which is not the card's before it is handed over.
            let frame = unsafe { self.arena.bytes_mut(at as usize % ARENA, len) };
            offloads::prepare(frame, meta)
        };
        match offloads {
            Some(offloads) if len >= MIN_FRAME && (offloads.segments || len <= self.longest) => {
                let flags = self.select(offloads) | payload(len - offloads.headers);
                self.describe(at as usize % ARENA, len, flags);
                self.filled = (at + len as u64).next_multiple_of(ALIGN);
                self.waiting += 1;
                self.counts.frames += 1;
                self.counts.bytes += len as u64;
                if self.unreported >= REPORT_AFTER {
                    self.report();
                }
            }
            _ => self.counts.dropped += 1,
        }
    }

    /// Puts the frame's context into a slot of the card's, unless it is there; returns the bits that
    /// refer to it.
    fn select(&mut self, offloads: Offloads) -> u64 {
        let Some(context) = offloads.context else {
            return 0;
        };
        let found = self.contexts.iter().position(|c| *c == Some(context));
        let slot = found.unwrap_or_else(|| {
            let slot = 1 - self.newest;
            self.contexts[slot] = Some(context);
            self.push(context.encode(slot as u64));
            slot
        });
        self.newest = slot;
        offloads.flags(slot as u64)
    }

    /// Writes the data descriptors of a frame.
    fn describe(&mut self, at: usize, len: usize, flags: u64) {
        let mut done = 0;
        while done < len {
            let piece = MAX_PIECE.min(len - done);
            let last = match done + piece == len {
                true => TRANSMIT_LAST,
                false => 0,
            };
            let address = self.arena.address() + (at + done) as u64;
            self.push([address, TRANSMIT_DATA | flags | last | piece as u64]);
            done += piece;
        }
    }

    fn push(&mut self, words: [u64; 2]) {
        self.ring.store(self.next, words);
        self.next = self.next.wrapping_add(1);
        self.unreported += 1;
    }

    /// Has the newest frame's last descriptor reported.
    fn report(&mut self) {
        let last = self.next.wrapping_sub(1);
        let words = [self.ring.load(last, 0), self.ring.load(last, 1)];
        self.ring
            .store(last, [words[0], words[1] | TRANSMIT_REPORT]);
        self.reports.push_back(Report {
            descriptor: self.next,
            byte: self.filled,
        });
        self.unreported = 0;
    }

    /// Hands all committed frames over: returns how many, and the tail that does it.
    pub fn hand_over(&mut self) -> Option<(usize, u16)> {
        if self.handed == self.next {
            return None;
        }
        if self.unreported > 0 {
            self.report();
        }
        self.handed = self.next;
        let frames = std::mem::take(&mut self.waiting);
        Some((frames, self.ring.wrap(self.next)))
    }

    /// Never gives the memory back: the card did not stop.
    pub fn leak(&mut self) {
        self.ring.leak();
        self.arena.leak();
    }
}
