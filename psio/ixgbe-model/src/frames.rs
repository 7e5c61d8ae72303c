//! Frames in a row, without an allocation to each.

use std::collections::VecDeque;

/// A queue of frames.
#[derive(Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Where each frame ends, counted from the queue's beginning.
    ends: VecDeque<usize>,
    /// Where the oldest begins.
    start: usize,
}

impl Frames {
    /// Appends a frame.
    pub fn push(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
        self.ends.push_back(self.bytes.len());
    }

    /// The oldest frame.
    pub fn front(&self) -> Option<&[u8]> {
        let end = *self.ends.front()?;
        Some(&self.bytes[self.start..end])
    }

    /// Drops the oldest frame.
    pub fn pop(&mut self) {
        if let Some(end) = self.ends.pop_front() {
            self.start = end;
        }
        if self.ends.is_empty() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start > 1 << 20 {
            self.bytes.drain(..self.start);
            for end in &mut self.ends {
                *end -= self.start;
            }
            self.start = 0;
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.bytes.len() - self.start
    }
}
