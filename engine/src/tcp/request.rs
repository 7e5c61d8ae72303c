//! A half-open connection (SYN-RECEIVED after a passive OPEN, RFC 9293 section 3.10.7.4): what is
//! kept of a SYN until the ACK that completes its handshake, a tenth of a control block.

use alloc::rc::Rc;

use super::config::TcpConfig;
use super::ecn::Codepoint;
use super::event::Drop;
use super::options::Options;
use super::segment::{Flags, Outgoing, Segment};
use super::seq::SeqNum;
use super::settings::Settings;
use super::tcb::Tcb;
use super::time::{Duration, Instant};
use super::timestamps;
use super::window::WindowScale;

/// What is remembered of a SYN, and of our answer to it.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// When the SYN-ACK was first sent; `NEVER` if nobody remembers (a cookie).
    sent_at: Instant,
    /// When [`on_timer`](Self::on_timer) is due.
    deadline: Instant,
    /// When the next answer to a segment that should not have come may be sent.
    answer_at: Instant,
    pub(super) irs: SeqNum,
    pub(super) iss: SeqNum,
    pub(super) ts_recent: Option<u32>,
    pub(super) ts_offset: u32,
    mss: Option<u16>,
    window: u16,
    pub(super) flags: Flags,
    pub(super) ecn: Codepoint,
    pub(super) scale: Option<u8>,
    pub(super) sack: bool,
    /// Window and shift count that we offered.
    offered: (u16, u8),
    /// Whether memory for received bytes was scarce when the SYN came.
    pub(super) scarce: bool,
    /// Timers that expired.
    timeouts: u8,
    /// SYN-ACKs sent again.
    retransmits: u8,
    /// The handshake is complete but for an application that could take the connection.
    acked: bool,
}

/// What follows from a segment that came for a half-open connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is dropped.
    Drop(Drop),
    /// It is dropped, and the SYN-ACK sent again.
    Repeat(Drop),
    /// It is dropped, and a [`challenge`](Request::challenge) sent.
    Challenge(Drop),
    /// It is dropped, and a RST sent that answers it.
    Reset(Drop),
    /// The peer has given up.
    Aborted,
    /// The handshake is complete: the control block from [`establish`](Request::establish) takes
    /// this segment.
    Complete,
}

/// What the timer of a half-open connection asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// Send the SYN-ACK again.
    Resend,
    /// Nothing but to wait on.
    Wait,
    /// Forget it.
    Over,
}

/// Bounds of a half-open connection's life.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// SYN-ACK retransmissions.
    pub retries: u8,
    /// Timeouts that an ACK without data is waited out for (TCP_DEFER_ACCEPT); 0: not at all.
    pub defer: u8,
}

impl Request {
    /// Takes note of a SYN. The caller has checked its flags.
    pub fn new(now: Instant, iss: SeqNum, ts_offset: u32, syn: &Segment<'_>) -> Request {
        let options = &syn.options;
        Request {
            sent_at: now,
            deadline: Instant::NEVER,
            answer_at: now,
            irs: syn.seq,
            iss,
            ts_recent: options.timestamps.map(|(value, _)| value),
            ts_offset,
            mss: options.mss,
            window: syn.window,
            flags: syn.flags,
            ecn: syn.ecn,
            scale: options.window_scale,
            sack: options.sack_permitted,
            offered: (0, 0),
            scarce: false,
            timeouts: 0,
            retransmits: 0,
            acked: false,
        }
    }

    /// Says whether memory for received bytes is scarce: then the SYN-ACK offers little of it.
    pub fn set_scarce(&mut self, scarce: bool) {
        self.scarce = scarce;
    }

    /// A handshake that was not remembered, rebuilt from a cookie.
    pub(super) fn from_cookie(
        now: Instant,
        iss: SeqNum,
        ts_offset: u32,
        syn: &Segment<'_>,
    ) -> Request {
        Request {
            sent_at: Instant::NEVER,
            ..Request::new(now, iss, ts_offset, syn)
        }
    }

