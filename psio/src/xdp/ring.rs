//! The rings that an AF_XDP socket shares with the kernel (af_xdp.rst in the kernel's
//! documentation): arrays of entries with a producer's and a consumer's cursor, which run freely and
//! wrap at 2^32.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::sys::check;

/// A ring in mapped memory.
struct Ring<T> {
    memory: NonNull<u8>,
    bytes: usize,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    len: u32,
}

// SAFETY: the mapping belongs to this value alone and may be used from any one thread.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T> Ring<T> {
    /// Maps the ring of `len` entries, a power of two, that lies at `page_offset` of the socket, with
    /// its parts where the kernel says.
    fn map(
        socket: &OwnedFd,
        page_offset: libc::off_t,
        parts: &libc::xdp_ring_offset,
        len: u32,
    ) -> io::Result<Ring<T>> {
        let bytes = parts.desc as usize + len as usize * size_of::<T>();
        // SAFETY: a new shared mapping of the socket's ring; the kernel refuses one that is longer.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                socket.as_raw_fd(),
                page_offset,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("no memory"))?;
        // SAFETY: the kernel lays the cursors and the flags in front of the entries, each aligned,
        // and the mapping holds all entries.
        let ring = unsafe {
            Ring {
                memory,
                bytes,
                producer: memory.add(parts.producer as usize).cast(),
                consumer: memory.add(parts.consumer as usize).cast(),
                flags: memory.add(parts.flags as usize).cast(),
                entries: memory.add(parts.desc as usize).cast(),
                len,
            }
        };
        Ok(ring)
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: lies in the mapping, which lives as long as `self`, and is used atomically only.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for the producer's cursor.
        unsafe { self.consumer.as_ref() }
    }

    /// Whether the kernel wants to be told that there is something new.
    fn needs_wakeup(&self) -> bool {
        // What was published before is seen by a kernel that sets the flag hereafter.
        fence(Ordering::SeqCst);
        // SAFETY: as for the producer's cursor.
        let flags = unsafe { self.flags.as_ref() };
        flags.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    fn entry(&self, cursor: u32) -> NonNull<T> {
        // SAFETY: the index is below `len`, and so many entries lie in the mapping.
        unsafe { self.entries.add((cursor & (self.len - 1)) as usize) }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made, used by nobody else.
        let result = check(unsafe { libc::munmap(self.memory.as_ptr().cast(), self.bytes) });
        debug_assert!(result.is_ok(), "{result:?}");
    }
}

/// A ring that we fill: of frames to be received into, or to be sent.
pub struct Producer<T> {
    ring: Ring<T>,
    /// Where the next entry goes.
    at: u32,
    /// Up to where the kernel knows of entries.
    published: u32,
    /// The kernel's cursor when it was last looked at.
    consumed: u32,
}

impl<T: Copy> Producer<T> {
    /// Maps an empty ring; see af_xdp.rst for where each one lies.
    pub fn map(
        socket: &OwnedFd,
        page_offset: libc::off_t,
        parts: &libc::xdp_ring_offset,
        len: u32,
    ) -> io::Result<Producer<T>> {
        let ring = Ring::map(socket, page_offset, parts, len)?;
        Ok(Producer::new(ring))
    }

    fn new(ring: Ring<T>) -> Producer<T> {
        let at = ring.producer().load(Ordering::Relaxed);
        let consumed = ring.consumer().load(Ordering::Acquire);
        Producer {
            ring,
            at,
            published: at,
            consumed,
        }
    }

    /// Adds an entry, of which the kernel learns with [`publish`](Self::publish); false if the ring is
    /// full.
    pub fn push(&mut self, entry: T) -> bool {
        if self.at.wrapping_sub(self.consumed) >= self.ring.len {
            // Acquire: the kernel has read what it has consumed.
            self.consumed = self.ring.consumer().load(Ordering::Acquire);
            if self.at.wrapping_sub(self.consumed) >= self.ring.len {
                return false;
            }
        }
        // SAFETY: the entry lies in the mapping, and the kernel does not look at it before it is
        // published.
        unsafe { self.ring.entry(self.at).write(entry) };
        self.at = self.at.wrapping_add(1);
        true
    }

    /// Shows the kernel all entries so far; returns how many are new to it.
    pub fn publish(&mut self) -> usize {
        let new = self.at.wrapping_sub(self.published);
        // Release: the entries are written before the cursor moves.
        self.ring.producer().store(self.at, Ordering::Release);
        self.published = self.at;
        new as usize
    }

