//! File descriptor to what stands behind it.
//!
//! One flat table of words, because the question "is this one ours?" stands before every call
//! that a program makes: a look-up is one load. Everything is atomic and nothing is locked, so
//! that signal handlers and the children of a fork may use the table at any moment.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Descriptors from here on are the kernel's, always.
pub const DESCRIPTORS: usize = 1 << 20;

/// Sockets from here on are not counted: their descriptors must not be made.
pub const SOCKETS: usize = 1 << 22;

/// What stands behind a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// The kernel, or nothing: not our business.
    Kernel,
    /// A socket of the stack.
    Socket {
        /// Its record in the segment.
        index: u32,
        /// Low bits of the record's generation when the descriptor was made.
        generation: u16,
    },
    /// A kernel epoll descriptor with sockets of the stack beside it.
    Epoll {
        /// Its place in the table of epoll instances.
        slot: u32,
    },
    /// A placeholder kept for the next socket. To the program, the number is closed.
    Pooled,
    /// A descriptor of the library's own. To the program, the number is closed.
    Private,
}

const KIND: u64 = 0xff << 56;
const SOCKET: u64 = 1 << 56;
const EPOLL: u64 = 2 << 56;
const POOLED: u64 = 3 << 56;
const PRIVATE: u64 = 4 << 56;

impl Entry {
    fn to_word(self) -> u64 {
        match self {
            Entry::Kernel => 0,
            Entry::Socket { index, generation } => {
                SOCKET | u64::from(generation) << 32 | u64::from(index)
            }
            Entry::Epoll { slot } => EPOLL | u64::from(slot),
            Entry::Pooled => POOLED,
            Entry::Private => PRIVATE,
        }
    }

    fn from_word(word: u64) -> Entry {
        match word & KIND {
            SOCKET => Entry::Socket {
                index: word as u32,
                generation: (word >> 32) as u16,
            },
            EPOLL => Entry::Epoll { slot: word as u32 },
            POOLED => Entry::Pooled,
            PRIVATE => Entry::Private,
            _ => Entry::Kernel,
        }
    }
}

static ENTRIES: [AtomicU64; DESCRIPTORS] = [const { AtomicU64::new(0) }; DESCRIPTORS];
static REFERENCES: [AtomicU32; SOCKETS] = [const { AtomicU32::new(0) }; SOCKETS];
/// One more than the highest descriptor that ever had an entry: bounds a walk over the table.
static END: AtomicU32 = AtomicU32::new(0);

fn word(fd: c_int) -> Option<&'static AtomicU64> {
    ENTRIES.get(usize::try_from(fd).ok()?)
}

/// A walk over the table goes to `end` at least.
#[inline]
fn reach(end: u32) {
    if END.load(Ordering::Relaxed) < end {
        END.fetch_max(end, Ordering::Relaxed);
    }
}

/// Whether the table has a place for `fd`. Without one it stays with the kernel.
pub fn has_place(fd: c_int) -> bool {
    word(fd).is_some()
}

/// What stands behind `fd`.
#[inline]
pub fn get(fd: c_int) -> Entry {
    word(fd).map_or(Entry::Kernel, |word| {
        Entry::from_word(word.load(Ordering::Acquire))
    })
}

/// Sets what stands behind `fd`. A descriptor without a place stays with the kernel.
pub fn set(fd: c_int, entry: Entry) {
    swap(fd, entry);
}

/// Sets what stands behind `fd` and returns what stood there.
pub fn swap(fd: c_int, entry: Entry) -> Entry {
    let Some(word) = word(fd) else {
        return Entry::Kernel;
    };
    if entry != Entry::Kernel {
        reach(fd as u32 + 1);
    }
    Entry::from_word(word.swap(entry.to_word(), Ordering::AcqRel))
}

/// Gives `fd` back to the kernel and returns what stood behind it.
pub fn take(fd: c_int) -> Entry {
    swap(fd, Entry::Kernel)
}

/// Sets what stands behind `fd` if `expected` stands there. Of several threads that close one
/// descriptor, or take it from the pool, one succeeds.
pub fn replace(fd: c_int, expected: Entry, entry: Entry) -> bool {
    let Some(word) = word(fd) else {
        return false;
    };
    if entry != Entry::Kernel {
        reach(fd as u32 + 1);
    }
    word.compare_exchange(
        expected.to_word(),
        entry.to_word(),
        Ordering::AcqRel,
        Ordering::Relaxed,
    )
    .is_ok()
}

