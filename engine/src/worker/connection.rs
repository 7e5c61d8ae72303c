//! Connections of one worker: control blocks with what belongs to them, found by number and by
//! flow.

use super::beginning::Beginning;
use super::flows::{FlowHasher, FlowTable};
use super::half_open::HalfOpen;
use super::port_conflict::Sharing;
use super::slab::{Slab, Stamped};
use super::streams::{RecvChain, SendChain};
use super::time_wait::Waiting;
use super::timers::Entry;
use crate::net::Address;
use crate::port_use::PortUse;
use crate::shared::Listener;
use crate::tcp::{Events, Instant, Tcb};
use psio::MacAddr;
use std::net::SocketAddr;
use std::sync::Arc;

/// What identifies a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// The stack's address.
    pub local: Address,
    /// The peer's address.
    pub remote: Address,
    /// The stack's port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
}

impl Flow {
    /// The stack's address and port.
    pub fn local_name(&self) -> SocketAddr {
        (self.local.ip(), self.local_port).into()
    }

    /// The peer's address and port.
    pub fn remote_name(&self) -> SocketAddr {
        (self.remote.ip(), self.remote_port).into()
    }
}

/// Where a connection's frames go first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hop {
    /// Not looked up yet, or to be looked up anew.
    Unknown,
    /// To this station, by what was known at that time.
    Station(MacAddr, Instant),
    /// Back into this worker.
    Loopback,
}

/// A connection.
pub struct Connection {
    /// TCP's state.
    pub tcb: Tcb,
    /// Addresses and ports.
    pub flow: Flow,
    /// Their hash.
    pub hash: u32,
    /// The record that shows it; `None` before it is accepted and after it is closed.
    pub socket: Option<u32>,
    /// The listener that it came in by, until that has got it.
    pub listener: Option<Arc<Listener>>,
    /// Received bytes.
    pub recv: RecvChain,
    /// Bytes to be sent.
    pub send: SendChain,
    /// Bytes that may stand in `send` while memory is plentiful.
    pub send_limit: u32,
    /// Whether its writer waits for chunks.
    pub starved: bool,
    /// Next station.
    pub hop: Hop,
    /// Type of service and time to live (`IP_TOS`, `IP_TTL`).
    pub tos_ttl: (u8, u8),
    /// Stamp against reuse of the number.
    pub stamp: u32,
    /// The deadline for which the timer wheel holds an entry.
    pub armed: Instant,
    /// That entry.
    pub timer: Entry,
    /// What a burst of segments told of its streams and nobody has looked at yet.
    pub news: Events,
    /// Whether it is in the list of those that may have something to send.
    pub queued: bool,
    /// Whether it waits for its neighbour's address.
    pub held: bool,
    /// Whether the idle sweep knows of it.
    pub swept: bool,
    /// Whether data was acknowledged since its next station was looked up.
    pub progress: bool,
    /// Whether its application has left it.
    pub orphan: bool,
    /// Whether it was established at some time.
    pub was_connected: bool,
    /// How it shared its port when its application left it.
    pub sharing: Sharing,
    /// Whether its application got it before its handshake was complete (RFC 7413).
    pub early: bool,
}

impl Stamped for Box<Connection> {
    #[inline]
    fn stamp(&self) -> u32 {
        self.stamp
    }
}

/// What stands behind a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// A connection with a control block.
    Connection(u32),
    /// A handshake under way.
    HalfOpen(u32),
    /// A connection that has only to wait.
    TimeWait(u32),
}

/// Bits of a packed place that say what it is.
const KIND_SHIFT: u32 = 30;

impl Place {
    /// As a number; that of a connection is its own.
    pub fn pack(self) -> u32 {
        match self {
            Place::Connection(id) => id,
            Place::HalfOpen(id) => id | 1 << KIND_SHIFT,
            Place::TimeWait(id) => id | 2 << KIND_SHIFT,
        }
    }

    /// From the number.
    pub fn unpack(number: u32) -> Place {
        let id = number & ((1 << KIND_SHIFT) - 1);
        match number >> KIND_SHIFT {
            0 => Place::Connection(id),
            1 => Place::HalfOpen(id),
            _ => Place::TimeWait(id),
        }
    }
}

/// All connections of a worker, from the first SYN to the end of TIME-WAIT.
pub struct Connections {
    hasher: FlowHasher,
    /// Open and half-open connections.
    flows: FlowTable,
    /// Those that have only to wait: there may be many more of them, and frames are seldom theirs.
    waiting_flows: FlowTable,
    /// The flow found last: in a burst, many frames are of one.
    latest: Option<(Flow, Place)>,
    full: Slab<Box<Connection>>,
    half_open: Slab<HalfOpen>,
    time_wait: Slab<Waiting>,
    /// Of `full`, those that their application has left.
    orphans: usize,
    ports: Arc<PortUse>,
    /// Memory of ended connections, for the next ones.
    #[expect(clippy::vec_box, reason = "a box goes back into the table as it is")]
    spare: Vec<Box<Connection>>,
}

