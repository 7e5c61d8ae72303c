//! Urgent data, "out of band", as tcp(7) and Linux have it: the last urgent byte lies in the stream
//! behind a mark. Reading stops at the mark once and then, without `SO_OOBINLINE`, passes over the
//! byte, which `MSG_OOB` reads instead.

#![allow(unsafe_code)]

use super::SocketRef;
use super::buffers::Buffers;
use crate::errno::{Errno, Result};
use context::socket::{flag, option, state};
use libc::c_int;
use std::sync::atomic::Ordering;

fn is_inline(socket: SocketRef) -> bool {
    socket.record().options.bits.load(Ordering::Relaxed) & option::OOBINLINE != 0
}

/// Whether the next byte to be read is the urgent one (`SIOCATMARK`).
pub fn is_at_mark(socket: SocketRef) -> bool {
    socket.record().urgent_mark() == Some(0)
}

/// Bytes that can be read up to the mark, or all (`FIONREAD`).
pub fn readable(socket: SocketRef) -> u64 {
    let readable = socket.record().readable();
    match socket.record().urgent_mark() {
        Some(mark) if !is_inline(socket) && mark < readable => mark,
        _ => readable,
    }
}

/// How many of `len` bytes a call may read before the mark, and how many before them it has to pass
/// over. The reading lock is held.
pub fn before_mark(socket: SocketRef, len: u64) -> (u64, u64) {
    match socket.record().urgent_mark() {
        None => (len, 0),
        Some(0) => (len, u64::from(!is_inline(socket))),
        Some(mark) => (len.min(mark), 0),
    }
}

/// The next `len` bytes to be written, or those written just now if it is 0, end with the urgent one.
/// The writing lock is held; the engine must hear of it before it sees the bytes.
pub fn announce(socket: SocketRef, len: u64) {
    let record = socket.record();
    let end = record.app.tx_tail.load(Ordering::Relaxed) + len;
    record.app.urgent.sent.store(end, Ordering::SeqCst);
    record.app.flags.fetch_or(flag::URGENT, Ordering::SeqCst);
}

