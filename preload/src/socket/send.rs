//! Sending: write(2), send(2) and their kin.

#![allow(unsafe_code)]

use super::buffers::Buffers;
use super::{SocketRef, fast_open, urgent, would_block};
use crate::errno::{Errno, Result};
use crate::{real, thread, wait};
#[cfg(test)]
use context::chunk::Class;
use context::command::Op;
use context::socket::{flag, state};
use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a worker is given to grant chunks, before the call behaves as if there were no room.
const GRANT_PATIENCE: Duration = Duration::from_millis(2);
/// A pause between two looks at the granted chunks.
const PAUSE: Duration = Duration::from_micros(50);

/// Sends `buffers` and returns how many bytes were taken.
///
/// # Errors
/// As send(2). With `EPIPE`, the thread gets `SIGPIPE` unless `MSG_NOSIGNAL` is given.
pub fn send(socket: SocketRef, buffers: &mut Buffers<'_>, flags: c_int) -> Result<usize> {
    let len = buffers.left();
    send_from(socket, len, flags, |to, n| {
        // SAFETY: the piece lies in the segment, apart from the program's buffers.
        unsafe { buffers.drain(to, n) }
    })
}

/// Sends `len` bytes that `source` writes straight into the stream, piece by piece: it is given a
/// place and its length, and says how many bytes it wrote. Fewer than asked for end the call.
///
/// # Errors
/// As send(2).
pub fn send_from(
    socket: SocketRef,
    len: usize,
    flags: c_int,
    mut source: impl FnMut(*mut u8, usize) -> usize,
) -> Result<usize> {
    let mut sent = 0;
    let result = send_all(socket, len, flags, &mut source, &mut sent);
    match result {
        Ok(()) => Ok(sent),
        Err(_) if sent > 0 => Ok(sent),
        Err(Errno(libc::ENETDOWN)) => Err(broken_pipe(socket, flags)),
        Err(Errno(libc::EPIPE)) => Err(broken_pipe(socket, flags)),
        Err(error) => Err(error),
    }
}

fn send_all(
    socket: SocketRef,
    len: usize,
    flags: c_int,
    source: &mut impl FnMut(*mut u8, usize) -> usize,
    sent: &mut usize,
) -> Result<()> {
    let deadline = Deadline::new(socket);
    let ran_dry = Cell::new(false);
    let mut source = |to, n| {
        let got = source(to, n);
        ran_dry.set(ran_dry.get() || got < n);
        got
    };
    if socket.flags() & flag::DEFERRED != 0 {
        let early = append(socket, len, flags, &mut source)?;
        let ends_record = flags & libc::MSG_EOR != 0 && early == len && len > 0;
        fast_open::connect_with(socket, early, ends_record, flags, sent)?;
    }
    wait_until_connected(socket, flags, &deadline)?;
    let mut may_wait_for_chunks = true;
    loop {
        if is_shut(socket) {
            return Err(Errno(libc::EPIPE));
        }
        let n = append(socket, len - *sent, flags, &mut source)?;
        *sent += n;
        if *sent >= len || ran_dry.get() {
            return Ok(());
        }
        if n > 0 {
            may_wait_for_chunks = true;
        }
        let is_nonblocking = socket.is_nonblocking(flags);
        if socket.record().writable() > 0 {
            // There is room, but no chunk.
            if may_wait_for_chunks && wait_for_chunks(socket)? {
                may_wait_for_chunks = n > 0;
                continue;
            }
            want_memory(socket, flags)?;
            if is_nonblocking {
                return would_block(libc::EAGAIN);
            }
            wait_for_memory(socket, &deadline)?;
            may_wait_for_chunks = true;
            continue;
        }
        if want_room(socket, flags)? {
            continue;
        }
        if is_nonblocking {
            return would_block(libc::EAGAIN);
        }
        wait_for_room(socket, &deadline)?;
    }
}

