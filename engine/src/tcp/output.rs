//! What to send next: retransmissions, new data as windows, Nagle and cork allow
//! (RFC 9293 3.7.4 and 3.8.6.2.1), FIN, probes, ACKs.

use core::ops::Range;

use super::event::Events;
use super::options::{Options, TIMESTAMPS_LEN};
use super::segment::{Flags, Outgoing};
use super::seq::SeqNum;
use super::tcb::{State, Tcb};
use super::time::Instant;

/// SACK blocks in an ACK: what fits beside timestamps.
const SACK_BLOCKS: usize = 3;

impl Tcb {
    /// The next segment to send, or `None`. `max_payload` is the biggest payload that the caller can
    /// take in one piece, at least [`mss`](Self::mss); above it, it asks for super-segments. A probe
    /// of the path may be as large as [`largest_segment`](Self::largest_segment) in any case. What is
    /// handed out counts as sent.
    pub fn poll_transmit(&mut self, now: Instant, max_payload: usize) -> Option<Outgoing> {
        if let Some(seq) = self.reset_seq.take() {
            return Some(self.bare_reset(seq));
        }
        let segment = match self.state {
            State::Closed => self.next_reset(now),
            State::SynSent | State::SynReceived => self.next_syn(now),
            _ => self.next_segment(now, max_payload as u64),
        };
        if segment.is_none() {
            self.arm_probe(now);
        } else {
            self.counters.segments_out = self.counters.segments_out.wrapping_add(1);
        }
        segment
    }

    /// A RST that answers an ACK which no SYN of ours explains.
    fn bare_reset(&self, seq: SeqNum) -> Outgoing {
        Outgoing {
            seq,
            ack: SeqNum(0),
            flags: Flags::RST,
            window: 0,
            urgent: 0,
            options: Options::default(),
            payload: 0..0,
            mss: self.mss,
        }
    }

    fn next_reset(&mut self, now: Instant) -> Option<Outgoing> {
        if !core::mem::take(&mut self.rst_due) {
            return None;
        }
        let options = Options {
            timestamps: self.ts.option(now),
            ..Options::default()
        };
        let mut reset = self.segment(self.snd.nxt, Flags::RST | Flags::ACK, options);
        reset.window = 0;
        Some(reset)
    }

    fn next_syn(&mut self, now: Instant) -> Option<Outgoing> {
        let answer = self.state == State::SynReceived;
        let due = core::mem::take(&mut self.syn_due) || (answer && self.ack.due);
        if !due {
            return None;
        }
        let flags = if answer {
            Flags::SYN | Flags::ACK
        } else {
            Flags::SYN
        };
        let options = self.syn_options(now);
        let window = self.rcv.advertise_in_syn();
        if self.timers.retransmit == Instant::NEVER {
            self.rtt.time_segment(1, now);
            self.arm_retransmit(now);
        }
        if answer {
            self.ack.on_sent(self.rcv.nxt);
        }
        Some(Outgoing {
            seq: self.iss,
            ack: if answer {
                self.irs.at(self.rcv.nxt)
            } else {
                SeqNum(0)
            },
            flags,
            window,
            urgent: 0,
            options,
            payload: 0..0,
            mss: self.mss,
        })
    }

    fn next_segment(&mut self, now: Instant, max_payload: u64) -> Option<Outgoing> {
        if self.path.forget(now) {
            self.update_mss();
        }
        let options = self.segment_options(now);
        // Blocks beside data take their room from it.
        let blocks = options.len() as u32 - if self.ts.on { TIMESTAMPS_LEN as u32 } else { 0 };
        let cut = u64::from(self.send_mss()).min(u64::from(self.mss) - u64::from(blocks));
        let cut = cut.min(max_payload).max(1);
        if let Some(segment) = self.next_retransmission(now, cut, max_payload, options) {
            return Some(segment);
        }
        if let Some(segment) = self.next_new_data(now, cut, max_payload, options) {
            return Some(segment);
        }
        if let Some(segment) = self.next_doubtful(now, cut, options) {
            return Some(segment);
        }
        if core::mem::take(&mut self.probe_due) {
            return Some(self.segment(self.snd.una - 1, Flags::ACK, options));
        }
        self.ack
            .due
            .then(|| self.segment(self.snd.nxt, Flags::ACK, options))
    }

    fn segment_options(&self, now: Instant) -> Options {
        let mut options = Options {
            timestamps: self.ts.option(now),
            ..Options::default()
        };
        if self.recovery.sack && !self.assembler.is_empty() {
            for range in self.assembler.most_recent(SACK_BLOCKS) {
                options
                    .sack
                    .push(self.irs.at(range.start), self.irs.at(range.end));
            }
        }
        options
    }

    /// Builds a segment without payload and notes that it carries the current ACK and window.
    fn segment(&mut self, at: u64, flags: Flags, options: Options) -> Outgoing {
        let window = self.rcv.advertise(self.set.own_mss.into());
        self.ack.on_sent(self.rcv.nxt);
        self.timers.delayed_ack = Instant::NEVER;
        Outgoing {
            seq: self.iss.at(at),
            ack: self.irs.at(self.rcv.nxt),
            flags,
            window,
            urgent: 0,
            options,
            payload: 0..0,
            mss: self.mss,
        }
    }

