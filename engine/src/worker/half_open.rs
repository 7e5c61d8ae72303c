//! From SYN to accept queue: handshakes that peers have begun, and what they leave behind when
//! there are too many of them.

use super::Stack;
use super::beginning::Beginning;
use super::connection::{Flow, Hop, Place};
use super::fast_open::Early;
use super::options::HeaderOptions;
use super::slab::Stamped;
use super::timers::Entry;
use crate::net::Address;
use crate::shared::Listener;
use crate::stats::Counter;
use crate::tcp::{
    Cookie, Expiry, Flags, Instant, Patience, Request, Segment as TcpSegment, SeqNum, Settings,
    State, SynCookieUse, Tcb, Verdict, reset_for, timeouts_within,
};
use context::socket::Socket;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Half-open connections of one worker, whatever the backlogs of its listeners.
const MAX_HALF_OPEN: usize = 65_536;

/// A half-open connection.
pub struct HalfOpen {
    /// What TCP remembers.
    pub request: Request,
    /// Addresses and ports.
    pub flow: Flow,
    /// The listener that it came in by.
    pub listener: Arc<Listener>,
    /// Where its segments come from.
    pub hop: Hop,
    /// Its entry in the timer wheel.
    pub timer: Entry,
    /// Stamp against reuse of the number.
    pub stamp: u32,
    /// Hash of `flow`.
    pub hash: u32,
}

impl Stamped for HalfOpen {
    fn stamp(&self) -> u32 {
        self.stamp
    }
}

/// A SYN that a connection is to come from.
pub struct Opening<'a> {
    /// Addresses and ports.
    pub flow: Flow,
    /// The SYN.
    pub syn: &'a TcpSegment<'a>,
    /// Where it came from.
    pub hop: Hop,
    /// Our initial sequence number.
    pub iss: SeqNum,
    /// The offset of our timestamps.
    pub ts_offset: u32,
}

/// What a listener's record asks of its connections.
pub struct Terms {
    /// What follows from its options.
    pub settings: Rc<Settings>,
    /// What stands in IP headers.
    pub header: HeaderOptions,
    /// Timeouts that data is waited for (TCP_DEFER_ACCEPT).
    defer: u8,
}

impl Stack {
    fn terms(&mut self, listener: &Listener, remote: Address) -> Option<Terms> {
        let shared = self.shared.clone();
        let record: &Socket = shared.segment.socket(listener.socket)?;
        let defer = record.options.defer_accept.load(Relaxed);
        Some(Terms {
            settings: self.settings_for(record, remote),
            header: HeaderOptions::of_record(record),
            defer: timeouts_within(defer, &self.tcp),
        })
    }

    /// LISTEN received a SYN (RFC 9293 section 3.10.7.2). `iss` is the initial sequence number if
    /// the flow's last connection, in TIME-WAIT, prescribes one.
    pub fn on_syn(
        &mut self,
        listener: &Arc<Listener>,
        flow: Flow,
        syn: &TcpSegment<'_>,
        hop: Hop,
        iss: Option<SeqNum>,
    ) {
        let Some(room) = self.listeners.room(&self.shared.segment, listener) else {
            return;
        };
        if self.pool.used() + (self.pool.budget() >> 6) > self.pool.budget() {
            self.count(Counter::no_memory);
            return;
        }
        if !room.to_accept {
            // Cookies would only fill the queue further.
            self.count(Counter::accept_queue_full);
            return;
        }
        let Some(terms) = self.terms(listener, flow.remote) else {
            return;
        };
        let full = !room.half_open || self.connections.half_open().len() >= MAX_HALF_OPEN;
        // A cookie cannot begin at a prescribed number: the old connection's peer goes first.
        let full = (full || self.tcp.syn_cookies == SynCookieUse::Always) && iss.is_none();
        if full && self.tcp.syn_cookies == SynCookieUse::Never {
            self.count(Counter::backlog_full);
        } else if full {
            self.answer_with_cookie(listener, &flow, syn, hop, &terms);
        } else {
            let (fresh, ts_offset) = self.isn(&flow);
            let opening = Opening {
                flow,
                syn,
                hop,
                iss: iss.unwrap_or(fresh),
                ts_offset,
            };
            match self.early(listener, &flow, syn) {
                Early::No => self.begin_handshake(listener, &opening, &terms, None),
                Early::Offer(cookie) => {
                    self.begin_handshake(listener, &opening, &terms, Some(cookie));
                }
                Early::Accept(renewed) => self.open_early(listener, &opening, &terms, renewed),
            }
        }
    }

