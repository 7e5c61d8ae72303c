//! A ring of frames with one producer and one consumer which do not trust each other.
//!
//! The ring holds records, each on a multiple of [`ALIGN`] bytes: a header, the frame behind it.
//! A record never wraps; where the end of the ring is too near, a record that says "skip" fills
//! the rest. `tail` and `head` count all bytes ever produced and consumed. Each side keeps its own
//! cursor to itself and only publishes it; what it reads of the other's is read once and checked.
//!
//! A consumer with nothing to do sets `sleeping`, looks once more, and sleeps; a producer
//! publishes, looks at `sleeping`, and wakes. A sequentially consistent fence between the two
//! steps on both sides makes sure that at least one sees the other. Both write `sleeping`, and only
//! by swapping, so that neither overwrites what it has not seen.
//!
//! The memory is a parameter, so that the very same code runs in shared memory and in loom, which
//! tries all the orders in which two threads may see each other's steps.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::{MAX_FRAME, RxChecksum, RxMeta};

/// Records start on a cache line.
pub const ALIGN: usize = 64;

/// Bytes before the frame: 8 of header and 2 that make the IP header behind the Ethernet header
/// lie on a multiple of 8. A TCP segment without options or payload fills one cache line exactly.
pub const HEADER: usize = 10;

/// A ring this large has room for any record once it is empty, wherever its cursors stand.
pub const MIN_CAPACITY: usize = (2 * span(MAX_FRAME)).next_power_of_two();

/// Longest records that are fetched ahead; those of long ones follow each other line by line, which the
/// processor sees by itself.
const PREFETCHED: usize = 4 * ALIGN;

/// Bytes that a frame of `len` bytes takes up.
pub const fn span(len: usize) -> usize {
    (HEADER + len).next_multiple_of(ALIGN)
}

/// A shared 64-bit word.
pub trait Word {
    fn load(&self, order: std::sync::atomic::Ordering) -> u64;
    fn store(&self, value: u64, order: std::sync::atomic::Ordering);
    fn swap(&self, value: u64, order: std::sync::atomic::Ordering) -> u64;
}

/// One side's view of the memory that a ring lies in.
pub trait Memory {
    /// The words it is made of.
    type Word: Word;

    /// Bytes of records, a power of two, at least [`MIN_CAPACITY`] for frames of [`MAX_FRAME`].
    fn capacity(&self) -> usize;
    /// Bytes produced; written by the producer.
    fn tail(&self) -> &Self::Word;
    /// Bytes consumed; written by the consumer.
    fn head(&self) -> &Self::Word;
    /// Not 0 while the consumer wants to be woken.
    fn sleeping(&self) -> &Self::Word;
    /// The header of the record at `at`, a multiple of [`ALIGN`] below the capacity.
    fn header(&self, at: usize) -> &Self::Word;
    /// Copies bytes out. `at + to.len()` is at most the capacity.
    fn copy_out(&self, at: usize, to: &mut [u8]);
    /// Lends bytes to write to. `at + len` is at most the capacity.
    fn room(&mut self, at: usize, len: usize) -> &mut [u8];
    /// Says that the cache line at `at`, below the capacity, will be read soon.
    fn prefetch(&self, at: usize);
    /// Says that it will be written to soon.
    fn prefetch_to_write(&self, at: usize);
    /// A sequentially consistent fence.
    fn fence();
}

