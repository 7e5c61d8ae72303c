//! The engine's end of a send stream.

use super::{Chain, Piece};
use crate::worker::chunks::ChunkPool;
use context::socket::Socket;
use context::{NONE, Segment};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};

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
        if let Some(first) = self.chain.0.first()
            && let Some(offset) = pos.checked_sub(first.start)
            && offset + to.len() as u64 <= u64::from(first.size)
        {
            return segment.copy_out(first.chunk, offset as usize, to);
        }
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
