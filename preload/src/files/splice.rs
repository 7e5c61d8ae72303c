//! splice(2) between a socket of the stack and a pipe, by copying.

#![allow(unsafe_code)]

use super::sendfile::MOST;
use crate::descriptor::{Behind, behind};
use crate::errno::{Errno, Result};
use crate::real;
use crate::socket::send::send_from;
use crate::socket::{SocketRef, recv, urgent, would_block};
use context::command::Op;
use libc::{c_int, c_uint, iovec, pollfd};
use std::os::fd::RawFd;

/// Moves bytes from `from` to `to`, of which one is a socket of the stack and the other a pipe.
///
/// # Errors
/// As splice(2): `EINVAL` if the other is no pipe.
pub fn splice(from: RawFd, to: RawFd, len: usize, flags: c_uint) -> Result<usize> {
    let len = len.min(MOST);
    match (behind(from), behind(to)) {
        (Behind::Hidden, _) | (_, Behind::Hidden) => Err(Errno(libc::EBADF)),
        (Behind::Stack(socket), Behind::Kernel) => {
            check_pipe(to)?;
            if len == 0 {
                return Ok(0);
            }
            to_pipe(socket, to, len, flags)
        }
        (Behind::Kernel, Behind::Stack(socket)) => {
            check_pipe(from)?;
            if len == 0 {
                return Ok(0);
            }
            from_pipe(from, socket, len, flags)
        }
        _ => Err(Errno(libc::EINVAL)),
    }
}

fn check_pipe(fd: RawFd) -> Result<()> {
    match real::fcntl(fd, libc::F_GETPIPE_SZ, 0) {
        Ok(_) => Ok(()),
        // The descriptor is good, but no pipe.
        Err(Errno(libc::EBADF)) if real::is_cloexec(fd).is_ok() => Err(Errno(libc::EINVAL)),
        Err(error) => Err(error),
    }
}

fn to_pipe(socket: SocketRef, pipe: RawFd, len: usize, flags: c_uint) -> Result<usize> {
    if socket.is_listening() {
        return Err(Errno(libc::ENOTCONN));
    }
    loop {
        match move_available(socket, pipe, len) {
            Ok(0) if is_stuck(socket) => return at_mark(socket).map(|()| 0),
            // Nothing there, or another thread took it.
            Ok(0) => {
                if !recv::wait_for_first(socket, 0, 0)? {
                    return Ok(0);
                }
            }
            Err(Errno(libc::EAGAIN)) if !is_nonblocking(pipe, flags)? => {
                wait(pipe, libc::POLLOUT)?;
            }
            moved => return moved,
        }
    }
}

/// Whether the urgent byte is next and has come: splice(2) never takes it, in line or not.
fn is_stuck(socket: SocketRef) -> bool {
    urgent::is_at_mark(socket) && socket.record().readable() > 0
}

/// What a call gets that finds the urgent byte next: as in `tcp_splice_read`, 0, like at the end.
fn at_mark(socket: SocketRef) -> Result<()> {
    if let Some(end) = recv::end(socket, socket.record().readable()) {
        return end;
    }
    if socket.is_nonblocking(0) {
        return would_block(libc::EAGAIN);
    }
    Ok(())
}

/// Writes what waits in the receive stream before the mark of urgent data to the pipe, as far as it
/// takes it without waiting, and takes that much off the stream.
fn move_available(socket: SocketRef, pipe: RawFd, len: usize) -> Result<usize> {
    let mut reader = socket.reader(true)?;
    let len = socket
        .record()
        .urgent_mark()
        .map_or(len as u64, |mark| mark.min(len as u64));
    let mut moved = 0;
    let mut error = None;
    reader.read(len, true, |at, n| {
        if error.is_some() {
            return;
        }
        match write_without_waiting(pipe, at, n) {
            Ok(wrote) => {
                moved += wrote;
                if wrote < n {
                    error = Some(Errno(libc::EAGAIN));
                }
            }
            Err(reason) => error = Some(reason),
        }
    });
    if moved == 0 {
        return error.map_or(Ok(0), Err);
    }
    reader.read(moved as u64, false, |_, _| ());
    let must_notify = reader.must_notify();
    let _section = reader.unlock();
    if must_notify {
        socket.tell(Op::Consumed, 0)?;
    }
    Ok(moved)
}

