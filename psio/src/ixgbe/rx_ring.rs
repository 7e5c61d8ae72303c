//! The receive ring: each descriptor has a buffer, so that a frame is shown where the card has put it,
//! and both are handed over again once it has been seen.
#![allow(unsafe_code)]

use super::access::Dma;
use super::chain::{Chains, MOST, Piece, Slot, Taken};
use super::descriptors::{Received, coalesced, receive_read};
use super::dma::{Descriptors, DmaMemory};
use crate::segment::tcp_header_end;
use crate::{Error, RxChecksum, RxMeta};

/// Buffers lie together in pieces of this size, a huge page: so much is in one piece for the card
/// even where no IOMMU makes it so.
const CHUNK: usize = 2 << 20;

/// What was received and dropped, from the ring's opening on.
#[derive(Clone, Copy, Default)]
pub struct RxCounts {
    pub frames: u64,
    pub bytes: u64,
    pub dropped: u64,
}

pub struct RxRing {
    ring: Descriptors,
    chunks: Vec<DmaMemory>,
    /// Bytes of a buffer, and buffers of a chunk, as powers of two.
    buffer_shift: u32,
    chunk_shift: u32,
    /// The buffer of each descriptor.
    slots: Vec<Slot>,
    /// The descriptor that the card fills next, as far as we know.
    next: u16,
    chains: Chains,
    pub counts: RxCounts,
}

impl RxRing {
    /// A ring of `count` descriptors, each with a buffer of `1 << buffer_shift` bytes.
    pub fn new(dma: &impl Dma, count: usize, buffer_shift: u32) -> Result<RxRing, Error> {
        let ring = Descriptors::new(dma.allocate(count * 16)?, count);
        let chunk_shift = (CHUNK >> buffer_shift).ilog2();
        let mut chunks = Vec::new();
        let mut left = (count + MOST) << buffer_shift;
        while left > 0 {
            chunks.push(dma.allocate(left.min(CHUNK))?);
            left = left.saturating_sub(CHUNK);
        }
        let rx = RxRing {
            ring,
            chunks,
            buffer_shift,
            chunk_shift,
            slots: (0..count as Slot).collect(),
            next: 0,
            chains: Chains::new((count as Slot..(count + MOST) as Slot).collect()),
            counts: RxCounts::default(),
        };
        for index in 0..count as u16 {
            rx.refill(index);
        }
        Ok(rx)
    }

    pub fn address(&self) -> u64 {
        self.ring.address()
    }

    pub fn count(&self) -> usize {
        self.ring.count()
    }

    /// The chunk in which a buffer lies, and where.
    fn place(&self, slot: Slot) -> (usize, usize) {
        let slot = usize::from(slot);
        let within = slot & ((1 << self.chunk_shift) - 1);
        (slot >> self.chunk_shift, within << self.buffer_shift)
    }

    /// Writes the descriptor anew, so that the card may fill its buffer.
    fn refill(&self, index: u16) {
        let (chunk, at) = self.place(self.slots[usize::from(index)]);
        let address = self.chunks[chunk].address() + at as u64;
        self.ring.store(index, receive_read(address));
    }

    /// Whether a frame, or part of one, waits.
    pub fn has_frames(&self) -> bool {
        Received(self.ring.load(self.next, 1)).is_done()
    }

    /// The tail that hands all refilled descriptors over: one stays back, for a ring whose head is
    /// its tail counts as empty.
    pub fn tail(&self) -> u16 {
        self.ring.wrap(self.next.wrapping_sub(1))
    }

    /// Shows at most `budget` frames; returns how many there were, and how many descriptors they
    /// took, which are the card's again with the next [`tail`](Self::tail).
    pub fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&[u8], RxMeta),
    ) -> (usize, usize) {
        let (mut shown, mut used) = (0, 0);
        while shown < budget && used < self.ring.count() {
            let done = Received(self.ring.load(self.next, 1));
            if !done.is_done() {
                break;
            }
            let index = self.next;
            shown += usize::from(self.show(index, done, sink));
            self.refill(index);
            self.next = self.ring.wrap(index.wrapping_add(1));
            used += 1;
        }
        (shown, used)
    }

    /// Shows the frame that ends in a descriptor which the card has written back; false if none does,
    /// or it is dropped.
    fn show(&mut self, index: u16, done: Received, sink: &mut dyn FnMut(&[u8], RxMeta)) -> bool {
        let merged = coalesced(self.ring.load(index, 0));
        if done.len() > 1 << self.buffer_shift {
            self.counts.dropped += 1;
            return false;
        }
        let slot = self.slots[usize::from(index)];
        let piece = Piece {
            index,
            merged,
            last: done.is_last(),
            // Only a frame that was coalesced may go on elsewhere.
            next: self.ring.wrap(match merged {
                0 => index.wrapping_add(1),
                _ => done.next(),
            }),
        };
        if self.chains.is_first(piece) {
            self.slots[usize::from(index)] = self.chains.begin(piece, slot, done.len());
            return false;
        }
        let (chunk, at) = self.place(slot);
        // SAFETY: the card has written the descriptor back and so is done with its buffer, which is
        // not the first of a frame that goes on, until the descriptor is handed over again by a tail,
        // which the caller takes after the borrow's end.
        let bytes = unsafe { self.chunks[chunk].bytes(at, done.len()) };
        if merged == 0 && self.chains.are_empty() {
            return count(&mut self.counts, done, bytes, 1, sink);
        }
        match self.chains.take(piece, bytes) {
            Taken::Whole { segments } => count(&mut self.counts, done, bytes, segments, sink),
            Taken::Next => false,
            Taken::Last(mut chain) => {
                let (chunk, at) = self.place(chain.first);
                // SAFETY: the frame has ended, so that the card is done with its first buffer, which
                // no descriptor has had since.
                let first = unsafe { self.chunks[chunk].bytes(at, chain.first_len) };
                chain.bytes[..first.len()].copy_from_slice(first);
                let good = count(&mut self.counts, done, &chain.bytes, chain.segments, sink);
                self.chains.recycle(chain);
                good
            }
        }
    }

    /// Frames whose end never came.
    pub fn lost(&self) -> u64 {
        self.chains.lost
    }

    /// Never gives the memory back: the card did not stop.
    pub fn leak(&mut self) {
        self.ring.leak();
        self.chunks.iter_mut().for_each(DmaMemory::leak);
    }
}

/// Shows a frame, or drops it; false if it was dropped.
fn count(
    counts: &mut RxCounts,
    done: Received,
    frame: &[u8],
    segments: u16,
    sink: &mut dyn FnMut(&[u8], RxMeta),
) -> bool {
    if done.is_damaged() || done.vlan() != 0 || frame.is_empty() {
        counts.dropped += 1;
        return false;
    }
    counts.frames += 1;
    counts.bytes += frame.len() as u64;
    sink(frame, meta(done, frame, segments));
    true
}

/// What the card says of a frame.
fn meta(done: Received, frame: &[u8], segments: u16) -> RxMeta {
    RxMeta {
        checksum: match done.is_checksum_good() {
            true => RxChecksum::Good,
            false => RxChecksum::Unknown,
        },
        gso_size: match segments {
            0 | 1 => 0,
            _ => segment_size(frame, segments),
        },
    }
}

/// Payload of each of the segments that were merged into a frame; the card does not say, so they are
/// taken to be of one size, as Linux's driver does.
fn segment_size(frame: &[u8], segments: u16) -> u16 {
    let payload = tcp_header_end(frame).map_or(0, |end| frame.len() - end);
    u16::try_from(payload.div_ceil(segments.into())).unwrap_or(u16::MAX)
}
