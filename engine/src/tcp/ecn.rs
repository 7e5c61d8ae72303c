//! Explicit congestion notification (RFC 3168): negotiation, what is marked, echoed and answered;
//! and the receiver of DCTCP (RFC 8257 section 3.2).

use super::congestion::{Algorithm, Cause};
use super::header::Next;
use super::segment::{Flags, Outgoing, Segment};
use super::tcb::{State, Tcb};
use super::time::Instant;

/// Changes of the mark that may wait to be acknowledged; at the bound, the oldest is forgotten.
const MAX_OWED: usize = 16;

/// When a connection uses explicit congestion notification (Linux's tcp_ecn).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EcnMode {
    /// Never.
    Off,
    /// When the peer asks for it.
    #[default]
    Passive,
    /// Asks for it as well.
    On,
}

/// The two low bits of the IPv4 type of service or IPv6 traffic class (RFC 3168 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Codepoint {
    /// The sender does not understand marks.
    #[default]
    NotEct = 0b00,
    /// It does; used by experiments.
    Ect1 = 0b01,
    /// It does.
    Ect0 = 0b10,
    /// A router on the way was congested.
    Ce = 0b11,
}

impl Codepoint {
    /// The bits as they stand in the header.
    pub const MASK: u8 = 0b11;

    /// The codepoint in a type of service or traffic class.
    pub const fn of(tos: u8) -> Codepoint {
        match tos & Codepoint::MASK {
            0b00 => Codepoint::NotEct,
            0b01 => Codepoint::Ect1,
            0b10 => Codepoint::Ect0,
            _ => Codepoint::Ce,
        }
    }

    /// `tos` with this codepoint in it.
    pub const fn within(self, tos: u8) -> u8 {
        tos & !Codepoint::MASK | self as u8
    }
}

/// State of notification on one connection. Positions are those of the send direction.
#[derive(Clone, Debug, Default)]
pub(super) struct Ecn {
    /// Both ends understand marks.
    pub(super) on: bool,
    /// Our SYN asked for it.
    asked: bool,
    /// Segments carry ECE.
    pub(super) echo: bool,
    /// The next new data carries CWR.
    cwr_due: bool,
    /// A segment that may be marked has come.
    pub(super) seen: bool,
}

/// When the window was last reduced, to answer a mark or anything else.
#[derive(Clone, Debug)]
pub(super) struct Reduction {
    /// SND.NXT at that time: ACKs up to there ask for no other one.
    at: u64,
    /// It answers a mark.
    by_mark: bool,
}

impl Reduction {
    pub(super) const fn new() -> Self {
        Reduction {
            at: 0,
            by_mark: false,
        }
    }
}

impl Ecn {
    /// Only a single segment may carry CWR.
    pub(super) fn cwr_due(&self) -> bool {
        self.cwr_due
    }
}

/// Whether a SYN with these flags and this codepoint asks for notification and gets it.
pub(super) fn is_granted(
    mode: EcnMode,
    algorithm: Algorithm,
    flags: Flags,
    codepoint: Codepoint,
) -> bool {
    // A SYN that may be marked comes from no sender of RFC 3168.
    let plain = mode != EcnMode::Off && codepoint == Codepoint::NotEct;
    flags.contains(Flags::ECE | Flags::CWR) && (algorithm.needs_marks() || plain)
}

impl Algorithm {
    /// The algorithm lives by marks: both directions carry them on every segment.
    pub(super) fn needs_marks(self) -> bool {
        self == Algorithm::Dctcp
    }
}

impl Tcb {
    /// Reductions to answer marks, or anything else, count once a window.
    pub(super) fn on_reduced(&mut self, cause: Cause) {
        self.ecn.cwr_due = self.ecn.on;
        self.rare.make().reduction = Reduction {
            at: self.snd.nxt,
            by_mark: cause == Cause::Mark,
        };
    }

    /// The window was reduced less than a round trip ago.
    pub(super) fn is_reduced(&self) -> bool {
        self.ecn.on && self.snd.una <= self.rare.reduction.at
    }

    /// What is lost in a window that was reduced for a mark asks for nothing more.
    pub(super) fn answers_mark(&self) -> bool {
        let reduction = &self.rare.reduction;
        reduction.by_mark && self.snd.una < reduction.at
    }

    /// ACKs are owed to changes of the mark.
    pub(super) fn owes_acks(&self) -> bool {
        !self.rare.owed.is_empty()
    }

    fn needs_marks(&self) -> bool {
        self.set.congestion.needs_marks()
    }

