//! The engine's end of a connection's byte streams, as chains of chunks.
//!
//! The chain itself is private memory; links and seek words in the segment only tell the
//! application where to read on. Of what the application says (where its stream goes on, how far it
//! has written) each word is read once and checked.

use super::chunks::ChunkPool;
use context::chunk::Class;
use context::socket::Socket;
use context::{NONE, Segment};
use smallvec::SmallVec;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

/// Bytes that a stream may hold unread while memory is scarce.
const SCARCE: u64 = 8192;

/// A chunk and the stream position of its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    start: u64,
    chunk: u32,
    size: u32,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + u64::from(self.size)
    }
}

/// Consecutive chunks of a stream.
#[derive(Default, Debug)]
struct Chain(SmallVec<[Piece; 1]>);

impl Chain {
    fn end(&self) -> Option<u64> {
        self.0.last().map(Piece::end)
    }

    /// Index of the piece that holds `pos`.
    fn find(&self, pos: u64) -> Option<usize> {
        let i = self.0.partition_point(|piece| piece.end() <= pos);
        (self.0.get(i)?.start <= pos).then_some(i)
    }

    /// Gives back the first `n` chunks.
    fn release_first(&mut self, n: usize, pool: &mut ChunkPool) {
        for piece in self.0.drain(..n) {
            pool.release(piece.chunk);
        }
    }

    fn release_all(&mut self, pool: &mut ChunkPool) {
        for piece in self.0.drain(..) {
            pool.release(piece.chunk);
        }
        self.0.shrink_to_fit();
    }
}

/// What an application may do to a send stream.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// Bytes that may stand unacknowledged.
    pub limit: u64,
    /// Processes that the stream's chunks may be lent to: the holders of the socket.
    pub writers: &'a [u32],
}

/// No chunk can be had, or the application's words make no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the application's send stream makes no sense")]
pub struct Nonsense;

/// The receive stream: the engine stores, the application reads.
#[derive(Default, Debug)]
pub struct RecvChain {
    chain: Chain,
    /// In-order end as published.
    tail: u64,
    head: u64,
}

impl RecvChain {
    /// How far the application has read, as last seen.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Stores bytes at a stream position, in or out of order. False if no chunk can be had.
    pub fn store(
        &mut self,
        segment: &Segment,
        pool: &mut ChunkPool,
        socket: Option<&Socket>,
        pos: u64,
        data: &[u8],
    ) -> bool {
        let end = pos + data.len() as u64;
        if pool.is_pressed() && !self.may_hold(pool, socket, pos, end) {
            return false;
        }
        while self.chain.end().unwrap_or(self.tail) < end {
            if !self.append(segment, pool, socket, end) {
                return false;
            }
        }
        let Some(mut i) = self.chain.find(pos) else {
            return false;
        };
        let mut done = 0;
        while done < data.len() {
            let piece = self.chain.0[i];
            let offset = (pos + done as u64 - piece.start) as usize;
            let n = (data.len() - done).min(piece.size as usize - offset);
            if !segment.copy_in(piece.chunk, offset, &data[done..done + n]) {
                return false;
            }
            done += n;
            i += 1;
        }
        true
    }

    /// While memory is scarce, a stream whose reader keeps up takes what comes next, and any other
    /// little. Bytes out of order also take the memory of the hole before them: the peer repeats
    /// them.
    fn may_hold(
        &mut self,
        pool: &mut ChunkPool,
        socket: Option<&Socket>,
        pos: u64,
        end: u64,
    ) -> bool {
        if let Some(socket) = socket {
            self.collect(socket, pool);
        }
        let is_read = self.head == self.tail;
        pos <= self.tail && (is_read || end - self.head <= SCARCE)
    }

    fn append(
        &mut self,
        segment: &Segment,
        pool: &mut ChunkPool,
        socket: Option<&Socket>,
        want: u64,
    ) -> bool {
        let start = self.chain.end().unwrap_or(self.tail);
        let buffered = start.saturating_sub(self.head);
        let class = match pool.is_pressed() {
            true => Class::ALL[0],
            false => Class::for_growth(buffered as usize, (want - start) as usize),
        };
        let chunk = pool.receive(class).or_else(|| pool.receive(Class::ALL[0]));
        let Some(chunk) = chunk else {
            return false;
        };
        let Some(size) = segment.geometry().chunks.class(chunk).map(Class::size) else {
            return false;
        };
        match self.chain.0.last() {
            Some(last) => {
                if let Some(link) = segment.link(last.chunk) {
                    link.store(chunk, Release);
                }
            }
            None => {
                if let Some(socket) = socket {
                    Self::seek(socket, start, chunk);
                }
            }
        }
        self.chain.0.push(Piece {
            start,
            chunk,
            size: size as u32,
        });
        true
    }

