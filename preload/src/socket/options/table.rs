//! The table of options.

use super::tcp;
use super::values::{self, shown};
use super::{Value, is_inet6};
use crate::errno::Result;
use crate::socket::SocketRef;
use config::ClientTcp;
use context::socket::{Options, option};
use libc::{IPPROTO_IP as IP, IPPROTO_IPV6 as IPV6, IPPROTO_TCP as TCP, SOL_SOCKET as SOCKET};
use std::ffi::c_int;
use std::ops::RangeInclusive;
use std::sync::atomic::AtomicU32;

/// Where an option's value lives, and so what can be done with it.
pub enum Kind {
    /// A bit of [`Options::bits`]; set by any value but 0.
    Bit(u32),
    /// A number of the record, where 0 stands for the default.
    Number {
        /// Its word.
        word: fn(&Options) -> &AtomicU32,
        /// What may be set; anything else is `EINVAL`.
        range: RangeInclusive<i32>,
        /// What is read if nothing was set.
        default: fn(&ClientTcp) -> i32,
    },
    /// A number without effect on the stack, which is kept in the process.
    Kept {
        /// What is kept of the value given.
        accept: fn(i32) -> Result<i32>,
        /// What is read if nothing was set.
        default: i32,
        /// What is read on a socket of which the stack knows better.
        known: fn(SocketRef) -> Option<i32>,
    },
    /// A number without effect on TCP or on the stack, which is kept in the process as the kernel would
    /// show it; the kernel is asked what it takes.
    AsKernel,
    /// The one value that the stack has; setting any other fails with `ENOPROTOOPT`, or with what the
    /// kernel says to it.
    Only(i32),
    /// Can only be read.
    Shown(fn(SocketRef) -> Result<Value>),
    /// Has rules of its own.
    Own {
        /// Reads it.
        read: fn(SocketRef) -> Result<Value>,
        /// Sets it.
        write: fn(SocketRef, &[u8]) -> Result<()>,
        /// What the program has set, for a kernel socket that takes over.
        asked: fn(&Options) -> Option<Value>,
    },
    /// The stack does not have it: setting it fails with this errno, reading it with `ENOPROTOOPT`.
    Absent(c_int),
}

/// One option.
pub struct Row {
    /// Level, as setsockopt(2) takes it.
    pub level: c_int,
    /// Number within the level.
    pub number: c_int,
    /// Name in C.
    pub name: &'static str,
    /// Where the value lives.
    pub kind: Kind,
    /// What it does; one line for the documentation.
    pub effect: &'static str,
    /// How it differs from Linux, if the difference shows.
    pub differs: &'static str,
}

/// The row of an option, if a socket of this family has it.
pub fn find(socket: SocketRef, level: c_int, number: c_int) -> Option<&'static Row> {
    ROWS.iter()
        .find(|row| row.number == number && row.level == level)
        .filter(|row| row.level != IPV6 || is_inet6(socket))
}

macro_rules! rows {
    ($($level:ident $name:ident $(= $number:literal)?: $kind:expr, $effect:literal $(, differs: $differs:literal)?;)*) => {
        /// All options.
        pub static ROWS: &[Row] = &[$(
            Row {
                level: $level,
                number: rows!(@number $name $($number)?),
                name: stringify!($name),
                kind: $kind,
                effect: $effect,
                differs: rows!(@text $($differs)?),
            },
        )*];
    };
    (@number $name:ident) => { libc::$name };
    (@number $name:ident $number:literal) => { $number };
    (@text) => { "" };
    (@text $text:literal) => { $text };
}

