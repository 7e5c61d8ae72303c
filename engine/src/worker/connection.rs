//! Connections of one worker: control blocks with what belongs to them, found by number and by
//! flow.

use super::streams::{RecvChain, SendChain};
use crate::net::Address;
use crate::shared::Listener;
use crate::tcp::{Instant, Tcb};
use psio::MacAddr;
use siphasher::sip::SipHasher13;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::Arc;

/// What identifies a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
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
    /// The record that shows it; `None` before it is accepted and after it is closed.
    pub socket: Option<u32>,
    /// The listener that it came in by, until it is established.
    pub listener: Option<Arc<Listener>>,
    /// Received bytes.
    pub recv: RecvChain,
    /// Bytes to be sent.
    pub send: SendChain,
    /// Bytes that may stand in `send`.
    pub send_limit: u32,
    /// Next station.
    pub hop: Hop,
    /// Type of service and time to live (`IP_TOS`, `IP_TTL`).
    pub tos_ttl: (u8, u8),
    /// Stamp against reuse of the number.
    pub stamp: u32,
    /// The deadline for which the timer wheel holds an entry.
    pub armed: Instant,
    /// A later entry that the wheel holds, too; `NEVER` if there is none.
    pub armed_later: Instant,
    /// Whether it is in the list of those that may have something to send.
    pub queued: bool,
    /// Whether it waits for its neighbour's address.
    pub held: bool,
    /// Whether the idle sweep knows of it.
    pub swept: bool,
    /// Whether it is counted as being in TIME-WAIT.
    pub time_wait: bool,
    /// Whether it was established at some time.
    pub was_connected: bool,
}

/// All connections of a worker.
pub struct Connections {
    table: Vec<Option<Box<Connection>>>,
    stamps: Vec<u32>,
    free: Vec<u32>,
    flows: HashMap<Flow, u32, FlowHasher>,
    len: usize,
}

/// A keyed hash, so that nobody outside can make flows collide.
pub struct FlowHasher(SipHasher13);

impl BuildHasher for FlowHasher {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        self.0
    }
}

impl Connections {
    /// No connections; `key` is secret.
    pub fn new(key: [u64; 2]) -> Self {
        let hasher = FlowHasher(SipHasher13::new_with_keys(key[0], key[1]));
        Connections {
            table: Vec::new(),
            stamps: Vec::new(),
            free: Vec::new(),
            flows: HashMap::with_hasher(hasher),
            len: 0,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a connection (its stamp is set) and returns its number.
    pub fn insert(&mut self, mut connection: Box<Connection>) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            self.table.push(None);
            self.stamps.push(0);
            self.table.len() as u32 - 1
        });
        let stamp = &mut self.stamps[id as usize];
        *stamp = stamp.wrapping_add(1);
        connection.stamp = *stamp;
        self.flows.insert(connection.flow, id);
        self.table[id as usize] = Some(connection);
        self.len += 1;
        id
    }

    /// Removes a connection.
    pub fn remove(&mut self, id: u32) -> Option<Box<Connection>> {
        let connection = self.table.get_mut(id as usize)?.take()?;
        self.flows.remove(&connection.flow);
        self.free.push(id);
        self.len -= 1;
        Some(connection)
    }

    /// A connection by number.
    #[inline]
    pub fn get(&mut self, id: u32) -> Option<&mut Connection> {
        self.table.get_mut(id as usize)?.as_deref_mut()
    }

    /// A connection by number and stamp.
    pub fn get_stamped(&mut self, (id, stamp): (u32, u32)) -> Option<&mut Connection> {
        self.get(id).filter(|connection| connection.stamp == stamp)
    }

    /// The number of a flow's connection.
    #[inline]
    pub fn find(&self, flow: &Flow) -> Option<u32> {
        self.flows.get(flow).copied()
    }

    /// The numbers of all connections.
    pub fn ids(&self) -> Vec<u32> {
        (0..self.table.len() as u32)
            .filter(|id| self.table[*id as usize].is_some())
            .collect()
    }
}
