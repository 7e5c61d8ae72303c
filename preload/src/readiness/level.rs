//! The level of a socket: what poll(2) would say of it now, derived from its record alone.
//!
//! After `tcp_poll` and `inet_csk_listen_poll` of Linux. Bits of poll and epoll are the same.

use context::socket::{Socket, flag, option, state};
use context::{MAX_WORKERS, Segment};
use std::sync::atomic::Ordering;

/// Bits of epoll_ctl(2), which have the same values as those of poll(2).
pub mod bit {
    /// `EPOLLIN`
    pub const IN: u32 = libc::EPOLLIN as u32;
    /// `EPOLLPRI`
    pub const PRI: u32 = libc::EPOLLPRI as u32;
    /// `EPOLLOUT`
    pub const OUT: u32 = libc::EPOLLOUT as u32;
    /// `EPOLLERR`
    pub const ERR: u32 = libc::EPOLLERR as u32;
    /// `EPOLLHUP`
    pub const HUP: u32 = libc::EPOLLHUP as u32;
    /// `POLLNVAL`, of poll only.
    pub const NVAL: u32 = libc::POLLNVAL as u32;
    /// `EPOLLRDNORM`
    pub const RDNORM: u32 = libc::EPOLLRDNORM as u32;
    /// `EPOLLRDBAND`
    pub const RDBAND: u32 = libc::EPOLLRDBAND as u32;
    /// `EPOLLWRNORM`
    pub const WRNORM: u32 = libc::EPOLLWRNORM as u32;
    /// `EPOLLWRBAND`
    pub const WRBAND: u32 = libc::EPOLLWRBAND as u32;
    /// `EPOLLRDHUP`
    pub const RDHUP: u32 = libc::EPOLLRDHUP as u32;
    /// All that data to read, or its end, can raise.
    pub const READ: u32 = IN | PRI | RDNORM | RDBAND;
    /// All that room to write can raise.
    pub const WRITE: u32 = OUT | WRNORM | WRBAND;
    /// Reported whether asked for or not.
    pub const ALWAYS: u32 = ERR | HUP;
}

/// What a socket whose engine is gone says: every call returns at once, and fails.
const GONE: u32 = bit::ALWAYS | bit::RDHUP | READABLE | WRITABLE;

/// The level of `socket` once its engine is gone. A listener says nothing more: most programs only
/// log an accept(2) that fails, and would do so without end; the kernel's half may go on.
pub fn gone_level(socket: Option<&Socket>) -> u32 {
    match socket {
        Some(socket) if socket.tcp_state() == state::LISTEN => 0,
        _ => GONE,
    }
}

const READABLE: u32 = bit::IN | bit::RDNORM;
const WRITABLE: u32 = bit::OUT | bit::WRNORM;

/// The level of `socket`, whether its bits were asked for or not, only that nobody looks whether there is
/// room unless `interest` has a bit of [`bit::WRITE`]. If there is none, the engine is then asked for an
/// edge when there is.
#[inline]
pub fn level(segment: &Segment, socket: &Socket, interest: u32) -> u32 {
    let word = socket.state_bits();
    let flags = socket.app.flags.load(Ordering::Acquire);
    let error = socket.engine.error.load(Ordering::Acquire) != 0;
    // Nearly all that are asked about are connections of which nothing has ended.
    let apart = state::RX_SHUT | state::TX_SHUT | state::URGENT;
    let is_plain = word & (state::MASK | apart) == state::ESTABLISHED
        && flags & (flag::SHUT_RD | flag::SHUT_WR) == 0
        && !error;
    match is_plain {
        true => plain_level(socket, interest),
        false => any_level(segment, socket, interest, word, flags, error),
    }
}

/// Of a connection on which data flows both ways.
#[inline]
fn plain_level(socket: &Socket, interest: u32) -> u32 {
    let mut level = 0;
    if socket.readable() >= low_water(socket) {
        level |= READABLE;
    }
    if has_room(socket, interest) {
        level |= WRITABLE;
    }
    level
}

