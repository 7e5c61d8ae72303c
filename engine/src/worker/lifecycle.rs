//! What follows when a connection's state changes: its record, its sockets, its timers, its end.

use super::Stack;
use super::commands::state_number;
use super::connection::{Connection, Flow, Place};
use super::info;
use super::remains::Remains;
use super::slots::Role;
use super::streams::Bounds;
use super::timers::TimerWheel;
use crate::shared::lock;
use crate::stats::Counter;
use crate::tcp::{Error, Events, Instant, SeqNum, State};
use context::socket::{Socket, flag, state};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

impl Stack {
    /// Puts a connection into the list of those that may have something to send.
    pub fn mark(&mut self, id: u32) {
        if let Some(connection) = self.connections.get(id)
            && !connection.queued
            && !connection.held
        {
            connection.queued = true;
            let token = (id, connection.stamp);
            self.dirty.push(token);
        }
    }

    /// What follows from an event of a connection.
    pub fn after(&mut self, id: u32, events: Events) {
        let shared = self.shared.clone();
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let events = events | std::mem::take(&mut connection.news);
        if events.contains(Events::CONNECTED) {
            connection.was_connected = true;
            let early = std::mem::take(&mut connection.early);
            match connection.listener.take() {
                Some(listener) if early => self.settle_early(&listener, false),
                Some(listener) => self.offer(id, &listener),
                None => {
                    self.learn_fast_open(id);
                    // The segment size that the peers have agreed on decides.
                    self.set_send_limit(id);
                }
            }
        } else if events.contains(Events::ERROR) {
            self.learn_fast_open(id);
        }
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let record = connection.socket.and_then(|s| shared.segment.socket(s));
        let mut edge = false;
        if events.contains(Events::READABLE) {
            let end = connection.tcb.received();
            connection.recv.publish(record, end);
            edge = true;
        }
        if events.contains(Events::WRITABLE) {
            let acked = connection.tcb.acked();
            connection.progress = true;
            connection.send.release(acked, &mut self.pool);
            if connection.socket.is_none() && acked == connection.send.tail() {
                connection.send.clear(&mut self.pool);
            }
            if let Some(record) = record {
                record.engine.tx_head.store(acked, SeqCst);
            }
        }
        if events.contains(Events::URGENT)
            && let (Some(record), Some(end)) = (record, connection.tcb.urgent_end())
        {
            record.app.urgent.received.store(end, SeqCst);
            edge = true;
        }
        let changed = Events::CONNECTED | Events::PEER_CLOSED | Events::ERROR | Events::CLOSED;
        if let Some(record) = record {
            let old = record.engine.state.load(Relaxed);
            let claim = || lock(&shared.binds).claim(connection.socket?);
            let new = shown_state(connection, claim);
            if new & (state::MASK | state::WAS_CONNECTED) == state::CLOSE {
                // The socket is called again what it was bound to; as on Linux, a port that was chosen
                // for it is still shown.
                let port = connection.flow.local_port;
                let bound = claim().unwrap_or((Ipv4Addr::UNSPECIFIED.into(), port));
                record.names.set(bound.into(), None);
            }
            if old != new || events.intersects(changed) {
                if let Some(error) = connection.tcb.error()
                    && events.contains(Events::ERROR)
                {
                    record.engine.error.store(errno(error), SeqCst);
                }
                record.engine.state.store(new, SeqCst);
                edge |= events.intersects(changed);
            }
        }
        let (socket, holes) = (connection.socket, connection.tcb.has_holes());
        if events.contains(Events::WRITABLE) {
            self.set_send_limit(id);
            edge |= record.is_some_and(takes_room);
            // Threads that wait for their data to be acknowledged (SO_LINGER) look again, too.
            edge |= record.is_some_and(|r| r.app.waiters.load(Relaxed) != 0);
        }
        if events.contains(Events::READABLE) {
            self.collect_reads(id);
        }
        if edge && let Some(socket) = socket {
            self.raise(socket);
        }
        if events.intersects(Events::READABLE | Events::WRITABLE) || holes {
            self.sweep_later(id, false);
        }
        self.mark(id);
    }

    /// Raises an edge for a writer that waits for room, if there is some.
    pub fn tell_writer(&mut self, socket: u32) {
        if self.shared.segment.socket(socket).is_some_and(takes_room) {
            self.raise(socket);
        }
    }

