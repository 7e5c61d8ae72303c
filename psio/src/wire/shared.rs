//! The memory that the two ends of a wire share: a memfd with all of its rings.
//!
//! Layout: one [`Control`] for each ring, then, from the next page on, the bytes of each ring. Of
//! the rings of queue `q`, number `2q` leads from the side that made the memory, `2q + 1` to it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::ring::{MIN_CAPACITY, Memory, Word};
use crate::sys::check;

/// The longest ring that one side may ask the other to map.
pub const MAX_CAPACITY: usize = 1 << 30;

const PAGE: usize = 4096;

/// The seals without which a memfd of the peer's is not mapped: neither side can take memory away
/// from under the other.
const SEALS: libc::c_int = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;

/// A word on a pair of cache lines of its own (processors fetch lines in pairs).
#[repr(C, align(128))]
struct Line(AtomicU64);

/// The shared words of a ring.
#[repr(C)]
struct Control {
    tail: Line,
    head: Line,
    sleeping: Line,
}

/// How many rings there are, and how large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    pub rings: usize,
    /// Bytes of each ring.
    pub capacity: usize,
}

impl Shape {
    /// Whether two sides may share memory of this shape.
    pub fn is_valid(self) -> bool {
        let capacity = MIN_CAPACITY..=MAX_CAPACITY;
        self.capacity.is_power_of_two() && capacity.contains(&self.capacity) && self.rings <= 256
    }

    fn records(self) -> usize {
        (self.rings * size_of::<Control>()).next_multiple_of(PAGE)
    }

    fn bytes(self) -> usize {
        self.records() + self.rings * self.capacity
    }
}

/// A mapping of the memory.
pub struct SharedMemory {
    start: NonNull<u8>,
    shape: Shape,
}

// SAFETY: the memory is used through atomic words, and through the bytes of a ring by the one
// producer or consumer on this side.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Makes the memory, all zeros, and the descriptor by which the peer maps it.
    pub fn create(shape: Shape) -> io::Result<(SharedMemory, OwnedFd)> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: the name is a C string; the result is checked.
        let fd = check(unsafe { libc::memfd_create(c"mtcp-wire".as_ptr(), flags) })?;
        // SAFETY: fresh from the kernel, and nobody else's.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(shape.bytes() as u64)?;
        // SAFETY: takes integers only.
        check(unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, SEALS) })?;
        Ok((SharedMemory::map(&file, shape)?, file.into()))
    }

    /// Maps the memory that a peer has made, if it is what the peer says it is.
    pub fn attach(fd: OwnedFd, shape: Shape) -> io::Result<SharedMemory> {
        let file = File::from(fd);
        // SAFETY: takes integers only.
        let seals = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) })?;
        let size = file.metadata()?.len();
        if !shape.is_valid() || size != shape.bytes() as u64 || seals & SEALS != SEALS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        SharedMemory::map(&file, shape)
    }

    fn map(file: &File, shape: Shape) -> io::Result<SharedMemory> {
        // SAFETY: a new mapping, where the kernel likes; it replaces none.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                shape.bytes(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(start.cast()) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED.cast() => {
                Ok(SharedMemory { start, shape })
            }
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made; those who borrow from it are gone.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.shape.bytes()) };
    }
}

impl Word for AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }

    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.swap(value, order)
    }
}

/// One ring in the shared memory, for its one producer or consumer on this side.
pub struct SharedRing {
    /// Keeps the mapping.
    memory: Arc<SharedMemory>,
    index: usize,
}

impl SharedRing {
    /// Ring `index` of the memory.
    pub fn new(memory: &Arc<SharedMemory>, index: usize) -> SharedRing {
        assert!(index < memory.shape.rings);
        SharedRing {
            memory: Arc::clone(memory),
            index,
        }
    }

    fn control(&self) -> &Control {
        let start = self.memory.start.as_ptr().cast::<Control>();
        // SAFETY: the mapping starts with one Control for each ring, aligned as the mapping is to
        // a page; it outlives `self`, is never shrunk, and a Control is nothing but atomics.
        unsafe { &*start.add(self.index) }
    }

    /// The ring's byte `at`, of which `len` from there on are used.
    fn bytes(&self, at: usize, len: usize) -> *mut u8 {
        let Shape { capacity, .. } = self.memory.shape;
        assert!(at <= capacity && len <= capacity - at);
        let offset = self.memory.shape.records() + self.index * capacity + at;
        // SAFETY: the offset lies within the mapping, by its layout and the check above.
        unsafe { self.memory.start.as_ptr().add(offset) }
    }
}

impl Memory for SharedRing {
    type Word = AtomicU64;

    fn capacity(&self) -> usize {
        self.memory.shape.capacity
    }

    fn tail(&self) -> &AtomicU64 {
        &self.control().tail.0
    }

    fn head(&self) -> &AtomicU64 {
        &self.control().head.0
    }

    fn sleeping(&self) -> &AtomicU64 {
        &self.control().sleeping.0
    }

    fn header(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(super::ring::ALIGN));
        // SAFETY: 8 bytes within the mapping, aligned, which are used as an atomic alone: frames
        // start behind them.
        unsafe { AtomicU64::from_ptr(self.bytes(at, 8).cast()) }
    }

    fn copy_out(&self, at: usize, to: &mut [u8]) {
        let from = self.bytes(at, to.len());
        // SAFETY: `from` has that many bytes, and they are not `to`. A peer that keeps the rules
        // does not write to them now; what a peer that breaks them writes ends up in the copy,
        // where bytes may have any value, and is read from there alone.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
    }

    fn room(&mut self, at: usize, len: usize) -> &mut [u8] {
        let start = self.bytes(at, len);
        // SAFETY: that many bytes of this ring, whose one producer on this side lends them out
        // here, once at a time. A peer that keeps the rules reads them only when they are
        // published. One that breaks them can change the bytes of frames for itself: the stack
        // writes a frame and never takes a decision by what it reads back of it.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    fn prefetch(&self, at: usize) {
        let line = self.bytes(at, 1);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint, which cannot fault; the address is that of a byte of the ring.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(line.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }

    fn prefetch_to_write(&self, at: usize) {
        let line = self.bytes(at, 1);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint, which changes nothing and cannot fault. Every AMD64 processor has it, and Intel's
        // that lack it take it for a NOP (their manuals on PREFETCHW).
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags, readonly));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }

    fn fence() {
        fence(Ordering::SeqCst);
    }
}
