//! The memory that a driver shares with the card, as the card sees it.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the card can reach. A range that is not mapped, all of it in one piece, is answered with
/// `None`.
pub trait Memory: Send {
    /// Reads bytes.
    fn read(&mut self, address: u64, into: &mut [u8]) -> Option<()>;

    /// Writes bytes.
    fn write(&mut self, address: u64, from: &[u8]) -> Option<()>;

    /// Whether all of a range is mapped.
    fn is_mapped(&mut self, address: u64, len: usize) -> bool;

    /// Reads a descriptor.
    fn read_descriptor(&mut self, address: u64) -> Option<[u64; 2]> {
        let mut bytes = [0; 16];
        self.read(address, &mut bytes)?;
        let (words, _) = bytes.as_chunks();
        Some([u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])])
    }

    /// Writes a descriptor back, the word with "done" in it last.
    fn write_descriptor(&mut self, address: u64, words: [u64; 2]) -> Option<()> {
        self.write(address, &words[0].to_le_bytes())?;
        self.write(address + 8, &words[1].to_le_bytes())
    }
}

/// Memory of this process, at addresses that differ from its own, so that mistaking one for the other
/// is noticed.
#[derive(Clone, Default)]
pub struct HostMemory(Arc<Mutex<Map>>);

#[derive(Default)]
struct Map {
    regions: Vec<Region>,
    /// Where the last access was.
    last: usize,
    /// Ends the newest region.
    end: u64,
    /// Allocations that still succeed, if not all do.
    left: Option<usize>,
}

#[derive(Clone, Copy)]
struct Region {
    address: u64,
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory is reached by raw pointers only, from any thread, as a card reaches it.
unsafe impl Send for Region {}

/// Bytes between two regions that are never mapped.
const GAP: u64 = 1 << 16;

/// A region that is unmapped and given back when this is dropped.
pub struct Allocation {
    memory: HostMemory,
    region: Region,
}

impl Allocation {
    /// Where the process finds it: `len` zeroed bytes, valid until this is dropped.
    pub fn base(&self) -> NonNull<u8> {
        self.region.base
    }

    /// Where the card finds it.
    pub fn address(&self) -> u64 {
        self.region.address
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.region.layout.size()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        false
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        let mut map = self.memory.map();
        map.regions
            .retain(|region| region.address != self.region.address);
        map.last = 0;
        // SAFETY: allocated by `allocate` with this layout, and no longer in the map, under whose lock
        // alone the card reaches it.
        unsafe { dealloc(self.region.base.as_ptr(), self.region.layout) }
    }
}

impl HostMemory {
    fn map(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Zeroed memory, aligned to 4 KB; `None` once as many allocations were made as
    /// [`limit`](Self::limit) allows.
    pub fn allocate(&self, bytes: usize) -> Option<Allocation> {
        let layout = Layout::from_size_align(bytes.max(1), 4096).ok()?;
        let mut map = self.map();
        if let Some(left) = &mut map.left {
            *left = left.checked_sub(1)?;
        }
        // SAFETY: the layout's size is not 0.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) });
        let base = base.unwrap_or_else(|| handle_alloc_error(layout));
        let address = map.end.max(1 << 33) + GAP;
        map.end = (address + bytes as u64).next_multiple_of(4096);
        let region = Region {
            address,
            base,
            layout,
        };
        map.regions.push(region);
        Some(Allocation {
            memory: self.clone(),
            region,
        })
    }

    /// Lets only so many more allocations succeed.
    pub fn limit(&self, allocations: Option<usize>) {
        self.map().left = allocations;
    }

    /// Where the card finds bytes that lie at a multiple of 64 in some region.
    pub fn find(&self, bytes: &[u8]) -> Option<u64> {
        let map = self.map();
        map.regions.iter().find_map(|region| {
            // SAFETY: the region is as long as its layout says and stays while the map is locked.
            let all = unsafe {
                NonNull::slice_from_raw_parts(region.base, region.layout.size()).as_ref()
            };
            let mut places = (0..all.len()).step_by(64);
            let at = places.find(|at| all[*at..].starts_with(bytes))?;
            Some(region.address + at as u64)
        })
    }

    /// Regions that are mapped now.
    pub fn regions(&self) -> usize {
        self.map().regions.len()
    }
}

impl Map {
    /// Where the process finds a range.
    fn find(&mut self, address: u64, len: usize) -> Option<NonNull<u8>> {
        let holds = |region: &Region| {
            let size = region.layout.size() as u64;
            let at = address.wrapping_sub(region.address);
            at < size && len as u64 <= size - at
        };
        if !self.regions.get(self.last).is_some_and(holds) {
            self.last = self.regions.iter().position(holds)?;
        }
        let region = self.regions[self.last];
        // SAFETY: as just checked, the range lies inside the region.
        Some(unsafe { region.base.add((address - region.address) as usize) })
    }
}

impl Memory for HostMemory {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Option<()> {
        let mut map = self.map();
        let (from, len) = (map.find(address, into.len())?, into.len());
        // SAFETY: the range lies inside a region that stays while the map is locked. A driver that
        // writes it meanwhile breaks the rules that this model is to catch.
        unsafe { from.copy_to_nonoverlapping(NonNull::from(into).cast(), len) }
        Some(())
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Option<()> {
        let mut map = self.map();
        let into = map.find(address, from.len())?;
        // SAFETY: as above.
        unsafe { into.copy_from_nonoverlapping(NonNull::from(from).cast(), from.len()) }
        Some(())
    }

    fn is_mapped(&mut self, address: u64, len: usize) -> bool {
        self.map().find(address, len).is_some()
    }

    fn read_descriptor(&mut self, address: u64) -> Option<[u64; 2]> {
        let mut map = self.map();
        let words = map.find(address, 16)?.cast::<AtomicU64>();
        assert!(words.is_aligned());
        // SAFETY: both words lie inside a region that stays while the map is locked, and are aligned;
        // driver and card use them as atomics.
        unsafe {
            Some([
                words.as_ref().load(Ordering::Acquire),
                words.add(1).as_ref().load(Ordering::Acquire),
            ])
        }
    }

    fn write_descriptor(&mut self, address: u64, descriptor: [u64; 2]) -> Option<()> {
        let mut map = self.map();
        let words = map.find(address, 16)?.cast::<AtomicU64>();
        assert!(words.is_aligned());
        // SAFETY: as above.
        unsafe {
            words.as_ref().store(descriptor[0], Ordering::Relaxed);
            words
                .add(1)
                .as_ref()
                .store(descriptor[1], Ordering::Release);
        }
        Some(())
    }
}
