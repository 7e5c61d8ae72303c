//! Placeholders: the kernel descriptors under the stack's sockets, so that numbers are real.
//!
//! A placeholder is a duplicate of one template. When its socket is closed it is kept for the next
//! one, so that a short connection costs no system call; meanwhile its number looks closed to the
//! program. Two bitmaps (with and without `FD_CLOEXEC`) name what is kept, lowest number first.

use crate::errno::{Errno, Result};
use crate::files::standard;
use crate::{process, real};
use fdmap::Entry;
use std::ffi::c_int;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

/// Numbers from here on are not kept.
const NUMBERS: usize = 4096;
/// Standard input, output and error are not kept: programs close them to have them given out anew.
const FIRST: RawFd = 3;
/// Most placeholders that are kept, of any limit on descriptors.
const MOST: u32 = 512;

/// The `TCP_USER_TIMEOUT` of templates, by which they are told from other sockets.
const MARK: c_int = 0x6d54_4350;

type Bits = [AtomicU64; NUMBERS / 64];

/// Kept placeholders, without and with `FD_CLOEXEC`.
static KEPT: [Bits; 2] = [const { [const { AtomicU64::new(0) }; NUMBERS / 64] }; 2];
/// Words of `KEPT` that hold bits.
static SUMMARY: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static COUNT: AtomicU32 = AtomicU32::new(0);
/// Descriptors that have `FD_CLOEXEC`, as far as they are placeholders below `NUMBERS`.
static CLOEXEC: Bits = [const { AtomicU64::new(0) }; NUMBERS / 64];

/// Descriptors under which a lease lies, as far as they are below `NUMBERS`: they are not kept.
static LEASED: Bits = [const { AtomicU64::new(0) }; NUMBERS / 64];

static TEMPLATE: AtomicI32 = AtomicI32::new(-1);
static BOUND: AtomicU32 = AtomicU32::new(0);

/// Makes a descriptor with `entry` behind it.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn open(entry: Entry, cloexec: bool) -> Result<RawFd> {
    for wanted in [cloexec, !cloexec] {
        while let Some(fd) = lowest(wanted) {
            // Another call may have put something else on the number, by dup2.
            if fdmap::replace(fd, Entry::Pooled, entry) {
                // The flag may have changed in the pool, too (close_range with CLOSE_RANGE_CLOEXEC).
                if remembered(fd) != cloexec {
                    set_cloexec(fd, cloexec)?;
                }
                return Ok(fd);
            }
        }
    }
    let fd = real::duplicate(template()?, 0, cloexec)?;
    if !fdmap::has_place(fd) {
        real::close(fd);
        return Err(Errno(libc::EMFILE));
    }
    remember(fd, cloexec);
    set_leased(fd, false);
    fdmap::set(fd, entry);
    standard::cover(fd);
    Ok(fd)
}

/// Puts a placeholder under `fd` in place of the kernel socket that is there.
///
/// # Errors
/// As dup3(2).
pub fn put_under(fd: RawFd) -> Result<()> {
    let cloexec = real::is_cloexec(fd)?;
    real::duplicate_to(template()?, fd, cloexec)?;
    remember(fd, cloexec);
    set_leased(fd, false);
    Ok(())
}

/// Takes a placeholder back whose entry was replaced by [`Entry::Pooled`]: it is kept or closed.
pub fn give_back(fd: RawFd) {
    let may_be_kept = (FIRST..NUMBERS as RawFd).contains(&fd) && !is_leased(fd);
    let is_kept =
        may_be_kept && COUNT.fetch_add(1, Ordering::Relaxed) < BOUND.load(Ordering::Relaxed);
    if is_kept {
        let (word, bit) = place(fd);
        let cloexec = remembered(fd);
        KEPT[usize::from(cloexec)][word].fetch_or(bit, Ordering::SeqCst);
        // Where `lowest` clears the word's bit just now, it finds the number's afterwards.
        let summary = &SUMMARY[usize::from(cloexec)];
        if summary.load(Ordering::SeqCst) & 1 << word == 0 {
            summary.fetch_or(1 << word, Ordering::SeqCst);
        }
        return;
    }
    if may_be_kept {
        COUNT.fetch_sub(1, Ordering::Relaxed);
    }
    // Before the number can be given out anew.
    fdmap::take(fd);
    real::close(fd);
}