    fn begin_handshake(
        &mut self,
        listener: &Arc<Listener>,
        opening: &Opening<'_>,
        terms: &Terms,
        cookie: Option<Cookie>,
    ) {
        let Opening {
            flow,
            syn,
            hop,
            iss,
            ts_offset,
        } = *opening;
        let mut request = Request::new(self.now, iss, ts_offset, syn);
        request.set_scarce(self.pressed);
        let mut answer = request.syn_ack(self.now, &terms.settings);
        answer.options.fast_open = cookie;
        self.listeners.begin(listener);
        let deadline = request.deadline();
        let (id, stamp) = self.connections.insert_half_open(HalfOpen {
            request,
            flow,
            listener: listener.clone(),
            hop,
            timer: Entry::NONE,
            stamp: 0,
            hash: 0,
        });
        let token = self.arm_half_open((id, stamp), deadline);
        self.show_connections();
        self.send_bare(&flow, &answer, terms.header.of(&flow), hop, Some(token));
    }

    fn answer_with_cookie(
        &mut self,
        listener: &Arc<Listener>,
        flow: &Flow,
        syn: &TcpSegment<'_>,
        hop: Hop,
        terms: &Terms,
    ) {
        let (_, ts_offset) = self.isn(flow);
        let ends = (flow.local_name(), flow.remote_name());
        let answer = self
            .cookies
            .answer(self.now, &terms.settings, ends, ts_offset, syn);
        self.count(Counter::cookies_sent);
        self.listeners.cookie_sent(listener, self.now);
        self.send_bare(flow, &answer, terms.header.of(flow), hop, None);
    }

    /// LISTEN received something else: the answer to a cookie, or what it must refuse.
    pub fn on_listener_segment(
        &mut self,
        listener: &Arc<Listener>,
        flow: Flow,
        segment: &TcpSegment<'_>,
        hop: Hop,
    ) {
        let acks = segment.flags.contains(Flags::ACK)
            && !segment.flags.intersects(Flags::SYN | Flags::RST);
        if !acks || !self.listeners.awaits_cookies(listener, self.now) {
            self.refuse(&flow, segment, hop);
            return;
        }
        let (_, ts_offset) = self.isn(&flow);
        let ends = (flow.local_name(), flow.remote_name());
        let request = self
            .cookies
            .check(self.now, &self.tcp, ends, ts_offset, segment);
        let Some(request) = request else {
            self.count(Counter::cookies_failed);
            self.refuse(&flow, segment, hop);
            return;
        };
        let room = self.listeners.room(&self.shared.segment, listener);
        if !room.is_some_and(|room| room.to_accept) {
            self.count(Counter::accept_queue_full);
            return;
        }
        let Some(terms) = self.terms(listener, flow.remote) else {
            return;
        };
        self.count(Counter::cookies_received);
        self.establish(&request, flow, listener, &terms, hop, segment);
    }

    /// A segment for a half-open connection.
    pub fn on_half_open_segment(&mut self, id: u32, segment: &TcpSegment<'_>) {
        let now = self.now;
        let Some((listener, flow)) = self.half_open_listener(id) else {
            return;
        };
        let Some(terms) = self.terms(&listener, flow.remote) else {
            return;
        };
        let Some(half_open) = self.connections.half_open().get(id) else {
            return;
        };
        let hop = half_open.hop;
        let verdict = half_open
            .request
            .on_segment(now, segment, &self.tcp, terms.defer);
        let reason = match verdict {
            Verdict::Drop(reason) => reason,
            Verdict::Repeat(reason) => {
                self.send_syn_ack(id, &terms);
                reason
            }
            Verdict::Challenge(reason) => {
                let challenge = half_open.request.challenge(now);
                self.send_bare(&flow, &challenge, terms.header.of(&flow), hop, None);
                reason
            }
            Verdict::Reset(reason) => {
                self.send_reset(&flow, segment, hop);
                reason
            }
            Verdict::Aborted => {
                self.forget_half_open(id);
                return;
            }
            Verdict::Complete => {
                self.complete(id, &listener, &terms, segment);
                return;
            }
        };
        self.counters().drop_segment(reason);
    }

    fn half_open_listener(&mut self, id: u32) -> Option<(Arc<Listener>, Flow)> {
        let half_open = self.connections.half_open().get(id)?;
        Some((half_open.listener.clone(), half_open.flow))
    }

    /// The handshake is complete: the connection goes to whoever accepts, if there is room.
    fn complete(
        &mut self,
        id: u32,
        listener: &Arc<Listener>,
        terms: &Terms,
        segment: &TcpSegment<'_>,
    ) {
        let room = self.listeners.room(&self.shared.segment, listener);
        if !room.is_some_and(|room| room.to_accept) {
            // As Linux without tcp_abort_on_overflow: the peer repeats its data, we the SYN-ACK.
            self.count(Counter::accept_queue_full);
            if let Some(half_open) = self.connections.half_open().get(id) {
                half_open.request.wait_for_room();
            }
            return;
        }
        if let Some(half_open) = self.forget_half_open(id) {
            let HalfOpen {
                request, flow, hop, ..
            } = half_open;
            self.establish(&request, flow, listener, terms, hop, segment);
        }
    }

