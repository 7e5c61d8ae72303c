//! Which port a connection is opened from (RFC 6056), and how workers tell whose it is.

use super::Stack;
use super::connection::{Connections, Flow};
use crate::shared::lock;

impl Stack {
    /// A source port by RFC 6056's algorithm, such that the flow is new; if there is none, one of a
    /// connection in TIME-WAIT that may be used again.
    pub fn choose_port(&mut self, flow: &Flow) -> Option<u16> {
        let (now, reuse) = (self.now, self.shared.config.time_wait_reuse);
        self.select_port(flow, |connections, flow| connections.is_free(flow))
            .or_else(|| {
                self.select_port(flow, |connections, flow| {
                    connections.usable(flow, now, reuse).is_some()
                })
            })
    }

    fn select_port(
        &mut self,
        flow: &Flow,
        may_take: impl Fn(&Connections, &Flow) -> bool,
    ) -> Option<u16> {
        let binds = lock(&self.shared.binds);
        let connections = &self.connections;
        // So that any worker can tell whose it is.
        let (workers, index) = (self.shared.inboxes.len(), self.index);
        self.ports
            .select(flow.local.ip(), flow.remote_name(), |port| {
                let candidate = Flow {
                    local_port: port,
                    ..*flow
                };
                usize::from(port) % workers == index
                    && !binds.is_claimed(port)
                    && may_take(connections, &candidate)
            })
    }
}
