//! The shared record of one socket.
//!
//! Three parties' words are kept apart: the engine's half (only the engine writes, except that the
//! application takes `error`), the application's half and options (the engine reads and checks),
//! and flags that both change by atomic read-modify-write. All-zero is a valid fresh record.

use crate::lock::Lock;
use crate::ring::Ring;
use crate::sync::{AtomicI32, AtomicU32, AtomicU64, Ordering, fence};
use crate::{MAX_WORKERS, NONE};

// The paths are for crate `interleavings`, which takes this file from here.
#[path = "socket/names.rs"]
mod names;
#[cfg(test)]
#[path = "socket/tests.rs"]
mod tests;

pub use names::Names;

/// TCP states by Linux's numbers (`include/net/tcp_states.h`), as in `tcp_info.tcpi_state`.
pub mod state {
    /// ESTABLISHED
    pub const ESTABLISHED: u32 = 1;
    /// SYN-SENT
    pub const SYN_SENT: u32 = 2;
    /// SYN-RECEIVED
    pub const SYN_RECV: u32 = 3;
    /// FIN-WAIT-1
    pub const FIN_WAIT1: u32 = 4;
    /// FIN-WAIT-2
    pub const FIN_WAIT2: u32 = 5;
    /// TIME-WAIT
    pub const TIME_WAIT: u32 = 6;
    /// CLOSED
    pub const CLOSE: u32 = 7;
    /// CLOSE-WAIT
    pub const CLOSE_WAIT: u32 = 8;
    /// LAST-ACK
    pub const LAST_ACK: u32 = 9;
    /// LISTEN
    pub const LISTEN: u32 = 10;
    /// CLOSING
    pub const CLOSING: u32 = 11;
    /// The bits that hold one of the above.
    pub const MASK: u32 = 0xff;
    /// Nothing more will be received: FIN or RST came, or the connection failed.
    pub const RX_SHUT: u32 = 1 << 8;
    /// Nothing more can be sent.
    pub const TX_SHUT: u32 = 1 << 9;
    /// The socket has a local address, bound or of its connection.
    pub const BOUND: u32 = 1 << 10;
    /// The connection was established at some time.
    pub const WAS_CONNECTED: u32 = 1 << 11;
    /// The peer has marked urgent data at some time: see [`Urgent`](super::Urgent).
    pub const URGENT: u32 = 1 << 12;
    /// The peer's FIN came: what follows it, even a RST, is no matter of who reads (Linux's SOCK_DONE).
    pub const PEER_CLOSED: u32 = 1 << 13;
}

/// Bits of [`AppHalf::flags`].
pub mod flag {
    /// A `Send` command is under way; cleared by the engine before it reads `tx_tail`.
    pub const TX_PENDING: u32 = 1;
    /// A `Consumed` command is under way; cleared by the engine before it reads `rx_head`.
    pub const RX_PENDING: u32 = 1 << 1;
    /// A writer found no room: the engine raises an edge once a third is free; it clears the bit.
    pub const NOSPACE: u32 = 1 << 2;
    /// `shutdown(SHUT_RD)` was called.
    pub const SHUT_RD: u32 = 1 << 3;
    /// `shutdown(SHUT_WR)` was called.
    pub const SHUT_WR: u32 = 1 << 4;
    /// The last reference was closed; set with both locks held.
    pub const CLOSED: u32 = 1 << 5;
    /// The bytes written last had `MSG_MORE`; read by the engine with `tx_tail`.
    pub const MORE: u32 = 1 << 6;
    /// A `Connect` or `Listen` has been sent: changed options must be told to the engine.
    pub const KNOWN: u32 = 1 << 7;
    /// The socket is of family AF_INET6: addresses are shown v4-mapped.
    pub const INET6: u32 = 1 << 8;
    /// A kernel socket listens beside (policy "both"): its descriptor number is the socket's own.
    pub const BOTH: u32 = 1 << 9;
    /// `connect(2)` was called and its outcome not yet reported; while the state still says CLOSE
    /// and no error is pending, the command is on its way.
    pub const CONNECTING: u32 = 1 << 10;
    /// What the send stream holds when `Connect` comes may ride in the SYN (`MSG_FASTOPEN`,
    /// `TCP_FASTOPEN_CONNECT`; RFC 7413).
    pub const FASTOPEN: u32 = 1 << 11;
    /// `MSG_OOB` was used for sending: the engine reads [`Urgent::sent`](super::Urgent::sent) with
    /// `tx_tail`.
    pub const URGENT: u32 = 1 << 12;
    /// `connect(2)` has put the `Connect` off until there is data for the SYN; with `CONNECTING` and
    /// `FASTOPEN`.
    pub const DEFERRED: u32 = 1 << 13;
    /// `bind(2)` named an address that is not the any-address: `connect(2)` to `AF_UNSPEC` keeps it.
    pub const ADDRESS_ASKED: u32 = 1 << 14;
    /// `bind(2)` named a port, likewise.
    pub const PORT_ASKED: u32 = 1 << 15;
    /// Other processes may hold the socket, too: what is closed here ends only this process's hold.
    pub const SHARED: u32 = 1 << 16;
}

