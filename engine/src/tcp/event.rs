//! What the core tells its driver: events, reasons of drops, errors of a connection.

use core::fmt;
use core::ops::{BitOr, BitOrAssign};

/// What changed on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Events(pub u16);

impl Events {
    /// Nothing.
    pub const NONE: Events = Events(0);
    /// The handshake is complete.
    pub const CONNECTED: Events = Events(1);
    /// The in-order end of the receive stream advanced.
    pub const READABLE: Events = Events(1 << 1);
    /// The peer acknowledged data: the send stream has more room.
    pub const WRITABLE: Events = Events(1 << 2);
    /// The peer's FIN arrived in order.
    pub const PEER_CLOSED: Events = Events(1 << 3);
    /// The connection failed; [`Tcb::error`](super::Tcb::error) says how.
    pub const ERROR: Events = Events(1 << 4);
    /// The connection reached CLOSED. Its control block may be freed once
    /// [`Tcb::is_closed`](super::Tcb::is_closed) holds, which waits for a last RST.
    pub const CLOSED: Events = Events(1 << 5);
    /// [`Tcb::poll_transmit`](super::Tcb::poll_transmit) may have something.
    pub const SEND: Events = Events(1 << 6);
    /// The segment's control part counted, but its payload did not fit into the receive stream.
    pub const NO_ROOM: Events = Events(1 << 7);
    /// The segment's control part counted, but its payload would have been one hole too many.
    pub const TOO_MANY_HOLES: Events = Events(1 << 8);

    /// The peer marked data as urgent: see [`Tcb::urgent_end`](super::Tcb::urgent_end).
    pub const URGENT: Events = Events(1 << 9);

    /// Whether all of `other` are in here.
    pub const fn contains(self, other: Events) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in here.
    pub const fn intersects(self, other: Events) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether nothing happened.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all that happened is that data came or was acknowledged.
    pub const fn is_routine(self) -> bool {
        let routine = Events::READABLE.0 | Events::WRITABLE.0 | Events::SEND.0;
        let refused = Events::NO_ROOM.0 | Events::TOO_MANY_HOLES.0;
        self.0 & !(routine | refused) == 0
    }

    /// Why the payload of a segment that otherwise counted was refused.
    pub const fn payload_drop(self) -> Option<Drop> {
        if self.contains(Events::NO_ROOM) {
            Some(Drop::NoRoom)
        } else if self.contains(Events::TOO_MANY_HOLES) {
            Some(Drop::TooManyHoles)
        } else {
            None
        }
    }
}

impl BitOr for Events {
    type Output = Events;
    fn bitor(self, other: Events) -> Events {
        Events(self.0 | other.0)
    }
}

impl BitOrAssign for Events {
    fn bitor_assign(&mut self, other: Events) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 10] = [
            "CONNECTED",
            "READABLE",
            "WRITABLE",
            "PEER_CLOSED",
            "ERROR",
            "CLOSED",
            "SEND",
            "NO_ROOM",
            "TOO_MANY_HOLES",
            "URGENT",
        ];
        let set = NAMES
            .iter()
            .enumerate()
            .filter(|(bit, _)| self.0 & (1 << bit) != 0);
        f.debug_set().entries(set.map(|(_, name)| name)).finish()
    }
}

/// Why a segment, or its payload, was dropped. Each reason is a counter; `reason as usize` indexes an
/// array of [`Drop::COUNT`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Drop {
    /// The connection is closed.
    Closed,
    /// All of it was received before.
    OldDuplicate,
    /// Beyond the receive window.
    OutOfWindow,
    /// Its timestamp is older than one already seen (RFC 7323 section 5).
    Paws,
    /// Timestamps were negotiated, and it has none (RFC 7323 section 3.2).
    NoTimestamp,
    /// No ACK bit where one is due.
    NoAck,
    /// It acknowledges what was never sent.
    AckOfUnsent,
    /// Its acknowledgement is older than any window (RFC 5961 section 5.2).
    AckTooOld,
    /// A RST whose sequence number is in the window but not the expected one (RFC 5961 section 3.2).
    ResetUnproven,
    /// A RST outside the window, or one that a handshake does not justify.
    ResetOutOfWindow,
    /// A SYN inside a synchronised connection (RFC 5961 section 4.2).
    UnexpectedSyn,
    /// Neither SYN nor RST where a handshake waits for one.
    NoSyn,
    /// The ACK of a handshake whose listener waits for data (TCP_DEFER_ACCEPT).
    Deferred,
    /// The receive stream had no room for the payload.
    NoRoom,
    /// The payload would have been one more hole than reassembly keeps track of.
    TooManyHoles,
}

impl Drop {
    /// How many reasons there are.
    pub const COUNT: usize = 15;

    /// All reasons, in the order of their indices.
    pub const ALL: [Drop; Drop::COUNT] = [
        Drop::Closed,
        Drop::OldDuplicate,
        Drop::OutOfWindow,
        Drop::Paws,
        Drop::NoTimestamp,
        Drop::NoAck,
        Drop::AckOfUnsent,
        Drop::AckTooOld,
        Drop::ResetUnproven,
        Drop::ResetOutOfWindow,
        Drop::UnexpectedSyn,
        Drop::NoSyn,
        Drop::Deferred,
        Drop::NoRoom,
        Drop::TooManyHoles,
    ];

    /// The name of the reason's counter.
    pub const fn name(self) -> &'static str {
        match self {
            Drop::Closed => "tcp_closed",
            Drop::OldDuplicate => "tcp_old_duplicate",
            Drop::OutOfWindow => "tcp_out_of_window",
            Drop::Paws => "tcp_paws",
            Drop::NoTimestamp => "tcp_no_timestamp",
            Drop::NoAck => "tcp_no_ack",
            Drop::AckOfUnsent => "tcp_ack_of_unsent",
            Drop::AckTooOld => "tcp_ack_too_old",
            Drop::ResetUnproven => "tcp_reset_unproven",
            Drop::ResetOutOfWindow => "tcp_reset_out_of_window",
            Drop::UnexpectedSyn => "tcp_unexpected_syn",
            Drop::NoSyn => "tcp_no_syn",
            Drop::Deferred => "tcp_deferred",
            Drop::NoRoom => "tcp_no_room",
            Drop::TooManyHoles => "tcp_too_many_holes",
        }
    }
}

/// How a connection failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The peer refused the connection (ECONNREFUSED).
    Refused,
    /// The peer reset the connection (ECONNRESET).
    Reset,
    /// The peer reset the connection after it had closed its side (EPIPE).
    BrokenPipe,
    /// The peer did not answer in time (ETIMEDOUT).
    TimedOut,
    /// ICMP: host unreachable (EHOSTUNREACH).
    HostUnreachable,
    /// ICMP: network unreachable (ENETUNREACH).
    NetworkUnreachable,
    /// ICMP: protocol unreachable (ENOPROTOOPT).
    ProtocolUnreachable,
    /// ICMP: administratively prohibited (EACCES).
    Prohibited,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Refused => "connection refused",
            Error::Reset => "connection reset by peer",
            Error::BrokenPipe => "broken pipe",
            Error::TimedOut => "connection timed out",
            Error::HostUnreachable => "host unreachable",
            Error::NetworkUnreachable => "network unreachable",
            Error::ProtocolUnreachable => "protocol unreachable",
            Error::Prohibited => "communication administratively prohibited",
        })
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drop_reason_has_its_own_index_and_name() {
        for (index, reason) in Drop::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            let same = Drop::ALL
                .iter()
                .filter(|other| other.name() == reason.name());
            assert_eq!(same.count(), 1, "{}", reason.name());
        }
    }
}
