//! Connections that have only to wait: kept in few words, so many of them cost little, and bounded.

use super::Stack;
use super::connection::{Connection, Connections, Flow, Hop, Place};
use super::port_conflict::Sharing;
use super::slab::Stamped;
use super::timers::Entry;
use crate::shared::TimeWaitReuse;
use crate::stats::Counter;
use crate::tcp::{Instant, Segment as TcpSegment, SeqNum, TimeWait, WaitAnswer as Answer};

/// How many of those that wait end before one whose entry is fetched.
const FETCHED_AHEAD: usize = 2;

/// A connection that waits.
pub struct Waiting {
    /// What TCP remembers.
    pub core: TimeWait,
    /// Addresses and ports.
    pub flow: Flow,
    tos_ttl: (u8, u8),
    looped: bool,
    /// How it shares its port.
    pub sharing: Sharing,
    timer: Entry,
    /// Stamp against reuse of the number.
    pub stamp: u32,
    /// Hash of `flow`.
    pub hash: u32,
}

impl Stamped for Waiting {
    fn stamp(&self) -> u32 {
        self.stamp
    }
}

impl Waiting {
    fn hop(&self) -> Hop {
        if self.looped {
            Hop::Loopback
        } else {
            Hop::Unknown
        }
    }
}

impl Stack {
    /// Replaces a connection that its application has left and that has only to wait.
    pub fn wait_for_strays(&mut self, id: u32) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let Connection {
            tcb,
            flow,
            tos_ttl,
            sharing,
            hop,
            socket: None,
            ..
        } = connection
        else {
            return;
        };
        let Some(core) = tcb.to_wait() else {
            return;
        };
        let waiting = Waiting {
            core,
            flow: *flow,
            tos_ttl: *tos_ttl,
            looped: *hop == Hop::Loopback,
            sharing: *sharing,
            timer: Entry::NONE,
            stamp: 0,
            hash: 0,
        };
        self.connections.fetch_waiting(&waiting.flow);
        self.remove(id);
        let (id, stamp) = self.connections.insert_time_wait(waiting);
        self.time_wait.push_back((id, stamp));
        self.arm_time_wait((id, stamp));
        self.bound_time_wait();
        self.show_connections();
    }

    /// A segment for a connection that waits. If it is a SYN that may open a new one, and somebody
    /// listens, the old one ends, and the new one begins with the number that is returned.
    pub fn on_time_wait_segment(&mut self, id: u32, segment: &TcpSegment<'_>) -> Option<SeqNum> {
        let now = self.now;
        let waiting = self.connections.time_wait().get(id)?;
        let (flow, hop, tos_ttl) = (waiting.flow, waiting.hop(), waiting.tos_ttl);
        let (answer, reason) = waiting.core.on_segment(now, segment);
        let core = waiting.core;
        if let Some(reason) = reason {
            self.counters().drop_segment(reason);
        }
        match answer {
            Answer::None => {}
            Answer::Ack => self.send_bare(&flow, &core.ack(now), tos_ttl, hop, None),
            Answer::Reset => {
                self.send_reset(&flow, segment, hop);
                self.end_time_wait(id);
            }
            Answer::End => self.end_time_wait(id),
            Answer::Reopen(iss) if self.listeners.find(&flow).is_some() => {
                self.end_time_wait(id);
                return Some(iss);
            }
            Answer::Reopen(_) => self.send_bare(&flow, &core.ack(now), tos_ttl, hop, None),
        }
        None
    }

    fn arm_time_wait(&mut self, token: (u32, u32)) {
        let packed = (Place::TimeWait(token.0).pack(), token.1);
        if let Some(waiting) = self.connections.time_wait().get_stamped(token) {
            let deadline = waiting.core.deadline();
            waiting.timer = self.wheel.set(deadline.as_micros(), packed);
        }
    }

    /// The timer of a connection that waits is due.
    pub fn on_time_wait_timer(&mut self, token: (u32, u32)) {
        let now = self.now;
        let Some(waiting) = self.connections.time_wait().get_stamped(token) else {
            return;
        };
        if waiting.core.deadline() <= now {
            self.end_time_wait(token.0);
        } else {
            self.arm_time_wait(token);
        }
    }

    fn end_time_wait(&mut self, id: u32) {
        if let Some(waiting) = self.connections.remove_time_wait(id) {
            self.wheel.cancel(waiting.timer);
            self.show_connections();
        }
    }

    /// Ends the oldest while there are too many.
    fn bound_time_wait(&mut self) {
        let most = self.shared.config.max_time_wait;
        while self.connections.time_wait().len() > most {
            let Some(oldest) = self.time_wait.pop_front() else {
                return;
            };
            if self.connections.time_wait().get_stamped(oldest).is_some() {
                self.count(Counter::time_wait_overflow);
                self.end_time_wait(oldest.0);
            }
            if let Some((next, _)) = self.time_wait.get(FETCHED_AHEAD)
                && let Some(waiting) = self.connections.waiting(*next)
            {
                self.connections.fetch_waiting(&waiting.flow);
            }
        }
        if self.time_wait.len() > 2 * most + 16 {
            let table = self.connections.time_wait();
            self.time_wait
                .retain(|token| table.get_stamped(*token).is_some());
        }
    }

    /// Makes room for a new connection on a flow that is [`usable`](Connections::usable).
    pub fn reuse(&mut self, flow: &Flow) {
        if let Some(Place::TimeWait(id)) = self.connections.place(flow) {
            self.count(Counter::time_wait_reused);
            self.end_time_wait(id);
        }
    }
}

impl Connections {
    /// Whether connect() may use a flow; if a connection waits there, the number to begin with.
    pub fn usable(
        &self,
        flow: &Flow,
        now: Instant,
        reuse: TimeWaitReuse,
    ) -> Option<Option<SeqNum>> {
        let id = match self.place(flow) {
            None => return Some(None),
            Some(Place::TimeWait(id)) => id,
            Some(_) => return None,
        };
        let waiting = self.waiting(id)?;
        let iss = waiting.core.reusable(now)?;
        let allowed = match reuse {
            TimeWaitReuse::Off => false,
            TimeWaitReuse::Loopback => waiting.looped,
            TimeWaitReuse::On => true,
        };
        allowed.then_some(Some(iss))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_waits_takes_little_memory() {
        assert!(size_of::<Waiting>() <= 120, "{}", size_of::<Waiting>());
    }
}
