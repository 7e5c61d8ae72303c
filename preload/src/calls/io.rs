//! Reading and writing.

use crate::descriptor::{Behind, behind};
use crate::errno::{Errno, Result, ret};
use crate::interpose::run_cancellable;
use crate::real;
use crate::sharing::passing;
use crate::socket::buffers::Buffers;
use crate::socket::recv::{self as receiving, receive};
use crate::socket::send::{self as sending};
use crate::socket::{SocketRef, fast_open, message, names};
use crate::trace::{self, Line};
use libc::{
    c_int, c_uint, c_void, iovec, mmsghdr, msghdr, off_t, size_t, sockaddr, sockaddr_storage,
    socklen_t, ssize_t, timespec,
};

crate::interpose! {
    family: "io";

    /// Receives; a length of 0 returns at once.
    fn read(fd: c_int, to: *mut c_void, len: size_t) -> ssize_t {
        trace::call("read", fd, move |line, n| show_read(line, n, to, len), move || {
            // SAFETY: the caller's buffer.
            over(fd, move |socket| unsafe { read_one(socket, to, len) }, move || unsafe {
                read::real()(fd, to, len)
            })
        })
    }

    /// As `read`.
    fn __read(fd: c_int, to: *mut c_void, len: size_t) -> ssize_t {
        // SAFETY: the caller's buffer.
        unsafe { read(fd, to, len) }
    }

    /// As `read`, after the check of the buffer's size.
    fn __read_chk(fd: c_int, to: *mut c_void, len: size_t, size: size_t) -> ssize_t {
        if len > size {
            // SAFETY: the caller's arguments, as they are: it ends the program.
            return unsafe { __read_chk::real()(fd, to, len, size) };
        }
        // SAFETY: the caller's buffer.
        unsafe { read(fd, to, len) }
    }

    /// Receives into several buffers.
    fn readv(fd: c_int, vector: *const iovec, count: c_int) -> ssize_t {
        trace::call("readv", fd, move |line, n| show_vector(line, n, vector, count), move || {
            // SAFETY: the caller's buffers.
            over(fd, move |socket| unsafe { read_many(socket, vector, count, 0) }, move || unsafe {
                readv::real()(fd, vector, count)
            })
        })
    }

    /// Sends.
    fn write(fd: c_int, from: *const c_void, len: size_t) -> ssize_t {
        trace::call("write", fd, move |line, _| show_write(line, from, len), move || {
            // SAFETY: the caller's buffer.
            over(fd, move |socket| unsafe { write_one(socket, from, len, 0) }, move || unsafe {
                write::real()(fd, from, len)
            })
        })
    }

    /// As `write`.
    fn __write(fd: c_int, from: *const c_void, len: size_t) -> ssize_t {
        // SAFETY: the caller's buffer.
        unsafe { write(fd, from, len) }
    }

    /// Sends several buffers.
    fn writev(fd: c_int, vector: *const iovec, count: c_int) -> ssize_t {
        let total = isize::MAX as i64;
        trace::call("writev", fd, move |line, _| show_vector(line, total, vector, count), move || {
            // SAFETY: the caller's buffers.
            over(fd, move |socket| unsafe { write_many(socket, vector, count, 0) }, move || unsafe {
                writev::real()(fd, vector, count)
            })
        })
    }

    /// A socket has no positions: `ESPIPE`.
    fn pread(fd: c_int, to: *mut c_void, len: size_t, offset: off_t) -> ssize_t {
        // SAFETY: the caller's buffer.
        over(fd, |_| no_position(offset), || unsafe { pread::real()(fd, to, len, offset) })
    }

    /// As `pread`.
    fn pread64(fd: c_int, to: *mut c_void, len: size_t, offset: off_t) -> ssize_t {
        // SAFETY: the caller's buffer.
        over(fd, |_| no_position(offset), || unsafe { pread64::real()(fd, to, len, offset) })
    }

    /// As `pread`.
    fn __pread64(fd: c_int, to: *mut c_void, len: size_t, offset: off_t) -> ssize_t {
        // SAFETY: the caller's buffer.
        over(fd, |_| no_position(offset), || unsafe { __pread64::real()(fd, to, len, offset) })
    }

    /// As `pread`, after the check of the buffer's size.
    fn __pread_chk(
        fd: c_int,
        to: *mut c_void,
        len: size_t,
        offset: off_t,
        size: size_t,
    ) -> ssize_t {
        // SAFETY: the caller's buffer.
        over(fd, |_| no_position(offset), || unsafe {
            __pread_chk::real()(fd, to, len, offset, size)
        })
    }

    /// As `__pread_chk`.
    fn __pread64_chk(
        fd: c_int,
        to: *mut c_void,
        len: size_t,
        offset: off_t,
        size: size_t,
    ) -> ssize_t {
        // SAFETY: the caller's buffer.
        over(fd, |_| no_position(offset), || unsafe {
            __pread64_chk::real()(fd, to, len, offset, size)
        })
    }

    /// A socket has no positions: `ESPIPE`.
    fn pwrite(fd: c_int, from: *const c_void, len: size_t, offset: off_t) -> ssize_t {
        // SAFETY: the caller's buffer.
        over(fd, |_| no_position(offset), || unsafe { pwrite::real()(fd, from, len, offset) })
    }

    /// As `pwrite`.
    fn pwrite64(fd: c_int, from: *const c_void, len: size_t, offset: off_t) -> ssize_t {
        // SAFETY: the caller's buffer.
        over(fd, |_| no_position(offset), || unsafe { pwrite64::real()(fd, from, len, offset) })
    }

    /// As `pwrite`.
    fn __pwrite64(fd: c_int, from: *const c_void, len: size_t, offset: off_t) -> ssize_t {
        // SAFETY: the caller's buffer.
        over(fd, |_| no_position(offset), || unsafe { __pwrite64::real()(fd, from, len, offset) })
    }

    /// A socket has no positions: `ESPIPE`.
    fn preadv(fd: c_int, vector: *const iovec, count: c_int, offset: off_t) -> ssize_t {
        // SAFETY: the caller's buffers.
        over(fd, |_| no_position(offset), || unsafe { preadv::real()(fd, vector, count, offset) })
    }

    /// As `preadv`.
    fn preadv64(fd: c_int, vector: *const iovec, count: c_int, offset: off_t) -> ssize_t {
        // SAFETY: the caller's buffers.
        over(fd, |_| no_position(offset), || unsafe { preadv64::real()(fd, vector, count, offset) })
    }

    /// A socket has no positions: `ESPIPE`.
    fn pwritev(fd: c_int, vector: *const iovec, count: c_int, offset: off_t) -> ssize_t {
        // SAFETY: the caller's buffers.
        over(fd, |_| no_position(offset), || unsafe { pwritev::real()(fd, vector, count, offset) })
    }

    /// As `pwritev`.
    fn pwritev64(fd: c_int, vector: *const iovec, count: c_int, offset: off_t) -> ssize_t {
        // SAFETY: the caller's buffers.
        over(fd, |_| no_position(offset), || unsafe { pwritev64::real()(fd, vector, count, offset) })
    }

    /// With offset -1 as `readv`, `RWF_NOWAIT` included; else `ESPIPE`.
    fn preadv2(
        fd: c_int,
        vector: *const iovec,
        count: c_int,
        offset: off_t,
        flags: c_int,
    ) -> ssize_t {
        over(
            fd,
            // SAFETY: the caller's buffers.
            |socket| unsafe { read_many(socket, vector, count, at_no_position(offset, flags)?) },
            // SAFETY: as above.
            || unsafe { preadv2::real()(fd, vector, count, offset, flags) },
        )
    }

    /// As `preadv2`.
    fn preadv64v2(
        fd: c_int,
        vector: *const iovec,
        count: c_int,
        offset: off_t,
        flags: c_int,
    ) -> ssize_t {
        // SAFETY: the caller's buffers.
        unsafe { preadv2(fd, vector, count, offset, flags) }
    }

    /// With offset -1 as `writev`, `RWF_NOWAIT` included; else `ESPIPE`.
    fn pwritev2(
        fd: c_int,
        vector: *const iovec,
        count: c_int,
        offset: off_t,
        flags: c_int,
    ) -> ssize_t {
        over(
            fd,
            // SAFETY: the caller's buffers.
            |socket| unsafe { write_many(socket, vector, count, at_no_position(offset, flags)?) },
            // SAFETY: as above.
            || unsafe { pwritev2::real()(fd, vector, count, offset, flags) },
        )
    }

    /// As `pwritev2`.
    fn pwritev64v2(
        fd: c_int,
        vector: *const iovec,
        count: c_int,
        offset: off_t,
        flags: c_int,
    ) -> ssize_t {
        // SAFETY: the caller's buffers.
        unsafe { pwritev2(fd, vector, count, offset, flags) }
    }

    /// Receives, with PEEK, DONTWAIT, WAITALL and TRUNC.
    fn recv(fd: c_int, to: *mut c_void, len: size_t, flags: c_int) -> ssize_t {
        let show = move |line: &mut Line, n| {
            show_read(line, n, to, len);
            line.message_flags(flags);
        };
        trace::call("recv", fd, show, move || {
            // SAFETY: the caller's buffer.
            over(fd, move |socket| unsafe { recv_one(socket, to, len, flags) }, move || unsafe {
                recv::real()(fd, to, len, flags)
            })
        })
    }

    /// As `recv`, after the check of the buffer's size.
    fn __recv_chk(fd: c_int, to: *mut c_void, len: size_t, size: size_t, flags: c_int) -> ssize_t {
        if len > size {
            // SAFETY: the caller's arguments, as they are: it ends the program.
            return unsafe { __recv_chk::real()(fd, to, len, size, flags) };
        }
        // SAFETY: the caller's buffer.
        unsafe { recv(fd, to, len, flags) }
    }

    /// As `recv`; a stream tells no source, so the address's length becomes 0.
    fn recvfrom(
        fd: c_int,
        to: *mut c_void,
        len: size_t,
        flags: c_int,
        address: *mut sockaddr,
        address_len: *mut socklen_t,
    ) -> ssize_t {
        let show = move |line: &mut Line, n| {
            show_read(line, n, to, len);
            line.message_flags(flags).pointer(address).pointee(address_len);
        };
        trace::call("recvfrom", fd, show, move || {
            over(
                fd,
                |socket| {
                    // SAFETY: the caller's buffer and length.
                    unsafe {
                        let n = recv_one(socket, to, len, flags)?;
                        if !address.is_null() {
                            if address_len.is_null() {
                                return Err(Errno(libc::EFAULT));
                            }
                            if address_len.read_unaligned() > i32::MAX as socklen_t {
                                return Err(Errno(libc::EINVAL));
                            }
                            address_len.write_unaligned(0);
                        }
                        Ok(n)
                    }
                },
                // SAFETY: the caller's arguments, as they are.
                || unsafe { recvfrom::real()(fd, to, len, flags, address, address_len) },
            )
        })
    }

    /// As `recvfrom`, after the check of the buffer's size.
    fn __recvfrom_chk(
        fd: c_int,
        to: *mut c_void,
        len: size_t,
        size: size_t,
        flags: c_int,
        address: *mut sockaddr,
        address_len: *mut socklen_t,
    ) -> ssize_t {
        if len > size {
            // SAFETY: the caller's arguments, as they are: it ends the program.
            return unsafe {
                __recvfrom_chk::real()(fd, to, len, size, flags, address, address_len)
            };
        }
        // SAFETY: the caller's buffer and length.
        unsafe { recvfrom(fd, to, len, flags, address, address_len) }
    }

    /// As `recv` into several buffers; a stream has no address and no control data to tell.
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
        let show = move |line: &mut Line, n| {
            show_message(line, n, message);
            line.message_flags(flags);
        };
        trace::call("recvmsg", fd, show, move || {
            over(
                fd,
                // SAFETY: the caller's message.
                |socket| unsafe { message::receive(socket, message, flags).map(signed) },
                // SAFETY: as above.
                || unsafe {
                    let n = recvmsg::real()(fd, message, flags);
                    if n >= 0 {
                        passing::after_receive(message);
                    }
                    n
                },
            )
        })
    }

    /// As `recvmsg` several times.
    fn recvmmsg(
        fd: c_int,
        messages: *mut mmsghdr,
        count: c_uint,
        flags: c_int,
        timeout: *mut timespec,
    ) -> c_int {
        let show = move |line: &mut Line, _| {
            line.pointer(messages).arg(count).message_flags(flags).pointer(timeout);
        };
        trace::call("recvmmsg", fd, show, move || {
            over(
                fd,
                // SAFETY: the caller's messages.
                |socket| unsafe { message::receive_many(socket, messages, count, flags, timeout) },
                // SAFETY: as above.
                || unsafe {
                    let n = recvmmsg::real()(fd, messages, count, flags, timeout);
                    passing::after_receive_many(messages, usize::try_from(n).unwrap_or(0));
                    n
                },
            )
        })
    }

    /// Sends, with DONTWAIT, NOSIGNAL, MORE, OOB and FASTOPEN.
    fn send(fd: c_int, from: *const c_void, len: size_t, flags: c_int) -> ssize_t {
        let show = move |line: &mut Line, _| {
            show_write(line, from, len);
            line.message_flags(flags);
        };
        trace::call("send", fd, show, move || {
            let to = (std::ptr::null(), 0);
            // SAFETY: the caller's buffer.
            over(fd, move |socket| unsafe { send_one(fd, socket, (from, len), flags, to) }, move || unsafe {
                send::real()(fd, from, len, flags)
            })
        })
    }

    /// As `send`.
    fn __send(fd: c_int, from: *const c_void, len: size_t, flags: c_int) -> ssize_t {
        // SAFETY: the caller's buffer.
        unsafe { send(fd, from, len, flags) }
    }

    /// As `send`; a stream ignores the address, except with `MSG_FASTOPEN`.
    fn sendto(
        fd: c_int,
        from: *const c_void,
        len: size_t,
        flags: c_int,
        address: *const sockaddr,
        address_len: socklen_t,
    ) -> ssize_t {
        let show = move |line: &mut Line, _| {
            show_write(line, from, len);
            line.message_flags(flags);
            line.address(address, address_len as usize).arg(address_len);
        };
        trace::call("sendto", fd, show, move || {
            let to = (address, address_len);
            // SAFETY: the caller's buffer and address.
            over(fd, move |socket| unsafe { send_one(fd, socket, (from, len), flags, to) }, move || unsafe {
                sendto::real()(fd, from, len, flags, address, address_len)
            })
        })
    }

    /// As `send` of several buffers; a stream ignores the address, except with `MSG_FASTOPEN`.
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
        let show = move |line: &mut Line, _| {
            show_message(line, isize::MAX as i64, message);
            line.message_flags(flags);
        };
        trace::call("sendmsg", fd, show, move || {
            over(
                fd,
                // SAFETY: the caller's message.
                |socket| unsafe { message::send(fd, socket, message, flags).map(signed) },
                // SAFETY: as above.
                || unsafe {
                    passing::before_send(message);
                    sendmsg::real()(fd, message, flags)
                },
            )
        })
    }

    /// As `sendmsg` several times.
    fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
        let show = move |line: &mut Line, _| {
            line.pointer(messages).arg(count).message_flags(flags);
        };
        trace::call("sendmmsg", fd, show, move || {
            over(
                fd,
                // SAFETY: the caller's messages.
                |socket| unsafe { message::send_many(fd, socket, messages, count, flags) },
                // SAFETY: as above.
                || unsafe {
                    passing::before_send_many(messages, count as usize);
                    sendmmsg::real()(fd, messages, count, flags)
                },
            )
        })
    }
}