/// recv(2) with `MSG_OOB`: the urgent byte.
///
/// # Errors
/// As Linux: `EINVAL` if there is none, or it is read in line, or was read; `EAGAIN` if it has not
/// come yet; `ENOTCONN`.
pub fn receive(socket: SocketRef, buffers: &mut Buffers<'_>, flags: c_int) -> Result<usize> {
    let record = socket.record();
    let reader = socket.reader(!socket.is_nonblocking(flags))?;
    let end = record.app.urgent.received.load(Ordering::Acquire);
    let Some(mark) = record.urgent_mark() else {
        return Err(Errno(libc::EINVAL));
    };
    if is_inline(socket) || record.app.urgent.taken.load(Ordering::Relaxed) == end {
        return Err(Errno(libc::EINVAL));
    }
    if mark >= reader.available() {
        let ended = socket.state_bits() & state::RX_SHUT != 0;
        return if ended {
            Ok(0)
        } else {
            Err(Errno(libc::EAGAIN))
        };
    }
    let mut reader = reader;
    let mut passed = 0;
    let wants = buffers.left() > 0;
    let discard = flags & libc::MSG_TRUNC != 0;
    reader.read(mark + 1, true, |from, n| {
        passed += n as u64;
        if passed == mark + 1 && wants && !discard {
            // SAFETY: the last byte of the piece, which lies in the segment, apart from the
            // program's buffers.
            unsafe { buffers.fill(from.add(n - 1), 1) };
        }
    });
    if flags & libc::MSG_PEEK == 0 {
        record.app.urgent.taken.store(end, Ordering::Relaxed);
    }
    Ok(usize::from(wants))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::recv;
    use crate::testing::{engine, established, when_waiting};

    fn read(socket: SocketRef, len: usize, flags: c_int) -> std::result::Result<Vec<u8>, c_int> {
        read_blocking(socket, len, flags | libc::MSG_DONTWAIT)
    }

    fn read_blocking(
        socket: SocketRef,
        len: usize,
        flags: c_int,
    ) -> std::result::Result<Vec<u8>, c_int> {
        let mut bytes = vec![0xee; len];
        // SAFETY: the buffer lives through the call.
        let mut buffers = unsafe { Buffers::one(bytes.as_mut_ptr().cast(), len) }.unwrap();
        let n = recv::receive(socket, &mut buffers, flags).map_err(|e| e.0)?;
        bytes.truncate(n);
        Ok(bytes)
    }

    /// A stream of "abcdef" whose fourth byte is urgent.
    fn marked(inline: bool) -> SocketRef {
        let socket = established();
        if inline {
            let bits = &socket.record().options.bits;
            bits.fetch_or(option::OOBINLINE, Ordering::SeqCst);
        }
        socket
            .record()
            .app
            .urgent
            .received
            .store(4, Ordering::SeqCst);
        engine().add_state(socket, state::URGENT);
        engine().receive(socket, b"abcdef");
        socket
    }

    #[test]
    fn reading_stops_at_the_mark_and_passes_over_the_byte() {
        let socket = marked(false);
        assert_eq!(readable(socket), 3);
        assert_eq!(read(socket, 9, libc::MSG_PEEK).unwrap(), b"abc");
        assert_eq!(read(socket, 9, libc::MSG_WAITALL).unwrap(), b"abc");
        assert!(is_at_mark(socket));
        assert_eq!(read(socket, 9, libc::MSG_PEEK).unwrap(), b"ef");
        assert_eq!(read(socket, 1, 0).unwrap(), b"e");
        assert!(!is_at_mark(socket));
        assert_eq!(read(socket, 9, 0).unwrap(), b"f");
        assert_eq!(read(socket, 1, libc::MSG_OOB), Err(libc::EINVAL));
    }

    #[test]
    fn the_urgent_byte_is_read_out_of_band_once() {
        let socket = marked(false);
        let record = socket.record();
        assert!(record.has_urgent());
        let peek = libc::MSG_OOB | libc::MSG_PEEK;
        assert_eq!(read(socket, 5, peek).unwrap(), b"d");
        assert_eq!(read(socket, 5, libc::MSG_OOB).unwrap(), b"d");
        assert!(!record.has_urgent());
        assert_eq!(read(socket, 5, libc::MSG_OOB), Err(libc::EINVAL));
        assert_eq!(read(socket, 9, 0).unwrap(), b"abc");
        assert_eq!(read(socket, 9, 0).unwrap(), b"ef");
    }

    #[test]
    fn in_line_the_mark_stays_and_the_byte_is_read_with_the_others() {
        let socket = marked(true);
        assert_eq!(readable(socket), 6);
        assert_eq!(read(socket, 1, libc::MSG_OOB), Err(libc::EINVAL));
        assert_eq!(read(socket, 9, 0).unwrap(), b"abc");
        assert!(is_at_mark(socket));
        assert_eq!(read(socket, 9, 0).unwrap(), b"def");
    }

    /// A stream of nothing but an urgent byte.
    fn lone() -> SocketRef {
        let socket = established();
        socket
            .record()
            .app
            .urgent
            .received
            .store(1, Ordering::SeqCst);
        engine().add_state(socket, state::URGENT);
        engine().receive(socket, b"u");
        socket
    }

    #[test]
    fn a_call_that_finds_the_urgent_byte_alone_sleeps_until_more_comes() {
        for flags in [0, libc::MSG_PEEK] {
            let socket = lone();
            let arrive = || engine().receive(socket, b"more");
            let got = when_waiting(socket, arrive, || read_blocking(socket, 9, flags));
            assert_eq!(got.unwrap(), b"more");
        }
    }

    #[test]
    fn a_call_that_finds_the_urgent_byte_before_the_end_tells_of_the_end() {
        for flags in [libc::MSG_PEEK, 0] {
            let socket = lone();
            engine().add_state(socket, state::RX_SHUT);
            assert_eq!(read(socket, 9, flags).unwrap(), b"");
        }
    }

    #[test]
    fn a_peek_that_waits_for_all_stops_at_the_mark() {
        let socket = marked(false);
        let all = libc::MSG_PEEK | libc::MSG_WAITALL;
        assert_eq!(read_blocking(socket, 9, all).unwrap(), b"abc");
    }

    #[test]
    fn an_urgent_byte_that_has_not_come_is_waited_for() {
        let socket = established();
        socket
            .record()
            .app
            .urgent
            .received
            .store(4, Ordering::SeqCst);
        engine().add_state(socket, state::URGENT);
        engine().receive(socket, b"abc");
        assert_eq!(read(socket, 1, libc::MSG_OOB), Err(libc::EAGAIN));
        assert!(!socket.record().has_urgent());
        engine().receive(socket, b"d");
        assert_eq!(read(socket, 1, libc::MSG_OOB).unwrap(), b"d");
    }
}
