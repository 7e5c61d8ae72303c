//! The application's end of a connection's byte streams: reading from and writing into chunks.
//!
//! Positions count bytes from the start of the connection. The engine appends to the receive
//! stream and publishes `rx_tail`; the reader moves `rx_head`. The writer appends to the send
//! stream and publishes `tx_tail`; the engine moves `tx_head` as the peer acknowledges. A stream
//! goes from one chunk to the next through the chunk's link, and starts anew at a chunk named by
//! the *seek* words after its chunks were given back while it was empty.

use crate::chunk::Class;
use crate::lock::Guard;
use crate::socket::{Socket, flag};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::sync::fence;
use crate::{NONE, Segment};

/// Reads the receive stream, with the reading lock held.
pub struct Reader<'a> {
    segment: &'a Segment,
    socket: &'a Socket,
    _guard: Guard<'a>,
}

/// Writes the send stream, with the writing lock held.
pub struct Writer<'a> {
    segment: &'a Segment,
    socket: &'a Socket,
    _guard: Guard<'a>,
}

impl<'a> Reader<'a> {
    /// Takes the reading lock for a [`holder`](crate::lock::holder); `None` if the socket was closed
    /// meanwhile.
    pub fn lock(segment: &'a Segment, socket: &'a Socket, holder: u32) -> Option<Self> {
        Self::new(segment, socket, socket.app.rx_lock.lock(holder))
    }

    /// With the reading lock taken already; `None` if the socket was closed meanwhile.
    #[inline]
    pub fn new(segment: &'a Segment, socket: &'a Socket, guard: Guard<'a>) -> Option<Self> {
        (socket.app.flags.load(Acquire) & flag::CLOSED == 0).then_some(Reader {
            segment,
            socket,
            _guard: guard,
        })
    }

    /// Bytes that can be read now.
    pub fn available(&self) -> u64 {
        self.socket.readable()
    }

    /// Shows up to `len` bytes to `sink`, piece by piece, and takes them off the stream unless
    /// `peek`. Returns how many there were. The pieces are shared memory: copy from them only.
    pub fn read(&mut self, len: u64, peek: bool, mut sink: impl FnMut(*const u8, usize)) -> u64 {
        let (engine, app) = (&self.socket.engine, &self.socket.app);
        let head = app.rx_head.load(Relaxed);
        let available = engine.rx_tail.load(Acquire).saturating_sub(head);
        let end = head + len.min(available);
        let chunks = &self.segment.geometry().chunks;
        let mut chunk = app.rx_chunk.load(Relaxed);
        let mut start = app.rx_chunk_start.load(Relaxed);
        let mut pos = head;
        while pos < end {
            if pos == engine.rx_seek_pos.load(Relaxed) {
                (chunk, start) = (engine.rx_seek_chunk.load(Relaxed), pos);
            }
            let Some(mut size) = chunks.class(chunk).map(Class::size) else {
                break;
            };
            if pos == start + size as u64 {
                let Some(link) = self.segment.link(chunk) else {
                    break;
                };
                (chunk, start) = (link.load(Acquire), pos);
                size = match chunks.class(chunk) {
                    Some(class) => class.size(),
                    None => break,
                };
            }
            let offset = (pos - start) as usize;
            let n = (end - pos).min((size - offset) as u64) as usize;
            let Some(bytes) = self.segment.chunk_bytes(chunk, offset, n) else {
                break;
            };
            sink(bytes, n);
            pos += n as u64;
        }
        if !peek && pos != head {
            app.rx_chunk.store(chunk, Relaxed);
            app.rx_chunk_start.store(start, Relaxed);
            app.rx_head.store(pos, SeqCst);
        }
        pos - head
    }

    /// Whether the engine waits to be told of what was read: send `Consumed` if so.
    pub fn must_notify(&self) -> bool {
        let app = &self.socket.app;
        // These loads must not be done before the store of the cursor.
        app.rx_head.load(Relaxed) >= self.socket.engine.rx_notify_at.load(SeqCst)
            && app.flags.load(SeqCst) & flag::RX_PENDING == 0
            && app.flags.fetch_or(flag::RX_PENDING, SeqCst) & flag::RX_PENDING == 0
    }
}

impl<'a> Writer<'a> {
    /// Takes the writing lock for a [`holder`](crate::lock::holder); `None` if the socket was closed
    /// meanwhile.
    pub fn lock(segment: &'a Segment, socket: &'a Socket, holder: u32) -> Option<Self> {
        Self::new(segment, socket, socket.app.tx_lock.lock(holder))
    }