    /// After a connection has sent what it had: arms its timer, or ends it.
    pub fn settle(&mut self, id: u32) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if connection.tcb.is_closed() {
            self.remove(id);
            return;
        }
        let Some(socket) = connection.socket else {
            match connection.tcb.to_wait() {
                Some(_) => self.wait_for_strays(id),
                None => arm(&mut self.wheel, id, connection),
            }
            return;
        };
        let mut watches_unsent = false;
        if let Some(record) = self.shared.segment.socket(socket) {
            // FIN-WAIT-1 and the like come from sending, not from an event.
            let new = shown_state(connection, || lock(&self.shared.binds).claim(socket));
            if record.engine.state.load(Relaxed) != new {
                record.engine.state.store(new, SeqCst);
            }
            let waits = record.app.flags.load(Relaxed) & flag::NOSPACE != 0;
            connection.tcb.set_writer_waits(self.now, waits);
            watches_unsent = record.options.notsent_low.load(Relaxed) != 0;
            if watches_unsent {
                let next = connection.tcb.sent_once();
                record.engine.tx_next.store(next, SeqCst);
            }
        }
        arm(&mut self.wheel, id, connection);
        if watches_unsent {
            self.tell_writer(socket);
        }
    }

    /// Does what is due now: timers of connections, neighbours, and idle memory.
    pub fn run_timers(&mut self) -> bool {
        let now = self.now;
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(now.as_micros(), |token| due.push(token));
        let any = !due.is_empty();
        for token in due.drain(..) {
            match Place::unpack(token.0) {
                Place::Connection(_) => {}
                Place::HalfOpen(id) => {
                    self.on_half_open_timer((id, token.1));
                    continue;
                }
                Place::TimeWait(id) => {
                    self.on_time_wait_timer((id, token.1));
                    continue;
                }
            }
            let Some(connection) = self.connections.get_stamped(token) else {
                continue;
            };
            if connection.armed > now {
                // One that was due too soon to be cancelled.
                continue;
            }
            connection.armed = Instant::NEVER;
            let events = connection.tcb.on_timer(now);
            self.after(token.0, events);
        }
        self.due = due;
        while let Some((packet, to)) = self.neighbors.poll_transmit(now.as_micros()) {
            self.send_arp(&packet, to);
        }
        while let Some(unresolved) = self.neighbors.poll_unresolved() {
            for token in unresolved.held {
                self.give_up_held(token);
            }
        }
        self.run_ipv6();
        for again in [0, 1] {
            while let Some(&(due, token)) = self.idle[again].front()
                && due <= now.as_micros()
            {
                self.idle[again].pop_front();
                self.sweep(token);
            }
        }
        any
    }

    /// The last reference to a socket is gone. `reset`: `SO_LINGER` with a time of 0.
    pub fn close_socket(&mut self, socket: u32, reset: bool) {
        let shared = self.shared.clone();
        let Some(slot) = self.slots.get(socket) else {
            return;
        };
        let Some(record) = shared.segment.socket(socket) else {
            return;
        };
        match slot.role.clone() {
            Role::Free => return,
            Role::Open | Role::Opening => {}
            Role::Listener(_) => self.stop_listening(socket),
            Role::Connection(id) => self.orphan(id, reset),
        }
        self.clear_remains(socket);
        // A chunk that the application has attached to its stream without writing to it.
        let open = record.app.tx_open.load(SeqCst);
        if let Some(slot) = self.slots.get(socket) {
            for holder in slot.holders.iter() {
                self.pool.take_back(open, *holder);
            }
        }
        lock(&shared.binds).release(socket);
        // Threads that still wait on it find it closed, in whatever process they are.
        record.app.flags.fetch_or(flag::CLOSED, SeqCst);
        record.wake_waiters();
        self.slots.release(socket);
    }

    /// A listener ends, on this worker at once and on the others by message.
    pub fn stop_listening(&mut self, socket: u32) {
        let shared = self.shared.clone();
        self.unlisten(socket);
        for (index, inbox) in shared.inboxes.iter().enumerate() {
            if index != self.index {
                inbox.send(crate::shared::Message::Unlisten(socket));
            }
        }
        if let Some(slot) = self.slots.get(socket)
            && let Role::Listener(listener) = slot.role.clone()
        {
            slot.watches = lock(&listener.watches).clone();
            slot.role = Role::Open;
        }
    }

    /// Ends a connection at once, with a RST where the peer knows of it.
    pub fn abort(&mut self, id: u32) {
        if let Some(connection) = self.connections.get(id) {
            connection.tcb.abort();
            self.after(id, Events::CLOSED);
        }
    }

    /// Ends an attempt to connect.
    pub fn fail(&mut self, id: u32, error: Error) {
        let shared = self.shared.clone();
        if let Some(connection) = self.connections.get(id) {
            connection.tcb.abort();
            if let Some(record) = connection.socket.and_then(|s| shared.segment.socket(s)) {
                record.engine.error.store(errno(error), SeqCst);
            }
            self.after(id, Events::CLOSED);
        }
    }

    /// Takes a connection out of all tables.
    pub fn remove(&mut self, id: u32) {
        let shared = self.shared.clone();
        let Some(mut connection) = self.connections.remove(id) else {
            return;
        };
        self.wheel.cancel(connection.timer);
        if connection.early
            && let Some(listener) = &connection.listener
        {
            let reset = connection.tcb.error() == Some(Error::Reset);
            self.settle_early(listener, reset);
        }
        let info = match connection.socket.and_then(|s| shared.segment.socket(s)) {
            Some(record) => info::of_record(&connection, record, self.now),
            None => Vec::new(),
        };
        let mut recv = std::mem::take(&mut connection.recv);
        let mut send = std::mem::take(&mut connection.send);
        if let Some(socket) = connection.socket
            && let Some(record) = shared.segment.socket(socket)
        {
            let head = recv.collect(record, &mut self.pool);
            if head.is_none_or(|head| head == connection.tcb.received()) {
                recv.clear(&mut self.pool);
            }
            // On nonsense everything stays where it is until the socket is closed.
            let limit = self.most_unacked();
            let slot = self.slots.get(socket);
            let writers = slot.map_or(&[][..], |slot| &slot.holders);
            let bounds = Bounds { limit, writers };
            let _ = send.retire(&shared.segment, record, &mut self.pool, bounds);
            let remains = Remains {
                recv,
                send,
                was_connected: connection.was_connected,
                info,
            };
            self.remains.insert(socket, remains);
            if let Some(slot) = self.slots.get(socket) {
                slot.role = Role::Open;
            }
        } else {
            recv.clear(&mut self.pool);
            send.clear(&mut self.pool);
        }
        self.connections.keep(connection);
        self.count(Counter::closed);
        self.show_connections();
    }

    /// The connections that still have something to tell their peers, a line each.
    pub fn busy(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for id in self.connections.ids() {
            let Some(c) = self.connections.get(id).filter(|c| is_busy(c)) else {
                continue;
            };
            let f = c.flow;
            let (state, unsent, flight) = (c.tcb.state(), c.tcb.unsent(), c.tcb.in_flight());
            lines.push(format!(
                "{} to {}: {state:?}, {unsent} bytes unsent, {flight} unacknowledged",
                f.local_name(),
                f.remote_name()
            ));
        }
        lines
    }

    /// Ends all connections with a RST, except those that have only to wait for old segments.
    pub fn abort_all(&mut self) {
        for id in self.connections.ids() {
            let waits = |c: &mut Connection| c.tcb.state() == State::TimeWait;
            if !self.connections.get(id).is_some_and(waits) {
                self.abort(id);
            }
        }
    }

    /// Initial sequence number and timestamp offset of a flow.
    pub fn isn(&mut self, flow: &Flow) -> (SeqNum, u32) {
        let (local, remote) = (flow.local_name(), flow.remote_name());
        let hosts = (flow.local, flow.remote);
        let ts_offset = match self.latest_offset {
            Some((latest, offset)) if latest == hosts => offset,
            _ => self.isns.timestamp_offset(local.ip(), remote.ip()),
        };
        self.latest_offset = Some((hosts, ts_offset));
        (self.isns.isn(self.now, local, remote), ts_offset)
    }
}