/// Bytes that may be written before `Connect`, while the engine has set no limit: more than the SYN
/// can carry on links of any usual MTU.
const EARLY_LIMIT: u64 = 16_384;

/// A write that begins below `TCP_NOTSENT_LOWAT` may go beyond it by less than this, as in Linux, which
/// looks at the mark before it begins a new super-segment.
const WRITE_UNIT: u64 = 65_536;

/// Words that only the engine writes.
#[repr(C, align(64))]
#[derive(Default)]
pub struct EngineHalf {
    /// TCP state and the bits of [`state`].
    pub state: AtomicU32,
    /// Changes with each life of the record.
    pub generation: AtomicU32,
    /// Bytes received in order, from the start of the connection.
    pub rx_tail: AtomicU64,
    /// Bytes acknowledged by the peer, from the start of the connection.
    pub tx_head: AtomicU64,
    /// At this position, the receive stream goes on at the start of chunk `rx_seek_chunk`.
    pub rx_seek_pos: AtomicU64,
    /// See `rx_seek_pos`.
    pub rx_seek_chunk: AtomicU32,
    /// Bytes that may stand between `tx_head` and `tx_tail`.
    pub tx_limit: AtomicU32,
    /// Once `rx_head` has reached this, a `Consumed` command is due.
    pub rx_notify_at: AtomicU64,
    /// Pending `SO_ERROR`; the application takes it by swapping in 0.
    pub error: AtomicI32,
    /// Futex word of threads that block on this socket; changes with each edge.
    pub wake: AtomicU32,
    /// Bytes sent at least once, from the start of the connection; followed only while
    /// [`Options::notsent_low`] is set.
    pub tx_next: AtomicU64,
}

/// Words that the application writes.
#[repr(C, align(64))]
#[derive(Default)]
pub struct AppHalf {
    /// Bits of [`flag`].
    pub flags: AtomicU32,
    /// Threads that sleep on `wake`.
    pub waiters: AtomicU32,
    /// Guards the reading words below (and a listener's accept rings).
    pub rx_lock: Lock,
    /// Guards the writing words below.
    pub tx_lock: Lock,
    /// Bytes read, from the start of the connection.
    pub rx_head: AtomicU64,
    /// Chunk that holds the byte at `rx_head`, unless that is `rx_seek_pos` or the chunk's end.
    pub rx_chunk: AtomicU32,
    /// Chunk that may be appended to, or [`NONE`]. The writer takes it out while it writes; the
    /// engine takes it out to reclaim it.
    pub tx_open: AtomicU32,
    /// Stream position of the first byte of `rx_chunk`.
    pub rx_chunk_start: AtomicU64,
    /// Bytes written, from the start of the connection.
    pub tx_tail: AtomicU64,
    /// Stream position of the first byte of `tx_open`.
    pub tx_chunk_start: AtomicU64,
    /// At this position, the send stream goes on at the start of chunk `tx_seek_chunk`.
    pub tx_seek_pos: AtomicU64,
    /// See `tx_seek_pos`.
    pub tx_seek_chunk: AtomicU32,
    /// `O_NONBLOCK`, `O_ASYNC`: flags of the open file, shared by all duplicates.
    pub file_flags: AtomicU32,
    /// Watches (by slot) whose event waits in a ready set: set by the engine, cleared by the
    /// application when it takes the event.
    pub queued: AtomicU32,
    /// Counts writes that found room but no chunk: of the edge that follows one, no cursor tells that
    /// it is about writing.
    pub starved: AtomicU32,
    /// Process that takes this connection from its listener's queue, noted before it does: if it is
    /// killed before it can say so by a command, the engine knows whose the connection was.
    pub taker: AtomicU32,
    /// Of a listener, guarded by `rx_lock` as the next word: context + 1 that accepted last; 0: none has.
    pub acceptor: AtomicU32,
    /// So many accepts are to go to `acceptor` alone before it counts as the only one that accepts.
    pub rivalry: AtomicU32,
    /// Urgent data, of which there seldom is any: the engine's word of it stands here as well.
    pub urgent: Urgent,
}

