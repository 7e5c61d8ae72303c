//! Frames that belong to no connection, on their way to the device: ARP, ICMP, handshakes, resets.

use psio::TxMeta;
use std::collections::VecDeque;

/// Most frames that wait; more are dropped.
const LIMIT: usize = 1024;
/// Memory that is kept for further frames, in bytes.
const MOST_KEPT: usize = 64 << 10;

/// The frames that wait for the device, one behind the other in one piece of memory.
#[derive(Default)]
pub struct ControlFrames {
    bytes: Vec<u8>,
    /// Where the first frame that waits begins.
    at: usize,
    frames: VecDeque<(usize, TxMeta)>,
}

impl ControlFrames {
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Adds a frame of at most `most` bytes, unless too many wait. `build` writes it and says how long
    /// it is and what the device is to do with it.
    #[inline]
    pub fn push(&mut self, most: usize, build: impl FnOnce(&mut [u8]) -> (usize, TxMeta)) {
        if self.frames.len() >= LIMIT {
            return;
        }
        let start = self.bytes.len();
        self.bytes.resize(start + most, 0);
        let (len, meta) = build(&mut self.bytes[start..]);
        self.bytes.truncate(start + len);
        self.frames.push_back((len, meta));
    }

    /// The frame that has waited longest.
    #[inline]
    pub fn first(&self) -> Option<(&[u8], TxMeta)> {
        let (len, meta) = *self.frames.front()?;
        Some((&self.bytes[self.at..][..len], meta))
    }

    /// Takes that frame off.
    #[inline]
    pub fn remove_first(&mut self) {
        let Some((len, _)) = self.frames.pop_front() else {
            return;
        };
        self.at += len;
        if self.frames.is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(MOST_KEPT);
            self.at = 0;
        } else if self.at > MOST_KEPT {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(frames: &mut ControlFrames, len: usize, byte: u8) {
        frames.push(len + 7, |room| {
            room[..len].fill(byte);
            (len, TxMeta::default())
        });
    }

    #[test]
    fn frames_leave_as_they_came_and_no_more_than_the_limit_wait() {
        let mut frames = ControlFrames::default();
        for n in 0..LIMIT + 3 {
            push(&mut frames, 60 + n % 1000, n as u8);
        }
        for n in 0..LIMIT {
            let (frame, _) = frames.first().expect("a frame waits");
            assert_eq!(frame, vec![n as u8; 60 + n % 1000]);
            frames.remove_first();
        }
        assert!(frames.is_empty() && frames.first().is_none());
    }

    #[test]
    fn memory_is_bounded_while_some_frame_always_waits() {
        let mut frames = ControlFrames::default();
        push(&mut frames, 1000, 0);
        for n in 1..10_000 {
            push(&mut frames, 1000, n as u8);
            frames.remove_first();
            assert_eq!(frames.first().map(|(frame, _)| frame[0]), Some(n as u8));
        }
        assert!(frames.bytes.capacity() < 4 * MOST_KEPT);
    }
}
