//! Files: sendfile, splice, stdio, syscall.

use crate::descriptor::{Behind, behind, visible};
use crate::errno::{Errno, Result, ret};
use crate::files::{print, sendfile as sending, splice as splicing, stream};
use crate::interpose::{Symbol, run};
use crate::trace::{self, About};
use libc::{FILE, c_char, c_int, c_uint, c_void, iovec, loff_t, off_t, size_t, ssize_t};
use std::ffi::CStr;

/// The flags of splice(2) (`SPLICE_F_ALL`).
const SPLICE_FLAGS: c_uint =
    libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MORE | libc::SPLICE_F_GIFT;

crate::interpose! {
    family: "files";

    /// Reads the file straight into the send stream.
    fn sendfile(out: c_int, file: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
        // SAFETY: the caller's arguments, as they are.
        sent(out, file, offset, count, || unsafe { sendfile::real()(out, file, offset, count) })
    }

    /// As `sendfile`.
    fn sendfile64(out: c_int, file: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
        // SAFETY: the caller's arguments, as they are.
        sent(out, file, offset, count, || unsafe { sendfile64::real()(out, file, offset, count) })
    }

    /// Between a socket and a pipe, by copying; else `EINVAL`.
    fn splice(
        from: c_int,
        from_offset: *mut loff_t,
        to: c_int,
        to_offset: *mut loff_t,
        len: size_t,
        flags: c_uint,
    ) -> ssize_t {
        trace::call(
            "splice",
            About::Concerns(&|| trace::is_stack(from) || trace::is_stack(to)),
            |line, _| {
                line.fd(from).pointer(from_offset).fd(to).pointer(to_offset).arg(len).arg(flags);
            },
            || match (behind(from), behind(to)) {
                (Behind::Kernel, Behind::Kernel) => {
                    // SAFETY: the caller's arguments, as they are.
                    unsafe { splice::real()(from, from_offset, to, to_offset, len, flags) }
                }
                (Behind::Stack(_), _) if !to_offset.is_null() => ret(Err(Errno(libc::ESPIPE))),
                (Behind::Kernel, _) if !from_offset.is_null() => ret(Err(Errno(libc::ESPIPE))),
                _ if !(from_offset.is_null() && to_offset.is_null()) || flags & !SPLICE_FLAGS != 0 => {
                    ret(Err(Errno(libc::EINVAL)))
                }
                _ => run(|| splicing::splice(from, to, len, flags).map(|n| n as ssize_t)),
            },
        )
    }

    /// `EINVAL`: a socket is no pipe.
    fn tee(from: c_int, to: c_int, len: size_t, flags: c_uint) -> ssize_t {
        match visible(from).and_then(|()| visible(to)) {
            // SAFETY: the caller's arguments, as they are.
            Ok(()) => unsafe { tee::real()(from, to, len, flags) },
            Err(error) => ret(Err(error)),
        }
    }

    /// `EBADF`: a socket is no pipe.
    fn vmsplice(fd: c_int, vector: *const iovec, count: size_t, flags: c_uint) -> ssize_t {
        match visible(fd) {
            // SAFETY: the caller's arguments, as they are.
            Ok(()) => unsafe { vmsplice::real()(fd, vector, count, flags) },
            Err(error) => ret(Err(error)),
        }
    }

    /// `EINVAL`: a socket is no file.
    fn copy_file_range(
        from: c_int,
        from_offset: *mut loff_t,
        to: c_int,
        to_offset: *mut loff_t,
        len: size_t,
        flags: c_uint,
    ) -> ssize_t {
        match visible(from).and_then(|()| visible(to)) {
            // SAFETY: the caller's arguments, as they are.
            Ok(()) => unsafe {
                copy_file_range::real()(from, from_offset, to, to_offset, len, flags)
            },
            Err(error) => ret(Err(error)),
        }
    }

    /// A stream that reads and writes by this library.
    fn fdopen(fd: c_int, mode: *const c_char) -> *mut FILE {
        trace::call(
            "fdopen",
            fd,
            |line, _| {
                line.pointer(mode);
            },
            || match behind(fd) {
                // SAFETY: the caller's arguments, as they are.
                Behind::Kernel | Behind::Epoll(_) => unsafe { fdopen::real()(fd, mode) },
                Behind::Hidden => ret(Err(Errno(libc::EBADF))),
                // SAFETY: the caller's mode is a C string.
                Behind::Stack(_) => run(|| stream::open(fd, unsafe { CStr::from_ptr(mode) })),
            },
        )
    }

    /// As `dprintf`.
    fn vdprintf(fd: c_int, format: *const c_char, args: *mut c_void) -> c_int {
        // SAFETY: the caller's arguments, as they are.
        unsafe {
            print::vdprintf(fd, format, args, || vdprintf::real()(fd, format, args))
        }
    }

    /// As `dprintf`.
    fn __vdprintf_chk(fd: c_int, flag: c_int, format: *const c_char, args: *mut c_void) -> c_int {
        // SAFETY: the caller's arguments, as they are.
        unsafe {
            print::vdprintf(fd, format, args, || __vdprintf_chk::real()(fd, flag, format, args))
        }
    }
}

/// The rows of symbols that begin in assembly.
pub const NAKED: [&[Symbol]; 3] = [
    print::SYMBOLS,
    crate::files::syscall::SYMBOLS,
    crate::sharing::vfork::SYMBOLS,
];

fn sent(
    out: c_int,
    file: c_int,
    offset: *mut off_t,
    count: size_t,
    real: impl FnOnce() -> ssize_t,
) -> ssize_t {
    trace::call(
        "sendfile",
        out,
        |line, _| {
            line.fd(file).pointee(offset).arg(count);
        },
        || match (behind(out), behind(file)) {
            (Behind::Hidden, _) | (_, Behind::Hidden) => ret(Err(Errno(libc::EBADF))),
            // No file at all has positions less than a socket.
            (_, Behind::Stack(_)) if !offset.is_null() => ret(Err(Errno(libc::ESPIPE))),
            (_, Behind::Stack(_)) => ret(Err(Errno(libc::EINVAL))),
            // SAFETY: the caller's offset, if there is one.
            (Behind::Stack(socket), _) => run(|| unsafe {
                let mut copy = if offset.is_null() {
                    0
                } else {
                    offset.read_unaligned()
                };
                let moved = (!offset.is_null()).then_some(&mut copy);
                let result: Result<usize> = sending::sendfile(socket, file, moved, count);
                if !offset.is_null() && result.is_ok() {
                    offset.write_unaligned(copy);
                }
                result.map(|n| n as ssize_t)
            }),
            _ => real(),
        },
    )
}

#[cfg(test)]
#[path = "documentation.rs"]
mod documentation;