/// Socket options as the application set them; the engine reads them after `Options`, `Connect`
/// and `listen`. Zero is each option's default.
#[repr(C, align(64))]
#[derive(Default)]
pub struct Options {
    /// Bits of [`option`].
    pub bits: AtomicU32,
    /// `TCP_KEEPIDLE`, seconds; 0: the configured value.
    pub keep_idle: AtomicU32,
    /// `TCP_KEEPINTVL`, seconds; 0: the configured value.
    pub keep_interval: AtomicU32,
    /// `TCP_KEEPCNT`; 0: the configured value.
    pub keep_count: AtomicU32,
    /// `TCP_USER_TIMEOUT`, milliseconds; 0: none.
    pub user_timeout: AtomicU32,
    /// `TCP_MAXSEG` as asked; 0: none.
    pub max_segment: AtomicU32,
    /// `SO_RCVBUF` as asked; 0: tuned by the engine.
    pub receive_buffer: AtomicU32,
    /// `SO_SNDBUF` as asked; 0: tuned by the engine.
    pub send_buffer: AtomicU32,
    /// `SO_LINGER`: seconds + 1; with [`LINGER_OFF`] they are only remembered. See
    /// [`lingers`](Options::lingers).
    pub linger: AtomicU32,
    /// What stands in IP headers, see [`header`].
    pub tos_ttl: AtomicU32,
    /// `SO_RCVLOWAT`; 0: 1.
    pub receive_low: AtomicU32,
    /// `TCP_DEFER_ACCEPT`, seconds.
    pub defer_accept: AtomicU32,
    /// `SO_RCVTIMEO`, microseconds; 0: none.
    pub receive_timeout: AtomicU64,
    /// `SO_SNDTIMEO`, microseconds; 0: none.
    pub send_timeout: AtomicU64,
    /// `TCP_CONGESTION`: a number of [`congestion`]; 0: the configured one.
    pub congestion: AtomicU32,
    /// `TCP_SYNCNT`; 0: the configured value.
    pub syn_count: AtomicU32,
    /// `TCP_LINGER2`, seconds; 0: the configured value; `u32::MAX`: none at all.
    pub fin_wait2: AtomicU32,
    /// `TCP_WINDOW_CLAMP`, bytes; 0: none.
    pub window_clamp: AtomicU32,
    /// `TCP_NOTSENT_LOWAT`, bytes: how many may be written and not sent; 0: any number.
    pub notsent_low: AtomicU32,
    /// `TCP_FASTOPEN`: connections that may wait for the end of their handshake while their data is
    /// served; 0: Fast Open is off.
    pub fastopen_queue: AtomicU32,
    /// `SO_MAX_PACING_RATE`, bytes per second, all bits inverted; 0: no limit.
    pub pacing_limit: AtomicU64,
    /// `TCP_FASTOPEN_KEY`: the key, and one that still counts; a key of zeros is none.
    pub fastopen_keys: [[AtomicU64; 2]; 2],
}

/// `SO_LINGER` is off, and its time is remembered.
pub const LINGER_OFF: u32 = 1 << 31;

impl Options {
    /// How many seconds a close waits until all is acknowledged, 0 meaning that it resets; `None`: it
    /// does not wait.
    pub fn lingers(&self) -> Option<u32> {
        let word = self.linger.load(Ordering::Relaxed);
        (word & LINGER_OFF == 0)
            .then(|| word.checked_sub(1))
            .flatten()
    }
}

/// The parts of [`Options::tos_ttl`].
pub mod header {
    /// `IP_TOS`
    pub const TOS: u32 = 0xff;
    /// `IP_TTL`; 0: default.
    pub const TTL_SHIFT: u32 = 8;
    /// `IPV6_TCLASS`, whose bits for congestion notification no program can set.
    pub const CLASS_SHIFT: u32 = 16;
    /// Whether [`HOPS_SHIFT`] counts, in one of those bits.
    pub const HOPS_ASKED: u32 = 1 << CLASS_SHIFT;
    /// `IPV6_UNICAST_HOPS`
    pub const HOPS_SHIFT: u32 = 24;
}

