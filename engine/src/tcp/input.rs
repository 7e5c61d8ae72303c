//! Segment arrives (RFC 9293 section 3.10.7), with RFC 5961's checks against blind attackers and
//! RFC 7323's against old duplicates.

use super::ack::Answer;
use super::event::{Drop, Error, Events};
use super::segment::{Flags, Segment};
use super::tcb::{RecvStream, State, Tcb};
use super::time::{Duration, Instant};
use super::window::NO_FIN;

/// Whether common segments take a short cut; tests compare it with the long way.
pub(super) fn predicts() -> bool {
    #[cfg(test)]
    return super::tests::PREDICTS.get();
    #[cfg(not(test))]
    true
}

impl Tcb {
    /// Takes a segment that was demultiplexed to this connection, its checksum verified.
    ///
    /// # Errors
    /// The reason if the segment was dropped as a whole. A drop may still oblige an answer: call
    /// [`poll_transmit`](Self::poll_transmit) in either case. If only the payload was refused, the
    /// events say so ([`Events::payload_drop`]).
    pub fn on_segment<R: RecvStream>(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        rx: &mut R,
    ) -> Result<Events, Drop> {
        self.traffic
            .on_received(segment.payload.len(), segment.wire_payload());
        let events = match self.state {
            State::Closed => Err(Drop::Closed),
            State::SynSent => self.on_segment_in_syn_sent(now, segment, rx),
            State::Established if self.is_expected(now, segment) => {
                Ok(self.on_expected(now, segment, rx))
            }
            _ => self.on_segment_synchronized(now, segment, rx),
        }?;
        Ok(events | self.pending())
    }

    /// Header prediction: the next data or a plain ACK on an orderly connection.
    fn is_expected(&self, now: Instant, segment: &Segment<'_>) -> bool {
        let plain = Flags(segment.flags.0 & !Flags::PSH.0) == Flags::ACK;
        let stamped = match segment.options.timestamps {
            Some((value, _)) => !self.ts.on || !self.ts.is_old(now, value),
            None => !self.ts.on,
        };
        let ack = segment.ack.offset_from(self.iss.at(self.snd.una));
        predicts()
            && plain
            && stamped
            && segment.seq == self.irs.at(self.rcv.nxt)
            && segment.payload.len() as u64 <= self.rcv.window()
            && !self.orphan
            && !self.deaf
            && self.rcv.fin == NO_FIN
            && self.rare.assembler.is_empty()
            && segment.options.sack.is_empty()
            && ack >= 0
            && ack as u64 <= self.snd.flight()
    }

    fn on_expected<R: RecvStream>(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        rx: &mut R,
    ) -> Events {
        let seq = self.rcv.nxt;
        self.update_ts_recent(now, segment, seq);
        let ack = self.snd.una + u64::from(segment.ack.0.wrapping_sub(self.iss.at(self.snd.una).0));
        if segment.payload.is_empty() || ack > self.snd.una {
            // As Linux, data that acknowledges nothing new is no ACK.
            self.ack_at = now;
        }
        let events = self.on_acceptable_ack(now, segment, seq, ack);
        if segment.payload.is_empty() {
            return events;
        }
        self.take_mark(segment);
        if rx.store(seq - 1, segment.payload).is_err() {
            self.ack.on_disorder();
            return events | Events::NO_ROOM;
        }
        self.rcv.nxt = seq + segment.payload.len() as u64;
        self.acknowledge_data(now, segment, segment.payload.len());
        events | Events::READABLE
    }

