//! Huge pages for the card: what is in one of them is in one piece in physical memory, too.
#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use super::dma::DmaMemory;
use super::pci::missing;
use crate::Error;
use crate::numa;
use crate::sys::check;

/// Bytes of a huge page.
pub const HUGE_PAGE: usize = 2 << 20;

/// Allocations begin at a multiple of this.
const ALIGN: usize = 4096;

/// Where pages come from: [`huge_page`], or something else in tests.
type Source = fn() -> io::Result<NonNull<u8>>;

/// Makes memory reachable for the card.
pub trait Mapper: Send + Sync {
    /// Maps a huge page; returns where the card sees it.
    ///
    /// # Errors
    /// What the system says.
    fn map(&self, base: NonNull<u8>, len: usize) -> Result<u64, Error>;

    /// Takes the mapping back: the card cannot reach the page afterwards.
    fn unmap(&self, address: u64, len: usize);
}

/// A huge page that the card can reach.
struct Page {
    base: NonNull<u8>,
    address: u64,
    mapper: Arc<dyn Mapper>,
}

// SAFETY: the page is reached through `DmaMemory` alone, each part of it through one.
unsafe impl Send for Page {}
// SAFETY: as above; nothing of a shared `Page` changes but by being dropped.
unsafe impl Sync for Page {}

impl Page {
    fn new(mapper: Arc<dyn Mapper>, node: Option<usize>, source: Source) -> Result<Page, Error> {
        let base = source().map_err(|error| {
            missing(
                format!("no huge page of 2 MB is free ({error})"),
                "reserve some, eight for each queue: echo 64 > \
                 /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            )
        })?;
        if let Some(node) = node
            && let Err(error) = numa::prefer(base.as_ptr(), HUGE_PAGE, node)
        {
            tracing::info!(node, "memory may lie on another NUMA node: {error}");
        }
        // SAFETY: the page is ours and nobody else's; writing to it has the kernel provide it.
        unsafe { base.write_volatile(0) };
        match mapper.map(base, HUGE_PAGE) {
            Ok(address) => Ok(Page {
                base,
                address,
                mapper,
            }),
            Err(error) => {
                release(base);
                Err(error)
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.mapper.unmap(self.address, HUGE_PAGE);
        release(self.base);
    }
}

fn huge_page() -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping of memory that nobody else has.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            HUGE_PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB,
            -1,
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("no memory"))
}

fn release(base: NonNull<u8>) {
    // SAFETY: a mapping that `huge_page` made, and that nobody uses any more.
    let result = check(unsafe { libc::munmap(base.as_ptr().cast(), HUGE_PAGE) });
    debug_assert!(result.is_ok(), "{result:?}");
}

/// Allocates from huge pages; a page is given back when all that lies in it is.
pub struct Pool {
    mapper: Arc<dyn Mapper>,
    node: Option<usize>,
    source: Source,
    /// A page with room left, and how much of it is used.
    current: Mutex<Option<(Arc<Page>, usize)>>,
}

impl Pool {
    /// A pool on a NUMA node, if one is given.
    pub fn new(mapper: Arc<dyn Mapper>, node: Option<usize>) -> Pool {
        Pool {
            mapper,
            node,
            source: huge_page,
            current: Mutex::new(None),
        }
    }

    /// Allocates `bytes`, zeroed.
    ///
    /// # Errors
    /// [`Error::Missing`] without a free huge page, [`Error::Description`] for more than one holds.
    pub fn allocate(&self, bytes: usize) -> Result<DmaMemory, Error> {
        if bytes > HUGE_PAGE {
            return Err(Error::Description(format!(
                "{bytes} bytes in one piece are more than a huge page"
            )));
        }
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (page, at) = match current.take() {
            Some((page, used)) if used + bytes <= HUGE_PAGE => (page, used),
            _ => {
                let page = Page::new(Arc::clone(&self.mapper), self.node, self.source)?;
                (Arc::new(page), 0)
            }
        };
        // SAFETY: the part of the page from `at` on, `bytes` long, which is inside it as just seen; no
        // other allocation has it, for the pool never gives out what lies below `used` again. The
        // page is zeroed, aligned to its size, and stays while the owner, an `Arc` of it, does.
        let memory = unsafe {
            DmaMemory::new(
                page.base.add(at),
                bytes,
                page.address + at as u64,
                Box::new(Arc::clone(&page)),
            )
        };
        let used = (at + bytes).next_multiple_of(ALIGN);
        if used < HUGE_PAGE {
            *current = Some((page, used));
        }
        Ok(memory)
    }
}

#[cfg(test)]
#[path = "pages_tests.rs"]
mod tests;