    /// Entries published that the kernel has not consumed yet.
    pub fn waiting(&self) -> u32 {
        let consumed = self.ring.consumer().load(Ordering::Acquire);
        self.published.wrapping_sub(consumed)
    }

    /// Whether the kernel has to be woken to look at what was published.
    pub fn needs_wakeup(&self) -> bool {
        self.ring.needs_wakeup()
    }
}

/// A ring that the kernel fills: of frames received, or sent.
pub struct Consumer<T> {
    ring: Ring<T>,
    /// The entry that comes next.
    at: u32,
    /// The kernel's cursor when it was last looked at.
    produced: u32,
}

impl<T: Copy> Consumer<T> {
    /// Maps a ring; see af_xdp.rst for where each one lies.
    pub fn map(
        socket: &OwnedFd,
        page_offset: libc::off_t,
        parts: &libc::xdp_ring_offset,
        len: u32,
    ) -> io::Result<Consumer<T>> {
        let ring = Ring::map(socket, page_offset, parts, len)?;
        Ok(Consumer::new(ring))
    }

    fn new(ring: Ring<T>) -> Consumer<T> {
        let at = ring.consumer().load(Ordering::Relaxed);
        Consumer {
            ring,
            at,
            produced: at,
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&mut self) -> bool {
        if self.at == self.produced {
            // Acquire: what the kernel wrote before it moved the cursor is seen.
            self.produced = self.ring.producer().load(Ordering::Acquire);
        }
        self.at == self.produced
    }

    /// Takes the oldest entry. Its place is the kernel's again after [`release`](Self::release).
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: the entry lies in the mapping; the kernel has written it and does not touch it
        // before it is released.
        let entry = unsafe { self.ring.entry(self.at).read() };
        self.at = self.at.wrapping_add(1);
        Some(entry)
    }

    /// Gives the places of all entries taken back to the kernel.
    pub fn release(&mut self) {
        // Release: the entries are read before the cursor moves.
        self.ring.consumer().store(self.at, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    const PARTS: libc::xdp_ring_offset = libc::xdp_ring_offset {
        producer: 0,
        consumer: 64,
        desc: 256,
        flags: 128,
    };

    /// Both ends of a ring of four entries whose cursors stand at `at`.
    fn ends(at: u32) -> (Producer<u64>, Consumer<u64>) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let fd = OwnedFd::from(file);
        let [one, other] = [0; 2].map(|_| Ring::map(&fd, 0, &PARTS, 4).unwrap());
        one.producer().store(at, Ordering::Relaxed);
        one.consumer().store(at, Ordering::Relaxed);
        (Producer::new(one), Consumer::new(other))
    }

    #[test]
    fn entries_come_out_in_order_also_where_the_cursors_wrap() {
        let (mut producer, mut consumer) = ends(u32::MAX - 5);
        let mut next = 0;
        for round in 0..20 {
            for entry in 0..3 {
                assert!(producer.push(round * 3 + entry));
            }
            assert!(
                consumer.is_empty(),
                "nothing is seen before it is published"
            );
            assert_eq!((producer.publish(), producer.waiting()), (3, 3));
            while let Some(entry) = consumer.pop() {
                assert_eq!(entry, next);
                next += 1;
            }
            consumer.release();
            assert_eq!(producer.waiting(), 0);
        }
        assert_eq!(next, 60);
    }

    #[test]
    fn a_full_ring_takes_no_more_until_entries_are_released() {
        let (mut producer, mut consumer) = ends(u32::MAX);
        assert!((0..4).all(|entry| producer.push(entry)));
        assert!(!producer.push(4));
        producer.publish();
        assert_eq!(consumer.pop(), Some(0));
        assert!(!producer.push(4), "taken, but not released");
        consumer.release();
        assert!(producer.push(4) && !producer.push(5));
        producer.publish();
        assert_eq!(std::iter::from_fn(|| consumer.pop()).count(), 4);
    }

    #[test]
    fn a_wake_up_is_needed_when_the_flag_says_so() {
        let (producer, _) = ends(0);
        assert!(!producer.needs_wakeup());
        // SAFETY: the flags lie in the mapping and are used atomically only.
        let flags = unsafe { producer.ring.flags.as_ref() };
        flags.store(libc::XDP_RING_NEED_WAKEUP, Ordering::Relaxed);
        assert!(producer.needs_wakeup());
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        let file = OwnedFd::from(File::open("/proc/self/status").unwrap());
        assert!(Ring::<u64>::map(&file, 0, &PARTS, 4).is_err());
    }
}