/// Sees to it that the wheel wakes a connection no later than its next deadline.
#[inline]
fn arm(wheel: &mut TimerWheel, id: u32, connection: &mut Connection) {
    if let Some(deadline) = connection.tcb.next_deadline()
        && deadline < connection.armed
    {
        connection.armed = deadline;
        let token = (id, connection.stamp);
        connection.timer = wheel.set_anew(connection.timer, deadline.as_micros(), token);
    }
}

/// Whether a connection still has something to tell its peer.
fn is_busy(connection: &Connection) -> bool {
    let state = connection.tcb.state();
    connection.queued
        || !matches!(
            state,
            State::TimeWait | State::Closed | State::FinWait2 | State::SynSent
        )
}

/// The state word of a connection's record. `claim`: what its socket is bound to for longer than the
/// connection lasts.
fn shown_state(connection: &Connection, claim: impl Fn() -> Option<(IpAddr, u16)>) -> u32 {
    let tcb = &connection.tcb;
    let number = match tcb.is_open_early() {
        true => state::ESTABLISHED,
        false => state_number(tcb.state()),
    };
    let mut word = number;
    if number != state::CLOSE || claim().is_some() {
        word |= state::BOUND;
    }
    if connection.was_connected {
        word |= state::WAS_CONNECTED;
    }
    let closed = matches!(tcb.state(), State::Closed | State::TimeWait);
    if tcb.peer_closed() {
        word |= state::PEER_CLOSED;
    }
    if tcb.peer_closed() || closed {
        word |= state::RX_SHUT;
    }
    if closed {
        word |= state::TX_SHUT;
    }
    if tcb.urgent_end().is_some() {
        word |= state::URGENT;
    }
    word
}

/// The errno of a connection's failure.
fn errno(error: Error) -> i32 {
    match error {
        Error::Refused => libc::ECONNREFUSED,
        Error::Reset => libc::ECONNRESET,
        Error::BrokenPipe => libc::EPIPE,
        Error::TimedOut => libc::ETIMEDOUT,
        Error::HostUnreachable => libc::EHOSTUNREACH,
        Error::NetworkUnreachable => libc::ENETUNREACH,
        Error::ProtocolUnreachable => libc::ENOPROTOOPT,
        Error::Prohibited => libc::EACCES,
    }
}

/// Whether a writer waits for room and there is some: it is to be told so, once.
fn takes_room(record: &Socket) -> bool {
    let waits = record.app.flags.load(SeqCst) & flag::NOSPACE != 0 && record.has_room();
    if waits {
        record.app.flags.fetch_and(!flag::NOSPACE, SeqCst);
    }
    waits
}