/// Runs a call on whoever stands behind the descriptor.
#[inline(always)]
fn over<T: crate::errno::Failure>(
    fd: c_int,
    stack: impl FnOnce(SocketRef) -> Result<T>,
    kernel: impl FnOnce() -> T,
) -> T {
    match behind(fd) {
        Behind::Kernel | Behind::Epoll(_) => kernel(),
        Behind::Stack(socket) => run_cancellable(|| stack(socket)),
        Behind::Hidden => ret(Err(Errno(libc::EBADF))),
    }
}

fn signed(n: usize) -> ssize_t {
    // A call moves at most `buffers::MOST` bytes.
    n as ssize_t
}

/// # Safety
/// As read(2).
unsafe fn read_one(socket: SocketRef, to: *mut c_void, len: size_t) -> Result<ssize_t> {
    if len == 0 {
        return Ok(0);
    }
    // SAFETY: the caller's promise.
    unsafe { recv_one(socket, to, len, 0) }
}

/// # Safety
/// As recv(2).
unsafe fn recv_one(
    socket: SocketRef,
    to: *mut c_void,
    len: size_t,
    flags: c_int,
) -> Result<ssize_t> {
    // With MSG_TRUNC the buffer is not touched, and may be null.
    let at = if flags & libc::MSG_TRUNC != 0 && to.is_null() {
        std::ptr::dangling_mut()
    } else {
        to
    };
    // SAFETY: the caller's promise.
    let mut buffers = unsafe { Buffers::one(at, len) }?;
    receive(socket, &mut buffers, flags).map(signed)
}

