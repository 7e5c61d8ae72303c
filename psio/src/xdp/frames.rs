//! Who has which frame: the kernel, to receive into or to send, or we. Frames for receiving go round
//! through the fill ring and the receive ring, those for sending through the send ring and the
//! completion ring and a list of those that are free.
#![allow(unsafe_code)]

use super::Layout;
use super::socket::Rings;
use super::umem::Umem;

/// The frames of one socket.
pub struct Frames {
    umem: Umem,
    rings: Rings,
    layout: Layout,
    /// Frames for sending that are ours, the one used last on top: it is in the cache.
    free: Vec<u64>,
    /// The frame lent out to be built, on top of `free` still, and its length.
    reserved: Option<usize>,
}

impl Frames {
    /// Gives the kernel the frames that it may receive into.
    pub fn new(umem: Umem, mut rings: Rings, layout: Layout) -> Frames {
        let starts = |frames: std::ops::Range<usize>| frames.map(|i| (i * layout.frame) as u64);
        for start in starts(0..layout.receive) {
            let pushed = rings.fill.push(start);
            debug_assert!(pushed, "the ring has a place for each");
        }
        rings.fill.publish();
        Frames {
            free: starts(layout.receive..layout.receive + layout.send)
                .rev()
                .collect(),
            umem,
            rings,
            layout,
            reserved: None,
        }
    }

    /// Shows the oldest frame received, and takes it for the kernel to use again. `None` if nothing
    /// waits; false if the kernel names a frame that cannot be.
    pub fn receive(&mut self, show: impl FnOnce(&[u8])) -> Option<bool> {
        let entry = self.rings.received.pop()?;
        // SAFETY: the kernel has handed the frame over, and gets it back below.
        let frame = unsafe { self.umem.frame(entry.addr, entry.len as usize) };
        let good = frame.map(show).is_some();
        let start = entry.addr - entry.addr % self.layout.frame as u64;
        let pushed = self.rings.fill.push(start);
        debug_assert!(pushed, "the ring has a place for each");
        Some(good)
    }

    /// Gives the kernel the frames back that were received; whether it has to be told.
    pub fn refill(&mut self) -> bool {
        self.rings.received.release();
        self.rings.fill.publish();
        self.rings.fill.needs_wakeup()
    }

    /// Whether nothing was received.
    pub fn is_quiet(&mut self) -> bool {
        self.rings.received.is_empty()
    }

    /// Room for a frame of `len` bytes, if one is free and that long.
    pub fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = None;
        if self.free.is_empty() {
            self.take_back();
        }
        let start = *self.free.last()?;
        if len > self.layout.frame {
            return None;
        }
        self.reserved = Some(len);
        // SAFETY: free frames are ours.
        unsafe { self.umem.frame_mut(start, len) }
    }

    /// Puts the first `len` bytes of the room last reserved among the frames to be sent.
    pub fn commit(&mut self, len: usize) {
        let reserved = self.reserved.take();
        assert!(reserved.is_some_and(|room| len <= room), "nothing reserved");
        let addr = self.free.pop().unwrap_or_default();
        let pushed = self.rings.send.push(libc::xdp_desc {
            addr,
            len: len as u32,
            options: 0,
        });
        debug_assert!(pushed, "the ring has a place for each");
    }

    /// Shows the kernel the frames to be sent; returns how many are new to it.
    pub fn publish(&mut self) -> usize {
        self.rings.send.publish()
    }

    /// Frames that the kernel has yet to look at, if it has to be told of them.
    pub fn to_be_told(&self) -> u32 {
        match self.rings.send.waiting() {
            0 => 0,
            waiting if self.rings.send.needs_wakeup() => waiting,
            _ => 0,
        }
    }

    /// Takes back the frames that were sent.
    pub fn take_back(&mut self) {
        self.reserved = None;
        while let Some(start) = self.rings.sent.pop() {
            let start = start - start % self.layout.frame as u64;
            debug_assert!(self.free.len() < self.layout.send);
            self.free.push(start);
        }
        self.rings.sent.release();
    }
}
