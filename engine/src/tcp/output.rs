//! What to send next: retransmissions, new data as windows, Nagle and cork allow
//! (RFC 9293 3.7.4 and 3.8.6.2.1), FIN, probes, ACKs.

use core::ops::Range;

use super::acknowledge::clamp_u32;
use super::event::Events;
use super::header::Next;
use super::recovery::Watch;
use super::segment::{Flags, Outgoing};
use super::tcb::{State, Tcb};
use super::time::Instant;

/// What leaves next: positions, the last of which may be that of the FIN, in segments of `cut` bytes.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) range: Range<u64>,
    pub(super) cut: u64,
}

/// What whole segments of `cut` bytes leave of `len` bytes. Most often there is less than one, and a
/// division takes longer than to see that.
#[inline]
pub(super) fn tail_of(len: u64, cut: u64) -> u64 {
    if len < cut { len } else { len % cut }
}

impl Tcb {
    /// The next segment to send, or `None`. `max_payload` is the biggest payload that the caller can
    /// take in one piece, at least [`mss`](Self::mss); above it, it asks for super-segments. A probe
    /// of the path may be as large as [`largest_segment`](Self::largest_segment) in any case. What is
    /// handed out counts as sent.
    #[inline]
    pub fn poll_transmit(&mut self, now: Instant, max_payload: usize) -> Option<Outgoing> {
        if self.has_no_more(now) {
            return None;
        }
        self.next_outgoing(now, max_payload)
    }

    /// Whether a quick look shows that there is nothing to send.
    #[inline]
    pub fn has_no_more(&mut self, now: Instant) -> bool {
        if self.is_at_rest() {
            self.rest(now);
            return true;
        }
        let waits = self.only_waits();
        if waits {
            self.note_limit(now);
        }
        waits
    }

    /// What [`poll_transmit`](Self::poll_transmit) gives if [`has_no_more`](Self::has_no_more) has just
    /// said that there may be something.
    pub fn next_outgoing(&mut self, now: Instant, max_payload: usize) -> Option<Outgoing> {
        match self.next_plain(now, max_payload as u64) {
            Ok(next) => next,
            Err(_) => self.next_of_any_kind(now, max_payload),
        }
    }

    #[inline(never)]
    fn next_of_any_kind(&mut self, now: Instant, max_payload: usize) -> Option<Outgoing> {
        if let Some(seq) = self.rare.if_any().and_then(|rare| rare.reset_seq.take()) {
            return Some(self.bare_reset(seq));
        }
        if let Some(ack) = self.next_owed_ack(now) {
            return Some(ack);
        }
        let nxt = self.snd.nxt;
        let next = match self.state {
            State::SynSent | State::SynReceived if self.syn_due || !self.is_open_early() => {
                return self.next_syn(now);
            }
            State::Closed => self.next_reset(),
            _ => self.next_segment(now, max_payload as u64),
        };
        let Some(next) = next.or_else(|| self.reset_behind_data()) else {
            self.arm_probe(now);
            self.note_limit(now);
            return None;
        };
        Some(self.segment(now, next, nxt))
    }

    /// An open connection that owes the peer nothing, neither data nor an answer.
    fn is_at_rest(&self) -> bool {
        let open = !matches!(
            self.state,
            State::SynSent | State::SynReceived | State::Closed
        );
        open && !self.ack.due
            && !self.probe_due
            && !self.rst_wanted
            && !self.has_data()
            && !self.owes_acks()
            && self.rare.reset_seq.is_none()
    }

    /// A connection that is not open, with nothing to send for that.
    fn only_waits(&self) -> bool {
        let waits = match self.state {
            State::SynSent => !self.syn_due && !self.is_open_early(),
            State::Closed => !self.rst_due && !self.rst_wanted,
            _ => false,
        };
        waits && self.rare.is_calm()
    }

    /// All is sent: notes what that means.
    fn rest(&mut self, now: Instant) {
        self.forget_path(now);
        self.recovery.paced = false;
        self.note_starvation();
        let limit = self.limit_when_all_is_sent();
        self.set_limit(now, limit);
    }

    /// A path limit that has been told long ago is tried anew.
    fn forget_path(&mut self, now: Instant) {
        if self.path.forget(now) {
            self.update_mss();
        }
    }

    fn next_reset(&mut self) -> Option<Next> {
        if !core::mem::take(&mut self.rst_due) {
            return None;
        }
        if let Some(rare) = self.rare.if_any() {
            rare.marks = None;
        }
        Some(self.without_data(self.snd.nxt, Flags::RST | Flags::ACK))
    }

    /// The RST that had to wait for what was written.
    fn reset_behind_data(&mut self) -> Option<Next> {
        if !core::mem::take(&mut self.rst_wanted) {
            return None;
        }
        self.abort();
        self.next_reset()
    }

