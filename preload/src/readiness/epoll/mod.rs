//! epoll: a real kernel epoll descriptor is the number that the program sees and holds the kernel's
//! descriptors; the sockets of the stack are kept beside it.

mod heads;
mod instance;
mod set;
#[cfg(test)]
mod tests;
mod watches;

use super::deadline::Deadline;
use super::kernel::{self, SignalMask};
use super::level::bit;
use super::spare;
use super::stack::{self, SocketId, Stack};
use crate::errno::{Errno, Result};
use context::socket::{Socket, flag};
use fdmap::Entry;
use instance::Instance;
use std::ffi::c_int;
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use watches::Watch;

const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;
const WAKEUP: u32 = libc::EPOLLWAKEUP as u32;
const ET: u32 = libc::EPOLLET as u32;
/// Flags, as against events.
const PRIVATE_BITS: u32 = EXCLUSIVE | WAKEUP | ET | libc::EPOLLONESHOT as u32;
/// What may go with `EPOLLEXCLUSIVE`.
const EXCLUSIVE_OK: u32 = bit::IN | bit::OUT | bit::ALWAYS | WAKEUP | ET | EXCLUSIVE;

/// Most epoll instances of a process that can hold sockets of the stack.
const INSTANCES: usize = 1 << 16;

/// Where no instance watches a record, and where more than one does.
const NOBODY: u32 = 0;
const SEVERAL: u32 = u32::MAX;

static TABLE: [Place; INSTANCES] = [const { Place::new() }; INSTANCES];
/// One more than the highest place ever used.
static END: AtomicU32 = AtomicU32::new(0);
/// For each record, the place + 1 of the instance that watches it.
static WATCHERS: [AtomicU32; fdmap::SOCKETS] = [const { AtomicU32::new(NOBODY) }; fdmap::SOCKETS];

struct Place {
    instance: OnceLock<Box<Instance>>,
    /// Descriptors; 0: the place is free.
    references: AtomicU32,
}

impl Place {
    const fn new() -> Place {
        Place {
            instance: OnceLock::new(),
            references: AtomicU32::new(0),
        }
    }
}

/// epoll_create1(2).
///
/// # Errors
/// As epoll_create1(2).
pub fn create(flags: c_int) -> Result<RawFd> {
    let epfd = kernel::epoll_create(flags)?;
    // Without a place it can hold no socket, but everything else.
    let _ = adopt(epfd);
    if stack::current().is_some() {
        spare::keep();
    }
    Ok(epfd)
}

/// Gives a kernel epoll descriptor a place.
fn adopt(epfd: RawFd) -> Option<u32> {
    if !fdmap::has_place(epfd) {
        return None;
    }
    let slot = TABLE.iter().position(|place| {
        let references = &place.references;
        let free = references.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed);
        free.is_ok()
    })? as u32;
    let place = &TABLE[slot as usize];
    place.instance.get_or_init(Box::default);
    END.fetch_max(slot + 1, Ordering::AcqRel);
    fdmap::set(epfd, Entry::Epoll { slot });
    Some(slot)
}

/// The instance at a place. Instances are used again but never freed.
fn instance(slot: u32) -> Option<&'static Instance> {
    let instance = TABLE.get(slot as usize)?.instance.get()?;
    Some(instance)
}

fn instances() -> impl Iterator<Item = &'static Instance> {
    (0..END.load(Ordering::Acquire)).filter_map(instance)
}

/// One more descriptor names the instance at `slot`.
pub fn duplicate(slot: u32) {
    if let Some(place) = TABLE.get(slot as usize) {
        place.references.fetch_add(1, Ordering::AcqRel);
    }
}

/// A descriptor of the instance at `slot` was closed. With the last one go all its watches.
pub fn close(slot: u32) {
    if let Some(stack) = stack::current() {
        close_for(stack, slot);
    }
}

