//! The receive ring: each descriptor has a buffer, so that a frame is shown where the card has put it,
//! and both are handed over again once it has been seen.
#![allow(unsafe_code)]

use super::access::Dma;
use super::chain::{Chains, MOST, Piece, Taken};
use super::descriptors::{Received, coalesced, receive_read};
use super::dma::{Descriptors, DmaMemory, Part};
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
    /// The memory of all buffers.
    chunks: Vec<DmaMemory>,
    /// The buffer of each descriptor.
    buffers: Vec<Part>,
    /// Bytes of a buffer.
    buffer_len: usize,
    /// The descriptor that the card fills next, as far as we know.
    next: u16,
    chains: Chains,
    pub counts: RxCounts,
}

impl RxRing {
    /// A ring of `count` descriptors, each with a buffer of `1 << buffer_shift` bytes.
    pub fn new(dma: &impl Dma, count: usize, buffer_shift: u32) -> Result<RxRing, Error> {
        let ring = Descriptors::new(dma.allocate(count * 16)?, count);
        let buffer_len = 1 << buffer_shift;
        let (mut chunks, mut buffers) = (Vec::new(), Vec::new());
        while buffers.len() < count + MOST {
            let left = (count + MOST - buffers.len()) << buffer_shift;
            let chunk = dma.allocate(left.min(CHUNK))?;
            let places = (0..chunk.len()).step_by(buffer_len);
            buffers.extend(places.map(|at| chunk.part(at, buffer_len)));
            chunks.push(chunk);
        }
        let spare = buffers.split_off(count);
        let rx = RxRing {
            ring,
            chunks,
            buffers,
            buffer_len,
            next: 0,
            chains: Chains::new(spare),
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

    /// Writes the descriptor anew, so that the card may fill its buffer.
    fn refill(&self, index: u16) {
        let buffer = self.buffers[usize::from(index)];
        self.ring.at(index).store(receive_read(buffer.address()));
    }

    /// Whether a frame, or part of one, waits.
    pub fn has_frames(&self) -> bool {
        Received(self.ring.at(self.next).load::<1>()).is_done()
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
            let index = self.next;
            let descriptor = self.ring.at(index);
            let done = Received(descriptor.load::<1>());
            if !done.is_done() {
                break;
            }
            let merged = coalesced(descriptor.load::<0>());
            let len = done.len();
            if done.is_plain() && merged == 0 && len <= self.buffer_len && self.chains.are_empty() {
                let buffer = self.buffers[usize::from(index)];
                // SAFETY: the buffer has so many bytes and is ours as long as we are; the card has
                // written its descriptor back and is done with it, until it is handed over again by a
                // tail, which the caller takes after this borrow's end.
                let frame = unsafe { buffer.bytes(len) };
                sink(frame, meta(done, frame, 1));
                self.counts.bytes += len as u64;
                descriptor.store(receive_read(buffer.address()));
                shown += 1;
            } else {
                shown += usize::from(self.show(index, done, merged, sink));
                self.refill(index);
            }
            self.next = self.ring.wrap(index.wrapping_add(1));
            used += 1;
        }
        self.counts.frames += shown as u64;
        (shown, used)
    }

    /// Shows the frame that ends in a descriptor which the card has written back; false if none does,
    /// or it is dropped.
    #[inline(never)]
    fn show(
        &mut self,
        index: u16,
        done: Received,
        merged: u16,
        sink: &mut dyn FnMut(&[u8], RxMeta),
    ) -> bool {
        if done.len() > self.buffer_len {
            self.counts.dropped += 1;
            return false;
        }
        let buffer = self.buffers[usize::from(index)];
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
            self.buffers[usize::from(index)] = self.chains.begin(piece, buffer, done.len());
            return false;
        }
        // SAFETY: as in `receive`: it is not the first buffer of a frame that goes on.
        let bytes = unsafe { buffer.bytes(done.len()) };
        match self.chains.take(piece, bytes) {
            Taken::Whole { segments } => count(&mut self.counts, done, bytes, segments, sink),
            Taken::Next => false,
            Taken::Last(mut chain) => {
                // SAFETY: the frame has ended, so that the card is done with its first buffer, which
                // had so many bytes and which no descriptor has had since.
                let first = unsafe { chain.first.bytes(chain.first_len) };
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