    fn next_segment(&mut self, now: Instant, max_payload: u64) -> Option<Next> {
        self.forget_path(now);
        let max_payload = if self.ecn.cwr_due() {
            self.mss.into()
        } else {
            max_payload
        };
        if !self.has_data() {
            self.recovery.paced = false;
        } else if let Some(piece) = self.next_piece(now, max_payload) {
            return Some(self.with_data(now, &piece));
        }
        let probe = core::mem::take(&mut self.probe_due);
        if !probe && !self.ack.due {
            self.note_application_limit();
            return None;
        }
        let at = if probe {
            self.snd.una - 1
        } else {
            self.snd.nxt
        };
        Some(self.without_data(at, Flags::ACK))
    }

    /// Whether there is anything to look for: new, lost, or for a tail loss probe.
    fn has_data(&self) -> bool {
        self.snd.end > self.snd.nxt
            || self.fin_due()
            || self.sent.is_repairing()
            || self.recovery.tail_probe_due
    }

    fn next_piece(&mut self, now: Instant, max_payload: u64) -> Option<Piece> {
        // Blocks beside data take their room from it.
        let room = u64::from(self.mss) - self.blocks_len() as u64;
        let cut = u64::from(self.send_mss()).min(room);
        let cut = cut.min(max_payload).max(1);
        // The urgent pointer is right for one segment only, and who takes no super-segments takes no
        // more than the blocks leave.
        let one = self.is_urgent() || max_payload <= self.mss.into();
        let max_payload = if one { cut } else { max_payload };
        if self.recovery.tail_probe_due
            && let Some(probe) = self.next_tail_probe(now, cut)
        {
            return Some(probe);
        }
        self.next_data(now, cut, max_payload)
    }

    /// Data, lost or new, if its time has come.
    fn next_data(&mut self, now: Instant, cut: u64, max_payload: u64) -> Option<Piece> {
        let max_payload = self.paced_burst(now, max_payload, cut);
        self.recovery.paced = max_payload.is_none() && self.has_data_to_send();
        let max_payload = max_payload?;
        if self.sent.is_repairing()
            && let Some(lost) = self.next_retransmission(now, cut, max_payload)
        {
            return Some(lost);
        }
        if let Some(new) = self.next_new_data(now, cut, max_payload) {
            return Some(new);
        }
        if !self.recovery.new_data_first || self.snd.nxt > self.recovery.point {
            return None;
        }
        // No new data can go to find out about the timeout (RFC 5682 section 2.1 step 2b).
        self.recovery.new_data_first = false;
        self.recovery.frto = false;
        self.next_retransmission(now, cut, max_payload)
    }

    /// Whether data could leave but for pacing.
    fn has_data_to_send(&mut self) -> bool {
        let new = self.snd.end > self.snd.nxt && self.snd.usable() > 0;
        let room = self.congestion_room() > 0;
        (room && (new || self.sent.next_lost().is_some())) || (self.fin_due() && !new)
    }

    /// Room that the congestion window leaves. A window of one segment may be from when segments
    /// were smaller, because the peer's window was.
    pub(super) fn congestion_room(&self) -> u64 {
        u64::from(self.cc.cwnd().max(self.send_mss())).saturating_sub(self.pipe())
    }

    /// Nothing is left to send although the window has room: what is under way measures the
    /// application rather than the network.
    pub(super) fn note_application_limit(&mut self) {
        if self.snd.end.saturating_sub(self.snd.nxt) < u64::from(self.mss) {
            self.note_starvation();
        }
    }

    fn note_starvation(&mut self) {
        let pipe = self.pipe();
        if pipe < u64::from(self.cc.cwnd()) {
            self.rate.limit_by_application(pipe);
        }
    }

    fn next_new_data(&mut self, now: Instant, cut: u64, max_payload: u64) -> Option<Piece> {
        if self.fin_sent {
            return None;
        }
        let nxt = self.snd.nxt;
        let end = self.record_end(&(nxt..self.snd.end));
        let waiting = end - nxt;
        if waiting == 0 && !self.fin_wanted {
            return None;
        }
        if self.snd.flight() == 0 {
            self.restart_after_idle(now);
        }
        if let Some(probe) = self.next_probe(now) {
            return Some(probe);
        }
        let usable = self.snd.usable();
        if waiting == 0 {
            return (usable > 0).then(|| self.send_new(now, nxt..end + 1, cut));
        }
        let room = usable.min(self.congestion_room());
        if waiting > room && usable > room {
            self.note_usage(true);
        }
        let mut len = waiting.min(room).min(max_payload);
        let tail = tail_of(len, cut);
        // Nagle's rule is for what more may be written to.
        let ended = end < self.snd.end;
        if len < waiting || !(ended || self.may_send_tail(now, len, tail)) {
            len -= tail;
        }
        let narrow = self.snd.flight() == 0 && usable < waiting.min(cut);
        let half = narrow && usable >= self.half_window();
        if len == 0 && (half || core::mem::take(&mut self.squeeze)) {
            len = waiting.min(usable).min(cut);
        }
        if len == 0 {
            return None;
        }
        let fin = self.fin_wanted && nxt + len == self.snd.end && usable > len;
        let to = nxt + len + u64::from(fin);
        Some(self.send_new(now, nxt..to, cut))
    }

