//! Urgent data of a script's sockets: `MSG_OOB` and the mark in the stream (tcp(7)).

use super::sockets::{Handle, Sockets, no, yes};
use crate::call::Outcome;
use context::socket::{flag, option, state};
use context::stream::Reader;
use std::sync::atomic::Ordering::SeqCst;

impl Sockets {
    fn is_inline(&self, handle: Handle) -> bool {
        self.record(handle).options.bits.load(SeqCst) & option::OOBINLINE != 0
    }

    /// Whether the urgent byte stands so many bytes from the next one to be read.
    pub(super) fn is_at_mark(&self, handle: Handle, ahead: u64) -> bool {
        self.record(handle).urgent_mark() == Some(ahead)
    }

    /// How many of `len` bytes stand before the mark, and how many before them are passed over.
    pub(super) fn before_mark(&self, handle: Handle, len: usize) -> (usize, u64) {
        match self.record(handle).urgent_mark() {
            None => (len, 0),
            Some(0) => (len, u64::from(!self.is_inline(handle))),
            Some(mark) => (len.min(mark as usize), 0),
        }
    }

    /// The next `len` bytes to be written end with an urgent one.
    pub(super) fn announce_urgent(&self, handle: Handle, len: u64) {
        let record = self.record(handle);
        let end = record.app.tx_tail.load(SeqCst) + len.min(record.writable());
        record.app.urgent.sent.store(end, SeqCst);
        record.app.flags.fetch_or(flag::URGENT, SeqCst);
    }

    /// recv(2) with `MSG_OOB`.
    pub(super) fn receive_urgent(&self, handle: Handle, len: usize, flags: i32) -> Option<Outcome> {
        let record = self.record(handle);
        let end = record.app.urgent.received.load(SeqCst);
        let Some(mark) = record.urgent_mark() else {
            return no(libc::EINVAL);
        };
        if self.is_inline(handle) || record.app.urgent.taken.load(SeqCst) == end {
            return no(libc::EINVAL);
        }
        if mark >= record.readable() {
            let ended = record.engine.state.load(SeqCst) & state::RX_SHUT != 0;
            return if ended { yes(0) } else { no(libc::EAGAIN) };
        }
        let mut reader = Reader::lock(&self.app.shared.segment, record, 1)?;
        assert_eq!(reader.read(mark + 1, true, |_, _| {}), mark + 1);
        if flags & libc::MSG_PEEK == 0 {
            record.app.urgent.taken.store(end, SeqCst);
        }
        yes(len.min(1) as i64)
    }
}
