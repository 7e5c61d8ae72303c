//! Urgent data (RFC 9293 3.8.5) as RFC 6093 describes what hosts do: the urgent pointer names the
//! position behind the last urgent byte, the byte itself stays in the stream, and the application
//! learns where it is.

use super::event::Events;
use super::header::Next;
use super::segment::{Flags, Segment};
use super::tcb::Tcb;

/// Ends of urgent data.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Urgent {
    /// SND.UP: position behind the last byte sent as urgent.
    send: u64,
    /// Offset in the receive stream behind the last byte that the peer marked; 0 if it marked none.
    received: u64,
}

impl Tcb {
    /// The application has written urgent data that ends at offset `end` of the send stream.
    pub fn written_urgent(&mut self, end: u64) {
        let up = end.saturating_add(1);
        if up <= self.snd.una {
            return;
        }
        let rare = self.rare.make();
        let urgent = &mut rare.marks.get_or_insert_default().urgent;
        if up > urgent.send {
            urgent.send = up;
            // Nagle's rule does not hold it back.
            rare.push_to = rare.push_to.max(up);
        }
    }

    /// Offset in the receive stream behind the last byte that the peer marked as urgent, which may
    /// not have come yet. `None` if it never marked any.
    pub fn urgent_end(&self) -> Option<u64> {
        let received = self.rare.marks.as_ref()?.urgent.received;
        (received > 0).then_some(received)
    }

    /// Whether the peer has yet to acknowledge urgent data.
    pub(super) fn is_urgent(&self) -> bool {
        let marks = self.rare.marks.as_ref();
        marks.is_some_and(|marks| marks.urgent.send > self.snd.una)
    }

    /// Sets the urgent pointer of a segment, as far as the field reaches.
    pub(super) fn mark_urgent(&self, next: &mut Next) {
        let Some(marks) = self.rare.marks.as_ref().filter(|_| self.is_urgent()) else {
            return;
        };
        let urgent = &marks.urgent;
        let Some(ahead) = urgent.send.checked_sub(next.at).filter(|ahead| *ahead > 0) else {
            return;
        };
        let reach = u64::from(u16::MAX);
        // One further ahead than the field reaches is told once all that is sent lies within reach.
        if ahead <= reach || next.at + reach > self.snd.nxt {
            next.flags |= Flags::URG;
            next.urgent = ahead.min(reach) as u16;
        }
    }

    /// Sixth of RFC 9293 3.10.7.4: a segment at position `seq` that may name urgent data. What was
    /// received before is not made urgent after the fact.
    pub(super) fn process_urgent(&mut self, segment: &Segment<'_>, seq: u64) -> Events {
        if !segment.flags.contains(Flags::URG) {
            return Events::NONE;
        }
        // Position of the last urgent byte, which is the offset behind it. A pointer of 0 names the
        // first byte, as one of 1 does.
        let last = seq + u64::from(segment.urgent.saturating_sub(1));
        if last < self.rcv.nxt || self.urgent_end().is_some_and(|end| end >= last) {
            return Events::NONE;
        }
        self.rare
            .make()
            .marks
            .get_or_insert_default()
            .urgent
            .received = last;
        Events::URGENT
    }
}