/// The other side has broken the rules of the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the peer has broken the ring: {0}")]
pub struct Broken(&'static str);

/// A header is the frame's length in 32 bits, the segment size in 16, and flags in 8.
const GOOD: u64 = 1 << 48;
const SKIP: u64 = 1 << 49;

fn encode(len: usize, meta: RxMeta) -> u64 {
    let good = match meta.checksum {
        RxChecksum::Good => GOOD,
        RxChecksum::Unknown => 0,
    };
    len as u64 | u64::from(meta.gso_size) << 32 | good
}

fn decode(header: u64) -> (usize, RxMeta) {
    let checksum = if header & GOOD != 0 {
        RxChecksum::Good
    } else {
        RxChecksum::Unknown
    };
    let gso_size = (header >> 32) as u16;
    (header as u32 as usize, RxMeta { checksum, gso_size })
}

/// The sending side.
pub struct Producer<M> {
    memory: M,
    /// End of the last record committed.
    tail: u64,
    /// `tail` as the consumer knows it.
    published: u64,
    /// The consumer's cursor when last looked at.
    head: u64,
    reserved: Option<Reserved>,
}

struct Reserved {
    /// Bytes to skip before the record.
    skip: usize,
    /// Where the record starts.
    at: usize,
    len: usize,
}

impl<M: Memory> Producer<M> {
    /// The producer of a ring that is all zeros.
    pub fn new(memory: M) -> Producer<M> {
        Producer {
            memory,
            tail: 0,
            published: 0,
            head: 0,
            reserved: None,
        }
    }

    /// Finds [`room`](Producer::room) for a frame of `len` bytes (at most [`MAX_FRAME`]); false
    /// while the ring is full.
    pub fn reserve(&mut self, len: usize) -> Result<bool, Broken> {
        self.reserved = None;
        let at = self.at(self.tail);
        let to_end = self.memory.capacity() - at;
        let skip = if span(len) > to_end { to_end } else { 0 };
        let wanted = (skip + span(len)) as u64;
        if wanted > self.free() {
            self.look_at_head()?;
            if wanted > self.free() {
                return Ok(false);
            }
        }
        let at = if skip > 0 { 0 } else { at };
        self.reserved = Some(Reserved { skip, at, len });
        Ok(true)
    }

    /// Whether there is room reserved.
    pub fn is_reserved(&self) -> bool {
        self.reserved.is_some()
    }

    /// The room last reserved.
    pub fn room(&mut self) -> &mut [u8] {
        let Some(Reserved { at, len, .. }) = self.reserved else {
            panic!("nothing reserved");
        };
        self.memory.room(at + HEADER, len)
    }

    /// Makes the first `len` bytes of the room last reserved a record.
    pub fn commit(&mut self, len: usize, meta: RxMeta) {
        let Some(Reserved { skip, at, .. }) = self.reserved.take().filter(|room| len <= room.len)
        else {
            panic!("nothing reserved");
        };
        if skip > 0 {
            self.memory.header(self.at(self.tail)).store(SKIP, Relaxed);
            self.tail += skip as u64;
        }
        self.memory.header(at).store(encode(len, meta), Relaxed);
        self.tail += span(len) as u64;
        self.prefetch_room(span(len));
    }

    /// Fetches room for a record like those just written. The peer has had its lines, and to get them
    /// back takes as long as a few small segments take to build.
    fn prefetch_room(&self, span: usize) {
        if span <= PREFETCHED {
            let at = self.tail as usize + PREFETCHED;
            for line in (at..at + span).step_by(ALIGN) {
                let at = line & (self.memory.capacity() - 1);
                self.memory.prefetch_to_write(at);
            }
        }
    }

    /// Shows the consumer all that is committed. True if it sleeps: wake it.
    #[must_use]
    pub fn publish(&mut self) -> bool {
        if self.published == self.tail {
            return false;
        }
        self.memory.tail().store(self.tail, Release);
        self.published = self.tail;
        M::fence();
        let sleeping = self.memory.sleeping();
        // Only the swap that finds it set wakes: once for each sleep.
        sleeping.load(Relaxed) != 0 && sleeping.swap(0, Relaxed) != 0
    }

    fn at(&self, cursor: u64) -> usize {
        cursor as usize & (self.memory.capacity() - 1)
    }

    fn free(&self) -> u64 {
        self.memory.capacity() as u64 - (self.tail - self.head)
    }

    fn look_at_head(&mut self) -> Result<(), Broken> {
        // What was consumed may be written over: acquire the consumer's last read of it.
        let head = self.memory.head().load(Acquire);
        if !(self.head..=self.published).contains(&head) {
            return Err(Broken("its cursor is not within what was sent"));
        }
        self.head = head;
        Ok(())
    }
}

/// The receiving side.
pub struct Consumer<M> {
    memory: M,
    /// End of the last record taken.
    head: u64,
    /// `head` as the producer knows it.
    published: u64,
    /// The producer's cursor when last looked at.
    tail: u64,
    /// Whether the producer's cursor is not looked at any more.
    closed: bool,
}

impl<M: Memory> Consumer<M> {
    /// The consumer of a ring that is all zeros.
    pub fn new(memory: M) -> Consumer<M> {
        Consumer {
            memory,
            head: 0,
            published: 0,
            tail: 0,
            closed: false,
        }
    }

    /// Copies the next frame into `to`, which must hold [`MAX_FRAME`] bytes.
    pub fn take(&mut self, to: &mut [u8]) -> Result<Option<(usize, RxMeta)>, Broken> {
        loop {
            if self.head == self.tail {
                self.look_at_tail()?;
                if self.head == self.tail {
                    return Ok(None);
                }
            }
            let at = self.head as usize & (self.memory.capacity() - 1);
            let to_end = self.memory.capacity() - at;
            let produced = self.tail - self.head;
            let header = self.memory.header(at).load(Relaxed);
            if header & SKIP != 0 {
                if to_end as u64 > produced {
                    return Err(Broken("it skips what was not sent"));
                }
                self.head += to_end as u64;
                continue;
            }
            let (len, meta) = decode(header);
            if len == 0 || len > to.len().min(MAX_FRAME) {
                return Err(Broken("a frame's length is out of range"));
            }
            if span(len) > to_end || span(len) as u64 > produced {
                return Err(Broken("a frame is longer than what was sent"));
            }
            self.prefetch_behind(span(len));
            self.memory.copy_out(at + HEADER, &mut to[..len]);
            self.head += span(len) as u64;
            // A long burst gives room back on the way, so that the producer need not stop.
            if self.head - self.published >= self.memory.capacity() as u64 / 4 {
                self.release();
            }
            return Ok(Some((len, meta)));
        }
    }

    /// Fetches the record behind the next one, if that is as long as this. The lines are the peer's, and
    /// a look at them waits as long as a small segment takes to handle.
    fn prefetch_behind(&self, span: usize) {
        if span <= PREFETCHED && self.tail - self.head > 2 * span as u64 {
            let at = self.head as usize + 2 * span;
            for line in (at..at + span).step_by(ALIGN) {
                self.memory.prefetch(line & (self.memory.capacity() - 1));
            }
        }
    }

    /// Ends the stream with what has been sent up to now.
    pub fn close(&mut self) -> Result<(), Broken> {
        self.look_at_tail()?;
        self.closed = true;
        Ok(())
    }

    /// Gives the room of all frames taken back to the producer.
    pub fn release(&mut self) {
        if self.published != self.head {
            self.memory.head().store(self.head, Release);
            self.published = self.head;
        }
    }

    /// Whether no frame waits.
    pub fn is_empty(&mut self) -> Result<bool, Broken> {
        if self.head == self.tail {
            self.look_at_tail()?;
        }
        Ok(self.head == self.tail)
    }

    /// Asks to be woken by the next frame. False if one has come meanwhile: do not sleep.
    pub fn prepare_sleep(&mut self) -> Result<bool, Broken> {
        self.memory.sleeping().swap(1, Relaxed);
        M::fence();
        let empty = self.is_empty()?;
        if !empty {
            self.awake();
        }
        Ok(empty)
    }

    /// Asks not to be woken any more.
    pub fn awake(&mut self) {
        self.memory.sleeping().swap(0, Relaxed);
    }

    fn look_at_tail(&mut self) -> Result<(), Broken> {
        if self.closed {
            return Ok(());
        }
        let tail = self.memory.tail().load(Acquire);
        let forward = tail.wrapping_sub(self.tail);
        let room = self.memory.capacity() as u64 - (self.tail - self.published);
        if forward > room || !tail.is_multiple_of(ALIGN as u64) {
            return Err(Broken("its cursor is not within the room it has"));
        }
        self.tail = tail;
        Ok(())
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
