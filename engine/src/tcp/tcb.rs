//! The transmission control block of one connection, and what its application does to it.

use alloc::rc::Rc;
use core::num::NonZero;

use super::ack::AckPolicy;
use super::assembler::Assembler;
use super::chronograph::{Chronograph, Limit};
use super::config::{DEFAULT_MSS, MIN_MSS};
use super::congestion::Controller;
use super::counters::Traffic;
use super::ecn::Ecn;
use super::event::{Error, Events};
use super::options::TIMESTAMPS_LEN;
use super::pmtu::PathMtu;
use super::rack::Rack;
use super::rare::{Extra, Rare, Repair};
use super::rate::DeliveryRate;
use super::recovery::Recovery;
use super::rtt::RttEstimator;
use super::sent::Sent;
use super::seq::SeqNum;
use super::settings::Settings;
use super::time::Instant;
use super::timers::Timers;
use super::timestamps::Timestamps;
use super::usage::WindowUsage;
use super::window::{RecvSpace, SendSpace};

/// Connection states (RFC 9293 section 3.3.2); LISTEN has no control block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Waiting for the answer to our SYN.
    SynSent,
    /// Waiting for the acknowledgement of our SYN, having got the peer's.
    SynReceived,
    /// Data flows both ways.
    Established,
    /// We have finished; our FIN is not acknowledged yet, or not even sent.
    FinWait1,
    /// Our FIN is acknowledged; the peer may still send.
    FinWait2,
    /// The peer has finished; we may still send.
    CloseWait,
    /// Both have finished at once; our FIN is not acknowledged yet.
    Closing,
    /// The peer had finished, then we did; our FIN is not acknowledged yet.
    LastAck,
    /// All is done; waiting for strays to die out, and for the peer to have got our last ACK.
    TimeWait,
    /// No connection.
    Closed,
}

/// Stands where received bytes go. The stream may live in memory shared with an application.
pub trait RecvStream {
    /// Stores bytes of the receive window at an absolute offset, 0 being the first byte after the
    /// SYN, in or out of order. Bytes below [`Tcb::received`] are never stored again.
    ///
    /// # Errors
    /// [`NoRoom`] if not all of it can be held; the peer will send it again.
    fn store(&mut self, offset: u64, data: &[u8]) -> Result<(), NoRoom>;
}

/// The receive stream cannot hold the bytes now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom;

/// Payload of a full segment that both ends and the path allow.
fn payload(set: &Settings, path: &PathMtu, stamped: bool) -> u16 {
    let bound = set
        .own_mss
        .min(path.segment())
        .min(path.peer_mss)
        .max(MIN_MSS);
    let stamps = if stamped { TIMESTAMPS_LEN as u16 } else { 0 };
    bound - stamps
}

