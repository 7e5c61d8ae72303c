//! The standard streams, where they lie over sockets of the stack: a program that inetd(8) has started
//! prints to them, and so does one that puts a connection under its standard output.
//!
//! `stdin`, `stdout` and `stderr` are variables of the C library that may be set (glibc's manual,
//! "Standard Streams"). A stream that this library reads and writes for serves whatever comes to lie
//! under the descriptor later, so each of them is replaced once.

#![allow(unsafe_code)]

use super::stream;
use crate::thread;
use libc::{FILE, c_char, c_int, c_void, size_t};
use std::ffi::CStr;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

unsafe extern "C" {
    static mut stdin: *mut FILE;
    static mut stdout: *mut FILE;
    static mut stderr: *mut FILE;
    fn __flbf(file: *mut FILE) -> c_int;
    fn __fpending(file: *mut FILE) -> size_t;
    fn __fpurge(file: *mut FILE);
}

/// Where glibc's `FILE` names the first byte that was not written yet (`_IO_write_base` of `struct
/// _IO_FILE`, bits/types/struct_FILE.h).
const UNWRITTEN_AT: usize = 32;

static REPLACED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

/// A socket of the stack has come to lie under `fd`.
pub fn cover(fd: RawFd) {
    // A vfork child has these variables in common with its parent.
    let Some(replaced) = usize::try_from(fd).ok().and_then(|fd| REPLACED.get(fd)) else {
        return;
    };
    if thread::is_guest() || replaced.swap(true, SeqCst) {
        return;
    }
    // SAFETY: the variables are the C library's, and live as long as it does.
    unsafe {
        match fd {
            libc::STDIN_FILENO => replace(&raw mut stdin, fd, c"r"),
            libc::STDOUT_FILENO => replace(&raw mut stdout, fd, c"w"),
            _ => replace(&raw mut stderr, fd, c"w"),
        }
    }
}

/// Sets a variable to a stream on `fd`, buffered as the one before, whose unwritten bytes it takes
/// over. Without memory for one, the variable stays as it is.
///
/// # Safety
/// `variable` can be written, and holds a stream or null.
pub(super) unsafe fn replace(variable: *mut *mut FILE, fd: RawFd, mode: &CStr) {
    let Ok(file) = stream::open(fd, mode) else {
        return;
    };
    let unbuffered = fd == libc::STDERR_FILENO;
    // SAFETY: the caller's promise; glibc's layout is part of its ABI.
    unsafe {
        let before = variable.read();
        if unbuffered {
            libc::setvbuf(file, std::ptr::null_mut(), libc::_IONBF, 0);
        }
        if !before.is_null() {
            if !unbuffered && __flbf(before) != 0 {
                libc::setvbuf(file, std::ptr::null_mut(), libc::_IOLBF, 0);
            }
            let len = __fpending(before);
            let bytes = before.cast::<u8>().add(UNWRITTEN_AT);
            let bytes = bytes.cast::<*const c_char>().read();
            libc::fwrite(bytes.cast::<c_void>(), 1, len, file);
            __fpurge(before);
        }
        variable.write(file);
    }
}