/// Congestion controls by number, as [`Options::congestion`] has them.
pub mod congestion {
    /// Names as `TCP_CONGESTION` has them, at their number; the first stands for the configured one.
    pub const NAMES: [&str; 5] = ["", "reno", "cubic", "bbr", "dctcp"];

    /// The number of a name.
    pub fn number(name: &[u8]) -> Option<u32> {
        let known = NAMES.iter().position(|known| known.as_bytes() == name);
        known.filter(|n| *n != 0).map(|n| n as u32)
    }

    /// The name of a number; `None` if it says nothing or stands for the configured one.
    pub fn name(number: u32) -> Option<&'static str> {
        NAMES
            .get(number as usize)
            .copied()
            .filter(|name| !name.is_empty())
    }
}

/// Urgent data (RFC 6093): positions in the streams, 0 while there is none.
#[repr(C)]
#[derive(Default)]
pub struct Urgent {
    /// Engine: behind the last byte that the peer marked as urgent, which may not have come yet.
    pub received: AtomicU64,
    /// Application: `received` of the urgent byte that `MSG_OOB` has taken.
    pub taken: AtomicU64,
    /// Application: behind the last byte that was written with `MSG_OOB`; set before `tx_tail`
    /// passes it, read by the engine with `tx_tail`.
    pub sent: AtomicU64,
}

/// Bits of [`Options::bits`].
pub mod option {
    /// `TCP_NODELAY`
    pub const NODELAY: u32 = 1;
    /// `TCP_CORK`
    pub const CORK: u32 = 1 << 1;
    /// `SO_KEEPALIVE`
    pub const KEEPALIVE: u32 = 1 << 2;
    /// `TCP_QUICKACK` was set to 1.
    pub const QUICKACK: u32 = 1 << 3;
    /// `SO_REUSEADDR`
    pub const REUSEADDR: u32 = 1 << 4;
    /// `SO_REUSEPORT`
    pub const REUSEPORT: u32 = 1 << 5;
    /// `IPV6_V6ONLY`
    pub const V6ONLY: u32 = 1 << 6;
    /// `IP_FREEBIND`
    pub const FREEBIND: u32 = 1 << 7;
    /// `SO_OOBINLINE`
    pub const OOBINLINE: u32 = 1 << 8;
    /// `IP_BIND_ADDRESS_NO_PORT`
    pub const BIND_NO_PORT: u32 = 1 << 9;
    /// `TCP_FASTOPEN_CONNECT`
    pub const FASTOPEN_CONNECT: u32 = 1 << 10;
    /// `TCP_FASTOPEN_NO_COOKIE`
    pub const FASTOPEN_NO_COOKIE: u32 = 1 << 11;
    /// `TCP_INQ`
    pub const INQ: u32 = 1 << 12;
}

/// One socket.
#[repr(C)]
#[derive(Default)]
pub struct Socket {
    /// Written by the engine.
    pub engine: EngineHalf,
    /// Written by the application.
    pub app: AppHalf,
    /// Written by the application.
    pub options: Options,
    /// Addresses.
    pub names: Names,
    /// Of a listener: the large chunk that holds each worker's accept ring, or 0 for none (chunk 0
    /// is small, so 0 is free for that). Written by the engine.
    pub accept_rings: [AtomicU32; MAX_WORKERS],
}

/// Connections that wait to be accepted: a [`Waiting`] each.
pub type AcceptRing = Ring<1, 4096>;

/// A connection that waits to be accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// The socket's number.
    pub socket: u32,
    /// The low half of when it came, in microseconds of the engine's clock.
    pub since: u32,
}

impl Waiting {
    /// As it stands in the ring.
    pub fn to_word(self) -> u64 {
        u64::from(self.since) << 32 | u64::from(self.socket)
    }

    /// From the ring.
    pub fn from_word(word: u64) -> Waiting {
        Waiting {
            socket: word as u32,
            since: (word >> 32) as u32,
        }
    }

    /// Whether it came before the other, if not half an hour and more lies between.
    pub fn is_before(self, other: Waiting) -> bool {
        (self.since.wrapping_sub(other.since) as i32) < 0
    }
}