/// Bytes from which on a socket is readable (`SO_RCVLOWAT`).
#[inline]
fn low_water(socket: &Socket) -> u64 {
    u64::from(socket.options.receive_low.load(Ordering::Relaxed)).max(1)
}

/// Of any socket.
fn any_level(
    segment: &Segment,
    socket: &Socket,
    interest: u32,
    word: u32,
    flags: u32,
    error: bool,
) -> u32 {
    let tcp = match word & state::MASK {
        0 => state::CLOSE,
        tcp => tcp,
    };
    if tcp == state::LISTEN {
        let waits = accept_waits(segment, socket);
        return if waits { READABLE } else { 0 };
    }
    let connecting = tcp == state::CLOSE
        && flags & flag::CONNECTING != 0
        && word & state::RX_SHUT == 0
        && !error;
    let read_shut = word & state::RX_SHUT != 0 || flags & flag::SHUT_RD != 0;
    let write_shut = word & state::TX_SHUT != 0 || flags & flag::SHUT_WR != 0;

    let mut level = 0;
    if connecting && flags & flag::DEFERRED != 0 {
        // The data that is written makes the SYN.
        level |= WRITABLE;
    }
    if (tcp == state::CLOSE && !connecting) || (read_shut && write_shut) {
        level |= bit::HUP;
    }
    if read_shut {
        level |= READABLE | bit::RDHUP;
    }
    if !connecting && tcp != state::SYN_SENT && tcp != state::SYN_RECV {
        let inline = socket.options.bits.load(Ordering::Relaxed) & option::OOBINLINE != 0;
        // The urgent byte next in order counts only where it is read in line.
        let urgent = u64::from(socket.urgent_mark() == Some(0) && !inline);
        if socket.readable() >= low_water(socket) + urgent {
            level |= READABLE;
        }
        if socket.has_urgent() {
            level |= bit::PRI;
        }
        if write_shut || tcp == state::CLOSE || has_room(socket, interest) {
            level |= WRITABLE;
        }
    }
    if error {
        level |= bit::ERR;
    }
    level
}

/// Whether a connection waits in one of a listener's accept rings.
fn accept_waits(segment: &Segment, socket: &Socket) -> bool {
    let workers = (segment.geometry().workers as usize).min(MAX_WORKERS);
    socket.accept_rings[..workers].iter().any(|chunk| {
        let chunk = chunk.load(Ordering::Acquire);
        chunk != 0
            && segment
                .accept_ring(chunk)
                .is_some_and(|ring| !ring.is_empty())
    })
}

#[inline]
fn has_room(socket: &Socket, interest: u32) -> bool {
    if interest & bit::WRITE == 0 {
        return false;
    }
    if socket.has_room() {
        return true;
    }
    socket.app.flags.fetch_or(flag::NOSPACE, Ordering::SeqCst);
    // The engine may have made room just before it could see the flag.
    socket.has_room()
}

/// What of a socket was seen when an edge was taken, to tell what the next one is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    rx_tail: u64,
    tx_head: u64,
    tx_next: u64,
    tx_limit: u32,
    starved: u32,
    state: u32,
}

impl Seen {
    /// What is to be seen now. Taken before the level is looked at.
    pub fn now(socket: &Socket) -> Seen {
        let shut = socket.app.flags.load(Ordering::Acquire) & (flag::SHUT_RD | flag::SHUT_WR);
        Seen {
            state: socket.engine.state.load(Ordering::Acquire) | shut << 16,
            rx_tail: socket.engine.rx_tail.load(Ordering::Acquire),
            tx_head: socket.engine.tx_head.load(Ordering::Acquire),
            tx_next: socket.engine.tx_next.load(Ordering::Acquire),
            tx_limit: socket.engine.tx_limit.load(Ordering::Acquire),
            starved: socket.app.starved.load(Ordering::Acquire),
        }
    }

