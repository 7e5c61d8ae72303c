//! The memory in which an AF_XDP socket's frames lie (`UMEM`).
#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;

use crate::sys::check;

/// Bytes of a huge page on x86-64, and of the pages that this memory is a multiple of.
const HUGE_PAGE: usize = 2 << 20;

/// Memory that program and kernel share.
pub struct Umem {
    memory: NonNull<u8>,
    bytes: usize,
    /// Why it lies in ordinary pages, if it does.
    pub ordinary: Option<io::Error>,
}

// SAFETY: the mapping belongs to this value alone and may be used from any one thread.
unsafe impl Send for Umem {}

impl Umem {
    /// At least `bytes` bytes, in huge pages if the system has them to give.
    pub fn map(bytes: usize) -> io::Result<Umem> {
        let bytes = bytes.next_multiple_of(HUGE_PAGE);
        let (memory, ordinary) = match anonymous(bytes, libc::MAP_HUGETLB | libc::MAP_HUGE_2MB) {
            Ok(memory) => (memory, None),
            Err(error) => (anonymous(bytes, 0)?, Some(error)),
        };
        Ok(Umem {
            memory,
            bytes,
            ordinary,
        })
    }

    /// Where it lies, for the kernel.
    pub fn address(&self) -> u64 {
        self.memory.as_ptr().addr() as u64
    }

    /// How long it is.
    pub fn len(&self) -> usize {
        self.bytes
    }

    fn at(&self, start: u64, len: usize) -> Option<NonNull<[u8]>> {
        let start = usize::try_from(start).ok()?;
        if start.checked_add(len)? > self.bytes {
            return None;
        }
        // SAFETY: as checked, the range lies in the mapping.
        let first = unsafe { self.memory.add(start) };
        Some(NonNull::slice_from_raw_parts(first, len))
    }

    /// A frame for reading; `None` if it does not lie in here.
    ///
    /// # Safety
    /// The frame is not the kernel's while the result lives.
    pub unsafe fn frame(&self, start: u64, len: usize) -> Option<&[u8]> {
        // SAFETY: lies in the mapping, which was filled with zeros; nobody writes to it meanwhile, as
        // the caller says and since `frame_mut` takes `&mut self`.
        self.at(start, len).map(|frame| unsafe { frame.as_ref() })
    }

    /// A frame for writing; `None` if it does not lie in here.
    ///
    /// # Safety
    /// As for [`frame`](Self::frame).
    pub unsafe fn frame_mut(&mut self, start: u64, len: usize) -> Option<&mut [u8]> {
        // SAFETY: as for `frame`, and `&mut self` says that there is no other reference.
        self.at(start, len)
            .map(|mut frame| unsafe { frame.as_mut() })
    }
}

fn anonymous(bytes: usize, flags: libc::c_int) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping of memory that nobody else has.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE | flags,
            -1,
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("no memory"))
}

impl Drop for Umem {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made; its users have borrowed `self`.
        let result = check(unsafe { libc::munmap(self.memory.as_ptr().cast(), self.bytes) });
        debug_assert!(result.is_ok(), "{result:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_lie_inside_the_memory_or_are_none() {
        let mut umem = Umem::map(1).unwrap();
        assert_eq!(umem.len(), HUGE_PAGE);
        let end = HUGE_PAGE as u64;
        // SAFETY: no kernel knows of this memory.
        unsafe {
            umem.frame_mut(end - 8, 8).unwrap().fill(7);
            assert_eq!(umem.frame(end - 8, 8), Some(&[7; 8][..]));
            for (start, len) in [(end - 8, 9), (end, 1), (u64::MAX, 1), (1, usize::MAX)] {
                assert!(umem.frame(start, len).is_none());
                assert!(umem.frame_mut(start, len).is_none());
            }
        }
    }
}
