//! Listening sockets of one worker, and connections on their way to be accepted.

use super::Stack;
use super::chunks::ChunkPool;
use super::connection::{Connection, Flow, Hop};
use super::slots::Role;
use super::streams::{RecvChain, SendChain};
use crate::shared::{Listener, NO_PROCESS, lock};
use crate::stats::Counter;
use crate::tcp::{Instant, Segment as TcpSegment, Tcb};
use context::Segment;
use context::chunk::Class;
use context::socket::state;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

/// What a worker has of a listener.
struct Local {
    listener: Arc<Listener>,
    /// The large chunk that holds this worker's accept ring.
    chunk: u32,
    tail: u32,
    /// Connections that have not finished their handshake.
    half_open: u32,
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
#[derive(Default)]
pub struct Listeners {
    by_port: HashMap<u16, Vec<Local>>,
}

impl Listeners {
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
        let n = matching().count();
        let mix = (flow.remote.mapped().to_bits() as u32)
            .wrapping_mul(0x9e37_79b1)
            .wrapping_add(u32::from(flow.remote_port).wrapping_mul(0x85eb_ca6b));
        let choice = ((u64::from(mix) * n as u64) >> 32) as usize;
        matching().nth(choice).map(|local| &local.listener)
    }

    fn local(&mut self, listener: &Listener) -> Option<&mut Local> {
        self.by_port
            .get_mut(&listener.port)?
            .iter_mut()
            .find(|local| std::ptr::eq(&*local.listener, listener))
    }

    /// A half-open connection has ended or is established.
    pub fn settle(&mut self, listener: &Listener) {
        if let Some(local) = self.local(listener) {
            local.half_open = local.half_open.saturating_sub(1);
        }
    }
}

impl Stack {
    /// The listener that a flow's SYN is for.
    pub fn listener_for(&self, flow: &Flow) -> Option<Arc<Listener>> {
        self.listeners.find(flow).cloned()
    }

    /// LISTEN received a SYN (RFC 9293 section 3.10.7.2).
    pub fn open_passively(
        &mut self,
        listener: &Arc<Listener>,
        flow: Flow,
        syn: &TcpSegment<'_>,
        hop: Hop,
    ) {
        let shared = self.shared.clone();
        let Some(local) = self.listeners.local(listener) else {
            return;
        };
        let Some(ring) = shared.segment.accept_ring(local.chunk) else {
            return;
        };
        let waiting = local.tail.wrapping_sub(ring.head()).min(u32::MAX / 2) + local.half_open;
        // As Linux, one more than the backlog may wait.
        if waiting > listener.backlog.load(Relaxed) {
            self.count(Counter::backlog_full);
            return;
        }
        if self.pool.used() + (self.pool.budget() >> 6) > self.pool.budget() {
            self.count(Counter::no_memory);
            return;
        }
        local.half_open += 1;
        let Some(record) = shared.segment.socket(listener.socket) else {
            return;
        };
        let (options, tos_ttl) = super::commands::read_options(record, shared.config.keepalive);
        let (iss, ts_offset) = self.isn(&flow);
        let tcb = Tcb::accept(self.now, &self.tcp, &options, iss, ts_offset, syn);
        let id = self.adopt_connection(tcb, flow, hop, tos_ttl);
        if let Some(connection) = self.connections.get(id) {
            connection.listener = Some(listener.clone());
        }
        self.mark(id);
    }

    /// Adds a connection to the tables.
    pub fn adopt_connection(
        &mut self,
        mut tcb: Tcb,
        flow: Flow,
        hop: Hop,
        tos_ttl: (u8, u8),
    ) -> u32 {
        if let Some((mss, until)) = self.path_mtus.get(self.now.as_micros(), flow.remote) {
            tcb.limit_path(mss, Instant::from_micros(until));
        }
        let id = self.connections.insert(Box::new(Connection {
            tcb,
            flow,
            socket: None,
            listener: None,
            recv: RecvChain::default(),
            send: SendChain::default(),
            send_limit: self.shared.config.send_buffer,
            hop,
            tos_ttl,
            stamp: 0,
            armed: Instant::NEVER,
            armed_later: Instant::NEVER,
            queued: false,
            held: false,
            swept: false,
            time_wait: false,
            was_connected: false,
        }));
        self.counters()
            .set(Counter::connections, self.connections.len() as u64);
        id
    }

    /// A passively opened connection is established: gives it a record and puts that into its
    /// listener's queue. Without a record or room, it is reset.
    pub fn offer(&mut self, id: u32, listener: &Arc<Listener>) {
        let shared = self.shared.clone();
        self.listeners.settle(listener);
        let Some(local) = self.listeners.local(listener) else {
            self.abort(id);
            return;
        };
        let chunk = local.chunk;
        let Some(ring) = shared.segment.accept_ring(chunk) else {
            return;
        };
        let record_of = |socket| shared.segment.socket(socket);
        let (Some(socket), Some(from)) = (
            self.slots.allocate(&shared.segment, NO_PROCESS),
            record_of(listener.socket),
        ) else {
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
            let flow = connection.flow;
            record
                .names
                .set(flow.local_name(), Some(flow.remote_name()));
            record.engine.tx_limit.store(connection.send_limit, Relaxed);
            record.engine.state.store(
                state::ESTABLISHED | state::BOUND | state::WAS_CONNECTED,
                Release,
            );
        }
        self.count(Counter::accepts);
        let Some(local) = self.listeners.local(listener) else {
            return;
        };
        match ring.push(&mut local.tail, [u64::from(socket)]) {
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
        self.tell(listener.socket, &watches);
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
        let half_open: Vec<u32> = self
            .connections
            .ids()
            .into_iter()
            .filter(|id| {
                self.connections
                    .get(*id)
                    .and_then(|c| c.listener.as_ref())
                    .is_some_and(|l| l.socket == socket)
            })
            .collect();
        for id in half_open {
            self.abort(id);
        }
    }
}
