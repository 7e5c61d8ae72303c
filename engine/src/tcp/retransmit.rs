//! What is sent again: what is lost, as far as the congestion window allows, and the tail loss probe.

use core::ops::Range;

use super::acknowledge::clamp_u32;
use super::output::Piece;
use super::rate::Stamp;
use super::recovery::Watch;
use super::tcb::Tcb;
use super::time::Instant;

impl Tcb {
    pub(super) fn next_retransmission(
        &mut self,
        now: Instant,
        cut: u64,
        max_payload: u64,
    ) -> Option<Piece> {
        if self.recovery.new_data_first {
            return None;
        }
        let lost = self.sent.next_lost()?;
        let lost = lost.start..self.record_end(&lost);
        let first = lost.start == self.snd.una;
        // What a timeout repeats waits for nothing (RFC 6298 section 5.4).
        let unconditional = self.pipe() == 0 || (first && self.retries > 0);
        let least = if unconditional { cut } else { 0 };
        let room = self.congestion_room().max(least);
        let range = self.piece(lost, cut, room.min(max_payload))?;
        let piece = self.retransmit(now, range, cut, false);
        if first && self.recovery.watch != Watch::Reordering {
            self.arm_retransmit(now);
        }
        Some(piece)
    }

    /// The tail loss probe: new data, even beyond the congestion window, or else the last segment
    /// (RFC 8985 section 7.3).
    pub(super) fn next_tail_probe(&mut self, now: Instant, cut: u64) -> Option<Piece> {
        let nxt = self.snd.nxt;
        let end = self.record_end(&(nxt..self.snd.end.max(nxt)));
        let len = (end - nxt).min(cut);
        let new = len > 0 && self.snd.usable() >= len;
        let piece = if new {
            self.send_new(now, nxt..nxt + len, cut)
        } else {
            // It may have left when segments were larger.
            let last = self.sent.last_segment()?;
            let data_end = last.end.min(self.snd.end);
            let start = last.start.max(data_end.saturating_sub(cut));
            let start = self.record_start(&(start..data_end));
            self.retransmit(now, start..last.end, cut, true)
        };
        self.recovery.begin_probe(self.snd.nxt, !new);
        let counters = self.repair.count();
        counters.tail_probes = counters.tail_probes.saturating_add(1);
        Some(piece)
    }

    /// As much from the start of `range` as `room` takes, cut into full segments unless all fits.
    fn piece(&self, range: Range<u64>, cut: u64, room: u64) -> Option<Range<u64>> {
        // A FIN rides on the last segment and takes no room.
        let data = range.end.min(self.snd.end).saturating_sub(range.start);
        if data <= room {
            return Some(range);
        }
        let whole = room - room % cut;
        (whole > 0).then(|| range.start..range.start + whole)
    }

    fn retransmit(&mut self, now: Instant, range: Range<u64>, cut: u64, probe: bool) -> Piece {
        let bytes = range.end - range.start;
        let segments = self.segments_in(&range, cut);
        let stamp = self.stamp(now, if probe { 0 } else { bytes });
        self.sent.resend(&range, segments, cut as u16, stamp, probe);
        self.pace(now, bytes);
        if !probe {
            self.repair.make().undo.on_resend(now, segments);
            self.repair.make().prr.on_sent(bytes);
        }
        let counters = self.repair.count();
        counters.retransmits = counters.retransmits.saturating_add(segments);
        counters.bytes_resent = counters.bytes_resent.saturating_add(bytes as u32);
        Piece { range, cut }
    }

    /// Segments of `cut` bytes that `range` takes; a FIN at its end rides on the last one.
    pub(super) fn segments_in(&self, range: &Range<u64>, cut: u64) -> u32 {
        let data = range.end.min(self.snd.end).saturating_sub(range.start);
        if data <= cut {
            return 1;
        }
        u32::try_from(data.div_ceil(cut)).unwrap_or(u32::MAX)
    }

    /// The connection as a segment of `bytes` leaves; congestion control is told.
    #[inline]
    pub(super) fn stamp(&mut self, now: Instant, bytes: u64) -> Stamp {
        let pipe = self.pipe();
        let limited = self.rate.is_app_limited();
        self.cc.on_sent(now, clamp_u32(pipe), limited);
        self.rate.stamp(now, pipe + bytes, self.snd.flight() == 0)
    }
}