/// All descriptors that are not the kernel's, by number.
pub fn entries() -> impl Iterator<Item = (c_int, Entry)> {
    let end = END.load(Ordering::Relaxed) as c_int;
    (0..end)
        .map(|fd| (fd, get(fd)))
        .filter(|(_, entry)| *entry != Entry::Kernel)
}

/// Socket `index` begins a life with one descriptor, whatever was counted for an earlier one. False
/// if sockets of that number are not counted.
pub fn begin(index: u32) -> bool {
    let count = REFERENCES.get(index as usize);
    count.inspect(|n| n.store(1, Ordering::Release)).is_some()
}

/// Counts one more descriptor of socket `index` and returns how many there are now; `None` if
/// sockets of that number are not counted.
pub fn retain(index: u32) -> Option<u32> {
    let count = REFERENCES.get(index as usize)?;
    Some(count.fetch_add(1, Ordering::AcqRel) + 1)
}

/// As [`retain`], if the socket has a descriptor at all. Whether it has.
pub fn retain_open(index: u32) -> bool {
    let more = |n: u32| (n != 0).then(|| n + 1);
    REFERENCES.get(index as usize).is_some_and(|count| {
        let counted = count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more);
        counted.is_ok()
    })
}

/// Counts all sockets' descriptors anew, by the table.
pub fn recount() {
    let sockets = || {
        entries().filter_map(|(_, entry)| match entry {
            Entry::Socket { index, .. } => REFERENCES.get(index as usize),
            _ => None,
        })
    };
    sockets().for_each(|count| count.store(0, Ordering::Release));
    sockets().for_each(|count| {
        count.fetch_add(1, Ordering::AcqRel);
    });
}

/// Counts one descriptor of socket `index` less and returns how many remain.
pub fn release(index: u32) -> u32 {
    let Some(count) = REFERENCES.get(index as usize) else {
        return 0;
    };
    let less = |n: u32| n.checked_sub(1);
    let before = count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, less);
    before.map_or(0, |n| n - 1)
}

/// Descriptors of socket `index` in this process.
pub fn references(index: u32) -> u32 {
    let count = REFERENCES.get(index as usize);
    count.map_or(0, |n| n.load(Ordering::Acquire))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKET: Entry = Entry::Socket {
        index: u32::MAX,
        generation: u16::MAX,
    };

    #[test]
    fn every_entry_survives_the_table() {
        for entry in [
            SOCKET,
            Entry::Epoll { slot: 7 },
            Entry::Pooled,
            Entry::Private,
            Entry::Kernel,
        ] {
            set(1000, entry);
            assert_eq!(get(1000), entry);
        }
    }

    #[test]
    fn numbers_outside_the_table_are_the_kernels() {
        for fd in [-1, c_int::MIN, DESCRIPTORS as c_int, c_int::MAX] {
            set(fd, SOCKET);
            assert_eq!(get(fd), Entry::Kernel);
            assert!(!replace(fd, Entry::Kernel, SOCKET));
            assert!(!has_place(fd));
        }
    }

    #[test]
    fn one_of_two_closers_wins() {
        set(1001, SOCKET);
        assert!(replace(1001, SOCKET, Entry::Pooled));
        assert!(!replace(1001, SOCKET, Entry::Pooled));
        assert_eq!(take(1001), Entry::Pooled);
    }

    #[test]
    fn the_walk_finds_what_is_not_the_kernels() {
        set(1002, Entry::Epoll { slot: 1 });
        assert!(entries().any(|e| e == (1002, Entry::Epoll { slot: 1 })));
        take(1002);
        assert!(entries().all(|(fd, _)| fd != 1002));
    }

    #[test]
    fn descriptors_of_a_socket_are_counted() {
        assert!(begin(5));
        assert_eq!(retain(5), Some(2));
        assert_eq!(references(5), 2);
        assert_eq!(release(5), 1);
        assert_eq!(release(5), 0);
        assert_eq!(release(5), 0, "it does not wrap");
        assert!(!retain_open(5), "it has none");
        assert!(begin(5) && retain_open(5));
        assert_eq!(references(5), 2);
        let entry = Entry::Socket {
            index: 5,
            generation: 0,
        };
        set(1003, entry);
        recount();
        assert_eq!(references(5), 1);
        take(1003);
        assert_eq!(retain(SOCKETS as u32), None);
        assert!(!begin(SOCKETS as u32));
    }
}
