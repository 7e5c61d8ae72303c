//! The sockets that a call waits for live until it returns, as on Linux, where the call has the open
//! file: another thread that closes the last descriptor, or puts something else under it, does not end
//! the connection below the call.
//!
//! A call that has been left by longjmp(3) has let nothing go. The thread's next call does that.

use crate::socket::{SocketRef, close};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

/// Sockets that one call can hold; of a poll of more, the others end with their last descriptor.
const MOST: usize = 16;

struct Held {
    count: Cell<usize>,
    sockets: [Cell<Option<(u32, u16)>>; MOST],
}

thread_local! {
    static HELD: Held = const {
        Held {
            count: Cell::new(0),
            sockets: [const { Cell::new(None) }; MOST],
        }
    };
}

/// What all threads hold: while it is nothing, no thread need look.
static ALL: AtomicU32 = AtomicU32::new(0);

/// Holds a socket until this thread's call returns. One that has no descriptor any more is not held.
pub fn keep(socket: SocketRef) {
    HELD.with(|held| {
        let (count, name) = (held.count.get(), (socket.index, socket.generation));
        let known = held.sockets.iter().take(count);
        if count == MOST || known.into_iter().any(|of| of.get() == Some(name)) {
            return;
        }
        if socket.is_current() && fdmap::retain_open(socket.index) {
            ALL.fetch_add(1, Ordering::Relaxed);
            held.sockets[count].set(Some(name));
            held.count.set(count + 1);
        }
    });
}

/// Lets go what this thread holds; a socket whose last descriptor is gone ends.
#[inline]
pub fn release() {
    if ALL.load(Ordering::Relaxed) != 0 {
        release_own();
    }
}

#[cold]
fn release_own() {
    HELD.with(|held| {
        let count = held.count.take();
        for (index, generation) in held.sockets.iter().take(count).filter_map(Cell::take) {
            ALL.fetch_sub(1, Ordering::Relaxed);
            if let Some(socket) = SocketRef::new(index, generation) {
                close::release(socket);
            }
        }
    });
}

/// In the child of a fork: nothing is held, and only descriptors count.
pub fn forget() {
    ALL.store(0, Ordering::Relaxed);
    HELD.with(|held| held.count.set(0));
    fdmap::recount();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::close::close as close_fd;
    use crate::socket::create;
    use crate::testing::{commands, engine, fresh};
    use context::command::Op;

    #[test]
    fn a_socket_that_a_call_holds_outlives_its_last_descriptor() {
        let socket = fresh();
        engine().establish(socket);
        let fd = create::attach(socket, true).unwrap();
        keep(socket);
        keep(socket);
        close_fd(fd).unwrap();
        assert_eq!(commands(), []);
        assert!(socket.reader(true).is_ok());
        release();
        assert_eq!(commands(), [socket.command(Op::Close, 0)]);
        release();
        assert_eq!(commands(), []);
    }

    #[test]
    fn a_socket_without_a_descriptor_is_not_held() {
        let socket = fresh();
        let fd = create::attach(socket, true).unwrap();
        close_fd(fd).unwrap();
        commands();
        keep(socket);
        release();
        assert_eq!(commands(), []);
    }
}
