//! Settings of TCP that have the names and meanings of Linux's (`ip-sysctl`).

use super::{Key, MINUTE, Section, time};
use crate::settings::fastopen;
use crate::value::{self, duration_text, number};
use std::time::Duration;

/// Longest retransmission time-out.
pub const RTO_MAX: Key = Key {
    name: "tcp.rto_max",
    section: Section::Memory,
    expected: "a duration from 1s to 2m such as 120s",
    doc: "Longest retransmission time-out.",
    read: |s, v| time(v, Duration::from_secs(1), 2 * MINUTE).map(|d| s.tcp.rto_max = d),
    write: |s| duration_text(s.tcp.rto_max),
};

/// Least time between two answers to segments that should not have come.
pub const INVALID_RATELIMIT: Key = Key {
    name: "tcp.invalid_ratelimit",
    section: Section::Memory,
    expected: "a duration up to 1m such as 500ms",
    doc: "Least time between two answers of a connection to segments without data that should not \
          have come (RFC 5961 §10); 0 answers each.",
    read: |s, v| time(v, Duration::ZERO, MINUTE).map(|d| s.tcp.invalid_ratelimit = d),
    write: |s| duration_text(s.tcp.invalid_ratelimit),
};

/// Retransmissions of a SYN-ACK before the half-open connection is dropped.
pub const SYNACK_RETRIES: Key = Key {
    name: "tcp.synack_retries",
    section: Section::Memory,
    expected: "a number from 0 to 127",
    doc: "Retransmissions of a SYN-ACK before the half-open connection is dropped.",
    read: |s, v| number(v, 0..=127).map(|n| s.tcp.synack_retries = n),
    write: |s| s.tcp.synack_retries.to_string(),
};

/// Retransmissions of data before a connection is given up.
pub const RETRIES2: Key = Key {
    name: "tcp.retries2",
    section: Section::Memory,
    expected: "a number from 1 to 127",
    doc: "Retransmissions of data before a connection is given up.",
    read: |s, v| number(v, 1..=127).map(|n| s.tcp.retries2 = n),
    write: |s| s.tcp.retries2.to_string(),
};

/// The same, once the program has closed the connection.
pub const ORPHAN_RETRIES: Key = Key {
    name: "tcp.orphan_retries",
    section: Section::Memory,
    expected: "a number from 0 to 127",
    doc: "The same, once the program has closed the connection.",
    read: |s, v| number(v, 0..=127).map(|n| s.tcp.orphan_retries = n),
    write: |s| s.tcp.orphan_retries.to_string(),
};

/// Connections that programs have closed and that still have something to send.
pub const MAX_ORPHANS: Key = Key {
    name: "tcp.max_orphans",
    section: Section::Memory,
    expected: "a number from 0 to 16777216",
    doc: "Connections that programs have closed and that still have something to send; beyond, one \
          that is closed is reset at once.",
    read: |s, v| number(v, 0..=1 << 24).map(|n| s.tcp.max_orphans = n),
    write: |s| s.tcp.max_orphans.to_string(),
};

/// How long a connection that the program has closed waits for the peer's FIN.
pub const FIN_TIMEOUT: Key = Key {
    name: "tcp.fin_timeout",
    section: Section::Memory,
    expected: "a duration up to 10m such as 60s",
    doc: "How long a connection that the program has closed waits for the peer's FIN.",
    read: |s, v| time(v, Duration::ZERO, 10 * MINUTE).map(|d| s.tcp.fin_timeout = d),
    write: |s| duration_text(s.tcp.fin_timeout),
};

/// Offers selective acknowledgements (RFC 2018).
pub const SACK: Key = Key {
    name: "tcp.sack",
    section: Section::Memory,
    expected: "on or off",
    doc: "Offers selective acknowledgements (RFC 2018).",
    read: |s, v| value::switch(v).map(|on| s.tcp.sack = on),
    write: |s| value::switch_text(s.tcp.sack),
};

/// Reports what was received twice (RFC 2883).
pub const DSACK: Key = Key {
    name: "tcp.dsack",
    section: Section::Memory,
    expected: "on or off",
    doc: "Reports to the peer what was received twice (RFC 2883), where both ends have selective \
          acknowledgements.",
    read: |s, v| value::switch(v).map(|on| s.tcp.dsack = on),
    write: |s| value::switch_text(s.tcp.dsack),
};

/// Offers timestamps (RFC 7323).
pub const TIMESTAMPS: Key = Key {
    name: "tcp.timestamps",
    section: Section::Memory,
    expected: "on or off",
    doc: "Offers timestamps (RFC 7323).",
    read: |s, v| value::switch(v).map(|on| s.tcp.timestamps = on),
    write: |s| value::switch_text(s.tcp.timestamps),
};

/// Offers window scaling (RFC 7323); without it no window is larger than 64 KB.
pub const WINDOW_SCALING: Key = Key {
    name: "tcp.window_scaling",
    section: Section::Memory,
    expected: "on or off",
    doc: "Offers window scaling (RFC 7323); without it no window is larger than 64 KB.",
    read: |s, v| value::switch(v).map(|on| s.tcp.window_scaling = on),
    write: |s| value::switch_text(s.tcp.window_scaling),
};

/// Congestion window of a new connection (RFC 6928).
pub const INITIAL_WINDOW: Key = Key {
    name: "tcp.initial_window",
    section: Section::Memory,
    expected: "a number of segments from 1 to 255",
    doc: "Congestion window of a new connection (RFC 6928).",
    read: |s, v| number(v, 1..=255).map(|n| s.tcp.initial_window = n),
    write: |s| s.tcp.initial_window.to_string(),
};

/// A connection that was idle begins again with the initial window (RFC 5681 section 4.1).
pub const SLOW_START_AFTER_IDLE: Key = Key {
    name: "tcp.slow_start_after_idle",
    section: Section::Memory,
    expected: "on or off",
    doc: "After a retransmission time-out without data to send, a connection begins again with the \
          initial window (RFC 5681 §4.1); off, it goes on with the one that it had.",
    read: |s, v| value::switch(v).map(|on| s.tcp.slow_start_after_idle = on),
    write: |s| value::switch_text(s.tcp.slow_start_after_idle),
};

/// Fast Open (RFC 7413).
pub const FASTOPEN: Key = Key {
    name: "tcp.fastopen",
    section: Section::Memory,
    expected: "a sum of 1, 2, 4, 512 and 1024, or 0",
    doc: "Fast Open (RFC 7413) for programs that ask for it: 1 when they connect, 2 when they \
          listen; 4 and 512 the same without a cookie, 1024 for all listeners.",
    read: |s, v| {
        let bits: u32 = number(v, 0..=fastopen::ALL)?;
        (bits & !fastopen::ALL == 0).then(|| s.tcp.fastopen = bits)
    },
    write: |s| s.tcp.fastopen.to_string(),
};