/// Sets words to 0, one instruction each: a record is made fresh for each connection.
macro_rules! clear {
    ($($word:expr),*) => {
        $($word.store(0, Ordering::Relaxed);)*
    };
}

/// Copies words of the same name.
macro_rules! copy {
    ($from:ident => $to:ident: $($word:ident),*) => {
        $($to.$word.store($from.$word.load(Ordering::Relaxed), Ordering::Relaxed);)*
    };
}

impl Socket {
    /// How many bytes from the next one to be read to the urgent byte; `None` if the peer has marked
    /// none, or it was read. The byte may not have come yet.
    #[inline]
    pub fn urgent_mark(&self) -> Option<u64> {
        if self.engine.state.load(Ordering::Acquire) & state::URGENT == 0 {
            return None;
        }
        let end = self.app.urgent.received.load(Ordering::Acquire);
        let head = self.app.rx_head.load(Ordering::Relaxed);
        end.checked_sub(head + 1)
    }

    /// Whether there is an urgent byte to be had by `MSG_OOB`: it has come, and was taken neither so
    /// nor in line.
    pub fn has_urgent(&self) -> bool {
        let end = self.app.urgent.received.load(Ordering::Acquire);
        self.urgent_mark()
            .is_some_and(|mark| mark < self.readable())
            && self.app.urgent.taken.load(Ordering::Relaxed) != end
    }

