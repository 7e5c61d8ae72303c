//! Per-thread contexts: what one application thread and the workers share.

use crate::ring::Ring;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Commands that fit into one thread's ring to one worker.
pub const COMMANDS: usize = 256;

/// Words of the reply area: [`INFO_WORDS`], the length of `union tcp_cc_info` in bytes, and the
/// union.
pub const REPLY_WORDS: usize = 48;

/// Words of `struct tcp_info`, up to `tcpi_accecn_opt_seen` as in Linux 6.18.
pub const INFO_WORDS: usize = 280 / 8;

/// Ring of commands, application to worker.
pub type CommandRing = Ring<2, COMMANDS>;
/// Ring of granted numbers (sockets or chunks), worker to application. The application
/// [takes](Ring::take), and the worker may [recall](Ring::recall).
pub type GrantRing<const N: usize> = Ring<1, N>;

/// The head of a context.
#[repr(C, align(64))]
pub struct ContextShared {
    /// Process that the context belongs to (its number in the stack, not its pid).
    pub process: AtomicU32,
    /// Thread (`gettid`), for logs.
    pub tid: AtomicU32,
    /// Sequence number of the reply that stands in `reply`.
    pub reply_seq: AtomicU32,
    /// A worker's answer, written before `reply_seq`.
    pub reply: [AtomicU64; REPLY_WORDS],
}

/// What a context shares with one worker.
#[repr(C, align(64))]
pub struct ContextLane {
    /// Commands to the worker.
    pub commands: CommandRing,
    /// Sockets granted: fresh records for `socket()`.
    pub sockets: GrantRing<256>,
    /// Chunks granted for sending, by class.
    pub small: GrantRing<512>,
    /// As `small`.
    pub medium: GrantRing<64>,
    /// As `small`.
    pub large: GrantRing<64>,
}

impl ContextShared {
    /// Worker: publishes a reply; what the words do not fill is 0.
    pub fn answer(&self, seq: u32, words: &[u64]) {
        let zeros = std::iter::repeat(&0);
        for (to, from) in self.reply.iter().zip(words.iter().chain(zeros)) {
            to.store(*from, Ordering::Relaxed);
        }
        self.reply_seq.store(seq, Ordering::Release);
        crate::futex::wake(&self.reply_seq, 1);
    }
}

impl ContextLane {
    /// Makes all rings empty; only while neither side uses them.
    pub fn reset(&self) {
        self.commands.reset();
        self.sockets.reset();
        self.small.reset();
        self.medium.reset();
        self.large.reset();
    }
}