fn close_for(stack: &impl Stack, slot: u32) {
    let (Some(place), Some(instance)) = (TABLE.get(slot as usize), instance(slot)) else {
        return;
    };
    if place.references.load(Ordering::Acquire) == 1 {
        for socket in instance.sockets(stack) {
            if let Some(word) = WATCHERS.get(socket as usize) {
                let own = slot + 1;
                let _ = word.compare_exchange(own, NOBODY, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
        instance.clear(stack);
    }
    let references = &place.references;
    let _ = references.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| n.checked_sub(1));
}

/// epoll_ctl(2). `event` is what to wait for, and the program's data; `None` for `EPOLL_CTL_DEL`.
///
/// # Errors
/// As epoll_ctl(2).
pub fn control(
    stack: &impl Stack,
    epfd: RawFd,
    op: c_int,
    fd: RawFd,
    event: Option<(u32, u64)>,
) -> Result<()> {
    match fdmap::get(fd) {
        Entry::Socket { index, generation } => {
            let socket = SocketId { index, generation };
            control_socket(stack, epfd, op, fd, socket, event)
        }
        Entry::Pooled | Entry::Private => Err(Errno(libc::EBADF)),
        behind @ (Entry::Kernel | Entry::Epoll { .. }) => {
            let (events, data) = event.unwrap_or_default();
            if matches!(fdmap::get(epfd), Entry::Pooled | Entry::Private) {
                return Err(Errno(libc::EBADF));
            }
            kernel::epoll_ctl(epfd, op, fd, events, data)?;
            if let Entry::Epoll { slot } = fdmap::get(epfd)
                && let Some(outer) = instance(slot)
                && op != libc::EPOLL_CTL_MOD
            {
                outer.count_kernel(stack, op == libc::EPOLL_CTL_ADD);
            }
            if let Entry::Epoll { slot } = behind
                && let Some(inner) = instance(slot)
                && op == libc::EPOLL_CTL_ADD
            {
                inner.nest(stack);
                if let Entry::Epoll { slot } = fdmap::get(epfd)
                    && let Some(outer) = instance(slot)
                {
                    outer.note_set();
                }
            }
            Ok(())
        }
    }
}

fn control_socket(
    stack: &impl Stack,
    epfd: RawFd,
    op: c_int,
    fd: RawFd,
    socket: SocketId,
    event: Option<(u32, u64)>,
) -> Result<()> {
    let slot = slot_of(epfd, fd)?;
    let instance = instance(slot).ok_or(Errno(libc::EINVAL))?;
    let (events, data) = event.unwrap_or_default();
    if op != libc::EPOLL_CTL_DEL && events & EXCLUSIVE != 0 {
        let refused =
            op == libc::EPOLL_CTL_MOD || op == libc::EPOLL_CTL_ADD && events & !EXCLUSIVE_OK != 0;
        if refused {
            return Err(Errno(libc::EINVAL));
        }
    }
    let record = socket.record(stack.segment()).ok_or(Errno(libc::EBADF))?;
    let both = listens_in_kernel(record);
    // What the machine may sleep through does not concern a socket of the stack.
    let events = events & !WAKEUP;
    match op {
        libc::EPOLL_CTL_ADD => {
            instance.add(stack, epfd, fd, socket, events, data)?;
            note_watcher(socket.index, slot);
        }
        libc::EPOLL_CTL_MOD => instance.modify(stack, fd, socket, events, data)?,
        libc::EPOLL_CTL_DEL => instance.delete(stack, fd, socket)?,
        _ => return Err(Errno(libc::EINVAL)),
    }
    if both {
        control_kernel_side(epfd, op, fd, events, data)?;
        instance.set_both(stack, fd, socket, op != libc::EPOLL_CTL_DEL);
        if op != libc::EPOLL_CTL_MOD {
            instance.count_kernel(stack, op == libc::EPOLL_CTL_ADD);
        }
    }
    Ok(())
}

/// Whether the number of this socket is that of a kernel socket, which listens beside it.
pub fn listens_in_kernel(socket: &Socket) -> bool {
    socket.app.flags.load(Ordering::Acquire) & flag::BOTH != 0
}

/// The kernel's socket that listens behind the same number. It may have come to be after the number
/// was added.
fn control_kernel_side(epfd: RawFd, op: c_int, fd: RawFd, events: u32, data: u64) -> Result<()> {
    match kernel::epoll_ctl(epfd, op, fd, events, data) {
        Err(Errno(libc::ENOENT)) if op == libc::EPOLL_CTL_MOD => {
            kernel::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, fd, events, data)
        }
        Err(Errno(libc::EEXIST)) if op == libc::EPOLL_CTL_ADD => {
            kernel::epoll_ctl(epfd, libc::EPOLL_CTL_MOD, fd, events, data)
        }
        Err(Errno(libc::ENOENT)) => Ok(()),
        result => result,
    }
}

/// The place of the epoll instance behind `epfd`. One that this library has not seen being made
/// (it was inherited, or came from a raw system call) gets a place now.
fn slot_of(epfd: RawFd, fd: RawFd) -> Result<u32> {
    match fdmap::get(epfd) {
        Entry::Epoll { slot } => Ok(slot),
        Entry::Socket { .. } => Err(Errno(libc::EINVAL)),
        Entry::Pooled | Entry::Private => Err(Errno(libc::EBADF)),
        // The kernel knows whether it is one: then it does not know the placeholder.
        Entry::Kernel => match kernel::epoll_ctl(epfd, libc::EPOLL_CTL_DEL, fd, 0, 0) {
            Ok(()) | Err(Errno(libc::ENOENT)) => adopt(epfd).ok_or(Errno(libc::ENOSPC)),
            Err(error) => Err(error),
        },
    }
}

fn note_watcher(socket: u32, slot: u32) {
    let Some(word) = WATCHERS.get(socket as usize) else {
        return;
    };
    let own = slot + 1;
    let set = word.compare_exchange(NOBODY, own, Ordering::AcqRel, Ordering::Acquire);
    if set.is_err_and(|other| other != own) {
        word.store(SEVERAL, Ordering::Release);
    }
}

/// The instances that may watch a record.
fn watchers(word: u32) -> impl Iterator<Item = &'static Instance> {
    places(word).filter_map(instance)
}

