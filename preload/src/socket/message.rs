//! Messages: recvmsg(2), sendmsg(2), recvmmsg(2), sendmmsg(2) on a byte stream.

#![allow(unsafe_code)]

use super::buffers::{Buffers, IOV_MAX};
use super::{SocketRef, fast_open, names, recv, send};
use crate::errno::{Errno, Result};
use crate::real;
use context::socket::{option, state};
use libc::{c_int, c_uint, mmsghdr, msghdr, timespec};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Buffers of a message header.
///
/// # Safety
/// As [`Buffers::message`], for what stands in the header.
unsafe fn buffers<'a>(message: &msghdr) -> Result<Buffers<'a>> {
    if message.msg_namelen > i32::MAX as u32 {
        return Err(Errno(libc::EINVAL));
    }
    // SAFETY: the caller's promise.
    unsafe { Buffers::message(message.msg_iov, message.msg_iovlen, libc::EMSGSIZE) }
}

/// recvmsg(2). A stream has no source address to tell, and as control data only what `TCP_INQ` asks
/// for.
///
/// # Errors
/// As recvmsg(2).
///
/// # Safety
/// `message` is null, or a header whose buffers may be written.
pub unsafe fn receive(socket: SocketRef, message: *mut msghdr, flags: c_int) -> Result<usize> {
    // SAFETY: the caller's promise.
    let header = unsafe { message.as_mut() }.ok_or(Errno(libc::EFAULT))?;
    // SAFETY: as above.
    let mut buffers = unsafe { buffers(header) }?;
    let n = recv::receive(socket, &mut buffers, flags)?;
    if !header.msg_name.is_null() {
        header.msg_namelen = 0;
    }
    header.msg_flags = flags & (libc::MSG_CMSG_CLOEXEC | libc::MSG_OOB);
    let bits = socket.record().options.bits.load(Relaxed);
    if bits & option::INQ != 0 {
        // SAFETY: the caller's promise covers the control data.
        unsafe { tell_unread(header, unread(socket)) };
    } else {
        header.msg_controllen = 0;
    }
    Ok(n)
}

/// What `TCP_INQ` tells: the bytes left to read; 1 if there are none, but the end of the stream is.
fn unread(socket: SocketRef) -> c_int {
    let ended = socket.state_bits() & state::RX_SHUT != 0;
    match socket.record().readable() {
        0 => ended.into(),
        bytes => c_int::try_from(bytes).unwrap_or(c_int::MAX),
    }
}

/// Writes the control message of `TCP_INQ`, or says that there is no room for it.
///
/// # Safety
/// The header's control data may be written.
unsafe fn tell_unread(header: &mut msghdr, unread: c_int) {
    const LEN: u32 = size_of::<c_int>() as u32;
    // SAFETY: the macros only look at the header, and there is room for the one message that is
    // written; it need not be aligned.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(header);
        let len = libc::CMSG_LEN(LEN) as usize;
        if first.is_null() || header.msg_controllen < len {
            header.msg_flags |= libc::MSG_CTRUNC;
            header.msg_controllen = 0;
            return;
        }
        first.write_unaligned(libc::cmsghdr {
            cmsg_len: len,
            cmsg_level: libc::IPPROTO_TCP,
            cmsg_type: libc::TCP_INQ,
        });
        libc::CMSG_DATA(first)
            .cast::<c_int>()
            .write_unaligned(unread);
        header.msg_controllen = header.msg_controllen.min(libc::CMSG_SPACE(LEN) as usize);
    }
}

/// sendmsg(2). A connected stream ignores the address, except with `MSG_FASTOPEN`, and control data
/// for other families.
///
/// # Errors
/// As sendmsg(2).
///
/// # Safety
/// `message` is null, or a header whose buffers may be read.
pub unsafe fn send(
    fd: RawFd,
    socket: SocketRef,
    message: *const msghdr,
    flags: c_int,
) -> Result<usize> {
    // SAFETY: the caller's promise.
    let header = unsafe { message.as_ref() }.ok_or(Errno(libc::EFAULT))?;
    // SAFETY: as above.
    let mut buffers = unsafe { buffers(header) }?;
    // SAFETY: as above.
    unsafe { check_control(header) }?;
    if flags & libc::MSG_FASTOPEN == 0 {
        return send::send(socket, &mut buffers, flags);
    }
    let address = header.msg_name.cast();
    // SAFETY: the caller's address.
    let to = unsafe { names::read_some(address, header.msg_namelen, socket.is_inet6()) }?;
    fast_open::send(fd, socket, to, &mut buffers, flags, || {
        let args = [fd as usize, message as usize, flags as usize, 0, 0, 0];
        // SAFETY: the caller's arguments, as they are.
        unsafe { real::syscall(libc::SYS_sendmsg, args) }
    })
}

