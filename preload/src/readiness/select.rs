//! select, made of poll: the three sets of descriptors become a list, and what poll says of it
//! becomes three sets.

#![allow(unsafe_code)]

use super::deadline::Deadline;
use super::kernel::SignalMask;
use super::level::bit;
use super::poll;
use super::stack::Stack;
use crate::errno::{Errno, Result};
use libc::{fd_set, pollfd};
use smallvec::SmallVec;
use std::ffi::c_int;

const WORD: usize = 64;

/// What makes a descriptor readable to select, as Linux's `POLLIN_SET`.
const READ: u32 = bit::RDNORM | bit::RDBAND | bit::IN | bit::HUP | bit::ERR;
/// As Linux's `POLLOUT_SET`.
const WRITE: u32 = bit::WRBAND | bit::WRNORM | bit::OUT | bit::ERR;
/// As Linux's `POLLEX_SET`.
const EXCEPT: u32 = bit::PRI;

const KINDS: [u32; 3] = [READ, WRITE, EXCEPT];

/// The three sets of a call. They may be longer than `FD_SETSIZE`: only the words that hold the
/// first `count` bits are touched, as by the kernel.
pub struct Sets {
    words: [*mut u64; 3],
    count: usize,
}

impl Sets {
    /// The sets of a call whose highest descriptor is `count` - 1.
    ///
    /// # Safety
    /// Each pointer is null, or points to a set of at least `count` bits, in whole words of 64, that
    /// nobody else uses during the life of this value.
    ///
    /// # Errors
    /// `EINVAL` for a negative count.
    pub unsafe fn new(
        count: c_int,
        read: *mut fd_set,
        write: *mut fd_set,
        except: *mut fd_set,
    ) -> Result<Sets> {
        Ok(Sets {
            words: [read.cast(), write.cast(), except.cast()],
            // The kernel, too, looks no further than the table of descriptors goes.
            count: usize::try_from(count)
                .map_err(|_| Errno(libc::EINVAL))?
                .min(fdmap::DESCRIPTORS),
        })
    }

    fn word(&self, kind: usize, at: usize) -> u64 {
        let words = self.words[kind];
        if words.is_null() {
            return 0;
        }
        let bits = self.count - at * WORD;
        let within = if bits < WORD {
            (1 << bits) - 1
        } else {
            u64::MAX
        };
        // SAFETY: not null, and a word that holds one of the first `count` bits.
        unsafe { words.add(at).read_unaligned() & within }
    }

    fn set_word(&self, kind: usize, at: usize, value: u64) {
        let words = self.words[kind];
        if !words.is_null() {
            // SAFETY: as above.
            unsafe { words.add(at).write_unaligned(value) };
        }
    }

    /// The descriptors that are in any of the sets, with the kinds (by bit) that hold each.
    fn members(&self) -> impl Iterator<Item = (c_int, u8)> {
        (0..self.count.div_ceil(WORD)).flat_map(|at| {
            let words = [0, 1, 2].map(|kind| self.word(kind, at));
            let mut left = words[0] | words[1] | words[2];
            std::iter::from_fn(move || {
                if left == 0 {
                    return None;
                }
                let place = left.trailing_zeros();
                left &= left - 1;
                let kinds = (0..3).filter(|kind| words[*kind] & 1 << place != 0);
                let kinds = kinds.fold(0u8, |kinds, kind| kinds | 1 << kind);
                Some(((at * WORD) as c_int + place as c_int, kinds))
            })
        })
    }

    /// The descriptors that are in any of the sets.
    pub fn descriptors(&self) -> impl Iterator<Item = c_int> {
        self.members().map(|(fd, _)| fd)
    }
}

/// pselect(2). On success the sets hold what is ready; the result counts their members.
///
/// # Errors
/// `EBADF` if a member is closed, `EINTR`.
pub fn select(
    stack: &impl Stack,
    sets: &Sets,
    deadline: Deadline,
    mask: Option<SignalMask>,
) -> Result<usize> {
    let mut fds = SmallVec::<[pollfd; 16]>::new();
    let mut asked = SmallVec::<[u8; 16]>::new();
    for (fd, kinds) in sets.members() {
        fds.push(pollfd {
            fd,
            events: kinds_of(kinds).fold(0, |events, kind| events | KINDS[kind]) as i16,
            revents: 0,
        });
        asked.push(kinds);
    }
    loop {
        let ready = poll::poll(stack, &mut fds, deadline, mask)?;
        if fds.iter().any(|fd| fd.revents as u32 & bit::NVAL != 0) {
            return Err(Errno(libc::EBADF));
        }
        let count = fds
            .iter()
            .zip(&asked)
            .map(|(fd, kinds)| reported(fd, *kinds).count())
            .sum();
        if count > 0 || ready == 0 {
            store(sets, &fds, &asked);
            return Ok(count);
        }
        // Poll reports a hang-up that nobody asked for; to select it is no event, and none will
        // follow.
        for fd in fds.iter_mut().filter(|fd| fd.revents != 0) {
            fd.fd = -1;
        }
    }
}

fn store(sets: &Sets, fds: &[pollfd], asked: &[u8]) {
    for at in 0..sets.count.div_ceil(WORD) {
        (0..3).for_each(|kind| sets.set_word(kind, at, 0));
    }
    for (entry, kinds) in fds.iter().zip(asked) {
        for kind in reported(entry, *kinds) {
            let (at, place) = (entry.fd as usize / WORD, entry.fd as usize % WORD);
            sets.set_word(kind, at, sets.word(kind, at) | 1 << place);
        }
    }
}

/// The sets in which a descriptor is reported.
fn reported(entry: &pollfd, asked: u8) -> impl Iterator<Item = usize> {
    let revents = entry.revents as u32;
    kinds_of(asked).filter(move |kind| revents & KINDS[*kind] != 0)
}

fn kinds_of(kinds: u8) -> impl Iterator<Item = usize> {
    (0..3).filter(move |kind| kinds & 1 << kind != 0)
}