/// Sets or clears `FD_CLOEXEC` of a placeholder; use this and no other way, so that the pool knows.
///
/// # Errors
/// `EBADF`.
pub fn set_cloexec(fd: RawFd, on: bool) -> Result<()> {
    real::set_cloexec(fd, on)?;
    remember(fd, on);
    Ok(())
}

/// Notes that `fd`, a duplicate of a placeholder made by other means, has `FD_CLOEXEC` or not.
pub fn remember(fd: RawFd, cloexec: bool) {
    if (0..NUMBERS as RawFd).contains(&fd) {
        let (word, bit) = place(fd);
        if cloexec {
            CLOEXEC[word].fetch_or(bit, Ordering::Relaxed);
        } else {
            CLOEXEC[word].fetch_and(!bit, Ordering::Relaxed);
        }
    }
}

fn remembered(fd: RawFd) -> bool {
    let (word, bit) = place(fd);
    CLOEXEC
        .get(word)
        .is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
}

/// Notes whether a lease lies under `fd`, or the template.
pub fn set_leased(fd: RawFd, leased: bool) {
    if (0..NUMBERS as RawFd).contains(&fd) && leased != is_leased(fd) {
        let (word, bit) = place(fd);
        LEASED[word].fetch_xor(bit, Ordering::Relaxed);
    }
}

/// Whether a lease lies under `fd`, as far as that is noted.
pub fn is_leased(fd: RawFd) -> bool {
    let (word, bit) = place(fd);
    LEASED
        .get(word)
        .is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
}

/// Whether the template lies under `fd` in the caller's own table of descriptors.
pub fn is_template(fd: RawFd) -> bool {
    let template = TEMPLATE.load(Ordering::Acquire);
    template >= 0 && real::inode(fd).is_ok_and(|inode| real::inode(template) == Ok(inode))
}

/// Whether a descriptor is the template of some process.
pub fn is_any_template(fd: RawFd) -> bool {
    real::tcp_option(fd, libc::TCP_USER_TIMEOUT) == Ok(MARK)
}

/// Closes all placeholders that are kept, to make room for the program's own descriptors. Returns
/// whether there were any.
pub fn flush() -> bool {
    let mut any = false;
    for cloexec in [false, true] {
        while let Some(fd) = lowest(cloexec) {
            if fdmap::replace(fd, Entry::Pooled, Entry::Kernel) {
                real::close(fd);
                any = true;
            }
        }
    }
    any
}

/// Runs a call that makes a descriptor; if there is no number left, closes the kept placeholders and
/// runs it again.
///
/// # Errors
/// The call's.
pub fn with_room<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    match call() {
        Err(Errno(libc::EMFILE)) if flush() => call(),
        result => result,
    }
}

/// Takes the lowest number off a bitmap.
fn lowest(cloexec: bool) -> Option<RawFd> {
    let (summary, kept) = (&SUMMARY[usize::from(cloexec)], &KEPT[usize::from(cloexec)]);
    loop {
        let words = summary.load(Ordering::Acquire);
        if words == 0 {
            return None;
        }
        let word = words.trailing_zeros() as usize;
        let bits = kept[word].load(Ordering::Acquire);
        if bits == 0 {
            summary.fetch_and(!(1 << word), Ordering::SeqCst);
            // A bit that came in between must stay findable.
            if kept[word].load(Ordering::SeqCst) != 0 {
                summary.fetch_or(1 << word, Ordering::SeqCst);
            }
            continue;
        }
        let bit = bits & bits.wrapping_neg();
        if kept[word].fetch_and(!bit, Ordering::AcqRel) & bit != 0 {
            COUNT.fetch_sub(1, Ordering::Relaxed);
            return Some((word * 64) as RawFd + bit.trailing_zeros() as RawFd);
        }
    }
}

