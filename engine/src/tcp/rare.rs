//! What few connections ever need, or none for long: kept apart, so that the others stay small.

use alloc::collections::VecDeque;
use core::ops::{Deref, Range};

use super::assembler::Assembler;
use super::counters::Incidents;
use super::ecn::Reduction;
use super::fast_open::FastOpen;
use super::marks::Marks;
use super::pacing::Pacer;
use super::prr::Prr;
use super::rack::Reordering;
use super::seq::SeqNum;
use super::time::Instant;
use super::undo::Undo;

/// What is known of losses, of their repair, and of whatever else is counted, of a connection on which there
/// was some.
#[derive(Clone, Debug)]
pub(super) struct Repair {
    pub(super) undo: Undo,
    pub(super) prr: Prr,
    pub(super) reordering: Reordering,
    pub(super) incidents: Incidents,
}

/// State of a connection on which something out of the ordinary has happened.
#[derive(Clone, Debug)]
pub(super) struct Extra {
    /// What was received out of order.
    pub(super) assembler: Assembler,
    /// What was received twice and is not reported yet (RFC 2883).
    pub(super) duplicate: Option<Range<u64>>,
    pub(super) reduction: Reduction,
    /// ACKs that have to go out before others, with RCV.NXT and ECE as they were (RFC 8257).
    pub(super) owed: VecDeque<(u64, bool)>,
    pub(super) pacer: Option<Box<Pacer>>,
    pub(super) marks: Option<Box<Marks>>,
    /// Fast Open, where it is used.
    pub(super) fast_open: Option<Box<FastOpen>>,
    /// Held partial segments before this go out (end of the cork's delay).
    pub(super) push_to: u64,
    /// When the next challenge ACK may go out.
    pub(super) challenge_at: Instant,
    /// A RST with this sequence number has to answer an unacceptable ACK of the handshake.
    pub(super) reset_seq: Option<SeqNum>,
}

/// State that need not take memory as long as nothing has happened to it.
pub(super) trait Initial: Sized + 'static {
    /// As it is at the beginning.
    const NEW: Self;
    /// The same, to be read.
    fn untouched() -> &'static Self;
}

impl Initial for Repair {
    const NEW: Self = Repair {
        undo: Undo::new(),
        prr: Prr::new(),
        reordering: Reordering::new(),
        incidents: Incidents::new(),
    };

    #[inline]
    fn untouched() -> &'static Self {
        static UNTOUCHED: Repair = Repair::NEW;
        &UNTOUCHED
    }
}

impl Initial for Extra {
    const NEW: Self = Extra {
        assembler: Assembler::new(),
        duplicate: None,
        reduction: Reduction::new(),
        owed: VecDeque::new(),
        pacer: None,
        marks: None,
        fast_open: None,
        push_to: 0,
        challenge_at: Instant::ZERO,
        reset_seq: None,
    };

    #[inline]
    fn untouched() -> &'static Self {
        static UNTOUCHED: Extra = Extra::NEW;
        &UNTOUCHED
    }
}

impl Extra {
    fn is_calm(&self) -> bool {
        self.reset_seq.is_none()
            && self.owed.is_empty()
            && self.duplicate.is_none()
            && self.assembler.is_empty()
            && self.marks.is_none()
            && self.pacer.is_none()
    }
}

/// State which takes memory from the first change on. It can always be read.
#[derive(Clone, Debug)]
pub(super) struct Rare<T>(Option<Box<T>>);

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Rare(None)
    }
}

impl<T: Initial> Rare<T> {
    /// To change it.
    #[inline]
    pub(super) fn make(&mut self) -> &mut T {
        self.0.get_or_insert_with(Self::allocate)
    }

    #[cold]
    fn allocate() -> Box<T> {
        Box::new(T::NEW)
    }

    /// To change it if it is not as at the beginning.
    #[inline]
    pub(super) fn if_any(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }
}

impl Rare<Extra> {
    /// Whether nothing is kept that what leaves next depends on.
    #[inline]
    pub(super) fn is_calm(&self) -> bool {
        self.0.as_deref().is_none_or(Extra::is_calm)
    }
}

impl Rare<Repair> {
    /// Something goes wrong.
    pub(super) fn count(&mut self) -> &mut Incidents {
        &mut self.make().incidents
    }
}

impl<T: Initial> Deref for Rare<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::untouched())
    }
}