/// Most ended connections whose memory is kept.
const MOST_SPARE: usize = 64;

impl Connections {
    /// No connections; `key` is secret, and their ports are counted in `ports`.
    pub fn new(key: [u64; 2], ports: Arc<PortUse>) -> Self {
        Connections {
            hasher: FlowHasher::new(key),
            flows: FlowTable::default(),
            waiting_flows: FlowTable::default(),
            latest: None,
            full: Slab::default(),
            half_open: Slab::default(),
            time_wait: Slab::default(),
            orphans: 0,
            ports,
            spare: Vec::new(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.flows.len() + self.waiting_flows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty() && self.waiting_flows.is_empty()
    }

    /// What a flow leads to.
    #[inline]
    pub fn place(&self, flow: &Flow) -> Option<Place> {
        match self.latest {
            Some((latest, place)) if latest == *flow => Some(place),
            _ => self.search(flow),
        }
    }

    #[inline]
    fn search(&self, flow: &Flow) -> Option<Place> {
        let hash = self.hasher.hash(flow);
        let is_it = |place| self.is_at(place, flow);
        let open = self.flows.find(hash, is_it);
        open.or_else(|| self.waiting_flows.find(hash, is_it))
    }

    /// Not inlined, so that the search has the registers to itself.
    #[inline(never)]
    fn is_at(&self, place: Place, flow: &Flow) -> bool {
        self.flow_of(place) == Some(flow)
    }

    #[inline]
    fn flow_of(&self, place: Place) -> Option<&Flow> {
        match place {
            Place::Connection(id) => self.full.peek(id).map(|connection| &connection.flow),
            Place::HalfOpen(id) => self.half_open.peek(id).map(|half_open| &half_open.flow),
            Place::TimeWait(id) => self.time_wait.peek(id).map(|waiting| &waiting.flow),
        }
    }

    /// What the flow of a frame leads to; the next frame is likely of the same.
    #[inline(always)]
    pub fn place_of_frame(&mut self, flow: &Flow) -> Option<Place> {
        if let Some((latest, place)) = self.latest
            && latest == *flow
        {
            return Some(place);
        }
        self.look_up(flow)
    }

    #[inline(never)]
    fn look_up(&mut self, flow: &Flow) -> Option<Place> {
        let place = self.search(flow)?;
        self.latest = Some((*flow, place));
        Some(place)
    }

    fn put(&mut self, flow: Flow, hash: u32, place: Place) {
        debug_assert!(self.is_free(&flow), "{flow:?} is there twice");
        self.latest = Some((flow, place));
        self.table_of(place).insert(hash, place);
    }

    fn forget(&mut self, hash: u32, place: Place) {
        self.latest = None;
        self.table_of(place).remove(hash, place);
    }

    fn table_of(&mut self, place: Place) -> &mut FlowTable {
        match place {
            Place::Connection(_) | Place::HalfOpen(_) => &mut self.flows,
            Place::TimeWait(_) => &mut self.waiting_flows,
        }
    }

    /// The connections that have a local port, handshakes under way left out: as on Linux, these are no
    /// sockets yet.
    pub fn at_port(&self, port: u16) -> impl Iterator<Item = (&Flow, Place)> {
        let no_handshake = |place: &Place| !matches!(place, Place::HalfOpen(_));
        let places = self.flows.places().filter(no_handshake);
        let places = places.chain(self.waiting_flows.places());
        let flows = places.filter_map(|place| Some((self.flow_of(place)?, place)));
        flows.filter(move |(flow, _)| flow.local_port == port)
    }

    /// A connection by number, to look at.
    pub fn peek(&self, id: u32) -> Option<&Connection> {
        self.full.peek(id).map(|connection| &**connection)
    }

    /// Whether nothing is known of a flow.
    pub fn is_free(&self, flow: &Flow) -> bool {
        self.place(flow).is_none()
    }

    /// Adds a connection and returns its number. Its control block is new; it has no next station and no
    /// bytes in its streams.
    pub fn insert(&mut self, flow: Flow, beginning: &Beginning<'_>) -> u32 {
        let Beginning {
            at,
            settings,
            iss,
            ts_offset,
        } = *beginning;
        let mut connection = match self.spare.pop() {
            Some(mut spare) => {
                spare.tcb.renew(at, settings, iss, ts_offset);
                spare.clear();
                spare
            }
            None => Box::new(Connection::new(
                Tcb::new(at, settings, iss, ts_offset),
                flow,
            )),
        };
        let hash = self.hasher.hash(&flow);
        (connection.flow, connection.hash) = (flow, hash);
        let (id, _) = self.full.insert(|stamp| {
            connection.stamp = stamp;
            connection
        });
        self.ports.add(flow.local_port);
        self.put(flow, hash, Place::Connection(id));
        id
    }

    /// Removes a connection.
    pub fn remove(&mut self, id: u32) -> Option<Box<Connection>> {
        let connection = self.full.remove(id)?;
        self.orphans -= usize::from(connection.orphan);
        self.ports.remove(connection.flow.local_port);
        self.forget(connection.hash, Place::Connection(id));
        Some(connection)
    }

    /// The application leaves a connection. Returns how many there are of which that is true.
    pub fn count_orphan(&mut self, id: u32) -> usize {
        if let Some(connection) = self.full.get(id)
            && !std::mem::replace(&mut connection.orphan, true)
        {
            self.orphans += 1;
        }
        self.orphans
    }

    /// Keeps the memory of a connection that was removed, unless much hangs on it.
    pub fn keep(&mut self, mut connection: Box<Connection>) {
        if self.spare.len() < MOST_SPARE && connection.tcb.in_flight() == 0 {
            connection.listener = None;
            self.spare.push(connection);
        }
    }

    /// A connection by number.
    #[inline]
    pub fn get(&mut self, id: u32) -> Option<&mut Connection> {
        self.full.get(id).map(|connection| &mut **connection)
    }

    /// A connection by number and stamp.
    pub fn get_stamped(&mut self, token: (u32, u32)) -> Option<&mut Connection> {
        self.full
            .get_stamped(token)
            .map(|connection| &mut **connection)
    }

    /// The number of a flow's connection.
    #[inline]
    pub fn find(&self, flow: &Flow) -> Option<u32> {
        match self.place(flow)? {
            Place::Connection(id) => Some(id),
            Place::HalfOpen(_) | Place::TimeWait(_) => None,
        }
    }

    /// The numbers of all connections with a control block.
    pub fn ids(&self) -> Vec<u32> {
        self.full.iter().map(|(id, _)| id).collect()
    }

    /// Adds a half-open connection; returns its number and stamp.
    pub fn insert_half_open(&mut self, mut half_open: HalfOpen) -> (u32, u32) {
        let flow = half_open.flow;
        let hash = self.hasher.hash(&flow);
        let token = self.half_open.insert(|stamp| {
            (half_open.hash, half_open.stamp) = (hash, stamp);
            half_open
        });
        self.put(flow, hash, Place::HalfOpen(token.0));
        token
    }

    /// Removes a half-open connection.
    pub fn remove_half_open(&mut self, id: u32) -> Option<HalfOpen> {
        let half_open = self.half_open.remove(id)?;
        self.forget(half_open.hash, Place::HalfOpen(id));
        Some(half_open)
    }

    /// Adds a connection that has only to wait; returns its number and stamp.
    pub fn insert_time_wait(&mut self, mut waiting: Waiting) -> (u32, u32) {
        let flow = waiting.flow;
        let hash = self.hasher.hash(&flow);
        let token = self.time_wait.insert(|stamp| {
            (waiting.hash, waiting.stamp) = (hash, stamp);
            waiting
        });
        self.ports.add(flow.local_port);
        self.put(flow, hash, Place::TimeWait(token.0));
        token
    }

    /// A flow is to be entered soon among those that have only to wait, or to be taken out there. Among so
    /// many, its place in the table has to be fetched from far away.
    pub fn fetch_waiting(&self, flow: &Flow) {
        self.waiting_flows.fetch(self.hasher.hash(flow));
    }

    /// Removes a connection that has only to wait.
    pub fn remove_time_wait(&mut self, id: u32) -> Option<Waiting> {
        let waiting = self.time_wait.remove(id)?;
        self.ports.remove(waiting.flow.local_port);
        self.forget(waiting.hash, Place::TimeWait(id));
        Some(waiting)
    }

    /// The connections that have only to wait.
    pub fn time_wait(&mut self) -> &mut Slab<Waiting> {
        &mut self.time_wait
    }

    /// One of them, to look at.
    pub fn waiting(&self, id: u32) -> Option<&Waiting> {
        self.time_wait.peek(id)
    }

    /// The half-open connections.
    pub fn half_open(&mut self) -> &mut Slab<HalfOpen> {
        &mut self.half_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_being_packed() {
        for id in [0, 1, (1 << KIND_SHIFT) - 1] {
            for place in [
                Place::Connection(id),
                Place::HalfOpen(id),
                Place::TimeWait(id),
            ] {
                assert_eq!(Place::unpack(place.pack()), place);
            }
            assert_eq!(Place::Connection(id).pack(), id);
        }
    }
}
