//! fstat(2), statx(2): a placeholder shares its inode with all others, so each socket gets a number
//! of its own, by which programs tell descriptors apart.

use crate::socket::SocketRef;
use context::socket::flag;
use std::sync::atomic::Ordering::Relaxed;

/// Set in the inode numbers of the stack's sockets: the kernel, which counts from 1, gives out no
/// such numbers.
const OURS: u64 = 1 << 62;

/// The inode number of a socket; `None` if the kernel's socket under the number has its own.
pub fn inode(socket: SocketRef) -> Option<u64> {
    if socket.flags() & flag::BOTH != 0 {
        return None;
    }
    let generation = u64::from(socket.record().engine.generation.load(Relaxed));
    Some(OURS | (generation & 0x3fff_ffff) << 32 | u64::from(socket.index))
}
