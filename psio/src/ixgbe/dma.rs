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

    /// Bytes to be read.
    ///
    /// # Safety
    /// The card does not write them while they are borrowed.
    pub(super) unsafe fn bytes(&self, at: usize, len: usize) -> &[u8] {
        assert!(at <= self.len && len <= self.len - at);
        // SAFETY: as just asserted, the range lies inside the memory, which lives as long as `self`;
        // the card does not write it, as the caller says, and we would need `&mut self`.
        unsafe { NonNull::slice_from_raw_parts(self.base.add(at), len).as_ref() }
    }

    /// Bytes to be written.
    ///
    /// # Safety
    /// The card neither reads nor writes them while they are borrowed.
    pub(super) unsafe fn bytes_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        assert!(at <= self.len && len <= self.len - at);
        // SAFETY: as above; `&mut self` makes the borrow the only one on our side.
        unsafe { NonNull::slice_from_raw_parts(self.base.add(at), len).as_mut() }
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

    fn word(&self, index: u16, word: usize) -> &AtomicU64 {
        let at = usize::from(index & self.mask) * 2 + (word & 1);
        // SAFETY: `at` is below twice the ring's count, for which the memory has room, as `new`
        // has asserted; it is aligned and initialised, and is used through atomics alone.
        unsafe { self.memory.base.cast::<AtomicU64>().add(at).as_ref() }
    }

    /// Reads word 0 or 1 of a descriptor. What the card wrote before that word is seen.
    pub fn load(&self, index: u16, word: usize) -> u64 {
        self.word(index, word).load(Ordering::Acquire)
    }

    /// Writes a descriptor.
    pub fn store(&self, index: u16, words: [u64; 2]) {
        self.word(index, 0).store(words[0], Ordering::Relaxed);
        self.word(index, 1).store(words[1], Ordering::Release);
    }
}
