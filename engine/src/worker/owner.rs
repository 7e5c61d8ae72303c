//! Which worker a flow belongs to, and what comes to another one.
//!
//! A device whose hash is known delivers a flow to one worker always, and a connection is opened from
//! a port that brings the answers to its own worker. Any other device may deliver them anywhere: then
//! the port names the worker, and who receives a frame that is not its own hands it over. A flow that
//! moves from queue to queue, as Linux has its own do at each timeout, is looked for at all workers.

use super::Stack;
use super::connection::Flow;
use crate::binds::EPHEMERAL;
use crate::net::Address;
use crate::net::icmp::IcmpError;
use crate::shared::{Message, lock};
use crate::stats::Counter;
use crate::tcp::Flags;
use psio::Rss;
use std::sync::Arc;

/// Where the flags stand in a TCP header (RFC 9293 section 3.1).
const FLAGS_AT: usize = 13;

/// How flows are spread over the workers.
pub struct Placement {
    rss: Option<Arc<Rss>>,
    workers: usize,
}

impl Placement {
    /// The worker at which a connection opened from this port should be.
    pub fn worker_of(&self, flow: &Flow) -> usize {
        let number = match &self.rss {
            Some(rss) => rss.queue_for(flow.remote_name(), flow.local_name()).into(),
            None => usize::from(flow.local_port),
        };
        number % self.workers
    }
}

/// Whether a segment is a SYN that asks for a connection.
fn opens(tcp: &[u8]) -> bool {
    let asks = |flags: &u8| flags & (Flags::SYN | Flags::ACK).0 == Flags::SYN.0;
    tcp.get(FLAGS_AT).is_some_and(asks)
}

impl Stack {
    /// How flows with this peer are spread.
    pub fn placement(&self, remote: Address) -> Placement {
        let rss = self.shared.rss.get();
        Placement {
            rss: rss.filter(|_| !self.is_local(remote)).cloned(),
            workers: self.shared.inboxes.len(),
        }
    }

    /// The worker that a segment is for, if that is another one. A port that a socket is bound to
    /// names that socket's, wherever the frames arrive. Of a listener's connections it is the worker at which
    /// the SYN arrived; where nobody knows which, the segment goes round, `before` of them having had it.
    pub fn other_owner(
        &self,
        local: Address,
        remote: Address,
        tcp: &[u8],
        before: usize,
    ) -> Option<usize> {
        if self.shared.inboxes.len() == 1 {
            return None;
        }
        let &[a, b, c, d] = tcp.first_chunk()?;
        let flow = Flow {
            local,
            remote,
            local_port: u16::from_be_bytes([c, d]),
            remote_port: u16::from_be_bytes([a, b]),
        };
        if !self.connections.is_free(&flow) {
            return None;
        }
        let placement = self.placement(remote);
        let owner = if self.listeners.find(&flow).is_some() {
            // By hash, all of a flow is its worker's, its first segment included.
            match placement.rss {
                Some(_) => placement.worker_of(&flow),
                None if opens(tcp) || before >= placement.workers - 1 => return None,
                None => (self.index + 1) % placement.workers,
            }
        } else {
            let claimer = lock(&self.shared.binds).claimer(flow.local_port);
            match claimer {
                Some(socket) => self.shared.segment.geometry().worker_of(socket),
                None if EPHEMERAL.contains(&flow.local_port) => placement.worker_of(&flow),
                None => self.index,
            }
        };
        (owner != self.index).then_some(owner)
    }

    /// Hands a frame to another worker.
    pub fn redirect(&self, owner: usize, frame: Message) {
        self.count(match self.shared.inboxes[owner].offer(frame) {
            true => Counter::redirected,
            false => Counter::redirect_full,
        });
    }

    /// Tells all other workers of what arrived at this one and may concern any.
    pub fn tell_others(&self, message: impl Fn() -> Message) {
        for (index, inbox) in self.shared.inboxes.iter().enumerate() {
            if index != self.index && !inbox.offer(message()) {
                self.count(Counter::redirect_full);
            }
        }
    }

    /// Takes an ICMP error about what the stack has sent. Routers send them without the flow's ports
    /// where a device looks for them, so they arrive at any worker.
    pub fn on_icmp_error(&mut self, error: &IcmpError) {
        if !self.report_icmp_error(error) {
            self.tell_others(|| Message::IcmpError(*error));
        }
    }
}
