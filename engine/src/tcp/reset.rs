//! The answer to a segment that belongs to no connection (RFC 9293 section 3.10.7.1).

use super::ecn::Codepoint;
use super::options::Options;
use super::segment::{Flags, Outgoing, Segment};
use super::seq::SeqNum;

/// The RST for a segment that matches neither connection nor listener; `None` if the segment is a RST
/// itself. Who sends it bounds the rate.
pub fn reset_for(segment: &Segment<'_>) -> Option<Outgoing> {
    if segment.flags.contains(Flags::RST) {
        return None;
    }
    let (seq, ack, flags) = if segment.flags.contains(Flags::ACK) {
        (segment.ack, SeqNum(0), Flags::RST)
    } else {
        (
            SeqNum(0),
            segment.seq + segment.seq_len(),
            Flags::RST | Flags::ACK,
        )
    };
    Some(Outgoing {
        seq,
        ack,
        flags,
        window: 0,
        urgent: 0,
        ecn: Codepoint::NotEct,
        options: Options::default(),
        payload: 0..0,
        mss: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: Flags) -> Segment<'static> {
        Segment {
            src_port: 1,
            dst_port: 2,
            seq: SeqNum(1000),
            ack: SeqNum(77),
            flags,
            window: 0,
            urgent: 0,
            ecn: Codepoint::NotEct,
            options: Options::default(),
            payload: b"abc",
            gso_size: 0,
        }
    }

    #[test]
    fn an_ack_is_reset_with_its_own_number() {
        let reset = reset_for(&segment(Flags::ACK)).unwrap();
        assert_eq!((reset.seq, reset.flags), (SeqNum(77), Flags::RST));
    }

    #[test]
    fn a_segment_without_ack_is_acknowledged_in_full() {
        let reset = reset_for(&segment(Flags::SYN)).unwrap();
        assert_eq!((reset.seq, reset.ack), (SeqNum(0), SeqNum(1004)));
        assert_eq!(reset.flags, Flags::RST | Flags::ACK);
    }

    #[test]
    fn a_reset_is_never_reset() {
        assert_eq!(reset_for(&segment(Flags::RST | Flags::ACK)), None);
    }
}
