//! Frames in pieces, whatever the card says of them.
#![allow(unsafe_code)]

use super::super::dma::DmaMemory;
use super::*;

/// Room for the buffers, with one byte to each so that they differ.
fn buffers(count: usize) -> (DmaMemory, Vec<Part>) {
    let memory = ixgbe_model::HostMemory::default();
    let allocation = memory.allocate(count).expect("memory");
    let (base, address) = (allocation.base(), allocation.address());
    // SAFETY: the allocation is `count` bytes long, aligned to 4 KB, ours alone, and valid until the
    // owner is dropped.
    let memory = unsafe { DmaMemory::new(base, count, address, Box::new(allocation)) };
    let parts = (0..count).map(|at| memory.part(at, 1)).collect();
    (memory, parts)
}

fn piece(index: u16, merged: u16, last: bool, next: u16) -> Piece {
    Piece {
        index,
        merged,
        last,
        next,
    }
}

#[test]
fn pieces_of_two_frames_in_each_others_midst_are_told_apart() {
    let (_memory, mut parts) = buffers(MOST + 2);
    let spare = parts.split_off(2);
    let last_spare = spare[MOST - 1].address();
    let mut chains = Chains::new(spare);
    for (index, part) in parts.iter().enumerate() {
        let first = piece(index as u16, 3, false, 10 - index as u16);
        assert!(chains.is_first(first));
        let given = chains.begin(first, *part, 1);
        assert_eq!(given.address(), last_spare - index as u64);
    }
    let Taken::Last(second) = chains.take(piece(9, 2, true, 0), b"second") else {
        panic!("the frame has ended");
    };
    assert!(!chains.is_first(piece(10, 0, false, 11)));
    assert!(matches!(
        chains.take(piece(10, 4, false, 11), b"fir"),
        Taken::Next
    ));
    let Taken::Last(first) = chains.take(piece(11, 1, true, 0), b"st") else {
        panic!("the frame has ended");
    };
    assert!(chains.are_empty());
    assert_eq!(
        (&first.bytes[1..], &second.bytes[1..]),
        (&b"first"[..], &b"second"[..])
    );
    assert_eq!(
        (first.first.address(), second.first.address()),
        (parts[0].address(), parts[1].address())
    );
    assert_eq!((first.segments, second.segments), (2 + 3, 2 + 1));
}

#[test]
fn frames_that_never_end_do_not_take_more_buffers_than_there_are() {
    let (_memory, mut parts) = buffers(1000 + MOST);
    let spare = parts.split_off(1000);
    let mut chains = Chains::new(spare);
    for (index, part) in parts.iter().enumerate() {
        chains.begin(piece(index as u16, 2, false, u16::MAX), *part, 1);
    }
    assert_eq!(chains.lost, 1000 - MOST as u64);
}

#[test]
fn a_frame_that_never_stops_growing_is_cut_off() {
    let (_memory, mut parts) = buffers(1 + MOST);
    let spare = parts.split_off(1);
    let mut chains = Chains::new(spare);
    chains.begin(piece(0, 2, false, 1), parts[0], 1);
    for index in 1..100 {
        let on = piece(index, 2, false, index + 1);
        assert!(matches!(chains.take(on, &[7; 4096]), Taken::Next));
    }
    let Taken::Last(chain) = chains.take(piece(100, 2, true, 0), &[7; 4096]) else {
        panic!("the frame has ended");
    };
    assert_eq!(chain.bytes.len(), MAX_FRAME);
}