fn places(word: u32) -> std::ops::Range<u32> {
    match word {
        NOBODY => 0..0,
        SEVERAL => 0..END.load(Ordering::Acquire),
        own => own - 1..own,
    }
}

/// The last descriptor of a socket in this process was closed: its watches end.
pub fn forget_socket(stack: &impl Stack, socket: u32) {
    let Some(word) = WATCHERS.get(socket as usize) else {
        return;
    };
    if word.load(Ordering::Acquire) == NOBODY {
        return;
    }
    let word = word.swap(NOBODY, Ordering::AcqRel);
    watchers(word).for_each(|instance| instance.forget(stack, socket));
}

/// The application itself has made a socket ready (`shutdown(2)`, a lower `SO_RCVLOWAT`).
pub fn raise(stack: &impl Stack, socket: u32) {
    let word = WATCHERS.get(socket as usize);
    let word = word.map_or(NOBODY, |word| word.load(Ordering::Acquire));
    watchers(word).for_each(|instance| instance.raise(stack, socket));
}

/// The kernel serves the socket behind `fd` from now on, and its descriptor lies under the number
/// already: the watches under that number move to the kernel's epoll.
pub fn hand_over(stack: &impl Stack, fd: RawFd, socket: SocketId) {
    for (epfd, instance) in descriptors() {
        if let Some(watch) = instance.hand_over(stack, fd, socket) {
            add_kernel_side(stack, epfd, instance, &watch);
        }
    }
}

/// A kernel socket listens beside the one behind `fd` from now on, and its descriptor lies under
/// the number already: the kernel's epoll watches it as well.
pub fn share(stack: &impl Stack, fd: RawFd, socket: SocketId) {
    for (epfd, instance) in descriptors() {
        if let Some(watch) = instance.watch(stack, fd, socket) {
            add_kernel_side(stack, epfd, instance, &watch);
            instance.set_both(stack, fd, socket, true);
        }
    }
}

fn add_kernel_side(stack: &impl Stack, epfd: RawFd, instance: &Instance, watch: &Watch) {
    let (op, fd) = (libc::EPOLL_CTL_ADD, watch.fd);
    match kernel::epoll_ctl(epfd, op, fd, watch.events, watch.data) {
        Ok(()) => instance.count_kernel(stack, true),
        // Through another of the instance's descriptors.
        Err(Errno(libc::EEXIST)) => {}
        Err(error) => crate::log::format(format_args!(
            "descriptor {fd} is lost to epoll {epfd}: {error}"
        )),
    }
}

fn descriptors() -> impl Iterator<Item = (RawFd, &'static Instance)> {
    fdmap::entries().filter_map(|(epfd, entry)| match entry {
        Entry::Epoll { slot } => Some((epfd, instance(slot)?)),
        _ => None,
    })
}

/// Another record stands behind the descriptors of `from` now.
pub fn renew(stack: &impl Stack, from: SocketId, to: SocketId) {
    let word = WATCHERS.get(from.index as usize);
    let word = word.map_or(NOBODY, |word| word.swap(NOBODY, Ordering::AcqRel));
    for slot in places(word) {
        if instance(slot).is_some_and(|instance| instance.renew(stack, from, to)) {
            note_watcher(to.index, slot);
        }
    }
}

/// Whether the instance at `slot` has sockets that are ready, as poll(2) of its descriptor asks.
/// From now on the descriptor itself becomes readable when some are.
pub fn is_ready(stack: &impl Stack, slot: u32) -> bool {
    instance(slot).is_some_and(|instance| {
        instance.nest(stack);
        instance.settle(stack);
        instance.is_ready(stack)
    })
}

/// epoll_pwait2(2) on the instance at `slot`, whose descriptor is `epfd`.
///
/// # Errors
/// As epoll_pwait2(2).
pub fn wait(
    stack: &impl Stack,
    epfd: RawFd,
    slot: u32,
    out: &mut [libc::epoll_event],
    deadline: Deadline,
    mask: Option<SignalMask>,
) -> Result<usize> {
    let instance = instance(slot).ok_or(Errno(libc::EBADF))?;
    if instance.has_sets() {
        instances().for_each(|inner| inner.settle(stack));
    }
    instance.wait(stack, epfd, out, deadline, mask)
}

/// Before a fork: no set may be in the midst of a change.
pub fn lock_for_fork(stack: &impl Stack) {
    instances().for_each(|instance| instance.lock_for_fork(stack));
}

/// After a fork, in parent and child.
pub fn unlock_after_fork(in_child: bool) {
    instances().for_each(|instance| instance.unlock_after_fork(in_child));
}