/// Bytes that a pipe that is ready takes in one go at least (`PIPE_BUF`).
const ATOMIC: usize = 4096;

/// The reading lock is held, so a pipe that blocks must not be waited for.
fn write_without_waiting(pipe: RawFd, at: *const u8, n: usize) -> Result<usize> {
    let piece = iovec {
        iov_base: at.cast_mut().cast(),
        iov_len: n,
    };
    let position = usize::MAX;
    let args = [
        pipe as usize,
        &raw const piece as usize,
        1,
        position,
        position,
        libc::RWF_NOWAIT as usize,
    ];
    // SAFETY: the kernel reads the piece, which lies in the segment.
    match unsafe { real::syscall(libc::SYS_pwritev2, args) } {
        // Linux before 6.4 has it for files only.
        Err(Errno(libc::EOPNOTSUPP | libc::EINVAL | libc::ESPIPE)) => {
            if poll(pipe, libc::POLLOUT, 0)? == 0 {
                return Err(Errno(libc::EAGAIN));
            }
            let args = [pipe as usize, at as usize, n.min(ATOMIC), 0, 0, 0];
            // SAFETY: as above.
            unsafe { real::syscall(libc::SYS_write, args) }
        }
        result => result,
    }
}

fn from_pipe(pipe: RawFd, socket: SocketRef, len: usize, flags: c_uint) -> Result<usize> {
    loop {
        let waiting = bytes_in(pipe)?;
        if waiting == 0 {
            if poll(pipe, libc::POLLIN, 0)? & libc::POLLHUP != 0 {
                return Ok(0);
            }
            if is_nonblocking(pipe, flags)? {
                return Err(Errno(libc::EAGAIN));
            }
            wait(pipe, libc::POLLIN)?;
            continue;
        }
        let send_flags = if flags & libc::SPLICE_F_NONBLOCK != 0 {
            libc::MSG_DONTWAIT
        } else if flags & libc::SPLICE_F_MORE != 0 {
            libc::MSG_MORE
        } else {
            0
        };
        let mut left = waiting;
        return send_from(socket, len.min(waiting), send_flags, |to, n| {
            // Another reader may have been faster: nothing may be waited for here.
            let n = n.min(left);
            let result = match bytes_in(pipe) {
                Ok(1..) => {
                    // SAFETY: the piece lies in the segment.
                    unsafe {
                        real::syscall(libc::SYS_read, [pipe as usize, to as usize, n, 0, 0, 0])
                    }
                }
                _ => Ok(0),
            };
            let got = result.unwrap_or(0);
            left -= got;
            got
        });
    }
}

fn bytes_in(pipe: RawFd) -> Result<usize> {
    let mut count: c_int = 0;
    let args = [
        pipe as usize,
        libc::FIONREAD as usize,
        &raw mut count as usize,
        0,
        0,
        0,
    ];
    // SAFETY: the call writes an int.
    unsafe { real::syscall(libc::SYS_ioctl, args) }?;
    Ok(usize::try_from(count).unwrap_or(0))
}

fn is_nonblocking(pipe: RawFd, flags: c_uint) -> Result<bool> {
    Ok(flags & libc::SPLICE_F_NONBLOCK != 0
        || real::fcntl(pipe, libc::F_GETFL, 0)? & libc::O_NONBLOCK as usize != 0)
}

fn wait(fd: RawFd, events: i16) -> Result<()> {
    poll(fd, events, -1).map(drop)
}

/// The events of a kernel descriptor.
fn poll(fd: RawFd, events: i16, timeout: c_int) -> Result<i16> {
    let mut entry = pollfd {
        fd,
        events,
        revents: 0,
    };
    let args = [&raw mut entry as usize, 1, timeout as usize, 0, 0, 0];
    // SAFETY: one entry, which lives through the call.
    unsafe { real::syscall(libc::SYS_poll, args) }?;
    Ok(entry.revents)
}
