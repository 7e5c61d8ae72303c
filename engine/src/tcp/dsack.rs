//! Duplicate SACK (RFC 2883): which segments arrived twice.

use core::ops::Range;

use super::news::News;
use super::tcb::Tcb;

impl Tcb {
    /// Of a segment with `range`, notes what was received before, to be reported once (section 4):
    /// what lies below RCV.NXT, or else what overlaps something received out of order.
    pub(super) fn note_duplicate(&mut self, range: Range<u64>) {
        if !self.recovery.sack || !self.set.dsack || range.is_empty() {
            return;
        }
        let old = range.start..range.end.min(self.rcv.nxt);
        let duplicate = if old.is_empty() {
            self.rare.assembler.overlap(&range)
        } else {
            Some(old)
        };
        if duplicate.is_some() {
            self.rare.make().duplicate = duplicate;
        }
    }

    /// If the first of the SACK blocks reports a duplicate, takes it out of them and notes it.
    pub(super) fn take_dsack(&mut self, blocks: &mut [(u64, u64)], ack: u64, news: &mut News) {
        let [first, rest @ ..] = blocks else {
            return;
        };
        let (left, right) = *first;
        // Section 4: it lies below the ACK, or inside the block that follows.
        let inside = |(from, to): &(u64, u64)| *from <= left && right <= *to;
        let duplicate = left < ack || rest.first().is_some_and(inside);
        if left == 0 || left >= right || !duplicate {
            return;
        }
        *first = (0, 0);
        if right - left <= u64::from(self.snd.max_wnd) {
            self.on_dsack(left..right, news);
        }
    }

    fn on_dsack(&mut self, range: Range<u64>, news: &mut News) {
        let mss = u64::from(self.send_mss());
        let segments = u32::try_from((range.end - range.start).div_ceil(mss)).unwrap_or(u32::MAX);
        news.dsack_of_probe = segments == 1
            && self.recovery.is_repeating_probe()
            && self.recovery.probe_end == range.end;
        let repair = self.repair.make();
        let counters = &mut repair.incidents;
        counters.dsacks = counters.dsacks.saturating_add(segments);
        if counters.dsacks > counters.retransmits {
            // The network duplicates, or the peer invents.
            return;
        }
        news.dsack = true;
        repair.reordering.dsack |= repair.reordering.seen > 0 && !news.dsack_of_probe;
        repair.undo.on_duplicates(segments, range.end);
    }
}
