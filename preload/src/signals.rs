//! The program's signal handlers: what the kernel calls is a function of this library, which puts the
//! signal off where the library must not be left ([`crate::section`]), and else calls the handler.
//!
//! Signals that a thread causes by what it does cannot be put off, and their handlers are left alone.

#![allow(unsafe_code)]

use crate::errno;
use crate::{process, real, section, thread};
use libc::{c_int, c_void, sighandler_t, siginfo_t};
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};

const SIGNALS: usize = 65;
/// Flags of an action that the kernel is not told, as it has a handler of another kind.
const HIDDEN: c_int = libc::SA_SIGINFO | libc::SA_RESETHAND;

/// What the program has installed last, by signal.
static HANDLERS: [AtomicUsize; SIGNALS] = [const { AtomicUsize::new(0) }; SIGNALS];
/// Which of [`HIDDEN`] it asked for.
static FLAGS: [AtomicI32; SIGNALS] = [const { AtomicI32::new(0) }; SIGNALS];
/// Signals that siginterrupt(3) was called for, by bit.
static INTERRUPT: AtomicU64 = AtomicU64::new(0);

type Handler = unsafe extern "C-unwind" fn(c_int, *mut siginfo_t, *mut c_void);
type Real =
    unsafe extern "C-unwind" fn(c_int, *const libc::sigaction, *mut libc::sigaction) -> c_int;

/// The place of a signal whose handlers this library stands before.
fn place(signal: c_int) -> Option<usize> {
    let is_left_alone = matches!(
        signal,
        libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP | libc::SIGSYS
            | libc::SIGKILL | libc::SIGSTOP
            // libc's own.
            | 32 | 33
    );
    let place = usize::try_from(signal).ok();
    place.filter(|place| (1..SIGNALS).contains(place) && !is_left_alone)
}

/// sigaction(2).
///
/// # Safety
/// As sigaction(2), which `real` is.
pub unsafe fn action(
    signal: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
    real: Real,
) -> c_int {
    // Another library's constructor may be the caller.
    process::start();
    let Some(place) = place(signal).filter(|_| process::process().is_some()) else {
        // SAFETY: the caller's arguments.
        return unsafe { real(signal, new, old) };
    };
    let (handler, flags) = (&HANDLERS[place], &FLAGS[place]);
    let before = (handler.load(Ordering::SeqCst), flags.load(Ordering::SeqCst));
    // SAFETY: the caller's arguments; `new` may be the same as `old`, and is copied first.
    unsafe {
        let mut own = new.as_ref().copied();
        if let Some(action) = &mut own
            && is_function(action.sa_sigaction)
            // The table is the parent's.
            && !thread::is_guest()
        {
            // Before the kernel knows of it: what comes meanwhile goes to the new handler.
            flags.store(action.sa_flags & HIDDEN, Ordering::SeqCst);
            // A program that asks the kernel itself may put back what it has got from it.
            if action.sa_sigaction != own_handler() {
                handler.store(action.sa_sigaction, Ordering::SeqCst);
                action.sa_sigaction = own_handler();
            }
            action.sa_flags = action.sa_flags & !HIDDEN | libc::SA_SIGINFO;
        }
        let result = real(
            signal,
            own.as_ref().map_or(std::ptr::null(), |own| own),
            old,
        );
        if result == 0
            && let Some(old) = old.as_mut()
            && old.sa_sigaction == own_handler()
        {
            old.sa_sigaction = before.0;
            old.sa_flags = old.sa_flags & !HIDDEN | before.1;
        }
        result
    }
}

/// signal(2) and its kin, which install a handler with `flags` and tell the one before. `masks_itself`:
/// the action's mask names the signal.
///
/// # Safety
/// As signal(2); `real` is sigaction(2).
pub unsafe fn handle(
    signal: c_int,
    handler: sighandler_t,
    flags: c_int,
    masks_itself: bool,
    real: Real,
) -> sighandler_t {
    if handler == libc::SIG_ERR {
        errno::set(libc::EINVAL);
        return libc::SIG_ERR;
    }
    // SAFETY: zero is a valid struct; the handler is the caller's.
    unsafe {
        let mut new: libc::sigaction = std::mem::zeroed();
        let mut old: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = handler;
        new.sa_flags = flags;
        if masks_itself && libc::sigaddset(&raw mut new.sa_mask, signal) != 0 {
            return libc::SIG_ERR;
        }
        match action(signal, &raw const new, &raw mut old, real) {
            0 => old.sa_sigaction,
            _ => libc::SIG_ERR,
        }
    }
}

/// The program's handler, where libc tells of this library's.
pub fn as_installed(signal: c_int, handler: sighandler_t) -> sighandler_t {
    match place(signal) {
        Some(place) if handler == own_handler() => HANDLERS[place].load(Ordering::SeqCst),
        _ => handler,
    }
}

/// The flags of a handler that signal(2) installs.
pub fn usual_flags(signal: c_int) -> c_int {
    match place(signal) {
        Some(place) if INTERRUPT.load(Ordering::Relaxed) & bit(place) != 0 => 0,
        _ => libc::SA_RESTART,
    }
}

/// siginterrupt(3) was called: it is about handlers to come as well.
pub fn interrupts(signal: c_int, yes: bool) {
    if let Some(place) = place(signal) {
        match yes {
            true => INTERRUPT.fetch_or(bit(place), Ordering::Relaxed),
            false => INTERRUPT.fetch_and(!bit(place), Ordering::Relaxed),
        };
    }
}

fn bit(place: usize) -> u64 {
    1 << (place - 1)
}

fn is_function(handler: usize) -> bool {
    !matches!(handler, libc::SIG_DFL | libc::SIG_IGN)
}

/// [`on_signal`], as an action has it.
fn own_handler() -> usize {
    on_signal as *const () as usize
}

/// What the kernel calls.
unsafe extern "C-unwind" fn on_signal(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's arguments.
    if unsafe { section::put_off(info, context) } {
        return;
    }
    let Some(place) = place(signal) else { return };
    let flags = FLAGS[place].load(Ordering::SeqCst);
    if flags & libc::SA_RESETHAND != 0 {
        real::reset_action(signal, HIDDEN, flags);
    }
    let handler = HANDLERS[place].load(Ordering::SeqCst);
    if is_function(handler) {
        // SAFETY: the program's. One that takes the signal's number alone does not look at the rest.
        unsafe { std::mem::transmute::<usize, Handler>(handler)(signal, info, context) };
    }
}

/// Installs an action as the program would.
///
/// # Safety
/// As sigaction(2).
#[cfg(test)]
pub(crate) unsafe fn install(signal: c_int, new: &libc::sigaction) {
    unsafe extern "C-unwind" fn real(
        signal: c_int,
        new: *const libc::sigaction,
        old: *mut libc::sigaction,
    ) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe { libc::sigaction(signal, new, old) }
    }
    crate::testing::engine();
    // SAFETY: the caller's promise.
    let result = unsafe { action(signal, new, std::ptr::null_mut(), real) };
    assert_eq!(result, 0);
}
