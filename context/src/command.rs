//! Commands that an application thread sends to a worker: two words each.

/// What an application asks of a worker.
///
/// `u8` on the wire, because the worker must survive any value.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Bytes were written to the send stream; the new end is in the record. `arg`, if not 0: a
    /// position in the stream that no segment may cross (`MSG_EOR`).
    Send = 1,
    /// Bytes were read from the receive stream; the new head is in the record.
    Consumed = 2,
    /// Actively open to the address in the record's request.
    Connect = 3,
    /// The last reference in the calling process is gone. `arg` 1: reset (`SO_LINGER` 0).
    Close = 4,
    /// `shutdown(2)`; `arg` is `how`.
    Shutdown = 5,
    /// The options in the record have changed.
    Options = 6,
    /// Tell ready set `arg >> 32` of edges, with cookie `arg & 0xffff_ffff`. With [`EXCLUSIVE`], an edge
    /// that another such watch was told of may be kept from it.
    Watch = 7,
    /// Take back a `Watch` with the same argument.
    Unwatch = 8,
    /// An accepted socket was taken from its listener's queue by the calling process.
    Adopt = 9,
    /// Fill the context's reply with `tcp_info`; `arg` is the sequence number to answer with.
    Info = 10,
    /// The context runs short of granted chunks or sockets.
    Refill = 11,
    /// Fill the context's reply with [`EARLY`] if data can ride in the SYN to the record's request
    /// (RFC 7413), else with [`NOT_EARLY`]; `arg` is the sequence number to answer with.
    FastOpen = 12,
}

/// Answer to [`FastOpen`](Op::FastOpen): a cookie for the server is known, or none is needed.
pub const EARLY: u64 = 2;
/// Answer to [`FastOpen`](Op::FastOpen): data has to wait for the handshake.
pub const NOT_EARLY: u64 = 1;

/// In the argument of a [`Watch`](Op::Watch): `EPOLLEXCLUSIVE`.
pub const EXCLUSIVE: u64 = 1 << 63;

impl Op {
    fn from_u8(byte: u8) -> Option<Op> {
        use Op::*;
        [
            Send, Consumed, Connect, Close, Shutdown, Options, Watch, Unwatch, Adopt, Info, Refill,
            FastOpen,
        ]
        .into_iter()
        .find(|op| *op as u8 == byte)
    }
}

/// One command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    /// What to do.
    pub op: Op,
    /// The socket that it is about; [`crate::NONE`] if none.
    pub socket: u32,
    /// Low bits of the socket's generation: a command for an earlier life is ignored.
    pub generation: u16,
    /// Depends on `op`.
    pub arg: u64,
}

impl Command {
    /// As two ring words.
    pub fn to_words(self) -> [u64; 2] {
        [
            u64::from(self.socket) | u64::from(self.generation) << 32 | (self.op as u64) << 48,
            self.arg,
        ]
    }

    /// From two ring words; `None` if there is no such operation.
    pub fn from_words(words: [u64; 2]) -> Option<Command> {
        Some(Command {
            op: Op::from_u8((words[0] >> 48) as u8)?,
            socket: words[0] as u32,
            generation: (words[0] >> 32) as u16,
            arg: words[1],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_survives_the_ring_and_no_other_does() {
        let mut known = 0;
        for byte in 0..=255u8 {
            let words = [u64::from(byte) << 48 | 7 << 32 | 42, u64::MAX];
            if let Some(command) = Command::from_words(words) {
                assert_eq!(command.to_words(), words);
                known += 1;
            }
        }
        assert_eq!(known, 12);
    }
}
