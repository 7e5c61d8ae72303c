//! fork(2): the engine hears of a child before it is born, so that a parent which closes its
//! descriptors at once takes nothing away from it.

use crate::errno::{Errno, Result};
use crate::log;
use crate::process::{self, Process, close_private, make_private};
use crate::readiness::guarded::Guarded;
use crate::socket::SocketRef;
use crate::thread;
use context::control::{MAX_NAMES, Name, Request};
use fdmap::Entry;
use std::os::fd::RawFd;

/// A child as the engine knows it.
struct Birth {
    number: u32,
    /// Stands for the child.
    connection: RawFd,
    /// What it holds.
    names: Vec<Name>,
}

/// The child of the fork that is going on. Forks wait for each other: no child is to inherit the
/// connection of another.
static BIRTH: Guarded<Option<Birth>> = Guarded::new(None);

/// Before a fork: has the engine let the child hold what this process holds. A process without a
/// socket of the stack asks for nothing; its child attaches by itself.
pub fn before() {
    let Some(process) = process::process() else {
        return;
    };
    // A handler that forks while its own thread does has a child that attaches by itself.
    let Some(mut birth) = BIRTH.lock(thread::id()) else {
        return;
    };
    *birth = announce(process).unwrap_or_else(|error| {
        if !process.is_engine_gone() {
            log::format(format_args!(
                "a child of fork cannot use its parent's sockets: {error}"
            ));
        }
        None
    });
    birth.keep_over_fork();
}

fn announce(process: &Process) -> Result<Option<Birth>> {
    let names = held();
    if names.is_empty() {
        return Ok(None);
    }
    let mut pieces = names.chunks(MAX_NAMES);
    let first = pieces.next().unwrap_or_default();
    let (number, mut fds) = process.ask(Request::Fork, first, &[])?;
    let connection = make_private(fds.pop().ok_or(Errno(libc::EMFILE))?)?;
    for piece in pieces {
        if let Err(error) = process.ask(Request::Share { child: number }, piece, &[]) {
            close_private(connection);
            return Err(error);
        }
    }
    Ok(Some(Birth {
        number,
        connection,
        names,
    }))
}

/// The sockets of the stack behind this process's descriptors, in order, which may be shared from now
/// on.
fn held() -> Vec<Name> {
    let sockets = fdmap::entries().filter_map(|(_, entry)| match entry {
        Entry::Socket { index, generation } => SocketRef::new(index, generation),
        _ => None,
    });
    let current = sockets.filter(SocketRef::is_current);
    let mut names: Vec<Name> = current
        .inspect(SocketRef::mark_shared)
        .map(|s| s.name())
        .collect();
    names.sort_unstable_by_key(|name| (name.socket, name.generation));
    names.dedup();
    names
}

/// After a fork, successful or not, in the parent.
pub fn in_parent() {
    let birth = BIRTH.regain(thread::id());
    if let Some(birth) = birth.and_then(|mut birth| birth.take()) {
        close_private(birth.connection);
    }
}

/// After a fork, in the child.
pub fn in_child(process: &Process) {
    let birth = BIRTH.regain(thread::id());
    let Some(birth) = birth.and_then(|mut birth| birth.take()) else {
        process.take_connection(-1, 0);
        return;
    };
    process.take_connection(birth.connection, birth.number);
    reconcile(process, &birth);
}

/// Another thread of the parent may have opened or closed sockets between the announcement and the
/// fork.
fn reconcile(process: &Process, birth: &Birth) {
    let held = held();
    let missing = |of: &[Name], among: &[Name]| -> Vec<Name> {
        let among = |name: &&Name| !among.contains(name);
        of.iter().filter(among).copied().collect()
    };
    if held == birth.names {
        return;
    }
    let share = Request::Share {
        child: birth.number,
    };
    for piece in missing(&held, &birth.names).chunks(MAX_NAMES) {
        // What the parent has closed meanwhile is gone.
        let _ = process.ask(share, piece, &[]);
    }
    for name in missing(&birth.names, &held) {
        if let Some(socket) = SocketRef::new(name.socket, name.generation) {
            // The engine finds out at the latest when this process ends.
            let _ = socket.tell(context::command::Op::Close, 0);
        }
    }
}
