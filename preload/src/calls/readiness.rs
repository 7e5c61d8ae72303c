//! Readiness: epoll, poll, select. What concerns no socket of the stack goes to the kernel as it is.

#![allow(unsafe_code)]

use crate::errno::{Errno, Result};
use crate::interpose::{run, run_cancellable};
use crate::process::Process;
use crate::readiness::deadline::Deadline;
use crate::readiness::kernel::SignalMask;
use crate::readiness::select::Sets;
use crate::readiness::stack::{self, Stack};
use crate::readiness::{epoll, poll as polling, select as selecting};
use crate::trace::{self, About, Line};
use fdmap::Entry;
use libc::{c_int, epoll_event, fd_set, nfds_t, pollfd, sigset_t, size_t, timespec, timeval};
use std::time::Duration;

crate::interpose! {
    family: "readiness";

    /// A kernel epoll descriptor that can hold sockets of the stack.
    fn epoll_create(size: c_int) -> c_int {
        trace::call("epoll_create", About::Opens, |line, _| { line.arg(size); }, || {
            match stack::current() {
                Some(_) if size > 0 => run(|| epoll::create(0)),
                // SAFETY: the caller's arguments, passed on.
                _ => unsafe { epoll_create::real()(size) },
            }
        })
    }

    /// As `epoll_create`, with flags.
    fn epoll_create1(flags: c_int) -> c_int {
        let args = |line: &mut Line, _| {
            line.flags(flags, &[(libc::EPOLL_CLOEXEC, "EPOLL_CLOEXEC")]);
        };
        trace::call("epoll_create1", About::Opens, args, || match stack::current() {
            Some(_) => run(|| epoll::create(flags)),
            // SAFETY: the caller's arguments, passed on.
            None => unsafe { epoll_create1::real()(flags) },
        })
    }

    /// Sockets are kept in the set's own table; other descriptors go to the kernel's epoll; what
    /// listens on both sides goes to both. Level- and edge-triggered, `EPOLLONESHOT`,
    /// `EPOLLEXCLUSIVE` and `EPOLLRDHUP`, errors as the kernel's.
    fn epoll_ctl(epfd: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
        let concerns = || trace::is_stack(epfd) || trace::is_stack(fd);
        let args = |line: &mut Line, _| {
            line.fd(epfd).name(op, OPERATIONS).fd(fd);
            show_events(line, event, usize::from(op != libc::EPOLL_CTL_DEL));
        };
        trace::call("epoll_ctl", About::Concerns(&concerns), args, || {
            let Some(stack) = stack::current() else {
                // SAFETY: the caller's arguments, passed on.
                return unsafe { epoll_ctl::real()(epfd, op, fd, event) };
            };
            run(|| {
                let has_event = op != libc::EPOLL_CTL_DEL;
                if has_event && event.is_null() {
                    return Err(Errno(libc::EFAULT));
                }
                // SAFETY: not null; the caller's event.
                let event = has_event.then(|| unsafe { event.read_unaligned() });
                let event = event.map(|event| (event.events, event.u64));
                epoll::control(stack, epfd, op, fd, event).map(|()| 0)
            })
        })
    }

    /// Serves the kernel's descriptors and the sockets of a set, and starves neither.
    fn epoll_wait(epfd: c_int, events: *mut epoll_event, max: c_int, timeout: c_int) -> c_int {
        let args = |line: &mut Line, n| {
            show_events(line, events, usize::try_from(n).unwrap_or(0));
            line.arg(max).arg(timeout);
        };
        trace::call("epoll_wait", epfd, args, || match instance(epfd) {
            Some(instance) => run_cancellable(|| {
                // SAFETY: the caller's events.
                unsafe { wait(instance, epfd, events, max, || Ok(Deadline::from_millis(timeout)), None) }
            }),
            // SAFETY: the caller's arguments, passed on.
            None => unsafe { epoll_wait::real()(epfd, events, max, timeout) },
        })
    }

    /// As `epoll_wait`. A signal mask applies while the thread sleeps, as if in one step.
    fn epoll_pwait(
        epfd: c_int,
        events: *mut epoll_event,
        max: c_int,
        timeout: c_int,
        mask: *const sigset_t,
    ) -> c_int {
        let args = |line: &mut Line, n| {
            show_events(line, events, usize::try_from(n).unwrap_or(0));
            line.arg(max).arg(timeout).pointer(mask);
        };
        trace::call("epoll_pwait", epfd, args, || match instance(epfd) {
            Some(instance) => run_cancellable(|| {
                let mask = SignalMask::from_ptr(mask);
                // SAFETY: the caller's events.
                unsafe { wait(instance, epfd, events, max, || Ok(Deadline::from_millis(timeout)), mask) }
            }),
            // SAFETY: the caller's arguments, passed on.
            None => unsafe { epoll_pwait::real()(epfd, events, max, timeout, mask) },
        })
    }

    /// As `epoll_pwait`, with nanoseconds.
    fn epoll_pwait2(
        epfd: c_int,
        events: *mut epoll_event,
        max: c_int,
        timeout: *const timespec,
        mask: *const sigset_t,
    ) -> c_int {
        let args = |line: &mut Line, n| {
            show_events(line, events, usize::try_from(n).unwrap_or(0));
            line.arg(max).pointer(timeout).pointer(mask);
        };
        trace::call("epoll_pwait2", epfd, args, || match instance(epfd) {
            Some(instance) => run_cancellable(|| {
                let mask = SignalMask::from_ptr(mask);
                // SAFETY: the caller's events and time.
                unsafe {
                    let deadline = || Deadline::from_timespec(timeout.as_ref().copied());
                    wait(instance, epfd, events, max, deadline, mask)
                }
            }),
            // SAFETY: the caller's arguments, passed on.
            None => unsafe { epoll_pwait2::real()(epfd, events, max, timeout, mask) },
        })
    }

    /// Sockets and descriptors of the kernel in one call, all bits as the kernel has them.
    fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
        let args = |line: &mut Line, _| {
            show_fds(line, fds, count);
            line.arg(count).arg(timeout);
        };
        // SAFETY: the caller's descriptors.
        let concerns = || unsafe { polled(fds, count) }.is_some();
        // SAFETY: the caller's descriptors and arguments.
        trace::call("poll", About::Concerns(&concerns), args, || unsafe {
            match polled(fds, count) {
                Some((stack, fds)) => run_cancellable(|| {
                    count_of(polling::poll(stack, fds, Deadline::from_millis(timeout), None))
                }),
                None => poll::real()(fds, count, timeout),
            }
        })
    }

    /// As `poll`.
    fn __poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
        // SAFETY: the caller's arguments, passed on.
        unsafe { poll(fds, count, timeout) }
    }

    /// As `poll`, after the check that glibc's fortification makes.
    fn __poll_chk(fds: *mut pollfd, count: nfds_t, timeout: c_int, size: size_t) -> c_int {
        // SAFETY: the caller's arguments, passed on. A list that is too short ends the process.
        unsafe {
            if size / size_of::<pollfd>() < count as usize {
                return __poll_chk::real()(fds, count, timeout, size);
            }
            poll(fds, count, timeout)
        }
    }

    /// As `poll`, with nanoseconds. A signal mask applies while the thread sleeps, as if in one step.
    fn ppoll(
        fds: *mut pollfd,
        count: nfds_t,
        timeout: *const timespec,
        mask: *const sigset_t,
    ) -> c_int {
        let args = |line: &mut Line, _| {
            show_fds(line, fds, count);
            line.arg(count).pointer(timeout).pointer(mask);
        };
        // SAFETY: the caller's descriptors.
        let concerns = || unsafe { polled(fds, count) }.is_some();
        // SAFETY: the caller's descriptors and arguments.
        trace::call("ppoll", About::Concerns(&concerns), args, || unsafe {
            match polled(fds, count) {
                Some((stack, fds)) => run_cancellable(|| {
                    let deadline = Deadline::from_timespec(timeout.as_ref().copied())?;
                    count_of(polling::poll(stack, fds, deadline, SignalMask::from_ptr(mask)))
                }),
                None => ppoll::real()(fds, count, timeout, mask),
            }
        })
    }

    /// As `ppoll`, after the check that glibc's fortification makes.
    fn __ppoll_chk(
        fds: *mut pollfd,
        count: nfds_t,
        timeout: *const timespec,
        mask: *const sigset_t,
        size: size_t,
    ) -> c_int {
        // SAFETY: the caller's arguments, passed on. A list that is too short ends the process.
        unsafe {
            if size / size_of::<pollfd>() < count as usize {
                return __ppoll_chk::real()(fds, count, timeout, mask, size);
            }
            ppoll(fds, count, timeout, mask)
        }
    }

    /// Sockets and descriptors of the kernel in one call. As Linux, it leaves the time that was not
    /// used in `timeout`.
    fn select(
        count: c_int,
        read: *mut fd_set,
        write: *mut fd_set,
        except: *mut fd_set,
        timeout: *mut timeval,
    ) -> c_int {
        let args = |line: &mut Line, _| {
            line.arg(count).pointer(read).pointer(write).pointer(except).pointer(timeout);
        };
        // SAFETY: the caller's sets.
        let concerns = || unsafe { selected(count, read, write, except) }.is_some();
        // SAFETY: the caller's sets, time and arguments.
        trace::call("select", About::Concerns(&concerns), args, || unsafe {
            match selected(count, read, write, except) {
                Some((stack, sets)) => run_cancellable(|| {
                    let deadline = Deadline::from_timeval(timeout.as_ref().copied())?;
                    let result = selecting::select(stack, &sets, deadline, None);
                    if let Some(timeout) = timeout.as_mut() {
                        *timeout = time_left(deadline);
                    }
                    count_of(result)
                }),
                None => select::real()(count, read, write, except, timeout),
            }
        })
    }

    /// As `select`.
    fn __select(
        count: c_int,
        read: *mut fd_set,
        write: *mut fd_set,
        except: *mut fd_set,
        timeout: *mut timeval,
    ) -> c_int {
        // SAFETY: the caller's arguments, passed on.
        unsafe { select(count, read, write, except, timeout) }
    }

    /// As `select`, with nanoseconds, which it leaves alone. A signal mask applies while the thread
    /// sleeps, as if in one step.
    fn pselect(
        count: c_int,
        read: *mut fd_set,
        write: *mut fd_set,
        except: *mut fd_set,
        timeout: *const timespec,
        mask: *const sigset_t,
    ) -> c_int {
        let args = |line: &mut Line, _| {
            line.arg(count).pointer(read).pointer(write).pointer(except);
            line.pointer(timeout).pointer(mask);
        };
        // SAFETY: the caller's sets.
        let concerns = || unsafe { selected(count, read, write, except) }.is_some();
        // SAFETY: the caller's sets, time and arguments.
        trace::call("pselect", About::Concerns(&concerns), args, || unsafe {
            match selected(count, read, write, except) {
                Some((stack, sets)) => run_cancellable(|| {
                    let deadline = Deadline::from_timespec(timeout.as_ref().copied())?;
                    let mask = SignalMask::from_ptr(mask);
                    count_of(selecting::select(stack, &sets, deadline, mask))
                }),
                None => pselect::real()(count, read, write, except, timeout, mask),
            }
        })
    }
}