/// # Safety
/// As readv(2).
unsafe fn read_many(
    socket: SocketRef,
    vector: *const iovec,
    count: c_int,
    flags: c_int,
) -> Result<ssize_t> {
    // SAFETY: the caller's promise.
    let mut buffers = unsafe { Buffers::many(vector, count) }?;
    if buffers.left() == 0 {
        return Ok(0);
    }
    receiving::receive(socket, &mut buffers, flags).map(signed)
}

/// # Safety
/// As send(2).
unsafe fn write_one(
    socket: SocketRef,
    from: *const c_void,
    len: size_t,
    flags: c_int,
) -> Result<ssize_t> {
    // SAFETY: the caller's promise.
    let mut buffers = unsafe { Buffers::one(from, len) }?;
    sending::send(socket, &mut buffers, flags).map(signed)
}

/// # Safety
/// As sendto(2).
unsafe fn send_one(
    fd: c_int,
    socket: SocketRef,
    (from, len): (*const c_void, size_t),
    flags: c_int,
    to: (*const sockaddr, socklen_t),
) -> Result<ssize_t> {
    if !to.0.is_null() && to.1 as usize > size_of::<sockaddr_storage>() {
        return Err(Errno(libc::EINVAL));
    }
    if flags & libc::MSG_FASTOPEN == 0 {
        // SAFETY: the caller's promise.
        return unsafe { write_one(socket, from, len, flags) };
    }
    // SAFETY: the caller's promise.
    let address = unsafe { names::read_some(to.0, to.1, socket.is_inet6()) }?;
    // SAFETY: as above.
    let mut buffers = unsafe { Buffers::one(from, len) }?;
    let kernel = || {
        let (at, size) = (to.0 as usize, to.1 as usize);
        let args = [fd as usize, from as usize, len, flags as usize, at, size];
        // SAFETY: the caller's arguments, as they are.
        unsafe { real::syscall(libc::SYS_sendto, args) }
    };
    fast_open::send(fd, socket, address, &mut buffers, flags, kernel).map(signed)
}