    /// The SYN as far as it is remembered.
    pub(super) fn syn(&self) -> Segment<'static> {
        Segment {
            src_port: 0,
            dst_port: 0,
            seq: self.irs,
            ack: SeqNum(0),
            flags: self.flags,
            window: self.window,
            urgent: 0,
            options: Options {
                mss: self.mss,
                window_scale: self.scale,
                sack_permitted: self.sack,
                timestamps: self.ts_recent.map(|value| (value, 0)),
                ..Options::default()
            },
            payload: &[],
            ecn: self.ecn,
            gso_size: 0,
        }
    }

    /// Our SYN-ACK, to be sent now; the first call arms the timer.
    pub fn syn_ack(&mut self, now: Instant, set: &Settings) -> Outgoing {
        let answer = self.build_syn_ack(now, set);
        if answer.options.timestamps.is_none() {
            self.ts_recent = None;
        }
        if self.deadline == Instant::NEVER {
            self.offered = (answer.window, answer.options.window_scale.unwrap_or(0));
            self.deadline = now + self.timeout(&set.cfg);
        } else {
            self.retransmits = self.retransmits.saturating_add(1);
        }
        answer
    }

    /// Time from one timer to the next.
    fn timeout(&self, cfg: &TcpConfig) -> Duration {
        let doubled = cfg.rto_initial * (1 << self.timeouts.min(32));
        doubled.min(cfg.rto_max)
    }

    /// When [`on_timer`](Self::on_timer) is due.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the peer was never reminded.
    pub fn is_young(&self) -> bool {
        self.timeouts == 0
    }

    /// The timer is due.
    pub fn on_timer(&mut self, now: Instant, cfg: &TcpConfig, patience: Patience) -> Expiry {
        let Patience { retries, defer } = patience;
        let deferring = self.acked && self.timeouts < defer;
        if self.timeouts >= retries && !deferring {
            return Expiry::Over;
        }
        // Near the end of the wait for data, the peer is asked for it.
        let resend = defer == 0 || !self.acked || self.timeouts + 1 >= defer;
        self.timeouts = self.timeouts.saturating_add(1);
        self.deadline = now + self.timeout(cfg);
        if resend { Expiry::Resend } else { Expiry::Wait }
    }

    /// Takes a segment, in RFC 9293's order of checks.
    pub fn on_segment(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        cfg: &TcpConfig,
        defer: u8,
    ) -> Verdict {
        let flags = segment.flags;
        let reset = flags.contains(Flags::RST);
        let old = match (self.ts_recent, segment.options.timestamps) {
            (Some(_), None) if !reset => return Verdict::Drop(Drop::NoTimestamp),
            (Some(recent), Some((value, _))) => !reset && timestamps::before(value, recent),
            _ => false,
        };
        let bits = (Flags::SYN | Flags::ACK | Flags::RST | Flags::FIN).0;
        if segment.seq == self.irs && Flags(flags.0 & bits) == Flags::SYN && !old {
            return self.answer(now, cfg, Verdict::Repeat(Drop::OldDuplicate));
        }
        if let Err(reason) = self.check_sequence(segment) {
            return if reset {
                Verdict::Drop(Drop::ResetOutOfWindow)
            } else {
                self.answer(now, cfg, Verdict::Challenge(reason))
            };
        }
        if old {
            return self.answer(now, cfg, Verdict::Challenge(Drop::Paws));
        }
        if reset {
            // RFC 5961 section 3.2.
            return if segment.seq == self.irs + 1 {
                Verdict::Aborted
            } else {
                self.answer(now, cfg, Verdict::Challenge(Drop::ResetUnproven))
            };
        }
        if flags.contains(Flags::SYN) {
            return self.answer(now, cfg, Verdict::Challenge(Drop::UnexpectedSyn));
        }
        if !flags.contains(Flags::ACK) {
            return Verdict::Drop(Drop::NoAck);
        }
        if segment.ack != self.iss + 1 {
            return Verdict::Reset(Drop::AckOfUnsent);
        }
        let bare = segment.payload.is_empty() && !flags.contains(Flags::FIN);
        if bare && segment.seq == self.irs + 1 && self.timeouts < defer {
            self.acked = true;
            return Verdict::Drop(Drop::Deferred);
        }
        Verdict::Complete
    }

    /// A segment touches the window that the SYN-ACK offers, or is empty at one of its edges.
    fn check_sequence(&self, segment: &Segment<'_>) -> Result<(), Drop> {
        let from = segment.seq.offset_from(self.irs + 1);
        let len = i64::from(segment.seq_len());
        let (from, window) = (i64::from(from), i64::from(self.offered.0));
        if from == 0 || (from < window && from + len > 0) || (from == window && len == 0) {
            Ok(())
        } else if from < 0 {
            Err(Drop::OldDuplicate)
        } else {
            Err(Drop::OutOfWindow)
        }
    }

    fn answer(&mut self, now: Instant, cfg: &TcpConfig, verdict: Verdict) -> Verdict {
        if now >= self.answer_at {
            self.answer_at = now + cfg.answer_interval;
            return verdict;
        }
        match verdict {
            Verdict::Repeat(reason) | Verdict::Challenge(reason) => Verdict::Drop(reason),
            other => other,
        }
    }

    /// The connection is complete, but nobody can take it now.
    pub fn wait_for_room(&mut self) {
        self.acked = true;
    }

    /// An ACK that tells the peer where the handshake stands (RFC 5961).
    pub fn challenge(&self, now: Instant) -> Outgoing {
        let stamp = timestamps::clock(now).wrapping_add(self.ts_offset);
        Outgoing {
            seq: self.iss + 1,
            ack: self.irs + 1,
            flags: Flags::ACK,
            window: self.offered.0 >> self.offered.1,
            urgent: 0,
            ecn: Codepoint::NotEct,
            options: Options {
                timestamps: self.ts_recent.map(|recent| (stamp, recent)),
                ..Options::default()
            },
            payload: 0..0,
            mss: 0,
        }
    }

    /// The control block of the connection, which the segment that completed the handshake is to be
    /// handed to.
    pub fn establish(&self, now: Instant, set: &Rc<Settings>) -> Tcb {
        let (iss, ts_offset) = self.numbers();
        let mut tcb = Tcb::new(self.began(now), set, iss, ts_offset);
        self.settle(now, &mut tcb);
        tcb
    }

    /// Our initial sequence number, and the offset of our timestamps.
    pub fn numbers(&self) -> (SeqNum, u32) {
        (self.iss, self.ts_offset)
    }

    /// When the connection began.
    pub fn began(&self, now: Instant) -> Instant {
        match self.sent_at {
            Instant::NEVER => now,
            sent_at => sent_at,
        }
    }

    /// Like [`establish`](Self::establish), for a new control block with the request's
    /// [numbers](Self::numbers), of the time when it [began](Self::began).
    pub fn settle(&self, now: Instant, tcb: &mut Tcb) {
        let cookie = self.sent_at == Instant::NEVER;
        let at = self.began(now);
        tcb.answer_syn(at, &self.syn());
        tcb.set_scarce(self.scarce);
        // The SYN-ACK went out long ago.
        tcb.on_syn_sent(at);
        if !cookie {
            let (window, shift) = self.offered;
            tcb.rcv.edge = tcb.rcv.edge.max(1 + u64::from(window));
            tcb.rcv.scale = WindowScale::new(shift);
        }
        if cookie || self.retransmits > 0 {
            // Nobody knows which SYN-ACK the peer answers.
            tcb.sent_at = Instant::NEVER;
        }
        tcb.syn_retransmitted = self.timeouts > 0;
        if self.retransmits > 0 {
            tcb.repair.count().retransmits = self.retransmits.into();
        }
    }

    /// Whether an ICMP error that quotes this sequence number is about our SYN-ACK.
    pub fn has_sent(&self, seq: SeqNum) -> bool {
        seq == self.iss
    }
}

