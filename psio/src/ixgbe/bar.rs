//! The card's registers, mapped into the process.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use crate::Error;
use crate::sys::check;

/// Bytes of BAR 0.
pub const BAR_LEN: usize = 512 << 10;

/// BAR 0, mapped.
pub struct Bar {
    base: NonNull<u32>,
}

// SAFETY: registers may be read and written from any thread; each access is one of 32 bits.
unsafe impl Send for Bar {}
// SAFETY: as above.
unsafe impl Sync for Bar {}

impl Bar {
    /// Maps [`BAR_LEN`] bytes of a file from `offset` on.
    ///
    /// # Errors
    /// What the system says.
    pub fn map(file: &File, offset: u64, what: &str) -> Result<Bar, Error> {
        let failed = |error| Error::io(format!("map the registers of {what}"))(error);
        let offset = libc::off_t::try_from(offset).map_err(|e| failed(io::Error::other(e)))?;
        // SAFETY: a new shared mapping.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                BAR_LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                offset,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(failed(io::Error::last_os_error()));
        }
        let base = NonNull::new(memory.cast());
        let base = base.ok_or_else(|| failed(io::Error::other("no memory")))?;
        Ok(Bar { base })
    }

    fn register(&self, offset: u32) -> NonNull<u32> {
        let index = offset as usize / 4;
        assert!(index < BAR_LEN / 4, "there is no register at {offset:#x}");
        // SAFETY: as just checked, the register lies inside the mapping.
        unsafe { self.base.add(index) }
    }

    /// Reads a register.
    pub fn read(&self, offset: u32) -> u32 {
        // SAFETY: inside the mapping, and aligned. Registers are not memory: the access is volatile.
        let value = unsafe { self.register(offset).read_volatile() };
        // What the card has written to memory before is read afterwards.
        fence(Ordering::Acquire);
        value
    }

    /// Writes a register.
    pub fn write(&self, offset: u32, value: u32) {
        // What was written to memory is there before the card is told; on x86 this costs nothing.
        fence(Ordering::Release);
        // SAFETY: as for `read`.
        unsafe { self.register(offset).write_volatile(value) };
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made, used by nobody else.
        let result = check(unsafe { libc::munmap(self.base.as_ptr().cast(), BAR_LEN) });
        debug_assert!(result.is_ok(), "{result:?}");
    }
}
