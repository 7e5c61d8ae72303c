//! Memory when it is scarce: how much each connection may hold, who waits for it; and what becomes
//! of memory that nobody uses.

use super::Stack;
use super::commands::BUFFER_BOUNDS;
use crate::stats::Counter;
use crate::tcp::Duration;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Bytes that any connection may have unacknowledged, however scarce memory is (Linux's
/// `tcp_wmem[0]`).
const LEAST_SEND: u32 = 4096;

/// The same while memory is rationed: what a chunk of the smallest class holds.
const RATION: u32 = 2048;

/// How long what came out of order may wait for a hole before it to be filled.
const HOLE_PATIENCE: Duration = Duration::from_secs(10);

/// Time between two steps of the sweep for unused memory, microseconds.
const SWEEP_INTERVAL: u64 = 1_000_000;

/// Entries for which a list keeps memory however few it has.
const KEPT: usize = 1024;

impl Stack {
    /// Publishes how much the application may have unacknowledged: as asked by `SO_SNDBUF`, or
    /// twice the congestion window within the configured bounds (as Linux's `tcp_sndbuf_expand`).
    /// With little memory left, no more than an eighth of it; while memory is scarce, no more than
    /// the connection's part of it if all were equal. While it is rationed, next to nothing: who holds
    /// more already gets none, so that those who hold nothing do.
    pub fn set_send_limit(&mut self, id: u32) {
        let shared = &self.shared;
        let sharers = match self.pressed {
            true => self.connections.len().max(8),
            false => 8,
        };
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let Some(record) = connection.socket.and_then(|s| shared.segment.socket(s)) else {
            return;
        };
        let share = self.pool.left_to_writers() / sharers as u64;
        let floor = if self.rationed { RATION } else { LEAST_SEND };
        let share = u32::try_from(share).unwrap_or(u32::MAX).max(floor);
        let (least, most) = (shared.config.send_buffer, shared.config.send_buffer_max);
        let limit = match record.options.send_buffer.load(Relaxed) {
            0 => {
                let twice = connection.tcb.cwnd().saturating_mul(2);
                let grown = twice.clamp(least, most.max(least));
                connection.send_limit = connection.send_limit.max(grown);
                connection.send_limit
            }
            asked => asked.clamp(BUFFER_BOUNDS.0, BUFFER_BOUNDS.1),
        };
        let limit = limit.min(share);
        if record.engine.tx_limit.load(Relaxed) != limit {
            record.engine.tx_limit.store(limit, SeqCst);
        }
    }

    /// A writer found room, and then no chunk or not enough of them. It is told when there are some,
    /// those that came first before others.
    pub fn queue_writer(&mut self, id: u32) {
        if let Some(connection) = self.connections.get(id)
            && !connection.starved
        {
            connection.starved = true;
            let token = (id, connection.stamp);
            self.starved.push_back(token);
        }
        // Those of connections that have ended meanwhile.
        if self.starved.len() > 2 * self.connections.len() {
            let connections = &mut self.connections;
            self.starved
                .retain(|token| connections.get_stamped(*token).is_some());
        }
    }

    /// Raises edges for as many waiting writers as there is memory for.
    pub fn serve_writers(&mut self) {
        let mut left = self.pool.left_to_writers();
        while left >= u64::from(LEAST_SEND)
            && let Some(token) = self.starved.pop_front()
        {
            let Some(connection) = self.connections.get_stamped(token) else {
                continue;
            };
            connection.starved = false;
            left -= u64::from(LEAST_SEND);
            if let Some(socket) = connection.socket {
                self.tell_writer(socket);
            }
        }
    }

    /// Gives up what a connection holds out of order: the newest while memory is scarce, all of it if
    /// the hole before it is not filled for long. A byte far ahead holds as much memory as all that
    /// is missing before it.
    pub fn prune(&mut self, id: u32) {
        let (now, pressed) = (self.now, self.pool.is_pressed());
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let stalled = now.since(connection.tcb.last_in_order()) >= HOLE_PATIENCE;
        if !pressed && !stalled {
            return;
        }
        let mut pruned = 0;
        while let Some(end) = connection.tcb.forget_out_of_order() {
            pruned += 1;
            if connection.recv.truncate(end, &mut self.pool) && !stalled {
                break;
            }
        }
        self.counters().add(Counter::out_of_order_pruned, pruned);
    }

    /// Notes whether memory is scarce, for all connections, and, now and then, gives unused memory back to the system.
    pub fn tend_memory(&mut self) {
        // It ends later than it begins, lest it begin again at once.
        let pressed = match self.pressed {
            true => self.pool.used() > self.pool.budget() / 8 * 5,
            false => self.pool.is_pressed(),
        };
        let rationed = pressed && self.must_ration();
        if pressed != self.pressed || rationed != self.rationed {
            if pressed && !self.pressed {
                self.count(Counter::memory_pressure);
                self.recall_chunks();
            }
            (self.pressed, self.rationed) = (pressed, rationed);
            for id in self.connections.ids() {
                self.set_send_limit(id);
            }
        }
        if !self.starved.is_empty() {
            self.serve_writers();
        }
        let now = self.now.as_micros();
        if self.recall_due().is_some_and(|due| now >= due) {
            self.recall_chunks();
        }
        if self.pool.has_unused() && now >= self.swept_at + SWEEP_INTERVAL {
            self.swept_at = now;
            self.shorten_stocks();
            let given = self.pool.give_back(&self.shared.segment);
            self.counters().add(Counter::memory_returned, given);
            self.shrink_tables();
        }
    }

    /// Gives back what tables and lists have needed in busier times.
    fn shrink_tables(&mut self) {
        self.connections.half_open().give_back();
        self.connections.time_wait().give_back();
        for list in [&mut self.dirty, &mut self.turns, &mut self.changed] {
            list.shrink_to(KEPT.max(2 * list.len()));
        }
        for list in &mut self.idle {
            list.shrink_to(KEPT.max(2 * list.len()));
        }
    }

    /// Whether what is left to writers does for little more than a write of each connection; twice that
    /// ends it, lest it begin again at once.
    fn must_ration(&self) -> bool {
        let each = u64::from(LEAST_SEND) * self.connections.len() as u64;
        let reserve = each.min(self.pool.budget() / 4);
        let enough = if self.rationed { 2 * reserve } else { reserve };
        self.pool.left_to_writers() < enough
    }

    /// When [`tend_memory`](Self::tend_memory) has something to do, in microseconds.
    pub fn memory_deadline(&self) -> Option<u64> {
        let due = self.swept_at + SWEEP_INTERVAL;
        let sweep = self.pool.has_unused().then_some(due);
        // Writers wait for what idle threads have in stock.
        let recall = self.recall_due().filter(|_| !self.starved.is_empty());
        sweep.into_iter().chain(recall).min()
    }
}