rows! {
    TCP TCP_NODELAY: Kind::Bit(option::NODELAY), "no Nagle; what waits is sent at once";
    SOCKET SO_REUSEADDR: Kind::Bit(option::REUSEADDR), "bind over TIME-WAIT connections";
    SOCKET SO_KEEPALIVE: Kind::Bit(option::KEEPALIVE), "probes an idle peer";
    SOCKET SO_ERROR: Kind::Shown(values::error), "takes the pending error";
    SOCKET SO_REUSEPORT: Kind::Bit(option::REUSEPORT), "several listeners share a port";
    SOCKET SO_TYPE: Kind::Shown(|_| Ok(Value::int(libc::SOCK_STREAM))), "SOCK_STREAM";
    SOCKET SO_DOMAIN: Kind::Shown(values::domain), "AF_INET or AF_INET6";
    SOCKET SO_PROTOCOL: Kind::Shown(|_| Ok(Value::int(libc::IPPROTO_TCP))), "IPPROTO_TCP";
    SOCKET SO_ACCEPTCONN: Kind::Shown(values::accepting), "whether it listens";
    SOCKET SO_LINGER: Kind::Own {
        read: values::linger,
        write: values::set_linger,
        asked: values::asked_linger,
    }, "close waits until all is acknowledged; 0 s: close resets";
    SOCKET SO_SNDBUF: Kind::Own {
        read: values::send_buffer,
        write: values::set_send_buffer,
        asked: values::asked_send_buffer,
    }, "bytes that may wait to be acknowledged; unset, it grows with need";
    SOCKET SO_RCVBUF: Kind::Own {
        read: values::receive_buffer,
        write: values::set_receive_buffer,
        asked: values::asked_receive_buffer,
    }, "bytes that may wait unread; unset, it grows with need";
    SOCKET SO_RCVTIMEO: Kind::Own {
        read: |s| values::timeout(&s.record().options.receive_timeout),
        write: |s, v| values::set_timeout(&s.record().options.receive_timeout, v),
        asked: |o| values::asked_timeout(&o.receive_timeout),
    }, "bounds blocking receives and accepts", differs: "not rounded up to the kernel's tick";
    SOCKET SO_SNDTIMEO: Kind::Own {
        read: |s| values::timeout(&s.record().options.send_timeout),
        write: |s, v| values::set_timeout(&s.record().options.send_timeout, v),
        asked: |o| values::asked_timeout(&o.send_timeout),
    }, "bounds blocking sends and connects", differs: "not rounded up to the kernel's tick";
    SOCKET SO_RCVTIMEO_NEW = 66: Kind::Own {
        read: |s| values::timeout(&s.record().options.receive_timeout),
        write: |s, v| values::set_timeout(&s.record().options.receive_timeout, v),
        asked: values::not_asked,
    }, "SO_RCVTIMEO";
    SOCKET SO_SNDTIMEO_NEW = 67: Kind::Own {
        read: |s| values::timeout(&s.record().options.send_timeout),
        write: |s, v| values::set_timeout(&s.record().options.send_timeout, v),
        asked: values::not_asked,
    }, "SO_SNDTIMEO";
    SOCKET SO_RCVLOWAT: Kind::Own {
        read: values::receive_low,
        write: values::set_receive_low,
        asked: values::asked_receive_low,
    }, "bytes that make a socket readable",
        differs: "at most half of the receive buffer: 32 KB unless SO_RCVBUF was set";
    SOCKET SO_SNDLOWAT: Kind::Shown(|_| Ok(Value::int(1))), "1";
    SOCKET SO_OOBINLINE: Kind::Bit(option::OOBINLINE),
        "urgent data stays in line";
    SOCKET SO_BROADCAST: Kind::Bit(shown::BROADCAST), "none on TCP, as in Linux";
    SOCKET SO_BUSY_POLL: Kind::Kept {
        accept: values::not_negative,
        default: 0,
        known: values::nothing,
    },
        "a hint to the kernel's drivers; the stack polls as its own settings say",
        differs: "needs no privilege";
    SOCKET SO_INCOMING_CPU: Kind::Kept {
        accept: Ok,
        default: -1,
        known: values::incoming_cpu,
    }, "the core on which the connection's worker runs",
        differs: "does not choose among listeners of SO_REUSEPORT";
    SOCKET SO_INCOMING_NAPI_ID: Kind::Shown(|_| Ok(Value::int(0))), "0: no device of the kernel";
    SOCKET SO_COOKIE: Kind::Shown(values::cookie), "a number of its own for each socket",
        differs: "unique in the stack, not in the machine";
    SOCKET SO_PEERCRED: Kind::Shown(values::no_peer), "no process and no user, as in Linux";
    SOCKET SO_BINDTODEVICE: Kind::Own {
        read: values::empty,
        write: values::set_device,
        asked: values::not_asked,
    }, "none: ENODEV, the stack's device has no name in the kernel";
    SOCKET SO_MAX_PACING_RATE: Kind::Own {
        read: tcp::pacing,
        write: tcp::set_pacing,
        asked: tcp::asked_pacing,
    }, "bounds the rate of sending, in bytes per second",
        differs: "a rate that 4 bytes cannot hold is not cut to the largest that they can";
    SOCKET SO_DEBUG: Kind::AsKernel, "none, as in Linux";
    SOCKET SO_NO_CHECK: Kind::AsKernel, "none on TCP, as in Linux";
    SOCKET SO_RXQ_OVFL: Kind::AsKernel, "none on TCP, as in Linux";
    SOCKET SO_SELECT_ERR_QUEUE: Kind::AsKernel, "none: there is no error queue";
    SOCKET SO_LOCK_FILTER: Kind::AsKernel, "none: there is no filter";
    SOCKET SO_PASSCRED: Kind::AsKernel, "none on TCP; the kernel's error, from Linux 6.16 on";
    SOCKET SO_PEEK_OFF: Kind::Only(-1), "not there";
    SOCKET SO_DONTROUTE: Kind::Only(0), "not there";
    SOCKET SO_TIMESTAMP: Kind::Only(0), "not there";
    SOCKET SO_TIMESTAMPNS: Kind::Only(0), "not there";
    SOCKET SO_TIMESTAMPING: Kind::Own {
        read: |_| Ok(Value::ints([0, 0])),
        write: values::set_timestamping,
        asked: values::not_asked,
    }, "not there", differs: "only 0 can be set";
    SOCKET SO_MARK: Kind::Only(0), "not there";
    SOCKET SO_ZEROCOPY: Kind::Only(0), "not there";
    SOCKET SO_ATTACH_FILTER: Kind::Absent(libc::ENOPROTOOPT), "not there";
    SOCKET SO_DETACH_FILTER: Kind::Absent(libc::ENOENT), "there is no filter to detach";
    SOCKET SO_ATTACH_BPF: Kind::Absent(libc::ENOPROTOOPT), "not there";
    SOCKET SO_ATTACH_REUSEPORT_CBPF: Kind::Absent(libc::ENOPROTOOPT), "not there";
    SOCKET SO_ATTACH_REUSEPORT_EBPF: Kind::Absent(libc::ENOPROTOOPT), "not there";

    TCP TCP_CORK: Kind::Bit(option::CORK), "holds partial segments, at most 200 ms";
    TCP TCP_KEEPIDLE: Kind::Number {
        word: |o| &o.keep_idle,
        range: 1..=32_767,
        default: |t| tcp::number(t.keepalive_time),
    }, "seconds of silence before the first probe";
    TCP TCP_KEEPINTVL: Kind::Number {
        word: |o| &o.keep_interval,
        range: 1..=32_767,
        default: |t| tcp::number(t.keepalive_interval),
    }, "seconds between probes";
    TCP TCP_KEEPCNT: Kind::Number {
        word: |o| &o.keep_count,
        range: 1..=127,
        default: |t| tcp::number(t.keepalive_probes),
    }, "unanswered probes that end the connection";
    TCP TCP_USER_TIMEOUT: Kind::Number {
        word: |o| &o.user_timeout,
        range: 0..=i32::MAX,
        default: |_| 0,
    }, "milliseconds that data may stay unacknowledged";
    TCP TCP_DEFER_ACCEPT: Kind::Own {
        read: tcp::defer_accept,
        write: tcp::set_defer_accept,
        asked: tcp::asked_defer_accept,
    }, "none yet: a connection is accepted at once, as in Linux when the time is up",
        differs: "accept does not wait for data";
    TCP TCP_QUICKACK: Kind::Own {
        read: tcp::quick_ack,
        write: tcp::set_quick_ack,
        asked: tcp::asked_quick_ack,
    }, "acknowledges at once", differs: "stays as it was set";
    TCP TCP_MAXSEG: Kind::Own {
        read: tcp::max_segment,
        write: tcp::set_max_segment,
        asked: tcp::asked_max_segment,
    }, "bounds the segment size";
    TCP TCP_INFO: Kind::Shown(tcp::tcp_info), "the engine's figures, in the 280 bytes of Linux 6.18",
        differs: "nothing of AccECN";
    TCP TCP_CONGESTION: Kind::Own {
        read: tcp::congestion,
        write: tcp::set_congestion,
        asked: tcp::asked_congestion,
    }, "reno, cubic, bbr or dctcp; unset, what the settings say",
        differs: "needs no module and no privilege";
    TCP TCP_ULP: Kind::Own {
        read: values::empty,
        write: tcp::set_upper_protocol,
        asked: values::not_asked,
    }, "ENOENT, as a kernel without the tls module";
    TCP TCP_CC_INFO: Kind::Shown(tcp::congestion_info), "the state of bbr and dctcp; nothing for others",
        differs: "bbr has the phases of version 3";
    TCP TCP_IS_MPTCP = 43: Kind::Shown(|_| Ok(Value::int(0))), "0";
    TCP TCP_SYNCNT: Kind::Number {
        word: |o| &o.syn_count,
        range: 1..=127,
        default: |t| tcp::number(t.syn_retries),
    }, "retransmissions of a SYN";
    TCP TCP_LINGER2: Kind::Own {
        read: tcp::fin_wait2,
        write: tcp::set_fin_wait2,
        asked: tcp::asked_fin_wait2,
    }, "seconds in FIN-WAIT-2 after close; -1: none";
    TCP TCP_WINDOW_CLAMP: Kind::Own {
        read: tcp::window_clamp,
        write: tcp::set_window_clamp,
        asked: tcp::asked_window_clamp,
    }, "bounds the window that is offered",
        differs: "unset, it reads as 0 on a connection too";
    TCP TCP_NOTSENT_LOWAT: Kind::Number {
        word: |o| &o.notsent_low,
        range: i32::MIN..=i32::MAX,
        default: |_| 0,
    }, "with so many bytes unsent writing waits; half of them, and poll says so";
    TCP TCP_FASTOPEN: Kind::Own {
        read: tcp::fastopen_queue,
        write: tcp::set_fastopen_queue,
        asked: tcp::asked_fastopen_queue,
    }, "a listener takes data with a SYN (RFC 7413)";
    TCP TCP_FASTOPEN_CONNECT: Kind::Own {
        read: tcp::fastopen_connect,
        write: tcp::set_fastopen_connect,
        asked: tcp::asked_fastopen_connect,
    }, "with a cookie, connect returns at once and the first data goes with the SYN (RFC 7413)";
    TCP TCP_FASTOPEN_KEY = 33: Kind::Own {
        read: tcp::fastopen_keys,
        write: tcp::set_fastopen_keys,
        asked: tcp::asked_fastopen_keys,
    }, "the keys of a listener's cookies, 16 or 32 bytes",
        differs: "a key of zeros takes the socket's own key back";
    TCP TCP_FASTOPEN_NO_COOKIE = 34: Kind::Own {
        read: tcp::fastopen_no_cookie,
        write: tcp::set_fastopen_no_cookie,
        asked: tcp::asked_fastopen_no_cookie,
    }, "data goes with a SYN, or is taken from one, without a cookie";
    TCP TCP_INQ: Kind::Own {
        read: tcp::inq,
        write: tcp::set_inq,
        asked: tcp::asked_inq,
    }, "recvmsg tells how many bytes are left to read";
    TCP TCP_SAVE_SYN: Kind::Only(0), "not there";
    TCP TCP_THIN_LINEAR_TIMEOUTS: Kind::Only(0), "not there";
    TCP TCP_THIN_DUPACK: Kind::AsKernel, "none, as in Linux";
    TCP TCP_REPAIR: Kind::Only(0), "not there";
    TCP TCP_TX_DELAY = 37: Kind::Only(0), "not there";
    TCP TCP_MD5SIG: Kind::Absent(libc::ENOPROTOOPT), "not there";
    TCP TCP_ZEROCOPY_RECEIVE: Kind::Absent(libc::ENOPROTOOPT), "not there";

    IP IP_TOS: Kind::Own {
        read: values::tos,
        write: values::set_tos,
        asked: values::asked_tos,
    }, "the type-of-service byte of IPv4, without its ECN bits";
    SOCKET SO_PRIORITY: Kind::AsKernel,
        "a hint to the kernel's queues, which the stack's frames do not pass";
    IP IP_TTL: Kind::Own {
        read: values::ttl,
        write: values::set_ttl,
        asked: values::asked_ttl,
    }, "time to live over IPv4";
    IP IP_FREEBIND: Kind::Bit(option::FREEBIND), "bind to an address that is not the stack's";
    IP IP_BIND_ADDRESS_NO_PORT: Kind::Bit(option::BIND_NO_PORT),
        "none yet: bind chooses the port at once",
        differs: "getsockname shows a port before connect";
    IP IP_OPTIONS: Kind::Own {
        read: values::empty,
        write: values::set_ip_options,
        asked: values::not_asked,
    }, "none are sent", differs: "only an empty list can be set";
    IP IP_MTU: Kind::Shown(values::path_mtu), "the path's MTU; ENOTCONN without a connection";
    IP IP_MTU_DISCOVER: Kind::Kept {
        accept: values::mtu_discovery,
        default: libc::IP_PMTUDISC_WANT,
        known: values::nothing,
    },
        "IP_PMTUDISC_WANT and IP_PMTUDISC_DO: packets are not fragmented",
        differs: "no other mode can be set";
    IP IP_RECVERR: Kind::Only(0), "not there";
    IP IP_PKTINFO: Kind::AsKernel, "none on TCP, as in Linux";
    IP IP_RECVTTL: Kind::AsKernel, "none on TCP, as in Linux";
    IP IP_RECVTOS: Kind::AsKernel, "none on TCP, as in Linux";
    IP IP_HDRINCL: Kind::AsKernel, "ENOPROTOOPT, as in Linux";
    IP IP_MULTICAST_TTL: Kind::AsKernel, "EINVAL on TCP, as in Linux";
    IP IP_MULTICAST_LOOP: Kind::AsKernel, "none on TCP, as in Linux";
    IP IP_TRANSPARENT: Kind::Only(0), "not there";
    IP IP_MINTTL: Kind::Only(0), "not there";

    IPV6 IPV6_V6ONLY: Kind::Own {
        read: values::v6_only,
        write: values::set_v6_only,
        asked: values::asked_v6_only,
    }, "a listener takes no IPv4 connections; EINVAL once it is bound";
    IPV6 IPV6_UNICAST_HOPS: Kind::Own {
        read: values::hops,
        write: values::set_hops,
        asked: values::asked_hops,
    }, "hop limit";
    IPV6 IPV6_TCLASS: Kind::Own {
        read: values::traffic_class,
        write: values::set_traffic_class,
        asked: values::asked_traffic_class,
    }, "the traffic class, without its ECN bits";
    IPV6 IPV6_RECVPKTINFO: Kind::Bit(shown::RECEIVE_PACKET_INFO), "none on TCP, as in Linux";
    IPV6 IPV6_FREEBIND = 78: Kind::Bit(option::FREEBIND), "IP_FREEBIND";
    IPV6 IPV6_MTU_DISCOVER: Kind::Only(libc::IPV6_PMTUDISC_WANT), "IPV6_PMTUDISC_WANT",
        differs: "no other mode can be set";
    IPV6 IPV6_RECVERR: Kind::Only(0), "not there";
    IPV6 IPV6_TRANSPARENT: Kind::Only(0), "not there";
}

impl Row {
    /// Whether getsockopt(2) knows it.
    pub fn can_get(&self) -> bool {
        !matches!(self.kind, Kind::Absent(_))
    }

    /// What setsockopt(2) does with it, for the documentation.
    pub fn setting(&self) -> String {
        match &self.kind {
            Kind::Bit(_) | Kind::Number { .. } | Kind::Kept { .. } | Kind::Own { .. } => {
                "yes".to_owned()
            }
            Kind::AsKernel => "as the kernel".to_owned(),
            Kind::Only(value) => format!("{value}, else ENOPROTOOPT"),
            Kind::Shown(_) => "ENOPROTOOPT".to_owned(),
            Kind::Absent(errno) if *errno == libc::ENOENT => "ENOENT".to_owned(),
            Kind::Absent(_) => "ENOPROTOOPT".to_owned(),
        }
    }
}
