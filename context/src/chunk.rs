//! Chunks: the memory of byte streams, in three sizes so that a stream grows with need.
//!
//! All chunks of one stack have one numbering. Each worker owns a range of each size; the ranges
//! lie one after the other, small chunks of all workers first.

use crate::NONE;

/// Bytes of a chunk of each class.
pub const SIZES: [usize; 3] = [2048, 16 * 1024, 64 * 1024];

/// One of the sizes in [`SIZES`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Class(u8);

impl Class {
    /// The classes, smallest first.
    pub const ALL: [Class; 3] = [Class(0), Class(1), Class(2)];

    /// Bytes of a chunk of this class.
    #[inline]
    pub fn size(self) -> usize {
        SIZES[self.0 as usize]
    }

    /// The class's place in [`SIZES`].
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The class for a stream's next chunk when `buffered` bytes of it are in chunks and `coming`
    /// more are known to come: small while the stream is, so that an idle connection holds little.
    #[inline]
    pub fn for_growth(buffered: usize, coming: usize) -> Class {
        match buffered + coming {
            n if n <= SIZES[0] => Class(0),
            n if n <= SIZES[0] + SIZES[1] => Class(1),
            _ => Class(2),
        }
    }
}

/// Which chunks there are and where their bytes lie, in each class.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChunkGeometry {
    /// Chunks of one worker, by class.
    pub per_worker: [u32; 3],
    /// Workers.
    pub workers: u32,
    /// Offset in the segment of the first chunk, by class.
    pub offsets: [u64; 3],
}

impl ChunkGeometry {
    /// Number of chunks in all.
    pub fn total(&self) -> u32 {
        self.per_worker.iter().sum::<u32>() * self.workers
    }

    /// First number of `class`.
    #[inline]
    pub fn base(&self, class: Class) -> u32 {
        self.per_worker[..class.index()].iter().sum::<u32>() * self.workers
    }

    /// The numbers of `class` that `worker` owns.
    pub fn range(&self, class: Class, worker: usize) -> std::ops::Range<u32> {
        let n = self.per_worker[class.index()];
        let first = self.base(class) + n * worker as u32;
        first..first + n
    }

    /// Class of a chunk, or `None` if there is no such chunk.
    #[inline]
    pub fn class(&self, chunk: u32) -> Option<Class> {
        let mut end = 0;
        for class in Class::ALL {
            end += self.per_worker[class.index()] * self.workers;
            if chunk < end {
                return Some(class);
            }
        }
        debug_assert!(chunk >= end || chunk == NONE);
        None
    }

    /// The worker that owns a chunk.
    pub fn owner(&self, chunk: u32) -> Option<usize> {
        let class = self.class(chunk)?;
        Some(((chunk - self.base(class)) / self.per_worker[class.index()]) as usize)
    }

    /// Offset of a chunk's bytes in the segment, and their number.
    #[inline]
    pub fn locate(&self, chunk: u32) -> Option<(u64, usize)> {
        let class = self.class(chunk)?;
        let index = u64::from(chunk - self.base(class));
        Some((
            self.offsets[class.index()] + index * class.size() as u64,
            class.size(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: ChunkGeometry = ChunkGeometry {
        per_worker: [8, 4, 2],
        workers: 2,
        offsets: [0, 100_000, 1_000_000],
    };

    #[test]
    fn every_number_has_one_class_owner_and_place() {
        let mut places = std::collections::BTreeMap::new();
        for chunk in 0..GEOMETRY.total() {
            let class = GEOMETRY.class(chunk).unwrap();
            let owner = GEOMETRY.owner(chunk).unwrap();
            assert!(GEOMETRY.range(class, owner).contains(&chunk));
            let (offset, size) = GEOMETRY.locate(chunk).unwrap();
            places.insert(offset, size as u64);
        }
        assert_eq!(places.len(), GEOMETRY.total() as usize);
        let mut end = 0;
        for (offset, size) in places {
            assert!(offset >= end, "chunks overlap");
            end = offset + size;
        }
    }

    #[test]
    fn numbers_beyond_the_last_name_nothing() {
        assert_eq!(GEOMETRY.class(GEOMETRY.total()), None);
        assert_eq!(GEOMETRY.locate(NONE), None);
        assert_eq!(GEOMETRY.owner(NONE), None);
    }

    #[test]
    fn streams_start_small_and_grow_large() {
        assert_eq!(Class::for_growth(0, 64).size(), 2048);
        assert_eq!(Class::for_growth(2048, 1).size(), 16 * 1024);
        assert_eq!(Class::for_growth(100_000, 1).size(), 64 * 1024);
        assert_eq!(Class::for_growth(0, 65_000).size(), 64 * 1024);
    }
}
