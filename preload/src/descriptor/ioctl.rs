//! ioctl(2), as tcp(7) and socket(7) have it.

#![allow(unsafe_code)]

use super::fcntl;
use crate::errno::{Errno, Result};
use crate::socket::{SocketRef, options, urgent};
use std::ffi::{c_int, c_ulong};
use std::os::fd::RawFd;

/// Bytes written but not yet sent (linux/sockios.h).
const SIOCOUTQNSD: c_ulong = 0x894b;
/// asm-generic/sockios.h
const SIOCATMARK: c_ulong = 0x8905;
/// As `F_SETOWN` (asm-generic/sockios.h).
const FIOSETOWN: c_ulong = 0x8901;
/// As `F_SETOWN`.
const SIOCSPGRP: c_ulong = 0x8902;

/// ioctl(2) on a socket of the stack.
///
/// # Errors
/// As ioctl(2) on a TCP socket of the kernel; `EINVAL` and `ENOTTY` for what would have `SIGIO` sent.
///
/// # Safety
/// `arg` is what the request wants.
pub unsafe fn ioctl(socket: SocketRef, fd: RawFd, request: c_ulong, arg: usize) -> Result<c_int> {
    let number = arg as *mut c_int;
    let is_listening = socket.is_listening();
    let answer = match request {
        libc::FIONREAD if is_listening => return Err(Errno(libc::EINVAL)),
        libc::TIOCOUTQ | SIOCOUTQNSD if is_listening => return Err(Errno(libc::EINVAL)),
        libc::FIONREAD => urgent::readable(socket),
        libc::TIOCOUTQ => socket.record().unacked(),
        SIOCOUTQNSD => options::not_sent(socket),
        SIOCATMARK => urgent::is_at_mark(socket).into(),
        libc::FIONBIO => {
            // SAFETY: the caller's promise: an int, if it is no null pointer.
            let on = unsafe { read(number) }? != 0;
            fcntl::set_nonblocking(socket, on);
            return Ok(0);
        }
        libc::FIOASYNC => {
            // SAFETY: as above.
            if unsafe { read(number) }? == 0 {
                return Ok(0);
            }
            fcntl::no_signals("FIOASYNC");
            return Err(Errno(libc::ENOTTY));
        }
        FIOSETOWN | SIOCSPGRP => return Err(fcntl::no_signals("FIOSETOWN")),
        libc::FIOCLEX | libc::FIONCLEX => {
            fcntl::set_cloexec(socket, fd, request == libc::FIOCLEX)?;
            return Ok(0);
        }
        // Terminals (ENOTTY), interfaces, routes: the placeholder is a TCP socket of the kernel.
        _ => {
            let args = [fd as usize, request as usize, arg, 0, 0, 0];
            // SAFETY: the caller's promise.
            let result = unsafe { crate::real::syscall(libc::SYS_ioctl, args) };
            return result.map(|n| n as c_int);
        }
    };
    if number.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    let answer = c_int::try_from(answer).unwrap_or(c_int::MAX);
    // SAFETY: the caller's promise: room for an int.
    unsafe { number.write_unaligned(answer) };
    Ok(0)
}

/// # Safety
/// `at` is null or points to an int.
unsafe fn read(at: *const c_int) -> Result<c_int> {
    if at.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { at.read_unaligned() })
}
