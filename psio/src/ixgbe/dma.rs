//! Memory that driver and card share, and the descriptor rings in it.
#![allow(unsafe_code)]

use std::mem;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory that the card can reach, zeroed when new.
pub struct DmaMemory {
    base: NonNull<u8>,
    len: usize,
    address: u64,
    /// Unmaps the memory when it is dropped.
    owner: Box<dyn Send>,
}

// SAFETY: the memory belongs to this value, as `new` demands, and so goes where the value goes.
unsafe impl Send for DmaMemory {}

impl DmaMemory {
    /// Wraps memory at `base` that the card reaches under `address`; `owner` gives it back when it
    /// is dropped.
    ///
    /// # Safety
    /// `base` is aligned to 128 bytes and valid for reads and writes of `len` initialised bytes
    /// until `owner` is dropped, and nothing but the card touches them but through this value.
    pub unsafe fn new(
        base: NonNull<u8>,
        len: usize,
        address: u64,
        owner: Box<dyn Send>,
    ) -> DmaMemory {
        assert!(base.addr().get().is_multiple_of(128) && address.is_multiple_of(128));
        DmaMemory {
            base,
            len,
            address,
            owner,
        }
    }

    /// Where the card sees the first byte.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How many bytes there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never gives the memory back: the card may be using it still.
    pub(super) fn leak(&mut self) {
        mem::forget(mem::replace(&mut self.owner, Box::new(())));
    }

    /// A part of it.
    pub(super) fn part(&self, at: usize, len: usize) -> Part {
        assert!(at <= self.len && len <= self.len - at);
        Part {
            // SAFETY: as just asserted, the part lies inside the memory.
            base: unsafe { self.base.add(at) },
            address: self.address + at as u64,
        }
    }

    /// Bytes to be written.
    ///
    /// # Safety
    /// They lie inside the memory, and the card neither reads nor writes them while they are borrowed.
    pub(super) unsafe fn bytes_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        debug_assert!(at <= self.len && len <= self.len - at);
        // SAFETY: as the caller says; the memory lives as long as `self`, and `&mut self` makes the
        // borrow the only one on our side.
        unsafe { NonNull::slice_from_raw_parts(self.base.add(at), len).as_mut() }
    }
}

/// A part of the memory, wherever that is kept.
#[derive(Clone, Copy)]
pub(super) struct Part {
    base: NonNull<u8>,
    address: u64,
}

// SAFETY: as for the memory that it is part of.
unsafe impl Send for Part {}

impl Part {
    /// Where the card sees its first byte.
    pub fn address(self) -> u64 {
        self.address
    }

    /// Its first bytes, to be read.
    ///
    /// # Safety
    /// It has so many; the memory that it is part of lives as long as the result; and neither the card
    /// nor anybody else writes them meanwhile.
    pub unsafe fn bytes<'a>(self, len: usize) -> &'a [u8] {
        // SAFETY: as the caller says.
        unsafe { NonNull::slice_from_raw_parts(self.base, len).as_ref() }
    }
}

/// A ring of descriptors of two 64-bit words, a power of two of them.
pub(super) struct Descriptors {
    memory: DmaMemory,
    mask: u16,
}

impl Descriptors {
    /// # Panics
    /// If `count` is not a power of two of at most 2^15, or the memory is too small for it.
    pub fn new(memory: DmaMemory, count: usize) -> Descriptors {
        assert!(count.is_power_of_two() && count <= 1 << 15 && memory.len >= count * 16);
        Descriptors {
            memory,
            mask: (count - 1) as u16,
        }
    }

    pub fn count(&self) -> usize {
        usize::from(self.mask) + 1
    }

    pub fn address(&self) -> u64 {
        self.memory.address
    }

    /// Never gives the memory back: the card may be using it still.
    pub fn leak(&mut self) {
        self.memory.leak();
    }

    /// Wraps an index around the ring's end.
    pub fn wrap(&self, index: u16) -> u16 {
        index & self.mask
    }

    /// A descriptor, whose index is wrapped around the ring's end.
    pub fn at(&self, index: u16) -> &Descriptor {
        let at = usize::from(index & self.mask);
        // SAFETY: `at` is below the ring's count, for which the memory has room, as `new` has asserted;
        // it is aligned and initialised, and is used through atomics alone.
        unsafe { self.memory.base.cast::<Descriptor>().add(at).as_ref() }
    }
}

/// A descriptor in memory.
#[repr(C)]
pub(super) struct Descriptor([AtomicU64; 2]);

impl Descriptor {
    /// Reads word 0 or 1. What the card wrote before that word is seen.
    pub fn load<const WORD: usize>(&self) -> u64 {
        self.0[WORD].load(Ordering::Acquire)
    }

    /// Writes both words.
    pub fn store(&self, words: [u64; 2]) {
        self.0[0].store(words[0], Ordering::Relaxed);
        self.0[1].store(words[1], Ordering::Release);
    }
}
