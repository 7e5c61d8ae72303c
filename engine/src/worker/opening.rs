//! Connections that the application opens: at once, or as soon as there is an address to do so from.

use super::Stack;
use super::beginning::Beginning;
use super::connection::Flow;
use super::options::HeaderOptions;
use super::slots::{Role, Slot};
use crate::shared::lock;
use crate::stats::Counter;
use crate::tcp::{self, Tcb};
use context::socket::{Socket, flag, state};
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering::SeqCst;

/// Why a connection does not begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unopened {
    /// It cannot: an errno.
    Failed(i32),
    /// No address to begin from is known yet.
    Awaited,
}

impl Stack {
    /// Lets a socket connect later.
    fn await_address(&mut self, socket: u32) {
        let (Some(slot), Some(host)) = (self.slots.get(socket), &self.ipv6) else {
            return;
        };
        slot.role = Role::Opening;
        self.awaiting.get_or_insert(host.version());
    }

    /// Tries again to open what waits for an address, if there is news of addresses.
    pub fn open_awaiting(&mut self) {
        let version = self.ipv6.as_ref().map(|host| host.version());
        if self.awaiting.is_none() || self.awaiting == version {
            return;
        }
        self.awaiting = None;
        let opening = |(socket, slot): (u32, &Slot)| match slot.role {
            Role::Opening => Some(socket),
            _ => None,
        };
        let sockets: Vec<_> = self.slots.iter().filter_map(opening).collect();
        for socket in sockets {
            if let Some(slot) = self.slots.get(socket) {
                slot.role = Role::Open;
            }
            self.open_actively(socket);
            self.catch_up(socket);
        }
    }

    /// Does what was asked for while the connection could not begin.
    fn catch_up(&mut self, socket: u32) {
        let shared = self.shared.clone();
        let (Some(slot), Some(record)) = (self.slots.get(socket), shared.segment.socket(socket))
        else {
            return;
        };
        let Role::Connection(id) = slot.role else {
            return;
        };
        if record.app.flags.load(SeqCst) & flag::SHUT_WR != 0 {
            self.collect_writes(id);
            if let Some(connection) = self.connections.get(id) {
                connection.tcb.shutdown_write(self.now);
                self.after(id, tcp::Events::SEND);
            }
        }
    }

    /// Does what connect(2) asks for.
    pub fn open_actively(&mut self, socket: u32) {
        let shared = self.shared.clone();
        let Some(record) = shared.segment.socket(socket) else {
            return;
        };
        if !matches!(self.slots.get(socket).map(|s| &s.role), Some(Role::Open)) {
            return;
        }
        // After a failure it may try again; after a connection the record's cursors are used up.
        if self.is_used_up(socket) {
            self.count(Counter::bad_commands);
            return;
        }
        self.clear_remains(socket);
        match self.try_open(socket, record) {
            Ok(()) => {}
            Err(Unopened::Awaited) => self.await_address(socket),
            Err(Unopened::Failed(errno)) => {
                self.keep_early(socket, record);
                record.engine.error.store(errno, SeqCst);
                let closed = state::CLOSE | state::RX_SHUT | state::TX_SHUT;
                let bound = record.engine.state.load(SeqCst) & state::BOUND;
                record.engine.state.store(closed | bound, SeqCst);
                self.raise(socket);
            }
        }
    }

    fn try_open(&mut self, socket: u32, record: &Socket) -> Result<(), Unopened> {
        let to = record.names.requested();
        // The record is no witness of what the socket is bound to: the application can write there.
        let claim = lock(&self.shared.binds).claim(socket);
        let (bound, local_port) = claim.unwrap_or((Ipv4Addr::UNSPECIFIED.into(), 0));
        let remote = to.ip().into();
        let (local, hop) = self.source_for(bound, remote)?;
        let mut flow = Flow {
            local,
            remote,
            local_port,
            remote_port: to.port(),
        };
        if local_port == 0 {
            flow.local_port = self
                .choose_port(&flow)
                .ok_or(Unopened::Failed(libc::EADDRNOTAVAIL))?;
        }
        let prescribed = self
            .connections
            .usable(&flow, self.now, self.shared.config.time_wait_reuse)
            .ok_or(Unopened::Failed(libc::EADDRNOTAVAIL))?;
        self.reuse(&flow);
        let header = HeaderOptions::of_record(record);
        let settings = self.settings_for(record, remote);
        let (iss, ts_offset) = self.isn(&flow);
        let iss = prescribed.unwrap_or(iss);
        let beginning = Beginning {
            at: self.now,
            settings: &settings,
            iss,
            ts_offset,
        };
        let begin = Tcb::open_actively;
        let id = self.adopt_connection(flow, hop, header.of(&flow), &beginning, begin);
        if let Some(connection) = self.connections.get(id) {
            connection.socket = Some(socket);
        }
        if let Some(slot) = self.slots.get(socket) {
            slot.role = Role::Connection(id);
        }
        record
            .names
            .set(flow.local_name(), Some(flow.remote_name()));
        self.set_send_limit(id);
        self.plan_fast_open(id, record);
        self.count(Counter::connects);
        self.after(id, tcp::Events::SEND);
        Ok(())
    }
}
