//! Sockets that several processes have: over fork(2) and exec(2), and in messages.
//!
//! The engine counts the processes that hold a socket. Before a fork it is told of the child, so that
//! the child holds what its parent holds from its first moment on ([`fork`]). Where a descriptor goes
//! without this library, a lease goes with it ([`lease`](mod@lease)).

pub mod confine;
pub mod environment;
pub mod exec;
pub mod fork;
pub mod guest;
pub mod inherit;
pub mod lease;
pub mod passing;
pub mod vfork;

use crate::socket::SocketRef;
use context::control::Name;
use context::socket::flag;
use std::sync::atomic::Ordering;

impl SocketRef {
    /// Its name in requests.
    pub fn name(&self) -> Name {
        Name {
            socket: self.index,
            generation: self.generation,
        }
    }

    /// Notes that other processes may hold it from now on.
    fn mark_shared(&self) {
        let flags = &self.record().app.flags;
        flags.fetch_or(flag::SHARED, Ordering::SeqCst);
    }
}
