//! Where everything lies in the segment.

use crate::chunk::{ChunkGeometry, SIZES};
use crate::context::{ContextLane, ContextShared};
use crate::ready::{EventRing, ReadySet};
use crate::socket::Socket;
use crate::worker::{PENDING_WORDS, WorkerShared};
use crate::{MAX_WORKERS, Segment};

/// First word of a segment: "mTCPseg" and a format number that changes with any layout change.
pub const MAGIC: u64 = 0x6d54_4350_7365_6703;

/// The system gives and takes memory in pieces of this many bytes.
const PAGE: u64 = 4096;

/// Bytes reserved for the settings that the preload library reads.
pub const CLIENT_SETTINGS: usize = 64 * 1024;

/// Sizes of a segment's tables, from which all offsets follow.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Workers.
    pub workers: u32,
    /// Socket records of one worker.
    pub sockets_per_worker: u32,
    /// Contexts (application threads).
    pub contexts: u32,
    /// Ready sets (epoll instances, and threads that poll).
    pub ready_sets: u32,
    /// Offset of the workers' records.
    pub workers_at: u64,
    /// Offset of the contexts' heads.
    pub contexts_at: u64,
    /// Offset of the contexts' lanes, [`lanes_size`](Geometry::lanes_size) bytes for each context.
    pub lanes_at: u64,
    /// Offset of the ready sets' heads.
    pub ready_sets_at: u64,
    /// Offset of the event rings, [`event_rings_size`](Geometry::event_rings_size) bytes for each set.
    pub event_rings_at: u64,
    /// Offset of the socket records.
    pub sockets_at: u64,
    /// Offset of the chunks' links.
    pub links_at: u64,
    /// The chunks.
    pub chunks: ChunkGeometry,
    /// Bytes in all.
    pub size: u64,
}

/// What a stack is asked to hold; see [`Geometry::plan`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Workers, 1 to [`MAX_WORKERS`].
    pub workers: usize,
    /// Sockets of all workers together.
    pub sockets: usize,
    /// Application threads of all processes together.
    pub contexts: usize,
    /// Epoll instances and polling threads together.
    pub ready_sets: usize,
    /// Bytes for the streams.
    pub memory: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            workers: 1,
            sockets: 262_144,
            contexts: 4096,
            ready_sets: 4096,
            memory: 1 << 30,
        }
    }
}

/// The first bytes of a segment.
#[repr(C, align(64))]
pub struct Header {
    /// [`MAGIC`], written last.
    pub magic: std::sync::atomic::AtomicU64,
    /// The sizes; written before `magic`.
    pub geometry: Geometry,
    /// 1: application and worker share a core, so doorbells are rung just before sleeping.
    pub shared_core: u32,
    /// Microseconds that an application thread spins before it sleeps; 0: none.
    pub spin_us: u32,
    /// Threads that have got a context of their own so far, wrapping; the application counts them.
    pub threads: std::sync::atomic::AtomicU32,
    /// Bytes used of `client_settings`.
    pub client_settings_len: u32,
    /// What `config::ClientSettings` wrote.
    pub client_settings: [u8; CLIENT_SETTINGS],
}