    fn seek(socket: &Socket, pos: u64, chunk: u32) {
        socket.engine.rx_seek_chunk.store(chunk, Relaxed);
        socket.engine.rx_seek_pos.store(pos, Release);
    }

    /// Tells a record that is just being attached where the stream starts.
    pub fn attach(&self, socket: &Socket) {
        if let Some(first) = self.chain.0.first() {
            Self::seek(socket, first.start, first.chunk);
        }
    }

    /// Publishes the in-order end.
    pub fn publish(&mut self, socket: Option<&Socket>, tail: u64) {
        self.tail = tail;
        if let Some(socket) = socket {
            socket.engine.rx_tail.store(tail, SeqCst);
        }
    }

    /// Looks how far the application has read and gives back what lies behind. `None` if the
    /// application's word is impossible.
    pub fn collect(&mut self, socket: &Socket, pool: &mut ChunkPool) -> Option<u64> {
        let head = socket.app.rx_head.load(SeqCst);
        if head < self.head || head > self.tail {
            return None;
        }
        self.head = head;
        // A reader that stands at a chunk's end has yet to follow its link.
        let n = self.chain.0.partition_point(|piece| piece.end() < head);
        self.chain.release_first(n, pool);
        Some(head)
    }

    /// Gives back the last chunk of an idle stream if nothing waits in it; `beyond` says that
    /// bytes out of order stand behind the in-order end. Returns whether chunks remain.
    pub fn reclaim(&mut self, socket: &Socket, pool: &mut ChunkPool, beyond: bool) -> bool {
        if !beyond && self.collect(socket, pool) == Some(self.tail) {
            self.chain.release_all(pool);
        }
        !self.chain.0.is_empty()
    }

    /// Nothing is held beyond `pos`: gives back the chunks from there on. Says whether there were any.
    pub fn truncate(&mut self, pos: u64, pool: &mut ChunkPool) -> bool {
        let keep = pos.max(self.tail);
        let n = self.chain.0.partition_point(|piece| piece.start < keep);
        let any = n < self.chain.0.len();
        for piece in self.chain.0.drain(n..).rev() {
            pool.release(piece.chunk);
        }
        any
    }

    /// Gives back everything.
    pub fn clear(&mut self, pool: &mut ChunkPool) {
        self.chain.release_all(pool);
    }
}

/// The send stream: the application writes, the engine sends and drops what is acknowledged.
#[derive(Default, Debug)]
pub struct SendChain {
    chain: Chain,
    /// How far the application has written, as last seen.
    tail: u64,
    head: u64,
}

impl SendChain {
    /// How far the application has written, as last seen.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Looks what the application has written since and takes over its chunks.
    ///
    /// # Errors
    /// [`Nonsense`] if cursor, links or chunks cannot be.
    pub fn collect(
        &mut self,
        segment: &Segment,
        socket: &Socket,
        pool: &mut ChunkPool,
        bounds: Bounds<'_>,
    ) -> Result<u64, Nonsense> {
        // Not to be done before the pending flag was cleared.
        let tail = socket.app.tx_tail.load(SeqCst);
        if tail < self.tail || tail - self.head > bounds.limit {
            return Err(Nonsense);
        }
        let seek = socket.app.tx_seek_pos.load(Relaxed);
        let mut pos = self.tail;
        while pos < tail {
            let last = self.chain.0.last().copied();
            let chunk = match last {
                // A stream that starts anew ends the chunk before it.
                _ if pos == seek && last.is_none_or(|l| l.start < pos) => {
                    socket.app.tx_seek_chunk.load(Relaxed)
                }
                Some(last) if pos < last.end() => {
                    let end = last.end().min(tail);
                    pos = if seek > pos { end.min(seek) } else { end };
                    continue;
                }
                Some(last) => segment.link(last.chunk).ok_or(Nonsense)?.load(Acquire),
                None => return Err(Nonsense),
            };
            let size = segment
                .geometry()
                .chunks
                .class(chunk)
                .ok_or(Nonsense)?
                .size() as u32;
            if !pool.accept(chunk, bounds.writers) {
                return Err(Nonsense);
            }
            if let Some(last) = self.chain.0.last_mut() {
                last.size = last.size.min((pos - last.start) as u32);
            }
            self.chain.0.push(Piece {
                start: pos,
                chunk,
                size,
            });
        }
        self.tail = tail;
        Ok(tail)
    }