const OPERATIONS: &[(c_int, &str)] = &[
    (libc::EPOLL_CTL_ADD, "EPOLL_CTL_ADD"),
    (libc::EPOLL_CTL_MOD, "EPOLL_CTL_MOD"),
    (libc::EPOLL_CTL_DEL, "EPOLL_CTL_DEL"),
];

const EVENTS: &[(c_int, &str)] = &[
    (libc::EPOLLIN, "EPOLLIN"),
    (libc::EPOLLPRI, "EPOLLPRI"),
    (libc::EPOLLOUT, "EPOLLOUT"),
    (libc::EPOLLRDNORM, "EPOLLRDNORM"),
    (libc::EPOLLWRNORM, "EPOLLWRNORM"),
    (libc::EPOLLERR, "EPOLLERR"),
    (libc::EPOLLHUP, "EPOLLHUP"),
    (libc::EPOLLRDHUP, "EPOLLRDHUP"),
    (libc::EPOLLEXCLUSIVE, "EPOLLEXCLUSIVE"),
    (libc::EPOLLWAKEUP, "EPOLLWAKEUP"),
    (libc::EPOLLONESHOT, "EPOLLONESHOT"),
    (libc::EPOLLET, "EPOLLET"),
];

/// Events in a line of the trace, as bits and data; a few at most.
fn show_events(line: &mut Line, events: *const epoll_event, count: usize) {
    if events.is_null() {
        line.pointer(events);
        return;
    }
    for at in 0..count.min(4) {
        // SAFETY: the program gave, or got, that many events.
        let event = unsafe { events.add(at).read_unaligned() };
        line.flags(event.events as c_int, EVENTS);
        line.arg(format_args!("{:#x}", { event.u64 }));
    }
}

