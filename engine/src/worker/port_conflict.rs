//! Connections stand in the way of bind(2) as bound sockets do, to the end of TIME-WAIT (Linux's
//! `inet_csk_bind_conflict`).

use super::Stack;
use super::connection::{Connection, Place};
use crate::binds::Bind;
use context::socket::{Socket, option};
use std::sync::atomic::Ordering::Relaxed;

/// With whom a socket shares its port.
#[derive(Clone, Copy, Default)]
pub struct Sharing {
    /// `SO_REUSEADDR`.
    pub address: bool,
    /// `SO_REUSEPORT`.
    pub port: bool,
}

impl Sharing {
    /// What a record says now.
    pub fn of(record: &Socket) -> Sharing {
        let bits = record.options.bits.load(Relaxed);
        Sharing {
            address: bits & option::REUSEADDR != 0,
            port: bits & option::REUSEPORT != 0,
        }
    }
}

impl Stack {
    /// Whether one of this worker's connections has the port and does not share it.
    pub fn holds_port(&self, bind: &Bind, port: u16) -> bool {
        if !self.shared.ports[self.index].has(port) {
            return false;
        }
        let mut connections = self.connections.at_port(port);
        connections.any(|(flow, place)| {
            let sharing = self.sharing(place).unwrap_or_default();
            bind.conflicts(&Bind {
                address: flow.local.ip(),
                only_v6: false,
                reuse_address: sharing.address,
                reuse_port: sharing.port,
                listens: false,
                // Whose connection it is nobody has noted.
                ..*bind
            })
        })
    }

    fn sharing(&self, place: Place) -> Option<Sharing> {
        match place {
            Place::Connection(id) => {
                let connection = self.connections.peek(id)?;
                let record = shown_by(connection).and_then(|s| self.shared.segment.socket(s));
                Some(record.map_or(connection.sharing, Sharing::of))
            }
            Place::TimeWait(id) => Some(self.connections.waiting(id)?.sharing),
            Place::HalfOpen(_) => None,
        }
    }
}

/// The socket whose options count for a connection; before it has one of its own, its listener's.
fn shown_by(connection: &Connection) -> Option<u32> {
    let listener = connection.listener.as_ref();
    connection
        .socket
        .or(listener.map(|listener| listener.socket))
}
