//! Receiving: read(2), recv(2) and their kin.

#![allow(unsafe_code)]

use super::buffers::Buffers;
use super::{SocketRef, fast_open, urgent, would_block};
use crate::errno::{Errno, Result};
use crate::wait;
use context::command::Op;
use context::socket::{flag, state};
use std::ffi::c_int;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Receives into `buffers` and returns how many bytes came; 0 is the end of the stream.
///
/// # Errors
/// As recv(2).
pub fn receive(socket: SocketRef, buffers: &mut Buffers<'_>, flags: c_int) -> Result<usize> {
    if flags & libc::MSG_ERRQUEUE != 0 {
        // TCP queues errors only for those who asked for them (IP_RECVERR).
        return Err(Errno(libc::EAGAIN));
    }
    if socket.is_listening() {
        return Err(Errno(libc::ENOTCONN));
    }
    if flags & libc::MSG_OOB != 0 {
        return urgent::receive(socket, buffers, flags);
    }
    let len = buffers.left();
    let target = target(socket, len, flags);
    let peek = flags & libc::MSG_PEEK != 0;
    let mut got = 0;
    loop {
        let taken = take(socket, buffers, flags, len - if peek { 0 } else { got })?;
        got = if peek { taken.bytes } else { got + taken.bytes };
        // What a peek has seen still stands at the front of the stream.
        let seen = if peek { taken.passed } else { 0 };
        if got > 0 && socket.record().urgent_mark() == Some(seen) {
            // A call does not read across the mark.
            return Ok(got);
        }
        if got >= target || len == 0 && socket.record().readable() > seen {
            return Ok(got);
        }
        if got == 0 {
            if !wait_for_first(socket, seen, flags)? {
                return Ok(0);
            }
        } else if is_ended(socket)
            || socket.is_nonblocking(flags)
            || !matches!(wait_for_more(socket, seen), Ok(true))
        {
            return Ok(got);
        }
    }
}

/// Waits for a call that has got nothing yet until more than `seen` bytes can be read; false at the
/// end of the stream.
///
/// # Errors
/// As recv(2).
pub fn wait_for_first(socket: SocketRef, seen: u64, flags: c_int) -> Result<bool> {
    if let Some(end) = end(socket, seen) {
        return end.map(|()| false);
    }
    fast_open::launch(socket)?;
    if socket.is_nonblocking(flags) {
        return would_block(libc::EAGAIN);
    }
    match wait_for_more(socket, seen) {
        Ok(true) => Ok(true),
        Ok(false) => Err(Errno(libc::EAGAIN)),
        Err(Errno(libc::ENETDOWN)) => Err(Errno(libc::ECONNABORTED)),
        Err(error) => Err(error),
    }
}

/// How many bytes a blocking call waits for.
fn target(socket: SocketRef, len: usize, flags: c_int) -> usize {
    let least = if flags & libc::MSG_WAITALL != 0 {
        len
    } else {
        let low = socket.record().options.receive_low.load(Ordering::Relaxed);
        len.min(low as usize)
    };
    least.max(1)
}

/// What came of reading once.
#[derive(Default)]
struct Taken {
    /// Bytes read.
    bytes: usize,
    /// Bytes of the stream that they span: an urgent byte before them is passed over.
    passed: u64,
}

/// Takes what is there.
fn take(socket: SocketRef, buffers: &mut Buffers<'_>, flags: c_int, len: usize) -> Result<Taken> {
    // Whoever has the lock can only take away from nothing.
    if socket.record().readable() == 0 {
        let is_open = socket.is_current() && socket.flags() & flag::CLOSED == 0;
        return is_open.then(Taken::default).ok_or(Errno(libc::EBADF));
    }
    let peek = flags & libc::MSG_PEEK != 0;
    let mut reader = socket.reader(!socket.is_nonblocking(flags))?;
    if reader.available() == 0 {
        return Ok(Taken::default());
    }
    let (len, skip) = urgent::before_mark(socket, len as u64);
    let mut skipped = 0;
    // With MSG_TRUNC, TCP throws the bytes away (tcp(7)).
    let discard = flags & libc::MSG_TRUNC != 0;
    let mut again = buffers.again();
    let passed = reader.read(len + skip, peek, |from, n| {
        let over = (skip - skipped).min(n as u64) as usize;
        skipped += over as u64;
        if !discard {
            // SAFETY: the piece lies in the segment, apart from the program's buffers.
            unsafe { again.fill(from.add(over), n - over) };
        }
    });
    let bytes = (passed - skipped) as usize;
    if !peek {
        if discard {
            again.skip(bytes);
        }
        *buffers = again;
    }
    let must_notify = !peek && passed > 0 && reader.must_notify();
    let _section = reader.unlock();
    if must_notify {
        socket.tell(Op::Consumed, 0)?;
    }
    Ok(Taken { bytes, passed })
}