/// The descriptors of a poll in a line of the trace, with what was asked and told; a few at most.
fn show_fds(line: &mut Line, fds: *const pollfd, count: nfds_t) {
    if fds.is_null() {
        line.pointer(fds);
        return;
    }
    for at in 0..count.min(4) as usize {
        // SAFETY: the program gave that many entries.
        let pollfd {
            fd,
            events,
            revents,
        } = unsafe { fds.add(at).read_unaligned() };
        line.fd(fd);
        line.arg(format_args!("{events:#x}->{revents:#x}"));
    }
}

type Attached = &'static Process;

/// The epoll instance behind a descriptor, or why there is none; `None` if the kernel is to answer.
fn instance(epfd: c_int) -> Option<Result<(Attached, u32)>> {
    match fdmap::get(epfd) {
        Entry::Epoll { slot } => Some(Ok((stack::current()?, slot))),
        Entry::Pooled | Entry::Private => Some(Err(Errno(libc::EBADF))),
        Entry::Kernel | Entry::Socket { .. } => None,
    }
}

/// # Safety
/// `events` is null or has room for `max` events.
unsafe fn wait(
    instance: Result<(Attached, u32)>,
    epfd: c_int,
    events: *mut epoll_event,
    max: c_int,
    deadline: impl FnOnce() -> Result<Deadline>,
    mask: Option<SignalMask>,
) -> Result<c_int> {
    let deadline = deadline()?;
    let most = c_int::MAX as usize / size_of::<epoll_event>();
    let max = usize::try_from(max)
        .ok()
        .filter(|max| (1..=most).contains(max));
    let max = max.ok_or(Errno(libc::EINVAL))?;
    let (stack, slot) = instance?;
    if events.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    // SAFETY: not null, and the caller's promise; the type has no alignment and any bits are valid.
    let out = unsafe { std::slice::from_raw_parts_mut(events, max) };
    count_of(epoll::wait(stack, epfd, slot, out, deadline, mask))
}

