//! On which node of memory a worker's things come to lie (numa(7)).

use context::Segment;
use psio::numa::{self, Preference};
use std::io;

/// Has a worker's part of the segment, and what is made until the answer is dropped, come from a node.
pub fn near(segment: &Segment, worker: usize, node: usize) -> Option<Preference> {
    place(segment, worker, node)
        .and_then(|()| Preference::of(node))
        .inspect_err(|error| {
            tracing::warn!(
                "the memory of worker {worker} may be far from it: node {node}: {error}"
            );
        })
        .ok()
}

/// Has a worker's sockets and chunks come from a node.
fn place(segment: &Segment, worker: usize, node: usize) -> io::Result<()> {
    for (memory, len) in segment.parts_of(worker) {
        numa::prefer(memory, len, node)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::*;
    use context::layout::Plan;

    const PAGE: usize = 4096;

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

    /// The policy for a page (get_mempolicy(2)).
    fn policy(address: *const u8) -> libc::c_int {
        const OF_ADDRESS: libc::c_ulong = 2;
        let mut mode = -1;
        let none = std::ptr::null_mut::<u64>();
        // SAFETY: stores one int; the address is only looked up.
        let result = unsafe {
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
        place(&segment, 1, 0).unwrap();
        for (first, second) in segment.parts_of(0).into_iter().zip(segment.parts_of(1)) {
            for (part, expected) in [(first, libc::MPOL_DEFAULT), (second, libc::MPOL_PREFERRED)] {
                let (start, len) = part;
                assert!(len > PAGE);
                assert_eq!(policy(start), expected);
                assert_eq!(policy(start.wrapping_add(len - PAGE)), expected);
            }
        }
    }

    #[test]
    fn a_node_that_does_not_exist_is_refused() {
        assert!(place(&segment(), 0, 1023).is_err());
        assert!(place(&segment(), 0, usize::MAX).is_err());
    }
}