    fn establish(
        &mut self,
        request: &Request,
        flow: Flow,
        listener: &Arc<Listener>,
        terms: &Terms,
        hop: Hop,
        segment: &TcpSegment<'_>,
    ) {
        let now = self.now;
        let (iss, ts_offset) = request.numbers();
        let beginning = Beginning {
            at: request.began(now),
            settings: &terms.settings,
            iss,
            ts_offset,
        };
        let begin = |tcb: &mut Tcb| request.settle(now, tcb);
        let id = self.adopt_connection(flow, hop, terms.header.of(&flow), &beginning, begin);
        if let Some(connection) = self.connections.get(id) {
            connection.listener = Some(listener.clone());
        }
        self.on_segment(id, segment);
        // The request has checked all that the control block checks; if they ever disagree, nobody
        // is left to wait for this connection.
        let stuck = |tcb: &Tcb| tcb.state() == State::SynReceived;
        if self.connections.get(id).is_some_and(|c| stuck(&c.tcb)) {
            self.remove(id);
        }
    }

    /// Sets the timer of a half-open connection; returns what names it among all connections.
    fn arm_half_open(&mut self, token: (u32, u32), deadline: Instant) -> (u32, u32) {
        let packed = (Place::HalfOpen(token.0).pack(), token.1);
        let timer = self.wheel.set(deadline.as_micros(), packed);
        if let Some(half_open) = self.connections.half_open().get(token.0) {
            half_open.timer = timer;
        }
        packed
    }

    /// The timer of a half-open connection is due.
    pub fn on_half_open_timer(&mut self, token: (u32, u32)) {
        let now = self.now;
        let Some(half_open) = self.connections.half_open().get_stamped(token) else {
            return;
        };
        let (listener, remote) = (half_open.listener.clone(), half_open.flow.remote);
        let was_young = half_open.request.is_young();
        let Some(terms) = self.terms(&listener, remote) else {
            return;
        };
        let patience = Patience {
            retries: self
                .listeners
                .synack_retries(&listener, self.tcp.synack_retries),
            defer: terms.defer,
        };
        let Some(half_open) = self.connections.half_open().get_stamped(token) else {
            return;
        };
        let expiry = half_open.request.on_timer(now, &self.tcp, patience);
        if expiry == Expiry::Over {
            self.count(Counter::handshake_timeouts);
            self.forget_half_open(token.0);
            return;
        }
        let deadline = half_open.request.deadline();
        if was_young {
            self.listeners.grew_old(&listener);
        }
        self.arm_half_open(token, deadline);
        if expiry == Expiry::Resend {
            self.send_syn_ack(token.0, &terms);
        }
    }

    /// The address of a half-open connection's neighbour is known now.
    pub fn on_half_open_way(&mut self, token: (u32, u32)) {
        let Some(half_open) = self.connections.half_open().get_stamped(token) else {
            return;
        };
        let (listener, remote) = (half_open.listener.clone(), half_open.flow.remote);
        if let Some(terms) = self.terms(&listener, remote) {
            self.send_syn_ack(token.0, &terms);
        }
    }

    fn send_syn_ack(&mut self, id: u32, terms: &Terms) {
        let now = self.now;
        let Some(half_open) = self.connections.half_open().get(id) else {
            return;
        };
        let (flow, hop) = (half_open.flow, half_open.hop);
        let answer = half_open.request.syn_ack(now, &terms.settings);
        self.send_bare(&flow, &answer, terms.header.of(&flow), hop, None);
    }

    /// An ICMP error came about a SYN-ACK: nobody could be told of it but by silence.
    pub fn on_half_open_error(&mut self, id: u32, seq: SeqNum) {
        let half_open = self.connections.half_open().get(id);
        if half_open.is_some_and(|h| h.request.has_sent(seq)) {
            self.forget_half_open(id);
        }
    }

    fn forget_half_open(&mut self, id: u32) -> Option<HalfOpen> {
        let half_open = self.connections.remove_half_open(id)?;
        self.wheel.cancel(half_open.timer);
        self.listeners
            .end(&half_open.listener, half_open.request.is_young());
        self.show_connections();
        Some(half_open)
    }

    /// A listener has ended: peers in mid-handshake learn of it when they go on.
    pub fn forget_handshakes(&mut self, socket: u32) {
        let of_listener = |h: &HalfOpen| h.listener.socket == socket;
        let all: Vec<u32> = self
            .connections
            .half_open()
            .iter()
            .filter(|(_, half_open)| of_listener(half_open))
            .map(|(id, _)| id)
            .collect();
        for id in all {
            self.forget_half_open(id);
        }
    }

    /// Answers a segment that matches nothing.
    pub fn refuse(&mut self, flow: &Flow, segment: &TcpSegment<'_>, hop: Hop) {
        self.count(Counter::no_connection);
        self.send_reset(flow, segment, hop);
    }

    /// The RST that a segment provokes, at a bounded rate.
    pub fn send_reset(&mut self, flow: &Flow, segment: &TcpSegment<'_>, hop: Hop) {
        let Some(reset) = reset_for(segment) else {
            return;
        };
        if self.resets.allow(self.now.as_micros()) {
            self.count(Counter::resets_sent);
            self.send_stray(flow, &reset, hop);
        } else {
            self.count(Counter::resets_limited);
        }
    }
}