    /// Builds a segment of `range`, whose last position may be that of the FIN.
    fn data_segment(
        &mut self,
        now: Instant,
        range: Range<u64>,
        cut: u64,
        options: Options,
    ) -> Outgoing {
        let data_end = range.end.min(self.snd.end);
        let mut flags = Flags::ACK;
        if range.end > self.snd.end {
            flags |= Flags::FIN;
        }
        if data_end == self.snd.end && data_end > range.start {
            flags |= Flags::PSH;
        }
        if self.timers.retransmit == Instant::NEVER || self.snd.flight() == 0 {
            self.arm_retransmit(now);
        }
        self.ack.on_data_sent(now, self.set.delayed_ack.get());
        self.sent_at = now;
        let mut segment = self.segment(range.start, flags, options);
        segment.payload = range.start - 1..data_end.max(range.start) - 1;
        segment.mss = cut as u16;
        segment
    }

    pub(super) fn pipe(&self) -> u64 {
        self.recovery
            .pipe(self.snd.una, self.snd.nxt, self.send_mss().into())
    }

    /// Room that the congestion window leaves. A window of one segment may be from when segments
    /// were smaller, because the peer's window was.
    pub(super) fn congestion_room(&self) -> u64 {
        u64::from(self.cc.cwnd().max(self.send_mss())).saturating_sub(self.pipe())
    }

    fn next_retransmission(
        &mut self,
        now: Instant,
        cut: u64,
        max_payload: u64,
        options: Options,
    ) -> Option<Outgoing> {
        if !self.recovering() {
            return None;
        }
        let (hole, first) = self
            .recovery
            .next_lost(self.snd.una, self.send_mss().into())?;
        let room = self.congestion_room();
        let room = if first || self.pipe() == 0 {
            room.max(cut)
        } else {
            room
        };
        let range = self.piece(hole, cut, room.min(max_payload))?;
        Some(self.retransmit(now, range, cut, options))
    }

    /// Fast recovery has room but neither a certain loss nor new data.
    fn next_doubtful(&mut self, now: Instant, cut: u64, options: Options) -> Option<Outgoing> {
        if !self.recovering() || self.congestion_room() < cut {
            return None;
        }
        let (una, nxt) = (self.snd.una, self.snd.nxt);
        let range = self
            .recovery
            .next_doubtful(una, nxt, self.send_mss().into())?;
        let range = self.piece(range, cut, cut)?;
        Some(self.retransmit(now, range, cut, options))
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

    fn retransmit(
        &mut self,
        now: Instant,
        range: Range<u64>,
        cut: u64,
        options: Options,
    ) -> Outgoing {
        self.recovery.on_retransmit(&range);
        self.rtt.on_retransmit(&range);
        let segments = (range.end - range.start).div_ceil(cut) as u32;
        self.counters.retransmits = self.counters.retransmits.saturating_add(segments);
        self.data_segment(now, range, cut, options)
    }

    fn next_new_data(
        &mut self,
        now: Instant,
        cut: u64,
        max_payload: u64,
        options: Options,
    ) -> Option<Outgoing> {
        if self.fin_sent {
            return None;
        }
        let (nxt, end) = (self.snd.nxt, self.snd.end);
        let waiting = end - nxt;
        if waiting == 0 && !self.fin_wanted {
            return None;
        }
        if self.snd.flight() == 0 {
            self.restart_after_idle(now);
        }
        if let Some(probe) = self.next_probe(now, options) {
            return Some(probe);
        }
        let usable = self.snd.usable();
        if waiting == 0 {
            return (usable > 0).then(|| self.send_new(now, nxt..end + 1, cut, options));
        }
        let room = usable.min(self.congestion_room());
        if waiting > room && usable > room {
            self.window_full_at = nxt.max(1);
        }
        let mut len = waiting.min(room).min(max_payload);
        let tail = len % cut;
        if len < waiting || !self.may_send_tail(now, len, tail) {
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
        let fin = self.fin_wanted && len == waiting && usable > len;
        let to = nxt + len + u64::from(fin);
        Some(self.send_new(now, nxt..to, cut, options))
    }

    /// RFC 5681 section 4.1: after a silence, the window has to be tried anew.
    fn restart_after_idle(&mut self, now: Instant) {
        if now.since(self.sent_at) > self.rtt.rto() && self.snd.nxt > 1 {
            let window = self.initial_window();
            self.cc.get_mut().on_idle(now, window);
        }
    }

    /// Whether the last `tail` bytes of what is written, less than a segment, may go now: Nagle's
    /// rule (RFC 9293 3.7.4) in Minshall's variant, which minds only small segments in flight.
    fn may_send_tail(&mut self, now: Instant, len: u64, tail: u64) -> bool {
        if tail == 0 || self.fin_wanted || self.push_to >= self.snd.nxt + len {
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

    pub(super) fn send_new(
        &mut self,
        now: Instant,
        range: Range<u64>,
        cut: u64,
        options: Options,
    ) -> Outgoing {
        if self.snd.flight() == 0 {
            self.progress_at = now;
        }
        let segment = self.data_segment(now, range.clone(), cut, options);
        let len = segment.payload_len() as u64;
        if range.end > self.snd.end {
            self.fin_sent = true;
        }
        self.snd.nxt = range.end;
        if !len.is_multiple_of(cut) {
            self.snd.small = range.end;
        }
        if range.end >= self.snd.end {
            self.timers.cork = Instant::NEVER;
        }
        if self.recovery.sack || !self.recovering() {
            self.rtt.time_segment(range.end, now);
        }
        segment
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

    fn fin_due(&self) -> bool {
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
        let due = self.ack.due || self.syn_due || self.rst_due || self.reset_seq.is_some();
        if due { Events::SEND } else { Events::NONE }
    }
}