    /// All states but CLOSED and SYN-SENT (RFC 9293 3.10.7.4), in the order given there.
    fn on_segment_synchronized<R: RecvStream>(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        rx: &mut R,
    ) -> Result<Events, Drop> {
        let flags = segment.flags;
        if self.ts.on && !flags.contains(Flags::RST) {
            match segment.options.timestamps {
                None => return Err(Drop::NoTimestamp),
                Some((value, _)) if self.ts.is_old(now, value) => {
                    self.answer_unacceptable(now, segment);
                    return Err(Drop::Paws);
                }
                Some(_) => {}
            }
        }
        if self.completes_simultaneous_open(segment) {
            let events = self.process_ack(now, segment, 1)?;
            self.update_ts_recent(now, segment, 0);
            // The peer's SYN-ACK may be the only one that comes through.
            self.ack.due = true;
            return Ok(events | self.process_text(now, segment, 1, rx));
        }
        let seq = match self.check_sequence(segment) {
            Ok(seq) => seq,
            Err(reason) => {
                self.on_unacceptable(now, segment);
                return Err(reason);
            }
        };
        if flags.contains(Flags::RST) {
            return self.on_reset(now, seq);
        }
        if flags.contains(Flags::SYN) {
            self.challenge(now);
            return Err(Drop::UnexpectedSyn);
        }
        if !flags.contains(Flags::ACK) {
            return Err(Drop::NoAck);
        }
        let mut events = self.process_ack(now, segment, seq)?;
        // Not before: a forged ACK must not bring a timestamp that makes true ones look old.
        self.update_ts_recent(now, segment, seq);
        if matches!(
            self.state,
            State::Established | State::FinWait1 | State::FinWait2
        ) {
            events |= self.process_urgent(segment, seq);
            events |= self.process_text(now, segment, seq, rx);
        }
        Ok(events)
    }

    /// Both ends sent a SYN, and this is the peer's SYN-ACK: the number of its SYN is not new, but its
    /// ACK is (RFC 9293 figure 8).
    fn completes_simultaneous_open(&self, segment: &Segment<'_>) -> bool {
        self.state == State::SynReceived
            && segment.flags.contains(Flags::SYN | Flags::ACK)
            && !segment.flags.contains(Flags::RST)
            && segment.seq == self.irs
            && segment.ack == self.iss.at(1)
    }

    /// First: the segment has to touch the receive window. A bare ACK may stand at its right edge as
    /// well, where the ACKs of a sender that has filled the window stand.
    fn check_sequence(&self, segment: &Segment<'_>) -> Result<u64, Drop> {
        let reset = segment.flags.contains(Flags::RST);
        let seq = match self.recv_position(segment.seq) {
            Some(seq) => seq,
            None if reset => return Err(Drop::ResetOutOfWindow),
            None => return Err(Drop::OldDuplicate),
        };
        let len = u64::from(segment.seq_len());
        let (nxt, edge) = (self.rcv.nxt, self.rcv.edge.max(self.rcv.nxt));
        let old = if len == 0 {
            seq < nxt
        } else {
            seq + len <= nxt
        };
        let beyond = if len == 0 {
            seq > edge
        } else {
            seq >= edge.max(nxt + 1)
        };
        match (old || beyond, reset, old) {
            (false, ..) => Ok(seq),
            (true, true, _) => Err(Drop::ResetOutOfWindow),
            (true, false, true) => Err(Drop::OldDuplicate),
            (true, false, false) => Err(Drop::OutOfWindow),
        }
    }

    fn on_unacceptable(&mut self, now: Instant, segment: &Segment<'_>) {
        let flags = segment.flags;
        if flags.contains(Flags::RST) {
            return;
        }
        if self.state == State::SynReceived && flags.contains(Flags::SYN) {
            // Our SYN-ACK was lost: it is the acknowledgement.
            if now >= self.rare.challenge_at {
                self.rare.make().challenge_at = now + self.set.answer_interval();
                self.syn_due = true;
            }
            return;
        }
        if self.state == State::TimeWait && flags.contains(Flags::FIN) {
            self.timers.end = now + self.set.time_wait.get();
        }
        self.answer_unacceptable(now, segment);
    }

    /// An unacceptable segment is answered with an ACK: always if it carries something, else at a
    /// bounded rate, so that two ends never answer ACKs with ACKs.
    fn answer_unacceptable(&mut self, now: Instant, segment: &Segment<'_>) {
        let fin = segment.flags.contains(Flags::FIN);
        if let Some(seq) = self.recv_position(segment.seq)
            && seq < self.rcv.nxt
        {
            let end = seq + segment.payload.len() as u64 + u64::from(fin);
            self.note_duplicate(seq..end);
        }
        let carries = !segment.payload.is_empty() || fin;
        if carries && !segment.flags.contains(Flags::SYN) {
            self.ack.on_disorder();
        } else {
            self.challenge(now);
        }
    }