/// # Safety
/// As writev(2).
unsafe fn write_many(
    socket: SocketRef,
    vector: *const iovec,
    count: c_int,
    flags: c_int,
) -> Result<ssize_t> {
    // SAFETY: the caller's promise.
    let mut buffers = unsafe { Buffers::many(vector, count) }?;
    sending::send(socket, &mut buffers, flags).map(signed)
}

/// What a call at a position gets from a socket.
fn no_position(offset: off_t) -> Result<ssize_t> {
    Err(Errno(if offset < 0 {
        libc::EINVAL
    } else {
        libc::ESPIPE
    }))
}

/// Flags of preadv2(2) as those of recv(2), if the call asks for no position.
fn at_no_position(offset: off_t, flags: c_int) -> Result<c_int> {
    if offset != -1 {
        no_position(offset)?;
    }
    // What says how a file's blocks are written means nothing to a socket.
    let harmless = libc::RWF_HIPRI | libc::RWF_DSYNC | libc::RWF_SYNC | libc::RWF_APPEND;
    match flags & !(harmless | libc::RWF_NOWAIT) {
        0 if flags & libc::RWF_NOWAIT != 0 => Ok(libc::MSG_DONTWAIT),
        0 => Ok(0),
        _ => Err(Errno(libc::EOPNOTSUPP)),
    }
}

