//! What is counted on each connection, for `TCP_INFO`.

use super::tcb::Tcb;

/// Counters of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Segments sent again, handshake included.
    pub retransmits: u32,
    /// Expiries of the retransmission timer with a SYN or data in flight.
    pub timeouts: u16,
    /// Times that fast recovery began.
    pub fast_recoveries: u16,
    /// Recoveries that turned out needless, and whose reduction was taken back.
    pub undos: u16,
    /// Tail loss probes sent.
    pub tail_probes: u16,
    /// Segments that the peer reports to have got twice.
    pub dsacks: u32,
    /// Data segments that came marked as having met congestion, super-segments counted once.
    pub marked_in: u32,
    /// Segments that the peer reports as marked.
    pub marked_delivered: u32,
    /// Segments that came; a super-segment counts as those that it was made of.
    pub segments_in: u32,
    /// Segments sent; a super-segment counts as those that it is cut into.
    pub segments_out: u32,
    /// Of the segments that came, those with data.
    pub data_segments_in: u32,
    /// Of the segments sent, those with data.
    pub data_segments_out: u32,
    /// Data segments that came out of order.
    pub out_of_order: u32,
}

/// Of [`Counters`], what is counted on every connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    segments_in: u32,
    segments_out: u32,
    data_segments_in: u32,
    data_segments_out: u32,
}

/// Of [`Counters`], what is counted when something goes wrong.
#[derive(Clone, Debug)]
pub(super) struct Incidents {
    pub(super) retransmits: u32,
    pub(super) timeouts: u16,
    pub(super) fast_recoveries: u16,
    pub(super) undos: u16,
    pub(super) tail_probes: u16,
    pub(super) dsacks: u32,
    pub(super) marked_in: u32,
    pub(super) marked_delivered: u32,
    pub(super) out_of_order: u32,
    /// Bytes sent again, counted up to 4 GB.
    pub(super) bytes_resent: u32,
}

impl Incidents {
    pub(super) const fn new() -> Self {
        Incidents {
            retransmits: 0,
            timeouts: 0,
            fast_recoveries: 0,
            undos: 0,
            tail_probes: 0,
            dsacks: 0,
            marked_in: 0,
            marked_delivered: 0,
            out_of_order: 0,
            bytes_resent: 0,
        }
    }
}

impl Traffic {
    /// A segment with that much payload, in pieces of `piece`, came.
    pub(super) fn on_received(&mut self, payload: usize, piece: usize) {
        let segments = pieces(payload, piece);
        self.segments_in = self.segments_in.wrapping_add(segments.max(1) as u32);
        self.data_segments_in = self.data_segments_in.wrapping_add(segments as u32);
    }

    /// A segment with that much payload, to be cut into pieces of `piece`, goes out.
    pub(super) fn on_sent(&mut self, payload: usize, piece: usize) {
        let segments = pieces(payload, piece);
        self.segments_out = self.segments_out.wrapping_add(segments.max(1) as u32);
        self.data_segments_out = self.data_segments_out.wrapping_add(segments as u32);
    }
}

/// In how many pieces a payload comes or goes.
fn pieces(payload: usize, piece: usize) -> usize {
    if payload <= piece {
        usize::from(payload > 0)
    } else {
        payload.div_ceil(piece.max(1))
    }
}

impl Tcb {
    pub(super) fn counters(&self) -> Counters {
        let (traffic, incidents) = (&self.traffic, &self.repair.incidents);
        Counters {
            retransmits: incidents.retransmits,
            timeouts: incidents.timeouts,
            fast_recoveries: incidents.fast_recoveries,
            undos: incidents.undos,
            tail_probes: incidents.tail_probes,
            dsacks: incidents.dsacks,
            marked_in: incidents.marked_in,
            marked_delivered: incidents.marked_delivered,
            segments_in: traffic.segments_in,
            segments_out: traffic.segments_out,
            data_segments_in: traffic.data_segments_in,
            data_segments_out: traffic.data_segments_out,
            out_of_order: incidents.out_of_order,
        }
    }
}
