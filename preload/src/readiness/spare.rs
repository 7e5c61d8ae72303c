//! An eventfd in reserve, for a ready set that is wanted when the program has used up its descriptors.
//!
//! The kernel's `epoll_ctl` needs no descriptor, so a program may call it when it has none left.

use crate::errno::{Errno, Result};
use crate::process::{self, close_private, make_private};
use crate::real;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// The descriptor in reserve plus one (0: none), and above it the epoch of the process that made it:
/// the child of a fork must not share its parent's.
static SPARE: AtomicU64 = AtomicU64::new(0);

fn pack(fd: RawFd) -> u64 {
    u64::from(process::epoch()) << 32 | (fd + 1) as u64
}

fn unpack(spare: u64) -> Option<RawFd> {
    let number = spare as u32;
    (number != 0).then(|| number as RawFd - 1)
}

/// Puts one in reserve, unless there is one.
pub fn keep() {
    let old = SPARE.load(Ordering::Acquire);
    if old != 0 && old >> 32 == u64::from(process::epoch()) {
        return;
    }
    let Ok(fd) = real::eventfd().and_then(make_private) else {
        return;
    };
    let kept = SPARE.compare_exchange(old, pack(fd), Ordering::AcqRel, Ordering::Relaxed);
    let surplus = if kept.is_ok() { unpack(old) } else { Some(fd) };
    if let Some(fd) = surplus {
        close_private(fd);
    }
}

/// A private eventfd, if need be the one in reserve.
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn eventfd() -> Result<RawFd> {
    or_spare(real::eventfd().and_then(make_private))
}

fn or_spare(made: Result<RawFd>) -> Result<RawFd> {
    let Err(Errno(libc::EMFILE | libc::ENFILE)) = made else {
        return made;
    };
    let spare = SPARE.load(Ordering::Acquire);
    let own = spare >> 32 == u64::from(process::epoch());
    let taken = own
        && SPARE
            .compare_exchange(spare, 0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
    taken.then(|| unpack(spare)).flatten().map_or(made, Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_serves_once_where_no_descriptor_is_left() {
        let none = Err(Errno(libc::EMFILE));
        keep();
        let kept = SPARE.load(Ordering::Acquire);
        keep();
        assert_eq!(SPARE.load(Ordering::Acquire), kept, "one is enough");
        assert_eq!(or_spare(Ok(7)), Ok(7));
        assert_eq!(or_spare(Err(Errno(libc::ENOMEM))), Err(Errno(libc::ENOMEM)));
        let fd = or_spare(none).unwrap();
        assert_eq!(fdmap::get(fd), fdmap::Entry::Private);
        assert_eq!(or_spare(none), none);
        close_private(fd);
    }
}