    /// Copies the bytes at `pos` into `to`; false if they are not there.
    pub fn copy_out(&self, segment: &Segment, pos: u64, to: &mut [u8]) -> bool {
        let Some(mut i) = self.chain.find(pos) else {
            return to.is_empty();
        };
        let mut done = 0;
        while done < to.len() {
            let Some(piece) = self.chain.0.get(i) else {
                return false;
            };
            let offset = (pos + done as u64 - piece.start) as usize;
            let n = (to.len() - done).min(piece.size as usize - offset);
            if !segment.copy_out(piece.chunk, offset, &mut to[done..done + n]) {
                return false;
            }
            done += n;
            i += 1;
        }
        true
    }

    /// Gives back what the peer has acknowledged, except the last chunk: the application may still
    /// write to it, or is yet to set its link.
    pub fn release(&mut self, acked: u64, pool: &mut ChunkPool) {
        self.head = acked.min(self.tail);
        let n = self
            .chain
            .0
            .partition_point(|piece| piece.end() <= self.head);
        let last = self.chain.0.len().saturating_sub(1);
        self.chain.release_first(n.min(last), pool);
    }

    /// Gives back the last chunk of an idle stream, if the application is not writing to it.
    /// Returns whether chunks remain.
    pub fn reclaim(&mut self, socket: &Socket, pool: &mut ChunkPool) -> bool {
        if self.head == self.tail
            && socket.app.tx_tail.load(Acquire) == self.tail
            && let Some(last) = self.chain.0.last()
            && socket
                .app
                .tx_open
                .compare_exchange(last.chunk, NONE, AcqRel, Relaxed)
                .is_ok()
        {
            // Between the look at the cursor and the exchange, the application may have written
            // and put the chunk back: then it only goes on in a fresh one.
            if socket.app.tx_tail.load(SeqCst) == self.tail {
                self.chain.release_all(pool);
            }
        }
        !self.chain.0.is_empty()
    }

    /// Whether it holds no chunks.
    pub fn is_empty(&self) -> bool {
        self.chain.0.is_empty()
    }

    /// Nothing of the stream will be sent any more: gives back all that no thread can be writing to
    /// at this moment.
    pub fn retire(
        &mut self,
        segment: &Segment,
        socket: &Socket,
        pool: &mut ChunkPool,
        bounds: Bounds<'_>,
    ) -> Result<(), Nonsense> {
        let tail = self.collect(segment, socket, pool, bounds)?;
        self.release(tail, pool);
        self.reclaim(socket, pool);
        Ok(())
    }

    /// Gives back everything.
    pub fn clear(&mut self, pool: &mut ChunkPool) {
        self.chain.release_all(pool);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use context::layout::Plan;
    use context::stream::{Reader, Writer};

    const BOUNDS: Bounds<'_> = Bounds {
        limit: 300_000,
        writers: &[1],
    };

    fn setup() -> (Segment, ChunkPool) {
        let plan = Plan {
            workers: 1,
            sockets: 64,
            contexts: 2,
            ready_sets: 1,
            memory: 64 << 20,
        };
        let segment = Segment::create(&plan, b"", true, 0).unwrap();
        let pool = ChunkPool::new(segment.geometry().chunks, 0, 64 << 20);
        (segment, pool)
    }

    fn pattern(from: u64, len: usize) -> Vec<u8> {
        (from..from + len as u64)
            .map(|i| ((i * 31) >> 3) as u8)
            .collect()
    }

    #[allow(unsafe_code)]
    fn read(segment: &Segment, socket: &Socket, len: u64) -> Vec<u8> {
        let mut out = Vec::new();
        Reader::lock(segment, socket, 1)
            .unwrap()
            .read(len, false, |p, n| {
                // SAFETY: the piece is inside a chunk and nobody writes to it now.
                out.extend_from_slice(unsafe { std::slice::from_raw_parts(p, n) })
            });
        out
    }