/// Refuses the control data that Linux refuses of a stream of TCP; what it takes means nothing here.
///
/// # Errors
/// `EINVAL`.
///
/// # Safety
/// The header's control data may be read.
unsafe fn check_control(header: &msghdr) -> Result<()> {
    // SAFETY: the caller's promise; both walk within the control data.
    let (mut at, end) = unsafe {
        let first = libc::CMSG_FIRSTHDR(header);
        (first, header.msg_control.byte_add(header.msg_controllen))
    };
    while !at.is_null() {
        // SAFETY: a whole header stands there.
        let message = unsafe { at.read_unaligned() };
        let room = end as usize - at as usize;
        let known = matches!(
            message.cmsg_type,
            libc::SCM_RIGHTS | libc::SCM_CREDENTIALS | libc::SO_TIMESTAMPING
        );
        if !(size_of::<libc::cmsghdr>()..=room).contains(&message.cmsg_len)
            || message.cmsg_level == libc::SOL_SOCKET && !known
        {
            return Err(Errno(libc::EINVAL));
        }
        // SAFETY: as above; its length is good.
        at = unsafe { libc::CMSG_NXTHDR(header, at) };
    }
    Ok(())
}

/// recvmmsg(2): returns the number of messages.
///
/// # Errors
/// As recvmmsg(2): of the first message only.
///
/// # Safety
/// `count` headers stand at `messages`, each as for [`receive`]; `timeout` is null or valid.
pub unsafe fn receive_many(
    socket: SocketRef,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *const timespec,
) -> Result<c_int> {
    // SAFETY: the caller's promise.
    let end = match unsafe { timeout.as_ref() } {
        None => None,
        Some(time) => Some(Instant::now() + duration(time)?),
    };
    let wait_for_one = flags & libc::MSG_WAITFORONE != 0;
    let mut flags = flags & !libc::MSG_WAITFORONE;
    // SAFETY: the caller's promise.
    unsafe {
        each(messages, count, |entry| {
            let n = receive(socket, &raw mut entry.msg_hdr, flags)?;
            entry.msg_len = n as c_uint;
            if wait_for_one {
                flags |= libc::MSG_DONTWAIT;
            }
            // As the kernel: the time is looked at between messages only.
            Ok(end.is_none_or(|end| Instant::now() < end))
        })
    }
}

/// sendmmsg(2): returns the number of messages.
///
/// # Errors
/// As sendmmsg(2): of the first message only.
///
/// # Safety
/// `count` headers stand at `messages`, each as for [`send`].
pub unsafe fn send_many(
    fd: RawFd,
    socket: SocketRef,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
) -> Result<c_int> {
    // SAFETY: the caller's promise.
    unsafe {
        each(messages, count, |entry| {
            let wanted = buffers(&entry.msg_hdr)?.left();
            let n = send(fd, socket, &raw const entry.msg_hdr, flags)?;
            entry.msg_len = n as c_uint;
            Ok(n == wanted)
        })
    }
}

/// Calls `one` for each message while it says so, and returns how many there were.
///
/// # Safety
/// `count` headers stand at `messages`.
unsafe fn each(
    messages: *mut mmsghdr,
    count: c_uint,
    mut one: impl FnMut(&mut mmsghdr) -> Result<bool>,
) -> Result<c_int> {
    let count = (count as usize).min(IOV_MAX);
    if messages.is_null() && count > 0 {
        return Err(Errno(libc::EFAULT));
    }
    for done in 0..count {
        // SAFETY: the caller's promise.
        let entry = unsafe { &mut *messages.add(done) };
        match one(entry) {
            Ok(true) => {}
            Ok(false) => return Ok(done as c_int + 1),
            Err(error) if done == 0 => return Err(error),
            Err(_) => return Ok(done as c_int),
        }
    }
    Ok(count as c_int)
}

