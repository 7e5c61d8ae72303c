//! Sockets that a child of vfork(2) has made. It writes into its parent's memory, where they are noted:
//! the parent, which goes on when the child executes a program or ends, lets them go in its place. What
//! a program that was executed has of them it has by leases.

use crate::placeholder;
use crate::socket::{SocketRef, close};
use crate::thread;
use fdmap::Entry;
use std::cell::Cell;
use std::os::fd::RawFd;

/// Sockets that one child can make; further ones last until the parent ends.
const MOST: usize = 32;

/// A descriptor, the number and life of the socket behind it, and whether the child has not closed it.
type Made = (RawFd, (u32, u16), bool);

thread_local! {
    static MADE: [Cell<Option<Made>>; MOST] = const { [const { Cell::new(None) }; MOST] };
}

/// Notes that `fd` is a new descriptor of a new socket, if a child of vfork(2) has made it.
pub fn note(fd: RawFd, socket: SocketRef) {
    if thread::is_guest() {
        let made = (fd, (socket.index, socket.generation), true);
        MADE.with(|all| {
            let free = all.iter().find(|place| place.get().is_none());
            if let Some(place) = free {
                place.set(Some(made));
            }
        });
    }
}

/// The child has closed `fd`, behind which `socket` stands: if it has made it, that is the end of it.
pub fn closed(fd: RawFd, socket: SocketRef) {
    let name = (socket.index, socket.generation);
    let is_open = Some((fd, name, true));
    MADE.with(|all| {
        if let Some(place) = all.iter().find(|place| place.get() == is_open) {
            place.set(Some((fd, name, false)));
            close::release(socket);
        }
    });
}

/// The child has memory of its own now, or is gone.
pub fn release() {
    MADE.with(|all| {
        if all.iter().any(|place| place.get().is_some()) {
            placeholder::forget_lost_template();
        }
        for (fd, (index, generation), is_open) in all.iter().filter_map(Cell::take) {
            let Some(socket) = SocketRef::new(index, generation) else {
                continue;
            };
            // The number was a kept placeholder's, or is the child's alone.
            if placeholder::is_template(fd) && fdmap::replace(fd, socket.entry(), Entry::Pooled) {
                placeholder::give_back(fd);
            } else {
                fdmap::replace(fd, socket.entry(), Entry::Kernel);
            }
            if is_open {
                close::release(socket);
            }
        }
    });
}

/// In the child of a fork: what its parent's thread has noted is its parent's.
pub fn forget() {
    MADE.with(|all| all.iter().for_each(|place| place.set(None)));
}