    /// Engine: makes the record fresh for its next life and returns the new generation. Only while
    /// no process holds it.
    pub fn reset(&self) -> u32 {
        let (e, a, o, u) = (&self.engine, &self.app, &self.options, &self.app.urgent);
        let generation = e.generation.load(Ordering::Relaxed).wrapping_add(1);
        e.generation.store(generation, Ordering::SeqCst);
        e.state.store(state::CLOSE, Ordering::Relaxed);
        clear!(
            e.rx_tail,
            e.tx_head,
            e.tx_next,
            e.rx_seek_pos,
            e.rx_notify_at,
            e.tx_limit,
            e.error
        );
        clear!(
            a.rx_head,
            a.rx_chunk_start,
            a.tx_tail,
            a.tx_chunk_start,
            a.tx_seek_pos
        );
        clear!(
            a.flags,
            a.waiters,
            a.file_flags,
            a.queued,
            a.starved,
            a.taker,
            a.acceptor,
            a.rivalry
        );
        clear!(u.received, u.taken, u.sent);
        clear!(
            o.bits,
            o.keep_idle,
            o.keep_interval,
            o.keep_count,
            o.user_timeout,
            o.max_segment
        );
        clear!(
            o.receive_buffer,
            o.send_buffer,
            o.linger,
            o.tos_ttl,
            o.receive_low,
            o.defer_accept
        );
        clear!(
            o.receive_timeout,
            o.send_timeout,
            o.congestion,
            o.syn_count,
            o.fin_wait2
        );
        clear!(
            o.window_clamp,
            o.notsent_low,
            o.fastopen_queue,
            o.pacing_limit
        );
        for word in o.fastopen_keys.as_flattened() {
            word.store(0, Ordering::Relaxed);
        }
        for word in [&e.rx_seek_chunk, &a.rx_chunk, &a.tx_open, &a.tx_seek_chunk] {
            word.store(NONE, Ordering::Relaxed);
        }
        a.rx_lock.reset();
        a.tx_lock.reset();
        self.names.reset();
        for ring in &self.accept_rings {
            ring.store(0, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        generation
    }

    /// Copies the options, as an accepted socket inherits them from its listener.
    pub fn inherit(&self, from: &Options) {
        let to = &self.options;
        copy!(from => to: bits, keep_idle, keep_interval, keep_count, user_timeout, max_segment);
        copy!(from => to: receive_buffer, send_buffer, linger, tos_ttl, receive_low, congestion);
        copy!(from => to: fin_wait2, window_clamp, notsent_low);
        copy!(from => to: receive_timeout, send_timeout, pacing_limit);
    }

    /// State and its bits, see [`state`]. An attempt to connect that failed, once the program knows
    /// it, leaves a socket like a new one: the ends of a stream that never was count no more.
    #[inline]
    pub fn state_bits(&self) -> u32 {
        let word = self.engine.state.load(Ordering::Acquire);
        let ended = state::RX_SHUT | state::TX_SHUT;
        let was_open = word & state::WAS_CONNECTED != 0 || word & state::MASK != state::CLOSE;
        if word & ended == 0 || was_open {
            return word;
        }
        match self.app.flags.load(Ordering::Acquire) & flag::CONNECTING {
            0 => word & !ended,
            _ => word,
        }
    }

    /// TCP state, a number of [`state`]. A record never used says CLOSE.
    pub fn tcp_state(&self) -> u32 {
        match self.engine.state.load(Ordering::Acquire) & state::MASK {
            0 => state::CLOSE,
            n => n,
        }
    }

    /// Bytes that can be read now.
    #[inline]
    pub fn readable(&self) -> u64 {
        let tail = self.engine.rx_tail.load(Ordering::Acquire);
        tail.saturating_sub(self.app.rx_head.load(Ordering::Relaxed))
    }

    /// Bytes that can be written now.
    #[inline]
    pub fn writable(&self) -> u64 {
        let free = self.free().0;
        match u64::from(self.options.notsent_low.load(Ordering::Relaxed)) {
            0 => free,
            low => {
                let below = low.saturating_sub(self.unsent());
                free.min(below.next_multiple_of(WRITE_UNIT))
            }
        }
    }

    /// Bytes that the limit leaves, and the limit.
    #[inline]
    fn free(&self) -> (u64, u64) {
        let limit = match self.engine.tx_limit.load(Ordering::Relaxed) {
            0 if self.app.flags.load(Ordering::Relaxed) & flag::FASTOPEN != 0 => EARLY_LIMIT,
            limit => limit.into(),
        };
        (limit.saturating_sub(self.unacked()), limit)
    }

    /// Application: whether a `Connect` was put off, which the caller is to send now. Only one caller
    /// is told so.
    #[inline]
    pub fn take_deferred(&self) -> bool {
        let flags = &self.app.flags;
        if flags.load(Ordering::SeqCst) & flag::DEFERRED == 0 {
            return false;
        }
        // From here on, options that change are told to the engine; it reads them at `Connect`.
        flags.fetch_or(flag::KNOWN, Ordering::SeqCst);
        flags.fetch_and(!flag::DEFERRED, Ordering::SeqCst) & flag::DEFERRED != 0
    }

    /// Bytes written that the peer has not acknowledged (`SIOCOUTQ`).
    #[inline]
    pub fn unacked(&self) -> u64 {
        let head = self.engine.tx_head.load(Ordering::Acquire);
        let tail = self.app.tx_tail.load(Ordering::Relaxed);
        tail.saturating_sub(head)
    }

    /// Bytes written and not sent even once, while [`Options::notsent_low`] is set.
    fn unsent(&self) -> u64 {
        let next = self.engine.tx_next.load(Ordering::Acquire);
        let tail = self.app.tx_tail.load(Ordering::Relaxed);
        tail.saturating_sub(next).min(self.unacked())
    }

    /// Whether a writer may be told so: a third of the limit is free (as `sk_stream_is_writeable`), and
    /// less than half of what `TCP_NOTSENT_LOWAT` allows is unsent (as `tcp_stream_memory_free`).
    #[inline]
    pub fn has_room(&self) -> bool {
        let (free, limit) = self.free();
        let low = u64::from(self.options.notsent_low.load(Ordering::Relaxed));
        limit > 0 && free >= (limit - free) / 2 && free > 0 && (low == 0 || self.unsent() * 2 < low)
    }

    /// Application, before it looks at the state one last time and sleeps: announces a sleeper and
    /// returns the word's value to sleep on.
    pub fn announce_waiter(&self) -> u32 {
        self.app.waiters.fetch_add(1, Ordering::SeqCst);
        // The other half of the fence in `wake_waiters`.
        fence(Ordering::SeqCst);
        self.engine.wake.load(Ordering::SeqCst)
    }

    /// Application: takes the announcement back.
    pub fn retract_waiter(&self) {
        self.app.waiters.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes all threads that block on this socket. Returns whether there were any.
    pub fn wake_waiters(&self) -> bool {
        fence(Ordering::SeqCst);
        if self.app.waiters.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.engine.wake.fetch_add(1, Ordering::SeqCst);
        crate::futex::wake(&self.engine.wake, i32::MAX);
        true
    }
}