    #[allow(unsafe_code)]
    fn write(segment: &Segment, pool: &mut ChunkPool, socket: &Socket, data: &[u8]) -> u64 {
        let mut done = 0;
        Writer::lock(segment, socket, 1).unwrap().write(
            data.len() as u64,
            |class| pool.grant(class, 1),
            |to, n| {
                // SAFETY: the piece is inside a chunk and nobody reads it now.
                unsafe { std::ptr::copy_nonoverlapping(data[done..].as_ptr(), to, n) };
                done += n;
                n
            },
        )
    }

    /// Random reads and receipts, in and out of order, with reclaims in between.
    #[test]
    fn what_is_stored_is_read_and_all_memory_comes_back() {
        let (segment, mut pool) = setup();
        let socket = segment.socket(1).unwrap();
        socket.reset();
        let mut chain = RecvChain::default();
        let (mut received, mut taken) = (0u64, 0u64);
        let mut seed = 7u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
            (seed >> 33) % n
        };
        for _ in 0..3000 {
            let most = if random(4) == 0 { 60_000 } else { 1500 };
            let len = 1 + random(most) as usize;
            let data = pattern(received, len);
            let half = len / 2;
            // The second half overtakes the first.
            let at = received + half as u64;
            assert!(chain.store(&segment, &mut pool, Some(socket), at, &data[half..]));
            assert!(chain.reclaim(socket, &mut pool, true));
            assert!(chain.store(&segment, &mut pool, Some(socket), received, &data[..half]));
            received += len as u64;
            chain.publish(Some(socket), received);
            let want = random(200_000);
            let got = read(&segment, socket, want);
            assert_eq!(got, pattern(taken, got.len()));
            taken += got.len() as u64;
            assert_eq!(chain.collect(socket, &mut pool), Some(taken));
            if random(3) == 0 {
                chain.reclaim(socket, &mut pool, false);
            }
        }
        let got = read(&segment, socket, u64::MAX);
        assert_eq!(got, pattern(taken, (received - taken) as usize));
        assert!(!chain.reclaim(socket, &mut pool, false));
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn what_is_written_is_copied_out_and_all_memory_comes_back() {
        let (segment, mut pool) = setup();
        let socket = segment.socket(1).unwrap();
        socket.reset();
        socket.engine.tx_limit.store(300_000, Relaxed);
        let mut chain = SendChain::default();
        let (mut written, mut acked) = (0u64, 0u64);
        let mut seed = 3u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
            (seed >> 33) % n
        };
        for _ in 0..3000 {
            for _ in 0..1 + random(3) {
                let most = if random(4) == 0 { 60_000 } else { 1500 };
                let len = 1 + random(most) as usize;
                written += write(&segment, &mut pool, socket, &pattern(written, len));
            }
            assert_eq!(
                chain.collect(&segment, socket, &mut pool, BOUNDS),
                Ok(written)
            );
            let mut out = vec![0; (written - acked) as usize];
            assert!(chain.copy_out(&segment, acked, &mut out));
            assert_eq!(out, pattern(acked, out.len()));
            acked += random(written - acked + 1);
            if random(3) == 0 {
                acked = written;
            }
            chain.release(acked, &mut pool);
            socket.engine.tx_head.store(acked, Release);
            if random(2) == 0 {
                chain.reclaim(socket, &mut pool);
            }
        }
        chain.release(written, &mut pool);
        assert!(!chain.reclaim(socket, &mut pool));
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn impossible_cursors_and_chunks_are_refused() {
        let (segment, mut pool) = setup();
        let socket = segment.socket(1).unwrap();
        socket.reset();
        let mut send = SendChain::default();
        for (tail, chunk) in [(1u64 << 40, 0), (10, NONE), (10, 5)] {
            socket.app.tx_tail.store(tail, Relaxed);
            socket.app.tx_seek_chunk.store(chunk, Relaxed);
            assert_eq!(
                send.collect(&segment, socket, &mut pool, BOUNDS),
                Err(Nonsense),
                "{tail} {chunk}"
            );
        }
        let mut recv = RecvChain::default();
        socket.app.rx_head.store(1, Relaxed);
        assert_eq!(recv.collect(socket, &mut pool), None);
    }
}
