//! fdopen(3) on a socket of the stack. glibc's streams read and write by system calls of their own,
//! which would reach the placeholder, so the stream is given functions that come here.

#![allow(unsafe_code)]

use crate::calls;
use crate::errno::{Errno, Result};
use libc::{FILE, c_char, c_int, c_void, off64_t, size_t, ssize_t};
use std::ffi::CStr;
use std::os::fd::RawFd;

/// Where glibc's `FILE` has its descriptor (`struct _IO_FILE`, bits/types/struct_FILE.h).
const DESCRIPTOR_AT: usize = 112;
/// What fopencookie(3) writes there.
const NO_DESCRIPTOR: c_int = -2;

/// `cookie_io_functions_t` of fopencookie(3).
#[repr(C)]
struct Functions {
    read: unsafe extern "C-unwind" fn(*mut c_void, *mut c_char, size_t) -> ssize_t,
    write: unsafe extern "C-unwind" fn(*mut c_void, *const c_char, size_t) -> ssize_t,
    seek: unsafe extern "C-unwind" fn(*mut c_void, *mut off64_t, c_int) -> c_int,
    close: unsafe extern "C-unwind" fn(*mut c_void) -> c_int,
}

unsafe extern "C" {
    fn fopencookie(cookie: *mut c_void, mode: *const c_char, functions: Functions) -> *mut FILE;
}

/// A stream on `fd`.
///
/// # Errors
/// As fdopen(3): `EINVAL` for a mode that is none.
pub fn open(fd: RawFd, mode: &CStr) -> Result<*mut FILE> {
    if !matches!(mode.to_bytes().first(), Some(b'r' | b'w' | b'a')) {
        return Err(Errno(libc::EINVAL));
    }
    let functions = Functions {
        read,
        write,
        seek,
        close,
    };
    // SAFETY: the cookie is a number that is never followed; the functions match their types.
    let file = unsafe { fopencookie(cookie_of(fd), mode.as_ptr(), functions) };
    if file.is_null() {
        return Err(Errno(libc::ENOMEM));
    }
    // SAFETY: glibc's layout, which is part of its ABI; checked by what fopencookie writes there, so
    // that fileno(3) finds the descriptor.
    unsafe {
        let place = file.cast::<u8>().add(DESCRIPTOR_AT).cast::<c_int>();
        if *place == NO_DESCRIPTOR {
            *place = fd;
        }
    }
    Ok(file)
}

fn cookie_of(fd: RawFd) -> *mut c_void {
    std::ptr::without_provenance_mut(fd as usize)
}

fn descriptor_of(cookie: *mut c_void) -> RawFd {
    cookie.addr() as RawFd
}

unsafe extern "C-unwind" fn read(cookie: *mut c_void, to: *mut c_char, len: size_t) -> ssize_t {
    // SAFETY: glibc's buffer, as long as it says.
    unsafe { calls::io::read(descriptor_of(cookie), to.cast(), len) }
}

/// Writes all, as glibc expects of it; what was written before an error is lost to the count, as in
/// glibc's own streams.
unsafe extern "C-unwind" fn write(
    cookie: *mut c_void,
    from: *const c_char,
    len: size_t,
) -> ssize_t {
    // SAFETY: glibc's buffer, as long as it says.
    unsafe { super::print::write_all(descriptor_of(cookie), from.cast(), len) as ssize_t }
}

unsafe extern "C-unwind" fn seek(_: *mut c_void, _: *mut off64_t, _: c_int) -> c_int {
    crate::errno::set(libc::ESPIPE);
    -1
}

unsafe extern "C-unwind" fn close(cookie: *mut c_void) -> c_int {
    // SAFETY: the stream's own descriptor.
    unsafe { calls::descriptors::close(descriptor_of(cookie)) }
}
