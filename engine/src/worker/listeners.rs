//! Listening sockets of one worker, and connections on their way to be accepted.

use super::Stack;
use super::beginning::Beginning;
use super::chunks::ChunkPool;
use super::connection::{Flow, Hop};
use super::flows::FlowHasher;
use super::slots::Role;
use crate::shared::{Listener, lock};
use crate::stats::Counter;
use crate::tcp::{COOKIE_LIFETIME, Duration, Instant, Tcb};
use context::Segment;
use context::chunk::Class;
use context::socket::{Waiting, state};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

/// How long a connection that was opened early and reset counts as pending.
const EARLY_RESET: Duration = Duration::from_secs(60);

/// What a worker has of a listener.
struct Local {
    listener: Arc<Listener>,
    /// The large chunk that holds this worker's accept ring.
    chunk: u32,
    tail: u32,
    /// Connections that have not finished their handshake.
    half_open: u32,
    /// Those of them that were never reminded.
    young: u32,
    /// Until when a cookie may be answered.
    cookies_until: Instant,
    /// Connections that were opened early and have not finished their handshake (RFC 7413).
    early: u32,
    /// Until when those that were reset instead count as well.
    early_reset: VecDeque<Instant>,
}

/// What a listener can still take.
pub struct Room {
    /// A connection that waits to be accepted.
    pub to_accept: bool,
    /// A handshake to be remembered.
    pub half_open: bool,
}

impl Listener {
    /// How well it fits a destination address, more being better; `None` if it is for others.
    fn rank(&self, to: IpAddr) -> Option<u8> {
        match self.address {
            exact if exact == to => Some(2),
            any if !any.is_unspecified() => None,
            any if any.is_ipv4() == to.is_ipv4() => Some(1),
            any if any.is_ipv6() && !self.only_v6 => Some(0),
            _ => None,
        }
    }
}

/// The listeners of one worker.
pub struct Listeners {
    by_port: BTreeMap<u16, Vec<Local>>,
    /// Chooses among several, so that nobody outside can aim at one.
    hasher: FlowHasher,
}

impl Listeners {
    /// No listeners; `key` is secret.
    pub fn new(key: [u64; 2]) -> Self {
        Listeners {
            by_port: BTreeMap::new(),
            hasher: FlowHasher::new(key),
        }
    }

    /// Adds a listener and gives it an accept ring. False if there is no memory for that.
    pub fn add(
        &mut self,
        segment: &Segment,
        pool: &mut ChunkPool,
        worker: usize,
        listener: Arc<Listener>,
    ) -> bool {
        let Some(chunk) = pool.take(Class::ALL[2]) else {
            return false;
        };
        let (Some(ring), Some(record)) =
            (segment.accept_ring(chunk), segment.socket(listener.socket))
        else {
            pool.release(chunk);
            return false;
        };
        ring.reset();
        record.accept_rings[worker].store(chunk, Release);
        self.by_port.entry(listener.port).or_default().push(Local {
            listener,
            chunk,
            tail: 0,
            half_open: 0,
            young: 0,
            cookies_until: Instant::ZERO,
            early: 0,
            early_reset: VecDeque::new(),
        });
        true
    }

    /// Removes a listener; its ring's memory goes back, and the record does not name it any more.
    pub fn remove(&mut self, segment: &Segment, pool: &mut ChunkPool, worker: usize, socket: u32) {
        self.by_port.retain(|_, locals| {
            locals.retain(|local| {
                let stays = local.listener.socket != socket;
                if !stays {
                    if let Some(record) = segment.socket(socket) {
                        record.accept_rings[worker].store(0, Release);
                    }
                    pool.release(local.chunk);
                }
                stays
            });
            !locals.is_empty()
        });
    }

    /// The listener for a flow: one bound to the address goes before one for any address of the
    /// family, and that before one for any address at all; among several (`SO_REUSEPORT`) the
    /// flow's hash decides.
    pub fn find(&self, flow: &Flow) -> Option<&Arc<Listener>> {
        let locals = self.by_port.get(&flow.local_port)?;
        let to = flow.local.ip();
        let best = locals.iter().filter_map(|l| l.listener.rank(to)).max()?;
        let matching = || {
            locals
                .iter()
                .filter(|local| local.listener.rank(to) == Some(best))
        };
        let n = match matching().count() {
            1 => return matching().next().map(|local| &local.listener),
            n => n as u64,
        };
        let hash = u64::from(self.hasher.hash(flow));
        let choice = ((hash * n) >> 32) as usize;
        matching().nth(choice).map(|local| &local.listener)
    }