/// As tcp(7): a socket that is connecting makes the writer wait, any other that is not connected is a
/// broken pipe.
fn wait_until_connected(socket: SocketRef, flags: c_int, deadline: &Deadline) -> Result<()> {
    loop {
        match socket.tcp_state() {
            state::SYN_SENT | state::SYN_RECV => {}
            state::CLOSE if socket.flags() & flag::CONNECTING != 0 && !is_shut(socket) => {}
            state::CLOSE | state::LISTEN => return Err(Errno(libc::EPIPE)),
            _ => return Ok(()),
        }
        if socket.is_nonblocking(flags) {
            return would_block(libc::EAGAIN);
        }
        let before = socket.state_bits();
        let changed = || (socket.state_bits() != before || is_shut(socket)).then_some(());
        deadline.wait(socket, changed)?;
    }
}

/// Whether nothing more may be sent, or an error waits to be told.
fn is_shut(socket: SocketRef) -> bool {
    socket.record().engine.error.load(Ordering::Acquire) != 0
        || socket.state_bits() & state::TX_SHUT != 0
        || socket.flags() & flag::SHUT_WR != 0
}

/// Appends what there is room for.
fn append(
    socket: SocketRef,
    len: usize,
    flags: c_int,
    source: &mut impl FnMut(*mut u8, usize) -> usize,
) -> Result<usize> {
    if len == 0 {
        return Ok(0);
    }
    let worker = socket.worker();
    let mut writer = socket.writer(!socket.is_nonblocking(flags))?;
    // Under the lock: `shutdown` takes it, and nothing is sent behind its FIN.
    if is_shut(socket) {
        return Err(Errno(libc::EPIPE));
    }
    if flags & libc::MSG_OOB != 0 {
        urgent::announce(socket, writer.room().min(len as u64));
    }
    let n = writer.write(
        len as u64,
        |class| thread::with_thread(|thread| thread.chunk(worker, class)).ok()?,
        source,
    );
    if n > 0 {
        writer.set_more(flags & libc::MSG_MORE != 0);
    }
    if flags & libc::MSG_OOB != 0 {
        urgent::announce(socket, 0);
    }
    // Before there is a connection, the engine looks when it is asked for one.
    let is_early = socket.tcp_state() == state::CLOSE;
    // Before the engine looks, so that it knows what holds the connection back.
    if n < len as u64 && writer.room() == 0 {
        writer.want_room();
    }
    let must_notify = n > 0 && !is_early && writer.must_notify();
    let ends_record = flags & libc::MSG_EOR != 0 && n == len as u64 && !is_early;
    let record = if ends_record { writer.end() } else { 0 };
    let _section = writer.unlock();
    if must_notify || ends_record {
        socket.tell(Op::Send, record)?;
    }
    Ok(n as usize)
}

/// Asks for chunks and gives the worker a moment. Whether some are there.
fn wait_for_chunks(socket: SocketRef) -> Result<bool> {
    let worker = socket.worker();
    let segment = &socket.process().segment;
    let context = thread::with_thread(|thread| {
        thread.refill(worker);
        thread.context()
    })?;
    let has_chunks = || {
        segment.lane(context, worker).is_some_and(|lane| {
            !(lane.small.is_empty() && lane.medium.is_empty() && lane.large.is_empty())
        })
    };
    let end = Instant::now() + GRANT_PATIENCE;
    while Instant::now() < end {
        if has_chunks() {
            return Ok(true);
        }
        real::sleep(PAUSE);
    }
    Ok(has_chunks())
}

/// Asks for an edge once there is room. Whether there is some already.
fn want_room(socket: SocketRef, flags: c_int) -> Result<bool> {
    let waits = !socket.is_nonblocking(flags);
    socket.writer(waits)?.want_room();
    Ok(socket.record().has_room() || is_shut(socket))
}

fn wait_for_room(socket: SocketRef, deadline: &Deadline) -> Result<()> {
    let room = || (socket.record().has_room() || is_shut(socket)).then_some(());
    deadline.wait(socket, room)
}

/// Has the engine raise an edge once it has memory for this writer. No acknowledgement may come to do
/// so: the writer queues for it.
fn want_memory(socket: SocketRef, flags: c_int) -> Result<()> {
    socket.record().app.starved.fetch_add(1, Ordering::Release);
    want_room(socket, flags)?;
    socket.tell(Op::Send, 0)
}

/// Waits until the engine has served this writer, which takes its wish for room away.
fn wait_for_memory(socket: SocketRef, deadline: &Deadline) -> Result<()> {
    let served = || (socket.flags() & flag::NOSPACE == 0 || is_shut(socket)).then_some(());
    deadline.wait(socket, served)
}

