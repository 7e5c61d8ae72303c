//! Which part of the segment is a worker's.

use super::Segment;
use crate::chunk::Class;
use crate::socket::Socket;
use std::mem::size_of;
use std::ops::Range;

const PAGE: u64 = 4096;

impl Segment {
    /// Where a worker's sockets, and its chunks of each class, lie in this process: the whole pages of
    /// them, with their number of bytes, which may be 0. For saying where they come from; what stands
    /// in them is reached otherwise.
    pub fn parts_of(&self, worker: usize) -> [(*const u8, usize); 4] {
        self.ranges_of(worker).map(|range| {
            let (start, end) = (range.start.next_multiple_of(PAGE), range.end / PAGE * PAGE);
            let len = match end <= self.geometry.size {
                true => end.saturating_sub(start),
                false => 0,
            };
            (
                self.base.wrapping_add(start as usize).cast_const(),
                len as usize,
            )
        })
    }

    fn ranges_of(&self, worker: usize) -> [Range<u64>; 4] {
        let geometry = self.geometry();
        let records = u64::from(geometry.sockets_per_worker) * size_of::<Socket>() as u64;
        let sockets = geometry.sockets_at + records * worker as u64;
        let [small, medium, large] = Class::ALL.map(|class| {
            let of = geometry.chunks.per_worker[class.index()];
            let bytes = u64::from(of) * class.size() as u64;
            let start = geometry.chunks.offsets[class.index()] + bytes * worker as u64;
            start..start + bytes
        });
        [sockets..sockets + records, small, medium, large]
    }
}
