//! Fast Open of a script's clients (RFC 7413): sendto(2) with `MSG_FASTOPEN`.

use super::sockets::{Sockets, no, yes};
use crate::bed::Bed;
use crate::call::Outcome;
use context::command::{EARLY, Op};
use context::socket::{flag, state};
use engine::tcp::fast_open_bits;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;

impl Sockets {
    /// Connects with data that may ride in the SYN. As in the preload library, without a cookie a call
    /// that must not block has none of its data taken.
    pub(super) fn send_early(
        &mut self,
        bed: &mut Bed,
        fd: i32,
        len: usize,
        flags: i32,
    ) -> Option<Outcome> {
        let handle = self.handle(fd)?;
        if bed.shared.config.tcp.fast_open & fast_open_bits::CLIENT == 0 {
            return no(libc::EOPNOTSUPP);
        }
        let record = self.record(handle);
        let connecting = record.app.flags.load(SeqCst) & flag::CONNECTING != 0;
        match record.tcp_state() {
            state::CLOSE if !connecting => {}
            state::SYN_SENT | state::CLOSE => return no(libc::EALREADY),
            _ => return no(libc::EISCONN),
        }
        let to = SocketAddr::new(self.addresses.remote, crate::run::PORT);
        record.names.request(to);
        let early = flag::KNOWN | flag::CONNECTING | flag::FASTOPEN;
        let nonblocking = handle.nonblocking || flags & libc::MSG_DONTWAIT != 0;
        let is_known = self.ask(bed, handle, Op::FastOpen).ok()?[0] == EARLY;
        self.record(handle).app.flags.fetch_or(early, SeqCst);
        let done = match is_known {
            true => self.append(bed, fd, len),
            false => 0,
        };
        self.app.command(Op::Connect, handle.record, 0);
        match nonblocking {
            true if done == 0 => no(libc::EINPROGRESS),
            true => yes(done as i64),
            false => {
                bed.settle();
                self.sent_early(bed, fd, len)
            }
        }
    }

    /// What a call that blocks has come to.
    pub(super) fn sent_early(&mut self, bed: &mut Bed, fd: i32, len: usize) -> Option<Outcome> {
        match self.connected(fd)? {
            outcome if outcome.errno == 0 => {
                let handle = self.handle(fd)?;
                if self.record(handle).app.tx_tail.load(SeqCst) == 0 {
                    self.append(bed, fd, len);
                }
                yes(len as i64)
            }
            failed => Some(failed),
        }
    }
}
