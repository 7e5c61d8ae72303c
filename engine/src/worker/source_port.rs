//! Which port a connection is opened from (RFC 6056): one that brings the answers to its worker.

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
        let (connections, index) = (&self.connections, self.index);
        let placement = self.placement(flow.remote);
        let (local, remote) = (flow.local.ip(), flow.remote_name());
        self.ports.select(local, remote, |port| {
            let candidate = Flow {
                local_port: port,
                ..*flow
            };
            placement.worker_of(&candidate) == index
                && !binds.is_claimed(port)
                && may_take(connections, &candidate)
        })
    }
}
