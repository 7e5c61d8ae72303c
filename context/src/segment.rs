//! The segment: a sealed memfd, mapped by the engine and by every process of the application.

#![allow(unsafe_code)]

use crate::context::{ContextLane, ContextShared};
use crate::layout::{CLIENT_SETTINGS, Header, MAGIC, Plan};
use crate::ready::{EventRing, ReadySet};
use crate::socket::{AcceptRing, Socket};
use crate::worker::WorkerShared;
use crate::{Geometry, NONE, sys};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

mod placement;

/// Why a segment cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// The call.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The descriptor is no segment of this version.
    #[error("the descriptor is not a segment of this version of mtcp-run")]
    Foreign,
    /// The client settings do not fit.
    #[error("the settings for the preload library take {0} bytes; {CLIENT_SETTINGS} fit")]
    SettingsTooLong(usize),
}

fn io(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what, source }
}

/// A mapped segment.
pub struct Segment {
    base: *mut u8,
    geometry: Geometry,
    fd: OwnedFd,
}

// SAFETY: all shared words are atomics, and chunk bytes are only copied through raw pointers.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Segment {
    /// Makes a segment. Its pages are all zero and take no memory until they are touched.
    ///
    /// # Errors
    /// What memfd_create, ftruncate, fcntl or mmap say; settings that do not fit.
    pub fn create(
        plan: &Plan,
        client_settings: &[u8],
        shared_core: bool,
        spin_us: u32,
    ) -> Result<Segment, Error> {
        if client_settings.len() > CLIENT_SETTINGS {
            return Err(Error::SettingsTooLong(client_settings.len()));
        }
        let geometry = Geometry::plan(plan);
        // SAFETY: the name is a C string; the call has no other conditions.
        let fd = unsafe {
            libc::memfd_create(
                c"mtcp-segment".as_ptr(),
                libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING,
            )
        };
        if fd < 0 {
            return Err(io("memfd_create")(io::Error::last_os_error()));
        }
        // SAFETY: just made, and owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: plain calls on a descriptor that we own.
        unsafe {
            if libc::ftruncate(fd.as_raw_fd(), geometry.size as i64) != 0 {
                return Err(io("ftruncate")(io::Error::last_os_error()));
            }
            let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
            if libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) != 0 {
                return Err(io("F_ADD_SEALS")(io::Error::last_os_error()));
            }
        }
        let base = map(&fd, geometry.size)?;
        let header = base.cast::<Header>();
        // SAFETY: the mapping is larger than a header, zeroed, and nobody else has it yet.
        unsafe {
            (*header).geometry = geometry;
            (*header).shared_core = shared_core.into();
            (*header).spin_us = spin_us;
            (*header).client_settings_len = client_settings.len() as u32;
            std::ptr::copy_nonoverlapping(
                client_settings.as_ptr(),
                (&raw mut (*header).client_settings).cast::<u8>(),
                client_settings.len(),
            );
            (*header).magic.store(MAGIC, Ordering::Release);
        }
        Ok(Segment { base, geometry, fd })
    }

    /// Maps a segment that the engine has made; an application calls this.
    ///
    /// # Errors
    /// What mmap says; [`Error::Foreign`] if it is none.
    pub fn open(fd: OwnedFd) -> Result<Segment, Error> {
        // SAFETY: fstat fills the zeroed struct.
        let len = unsafe {
            let mut st: libc::stat = std::mem::zeroed();
            let args = [fd.as_raw_fd() as usize, &raw mut st as usize, 0, 0, 0, 0];
            let result = sys::syscall(libc::SYS_fstat, args);
            if result < 0 {
                return Err(io("fstat")(sys::error(result)));
            }
            st.st_size as u64
        };
        if len < size_of::<Header>() as u64 {
            return Err(Error::Foreign);
        }
        let base = map(&fd, len)?;
        // SAFETY: the mapping is at least a header long and page aligned; the engine wrote the
        // header before it gave the descriptor away.
        let (magic, geometry) = unsafe {
            let header = &*base.cast::<Header>();
            (header.magic.load(Ordering::Acquire), header.geometry)
        };
        if magic != MAGIC || geometry.size != len {
            // SAFETY: mapped just now, no reference is left.
            unsafe { libc::munmap(base.cast(), len as usize) };
            return Err(Error::Foreign);
        }
        Ok(Segment { base, geometry, fd })
    }

    /// Sizes and places.
    #[inline]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The memfd.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether application and worker share a core.
    #[inline]
    pub fn shared_core(&self) -> bool {
        self.header().shared_core != 0
    }

    /// Microseconds that an application thread spins before it sleeps.
    pub fn spin_us(&self) -> u32 {
        self.header().spin_us
    }

    /// Application: counts a thread that has got a context of its own; returns how many did before,
    /// wrapping.
    pub fn count_thread(&self) -> u32 {
        self.header().threads.fetch_add(1, Ordering::Relaxed)
    }

    /// The preload library's settings, as given to [`create`](Segment::create).
    pub fn client_settings(&self) -> &[u8] {
        let header = self.header();
        let len = (header.client_settings_len as usize).min(CLIENT_SETTINGS);
        &header.client_settings[..len]
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: the header lies at the start, and its plain words never change after creation
        // as far as honest parties go. A dishonest application can only confuse other applications
        // with it: the engine keeps its own copies.
        unsafe { &*self.base.cast::<Header>() }
    }

    /// A reference to record `index` of a table at `at`.
    ///
    /// # Safety
    /// `T` consists of atomics only, for which every bit pattern is valid, and `index` is within
    /// the table.
    #[inline]
    unsafe fn record<T>(&self, at: u64, index: usize) -> &T {
        // SAFETY: the geometry places the table inside the mapping, aligned to a page.
        unsafe { &*self.base.add(at as usize).cast::<T>().add(index) }
    }

    /// # Safety
    /// As [`record`](Segment::record), and the table has `len` records.
    #[inline]
    unsafe fn records<T>(&self, at: u64, len: usize) -> &[T] {
        // SAFETY: as in `record`.
        unsafe { std::slice::from_raw_parts(self.base.add(at as usize).cast(), len) }
    }

    /// The record of a worker.
    ///
    /// # Panics
    /// If there is no such worker.
    #[inline]
    pub fn worker(&self, index: usize) -> &WorkerShared {
        &self.workers()[index]
    }

    /// The records of all workers.
    #[inline]
    pub fn workers(&self) -> &[WorkerShared] {
        // SAFETY: atomics only; that many there are.
        unsafe { self.records(self.geometry.workers_at, self.geometry.workers as usize) }
    }

    /// A context, if `index` names one.
    #[inline]
    pub fn context(&self, index: u32) -> Option<&ContextShared> {
        // SAFETY: atomics only; checked.
        (index < self.geometry.contexts)
            .then(|| unsafe { self.record(self.geometry.contexts_at, index as usize) })
    }

    /// What a context shares with a worker, if both exist.
    #[inline]
    pub fn lane(&self, context: u32, worker: usize) -> Option<&ContextLane> {
        self.lanes(context).get(worker)
    }

    /// What a context shares with each worker; nothing if there is no such context.
    #[inline]
    pub fn lanes(&self, context: u32) -> &[ContextLane] {
        let g = &self.geometry;
        if context >= g.contexts {
            return &[];
        }
        let at = g.lanes_at + u64::from(context) * g.lanes_size();
        // SAFETY: atomics only; checked.
        unsafe { self.records(at, g.workers as usize) }
    }

    /// A ready set, if `index` names one.
    #[inline]
    pub fn ready_set(&self, index: u32) -> Option<&ReadySet> {
        // SAFETY: atomics only; checked.
        (index < self.geometry.ready_sets)
            .then(|| unsafe { self.record(self.geometry.ready_sets_at, index as usize) })
    }

    /// The ring of `worker` in a ready set, if both exist.
    #[inline]
    pub fn event_ring(&self, set: u32, worker: usize) -> Option<&EventRing> {
        let g = &self.geometry;
        // SAFETY: atomics only; checked.
        (set < g.ready_sets && worker < g.workers as usize).then(|| unsafe {
            let at = g.event_rings_at + u64::from(set) * g.event_rings_size();
            self.record(at, worker)
        })
    }

    /// A socket record, if `index` names one.
    #[inline]
    pub fn socket(&self, index: u32) -> Option<&Socket> {
        // SAFETY: atomics only; checked.
        (index < self.geometry.sockets())
            .then(|| unsafe { self.record(self.geometry.sockets_at, index as usize) })
    }

    /// The link from a chunk to the next of its stream, if there is such a chunk.
    #[inline]
    pub fn link(&self, chunk: u32) -> Option<&AtomicU32> {
        // SAFETY: atomics only; checked.
        (chunk < self.geometry.chunks.total())
            .then(|| unsafe { self.record(self.geometry.links_at, chunk as usize) })
    }

    /// The accept ring that a large chunk holds; `None` for any other chunk.
    pub fn accept_ring(&self, chunk: u32) -> Option<&AcceptRing> {
        let (at, size) = self.geometry.chunks.locate(chunk)?;
        // SAFETY: atomics only; the chunk is inside the mapping, aligned to 64 bytes, and large
        // enough.
        (size >= size_of::<AcceptRing>()).then(|| unsafe { self.record(at, 0) })
    }

    /// Where `len` bytes at `offset` in a chunk lie, if they are inside it. The bytes are shared
    /// memory: copy from or to them, and never make a reference.
    #[inline]
    pub fn chunk_bytes(&self, chunk: u32, offset: usize, len: usize) -> Option<*mut u8> {
        let (at, size) = self.geometry.chunks.locate(chunk)?;
        if offset > size || len > size - offset {
            return None;
        }
        // SAFETY: the geometry places the whole chunk inside the mapping.
        Some(unsafe { self.base.add(at as usize + offset) })
    }

    /// Gives the memory of consecutive chunks of one class back to the system: what they held is lost,
    /// and they take memory again when they are next written to. False if that cannot be; then
    /// nothing has changed.
    pub fn discard(&self, chunks: std::ops::Range<u32>) -> bool {
        let locate = |chunk| self.geometry.chunks.locate(chunk);
        let (Some((from, _)), Some((last, size))) = (
            locate(chunks.start),
            chunks.end.checked_sub(1).and_then(locate),
        ) else {
            return false;
        };
        self.punch(from, (last + size as u64).saturating_sub(from))
    }

    /// Gives the memory of a context's lanes back to the system; their rings are empty then. Only while
    /// neither side uses the context.
    pub fn discard_context(&self, context: u32) -> bool {
        let g = &self.geometry;
        let size = g.lanes_size();
        context < g.contexts && self.punch(g.lanes_at + u64::from(context) * size, size)
    }

    /// The same for the rings of a ready set.
    pub fn discard_ready_set(&self, set: u32) -> bool {
        let g = &self.geometry;
        let size = g.event_rings_size();
        set < g.ready_sets && self.punch(g.event_rings_at + u64::from(set) * size, size)
    }

    fn punch(&self, from: u64, len: u64) -> bool {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: a plain call on our descriptor. The bytes become zeros under all mappings, which
        // is no more than any process may write there at any time.
        let result = unsafe { libc::fallocate(self.fd.as_raw_fd(), mode, from as i64, len as i64) };
        result == 0
    }

    /// Copies `from` into a chunk. False if it does not fit, and nothing is copied.
    #[inline]
    pub fn copy_in(&self, chunk: u32, offset: usize, from: &[u8]) -> bool {
        let Some(to) = self.chunk_bytes(chunk, offset, from.len()) else {
            return false;
        };
        // SAFETY: `to` is good for that many bytes, and `from`, a reference, cannot overlap shared
        // memory that is only touched through raw pointers.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        true
    }

    /// Copies bytes of a chunk out. False if the range is not inside it. Another process may be
    /// writing the bytes at this moment: what is copied is then some mixture, and the caller must
    /// treat the copy as untrusted data.
    #[inline]
    pub fn copy_out(&self, chunk: u32, offset: usize, to: &mut [u8]) -> bool {
        let Some(from) = self.chunk_bytes(chunk, offset, to.len()) else {
            return false;
        };
        // SAFETY: as in `copy_in`, the other way round.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
        true
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: mapped in `create` or `open` with this length; no reference outlives `self`.
        unsafe { libc::munmap(self.base.cast(), self.geometry.size as usize) };
    }
}

