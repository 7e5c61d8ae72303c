//! Frames that take several buffers: those that were coalesced (RSC, §7.11 of the datasheet), whose
//! descriptors need not be neighbours, each naming the next.
//!
//! The card goes on writing to the headers in a frame's first buffer until the frame ends, although
//! it has written that buffer's descriptor back. So the first buffer is kept, and its descriptor gets
//! another; of the others the bytes are taken at once.

use super::dma::Part;
use crate::MAX_FRAME;

/// Frames that the card puts together at once, at most (§7.11.1).
pub const MOST: usize = 32;

/// What a piece makes of its frame.
pub enum Taken {
    /// It is the whole frame, and was not copied.
    Whole {
        /// TCP segments in it.
        segments: u16,
    },
    /// The frame goes on.
    Next,
    /// It is the last.
    Last(Chain),
}

/// A frame's pieces so far.
pub struct Chain {
    /// The descriptor in which it goes on.
    next: u16,
    /// The first piece's buffer.
    pub first: Part,
    /// The bytes of all pieces, but for those of the first, whose place is kept.
    pub bytes: Vec<u8>,
    /// Bytes of the first piece.
    pub first_len: usize,
    /// TCP segments in it.
    pub segments: u16,
}

/// What a descriptor says of its frame, when the card has written it back.
#[derive(Clone, Copy)]
pub struct Piece {
    /// Which descriptor.
    pub index: u16,
    /// TCP segments that begin in it, and one more; or 0.
    pub merged: u16,
    /// The frame ends here.
    pub last: bool,
    /// The descriptor in which it goes on otherwise.
    pub next: u16,
}

impl Piece {
    fn segments(self) -> u16 {
        self.merged.saturating_sub(1)
    }
}

/// Frames that are not complete.
pub struct Chains {
    open: Vec<Chain>,
    /// Buffers that no descriptor has.
    spare: Vec<Part>,
    /// Room of frames gone by, to be used again.
    rooms: Vec<Vec<u8>>,
    /// Frames whose end never came.
    pub lost: u64,
}

impl Chains {
    /// None so far; `spare` are [`MOST`] buffers that no descriptor has.
    pub fn new(spare: Vec<Part>) -> Chains {
        Chains {
            open: Vec::new(),
            spare,
            rooms: Vec::new(),
            lost: 0,
        }
    }

    /// No frame is incomplete.
    pub fn are_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether a piece is the first of several.
    pub fn is_first(&self, piece: Piece) -> bool {
        !piece.last && self.position(piece).is_none()
    }

    fn position(&self, piece: Piece) -> Option<usize> {
        self.open.iter().position(|chain| chain.next == piece.index)
    }

    /// Keeps a frame's first piece of `len` bytes in `buffer`; returns the buffer that takes its place.
    pub fn begin(&mut self, piece: Piece, buffer: Part, len: usize) -> Part {
        let spare = self.spare.pop().unwrap_or_else(|| {
            // More than the card can have open: the oldest will never end.
            self.lost += 1;
            self.open.remove(0).first
        });
        let mut bytes = self.rooms.pop().unwrap_or_default();
        bytes.resize(len, 0);
        self.open.push(Chain {
            next: piece.next,
            first: buffer,
            first_len: len,
            bytes,
            segments: piece.segments(),
        });
        spare
    }

    /// Takes a piece that is not the first of several.
    pub fn take(&mut self, piece: Piece, bytes: &[u8]) -> Taken {
        let segments = piece.segments();
        let Some(at) = self.position(piece) else {
            return Taken::Whole { segments };
        };
        let chain = &mut self.open[at];
        chain.segments = chain.segments.saturating_add(segments);
        chain.next = piece.next;
        // What no frame can have is cut off; its length then contradicts its headers.
        let room = MAX_FRAME.saturating_sub(chain.bytes.len());
        chain
            .bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        match piece.last {
            true => Taken::Last(self.open.swap_remove(at)),
            false => Taken::Next,
        }
    }

    /// Takes back what a frame had.
    pub fn recycle(&mut self, chain: Chain) {
        let mut bytes = chain.bytes;
        bytes.clear();
        self.rooms.push(bytes);
        self.spare.push(chain.first);
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