    /// With the writing lock taken already; `None` if the socket was closed meanwhile.
    #[inline]
    pub fn new(segment: &'a Segment, socket: &'a Socket, guard: Guard<'a>) -> Option<Self> {
        (socket.app.flags.load(Acquire) & flag::CLOSED == 0).then_some(Writer {
            segment,
            socket,
            _guard: guard,
        })
    }

    /// Bytes that can be written now.
    pub fn room(&self) -> u64 {
        self.socket.writable()
    }

    /// Appends up to `len` bytes, no more than there is room for: `source` fills each piece and
    /// says how many bytes it wrote (fewer ends the call). `grant` supplies a fresh chunk, if
    /// possible of the class asked for. Returns how many bytes were appended; fewer than asked for
    /// means no room, no chunk, or a source that ran dry.
    pub fn write(
        &mut self,
        len: u64,
        mut grant: impl FnMut(Class) -> Option<u32>,
        mut source: impl FnMut(*mut u8, usize) -> usize,
    ) -> u64 {
        let app = &self.socket.app;
        let chunks = &self.segment.geometry().chunks;
        let first = app.tx_tail.load(Relaxed);
        let end = first + len.min(self.room());
        let mut pos = first;
        // While it is taken out, the engine does not reclaim it.
        let mut chunk = app.tx_open.swap(NONE, AcqRel);
        let mut start = app.tx_chunk_start.load(Relaxed);
        while pos < end {
            let full = chunks
                .class(chunk)
                .is_some_and(|class| pos == start + class.size() as u64);
            if chunk == NONE || full {
                let buffered = self.socket.unacked() + (pos - first);
                let class = Class::for_growth(buffered as usize, (end - pos) as usize);
                let Some(fresh) = grant(class) else { break };
                if chunk == NONE {
                    app.tx_seek_chunk.store(fresh, Relaxed);
                    app.tx_seek_pos.store(pos, Relaxed);
                } else if let Some(link) = self.segment.link(chunk) {
                    link.store(fresh, Release);
                }
                (chunk, start) = (fresh, pos);
            }
            let Some(size) = chunks.class(chunk).map(Class::size) else {
                break;
            };
            let offset = (pos - start) as usize;
            let n = (end - pos).min((size.saturating_sub(offset)) as u64) as usize;
            let Some(bytes) = self.segment.chunk_bytes(chunk, offset, n) else {
                break;
            };
            let got = source(bytes, n).min(n);
            pos += got as u64;
            if got < n {
                break;
            }
        }
        app.tx_chunk_start.store(start, Relaxed);
        app.tx_tail.store(pos, SeqCst);
        app.tx_open.store(chunk, Release);
        pos - first
    }

    /// Whether the engine does not know yet that there is something to send: send `Send` if so.
    pub fn must_notify(&self) -> bool {
        let flags = &self.socket.app.flags;
        // The load must not be done before the store of the cursor.
        flags.load(SeqCst) & flag::TX_PENDING == 0
            && flags.fetch_or(flag::TX_PENDING, SeqCst) & flag::TX_PENDING == 0
    }

    /// Position behind the last byte written.
    pub fn end(&self) -> u64 {
        self.socket.app.tx_tail.load(Relaxed)
    }

    /// Notes whether more will follow at once (`MSG_MORE`).
    pub fn set_more(&self, more: bool) {
        let flags = &self.socket.app.flags;
        if more {
            flags.fetch_or(flag::MORE, SeqCst);
        } else if flags.load(Relaxed) & flag::MORE != 0 {
            flags.fetch_and(!flag::MORE, SeqCst);
        }
    }

