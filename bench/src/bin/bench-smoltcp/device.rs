//! A queue of the wire as a device of smoltcp.

use psio::{BURST, Queue, TxMeta};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// The wire's queue, and the burst that was taken from it last.
pub struct WireDevice {
    queue: Box<dyn Queue>,
    mtu: usize,
    /// Room for the frames of a burst, one after the other.
    frames: Vec<u8>,
    lengths: Vec<usize>,
    next: usize,
    /// Where a frame is built that the full ring has no room for.
    lost: Vec<u8>,
}

impl WireDevice {
    /// Over this queue, with IP packets of at most `mtu` bytes.
    pub fn new(queue: Box<dyn Queue>, mtu: usize) -> WireDevice {
        let frame = mtu + ETHERNET;
        WireDevice {
            queue,
            mtu,
            frames: vec![0; frame * BURST],
            lengths: Vec::with_capacity(BURST),
            next: 0,
            lost: vec![0; frame],
        }
    }

    /// Hands what was sent to the wire.
    pub fn flush(&mut self) -> Result<(), psio::Error> {
        self.queue.flush().map(|_| ())
    }

    /// Takes the next burst, if the last one is used up; false if there is nothing.
    fn refill(&mut self) -> bool {
        if self.next < self.lengths.len() {
            return true;
        }
        self.next = 0;
        self.lengths.clear();
        let size = self.mtu + ETHERNET;
        let (frames, lengths) = (&mut self.frames, &mut self.lengths);
        let taken = self.queue.receive(BURST, &mut |frame, _| {
            let at = lengths.len() * size;
            let len = frame.len().min(size);
            frames[at..at + len].copy_from_slice(&frame[..len]);
            lengths.push(len);
        });
        taken.is_ok_and(|taken| taken > 0)
    }
}

impl Device for WireDevice {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Room<'_>)> {
        if !self.refill() {
            return None;
        }
        let at = self.next * (self.mtu + ETHERNET);
        let frame = &self.frames[at..at + self.lengths[self.next]];
        self.next += 1;
        let room = Room {
            queue: &mut *self.queue,
            lost: &mut self.lost,
        };
        Some((Received(frame), room))
    }

    fn transmit(&mut self, _: Instant) -> Option<Room<'_>> {
        self.queue.reserve(self.mtu + ETHERNET)?;
        Some(Room {
            queue: &mut *self.queue,
            lost: &mut self.lost,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + ETHERNET;
        // No frame leaves this machine's memory: our own stack sums nothing on this wire either.
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities
    }
}

/// A frame that has arrived.
pub struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// The right to send a frame.
pub struct Room<'a> {
    queue: &'a mut dyn Queue,
    lost: &'a mut [u8],
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // An answer finds the ring full only after thousands of frames; TCP sends it again.
        let Some(frame) = self.queue.reserve(len) else {
            return f(&mut self.lost[..len]);
        };
        let result = f(frame);
        self.queue.commit(len, TxMeta::default());
        result
    }
}