    /// Sends a challenge ACK (RFC 5961 section 3.2), at a bounded rate (section 10).
    pub(super) fn challenge(&mut self, now: Instant) {
        if now >= self.rare.challenge_at {
            self.rare.make().challenge_at = now + self.set.answer_interval();
            self.ack.due = true;
        }
    }

    /// Second: RST. Only one with exactly the next sequence number is believed (RFC 5961 3.2).
    fn on_reset(&mut self, now: Instant, seq: u64) -> Result<Events, Drop> {
        if seq != self.rcv.nxt {
            self.challenge(now);
            return Err(Drop::ResetUnproven);
        }
        let error = match self.state {
            State::SynReceived if !self.is_open_early() => Error::Refused,
            State::CloseWait => Error::BrokenPipe,
            // Everything was exchanged: the application has nothing to learn.
            State::Closing | State::LastAck | State::TimeWait if self.snd.una >= self.snd.end => {
                return Ok(self.enter_closed());
            }
            _ => Error::Reset,
        };
        Ok(self.fail(error))
    }

    fn update_ts_recent(&mut self, now: Instant, segment: &Segment<'_>, seq: u64) {
        if let Some((value, _)) = segment.options.timestamps
            && self.ts.on
            && seq <= self.ack.last_sent
        {
            self.ts.update(now, value);
        }
    }

    /// Seventh and eighth: payload and FIN. `seq` is the position of the first payload byte.
    pub(super) fn process_text<R: RecvStream>(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        seq: u64,
        rx: &mut R,
    ) -> Events {
        if segment.payload.is_empty() && !segment.flags.contains(Flags::FIN) {
            return Events::NONE;
        }
        if !segment.payload.is_empty() {
            self.take_mark(segment);
        }
        let end = seq + segment.payload.len() as u64;
        let limit = self.rcv.edge.min(self.rcv.fin);
        if segment.flags.contains(Flags::FIN)
            && self.rcv.fin == NO_FIN
            && end <= self.rcv.edge
            && end >= self.rcv.nxt.max(self.rare.assembler.end())
        {
            self.rcv.fin = end;
        }
        if seq < self.rcv.nxt || !self.rare.assembler.is_empty() {
            self.note_duplicate(seq..end.min(self.rcv.edge));
        }
        // Trim to what is new and inside the window.
        let (from, to) = (seq.max(self.rcv.nxt), end.min(limit));
        let mut events = Events::NONE;
        if from < to {
            let ours_is_closed = matches!(self.state, State::FinWait1 | State::FinWait2);
            if self.orphan || self.deaf && ours_is_closed {
                return self.refuse_data(segment);
            }
            let data = &segment.payload[(from - seq) as usize..(to - seq) as usize];
            events |= self.store(now, segment, from, data, rx);
        } else if !segment.payload.is_empty() {
            self.ack.on_disorder();
        }
        if self.rcv.fin == self.rcv.nxt {
            events |= self.on_fin(now);
        } else if segment.flags.contains(Flags::FIN) {
            self.ack.on_disorder();
        }
        events
    }

    fn store<R: RecvStream>(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        from: u64,
        data: &[u8],
        rx: &mut R,
    ) -> Events {
        let to = from + data.len() as u64;
        if rx.store(from - 1, data).is_err() {
            self.ack.on_disorder();
            return Events::NO_ROOM;
        }
        if from > self.rcv.nxt {
            self.ack.on_disorder();
            let segments = segment
                .payload
                .len()
                .div_ceil(segment.wire_payload().max(1));
            let counters = self.repair.count();
            counters.out_of_order = counters.out_of_order.saturating_add(segments as u32);
            if !self.recovery.sack {
                self.ack.owe_duplicates(segments);
            }
            return match self.rare.make().assembler.insert(from..to) {
                Ok(()) => Events::NONE,
                Err(_) => Events::TOO_MANY_HOLES,
            };
        }
        self.rcv.nxt = to;
        if !self.rare.assembler.is_empty() {
            self.rcv.nxt = self.rare.make().assembler.advance(to);
            self.ack.on_disorder();
            return Events::READABLE;
        }
        self.acknowledge_data(now, segment, data.len());
        Events::READABLE
    }