    /// RFC 5681 section 4.1: after a silence, the window has to be tried anew.
    fn restart_after_idle(&mut self, now: Instant) {
        if self.was_silent(now) {
            let window = self.initial_window();
            self.cc.get_mut().on_idle(now, window);
        }
    }

    /// Whether the window has to be tried anew, if nothing is in flight.
    pub(super) fn was_silent(&self, now: Instant) -> bool {
        self.snd.nxt > 1
            && self.set.slow_start_after_idle
            && now.since(self.sent_at) > self.rtt.rto()
    }

    /// Whether the last `tail` bytes of what is written, less than a segment, may go now: Nagle's
    /// rule (RFC 9293 3.7.4) in Minshall's variant, which minds only small segments in flight.
    pub(super) fn may_send_tail(&mut self, now: Instant, len: u64, tail: u64) -> bool {
        if tail == 0
            || self.fin_wanted
            || self.recovery.new_data_first
            || self.rare.push_to >= self.snd.nxt + len
        {
            return true;
        }
        if self.set.cork || self.more {
            if self.timers.cork == Instant::NEVER {
                self.timers.cork = now + self.set.cork_limit.get();
            }
            return false;
        }
        self.set.nodelay || self.snd.small <= self.snd.una
    }

    pub(super) fn send_new(&mut self, now: Instant, range: Range<u64>, cut: u64) -> Piece {
        self.note_new_data(now, range.clone(), cut);
        Piece { range, cut }
    }

    /// New data leaves, or a FIN: notes all that follows from it.
    #[inline(always)]
    pub(super) fn note_new_data(&mut self, now: Instant, range: Range<u64>, cut: u64) {
        let idle = self.snd.flight() == 0;
        if idle {
            self.progress_at = now;
        }
        let stamp = self.stamp(now, range.end - range.start);
        let segments = self.segments_in(&range, cut);
        let len = range.end.min(self.snd.end) - range.start.min(self.snd.end);
        if range.end > self.snd.end {
            self.fin_sent = true;
        }
        self.snd.nxt = range.end;
        if tail_of(len, cut) > 0 {
            self.snd.small = range.end;
        }
        if range.end >= self.snd.end {
            self.timers.cork = Instant::NEVER;
        }
        if let Some(repair) = self.repair.if_any() {
            repair.prr.on_sent(range.end - range.start);
        }
        self.pace(now, len);
        self.sent.push(range, segments, cut as u16, stamp);
        self.note_usage(self.congestion_room() < u64::from(self.send_mss()));
        self.watch_flight(now, idle);
    }

    /// Notes how much of the congestion window is in use.
    pub(super) fn note_usage(&mut self, limited: bool) {
        let flight = clamp_u32(self.snd.flight());
        let (una, nxt) = (self.snd.una, self.snd.nxt);
        self.usage.note(una, nxt, flight, limited);
    }

    /// New data left: something has to watch for its ACK.
    fn watch_flight(&mut self, now: Instant, idle: bool) {
        if self.state == State::SynReceived {
            // The timer of the handshake watches over all (RFC 7413 section 4.2.2).
            return;
        }
        if self.recovery.tail_probe_due || self.watch_for_tail_loss(now, idle) {
            return;
        }
        if idle || self.timers.retransmit == Instant::NEVER {
            self.arm_retransmit(now);
        } else if self.recovery.watch == Watch::TailLoss {
            let at = self.timeout_of_first(now).max(now);
            self.arm(Watch::Timeout, at);
        }
    }

    /// Whether something waits that only the peer's window holds back, with nothing in flight whose
    /// acknowledgement could open it.
    pub(super) fn blocked_by_window(&self) -> bool {
        let waiting = self.snd.end.saturating_sub(self.snd.nxt) + u64::from(self.fin_due());
        let enough = waiting.min(self.send_mss().into()).min(self.half_window());
        self.snd.flight() == 0 && waiting > 0 && self.snd.usable() < enough
    }

    /// Half of the largest window that the peer ever offered: as good as a full segment when nothing
    /// is in flight (RFC 9293 3.8.6.2.1).
    fn half_window(&self) -> u64 {
        u64::from(self.snd.max_wnd.div_ceil(2).max(1))
    }

    pub(super) fn fin_due(&self) -> bool {
        self.fin_wanted && !self.fin_sent
    }

    /// Nothing can go out: if the window is to blame, someone has to ask for it.
    fn arm_probe(&mut self, now: Instant) {
        let synchronized = !matches!(
            self.state,
            State::SynSent | State::SynReceived | State::Closed
        );
        if synchronized && self.timers.retransmit == Instant::NEVER && self.blocked_by_window() {
            self.progress_at = now;
            self.arm_retransmit(now);
        }
    }

    /// [`Events::SEND`] if something is surely due.
    pub fn pending(&self) -> Events {
        let due = self.ack.due || self.syn_due || self.rst_due || self.rare.reset_seq.is_some();
        if due { Events::SEND } else { Events::NONE }
    }
}
