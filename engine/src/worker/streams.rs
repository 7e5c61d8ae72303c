//! The engine's end of a connection's byte streams, as chains of chunks.
//!
//! The chain itself is private memory; links and seek words in the segment only tell the
//! application where to read on. Of what the application says (where its stream goes on, how far it
//! has written) each word is read once and checked.

use super::chunks::ChunkPool;
use context::Segment;
use context::chunk::Class;
use context::socket::Socket;
use smallvec::SmallVec;
use std::sync::atomic::Ordering::{Relaxed, Release, SeqCst};

mod send;
#[cfg(test)]
mod tests;

pub use send::{Bounds, Nonsense, SendChain};

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
    #[inline]
    fn release_first(&mut self, n: usize, pool: &mut ChunkPool) {
        if n == 0 {
            return;
        }
        for piece in self.0.drain(..n) {
            pool.release(piece.chunk);
        }
    }

    fn release_all(&mut self, pool: &mut ChunkPool) {
        for piece in &self.0 {
            pool.release(piece.chunk);
        }
        self.0 = SmallVec::new();
    }
}

/// The receive stream: the engine stores, the application reads.
#[derive(Default, Debug)]
pub struct RecvChain {
    chain: Chain,
    /// In-order end as published.
    tail: u64,
    head: u64,
}

impl RecvChain {
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
        if let Some(last) = self.chain.0.last()
            && last.start <= pos
            && end <= last.end()
        {
            return segment.copy_in(last.chunk, (pos - last.start) as usize, data);
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

    /// The in-order end is at `tail` now, which is published later.
    pub fn advance(&mut self, tail: u64) {
        self.tail = tail;
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