fn count_of(result: Result<usize>) -> Result<c_int> {
    result.map(|n| c_int::try_from(n).unwrap_or(c_int::MAX))
}

/// The descriptors of a poll that concerns the stack; `None` if the kernel is to answer.
///
/// # Safety
/// `fds` is null or points to `count` entries that nobody else uses meanwhile.
unsafe fn polled<'a>(fds: *mut pollfd, count: nfds_t) -> Option<(Attached, &'a mut [pollfd])> {
    let stack = stack::current()?;
    let count = usize::try_from(count).ok()?;
    let fds = if fds.is_null() || count > fdmap::DESCRIPTORS {
        &mut []
    } else {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(fds, count) }
    };
    if polling::is_kernels(fds.iter().map(|entry| entry.fd)) {
        stack.before_return();
        return None;
    }
    Some((stack, fds))
}

/// The sets of a select that concerns the stack; `None` if the kernel is to answer.
///
/// # Safety
/// As [`Sets::new`].
unsafe fn selected(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
) -> Option<(Attached, Sets)> {
    let stack = stack::current()?;
    // SAFETY: the caller's promise.
    let sets = unsafe { Sets::new(count, read, write, except) }.ok()?;
    if polling::is_kernels(sets.descriptors()) {
        stack.before_return();
        return None;
    }
    Some((stack, sets))
}

