//! On which node of memory a worker's part of the segment comes to lie (mbind(2)).

use super::Segment;
use crate::chunk::Class;
use crate::socket::Socket;
use std::io;
use std::mem::size_of;
use std::ops::Range;

const PAGE: u64 = 4096;

/// Bytes of a set of nodes, as many as any kernel has.
const MASK: usize = 1024 / 8;

impl Segment {
    /// Has a worker's sockets and chunks come from `node` when they are first touched, whoever
    /// touches them, as long as the node has memory.
    ///
    /// # Errors
    /// What mbind(2) says: `EINVAL` for a node that does not exist.
    pub fn place(&self, worker: usize, node: usize) -> io::Result<()> {
        for range in self.parts_of(worker) {
            self.bind(range, node)?;
        }
        Ok(())
    }

    /// The bytes of a worker's part.
    fn parts_of(&self, worker: usize) -> [Range<u64>; 4] {
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

    /// Binds the whole pages in a range.
    fn bind(&self, range: Range<u64>, node: usize) -> io::Result<()> {
        let (start, end) = (range.start.next_multiple_of(PAGE), range.end / PAGE * PAGE);
        if start >= end || end > self.geometry.size {
            return Ok(());
        }
        let mut nodes = [0u8; MASK];
        *nodes.get_mut(node / 8).ok_or(io::ErrorKind::InvalidInput)? = 1 << (node % 8);
        // SAFETY: the range is part of the mapping, whose contents stay as they are; the mask has as
        // many bits as the kernel reads, one less than it is told of.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.base.add(start as usize),
                end - start,
                libc::MPOL_PREFERRED,
                nodes.as_ptr(),
                MASK * 8 + 1,
                0,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Plan;

    fn segment() -> Segment {
        let plan = Plan {
            workers: 2,
            sockets: 1000,
            contexts: 8,
            ready_sets: 8,
            memory: 16 << 20,
        };
        Segment::create(&plan, b"", false, 0).unwrap()
    }

    /// The policy for the page at an offset (get_mempolicy(2)).
    fn policy(segment: &Segment, at: u64) -> libc::c_int {
        const OF_ADDRESS: libc::c_ulong = 2;
        let mut mode = -1;
        let none = std::ptr::null_mut::<u64>();
        // SAFETY: stores one int; the address is in the mapping.
        let result = unsafe {
            let address = segment.base.add(at as usize);
            libc::syscall(
                libc::SYS_get_mempolicy,
                &raw mut mode,
                none,
                0,
                address,
                OF_ADDRESS,
            )
        };
        assert_eq!(result, 0);
        mode
    }

    #[test]
    fn a_workers_part_and_no_other_comes_from_its_node() {
        let segment = segment();
        segment.place(1, 0).unwrap();
        for (first, second) in segment.parts_of(0).into_iter().zip(segment.parts_of(1)) {
            assert_eq!(policy(&segment, first.start), libc::MPOL_DEFAULT);
            assert_eq!(policy(&segment, first.end - PAGE), libc::MPOL_DEFAULT);
            assert_eq!(policy(&segment, second.start + PAGE), libc::MPOL_PREFERRED);
            assert_eq!(policy(&segment, second.end - PAGE), libc::MPOL_PREFERRED);
        }
    }

    #[test]
    fn a_node_that_does_not_exist_is_refused() {
        assert!(segment().place(0, 1023).is_err());
        assert!(segment().place(0, usize::MAX).is_err());
    }
}
