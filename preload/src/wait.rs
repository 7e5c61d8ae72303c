//! Waiting on one socket, as a blocking call does.

#![allow(unsafe_code)]

use crate::errno::{Errno, Result};
use crate::readiness::channel::LIVENESS;
use crate::socket::SocketRef;
use crate::thread::{self, Thread};
use crate::{cancel, hold, real};
use context::futex;
use context::socket::flag;
use std::time::{Duration, Instant};

/// How often a wait asks whether the engine is still there.
const SLICE: Duration = LIVENESS;

/// Waits until `check` has an answer, at most `timeout`; `None` if the time is up.
///
/// The engine wakes the thread at each edge of the socket. `check` may be called any number of
/// times, and looks at the record again each time.
///
/// # Errors
/// `EINTR` if a signal handler ran that does not ask for restarting; `EBADF` if another thread closed
/// the socket; `ENETDOWN` if the engine is gone.
pub fn until<T>(
    socket: SocketRef,
    timeout: Option<Duration>,
    mut check: impl FnMut() -> Option<T>,
) -> Result<Option<T>> {
    let mut check = || match check() {
        None if socket.flags() & flag::CLOSED != 0 || !socket.is_current() => {
            Err(Errno(libc::EBADF))
        }
        answer => Ok(answer),
    };
    if let Some(answer) = check()? {
        return Ok(Some(answer));
    }
    hold::keep(socket);
    let now = Instant::now();
    let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
    let segment = &socket.process().segment;
    if segment.spin_us() > 0 && !segment.shared_core() {
        let end = now + Duration::from_micros(segment.spin_us().into());
        while Instant::now() < end {
            if let Some(answer) = check()? {
                return Ok(Some(answer));
            }
            std::hint::spin_loop();
        }
    }
    loop {
        let waiter = Waiter::announce(socket);
        if let Some(answer) = check()? {
            return Ok(Some(answer));
        }
        if cancel::is_due() {
            return Err(Errno(libc::EINTR));
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(None);
        }
        thread::with_thread(Thread::before_sleep)?;
        let slice = left.map_or(SLICE, |left| left.min(SLICE));
        match futex::wait(&socket.record().engine.wake, waiter.seen, Some(slice)) {
            futex::Wait::Woken => {}
            futex::Wait::TimedOut => {
                if slice == SLICE && !socket.process().is_engine_alive() {
                    return Err(Errno(libc::ENETDOWN));
                }
            }
            futex::Wait::Interrupted => {
                if timeout.is_some() || !restarts() {
                    return Err(Errno(libc::EINTR));
                }
            }
        }
    }
}

/// A thread that sleeps on a socket, as the engine sees it.
struct Waiter {
    socket: SocketRef,
    seen: u32,
}

impl Waiter {
    fn announce(socket: SocketRef) -> Waiter {
        Waiter {
            socket,
            seen: socket.record().announce_waiter(),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // The count of another life is not ours.
        if self.socket.is_current() {
            self.socket.record().retract_waiter();
        }
    }
}

/// Whether a wait goes on that a signal has interrupted.
pub fn restarts() -> bool {
    every_handler_restarts() && !cancel::is_due()
}

/// Whether all signal handlers of the program ask for interrupted calls to be restarted
/// (`SA_RESTART`). The kernel restarts a futex wait without a timeout by itself, but one with a
/// timeout never, and does not say which signal it was. Where the handlers differ, `EINTR` is the
/// answer that cannot make a program miss its signal.
fn every_handler_restarts() -> bool {
    let mut signals = (1..=64).filter(|signal| !cancel::OF_LIBC.contains(signal));
    signals.all(|signal| {
        let mut action = KernelAction::default();
        let args = [signal as usize, 0, &raw mut action as usize, 8, 0, 0];
        // SAFETY: the kernel fills the struct, whose layout is the kernel's.
        let result = unsafe { real::syscall(libc::SYS_rt_sigaction, args) };
        let is_handled = result.is_ok() && action.handler > libc::SIG_IGN;
        !is_handled || action.flags & libc::SA_RESTART as u64 != 0
    })
}

/// `struct sigaction` as the kernel has it.
#[repr(C)]
#[derive(Default)]
struct KernelAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{engine, established};

    #[test]
    fn an_edge_ends_the_wait() {
        let socket = established();
        std::thread::scope(|s| {
            s.spawn(|| {
                while socket
                    .record()
                    .app
                    .waiters
                    .load(std::sync::atomic::Ordering::SeqCst)
                    == 0
                {
                    std::thread::yield_now();
                }
                engine().receive(socket, b"x");
            });
            let readable = || (socket.record().readable() > 0).then_some(());
            assert_eq!(until(socket, None, readable), Ok(Some(())));
        });
    }

    #[test]
    fn time_runs_out() {
        let socket = established();
        let timeout = Some(Duration::from_millis(2));
        assert_eq!(until(socket, timeout, || None::<()>), Ok(None));
    }

    #[test]
    fn a_socket_closed_by_another_thread_ends_the_wait() {
        let socket = established();
        std::thread::scope(|s| {
            s.spawn(|| {
                while socket
                    .record()
                    .app
                    .waiters
                    .load(std::sync::atomic::Ordering::SeqCst)
                    == 0
                {
                    std::thread::yield_now();
                }
                crate::socket::close::abandon(socket, false).unwrap();
            });
            assert_eq!(until(socket, None, || None::<()>), Err(Errno(libc::EBADF)));
        });
    }
}