fn time_left(deadline: Deadline) -> timeval {
    let left = deadline.remaining().unwrap_or(Duration::ZERO);
    timeval {
        tv_sec: left.as_secs().min(i64::MAX as u64) as i64,
        tv_usec: left.subsec_micros().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errno;
    use crate::readiness::testing::Descriptor;
    use crate::socket::{close, create, find};
    use crate::testing::{commands, engine, established};
    use context::command::Op;
    use context::ready::Event;

    const NOTHING: epoll_event = epoll_event { events: 0, u64: 0 };

    /// A connection with data to read, behind a descriptor.
    fn readable() -> c_int {
        let socket = established();
        engine().receive(socket, b"data");
        create::attach(socket, true).unwrap()
    }

    fn close(fd: c_int) {
        close::descriptor(fd, find(fd).unwrap()).unwrap();
    }

    #[test]
    fn each_call_finds_a_socket_of_the_stack() {
        let fd = readable();
        // SAFETY: all pointers are to locals that live through the calls.
        unsafe {
            let epfd = Descriptor(epoll_create1(libc::EPOLL_CLOEXEC));
            let mut event = epoll_event {
                events: libc::EPOLLIN as u32,
                u64: 9,
            };
            let add = libc::EPOLL_CTL_ADD;
            assert_eq!(epoll_ctl(epfd.0, add, fd, &raw mut event), 0);
            let no_time = timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let null = std::ptr::null();
            let mut out = [NOTHING; 2];
            let at = out.as_mut_ptr();
            assert_eq!(epoll_wait(epfd.0, at, 2, -1), 1);
            assert_eq!(epoll_pwait(epfd.0, at, 2, 0, null), 1);
            assert_eq!(epoll_pwait2(epfd.0, at, 2, &raw const no_time, null), 1);
            assert_eq!({ out[0].u64 }, 9);

            let mut fds = [pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            }];
            let (at, size) = (fds.as_mut_ptr(), size_of_val(&fds));
            assert_eq!(poll(at, 1, -1), 1);
            assert_eq!(__poll_chk(at, 1, -1, size), 1);
            assert_eq!(ppoll(at, 1, &raw const no_time, null), 1);
            assert_eq!(__ppoll_chk(at, 1, std::ptr::null(), null, size), 1);
            assert_eq!(fds[0].revents, libc::POLLIN);

            let mut set: fd_set = std::mem::zeroed();
            libc::FD_SET(fd, &raw mut set);
            let none = std::ptr::null_mut();
            let mut time = timeval {
                tv_sec: 100,
                tv_usec: 0,
            };
            assert_eq!(select(fd + 1, &raw mut set, none, none, &raw mut time), 1);
            assert!((1..100).contains(&time.tv_sec), "the time left is told");
            assert_eq!(
                pselect(fd + 1, &raw mut set, none, none, null.cast(), null),
                1
            );
            assert!(libc::FD_ISSET(fd, &raw const set));
        }
        close(fd);
    }

    #[test]
    fn an_edge_from_the_engine_ends_a_wait() {
        let socket = established();
        let fd = create::attach(socket, true).unwrap();
        // SAFETY: all pointers are to locals that live through the calls.
        unsafe {
            let epfd = Descriptor(epoll_create1(libc::EPOLL_CLOEXEC));
            let mut event = epoll_event {
                events: libc::EPOLLIN as u32,
                u64: 9,
            };
            commands();
            let add = libc::EPOLL_CTL_ADD;
            assert_eq!(epoll_ctl(epfd.0, add, fd, &raw mut event), 0);
            let watch = commands()[0];
            assert_eq!(watch.op, Op::Watch);
            std::thread::scope(|s| {
                s.spawn(|| {
                    engine().receive(socket, b"data");
                    let event = Event {
                        cookie: watch.arg as u32,
                        slot: 0,
                        socket: socket.index,
                    };
                    engine().push_event((watch.arg >> 32) as u32, socket.worker(), event);
                });
                let mut out = [NOTHING; 2];
                assert_eq!(epoll_wait(epfd.0, out.as_mut_ptr(), 2, -1), 1);
                assert_eq!({ out[0].u64 }, 9);
            });
        }
        close(fd);
    }

    #[test]
    fn bad_arguments_are_refused_as_by_the_kernel() {
        let fd = readable();
        // SAFETY: what is not null is a local that lives through the calls.
        unsafe {
            let epfd = Descriptor(epoll_create(1));
            let mut out = [NOTHING];
            let failed = |result: c_int| {
                assert_eq!(result, -1);
                errno::get()
            };
            assert_eq!(failed(epoll_create(0)), libc::EINVAL);
            assert_eq!(failed(epoll_create1(1)), libc::EINVAL);
            assert_eq!(
                failed(epoll_wait(epfd.0, out.as_mut_ptr(), 0, 0)),
                libc::EINVAL
            );
            assert_eq!(
                failed(epoll_wait(epfd.0, out.as_mut_ptr(), c_int::MAX, 0)),
                libc::EINVAL
            );
            assert_eq!(failed(epoll_wait(fd, out.as_mut_ptr(), 1, 0)), libc::EINVAL);
            assert_eq!(failed(epoll_wait(-1, out.as_mut_ptr(), 1, 0)), libc::EBADF);
            let null = std::ptr::null_mut();
            let add = libc::EPOLL_CTL_ADD;
            assert_eq!(failed(epoll_ctl(epfd.0, add, fd, null)), libc::EFAULT);
            let bad_time = timespec {
                tv_sec: 0,
                tv_nsec: 1_000_000_000,
            };
            let mut fds = [pollfd {
                fd,
                events: 0,
                revents: 0,
            }];
            let result = ppoll(fds.as_mut_ptr(), 1, &raw const bad_time, std::ptr::null());
            assert_eq!(failed(result), libc::EINVAL);
        }
        close(fd);
    }
}
