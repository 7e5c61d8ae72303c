//! The memory of idle connections: chunks that are half filled go back after a while.

use super::Stack;

/// How long after its last data a connection gives back half-filled chunks, microseconds; and how
/// long after each time that some remained.
const IDLE: [u64; 2] = [10_000, 200_000];

impl Stack {
    /// Has a connection's memory looked at in a while; `again` if that was done just now.
    pub fn sweep_later(&mut self, id: u32, again: bool) {
        let again = usize::from(again);
        let due = self.now.as_micros() + IDLE[again];
        if let Some(connection) = self.connections.get(id)
            && !connection.swept
        {
            connection.swept = true;
            let token = (id, connection.stamp);
            self.idle[again].push_back((due, token));
        }
    }

    /// Gives back the memory of a connection that has gone idle.
    pub fn sweep(&mut self, token: (u32, u32)) {
        let shared = self.shared.clone();
        self.collect_reads(token.0);
        let Some(connection) = self.connections.get_stamped(token) else {
            return;
        };
        connection.swept = false;
        connection.tcb.give_back_memory();
        let Some(record) = connection.socket.and_then(|s| shared.segment.socket(s)) else {
            return;
        };
        let beyond = connection.tcb.has_holes();
        if beyond {
            self.prune(token.0);
        }
        let Some(connection) = self.connections.get_stamped(token) else {
            return;
        };
        let mut remains = connection.recv.reclaim(record, &mut self.pool, beyond);
        remains |= connection.send.reclaim(record, &mut self.pool);
        if remains {
            self.sweep_later(token.0, !self.pressed);
        }
    }
}