    /// Which bits an edge since then can have raised: the key of Linux's wait queues.
    pub fn edge(&self, now: &Seen, socket: &Socket) -> u32 {
        let tcp = now.state & state::MASK;
        if self.state != now.state
            || tcp == state::LISTEN
            || socket.engine.error.load(Ordering::Acquire) != 0
        {
            return u32::MAX;
        }
        let mut edge = 0;
        if self.rx_tail != now.rx_tail {
            edge |= bit::READ;
        }
        let writing = |seen: &Seen| (seen.tx_head, seen.tx_next, seen.tx_limit, seen.starved);
        if writing(self) != writing(now) {
            edge |= bit::WRITE;
        }
        edge
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readiness::testing::Engine;
    use std::sync::atomic::Ordering::SeqCst;

    const ALL: u32 = u32::MAX;

    #[test]
    fn a_fresh_socket_hangs_up_and_can_be_written_as_in_the_kernel() {
        let engine = Engine::new();
        let socket = engine.fresh_socket(0);
        let expected = bit::HUP | bit::OUT | bit::WRNORM;
        assert_eq!(level(engine.segment(), socket, ALL), expected);
    }

    #[test]
    fn a_connecting_socket_shows_nothing_until_the_outcome() {
        let engine = Engine::new();
        let socket = engine.fresh_socket(0);
        socket.app.flags.fetch_or(flag::CONNECTING, SeqCst);
        assert_eq!(level(engine.segment(), socket, ALL), 0);
        socket.engine.state.store(state::SYN_SENT, SeqCst);
        assert_eq!(level(engine.segment(), socket, ALL), 0);
        engine.establish(0);
        assert_eq!(level(engine.segment(), socket, ALL), bit::OUT | bit::WRNORM);
    }

    #[test]
    fn a_failed_connect_raises_everything() {
        let engine = Engine::new();
        let socket = engine.fresh_socket(0);
        socket.app.flags.fetch_or(flag::CONNECTING, SeqCst);
        engine.fail(0, libc::ECONNREFUSED);
        assert_eq!(level(engine.segment(), socket, ALL), GONE);
    }

    #[test]
    fn data_is_readable_from_the_low_water_mark_on() {
        let engine = Engine::new();
        let socket = engine.established(0);
        socket.options.receive_low.store(10, SeqCst);
        engine.data(0, 9);
        assert_eq!(level(engine.segment(), socket, 0) & bit::IN, 0);
        engine.data(0, 1);
        assert_eq!(level(engine.segment(), socket, 0) & READABLE, READABLE);
    }

    #[test]
    fn urgent_data_is_an_exception_until_it_is_read_in_line_or_apart() {
        for inline in [0, option::OOBINLINE] {
            let engine = Engine::new();
            let socket = engine.established(0);
            socket.options.bits.store(inline, SeqCst);
            socket.app.urgent.received.store(4, SeqCst);
            socket.engine.state.fetch_or(state::URGENT, SeqCst);
            engine.data(0, 3);
            let raised = |wanted| level(engine.segment(), socket, ALL) & wanted;
            assert_eq!(raised(bit::PRI), 0, "the byte has not come");
            engine.data(0, 3);
            assert_eq!(raised(bit::PRI | bit::IN), bit::PRI | bit::IN);
            socket.app.rx_head.store(3, SeqCst);
            assert_eq!(raised(bit::PRI), bit::PRI, "at the mark");
            socket.app.rx_head.store(4, SeqCst);
            assert_eq!(raised(bit::PRI | bit::IN), bit::IN, "past the mark");
        }
    }

    #[test]
    fn an_urgent_byte_alone_is_readable_only_in_line() {
        let engine = Engine::new();
        let socket = engine.established(0);
        socket.app.urgent.received.store(1, SeqCst);
        socket.engine.state.fetch_or(state::URGENT, SeqCst);
        engine.data(0, 1);
        let raised = || level(engine.segment(), socket, ALL) & (bit::PRI | bit::IN);
        assert_eq!(raised(), bit::PRI);
        socket.app.urgent.taken.store(1, SeqCst);
        assert_eq!(raised(), 0);
        socket.app.urgent.taken.store(0, SeqCst);
        socket.options.bits.store(option::OOBINLINE, SeqCst);
        assert_eq!(raised(), bit::PRI | bit::IN);
    }

    #[test]
    fn the_peers_fin_reads_as_end_and_the_own_shutdown_completes_the_hang_up() {
        let engine = Engine::new();
        let socket = engine.established(0);
        engine.fin(0);
        let half = READABLE | bit::RDHUP | WRITABLE;
        assert_eq!(level(engine.segment(), socket, ALL), half);
        socket.app.flags.fetch_or(flag::SHUT_WR, SeqCst);
        assert_eq!(level(engine.segment(), socket, ALL), half | bit::HUP);
    }

    #[test]
    fn a_full_send_stream_is_not_writable_and_asks_for_an_edge() {
        let engine = Engine::new();
        let socket = engine.established(0);
        engine.fill(0);
        assert_eq!(level(engine.segment(), socket, bit::IN), 0);
        assert_eq!(socket.app.flags.load(SeqCst) & flag::NOSPACE, 0);
        assert_eq!(level(engine.segment(), socket, bit::OUT), 0);
        assert_ne!(socket.app.flags.load(SeqCst) & flag::NOSPACE, 0);
    }

    #[test]
    fn unsent_bytes_are_not_writable_beyond_the_mark_and_ask_for_an_edge() {
        let engine = Engine::new();
        let socket = engine.established(0);
        socket.options.notsent_low.store(100, SeqCst);
        socket.app.tx_tail.store(50, SeqCst);
        assert_eq!(level(engine.segment(), socket, bit::OUT), 0);
        assert_ne!(socket.app.flags.load(SeqCst) & flag::NOSPACE, 0);
        let seen = Seen::now(socket);
        socket.engine.tx_next.store(1, SeqCst);
        assert_eq!(seen.edge(&Seen::now(socket), socket), bit::WRITE);
        assert_eq!(level(engine.segment(), socket, bit::OUT), WRITABLE);
    }

    #[test]
    fn a_listener_is_readable_while_a_connection_waits_and_never_writable() {
        let engine = Engine::new();
        let socket = engine.listener(0);
        assert_eq!(level(engine.segment(), socket, ALL), 0);
        engine.incoming(0, 7);
        assert_eq!(level(engine.segment(), socket, ALL), READABLE);
    }

    #[test]
    fn a_pending_error_shows_until_it_is_taken() {
        let engine = Engine::new();
        let socket = engine.established(0);
        engine.fail(0, libc::ECONNRESET);
        assert_ne!(level(engine.segment(), socket, 0) & bit::ERR, 0);
        socket.engine.error.store(0, SeqCst);
        assert_eq!(level(engine.segment(), socket, 0), GONE & !bit::ERR);
    }

    #[test]
    fn an_edge_is_about_what_has_changed() {
        let engine = Engine::new();
        let socket = engine.established(0);
        let seen = Seen::now(socket);
        assert_eq!(seen.edge(&Seen::now(socket), socket), 0);
        engine.data(0, 1);
        assert_eq!(seen.edge(&Seen::now(socket), socket), bit::READ);
        let seen = Seen::now(socket);
        socket.engine.tx_head.fetch_add(1, SeqCst);
        assert_eq!(seen.edge(&Seen::now(socket), socket), bit::WRITE);
        let seen = Seen::now(socket);
        engine.fin(0);
        assert_eq!(seen.edge(&Seen::now(socket), socket), u32::MAX);
    }
}
