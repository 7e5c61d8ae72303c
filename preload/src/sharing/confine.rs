//! Programs that lock themselves in (seccomp(2)), as the child of sshd does that talks to a stranger: they
//! may read, write and poll from then on, but not send messages to the engine.

use crate::readiness::{self, stack};
use crate::thread;

/// Has the calling thread ask for what it would ask for later: a context and a spare one, and a ready
/// set to sleep on.
pub fn prepare() {
    let Some(stack) = stack::current() else {
        return;
    };
    // Without them, the program gets on as far as it is let.
    let _ = thread::with_thread(|thread| thread.tid());
    readiness::poll::prepare(stack);
}
