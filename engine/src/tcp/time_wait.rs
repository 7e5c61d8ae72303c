//! What is left of a connection that has only to wait (RFC 9293 section 3.10.7.4): in TIME-WAIT for
//! strays to die out, or closed by its application and in FIN-WAIT-2 for the peer's FIN. A tenth of
//! a control block.

use super::ecn::Codepoint;
use super::event::Drop;
use super::options::Options;
use super::segment::{Flags, Outgoing, Segment};
use super::seq::SeqNum;
use super::tcb::{State, Tcb};
use super::time::{Duration, Instant};
use super::timestamps::Timestamps;
use WaitAnswer as Answer;

/// How far behind the old connection's numbers those of the next begin (as Linux).
const NEXT_ISN: u32 = 65_535 + 2;
/// How long the old connection's last timestamp must be past before we connect anew.
const REUSE_AFTER: Duration = Duration::from_secs(1);

/// A connection that waits.
#[derive(Clone, Copy, Debug)]
pub struct TimeWait {
    deadline: Instant,
    /// When the next answer to a segment without data may be sent.
    answer_at: Instant,
    ts: Timestamps,
    snd_nxt: SeqNum,
    rcv_nxt: SeqNum,
    /// How long to wait after the last segment, in milliseconds.
    length: u32,
    /// Bytes that the peer may still send, in FIN-WAIT-2.
    room: u32,
    /// Least time between two of those answers, in milliseconds.
    answer_interval: u16,
    /// Window field of our ACKs.
    window: u16,
    fin_wait2: bool,
}

/// What follows from a segment for a connection that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitAnswer {
    /// Nothing is sent.
    None,
    /// An [`ack`](TimeWait::ack) is sent.
    Ack,
    /// A RST answers the segment, and the connection ends.
    Reset,
    /// The connection ends.
    End,
    /// The SYN may open a new connection, with this initial sequence number.
    Reopen(SeqNum),
}

impl Tcb {
    /// What is left of this connection if it has only to wait, has nothing more to send, and its
    /// application is gone.
    pub fn to_wait(&self) -> Option<TimeWait> {
        let silent = !self.ack.due && !self.probe_due && self.timers.delayed_ack == Instant::NEVER;
        let quiet = silent && self.snd.flight() == 0;
        let waits = matches!(self.state, State::TimeWait | State::FinWait2);
        let ends = self.timers.end != Instant::NEVER;
        if !(waits && quiet && ends && self.orphan) {
            return None;
        }
        let window = self.rcv.window() >> self.rcv.scale.shift();
        Some(TimeWait {
            deadline: self.timers.end,
            answer_at: self.rare.challenge_at,
            answer_interval: self.set.answer_interval,
            ts: self.ts,
            snd_nxt: self.iss.at(self.snd.nxt),
            rcv_nxt: self.irs.at(self.rcv.nxt),
            length: self.set.time_wait.get().as_millis() as u32,
            room: u32::try_from(self.rcv.window()).unwrap_or(u32::MAX),
            window: u16::try_from(window).unwrap_or(u16::MAX),
            fin_wait2: self.state == State::FinWait2,
        })
    }
}

impl TimeWait {
    /// When it is over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes a segment: what to answer, and why it was dropped, if it was.
    pub fn on_segment(&mut self, now: Instant, segment: &Segment<'_>) -> (Answer, Option<Drop>) {
        let flags = segment.flags;
        let reset = flags.contains(Flags::RST);
        let stamp = segment.options.timestamps.map(|(value, _)| value);
        let old = self.ts.on && stamp.is_some_and(|value| self.ts.is_old(now, value)) && !reset;
        if self.fin_wait2 {
            return self.in_fin_wait2(now, segment, old);
        }
        let next = segment.seq == self.rcv_nxt;
        if !old && next && reset {
            // RFC 1337 would have this ignored; RFC 9293 and Linux do not.
            return (Answer::End, None);
        }
        if !old && next && segment.seq_len() == 0 {
            self.restart(now);
            if let Some(value) = stamp {
                self.ts.update(now, value);
            }
            return (Answer::None, None);
        }
        if !old && self.gives_way_to(segment) {
            return (Answer::Reopen(self.snd_nxt + NEXT_ISN), None);
        }
        if reset {
            return (Answer::None, Some(Drop::ResetOutOfWindow));
        }
        if old || flags.contains(Flags::ACK) {
            self.restart(now);
        }
        let reason = if old { Drop::Paws } else { Drop::OldDuplicate };
        (self.answer(now, segment), Some(reason))
    }