    /// Takes the peer's SYN or SYN-ACK (RFC 3168 section 6.1.1).
    pub(super) fn negotiate_ecn(&mut self, syn: &Segment<'_>) {
        let both = Flags::ECE | Flags::CWR;
        self.ecn.on = match self.state {
            State::SynSent if syn.flags.contains(Flags::ACK) => {
                self.ecn.asked && Flags(syn.flags.0 & both.0) == Flags::ECE
            }
            State::SynSent => self.ecn.asked && syn.flags.contains(both),
            _ => is_granted(self.set.ecn, self.set.congestion, syn.flags, syn.ecn),
        };
    }

    /// A SYN is sent again: the first may have been lost for what it asked (section 6.1.1.1).
    pub(super) fn stop_asking_for_ecn(&mut self) {
        self.ecn.asked = false;
    }

    /// Puts flags and codepoint into a segment that goes out, no SYN; SND.NXT was `nxt` before it.
    pub(super) fn put_ecn(&mut self, next: &mut Next, nxt: u64) {
        if !self.ecn.on || next.flags.contains(Flags::RST) {
            return;
        }
        if self.ecn.echo {
            next.flags |= Flags::ECE;
        }
        // Retransmissions, ACKs and probes stay unmarked (sections 6.1.4 to 6.1.6).
        let new_data = next.payload_len() > 0 && next.payload.start + 1 >= nxt;
        if new_data && core::mem::take(&mut self.ecn.cwr_due) {
            next.flags |= Flags::CWR;
        }
        if new_data || self.needs_marks() {
            next.ecn = Codepoint::Ect0;
        }
    }

    /// Puts flags and codepoint into a SYN that goes out.
    pub(super) fn put_ecn_into_syn(&mut self, out: &mut Outgoing) {
        if out.flags.contains(Flags::ACK) {
            if self.ecn.on {
                out.flags |= Flags::ECE;
            }
        } else if !self.syn_retransmitted && (self.set.ecn == EcnMode::On || self.needs_marks()) {
            self.ecn.asked = true;
            out.flags |= Flags::ECE | Flags::CWR;
        }
        if self.needs_marks() && (self.ecn.on || self.ecn.asked) {
            out.ecn = Codepoint::Ect0;
        }
    }

    /// Takes the codepoint and CWR of a segment with data, before its data.
    pub(super) fn take_mark(&mut self, segment: &Segment<'_>) {
        if !self.ecn.on || segment.flags.contains(Flags::SYN) {
            return;
        }
        let marked = segment.ecn == Codepoint::Ce;
        self.ecn.seen |= segment.ecn != Codepoint::NotEct;
        if marked {
            let counters = self.repair.count();
            counters.marked_in = counters.marked_in.saturating_add(1);
        }
        if self.needs_marks() {
            self.echo_each(marked);
            return;
        }
        if segment.flags.contains(Flags::CWR) {
            // Its window may be down to this segment: it waits for the ACK.
            self.ecn.echo = false;
            self.ack.due = true;
        }
        if marked {
            self.ack.due |= !self.ecn.echo;
            self.ecn.echo = true;
        }
    }

    /// DCTCP's receiver: each ACK tells of one kind of segments, so a change of the mark acknowledges
    /// at once what came before it (RFC 8257 section 3.2).
    fn echo_each(&mut self, marked: bool) {
        if self.ecn.echo == marked {
            return;
        }
        if self.rcv.nxt > self.ack.last_sent {
            let owed = &mut self.rare.make().owed;
            if owed.len() == MAX_OWED {
                owed.pop_front();
            }
            owed.push_back((self.rcv.nxt, self.ecn.echo));
        }
        self.ecn.echo = marked;
        self.ack.due = true;
    }

    /// The oldest ACK that is owed to a change of the mark.
    pub(super) fn next_owed_ack(&mut self, now: Instant) -> Option<Outgoing> {
        let (upto, echo) = self.rare.if_any()?.owed.pop_front()?;
        let mut ack = self.plain_ack(now);
        ack.ack = self.irs.at(upto);
        if echo {
            ack.flags |= Flags::ECE;
        }
        ack.ecn = Codepoint::Ect0;
        Some(ack)
    }

    /// Whether an ACK says that what it acknowledges was marked.
    pub(super) fn echoes_mark(&self, segment: &Segment<'_>) -> bool {
        self.ecn.on && segment.flags.contains(Flags::ECE) && !segment.flags.contains(Flags::SYN)
    }

    /// Answers an echoed mark as a loss, but once a window, and with nothing to repeat
    /// (RFC 3168 section 6.1.2).
    pub(super) fn answer_echo(&mut self, now: Instant, segment: &Segment<'_>) {
        if !self.echoes_mark(segment) || self.is_reduced() || self.recovering() {
            return;
        }
        let cwnd = self.cc.cwnd();
        let flight = super::acknowledge::clamp_u32(self.snd.flight());
        let mss = self.send_mss();
        let cc = self.cc.get_mut();
        cc.on_congestion(now, Cause::Mark, flight, mss);
        self.on_reduced(Cause::Mark);
        self.begin_reduction(cwnd);
    }
}
