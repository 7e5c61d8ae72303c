//! Handlers of signals.

use crate::signals;
use libc::{c_int, sighandler_t, sigset_t};

/// Flags of sysv_signal(3).
const ONCE: c_int = libc::SA_RESETHAND | libc::SA_NODEFER;

/// What sigset(3) takes and tells of a signal that is blocked.
const SIG_HOLD: sighandler_t = 2;

crate::interpose! {
    family: "signals";

    /// The handler does not run in the midst of a call of the stack, but at once where it waits, or just after.
    fn sigaction(
        signal: c_int,
        new: *const libc::sigaction,
        old: *mut libc::sigaction,
    ) -> c_int {
        // SAFETY: the caller's arguments, as in the functions below.
        unsafe { signals::action(signal, new, old, sigaction::real()) }
    }

    /// As `sigaction`.
    fn __sigaction(
        signal: c_int,
        new: *const libc::sigaction,
        old: *mut libc::sigaction,
    ) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe { signals::action(signal, new, old, sigaction::real()) }
    }

    /// As `sigaction`.
    fn signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
        let flags = signals::usual_flags(signal);
        // SAFETY: the caller's arguments.
        unsafe { signals::handle(signal, handler, flags, true, sigaction::real()) }
    }

    /// As `signal`.
    fn bsd_signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
        let flags = signals::usual_flags(signal);
        // SAFETY: the caller's arguments.
        unsafe { signals::handle(signal, handler, flags, true, sigaction::real()) }
    }

    /// As `signal`.
    fn ssignal(signal: c_int, handler: sighandler_t) -> sighandler_t {
        let flags = signals::usual_flags(signal);
        // SAFETY: the caller's arguments.
        unsafe { signals::handle(signal, handler, flags, true, sigaction::real()) }
    }

    /// As `signal`, for one signal.
    fn sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
        // SAFETY: the caller's arguments.
        unsafe { signals::handle(signal, handler, ONCE, false, sigaction::real()) }
    }

    /// As `signal`, for one signal.
    fn __sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
        // SAFETY: the caller's arguments.
        unsafe { signals::handle(signal, handler, ONCE, false, sigaction::real()) }
    }

    /// As `signal`. Holds the signal, or lets it through.
    fn sigset(signal: c_int, handler: sighandler_t) -> sighandler_t {
        if handler == SIG_HOLD {
            // SAFETY: numbers only.
            let before = unsafe { sigset::real()(signal, handler) };
            return signals::as_installed(signal, before);
        }
        // SAFETY: the caller's arguments; the set is filled before it is used.
        unsafe {
            let before = signals::handle(signal, handler, 0, false, sigaction::real());
            if before == libc::SIG_ERR {
                return before;
            }
            let (mut one, mut blocked): (sigset_t, sigset_t) = std::mem::zeroed();
            libc::sigaddset(&raw mut one, signal);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const one, &raw mut blocked);
            match libc::sigismember(&raw const blocked, signal) {
                1 => SIG_HOLD,
                _ => before,
            }
        }
    }

    /// Concerns the handlers that `signal` installs from then on as well.
    fn siginterrupt(signal: c_int, flag: c_int) -> c_int {
        // SAFETY: numbers only.
        let result = unsafe { siginterrupt::real()(signal, flag) };
        if result == 0 {
            signals::interrupts(signal, flag != 0);
        }
        result
    }
}
