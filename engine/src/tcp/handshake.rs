//! Opening a connection: actively, passively, or from both ends at once (RFC 9293 sections 3.5 and
//! 3.10.7.3).

use alloc::rc::Rc;

use super::config::{DEFAULT_MSS, MIN_MSS};
use super::congestion::Controller;
use super::event::{Drop, Error, Events};
use super::options::Options;
use super::segment::{Flags, Segment};
use super::seq::SeqNum;
use super::settings::Settings;
use super::tcb::{RecvStream, State, Tcb};
use super::time::Instant;
use super::window::WindowScale;

impl Tcb {
    /// Active OPEN. The SYN comes from [`poll_transmit`](Self::poll_transmit).
    ///
    /// `iss` is the initial sequence number (RFC 6528), `ts_offset` the offset of the timestamp clock.
    pub fn connect(now: Instant, set: &Rc<Settings>, iss: SeqNum, ts_offset: u32) -> Tcb {
        let mut tcb = Tcb::new(now, set, iss, ts_offset);
        tcb.open_actively();
        tcb
    }

    /// From CLOSED to SYN-SENT.
    pub fn open_actively(&mut self) {
        self.state = State::SynSent;
        self.start_syn();
    }

    /// Passive OPEN: answers `syn`, which came to a listener and whose SYN bit the caller has checked
    /// (as has it ACK and RST). The SYN-ACK comes from [`poll_transmit`](Self::poll_transmit).
    pub fn accept(
        now: Instant,
        set: &Rc<Settings>,
        iss: SeqNum,
        ts_offset: u32,
        syn: &Segment<'_>,
    ) -> Tcb {
        let mut tcb = Tcb::new(now, set, iss, ts_offset);
        tcb.answer_syn(now, syn);
        tcb
    }

    /// From CLOSED to SYN-RECEIVED; see [`accept`](Self::accept).
    pub fn answer_syn(&mut self, now: Instant, syn: &Segment<'_>) {
        self.state = State::SynReceived;
        self.take_syn(now, syn);
        self.start_syn();
    }

    fn start_syn(&mut self) {
        self.syn_due = true;
        self.snd.nxt = 1;
    }

    /// Learns the peer's sequence numbers and options from its SYN. What one side did not offer does
    /// not count (RFC 7323 section 2.2, RFC 2018 section 2).
    fn take_syn(&mut self, now: Instant, syn: &Segment<'_>) {
        let options = &syn.options;
        self.irs = syn.seq;
        self.rcv.nxt = 1;
        self.path.peer_mss = options.mss.unwrap_or(DEFAULT_MSS).max(MIN_MSS);
        self.ts.on = self.set.timestamps && options.timestamps.is_some();
        if let Some((value, _)) = options.timestamps
            && self.ts.on
        {
            self.ts.start(now, value);
        }
        self.recovery.sack = self.set.sack && options.sack_permitted;
        self.negotiate_ecn(syn);
        match options.window_scale {
            Some(shift) if self.set.window_scaling => {
                self.scaling = true;
                self.snd.scale = WindowScale::new(shift);
            }
            _ => self.rcv.disable_scaling(),
        }
        self.settle_mss();
        // The window of a SYN is never scaled.
        self.snd.update_window(0, self.snd.una, syn.window.into());
    }

    /// Options of a SYN or SYN-ACK: all that is configured, or in the answer all that the peer has
    /// offered as well.
    pub(super) fn syn_options(&self, now: Instant) -> Options {
        let offer = self.state == State::SynSent;
        let scaling = self.set.window_scaling && (offer || self.scaling);
        Options {
            mss: Some(self.set.own_mss),
            window_scale: scaling.then(|| self.rcv.scale.shift()),
            sack_permitted: if offer {
                self.set.sack
            } else {
                self.recovery.sack
            },
            timestamps: self.ts.option(now),
            fast_open: self.fast_open_option(),
            ..Options::default()
        }
    }

    /// SYN-SENT (RFC 9293 3.10.7.3).
    pub(super) fn on_segment_in_syn_sent<R: RecvStream>(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        rx: &mut R,
    ) -> Result<Events, Drop> {
        let flags = segment.flags;
        let acks = flags.contains(Flags::ACK);
        let ack = segment.ack.position(self.iss, self.snd.nxt);
        let acceptable = ack.is_some_and(|ack| (1..=self.handshake_end()).contains(&ack));
        if acks && !acceptable {
            if !flags.contains(Flags::RST) {
                self.rare.make().reset_seq = Some(segment.ack);
            }
            return Err(Drop::AckOfUnsent);
        }
        if flags.contains(Flags::RST) {
            return if acks {
                Ok(self.fail(Error::Refused))
            } else {
                Err(Drop::ResetOutOfWindow)
            };
        }
        if !flags.contains(Flags::SYN) {
            return Err(Drop::NoSyn);
        }
        if acks && !self.echoes_our_syn(now, segment) {
            self.rare.make().reset_seq = Some(segment.ack);
            return Err(Drop::Paws);
        }
        self.take_syn(now, segment);
        if !acks {
            // Simultaneous open: answer the SYN with a SYN-ACK of the same number.
            self.state = State::SynReceived;
            self.syn_due = true;
            self.arm_retransmit(now);
            return Ok(Events::SEND);
        }
        self.take_syn_ack(segment, ack.unwrap_or(1));
        let mut events = self.enter_established(now, segment);
        if self.snd.una > 1 {
            events |= Events::WRITABLE;
        }
        self.ack.due = true;
        Ok(events | self.process_text(now, segment, 1, rx))
    }

    /// Whether the timestamp that a SYN-ACK echoes, if any, is that of a SYN of ours.
    fn echoes_our_syn(&self, now: Instant, segment: &Segment<'_>) -> bool {
        let echo = segment.options.timestamps.map_or(0, |(_, echo)| echo);
        !self.ts.on || self.ts.is_echo_since(self.progress_at, now, echo)
    }

    /// Our SYN was acknowledged.
    pub(super) fn enter_established(&mut self, now: Instant, segment: &Segment<'_>) -> Events {
        self.state = if self.fin_wanted {
            State::FinWait1
        } else {
            State::Established
        };
        self.syn_due = false;
        self.retries = 0;
        self.progress_at = now;
        self.ack_at = now;
        self.timers.retransmit = Instant::NEVER;
        match self.opened_early_at() {
            // Data may have left since.
            Some(at) => self.sent_at = at,
            None => self.ack.on_established(now),
        }
        if self.syn_retransmitted || self.sent_at == Instant::NEVER {
            self.sample_echo(now, segment);
        } else {
            self.rtt.sample(now.since(self.sent_at));
        }
        self.sent_at = now;
        self.rtt.handshake_done(self.syn_retransmitted);
        if self.syn_retransmitted {
            // A handshake that needed its timer starts with one segment (RFC 6928 section 2).
            self.cc = Controller::new(self.set.congestion, self.mss.into());
        }
        if self.snd.flight() > 0 {
            self.arm_retransmit(now);
        }
        self.arm_keepalive();
        Events::CONNECTED | Events::SEND
    }
}