    /// The connection at the head of a listener's queue. What stands behind it waits as well.
    pub fn next_to_accept(&self, segment: &Segment, socket: u32) -> Option<u32> {
        let mut locals = self.by_port.values().flatten();
        let local = locals.find(|local| local.listener.socket == socket)?;
        let ring = segment.accept_ring(local.chunk)?;
        let [first] = ring.first(ring.head()).ok()??;
        Some(Waiting::from_word(first).socket)
    }

    fn local(&mut self, listener: &Listener) -> Option<&mut Local> {
        self.by_port
            .get_mut(&listener.port)?
            .iter_mut()
            .find(|local| std::ptr::eq(&*local.listener, listener))
    }

    /// What a listener can take, as Linux counts: one more than the backlog of each kind. `None`
    /// if it has ended.
    pub fn room(&mut self, segment: &Segment, listener: &Listener) -> Option<Room> {
        let local = self.local(listener)?;
        let ring = segment.accept_ring(local.chunk)?;
        let waiting = local.tail.wrapping_sub(ring.head());
        let backlog = listener.backlog.load(Relaxed);
        Some(Room {
            to_accept: waiting <= backlog,
            half_open: local.half_open <= backlog,
        })
    }

    /// A handshake has begun.
    pub fn begin(&mut self, listener: &Listener) {
        if let Some(local) = self.local(listener) {
            local.half_open += 1;
            local.young += 1;
        }
    }

    /// A peer had to be reminded of its handshake.
    pub fn grew_old(&mut self, listener: &Listener) {
        if let Some(local) = self.local(listener) {
            local.young = local.young.saturating_sub(1);
        }
    }

    /// A handshake has ended, well or not.
    pub fn end(&mut self, listener: &Listener, young: bool) {
        if let Some(local) = self.local(listener) {
            local.half_open = local.half_open.saturating_sub(1);
            local.young = local.young.saturating_sub(u32::from(young));
        }
    }

    /// How often a SYN-ACK is repeated. Half of the room is kept for young handshakes: where old
    /// ones take more, they end sooner (as Linux's reqsk_timer_handler).
    pub fn synack_retries(&mut self, listener: &Listener, configured: u8) -> u8 {
        let Some(local) = self.local(listener) else {
            return configured;
        };
        let backlog = listener.backlog.load(Relaxed);
        let mut retries = configured;
        if local.half_open.saturating_mul(2) > backlog.max(8) {
            let mut young = local.young.saturating_mul(2);
            while retries > 2 && local.half_open >= young {
                retries -= 1;
                young = young.saturating_mul(2);
            }
        }
        retries
    }

    /// Whether one more connection may be opened early, of `most`.
    pub fn may_open_early(&mut self, listener: &Listener, now: Instant, most: u32) -> bool {
        let Some(local) = self.local(listener) else {
            return false;
        };
        while local.early_reset.front().is_some_and(|until| *until <= now) {
            local.early_reset.pop_front();
        }
        (local.early as usize + local.early_reset.len()) < most as usize
    }

    /// A connection was opened early.
    pub fn opened_early(&mut self, listener: &Listener) {
        if let Some(local) = self.local(listener) {
            local.early += 1;
        }
    }

    /// A connection that was opened early has finished its handshake or has ended. One that was
    /// reset may come from a false address whose owner was surprised: it takes its place for a while
    /// more (RFC 7413 section 5.1).
    pub fn early_settled(&mut self, listener: &Listener, reset: bool, now: Instant) {
        if let Some(local) = self.local(listener) {
            local.early = local.early.saturating_sub(1);
            if reset {
                local.early_reset.push_back(now + EARLY_RESET);
            }
        }
    }

    /// A cookie was sent: for a while, its answer may come.
    pub fn cookie_sent(&mut self, listener: &Listener, now: Instant) {
        if let Some(local) = self.local(listener) {
            local.cookies_until = now + COOKIE_LIFETIME;
        }
    }

    /// Whether the answer to a cookie may still come. Outside of a flood, none can be forged.
    pub fn awaits_cookies(&mut self, listener: &Listener, now: Instant) -> bool {
        self.local(listener)
            .is_some_and(|local| now < local.cookies_until)
    }
}