/// Transmission control block: one connection.
///
/// Drive it with [`on_segment`](Self::on_segment), [`on_timer`](Self::on_timer) and the application's
/// calls; after each of them, or after a burst, call [`poll_transmit`](Self::poll_transmit) until it
/// gives `None`, then look at [`next_deadline`](Self::next_deadline).
#[derive(Clone, Debug)]
pub struct Tcb {
    pub(super) state: State,
    /// The application wants a FIN after what it has written.
    pub(super) fin_wanted: bool,
    pub(super) fin_sent: bool,
    /// Closed by the application: nobody reads any more.
    pub(super) orphan: bool,
    /// The application reads no more, but has not closed.
    pub(super) deaf: bool,
    /// Both ends scale windows.
    pub(super) scaling: bool,
    /// MSG_MORE stood with the last write.
    pub(super) more: bool,
    pub(super) syn_due: bool,
    /// Data rode in a SYN and was taken (RFC 7413).
    pub(super) syn_data: bool,
    pub(super) syn_retransmitted: bool,
    pub(super) rst_due: bool,
    /// Once no more of the send stream may go out, a RST ends the connection.
    pub(super) rst_wanted: bool,
    /// A segment without data, one below SND.UNA, has to ask the peer for an ACK.
    pub(super) probe_due: bool,
    /// A writer waits for room in the send buffer.
    pub(super) writer_waits: bool,
    /// The next segment may be as small as the window asks.
    pub(super) squeeze: bool,
    /// Retransmissions or probes since the peer last answered.
    pub(super) retries: u8,
    pub(super) keepalive_probes: u8,
    pub(super) iss: SeqNum,
    pub(super) irs: SeqNum,
    pub(super) snd: SendSpace,
    pub(super) rcv: RecvSpace,
    pub(super) ack: AckPolicy,
    pub(super) ts: Timestamps,
    pub(super) path: PathMtu,
    /// Payload of a full segment without SACK blocks.
    pub(super) mss: u16,
    pub(super) timers: Timers,
    pub(super) rtt: RttEstimator,
    pub(super) cc: Controller,
    pub(super) ecn: Ecn,
    pub(super) usage: WindowUsage,
    pub(super) sent: Sent,
    pub(super) recovery: Recovery,
    pub(super) rack: Rack,
    pub(super) rate: DeliveryRate,
    /// When SND.UNA last advanced, or data began to wait for that.
    pub(super) progress_at: Instant,
    /// When an ACK last came.
    pub(super) ack_at: Instant,
    /// When data was last sent; before there was any, when the handshake was over.
    pub(super) sent_at: Instant,
    pub(super) error: Option<Error>,
    /// What an ICMP error gave as a reason, should the connection time out.
    pub(super) soft_error: Option<Error>,
    pub(super) traffic: Traffic,
    pub(super) chronograph: Chronograph,
    pub(super) limit: Limit,
    pub(super) rare: Rare<Extra>,
    pub(super) repair: Rare<Repair>,
    pub(super) set: Rc<Settings>,
}

impl Tcb {
    /// Of a connection that is about to begin, in state CLOSED.
    pub fn new(now: Instant, set: &Rc<Settings>, iss: SeqNum, ts_offset: u32) -> Tcb {
        let mut tcb = Tcb::fresh(now, set, iss, ts_offset);
        tcb.limit_pacing(set.opts.max_pacing_rate);
        tcb
    }

    /// Becomes like a [new](Self::new) one, but keeps what memory it has for records of what was sent.
    pub fn renew(&mut self, now: Instant, set: &Rc<Settings>, iss: SeqNum, ts_offset: u32) {
        let kept = self.sent.leave();
        *self = Tcb::fresh(now, set, iss, ts_offset);
        self.sent = kept;
        self.limit_pacing(set.opts.max_pacing_rate);
    }

    #[inline(always)]
    fn fresh(now: Instant, set: &Rc<Settings>, iss: SeqNum, ts_offset: u32) -> Tcb {
        let cfg = &set.cfg;
        let path = PathMtu::new(now, cfg.mss.max(MIN_MSS), cfg.mtu_probing);
        let mss = payload(set, &path, cfg.timestamps);
        let window = u32::from(mss) * u32::from(set.initial_window);
        Tcb {
            state: State::Closed,
            fin_wanted: false,
            fin_sent: false,
            orphan: false,
            deaf: false,
            scaling: false,
            more: false,
            syn_due: false,
            syn_data: false,
            syn_retransmitted: false,
            rst_due: false,
            rst_wanted: false,
            probe_due: false,
            writer_waits: false,
            squeeze: false,
            retries: 0,
            keepalive_probes: 0,
            iss,
            irs: SeqNum(0),
            snd: SendSpace::new(),
            rcv: RecvSpace::opening(now, set),
            ack: AckPolicy::new(now, cfg.quick_acks),
            ts: Timestamps::new(cfg.timestamps, ts_offset),
            path,
            mss,
            timers: Timers::new(),
            rtt: RttEstimator::new(cfg.rto_initial, cfg.rto_min, cfg.rto_max),
            cc: Controller::new(set.congestion, window),
            ecn: Ecn::default(),
            usage: WindowUsage::default(),
            sent: Sent::default(),
            recovery: Recovery::new(),
            rack: Rack::new(),
            rate: DeliveryRate::new(),
            progress_at: now,
            ack_at: now,
            sent_at: now,
            error: None,
            soft_error: None,
            traffic: Traffic::default(),
            chronograph: Chronograph::new(now),
            limit: Limit::Idle,
            rare: Rare::default(),
            repair: Rare::default(),
            set: set.clone(),
        }
    }

