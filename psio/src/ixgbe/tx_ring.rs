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
    /// Descriptors that can be written before looking what the card has done.
    free: u16,
    /// The end of the newest frame and the start of the oldest, which count on past the arena's end.
    filled: u64,
    freed: u64,
    /// Bytes behind the newest frame, in one piece, that are free.
    room: usize,
    reports: VecDeque<Report>,
    /// The descriptor behind the newest that is to be reported.
    reported: u16,
    /// Bytes last lent, behind the newest frame.
    reserved: Option<usize>,
    /// What slots 0 and 1 of the card hold, and which was written last.
    contexts: [Option<Context>; 2],
    newest: usize,
    /// The longest frame that goes out uncut.
    longest: usize,
    /// Frames handed over.
    handed_frames: u64,
    pub counts: TxCounts,
}

impl TxRing {
    /// A ring of `count` descriptors for frames of at most `longest` bytes on the wire, which is no
    /// more than a descriptor holds.
    pub fn new(dma: &impl Dma, count: usize, longest: usize) -> Result<TxRing, Error> {
        assert!(longest <= MAX_PIECE);
        Ok(TxRing {
            ring: Descriptors::new(dma.allocate(count * 16)?, count),
            arena: dma.allocate(ARENA)?,
            next: 0,
            handed: 0,
            oldest: 0,
            free: (count - 1) as u16,
            filled: 0,
            freed: 0,
            room: ARENA,
            reports: VecDeque::with_capacity(count),
            reported: 0,
            reserved: None,
            contexts: [None; 2],
            newest: 0,
            longest,
            handed_frames: 0,
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
        let small = len <= MAX_PIECE && len <= self.room && self.free > 1;
        if !small && !self.make_room(len) {
            self.reserved = None;
            return None;
        }
        self.reserved = Some(len);
        let at = self.filled as usize % ARENA;
        // SAFETY: the range lies in the arena and behind all frames that the card has not yet reported
        // as sent, as `room` says; it is the card's only once it is committed and handed over.
        Some(unsafe { self.arena.bytes_mut(at, len) })
    }

    /// Looks what the card has done and makes room for a frame of `len` bytes; false if there is none.
    #[inline(never)]
    pub fn make_room(&mut self, len: usize) -> bool {
        self.clean();
        let in_use = self.next.wrapping_sub(self.oldest);
        // One stays free, for a full ring would look like an empty one.
        self.free = self.ring.count() as u16 - 1 - in_use;
        let behind = ARENA - self.filled as usize % ARENA;
        let free = ARENA - (self.filled - self.freed) as usize;
        self.room = behind.min(free);
        if self.room < len && free >= behind && free - behind >= len {
            // From the arena's start again: what is left at its end is too short.
            self.filled += behind as u64;
            self.room = free - behind;
        }
        // One descriptor more for a context.
        let descriptors = len.div_ceil(MAX_PIECE) + 1;
        len <= MAX_FRAME && len <= self.room && descriptors <= usize::from(self.free)
    }

    /// Takes back what the card has reported as sent.
    pub fn clean(&mut self) {
        while let Some(report) = self.reports.front() {
            if !is_sent(self.ring.at(report.descriptor.wrapping_sub(1)).load::<1>()) {
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
        let reserved = self.reserved.take();
        assert!(reserved.is_some_and(|room| len <= room), "nothing reserved");
        let plain = meta.checksum.is_none() && meta.gso.is_none();
        if plain && (MIN_FRAME..=self.longest).contains(&len) {
            let address = self.arena.address() + self.filled % ARENA as u64;
            let bits = TRANSMIT_DATA | TRANSMIT_LAST | payload(len);
            self.push([address, bits | len as u64]);
            self.end_frame(len);
        } else {
            self.commit_offloaded(len, meta);
        }
    }

    /// Queues a frame with offloads, or drops it.
    #[inline(never)]
    fn commit_offloaded(&mut self, len: usize, meta: TxMeta) {
        let at = self.filled as usize % ARENA;
        // SAFETY: within the room last reserved, which is not the card's before it is handed over.
        let frame = unsafe { self.arena.bytes_mut(at, len) };
        match offloads::prepare(frame, meta) {
            Some(offloads) if len >= MIN_FRAME && (offloads.segments || len <= self.longest) => {
                let flags = self.select(offloads) | payload(len - offloads.headers);
                self.describe(at, len, flags);
                self.end_frame(len);
            }
            _ => self.counts.dropped += 1,
        }
    }

    /// Closes the frame whose descriptors were just written.
    #[inline]
    fn end_frame(&mut self, len: usize) {
        let len = len as u64;
        let taken = len.next_multiple_of(ALIGN);
        self.filled += taken;
        // Frames and arena end on a multiple of `ALIGN`: there is as much.
        self.room -= taken as usize;
        self.counts.frames += 1;
        self.counts.bytes += len;
        if self.next.wrapping_sub(self.reported) >= REPORT_AFTER {
            self.report();
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
        self.ring.at(self.next).store(words);
        self.next = self.next.wrapping_add(1);
        self.free -= 1;
    }

    /// Has the newest frame's last descriptor reported.
    #[inline(never)]
    fn report(&mut self) {
        let last = self.ring.at(self.next.wrapping_sub(1));
        last.store([last.load::<0>(), last.load::<1>() | TRANSMIT_REPORT]);
        self.reports.push_back(Report {
            descriptor: self.next,
            byte: self.filled,
        });
        self.reported = self.next;
    }

    /// Hands all committed frames over: returns how many, and the tail that does it.
    pub fn hand_over(&mut self) -> Option<(usize, u16)> {
        if self.handed == self.next {
            return None;
        }
        if self.reported != self.next {
            self.report();
        }
        self.handed = self.next;
        let frames = self.counts.frames - self.handed_frames;
        self.handed_frames = self.counts.frames;
        Some((frames as usize, self.ring.wrap(self.next)))
    }

    /// Never gives the memory back: the card did not stop.
    pub fn leak(&mut self) {
        self.ring.leak();
        self.arena.leak();
    }
}