/// When a blocking send gives up (`SO_SNDTIMEO`).
struct Deadline(Option<Instant>);

impl Deadline {
    fn new(socket: SocketRef) -> Deadline {
        let timeout = socket.record().options.send_timeout.load(Ordering::Relaxed);
        let after = |timeout| Instant::now().checked_add(Duration::from_micros(timeout));
        Deadline((timeout > 0).then(|| after(timeout)).flatten())
    }

    fn wait(&self, socket: SocketRef, check: impl FnMut() -> Option<()>) -> Result<()> {
        let left = self
            .0
            .map(|end| end.saturating_duration_since(Instant::now()));
        match wait::until(socket, left, check)? {
            Some(()) => Ok(()),
            None => Err(Errno(libc::EAGAIN)),
        }
    }
}

/// The pending error if there is one, else `EPIPE` with its signal.
fn broken_pipe(socket: SocketRef, flags: c_int) -> Errno {
    match socket.take_error() {
        0 => {
            if flags & libc::MSG_NOSIGNAL == 0 {
                real::raise(libc::SIGPIPE);
            }
            Errno(libc::EPIPE)
        }
        error => Errno(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::connect;
    use crate::testing::{TX_LIMIT, commands, engine, established, fresh, when_waiting};
    use std::sync::atomic::Ordering::SeqCst;

    fn write(socket: SocketRef, bytes: &[u8], flags: c_int) -> std::result::Result<usize, c_int> {
        let flags = flags | libc::MSG_NOSIGNAL;
        // SAFETY: the bytes live through the call.
        let mut buffers = unsafe { Buffers::one(bytes.as_ptr().cast(), bytes.len()) }.unwrap();
        send(socket, &mut buffers, flags).map_err(|e| e.0)
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 % 251) as u8).collect()
    }

    #[test]
    fn bytes_arrive_in_order_and_the_engine_is_told_once() {
        let socket = established();
        commands();
        let bytes = pattern(5000);
        assert_eq!(write(socket, &bytes[..3000], 0), Ok(3000));
        assert_eq!(write(socket, &bytes[3000..], 0), Ok(2000));
        assert_eq!(commands(), [socket.command(Op::Send, 0)]);
        assert_eq!(engine().sent(socket), bytes);
        assert_eq!(write(socket, b"more", 0), Ok(4));
        assert_eq!(commands(), [socket.command(Op::Send, 0)]);
    }

    #[test]
    fn a_full_stream_takes_part_and_then_nothing() {
        let socket = established();
        let limit = TX_LIMIT as usize;
        let bytes = pattern(limit + 100);
        assert_eq!(write(socket, &bytes, libc::MSG_DONTWAIT), Ok(limit));
        assert_ne!(socket.flags() & flag::NOSPACE, 0, "an edge is asked for");
        assert_eq!(write(socket, b"x", libc::MSG_DONTWAIT), Err(libc::EAGAIN));
    }

    #[test]
    fn a_blocking_send_takes_all() {
        let socket = established();
        let bytes = pattern(3 * TX_LIMIT as usize);
        let mut arrived = Vec::new();
        std::thread::scope(|s| {
            let sender = s.spawn(|| write(socket, &bytes, 0));
            while arrived.len() < bytes.len() {
                arrived.extend(engine().sent(socket));
                std::thread::yield_now();
            }
            assert_eq!(sender.join().unwrap(), Ok(bytes.len()));
        });
        assert_eq!(arrived, bytes);
    }

    #[test]
    fn a_timeout_leaves_what_was_taken() {
        let socket = established();
        let timeout = &socket.record().options.send_timeout;
        timeout.store(1000, Ordering::Relaxed);
        let bytes = pattern(TX_LIMIT as usize + 1);
        assert_eq!(write(socket, &bytes, 0), Ok(TX_LIMIT as usize));
        assert_eq!(write(socket, &bytes, 0), Err(libc::EAGAIN));
    }

    #[test]
    fn a_pending_error_comes_before_the_broken_pipe() {
        let socket = established();
        engine().fail(socket, libc::ECONNRESET);
        assert_eq!(write(socket, b"x", 0), Err(libc::ECONNRESET));
        assert_eq!(write(socket, b"x", 0), Err(libc::EPIPE));
    }

    #[test]
    fn nothing_is_sent_after_shutdown() {
        let socket = established();
        connect::shutdown(-1, socket, libc::SHUT_WR).unwrap();
        assert_eq!(write(socket, b"x", 0), Err(libc::EPIPE));
        assert_eq!(write(socket, b"", 0), Err(libc::EPIPE));
    }

    #[test]
    fn what_is_not_connected_is_a_broken_pipe_or_waits() {
        let socket = fresh();
        assert_eq!(write(socket, b"x", 0), Err(libc::EPIPE));
        socket
            .record()
            .app
            .flags
            .fetch_or(flag::CONNECTING, Ordering::SeqCst);
        assert_eq!(write(socket, b"x", libc::MSG_DONTWAIT), Err(libc::EAGAIN));
        std::thread::scope(|s| {
            s.spawn(|| {
                while socket.record().app.waiters.load(Ordering::SeqCst) == 0 {
                    std::thread::yield_now();
                }
                engine().establish(socket);
            });
            assert_eq!(write(socket, b"x", 0), Ok(1));
        });
    }

    #[test]
    fn urgent_data_is_marked_where_it_ends() {
        let socket = established();
        assert_eq!(write(socket, b"abc", 0), Ok(3));
        assert_eq!(socket.flags() & flag::URGENT, 0);
        assert_eq!(write(socket, b"de", libc::MSG_OOB), Ok(2));
        assert_ne!(socket.flags() & flag::URGENT, 0);
        let sent = || socket.record().app.urgent.sent.load(Ordering::Relaxed);
        assert_eq!(sent(), 5);
        assert_eq!(write(socket, b"f", 0), Ok(1));
        assert_eq!(sent(), 5);
    }

    #[test]
    fn a_source_that_runs_dry_ends_the_call() {
        let socket = established();
        let sent = send_from(socket, 100, 0, |_, n| n.min(10));
        assert_eq!(sent, Ok(10));
    }

    #[test]
    fn the_engine_is_told_where_each_record_ends() {
        let socket = established();
        commands();
        write(socket, b"one", libc::MSG_EOR).unwrap();
        write(socket, b"and", 0).unwrap();
        write(socket, b"two", libc::MSG_EOR).unwrap();
        let told = [3, 9].map(|end| socket.command(Op::Send, end));
        assert_eq!(commands(), told);
    }

    #[test]
    fn more_to_come_is_noted_and_forgotten() {
        let socket = established();
        write(socket, b"x", libc::MSG_MORE).unwrap();
        assert_ne!(socket.flags() & flag::MORE, 0);
        write(socket, b"x", 0).unwrap();
        assert_eq!(socket.flags() & flag::MORE, 0);
    }

    /// Uses up what this thread was granted: the fake engine grants only when a context is made.
    fn exhaust(socket: SocketRef) -> u32 {
        let exhaust = |thread: &mut thread::Thread| {
            for class in Class::ALL {
                while thread.chunk(socket.worker(), class).is_some() {}
            }
            thread.context()
        };
        thread::with_thread(exhaust).unwrap()
    }

    #[test]
    fn without_chunks_a_blocking_call_queues_and_goes_on_once_it_is_served() {
        let socket = established();
        let bytes = pattern(TX_LIMIT as usize);
        let context = exhaust(socket);
        commands();
        let serve = || {
            engine().grant(context);
            let before = socket.record().app.flags.fetch_and(!flag::NOSPACE, SeqCst);
            assert_ne!(before & flag::NOSPACE, 0, "an edge is asked for");
            socket.record().wake_waiters();
        };
        let taken = when_waiting(socket, serve, || write(socket, &bytes, 0));
        assert_eq!(taken, Ok(bytes.len()));
        assert!(
            commands().contains(&socket.command(Op::Send, 0)),
            "it queues"
        );
        assert_eq!(engine().sent(socket), bytes);
    }

    #[test]
    fn without_chunks_a_call_that_must_not_block_says_so() {
        let socket = established();
        let bytes = pattern(TX_LIMIT as usize);
        let context = exhaust(socket);
        assert_eq!(write(socket, &bytes, libc::MSG_DONTWAIT), Err(libc::EAGAIN));
        engine().grant(context);
        assert_eq!(write(socket, &bytes, libc::MSG_DONTWAIT), Ok(bytes.len()));
    }
}