    /// The handshake tells what peer and timestamps leave of a segment: congestion control begins.
    pub(super) fn settle_mss(&mut self) {
        self.mss = payload(&self.set, &self.path, self.ts.on);
        self.cc = Controller::new(self.set.congestion, self.initial_window());
    }

    /// Recomputes the payload of a full segment.
    pub(super) fn update_mss(&mut self) {
        let new = payload(&self.set, &self.path, self.ts.on);
        let old = core::mem::replace(&mut self.mss, new);
        if old != new {
            self.cc.get_mut().on_mss_change(old.into(), new.into());
        }
    }

    /// Initial window in bytes (RFC 6928), as it is now that the segment size is known.
    pub(super) fn initial_window(&self) -> u32 {
        u32::from(self.mss) * u32::from(self.set.initial_window)
    }

    /// Payload of a full segment, never above half of the largest window the peer ever offered, so
    /// that a peer with a tiny buffer is not left waiting (RFC 9293 3.8.6.2.1).
    pub(super) fn send_mss(&self) -> u32 {
        let mss = u32::from(self.mss);
        let cutoff = match self.snd.max_wnd {
            small if small <= u32::from(DEFAULT_MSS) => small,
            window => window / 2,
        };
        if cutoff == 0 { mss } else { mss.min(cutoff) }
    }

    /// Position in the receive direction that `seq` names; `None` lies before the SYN.
    pub(super) fn recv_position(&self, seq: SeqNum) -> Option<u64> {
        seq.position(self.irs, self.rcv.nxt)
    }

    /// Takes a change of socket options into account at once. The configuration is to be the same.
    pub fn change_settings(&mut self, now: Instant, new: &Rc<Settings>) {
        let mut new = new.clone();
        let settled = !matches!(self.state, State::SynSent | State::SynReceived);
        if settled && new.own_mss != self.set.own_mss {
            // As on Linux, the segment size is settled with the handshake.
            new = new.announcing(self.set.own_mss);
        }
        let old = core::mem::replace(&mut self.set, new.clone());
        // Setting it anew pushes as well, past a cork (tcp(7)).
        if new.nodelay && self.unsent() > 0 {
            self.rare.make().push_to = self.snd.end;
        }
        if new.quickack && !old.quickack && self.timers.delayed_ack != Instant::NEVER {
            self.ack.due = true;
        }
        if new.own_mss != old.own_mss {
            self.update_mss();
        }
        if (new.recv_buffer, new.window_clamp) != (old.recv_buffer, old.window_clamp) {
            let max = new.recv_buffer_max;
            let number = |size: Option<NonZero<u32>>| size.map(NonZero::get);
            let (buffer, clamp) = (number(new.recv_buffer), number(new.window_clamp));
            self.rcv.set_buffer(buffer, max, clamp);
        }
        if new.keepalive != old.keepalive {
            self.keepalive_probes = 0;
            self.arm_keepalive();
        }
        self.cc.change(new.congestion);
        self.limit_pacing(new.opts.max_pacing_rate);
        if new.user_timeout != old.user_timeout && self.timers.retransmit != Instant::NEVER {
            self.arm_retransmit(now);
        }
    }

    /// The application has written the send stream up to offset `end`.
    pub fn written(&mut self, end: u64) {
        self.written_more(end, false);
    }

    /// Like [`written`](Self::written); `more` announces that more will follow at once (MSG_MORE), so
    /// that a partial segment waits for it as if corked, until the next ACK at the latest.
    pub fn written_more(&mut self, end: u64, more: bool) {
        self.more = more;
        if !self.fin_wanted {
            self.snd.end = self.snd.end.max(end.saturating_add(1));
        }
    }

    /// The application has read up to offset `head`. An offset that moves back or past what came is
    /// brought into bounds.
    pub fn consumed(&mut self, now: Instant, head: u64) {
        let read = head
            .saturating_add(1)
            .clamp(self.rcv.read, self.data_end().max(self.rcv.read));
        let rtt = self.rtt.srtt();
        let tell = self.rcv.consumed(now, read, rtt, self.set.own_mss.into());
        if tell
            && matches!(
                self.state,
                State::Established | State::FinWait1 | State::FinWait2
            )
        {
            self.ack.due = true;
        }
        self.ack.due |= self.ack.is_due_on_read() && read == self.data_end();
    }