    /// Notes that a writer waits for room, so that the engine raises an edge when a third is free.
    /// The caller looks at the room once more afterwards.
    pub fn want_room(&self) {
        self.socket.app.flags.fetch_or(flag::NOSPACE, SeqCst);
        fence(SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Plan;

    fn segment() -> Segment {
        let plan = Plan {
            workers: 1,
            sockets: 64,
            contexts: 1,
            ready_sets: 1,
            memory: 8 << 20,
        };
        Segment::create(&plan, b"", true, 0).unwrap()
    }

    /// What the engine does on receipt: chunks of growing size, links, seek, tail.
    fn receive(s: &Segment, socket: &Socket, data: &[u8], state: &mut (u32, u64, u32)) {
        let mut pos = socket.engine.rx_tail.load(Relaxed);
        for byte in data {
            let (chunk, start, next) = *state;
            let class = s.geometry().chunks.class(chunk);
            if class.is_none_or(|c| pos == start + c.size() as u64) {
                if class.is_none() {
                    socket.engine.rx_seek_chunk.store(next, Relaxed);
                    socket.engine.rx_seek_pos.store(pos, Relaxed);
                } else {
                    s.link(chunk).unwrap().store(next, Release);
                }
                *state = (next, pos, next + 1);
            }
            assert!(s.copy_in(state.0, (pos - state.1) as usize, &[*byte]));
            pos += 1;
        }
        socket.engine.rx_tail.store(pos, Release);
    }

    fn read(s: &Segment, socket: &Socket, len: u64, peek: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let n = Reader::lock(s, socket, 1).unwrap().read(len, peek, |p, n| {
            // SAFETY: the piece is inside a chunk, and this test is single-threaded.
            #[allow(unsafe_code)]
            out.extend_from_slice(unsafe { std::slice::from_raw_parts(p, n) })
        });
        assert_eq!(n, out.len() as u64);
        out
    }

    #[test]
    fn bytes_are_read_across_chunks_and_after_a_restart() {
        let s = segment();
        let socket = s.socket(1).unwrap();
        socket.reset();
        let mut engine = (NONE, 0, 0);
        let data: Vec<u8> = (0..5000u32).map(|i| (i * 7) as u8).collect();
        receive(&s, socket, &data[..3000], &mut engine);
        assert_eq!(read(&s, socket, 2500, true), &data[..2500], "peeked");
        assert_eq!(read(&s, socket, 2048, false), &data[..2048]);
        assert_eq!(read(&s, socket, 9999, false), &data[2048..3000]);
        assert_eq!(read(&s, socket, 1, false), b"");
        // The engine gives the half-filled chunk back while the stream is empty.
        engine.0 = NONE;
        receive(&s, socket, &data[3000..], &mut engine);
        assert_eq!(read(&s, socket, 9999, false), &data[3000..]);
    }

    #[test]
    fn bytes_are_written_across_chunks_within_the_limit() {
        let s = segment();
        let socket = s.socket(2).unwrap();
        socket.reset();
        socket.engine.tx_limit.store(5000, Relaxed);
        let data: Vec<u8> = (0..6000u32).map(|i| (i * 3) as u8).collect();
        let mut granted = Vec::new();
        let mut taken = 0;
        let mut w = Writer::lock(&s, socket, 1).unwrap();
        let mut write = |w: &mut Writer<'_>, len: u64| {
            w.write(
                len,
                |_| {
                    granted.push(granted.len() as u32 + 10);
                    granted.last().copied()
                },
                |to, n| {
                    // SAFETY: the piece is inside a chunk, and this test is single-threaded.
                    #[allow(unsafe_code)]
                    unsafe {
                        std::ptr::copy_nonoverlapping(data[taken..].as_ptr(), to, n)
                    };
                    taken += n;
                    n
                },
            )
        };
        assert_eq!(write(&mut w, 100), 100);
        assert_eq!(write(&mut w, 5900), 4900, "the limit bounds it");
        assert_eq!(w.room(), 0);
        drop(w);
        assert_eq!(socket.app.tx_seek_chunk.load(Relaxed), 10);
        assert_eq!(s.link(10).unwrap().load(Relaxed), 11);
        let mut out = vec![0; 2048];
        assert!(s.copy_out(10, 0, &mut out));
        assert_eq!(out, &data[..2048]);
        assert!(s.copy_out(11, 0, &mut out));
        assert_eq!(out, &data[2048..4096]);
    }

    #[test]
    fn a_source_that_runs_dry_ends_the_write() {
        let s = segment();
        let socket = s.socket(3).unwrap();
        socket.reset();
        socket.engine.tx_limit.store(5000, Relaxed);
        let mut w = Writer::lock(&s, socket, 1).unwrap();
        assert_eq!(w.write(1000, |_| Some(0), |_, _| 10), 10);
        assert_eq!(
            w.write(1000, |_| None, |_, n| n),
            1000,
            "the open chunk has room"
        );
        assert_eq!(
            w.write(3000, |_| None, |_, n| n),
            2048 - 1010,
            "no chunk, no more"
        );
    }

    #[test]
    fn a_closed_socket_is_not_touched() {
        let s = segment();
        let socket = s.socket(4).unwrap();
        socket.reset();
        socket.app.flags.store(flag::CLOSED, Relaxed);
        assert!(Reader::lock(&s, socket, 1).is_none());
        assert!(Writer::lock(&s, socket, 1).is_none());
        socket.reset();
        assert!(Reader::lock(&s, socket, 1).is_some(), "the lock was let go");
    }

    #[test]
    fn one_command_is_enough_until_the_engine_has_looked() {
        let s = segment();
        let socket = s.socket(5).unwrap();
        socket.reset();
        let w = Writer::lock(&s, socket, 1).unwrap();
        assert!(w.must_notify());
        assert!(!w.must_notify());
        socket.app.flags.fetch_and(!flag::TX_PENDING, SeqCst);
        assert!(w.must_notify());
    }
}
