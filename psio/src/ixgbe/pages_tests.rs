//! The pool, on ordinary pages.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Counts what is mapped, or refuses to map.
#[derive(Default)]
struct Counting {
    mapped: AtomicUsize,
    refuses: bool,
}

impl Mapper for Counting {
    fn map(&self, _base: NonNull<u8>, len: usize) -> Result<u64, Error> {
        assert_eq!(len, HUGE_PAGE);
        if self.refuses {
            return Err(missing("no more", "ask for less"));
        }
        let before = self.mapped.fetch_add(1, Ordering::Relaxed);
        Ok((1 + before as u64) << 32)
    }

    fn unmap(&self, _address: u64, _len: usize) {
        self.mapped.fetch_sub(1, Ordering::Relaxed);
    }
}

fn ordinary_page() -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping of memory that nobody else has.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            HUGE_PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(memory, libc::MAP_FAILED);
    NonNull::new(memory.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

fn pool(mapper: Arc<Counting>, source: Source) -> Pool {
    Pool {
        source,
        ..Pool::new(mapper, None)
    }
}

#[test]
fn small_allocations_share_a_page_until_it_is_full() {
    let mapper = Arc::new(Counting::default());
    let pool = pool(Arc::clone(&mapper), ordinary_page);
    let first = pool.allocate(8192).unwrap();
    let second = pool.allocate(100).unwrap();
    let third = pool.allocate(HUGE_PAGE - 12_288).unwrap();
    assert_eq!(second.address(), first.address() + 8192);
    assert_eq!(third.address(), first.address() + 12_288);
    assert_eq!(mapper.mapped.load(Ordering::Relaxed), 1);
    let fourth = pool.allocate(HUGE_PAGE).unwrap();
    assert_eq!(mapper.mapped.load(Ordering::Relaxed), 2);
    // A page goes when all in it has gone.
    drop((first, third));
    assert_eq!(mapper.mapped.load(Ordering::Relaxed), 2);
    drop(second);
    assert_eq!(mapper.mapped.load(Ordering::Relaxed), 1);
    drop(fourth);
    assert_eq!(mapper.mapped.load(Ordering::Relaxed), 0);
}

#[test]
fn without_huge_pages_it_is_said_how_to_reserve_some() {
    let mapper = Arc::new(Counting::default());
    let pool = pool(mapper, || Err(io::Error::from_raw_os_error(libc::ENOMEM)));
    let text = pool.allocate(4096).err().unwrap().to_string();
    assert!(text.contains("no huge page of 2 MB is free"), "{text}");
    assert!(text.contains("nr_hugepages"), "{text}");
}

#[test]
fn a_page_that_the_card_may_not_have_is_given_back() {
    let mapper = Arc::new(Counting {
        refuses: true,
        ..Counting::default()
    });
    let pool = pool(mapper, ordinary_page);
    let text = pool.allocate(4096).err().unwrap().to_string();
    assert!(text.contains("ask for less"), "{text}");
}

#[test]
fn more_than_a_huge_page_in_one_piece_is_refused() {
    let pool = pool(Arc::new(Counting::default()), ordinary_page);
    let text = pool.allocate(HUGE_PAGE + 1).err().unwrap().to_string();
    assert!(text.contains("more than a huge page"), "{text}");
}