    /// Forgets what came out of order with the highest positions, to save its memory; the peer has to
    /// send it again. Returns the offset beyond which nothing is held now; `None` if there was
    /// nothing to forget.
    pub fn forget_out_of_order(&mut self) -> Option<u64> {
        let assembler = &mut self.rare.if_any()?.assembler;
        let forgot = assembler.forget_highest();
        forgot.then_some(assembler.end().max(self.rcv.nxt) - 1)
    }

    /// The connection has gone idle: gives back what memory it has kept for the next flight.
    pub fn give_back_memory(&mut self) {
        self.sent.give_back();
    }

    /// When data last came in order.
    pub fn last_in_order(&self) -> Instant {
        self.ack.data_at()
    }

    /// Says whether memory for received bytes is scarce: while it is, the receive buffer does not
    /// grow and the window opens by a few segments at a time. What was offered stays offered.
    pub fn set_scarce(&mut self, scarce: bool) {
        self.rcv.set_scarce(scarce, self.set.own_mss.into());
    }

    /// The application will write no more: FIN after all that it has written.
    pub fn shutdown_write(&mut self, now: Instant) {
        if self.fin_wanted {
            return;
        }
        self.fin_wanted = true;
        self.more = false;
        self.state = match self.state {
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            // A handshake under way is finished first.
            other => other,
        };
        if self.snd.flight() == 0 {
            self.progress_at = now;
        }
    }

    /// The application will read no more. Data that comes once it writes no more either is answered by
    /// a RST, as after [`close`](Self::close).
    pub fn shutdown_read(&mut self) {
        self.deaf = true;
    }

    /// The application closes: nobody reads or writes any more. FIN after what was written; but if
    /// data was received that nobody read, or comes later, RST (RFC 1122 4.2.2.13, RFC 2525 2.17).
    pub fn close(&mut self, now: Instant) {
        self.orphan = true;
        let unread = self.data_end() > self.rcv.read;
        match self.state {
            State::SynSent => {
                self.enter_closed();
            }
            State::Closed | State::TimeWait => {}
            _ if unread => self.abort_behind_data(),
            State::FinWait2 => self.arm_fin_wait2(now),
            _ => self.shutdown_write(now),
        }
    }

    /// Ends the connection at once, with a RST where the peer knows of it.
    pub fn abort(&mut self) {
        let known = !matches!(self.state, State::SynSent | State::TimeWait | State::Closed);
        self.rst_due |= known;
        self.enter_closed();
    }

    /// Ends the connection with a RST, before which goes what was written and may go at once: a write
    /// has long sent that, where writes send by themselves.
    pub fn abort_behind_data(&mut self) {
        self.orphan = true;
        let sends = !matches!(
            self.state,
            State::SynSent | State::SynReceived | State::TimeWait | State::Closed
        );
        if sends && self.unsent() > 0 {
            self.rst_wanted = true;
        } else {
            self.abort();
        }
    }

    pub(super) fn arm_fin_wait2(&mut self, now: Instant) {
        self.timers.end = now + self.set.fin_wait2_timeout.get();
    }

    pub(super) fn enter_time_wait(&mut self, now: Instant) {
        self.state = State::TimeWait;
        self.timers = Timers {
            end: now + self.set.time_wait.get(),
            ..Timers::new()
        };
        if let Some(rare) = self.rare.if_any() {
            rare.assembler = Assembler::new();
        }
    }

    pub(super) fn enter_closed(&mut self) -> Events {
        self.state = State::Closed;
        self.timers = Timers::new();
        if let Some(rare) = self.rare.if_any() {
            rare.reset_seq = None;
            rare.assembler = Assembler::new();
        }
        Events::CLOSED
    }

    /// Ends the connection with an error.
    pub(super) fn fail(&mut self, error: Error) -> Events {
        self.error = Some(error);
        self.enter_closed() | Events::ERROR
    }

    /// Position after the last byte received in order, a FIN not counted.
    pub(super) fn data_end(&self) -> u64 {
        let fin = u64::from(self.peer_closed());
        (self.rcv.nxt - fin).max(1)
    }
}
