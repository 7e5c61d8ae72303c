//! The table of intercepted calls, and what all of them have in common.
//!
//! Each family of calls has one `interpose!` block in `calls/`. For a function `f` of the block it
//! makes the exported C symbol, `f::real()` (the function that would have been called without this
//! library), and a row of the block's `SYMBOLS`.
//!
//! redhook finds the real functions. Its `hook!` is not used as it stands: it calls the real function
//! below a `catch_unwind`, where `pthread_cancel(3)` of a thread that blocks in it would abort the
//! process, and it calls the real function after a panic although half of the work may be done.

#![allow(unsafe_code)]

use crate::errno::{self, Errno, Failure, Result};
use crate::{calls, cancel, hold, section};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One row of the table: the symbol, its family, and in one line what happens on a socket of the
/// stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Symbol {
    /// The C symbol.
    pub name: &'static str,
    /// Which calls it belongs to.
    pub family: &'static str,
    /// What it does on a socket of the stack.
    pub behaviour: &'static str,
}

/// All intercepted symbols, by family.
pub static SYMBOLS: [&[Symbol]; 8] = [
    calls::sockets::SYMBOLS,
    calls::io::SYMBOLS,
    calls::readiness::SYMBOLS,
    calls::options::SYMBOLS,
    calls::descriptors::SYMBOLS,
    calls::files::SYMBOLS,
    calls::processes::SYMBOLS,
    calls::signals::SYMBOLS,
];

/// Makes the C symbols of one family. A function's documentation is its row in the table; its body
/// runs as an unsafe function's, and ends the call.
#[macro_export]
macro_rules! interpose {
    (
        family: $family:literal;
        $(
            $(#[doc = $doc:literal])+
            fn $name:ident ( $($v:ident : $t:ty),* $(,)? ) $(-> $r:ty)? $body:block
        )*
    ) => {
        /// This family's rows of the table.
        pub const SYMBOLS: &[$crate::interpose::Symbol] = &[$(
            $crate::interpose::Symbol {
                name: stringify!($name),
                family: $family,
                behaviour: concat!($($doc),+).trim_ascii(),
            },
        )*];

        $(
            $(#[doc = $doc])+
            ///
            /// # Safety
            /// As the C function of this name.
            #[cfg_attr(not(test), unsafe(no_mangle))]
            pub unsafe extern "C-unwind" fn $name($($v: $t),*) $(-> $r)? $body

            #[doc = concat!("What `", stringify!($name), "` is without this library.")]
            pub mod $name {
                #[allow(unused_imports)]
                use super::*;

                type Function = unsafe extern "C-unwind" fn($($t),*) $(-> $r)?;

                /// The function itself; one that fails with `ENOSYS` if there is none.
                #[allow(dead_code)]
                pub fn real() -> Function {
                    use std::sync::atomic::{AtomicPtr, Ordering};
                    static REAL: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
                    let mut real = REAL.load(Ordering::Relaxed);
                    if real.is_null() {
                        real = $crate::interpose::find(concat!(stringify!($name), "\0"));
                        if real.is_null() {
                            real = missing as Function as *mut ();
                        }
                        REAL.store(real, Ordering::Relaxed);
                    }
                    // SAFETY: it points to the C function of this name, or to `missing`.
                    unsafe { std::mem::transmute::<*mut (), Function>(real) }
                }

                unsafe extern "C-unwind" fn missing($(_: $t),*) $(-> $r)? {
                    $crate::errno::ret(Err($crate::errno::Errno(libc::ENOSYS)))
                }
            }
        )*
    };
}

/// The next definition of a symbol (with a 0 at its end) after this library's; null if there is
/// none.
#[cold]
pub fn find(symbol: &'static str) -> *mut () {
    let saved = errno::get();
    // SAFETY: the symbol ends with 0. redhook panics, with a message that names it, if there is none.
    let real = catch_unwind(|| unsafe { redhook::ld_preload::dlsym_next(symbol) });
    errno::set(saved);
    real.map_or(std::ptr::null_mut(), |real| real.cast_mut().cast())
}

/// Runs a behaviour for C: the result in C's form, `errno` untouched on success, and no panic
/// that crosses the boundary. What the call holds is let go.
#[inline]
pub fn run<T: Failure>(body: impl FnOnce() -> Result<T>) -> T {
    let deferral = cancel::Deferral::new();
    let errno = errno::Place::find();
    let saved = errno.get();
    section::begin_call();
    hold::release();
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        crate::log::line("a call failed inside the library (a bug): EIO is returned");
        Err(Errno(libc::EIO))
    });
    hold::release();
    errno.set(saved);
    if matches!(result, Err(Errno(libc::EINTR))) {
        cancel::give_in();
    }
    deferral.end();
    errno.ret(result)
}

/// As [`run`], for calls that are cancellation points (`pthreads(7)`).
#[inline]
pub fn run_cancellable<T: Failure>(body: impl FnOnce() -> Result<T>) -> T {
    cancel::point();
    run(body)
}

/// All rows of the table.
pub fn symbols() -> impl Iterator<Item = &'static Symbol> {
    SYMBOLS.iter().flat_map(|family| family.iter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_panic_becomes_eio() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let result = run::<isize>(|| panic!("inside"));
        std::panic::set_hook(hook);
        assert_eq!((result, errno::get()), (-1, libc::EIO));
    }

    #[test]
    fn success_leaves_errno_as_it_was() {
        errno::set(5);
        let result = run(|| {
            errno::set(6);
            Ok(1isize)
        });
        assert_eq!((result, errno::get()), (1, 5));
    }

    #[test]
    fn no_symbol_is_listed_twice_and_each_says_what_it_does() {
        let mut names = BTreeSet::new();
        for symbol in symbols() {
            assert!(names.insert(symbol.name), "{} twice", symbol.name);
            assert!(!symbol.behaviour.is_empty(), "{}", symbol.name);
        }
    }

    #[test]
    fn a_symbol_that_nobody_defines_is_not_found() {
        assert!(find("mtcp_no_such_symbol\0").is_null());
        assert!(!find("read\0").is_null());
    }
}