fn show_read(line: &mut Line, result: i64, to: *mut c_void, len: size_t) {
    match usize::try_from(result) {
        Ok(n) => line.buffer(to, n.min(len)),
        Err(_) => line.pointer(to),
    };
    line.arg(len);
}

fn show_write(line: &mut Line, from: *const c_void, len: size_t) {
    line.buffer(from, len).arg(len);
}

fn show_vector(line: &mut Line, result: i64, vector: *const iovec, count: c_int) {
    let total = usize::try_from(result).unwrap_or(0);
    let buffers = usize::try_from(count).unwrap_or(0);
    line.vector(vector, buffers, total).arg(count);
}

fn show_message(line: &mut Line, result: i64, message: *const msghdr) {
    // SAFETY: the call has looked at the header already.
    match unsafe { message.as_ref() } {
        Some(header) if result >= 0 => {
            line.vector(header.msg_iov, header.msg_iovlen, result as usize)
        }
        _ => line.pointer(message),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_refused_as_the_kernel_does() {
        let (mut pair, mut byte) = ([0; 2], 0u8);
        let at = (&raw mut byte).cast::<c_void>();
        // SAFETY: a socket of the kernel tells what it says to the same calls.
        unsafe {
            libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr());
            for offset in [0, 5, -1, -7] {
                assert_eq!(libc::pread(pair[0], at, 1, offset), -1);
                let errno = crate::errno::get();
                assert_eq!(no_position(offset), Err(Errno(errno)), "at {offset}");
            }
            pair.into_iter().for_each(crate::real::close);
        }
    }

    #[test]
    fn only_flags_that_linux_knows_are_taken() {
        assert_eq!(at_no_position(-1, 0), Ok(0));
        assert_eq!(at_no_position(-1, libc::RWF_NOWAIT), Ok(libc::MSG_DONTWAIT));
        assert_eq!(at_no_position(-1, libc::RWF_APPEND), Ok(0));
        assert_eq!(at_no_position(-1, 1 << 30), Err(Errno(libc::EOPNOTSUPP)));
        assert_eq!(at_no_position(0, 0), Err(Errno(libc::ESPIPE)));
    }
}