/// Timeouts until at least `seconds` have passed since the SYN (TCP_DEFER_ACCEPT).
pub fn timeouts_within(seconds: u32, cfg: &TcpConfig) -> u8 {
    let asked = Duration::from_secs(seconds.into());
    let (mut count, mut passed, mut timeout) = (0, Duration::ZERO, cfg.rto_initial);
    while passed < asked && count < u8::MAX {
        count += 1;
        passed = passed + timeout;
        timeout = (timeout * 2).min(cfg.rto_max);
    }
    count
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::tcp::SocketOptions;

    const T0: Instant = Instant::from_millis(1000);

    fn settings() -> Rc<Settings> {
        Settings::new(&TcpConfig::default(), &SocketOptions::default())
    }

    pub fn segment(flags: Flags, seq: u32, ack: u32) -> Segment<'static> {
        Segment {
            src_port: 4000,
            dst_port: 80,
            seq: SeqNum(seq),
            ack: SeqNum(ack),
            flags,
            window: 1000,
            urgent: 0,
            options: Options::default(),
            payload: b"",
            ecn: Codepoint::NotEct,
            gso_size: 0,
        }
    }

    fn request() -> (Request, Outgoing) {
        let syn = segment(Flags::SYN, 99, 0);
        let mut request = Request::new(T0, SeqNum(499), 0, &syn);
        let answer = request.syn_ack(T0, &settings());
        (request, answer)
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Request>() <= 64, "{}", size_of::<Request>());
    }

    #[test]
    fn the_ack_completes_it_and_the_control_block_goes_on_from_there() {
        let (mut request, answer) = request();
        assert_eq!(answer.flags, Flags::SYN | Flags::ACK);
        assert_eq!((answer.seq, answer.ack), (SeqNum(499), SeqNum(100)));
        let ack = segment(Flags::ACK, 100, 500);
        let at = T0 + Duration::from_millis(30);
        assert_eq!(
            request.on_segment(at, &ack, &TcpConfig::default(), 0),
            Verdict::Complete
        );
        let tcb = request.establish(at, &settings());
        assert_eq!(tcb.recv_window(), u64::from(answer.window));
    }

    #[test]
    fn a_repeated_syn_gets_the_answer_again_but_not_at_any_rate() {
        let (mut request, answer) = request();
        let syn = segment(Flags::SYN, 99, 0);
        let at = T0 + Duration::from_millis(10);
        assert_eq!(
            request.on_segment(at, &syn, &TcpConfig::default(), 0),
            Verdict::Repeat(Drop::OldDuplicate)
        );
        let again = request.syn_ack(at, &settings());
        assert_eq!(again.seq, answer.seq);
        assert_eq!(
            request.on_segment(at, &syn, &TcpConfig::default(), 0),
            Verdict::Drop(Drop::OldDuplicate)
        );
    }

    #[test]
    fn only_the_exact_reset_ends_it() {
        for (seq, verdict) in [
            (100, Verdict::Aborted),
            (101, Verdict::Challenge(Drop::ResetUnproven)),
            (99, Verdict::Drop(Drop::ResetOutOfWindow)),
            (90_000, Verdict::Drop(Drop::ResetOutOfWindow)),
        ] {
            let reset = segment(Flags::RST, seq, 0);
            assert_eq!(
                request().0.on_segment(T0, &reset, &TcpConfig::default(), 0),
                verdict,
                "{seq}"
            );
        }
    }

    #[test]
    fn what_does_not_belong_is_challenged_or_reset() {
        for (flags, seq, ack, verdict) in [
            (Flags::SYN, 150, 0, Verdict::Challenge(Drop::UnexpectedSyn)),
            (Flags::SYN, 7, 0, Verdict::Challenge(Drop::OldDuplicate)),
            (
                Flags::ACK,
                90_000,
                500,
                Verdict::Challenge(Drop::OutOfWindow),
            ),
            (Flags::ACK, 100, 501, Verdict::Reset(Drop::AckOfUnsent)),
            (Flags::ACK, 100, 499, Verdict::Reset(Drop::AckOfUnsent)),
            (Flags::FIN, 100, 0, Verdict::Drop(Drop::NoAck)),
        ] {
            let segment = segment(flags, seq, ack);
            assert_eq!(
                request()
                    .0
                    .on_segment(T0, &segment, &TcpConfig::default(), 0),
                verdict,
                "{segment:?}"
            );
        }
    }

    #[test]
    fn the_answer_is_repeated_with_doubled_timeouts_and_then_no_more() {
        let (mut request, _) = request();
        let cfg = TcpConfig::default();
        let patience = Patience {
            retries: 5,
            defer: 0,
        };
        let mut at = Vec::new();
        while request.on_timer(request.deadline(), &cfg, patience) == Expiry::Resend {
            at.push(request.deadline().since(T0).as_millis() / 1000);
        }
        assert_eq!(at, [3, 7, 15, 31, 63], "when the next is due");
    }

    #[test]
    fn deferred_accept_waits_for_data_and_then_takes_a_bare_ack() {
        let cfg = TcpConfig::default();
        let defer = timeouts_within(5, &cfg);
        assert_eq!(defer, 3, "1 + 2 + 4 seconds");
        assert_eq!((timeouts_within(0, &cfg), timeouts_within(1, &cfg)), (0, 1));
        let (mut request, _) = request();
        let ack = segment(Flags::ACK, 100, 500);
        assert_eq!(
            request.on_segment(T0, &ack, &TcpConfig::default(), defer),
            Verdict::Drop(Drop::Deferred)
        );
        let data = Segment {
            payload: b"x",
            ..ack
        };
        assert_eq!(
            request
                .clone()
                .on_segment(T0, &data, &TcpConfig::default(), defer),
            Verdict::Complete
        );
        let patience = Patience { retries: 5, defer };
        let mut timer = || request.on_timer(request.deadline(), &cfg, patience);
        assert_eq!(
            [timer(), timer(), timer()],
            [Expiry::Wait, Expiry::Wait, Expiry::Resend]
        );
        assert_eq!(
            request.on_segment(T0, &ack, &TcpConfig::default(), defer),
            Verdict::Complete
        );
    }
}