fn duration(time: &timespec) -> Result<Duration> {
    match (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec)) {
        // A time beyond the clock's end never comes; a year is as good.
        (Ok(seconds), Ok(nanos @ 0..1_000_000_000)) => {
            Ok(Duration::new(seconds.min(31_536_000), nanos))
        }
        _ => Err(Errno(libc::EINVAL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{engine, established};

    fn header(bytes: &mut [u8], vector: &mut libc::iovec) -> msghdr {
        *vector = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: zero is a valid header.
        let mut header: msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        header
    }

    fn empty() -> libc::iovec {
        libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }
    }

    #[test]
    fn a_received_message_has_no_address_and_no_control_data() {
        let socket = established();
        engine().receive(socket, b"hello");
        let (mut bytes, mut vector) = ([0u8; 9], empty());
        let mut name = [0u8; 16];
        let mut header = header(&mut bytes, &mut vector);
        (header.msg_name, header.msg_namelen) = (name.as_mut_ptr().cast(), 16);
        header.msg_flags = -1;
        // SAFETY: the header and what it points to live through the call.
        let n = unsafe { receive(socket, &raw mut header, 0) };
        assert_eq!(n, Ok(5));
        assert_eq!((header.msg_namelen, header.msg_controllen), (0, 0));
        assert_eq!(header.msg_flags, 0);
        assert_eq!(&bytes[..5], b"hello");
    }

    #[test]
    fn bytes_left_to_read_are_told_to_who_asked() {
        let socket = established();
        engine().receive(socket, b"hello");
        crate::socket::options::set(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_INQ,
            &1i32.to_ne_bytes(),
        )
        .unwrap();
        let (mut bytes, mut vector) = ([0u8; 2], empty());
        let mut control = [0u64; 8];
        let mut header = header(&mut bytes, &mut vector);
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control);
        // SAFETY: the header and what it points to live through the calls.
        unsafe {
            assert_eq!(receive(socket, &raw mut header, 0), Ok(2));
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            assert_eq!(header.msg_controllen, libc::CMSG_SPACE(4) as usize);
            assert_eq!((*first).cmsg_type, libc::TCP_INQ);
            assert_eq!(*libc::CMSG_DATA(first).cast::<c_int>(), 3);
            header.msg_controllen = 4;
            assert_eq!(receive(socket, &raw mut header, 0), Ok(2));
        }
        assert_eq!(header.msg_controllen, 0);
        assert_ne!(header.msg_flags & libc::MSG_CTRUNC, 0);
    }

    #[test]
    fn several_messages_are_cut_from_the_stream_until_it_is_empty() {
        let socket = established();
        engine().receive(socket, b"abcdef");
        let mut bytes = [[0u8; 4]; 3];
        let mut vectors = [empty(), empty(), empty()];
        let mut messages: Vec<mmsghdr> = bytes
            .iter_mut()
            .zip(&mut vectors)
            .map(|(bytes, vector)| mmsghdr {
                msg_hdr: header(bytes, vector),
                msg_len: 0,
            })
            .collect();
        let at = messages.as_mut_ptr();
        let flags = libc::MSG_WAITFORONE;
        // SAFETY: three headers, which live through the calls.
        unsafe {
            assert_eq!(receive_many(socket, at, 3, flags, std::ptr::null()), Ok(2));
            let again = receive_many(socket, at, 3, libc::MSG_DONTWAIT, std::ptr::null());
            assert_eq!(again, Err(Errno(libc::EAGAIN)));
            let never = timespec {
                tv_sec: 0,
                tv_nsec: -1,
            };
            let bad = receive_many(socket, at, 3, flags, &raw const never);
            assert_eq!(bad, Err(Errno(libc::EINVAL)));
        }
        assert_eq!(messages[0].msg_len, 4);
        assert_eq!(messages[1].msg_len, 2);
        // SAFETY: as above.
        unsafe {
            assert_eq!(send_many(-1, socket, messages.as_mut_ptr(), 2, 0), Ok(2));
            assert_eq!(send_many(-1, socket, std::ptr::null_mut(), 0, 0), Ok(0));
        }
        assert_eq!(engine().sent(socket), b"abcdef\0\0");
    }

    #[test]
    fn a_header_that_is_none_is_refused() {
        let socket = established();
        // SAFETY: null is refused, and so is a vector that is too long.
        unsafe {
            let null = receive(socket, std::ptr::null_mut(), 0);
            assert_eq!(null, Err(Errno(libc::EFAULT)));
            let mut vector = empty();
            let mut header = header(&mut [], &mut vector);
            header.msg_iovlen = IOV_MAX + 1;
            let long = send(-1, socket, &raw const header, 0);
            assert_eq!(long, Err(Errno(libc::EMSGSIZE)));
        }
    }
}