    /// `len` bytes came in order, and nothing is missing.
    fn acknowledge_data(&mut self, now: Instant, segment: &Segment<'_>, len: usize) {
        if let Some((_, echo)) = segment.options.timestamps
            && self.ack.is_full(len)
            && self.rcv.rate.is_new(echo)
            && let Some(rtt) = self.ts.echoed(now, echo)
        {
            self.rcv.rate.measure(echo, rtt);
        }
        let (nxt, rto, mss) = (self.rcv.nxt, self.rtt.rto(), self.mss.into());
        match self.ack.on_data(now, nxt, segment.wire_payload(), mss, rto) {
            Answer::Now => self.ack.due = true,
            Answer::Soon => self.acknowledge_soon(now),
            Answer::Later if self.set.quickack => self.ack.due = true,
            Answer::Later => {
                let at = now + self.set.delayed_ack.get();
                self.timers.delayed_ack = self.timers.delayed_ack.min(at);
            }
        }
    }

    /// An ACK is due at once, but for the moment in which an answer may come that carries it.
    fn acknowledge_soon(&mut self, now: Instant) {
        if self.set.quick_ack_delay == 0 || self.set.quickack {
            self.ack.due = true;
        } else {
            self.ack.put_off();
            let at = now + Duration::from_millis(self.set.quick_ack_delay.into());
            self.timers.delayed_ack = self.timers.delayed_ack.min(at);
        }
    }

    /// Whether an ACK that is due waits for an answer to carry it.
    #[inline]
    pub fn puts_off_ack(&self) -> bool {
        self.ack.is_put_off()
    }

    /// No answer is to be expected any more: says whether an ACK waited for one, and is due now.
    pub fn acknowledge_put_off(&mut self) -> bool {
        let waited = self.ack.is_put_off();
        self.ack.due |= waited;
        waited
    }

    /// Data for an application that has closed, or shut both halves: the peer must learn that nobody takes it. The RST
    /// has the number that the peer says it waits for: if our FIN was lost, one behind it would only
    /// be challenged (RFC 5961 section 3.2).
    fn refuse_data(&mut self, segment: &Segment<'_>) -> Events {
        let events = match self.orphan {
            true => self.enter_closed(),
            false => self.fail(Error::Reset),
        };
        self.rare.make().reset_seq = Some(segment.ack);
        events | Events::SEND
    }

    /// The peer's FIN is next in order.
    fn on_fin(&mut self, now: Instant) -> Events {
        self.rcv.nxt += 1;
        // As Linux: what came twice is of no interest any more.
        if let Some(rare) = self.rare.if_any() {
            rare.duplicate = None;
        }
        if self.state == State::Established {
            // The application's own FIN often follows: as Linux, the ACK waits for it.
            self.state = State::CloseWait;
            if !self.ack.on_fin() || self.set.quickack {
                self.acknowledge_soon(now);
            } else if !self.ack.due {
                self.timers.delayed_ack = now + self.set.delayed_ack.get();
            }
            return Events::PEER_CLOSED | Events::SEND;
        }
        self.ack.due = true;
        match self.state {
            State::FinWait1 => self.state = State::Closing,
            State::FinWait2 => self.enter_time_wait(now),
            _ => {}
        }
        Events::PEER_CLOSED | Events::SEND
    }

    /// Whether `segment` is a SYN that may open a new connection in place of this one, which is in
    /// TIME-WAIT (RFC 9293 3.10.7.4, RFC 6191): it has a newer timestamp or sequence number than
    /// any that the old connection has seen. Who finds this true drops this control block, without
    /// a word to the peer, and hands the SYN to the listener.
    pub fn gives_way_to(&self, segment: &Segment<'_>) -> bool {
        let opens = Flags(segment.flags.0 & (Flags::SYN | Flags::ACK | Flags::RST).0) == Flags::SYN;
        if self.state != State::TimeWait || !opens {
            return false;
        }
        let after = segment.seq.after(self.irs.at(self.rcv.nxt));
        match segment.options.timestamps {
            Some((value, _)) if self.ts.on => {
                self.ts.is_newer(value) || (after && self.ts.is_recent(value))
            }
            _ => after,
        }
    }
}
