//! Room in which frames are built one behind the other, each with its header in front.

use std::collections::VecDeque;
use std::ops::Range;

use crate::vnet;
use crate::{MAX_FRAME, TxMeta};

/// Bytes of an arena: sixteen super-segments, or any usual burst of small frames. It is filled
/// from its start again once all is sent, so that a light load stays in the first-level cache.
const BYTES: usize = 1 << 20;

/// Frames start on a cache line.
const ALIGN: usize = 64;

/// Frames built, in order, and not sent yet.
pub struct Arena {
    bytes: Box<[u8]>,
    /// End of the last frame committed.
    used: usize,
    frames: VecDeque<Range<usize>>,
    reserved: Option<usize>,
}

impl Arena {
    pub fn new() -> Arena {
        Arena {
            bytes: vec![0; BYTES].into(),
            used: 0,
            frames: VecDeque::new(),
            reserved: None,
        }
    }

    /// Room for a frame of `len` bytes, if that much is left.
    pub fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = None;
        if self.frames.is_empty() {
            self.used = 0;
        }
        let start = self.used + vnet::LEN;
        if len > MAX_FRAME || start + len > self.bytes.len() {
            return None;
        }
        self.reserved = Some(len);
        Some(&mut self.bytes[start..start + len])
    }

    /// Keeps the first `len` bytes of the room last reserved as a frame.
    pub fn commit(&mut self, len: usize, meta: TxMeta) {
        let reserved = self.reserved.take();
        assert!(reserved.is_some_and(|room| len <= room), "nothing reserved");
        let start = self.used;
        let end = start + vnet::LEN + len;
        self.bytes[start..start + vnet::LEN].copy_from_slice(&vnet::encode(meta));
        self.frames.push_back(start..end);
        self.used = end.next_multiple_of(ALIGN);
    }

    /// All frames, oldest first, their headers in front.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        self.frames.iter().map(|range| &self.bytes[range.clone()])
    }

    /// The oldest frame, its header in front.
    pub fn first(&self) -> Option<&[u8]> {
        self.frames.front().map(|range| &self.bytes[range.clone()])
    }

    /// Lets go of the oldest frame.
    pub fn pop(&mut self) {
        self.frames.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_in_order_behind_their_headers() {
        let mut arena = Arena::new();
        for fill in 1..=3u8 {
            arena.reserve(100).unwrap().fill(fill);
            arena.commit(60, TxMeta::default());
        }
        for fill in 1..=3u8 {
            let frame = arena.first().unwrap();
            assert_eq!(frame.len(), vnet::LEN + 60);
            assert!(frame[vnet::LEN..].iter().all(|&b| b == fill));
            arena.pop();
        }
        assert!(arena.first().is_none());
    }

    #[test]
    fn a_full_arena_has_room_again_once_it_is_empty() {
        let mut arena = Arena::new();
        let mut frames = 0;
        while arena.reserve(MAX_FRAME).is_some() {
            arena.commit(MAX_FRAME, TxMeta::default());
            frames += 1;
        }
        assert!(frames >= 15);
        arena.pop();
        assert!(arena.reserve(MAX_FRAME).is_none());
        for _ in 1..frames {
            arena.pop();
        }
        assert!(arena.reserve(MAX_FRAME).is_some());
    }

    #[test]
    fn room_not_committed_is_taken_back() {
        let mut arena = Arena::new();
        arena.reserve(100).unwrap().fill(1);
        arena.reserve(50).unwrap().fill(2);
        arena.commit(50, TxMeta::default());
        assert_eq!(arena.first().unwrap()[vnet::LEN..], [2; 50]);
    }

    #[test]
    #[should_panic(expected = "nothing reserved")]
    fn committing_twice_panics() {
        let mut arena = Arena::new();
        arena.reserve(100);
        arena.commit(50, TxMeta::default());
        arena.commit(50, TxMeta::default());
    }
}