impl Stack {
    /// The listener that a flow's SYN is for.
    pub fn listener_for(&self, flow: &Flow) -> Option<Arc<Listener>> {
        self.listeners.find(flow).cloned()
    }

    /// Adds a connection to the tables; `begin` does to its control block what comes first.
    pub fn adopt_connection(
        &mut self,
        flow: Flow,
        hop: Hop,
        tos_ttl: (u8, u8),
        beginning: &Beginning<'_>,
        begin: impl FnOnce(&mut Tcb),
    ) -> u32 {
        let id = self.connections.insert(flow, beginning);
        if let Some(connection) = self.connections.get(id) {
            begin(&mut connection.tcb);
            let path = self.path_mtus.get(self.now.as_micros(), flow.remote);
            if let Some((mss, until)) = path {
                let until = Instant::from_micros(until);
                connection.tcb.limit_path(mss, until);
            }
            connection.tcb.set_scarce(self.pressed);
            connection.send_limit = self.shared.config.send_buffer;
            (connection.hop, connection.tos_ttl) = (hop, tos_ttl);
        }
        self.show_connections();
        id
    }

    /// Publishes how many connections there are.
    pub fn show_connections(&self) {
        self.counters()
            .set(Counter::connections, self.connections.len() as u64);
    }

    /// A passively opened connection is established: gives it a record and puts that into its
    /// listener's queue. Without a record or room, it is reset.
    pub fn offer(&mut self, id: u32, listener: &Arc<Listener>) {
        let shared = self.shared.clone();
        let Some(local) = self.listeners.local(listener) else {
            self.abort(id);
            return;
        };
        let chunk = local.chunk;
        let Some(ring) = shared.segment.accept_ring(chunk) else {
            return;
        };
        let record_of = |socket| shared.segment.socket(socket);
        let (Some(socket), Some(from)) = (self.socket_record(), record_of(listener.socket)) else {
            self.count(Counter::no_memory);
            self.abort(id);
            return;
        };
        let Some(record) = record_of(socket) else {
            return;
        };
        record.inherit(&from.options);
        if let Some(slot) = self.slots.get(socket) {
            slot.role = Role::Connection(id);
            slot.waits_for = Some(listener.socket);
        }
        if let Some(connection) = self.connections.get(id) {
            connection.socket = Some(socket);
            connection.recv.attach(record);
            let urgent = connection.tcb.urgent_end().unwrap_or(0);
            record.app.urgent.received.store(urgent, Relaxed);
            let flow = connection.flow;
            record
                .names
                .set(flow.local_name(), Some(flow.remote_name()));
            record.engine.state.store(
                state::ESTABLISHED | state::BOUND | state::WAS_CONNECTED,
                Release,
            );
        }
        self.set_send_limit(id);
        self.count(Counter::accepts);
        let Some(local) = self.listeners.local(listener) else {
            return;
        };
        let waiting = Waiting {
            socket,
            since: self.now.as_micros() as u32,
        };
        match ring.push(&mut local.tail, [waiting.to_word()]) {
            Ok(true) => self.announce_accept(listener),
            _ => {
                // The application has spoilt its own queue.
                self.count(Counter::misbehaved);
                self.abort(id);
            }
        }
    }

    /// A connection waits to be accepted: tells whoever watches the listener. Its record may be
    /// another worker's, so this does not go through the list of edges.
    fn announce_accept(&mut self, listener: &Arc<Listener>) {
        let watches = lock(&listener.watches).clone();
        let shared = (&**self.shared, self.index);
        self.edges.tell(shared, listener.socket, &watches);
        if let Some(record) = self.shared.segment.socket(listener.socket)
            && record.wake_waiters()
        {
            self.count(Counter::wakes);
        }
    }

    /// Ends a listener on this worker: connections that wait for it are reset.
    pub fn unlisten(&mut self, socket: u32) {
        let segment = &self.shared.segment;
        self.listeners
            .remove(segment, &mut self.pool, self.index, socket);
        let waiting: Vec<u32> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.waits_for == Some(socket))
            .map(|(waiting, _)| waiting)
            .collect();
        for waiting in waiting {
            self.close_socket(waiting, true);
        }
        self.forget_handshakes(socket);
    }
}