fn map(fd: &OwnedFd, len: u64) -> Result<*mut u8, Error> {
    // SAFETY: a fresh shared mapping at an address of the kernel's choice.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_NORESERVE,
            fd.as_raw_fd(),
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io("mmap of the segment")(io::Error::last_os_error()));
    }
    Ok(base.cast())
}

const _: () = assert!(NONE == u32::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> Segment {
        let plan = Plan {
            workers: 2,
            sockets: 1000,
            contexts: 8,
            ready_sets: 8,
            memory: 16 << 20,
        };
        Segment::create(&plan, b"settings", true, 20).unwrap()
    }

    #[test]
    fn a_second_mapping_sees_the_same_words() {
        let engine = segment();
        let app = Segment::open(engine.fd().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!(app.geometry(), engine.geometry());
        assert_eq!(app.client_settings(), b"settings");
        let socket = engine.socket(7).unwrap();
        socket.engine.rx_tail.store(99, Ordering::Release);
        assert_eq!(app.socket(7).unwrap().readable(), 99);
        assert!(app.copy_in(3, 10, b"hello"));
        let mut out = [0; 5];
        assert!(engine.copy_out(3, 10, &mut out));
        assert_eq!(&out, b"hello");
    }

    #[test]
    fn discarded_chunks_take_no_memory_and_read_as_zeros() {
        let s = segment();
        let blocks = || {
            // SAFETY: fstat fills the zeroed struct.
            unsafe {
                let mut st: libc::stat = std::mem::zeroed();
                assert_eq!(libc::fstat(s.fd().as_raw_fd(), &raw mut st), 0);
                st.st_blocks
            }
        };
        let large = s.geometry().chunks.range(crate::chunk::Class::ALL[2], 1);
        let run = large.start..large.start + 3;
        for chunk in large.start..large.start + 4 {
            assert!(s.copy_in(chunk, 0, &[7; 65_536]));
        }
        let before = blocks();
        assert!(s.discard(run.clone()));
        assert_eq!(before - blocks(), 3 * 65_536 / 512);
        let mut byte = [1];
        assert!(s.copy_out(run.start, 100, &mut byte));
        assert_eq!(byte, [0]);
        assert!(s.copy_out(run.end, 100, &mut byte));
        assert_eq!(byte, [7], "the next one is as it was");
        assert!(!s.discard(5..5));
        assert!(!s.discard(0..u32::MAX));
    }

    #[test]
    fn nothing_outside_the_tables_can_be_named() {
        let s = segment();
        assert!(s.socket(s.geometry().sockets()).is_none());
        assert!(s.context(8).is_none());
        assert!(s.lane(0, 2).is_none());
        assert!(s.ready_set(8).is_none());
        assert!(s.link(s.geometry().chunks.total()).is_none());
        assert!(s.chunk_bytes(0, 2047, 2).is_none());
        assert!(s.chunk_bytes(0, usize::MAX, 2).is_none());
        assert!(s.accept_ring(0).is_none(), "a small chunk holds no ring");
    }

    #[test]
    fn the_segment_cannot_be_shrunk() {
        let s = segment();
        // SAFETY: a plain call on our descriptor.
        assert_eq!(unsafe { libc::ftruncate(s.fd().as_raw_fd(), 0) }, -1);
    }

    #[test]
    fn another_file_is_refused() {
        // SAFETY: makes a descriptor that we own.
        let fd =
            unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"x".as_ptr(), libc::MFD_CLOEXEC)) };
        assert!(matches!(Segment::open(fd), Err(Error::Foreign)));
    }
}
