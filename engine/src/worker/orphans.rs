//! Connections that their application has left and that still have something to tell their peers:
//! each holds memory and nobody waits for it, so there is a bound (Linux's `tcp_max_orphans`).

use super::Stack;
use super::port_conflict::Sharing;
use crate::stats::Counter;
use crate::tcp::State;

impl Stack {
    /// The application leaves a connection, which goes on by itself. `reset`: it is to end with a RST
    /// instead (`SO_LINGER` with a time of 0); so it does if there are too many of its kind.
    pub fn orphan(&mut self, id: u32, reset: bool) {
        self.collect_writes(id);
        self.collect_reads(id);
        let shared = self.shared.clone();
        let (now, most) = (self.now, self.shared.config.max_orphans);
        let orphans = self.connections.count_orphan(id);
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let record = connection.socket.and_then(|s| shared.segment.socket(s));
        connection.sharing = record.map(Sharing::of).unwrap_or_default();
        connection.socket = None;
        connection.recv.clear(&mut self.pool);
        if reset {
            connection.tcb.abort_behind_data();
        } else {
            connection.tcb.close(now);
        }
        // What has only to wait, or has ended, is put away in this round.
        let stays = !matches!(
            connection.tcb.state(),
            State::FinWait2 | State::TimeWait | State::Closed
        );
        let too_many = stays && orphans > most;
        if too_many {
            connection.tcb.abort();
        }
        if connection.tcb.state() == State::Closed {
            connection.send.clear(&mut self.pool);
        }
        self.mark(id);
        if too_many {
            self.count(Counter::orphans_reset);
        }
    }
}
