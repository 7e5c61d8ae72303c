//! Memory of the other process, which it shares by descriptors.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ixgbe_model::Memory;

/// What is mapped, as the card finds it. Clones are handles on the same.
#[derive(Clone, Default)]
pub struct GuestMemory(Arc<Mutex<Vec<Region>>>);

struct Region {
    address: u64,
    len: usize,
    base: NonNull<u8>,
}

// SAFETY: the memory is reached by raw pointers only, from any thread, as a card reaches it.
unsafe impl Send for Region {}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and no longer in the list, under whose lock alone
        // it is reached.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

impl GuestMemory {
    fn regions(&self) -> MutexGuard<'_, Vec<Region>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Maps `len` bytes of a file from `offset` on at the card's `address`.
    ///
    /// # Errors
    /// `EINVAL` for a range that wraps, is empty, or overlaps another; else what the system says.
    pub fn map(&self, address: u64, len: u64, file: &File, offset: u64) -> io::Result<()> {
        let wrong = || io::Error::from_raw_os_error(libc::EINVAL);
        let end = address.checked_add(len).ok_or_else(wrong)?;
        let size = usize::try_from(len).map_err(|_| wrong())?;
        let place = libc::off_t::try_from(offset).map_err(|_| wrong())?;
        let past = offset.checked_add(len).ok_or_else(wrong)?;
        let mut regions = self.regions();
        let overlaps =
            |region: &Region| region.address < end && address < region.address + region.len as u64;
        // Beyond the file's end, an access would be a fault.
        if size == 0 || past > file.metadata()?.len() || regions.iter().any(overlaps) {
            return Err(wrong());
        }
        // SAFETY: a new mapping at a place that the kernel chooses; the result is checked.
        let base = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(
                ptr::null_mut(),
                size,
                access,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                place,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        regions.push(Region {
            address,
            len: size,
            base: NonNull::new(base.cast()).ok_or_else(wrong)?,
        });
        Ok(())
    }

    /// Takes what was mapped inside a range away.
    ///
    /// # Errors
    /// `EINVAL` for a range that holds a part of a mapping only: then nothing is taken.
    pub fn unmap(&self, address: u64, len: u64) -> io::Result<()> {
        let end = address.saturating_add(len);
        let past = |region: &Region| region.address.saturating_add(region.len as u64);
        let touched = |region: &Region| region.address < end && past(region) > address;
        let cut = |region: &Region| region.address < address || past(region) > end;
        let mut regions = self.regions();
        if regions.iter().any(|region| touched(region) && cut(region)) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        regions.retain(|region| !touched(region));
        Ok(())
    }

    /// Takes everything away.
    pub fn clear(&self) {
        self.regions().clear();
    }

    /// Does something with a range, if all of it is mapped in one piece. The mapping stays meanwhile.
    fn with<T>(
        &self,
        address: u64,
        len: usize,
        action: impl FnOnce(NonNull<u8>) -> T,
    ) -> Option<T> {
        let regions = self.regions();
        let region = regions.iter().find(|region| {
            let at = address.wrapping_sub(region.address);
            at < region.len as u64 && len as u64 <= region.len as u64 - at
        })?;
        // SAFETY: as just checked, the range lies inside the region.
        let at = unsafe { region.base.add((address - region.address) as usize) };
        Some(action(at))
    }

    fn with_words<T>(&self, address: u64, action: impl FnOnce([&AtomicU64; 2]) -> T) -> Option<T> {
        if !address.is_multiple_of(8) {
            return None;
        }
        self.with(address, 16, |at| {
            let words = at.cast::<AtomicU64>();
            // SAFETY: both words lie inside a region that stays while the action runs. Regions begin
            // on a page, so the words are aligned as their address is.
            unsafe { action([words.as_ref(), words.add(1).as_ref()]) }
        })
    }
}

impl Memory for GuestMemory {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Option<()> {
        self.with(address, into.len(), |from| {
            // SAFETY: the range lies inside a region that stays meanwhile. The other process may be
            // writing it: then the bytes are of no use to it, but they are bytes.
            unsafe { from.copy_to_nonoverlapping(NonNull::from(&mut *into).cast(), into.len()) }
        })
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Option<()> {
        self.with(address, from.len(), |into| {
            // SAFETY: as above.
            unsafe { into.copy_from_nonoverlapping(NonNull::from(from).cast(), from.len()) }
        })
    }

    fn is_mapped(&mut self, address: u64, len: usize) -> bool {
        self.with(address, len, |_| ()).is_some()
    }

    fn read_descriptor(&mut self, address: u64) -> Option<[u64; 2]> {
        self.with_words(address, |words| {
            words.map(|word| word.load(Ordering::Acquire))
        })
    }

    fn write_descriptor(&mut self, address: u64, descriptor: [u64; 2]) -> Option<()> {
        self.with_words(address, |[first, second]| {
            first.store(descriptor[0], Ordering::Relaxed);
            second.store(descriptor[1], Ordering::Release);
        })
    }
}
