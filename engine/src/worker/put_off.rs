//! ACKs that wait for what the program answers, so that one segment carries both: until the threads that
//! were woken sleep again, or the core's own timer is over.

use super::Stack;
use std::collections::VecDeque;

/// Most connections in the list; for the oldest of more, the timer decides.
const LIMIT: usize = 4096;

/// Connections whose ACK waits, by number and stamp; some may have sent it meanwhile.
#[derive(Default)]
pub struct PutOff {
    connections: VecDeque<(u32, u32)>,
}

impl PutOff {
    /// Notes that a connection puts off its ACK.
    pub fn push(&mut self, token: (u32, u32)) {
        if self.connections.len() == LIMIT {
            self.connections.pop_front();
        }
        self.connections.push_back(token);
    }
}

impl Stack {
    /// Nobody is about to answer: the ACKs that waited are due. Returns whether there are any.
    pub fn acknowledge_put_off(&mut self) -> bool {
        let mut list = std::mem::take(&mut self.put_off.connections);
        let mut any = false;
        for token in list.drain(..) {
            if let Some(connection) = self.connections.get_stamped(token)
                && connection.tcb.acknowledge_put_off()
            {
                self.mark(token.0);
                any = true;
            }
        }
        self.put_off.connections = list;
        any
    }
}
