//! Errors as the C library tells them.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};

/// An error number of `errno(3)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", std::io::Error::from_raw_os_error(*.0))]
pub struct Errno(pub c_int);

/// What every behaviour returns.
pub type Result<T> = std::result::Result<T, Errno>;

/// What a C function returns to say that it has failed.
pub trait Failure: Sized {
    /// The value.
    const FAILURE: Self;
}

impl Failure for c_int {
    const FAILURE: Self = -1;
}

impl Failure for isize {
    const FAILURE: Self = -1;
}

impl Failure for c_long {
    const FAILURE: Self = -1;
}

impl<T> Failure for *mut T {
    const FAILURE: Self = std::ptr::null_mut();
}

/// A signal's handler: `SIG_ERR`.
impl Failure for usize {
    const FAILURE: Self = libc::SIG_ERR;
}

impl Failure for () {
    const FAILURE: Self = ();
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Errno {
        Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// This thread's `errno`.
pub fn get() -> c_int {
    // SAFETY: the address is this thread's errno, always valid.
    unsafe { *libc::__errno_location() }
}

/// Sets this thread's `errno`.
pub fn set(value: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = value }
}

/// A result in C's form. `errno` is set on error, and only then.
pub fn ret<T: Failure>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| {
        set(error.0);
        T::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_leaves_errno_alone() {
        set(77);
        assert_eq!(ret(Ok(3isize)), 3);
        assert_eq!(get(), 77);
        assert_eq!(ret::<c_int>(Err(Errno(libc::EBADF))), -1);
        assert_eq!(get(), libc::EBADF);
    }
}
