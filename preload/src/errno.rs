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

/// Where this thread's `errno` is.
#[derive(Clone, Copy)]
pub struct Place(*mut c_int);

impl Place {
    /// Looks it up.
    #[inline]
    pub fn find() -> Place {
        // SAFETY: it cannot fail.
        Place(unsafe { libc::__errno_location() })
    }

    /// The value.
    #[inline]
    pub fn get(self) -> c_int {
        // SAFETY: the address is this thread's errno, always valid; `Place` cannot leave its thread.
        unsafe { *self.0 }
    }

    /// Sets the value.
    #[inline]
    pub fn set(self, value: c_int) {
        // SAFETY: as above.
        unsafe { *self.0 = value }
    }

    /// As [`ret`].
    #[inline]
    pub fn ret<T: Failure>(self, result: Result<T>) -> T {
        result.unwrap_or_else(|error| {
            self.set(error.0);
            T::FAILURE
        })
    }
}

/// This thread's `errno`.
pub fn get() -> c_int {
    Place::find().get()
}

/// Sets this thread's `errno`.
pub fn set(value: c_int) {
    Place::find().set(value);
}

/// A result in C's form. `errno` is set on error, and only then.
pub fn ret<T: Failure>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| Place::find().ret(Err(error)))
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