    fn in_fin_wait2(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        old: bool,
    ) -> (Answer, Option<Drop>) {
        let flags = segment.flags;
        let (from, len) = (segment.seq.offset_from(self.rcv_nxt), segment.seq_len());
        let (from, len, room) = (i64::from(from), i64::from(len), i64::from(self.room));
        let touches = from == 0 || (from < room && from + len > 0) || (from == room && len == 0);
        if flags.contains(Flags::RST) {
            return match from {
                0 => (Answer::End, None),
                _ if touches => (self.bounded(now), Some(Drop::ResetUnproven)),
                _ => (Answer::None, Some(Drop::ResetOutOfWindow)),
            };
        }
        if old || !touches {
            let reason = if old { Drop::Paws } else { Drop::OutOfWindow };
            return (self.answer(now, segment), Some(reason));
        }
        if flags.contains(Flags::SYN) {
            return (self.bounded(now), Some(Drop::UnexpectedSyn));
        }
        if !flags.contains(Flags::ACK) {
            return (Answer::None, Some(Drop::NoAck));
        }
        if segment.ack.offset_from(self.snd_nxt) > 0 {
            return (self.bounded(now), Some(Drop::AckOfUnsent));
        }
        if let Some(value) = segment.options.timestamps.map(|(value, _)| value)
            && self.ts.on
            && from <= 0
        {
            self.ts.update(now, value);
        }
        if from + len <= 0 || len == 0 {
            return (Answer::None, None);
        }
        if from + len > 1 || !flags.contains(Flags::FIN) {
            // Data that nobody will read (RFC 1122 section 4.2.2.13).
            return (Answer::Reset, None);
        }
        self.rcv_nxt = self.rcv_nxt + 1;
        self.fin_wait2 = false;
        self.restart(now);
        (Answer::Ack, None)
    }

    /// Whether a segment is a SYN that may open a new connection in place of this one (RFC 9293
    /// section 3.10.7.4, RFC 6191): it has a newer timestamp or sequence number than any before.
    fn gives_way_to(&self, segment: &Segment<'_>) -> bool {
        let control = (Flags::SYN | Flags::ACK | Flags::RST).0;
        let newer = |(value, _)| self.ts.on && self.ts.is_newer(value);
        Flags(segment.flags.0 & control) == Flags::SYN
            && (segment.seq.after(self.rcv_nxt) || segment.options.timestamps.is_some_and(newer))
    }

    /// Whether we may connect anew between the same ports: timestamps keep the segments of both
    /// lives apart (Linux's tcp_tw_reuse). The initial sequence number to use.
    pub fn reusable(&self, now: Instant) -> Option<SeqNum> {
        let quiet = now.since(self.ts.recent_since()) > REUSE_AFTER;
        (self.ts.on && quiet && !self.fin_wait2).then(|| self.snd_nxt + NEXT_ISN)
    }

    fn restart(&mut self, now: Instant) {
        self.deadline = now + Duration::from_millis(self.length.into());
    }

    /// What carries something is always answered, else at a bounded rate: two ends never answer
    /// ACKs with ACKs.
    fn answer(&mut self, now: Instant, segment: &Segment<'_>) -> Answer {
        let carries = segment.seq_len() > 0 && !segment.flags.contains(Flags::SYN);
        if carries {
            Answer::Ack
        } else {
            self.bounded(now)
        }
    }

    fn bounded(&mut self, now: Instant) -> Answer {
        if now < self.answer_at {
            return Answer::None;
        }
        self.answer_at = now + Duration::from_millis(self.answer_interval.into());
        Answer::Ack
    }