impl Geometry {
    /// Lays out the tables for `plan`. Each size class of chunks gets address space for the whole
    /// of `plan.memory`: the engine's budget bounds how much of it is ever touched.
    pub fn plan(plan: &Plan) -> Geometry {
        let workers = plan.workers.clamp(1, MAX_WORKERS) as u64;
        let sockets_per_worker = (plan.sockets as u64).div_ceil(workers).clamp(64, 1 << 22);
        let contexts = (plan.contexts as u64).clamp(1, PENDING_WORDS as u64 * 64);
        let ready_sets = (plan.ready_sets as u64).clamp(1, 1 << 16);
        let per_worker =
            SIZES.map(|size| (plan.memory / workers / size as u64).clamp(16, 1 << 24) as u32);

        let mut end = size_of::<Header>() as u64;
        let mut place = |count: u64, size: u64| {
            let at = end.next_multiple_of(PAGE);
            end = at + count * size;
            at
        };
        let workers_at = place(workers, size_of::<WorkerShared>() as u64);
        let contexts_at = place(contexts, size_of::<ContextShared>() as u64);
        let lanes_at = place(contexts, pages_of::<ContextLane>(workers));
        let ready_sets_at = place(ready_sets, size_of::<ReadySet>() as u64);
        let event_rings_at = place(ready_sets, pages_of::<EventRing>(workers));
        let sockets_at = place(sockets_per_worker * workers, size_of::<Socket>() as u64);
        let mut chunks = ChunkGeometry {
            per_worker,
            workers: workers as u32,
            offsets: [0; 3],
        };
        let links_at = place(u64::from(chunks.total()), 4);
        for (offset, (n, size)) in chunks.offsets.iter_mut().zip(per_worker.iter().zip(SIZES)) {
            *offset = place(u64::from(*n) * workers, size as u64).next_multiple_of(64 * 1024);
            // Room for the alignment that was just added.
            place(1, 64 * 1024);
        }
        Geometry {
            workers: workers as u32,
            sockets_per_worker: sockets_per_worker as u32,
            contexts: contexts as u32,
            ready_sets: ready_sets as u32,
            workers_at,
            contexts_at,
            lanes_at,
            ready_sets_at,
            event_rings_at,
            sockets_at,
            links_at,
            chunks,
            size: end.next_multiple_of(2 << 20),
        }
    }

    /// Bytes of a context's lanes. They fill pages of their own, so that their memory can be given back
    /// alone.
    #[inline]
    pub fn lanes_size(&self) -> u64 {
        pages_of::<ContextLane>(self.workers.into())
    }

    /// Bytes of a ready set's event rings, in pages of their own likewise.
    #[inline]
    pub fn event_rings_size(&self) -> u64 {
        pages_of::<EventRing>(self.workers.into())
    }

    /// The worker that a socket belongs to.
    #[inline]
    pub fn worker_of(&self, socket: u32) -> usize {
        (socket / self.sockets_per_worker) as usize
    }

    /// Socket records in all.
    pub fn sockets(&self) -> u32 {
        self.sockets_per_worker * self.workers
    }
}

/// Bytes of so many things, in whole pages.
#[inline]
fn pages_of<T>(count: u64) -> u64 {
    (count * size_of::<T>() as u64).next_multiple_of(PAGE)
}

const _: () = assert!(align_of::<Header>() <= 4096 && size_of::<Segment>() > 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_do_not_overlap_for_any_plan() {
        for workers in [1, 2, 16, 99] {
            for memory in [0, 64 << 20, 1 << 33] {
                let g = Geometry::plan(&Plan {
                    workers,
                    memory,
                    ..Plan::default()
                });
                let w = u64::from(g.workers);
                let mut parts = vec![
                    (0, size_of::<Header>() as u64),
                    (g.workers_at, w * size_of::<WorkerShared>() as u64),
                    (
                        g.contexts_at,
                        u64::from(g.contexts) * size_of::<ContextShared>() as u64,
                    ),
                    (g.lanes_at, u64::from(g.contexts) * g.lanes_size()),
                    (
                        g.ready_sets_at,
                        u64::from(g.ready_sets) * size_of::<ReadySet>() as u64,
                    ),
                    (
                        g.event_rings_at,
                        u64::from(g.ready_sets) * g.event_rings_size(),
                    ),
                    (
                        g.sockets_at,
                        u64::from(g.sockets()) * size_of::<Socket>() as u64,
                    ),
                    (g.links_at, u64::from(g.chunks.total()) * 4),
                ];
                for (i, size) in SIZES.iter().enumerate() {
                    parts.push((
                        g.chunks.offsets[i],
                        u64::from(g.chunks.per_worker[i]) * w * *size as u64,
                    ));
                }
                parts.sort_unstable();
                for pair in parts.windows(2) {
                    assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?}");
                }
                let last = parts.last().unwrap();
                assert!(last.0 + last.1 <= g.size);
            }
        }
    }
}