fn place(fd: RawFd) -> (usize, u64) {
    (fd as usize / 64, 1 << (fd as usize % 64))
}

/// The template: a kernel TCP socket that is never used, so that whoever looks at a placeholder
/// without this library sees a TCP socket that is not connected.
fn template() -> Result<RawFd> {
    let fd = TEMPLATE.load(Ordering::Acquire);
    if fd >= 0 {
        return Ok(fd);
    }
    let made = real::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0)
        .or_else(|_| real::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0));
    let made = process::make_private(made?)?;
    // Only another process that takes a placeholder away from this one (pidfd_getfd) looks for it.
    let _ = real::set_tcp_option(made, libc::TCP_USER_TIMEOUT, MARK);
    BOUND.store(
        MOST.min(process::descriptor_limit() / 16),
        Ordering::Relaxed,
    );
    match TEMPLATE.compare_exchange(-1, made, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Ok(made),
        Err(other) => {
            process::close_private(made);
            Ok(other)
        }
    }
}

/// After a child of vfork(2) that has made sockets: if it has made the template, that is gone with its
/// descriptors.
pub fn forget_lost_template() {
    let template = TEMPLATE.load(Ordering::Acquire);
    if template >= 0 && real::inode(template).is_err() {
        TEMPLATE.store(-1, Ordering::Release);
        fdmap::replace(template, Entry::Private, Entry::Kernel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pool belongs to the process, and so does the lowest free number.
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

    fn close(fd: RawFd) {
        assert_eq!(fdmap::swap(fd, Entry::Pooled), ENTRY);
        give_back(fd);
    }

    const ENTRY: Entry = Entry::Socket {
        index: 1,
        generation: 1,
    };

    #[test]
    fn a_descriptor_is_real_and_has_the_flag_asked_for() {
        let _alone = ALONE.lock().unwrap();
        for round in 0..3 {
            for cloexec in [true, false] {
                let fd = open(ENTRY, cloexec).unwrap();
                assert_eq!(real::is_cloexec(fd), Ok(cloexec), "round {round}");
                assert_eq!(fdmap::get(fd), ENTRY);
                close(fd);
            }
        }
    }

    #[test]
    fn a_flag_changed_in_between_is_noticed() {
        let _alone = ALONE.lock().unwrap();
        let fd = open(ENTRY, false).unwrap();
        set_cloexec(fd, true).unwrap();
        close(fd);
        let again = open(ENTRY, false).unwrap();
        assert_eq!(real::is_cloexec(again), Ok(false));
        close(again);
    }

    #[test]
    fn the_pool_is_bounded_and_can_be_flushed() {
        let _alone = ALONE.lock().unwrap();
        let fds: Vec<_> = (0..700).map(|_| open(ENTRY, true).unwrap()).collect();
        fds.iter().for_each(|fd| close(*fd));
        let kept = fds.iter().filter(|fd| fdmap::get(**fd) == Entry::Pooled);
        assert!(kept.count() <= BOUND.load(Ordering::Relaxed) as usize);
        flush();
        assert!(fds.iter().all(|fd| fdmap::get(*fd) != Entry::Pooled));
    }

    #[test]
    fn a_number_taken_by_dup2_is_not_given_out() {
        let _alone = ALONE.lock().unwrap();
        let fd = open(ENTRY, true).unwrap();
        close(fd);
        assert!(fdmap::replace(fd, Entry::Pooled, Entry::Kernel));
        let other = open(ENTRY, true).unwrap();
        assert_ne!(other, fd);
        real::close(fd);
        close(other);
    }
}
