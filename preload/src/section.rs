//! Sections: the short pieces of calls in which a thread has what others wait for, such as the lock of
//! a stream or the half-written end of a ring.
//!
//! The program's signal handlers do not run in them, as they do not run in the midst of a system call:
//! a handler may leave by siglongjmp(3), and what it left would never be let go, or it may call the
//! library for the very socket. A section makes no system call for that. A handler that comes in one
//! ([`crate::signals`]) puts its signal off to the section's end.

#![allow(unsafe_code)]

use crate::own::own;
use crate::real;
use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::atomic::{Ordering, compiler_fence};

/// The section that a thread is in, and the signal that waits for its end.
pub(crate) struct Local {
    inside: Cell<bool>,
    is_put_off: Cell<bool>,
    /// The signal that came, and what was blocked before; all are blocked until the section ends, so
    /// that there is one at most.
    signal: UnsafeCell<MaybeUninit<libc::siginfo_t>>,
    mask: Cell<u64>,
}

/// A section of this thread, until dropped. It should be short, and must not wait for long.
pub struct Section {
    is_inner: bool,
    /// It is this thread's.
    _thread: PhantomData<*const ()>,
}

impl Section {
    /// Begins a section, or one inside another.
    #[inline]
    pub fn enter() -> Section {
        let is_inner = own().section.inside.replace(true);
        compiler_fence(Ordering::SeqCst);
        Section {
            is_inner,
            _thread: PhantomData,
        }
    }
}

impl Drop for Section {
    #[inline]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        if !self.is_inner {
            end(&own().section);
        }
    }
}

/// At the beginning of a call: no section is under way. One may have been left for good by a handler
/// that cannot be put off (of `SIGSEGV`, say).
#[inline]
pub fn begin_call() {
    let local = &own().section;
    if local.inside.get() {
        end(local);
    }
}

#[inline]
fn end(local: &Local) {
    local.inside.set(false);
    compiler_fence(Ordering::SeqCst);
    if local.is_put_off.get() {
        deliver(local);
    }
}

/// Has the signal come again that was put off, and lets signals through as before.
#[cold]
fn deliver(local: &Local) {
    local.is_put_off.set(false);
    // SAFETY: it was filled when the signal was put off, and is not touched while all are blocked.
    let signal = unsafe { (*local.signal.get()).assume_init_ref() };
    real::signal_self(signal);
    real::set_signal_mask(local.mask.get());
}

/// For a handler that was called with `signal` and `context`: whether the signal is put off, in which
/// case it returns at once and is called again later.
///
/// # Safety
/// The arguments are those of a handler that was installed with `SA_SIGINFO` and is running.
pub unsafe fn put_off(signal: *const libc::siginfo_t, context: *mut c_void) -> bool {
    let local = &own().section;
    if !local.inside.get() || local.is_put_off.get() {
        return false;
    }
    // SAFETY: the caller's promise. The kernel takes the first 64 bits of the mask when the handler
    // returns; nobody else touches `signal`, as this thread is in the midst of a section.
    unsafe {
        let mask = &raw mut (*context.cast::<libc::ucontext_t>()).uc_sigmask;
        local.mask.set(mask.cast::<u64>().replace(u64::MAX));
        (*local.signal.get()).write(signal.read());
    }
    local.is_put_off.set(true);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals;
    use std::sync::atomic::{AtomicI32, AtomicU32};

    static RUNS: AtomicU32 = AtomicU32::new(0);
    static VALUE: AtomicI32 = AtomicI32::new(0);

    unsafe extern "C" fn handler(_: i32, info: *mut libc::siginfo_t, _: *mut c_void) {
        RUNS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the kernel's.
        VALUE.store(
            unsafe { (*info).si_value().sival_ptr as i32 },
            Ordering::SeqCst,
        );
    }

    fn blocked() -> u64 {
        let before = real::set_signal_mask(0);
        real::set_signal_mask(before);
        before
    }

    #[test]
    fn a_signal_that_comes_in_a_section_is_handled_at_its_end_with_all_that_it_carries() {
        // SAFETY: zero is a valid struct, and the handler is one.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            signals::install(libc::SIGUSR1, &action);
        }
        let send = |number: usize| {
            let value = libc::sigval {
                sival_ptr: number as *mut c_void,
            };
            // SAFETY: a signal to this thread.
            unsafe { libc::pthread_sigqueue(libc::pthread_self(), libc::SIGUSR1, value) };
        };
        let seen = || (RUNS.load(Ordering::SeqCst), VALUE.load(Ordering::SeqCst));
        send(1);
        assert_eq!(seen(), (1, 1));
        let before = blocked();
        let section = Section::enter();
        drop(Section::enter());
        send(2);
        assert_eq!(seen(), (1, 1), "put off");
        drop(section);
        assert_eq!(seen(), (2, 2));
        assert_eq!(blocked(), before);
        std::mem::forget(Section::enter());
        send(3);
        assert_eq!(seen(), (2, 2));
        begin_call();
        assert_eq!(seen(), (3, 3), "nothing is put off for ever");
    }
}