/// Whether no more will come.
fn is_ended(socket: SocketRef) -> bool {
    socket.record().engine.error.load(Ordering::Acquire) != 0
        || socket.state_bits() & state::RX_SHUT != 0
        || socket.flags() & flag::SHUT_RD != 0
}

/// What a call gets that finds nothing to read behind the `seen` bytes: the end or an error; `None`: it
/// may wait.
pub fn end(socket: SocketRef, seen: u64) -> Option<Result<()>> {
    if !is_ended(socket) {
        let is_connecting = socket.flags() & flag::CONNECTING != 0;
        let is_closed = socket.tcp_state() == state::CLOSE && !is_connecting;
        // A connection that was made just now is no longer in this state, and one that has ended just
        // now has ended.
        let is_none = is_closed && !is_ended(socket);
        return is_none.then_some(Err(Errno(libc::ENOTCONN)));
    }
    // The engine appends data before it says that nothing more will come. What it says from here on
    // may have data before it that was not looked for.
    if socket.record().readable() > seen {
        return None;
    }
    if socket.state_bits() & state::PEER_CLOSED != 0 {
        return Some(Ok(()));
    }
    match socket.take_error() {
        0 => Some(Ok(())),
        error => Some(Err(Errno(error))),
    }
}

/// Waits until more than `seen` bytes can be read, or never will. False if the time is up.
fn wait_for_more(socket: SocketRef, seen: u64) -> Result<bool> {
    let timeout = &socket.record().options.receive_timeout;
    let timeout = timeout.load(Ordering::Relaxed);
    let timeout = (timeout > 0).then(|| Duration::from_micros(timeout));
    let more = || (socket.record().readable() > seen || is_ended(socket)).then_some(());
    Ok(wait::until(socket, timeout, more)?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{commands, engine, established, fresh, when_waiting};
    use crate::thread;
    use std::sync::atomic::AtomicU32;

    fn recv(socket: SocketRef, len: usize, flags: c_int) -> std::result::Result<Vec<u8>, c_int> {
        let mut bytes = vec![0xee; len];
        // SAFETY: the buffer lives through the call.
        let mut buffers = unsafe { Buffers::one(bytes.as_mut_ptr().cast(), len) }.unwrap();
        let n = receive(socket, &mut buffers, flags).map_err(|e| e.0)?;
        bytes.truncate(n);
        Ok(bytes)
    }

    #[test]
    fn data_comes_before_the_error_and_the_error_before_the_end() {
        let socket = established();
        engine().receive(socket, b"last words");
        engine().fail(socket, libc::ECONNRESET);
        assert_eq!(recv(socket, 4, 0).unwrap(), b"last");
        assert_eq!(recv(socket, 100, 0).unwrap(), b" words");
        assert_eq!(recv(socket, 100, 0), Err(libc::ECONNRESET));
        assert_eq!(recv(socket, 100, 0).unwrap(), b"");
    }

    #[test]
    fn what_comes_behind_the_peers_end_is_no_matter_of_who_reads() {
        let socket = established();
        engine().receive(socket, b"last words");
        let bits = &socket.record().engine.state;
        bits.fetch_or(state::RX_SHUT | state::PEER_CLOSED, Ordering::SeqCst);
        engine().fail(socket, libc::EPIPE);
        assert_eq!(recv(socket, 100, 0).unwrap(), b"last words");
        assert_eq!(recv(socket, 100, 0).unwrap(), b"");
        assert_eq!(socket.take_error(), libc::EPIPE);
    }

    #[test]
    fn the_end_is_never_seen_before_the_data() {
        const ROUNDS: u32 = 20_000;
        let socket = established();
        let ended = state::RX_SHUT | state::PEER_CLOSED;
        let done = AtomicU32::new(0);
        let mut wrong = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    while done.load(Ordering::SeqCst) < round {
                        std::thread::yield_now();
                    }
                    engine().receive(socket, b"last");
                    engine().add_state(socket, ended);
                }
            });
            for round in 1..=ROUNDS {
                let first = std::iter::repeat_with(|| recv(socket, 9, libc::MSG_DONTWAIT))
                    .find(|got| *got != Err(libc::EAGAIN));
                while socket.state_bits() & ended != ended {
                    std::thread::yield_now();
                }
                let bits = &socket.record().engine.state;
                bits.fetch_and(!ended, Ordering::SeqCst);
                done.store(round, Ordering::SeqCst);
                wrong += u32::from(first.unwrap() != Ok(b"last".to_vec()));
            }
        });
        assert_eq!(wrong, 0, "of {ROUNDS}");
    }

    #[test]
    fn a_peek_leaves_the_data() {
        let socket = established();
        engine().receive(socket, b"abc");
        assert_eq!(recv(socket, 2, libc::MSG_PEEK).unwrap(), b"ab");
        assert_eq!(recv(socket, 9, libc::MSG_PEEK).unwrap(), b"abc");
        assert_eq!(recv(socket, 9, 0).unwrap(), b"abc");
    }

    #[test]
    fn truncation_throws_data_away() {
        let socket = established();
        engine().receive(socket, b"abcdef");
        let got = recv(socket, 4, libc::MSG_TRUNC).unwrap();
        assert_eq!(got, [0xee; 4], "the buffer is not touched");
        assert_eq!(recv(socket, 4, 0).unwrap(), b"ef");
    }

    #[test]
    fn an_empty_stream_blocks_or_says_so() {
        let socket = established();
        assert_eq!(recv(socket, 1, libc::MSG_DONTWAIT), Err(libc::EAGAIN));
        let file_flags = &socket.record().app.file_flags;
        file_flags.store(libc::O_NONBLOCK as u32, Ordering::Relaxed);
        assert_eq!(recv(socket, 1, 0), Err(libc::EAGAIN));
        file_flags.store(0, Ordering::Relaxed);
        let arrive = || engine().receive(socket, b"late");
        let got = when_waiting(socket, arrive, || recv(socket, 9, 0));
        assert_eq!(got.unwrap(), b"late");
    }

    #[test]
    fn a_timeout_ends_the_wait() {
        let socket = established();
        let timeout = &socket.record().options.receive_timeout;
        timeout.store(1000, Ordering::Relaxed);
        assert_eq!(recv(socket, 1, 0), Err(libc::EAGAIN));
    }

    #[test]
    fn waitall_waits_for_all_or_the_end() {
        let socket = established();
        engine().receive(socket, b"ab");
        let arrive = || engine().receive(socket, b"cd");
        let got = when_waiting(socket, arrive, || recv(socket, 4, libc::MSG_WAITALL));
        assert_eq!(got.unwrap(), b"abcd");
        engine().receive(socket, b"ef");
        engine().add_state(socket, state::RX_SHUT);
        assert_eq!(recv(socket, 4, libc::MSG_WAITALL).unwrap(), b"ef");
        assert_eq!(recv(socket, 4, libc::MSG_WAITALL).unwrap(), b"");
    }

    #[test]
    fn a_low_water_mark_is_waited_for() {
        let socket = established();
        socket
            .record()
            .options
            .receive_low
            .store(4, Ordering::Relaxed);
        engine().receive(socket, b"abc");
        assert_eq!(recv(socket, 9, libc::MSG_DONTWAIT).unwrap(), b"abc");
        engine().receive(socket, b"abc");
        let arrive = || engine().receive(socket, b"d");
        let got = when_waiting(socket, arrive, || recv(socket, 9, 0));
        assert_eq!(got.unwrap(), b"abcd");
    }

    #[test]
    fn the_end_of_the_stream_is_a_zero() {
        let socket = established();
        engine().add_state(socket, state::RX_SHUT);
        assert_eq!(recv(socket, 9, 0).unwrap(), b"");
        let socket = established();
        socket
            .record()
            .app
            .flags
            .fetch_or(flag::SHUT_RD, Ordering::SeqCst);
        assert_eq!(recv(socket, 9, 0).unwrap(), b"");
    }

    #[test]
    fn flags_that_ask_for_what_is_not_there_fail_as_on_the_kernel() {
        let socket = established();
        assert_eq!(recv(socket, 1, libc::MSG_OOB), Err(libc::EINVAL));
        assert_eq!(recv(socket, 1, libc::MSG_ERRQUEUE), Err(libc::EAGAIN));
        assert_eq!(recv(fresh(), 1, 0), Err(libc::ENOTCONN));
        let listener = established();
        let state = &engine().record(listener.index).engine.state;
        state.store(state::LISTEN, Ordering::SeqCst);
        assert_eq!(recv(listener, 1, 0), Err(libc::ENOTCONN));
    }

    #[test]
    fn the_engine_is_told_once_when_it_waits_for_it() {
        let socket = established();
        commands();
        engine().receive(socket, &[1; 100]);
        let notify_at = &engine().record(socket.index).engine.rx_notify_at;
        notify_at.store(50, Ordering::SeqCst);
        recv(socket, 49, 0).unwrap();
        assert_eq!(commands(), []);
        recv(socket, 1, 0).unwrap();
        recv(socket, 1, 0).unwrap();
        assert_eq!(commands(), [socket.command(Op::Consumed, 0)]);
        assert!(thread::id() != 0);
    }
}