    /// An ACK of all that was received.
    pub fn ack(&self, now: Instant) -> Outgoing {
        Outgoing {
            seq: self.snd_nxt,
            ack: self.rcv_nxt,
            flags: Flags::ACK,
            window: self.window,
            urgent: 0,
            ecn: Codepoint::NotEct,
            options: Options {
                timestamps: self.ts.option(now),
                ..Options::default()
            },
            payload: 0..0,
            mss: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::from_millis(100_000);

    fn waiting(fin_wait2: bool) -> TimeWait {
        let mut ts = Timestamps::new(true, 0);
        ts.start(T0, 50);
        TimeWait {
            deadline: T0 + Duration::from_secs(60),
            answer_at: T0,
            answer_interval: 500,
            ts,
            snd_nxt: SeqNum(500),
            rcv_nxt: SeqNum(100),
            length: 60_000,
            room: 1000,
            window: 10,
            fin_wait2,
        }
    }

    fn segment(flags: Flags, seq: u32, stamp: u32, payload: &'static [u8]) -> Segment<'static> {
        Segment {
            src_port: 1,
            dst_port: 2,
            seq: SeqNum(seq),
            ack: SeqNum(500),
            flags,
            window: 0,
            urgent: 0,
            options: Options {
                timestamps: Some((stamp, 0)),
                ..Options::default()
            },
            payload,
            ecn: Codepoint::NotEct,
            gso_size: 0,
        }
    }

    fn answers(mut waiting: TimeWait, segment: &Segment<'_>) -> (Answer, Duration) {
        let later = T0 + Duration::from_secs(10);
        let (answer, _) = waiting.on_segment(later, segment);
        (
            answer,
            waiting.deadline().since(T0 + Duration::from_secs(60)),
        )
    }

    #[test]
    fn a_repeated_fin_is_acknowledged_and_the_wait_begins_anew() {
        let fin = segment(Flags::FIN | Flags::ACK, 99, 50, b"");
        let again = (Answer::Ack, Duration::from_secs(10));
        assert_eq!(answers(waiting(false), &fin), again);
        let ack = waiting(false).ack(T0);
        assert_eq!(
            (ack.seq, ack.ack, ack.window),
            (SeqNum(500), SeqNum(100), 10)
        );
        assert_eq!(ack.options.timestamps.map(|(_, echo)| echo), Some(50));
    }

    #[test]
    fn an_ack_of_the_last_kind_needs_no_answer_and_old_ones_few() {
        let mut waiting = waiting(false);
        let last = segment(Flags::ACK, 100, 51, b"");
        assert_eq!(waiting.on_segment(T0, &last), (Answer::None, None));
        let old = segment(Flags::ACK, 90, 50, b"");
        let paws = Some(Drop::Paws);
        // TS.Recent is 51 by now.
        assert_eq!(waiting.on_segment(T0, &old), (Answer::Ack, paws));
        assert_eq!(waiting.on_segment(T0, &old), (Answer::None, paws));
    }

    #[test]
    fn only_the_exact_reset_ends_it() {
        for (seq, answer) in [(100, Answer::End), (101, Answer::None), (99, Answer::None)] {
            let reset = segment(Flags::RST, seq, 50, b"");
            assert_eq!(answers(waiting(false), &reset).0, answer, "{seq}");
        }
    }

    #[test]
    fn a_newer_syn_opens_a_new_connection_ahead_of_the_old_numbers() {
        let reopen = Answer::Reopen(SeqNum(500 + NEXT_ISN));
        for (seq, stamp, answer) in [
            (5000, 50, reopen),
            (90, 51, reopen),
            (90, 50, Answer::Ack),
            (5000, 49, Answer::Ack),
        ] {
            let syn = segment(Flags::SYN, seq, stamp, b"");
            assert_eq!(answers(waiting(false), &syn).0, answer, "{seq} {stamp}");
        }
        let syn_ack = segment(Flags::SYN | Flags::ACK, 5000, 60, b"");
        assert_eq!(answers(waiting(false), &syn_ack).0, Answer::Ack);
    }

    #[test]
    fn we_connect_anew_when_timestamps_keep_both_lives_apart() {
        let iss = Some(SeqNum(500 + NEXT_ISN));
        let later = T0 + Duration::from_millis(1001);
        assert_eq!(waiting(false).reusable(later), iss);
        assert_eq!(waiting(false).reusable(T0 + Duration::from_secs(1)), None);
        assert_eq!(
            waiting(true).reusable(later),
            None,
            "the peer may still send"
        );
        let mut plain = waiting(false);
        plain.ts = Timestamps::new(false, 0);
        assert_eq!(plain.reusable(later), None);
    }

    #[test]
    fn in_fin_wait2_the_fin_begins_time_wait_and_data_is_reset() {
        let mut waiting = waiting(true);
        let fin = segment(Flags::FIN | Flags::ACK, 100, 51, b"");
        assert_eq!(waiting.on_segment(T0, &fin).0, Answer::Ack);
        assert_eq!(waiting.ack(T0).ack, SeqNum(101));
        assert_eq!(waiting.on_segment(T0, &fin).0, Answer::Ack, "repeated");
        for (seq, payload) in [(100, b"x".as_slice()), (500, b"xyz")] {
            let data = segment(Flags::ACK, seq, 51, payload);
            let (answer, _) = answers(self::waiting(true), &data);
            assert_eq!(answer, Answer::Reset, "{seq}");
        }
    }

    #[test]
    fn in_fin_wait2_what_does_not_belong_is_answered_by_an_ack() {
        for (flags, seq, stamp, reason) in [
            (Flags::RST, 101, 51, Drop::ResetUnproven),
            (Flags::SYN, 101, 51, Drop::UnexpectedSyn),
            (Flags::ACK, 90_000, 51, Drop::OutOfWindow),
            (Flags::ACK, 100, 49, Drop::Paws),
        ] {
            let segment = segment(flags, seq, stamp, b"");
            let outcome = waiting(true).on_segment(T0, &segment);
            assert_eq!(outcome, (Answer::Ack, Some(reason)));
        }
        let reset = segment(Flags::RST, 100, 0, b"");
        assert_eq!(waiting(true).on_segment(T0, &reset).0, Answer::End);
        let ack = segment(Flags::ACK, 100, 51, b"");
        assert_eq!(waiting(true).on_segment(T0, &ack), (Answer::None, None));
    }
}
