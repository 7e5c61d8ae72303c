//! What stays of a connection that is gone until its socket is closed.

use super::Stack;
use super::streams::{Bounds, RecvChain, SendChain};
use context::socket::Socket;
use std::sync::atomic::Ordering::SeqCst;

/// What is left of a connection until its socket is closed.
#[derive(Default)]
pub struct Remains {
    /// Received bytes, which can still be read.
    pub recv: RecvChain,
    /// A thread may be writing at the moment when the connection ends: its chunk must not be used
    /// for anything else.
    pub send: SendChain,
    /// Whether it was established at some time.
    pub was_connected: bool,
    /// What TCP_INFO goes on to tell.
    pub info: Vec<u64>,
}

impl Stack {
    /// A socket that was written to before its `Connect` got no connection: what it holds is given back
    /// when it is closed, as a thread may be writing still.
    pub fn keep_early(&mut self, socket: u32, record: &Socket) {
        if record.app.tx_tail.load(SeqCst) != 0 {
            self.remains.insert(socket, Remains::default());
        }
    }

    /// Whether a socket's streams have been used for a connection that is gone: there cannot be
    /// another one then.
    pub fn is_used_up(&self, socket: u32) -> bool {
        let written = |record: &Socket| record.app.tx_tail.load(SeqCst) != 0;
        self.remains.get(&socket).is_some_and(|r| {
            r.was_connected
                || !r.send.is_empty()
                || self.shared.segment.socket(socket).is_some_and(written)
        })
    }

    /// TCP_INFO of a socket's last connection, as it was at the end.
    pub fn last_info(&self, socket: u32) -> Vec<u64> {
        let remains = self.remains.get(&socket);
        remains.map_or(Vec::new(), |remains| remains.info.clone())
    }

    /// Gives back what is left of a socket's last connection.
    pub fn clear_remains(&mut self, socket: u32) {
        if self.remains.is_empty() {
            return;
        }
        if let Some(mut remains) = self.remains.remove(&socket) {
            let limit = self.most_unacked();
            let slot = self.slots.get(socket);
            let writers = slot.map_or(&[][..], |slot| &slot.holders);
            let bounds = Bounds { limit, writers };
            let segment = &self.shared.segment;
            // What was written since is taken over as well, or it would stay lent out.
            if let Some(record) = segment.socket(socket) {
                let _ = remains
                    .send
                    .collect(segment, record, &mut self.pool, bounds);
            }
            remains.send.clear(&mut self.pool);
            remains.recv.clear(&mut self.pool);
        }
    }
}
