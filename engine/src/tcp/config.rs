//! What can be set: for the whole stack ([`TcpConfig`]) and for one socket ([`SocketOptions`]).

use super::congestion::Algorithm;
use super::ecn::EcnMode;
use super::pmtu::MtuProbing;
use super::time::Duration;

/// Smallest segment size that a peer can talk us into, in bytes: a tinier MSS option counts as this.
pub const MIN_MSS: u16 = 88;

/// Segment size towards a peer that names none (RFC 9293 MUST-15), in bytes.
pub const DEFAULT_MSS: u16 = 536;

/// When SYNs are answered with cookies (tcp_syncookies).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SynCookieUse {
    /// Never: SYNs beyond the bound of half-open connections are dropped.
    Never,
    /// Beyond the bound of half-open connections.
    WhenFull,
    /// Always, for tests.
    Always,
}

/// Stack-wide parameters. [`Default`] is what Linux does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpConfig {
    /// Biggest segment that the path's first link carries: its MTU less 40 (IPv4) or 60 (IPv6) bytes.
    pub mss: u16,
    /// Offer window scaling (RFC 7323).
    pub window_scaling: bool,
    /// Offer timestamps (RFC 7323).
    pub timestamps: bool,
    /// Offer selective acknowledgements (RFC 2018).
    pub sack: bool,
    /// Report what was received twice (RFC 2883, tcp_dsack).
    pub dsack: bool,
    /// When to find out by probes how large segments the path carries (RFC 4821).
    pub mtu_probing: MtuProbing,
    /// Congestion control of new connections.
    pub congestion: Algorithm,
    /// Explicit congestion notification (RFC 3168).
    pub ecn: EcnMode,
    /// Initial congestion window in segments (RFC 6928).
    pub initial_window: u8,
    /// After a silence, begin again with the initial window (RFC 5681 section 4.1,
    /// tcp_slow_start_after_idle).
    pub slow_start_after_idle: bool,
    /// How many data segments are acknowledged at once before delayed ACKs begin.
    pub quick_acks: u8,
    /// Data retransmissions before the connection is given up (tcp_retries2).
    pub data_retries: u8,
    /// The same once the application has closed (tcp_orphan_retries).
    pub orphan_retries: u8,
    /// SYN retransmissions (tcp_syn_retries).
    pub syn_retries: u8,
    /// SYN-ACK retransmissions (tcp_synack_retries).
    pub synack_retries: u8,
    /// When SYNs are answered with cookies.
    pub syn_cookies: SynCookieUse,
    /// Fast Open (RFC 7413): [`fast_open_bits`](super::fast_open_bits) (tcp_fastopen).
    pub fast_open: u32,
    /// Unanswered keepalive probes that end a connection.
    pub keepalive_count: u8,
    /// Receive buffer of a new connection in bytes.
    pub recv_buffer: u32,
    /// Up to where it grows by itself, in bytes; the window scale is chosen for it.
    pub recv_buffer_max: u32,
    /// Retransmission timeout before any measurement (RFC 6298 2.1).
    pub rto_initial: Duration,
    /// Least margin of the retransmission timeout above the smoothed round trip.
    pub rto_min: Duration,
    /// Upper bound of the retransmission timeout.
    pub rto_max: Duration,
    /// Least time between two answers to segments that should not have come (RFC 5961 section 10;
    /// tcp_invalid_ratelimit); zero: each is answered.
    pub answer_interval: Duration,
    /// Longest delay of an ACK.
    pub delayed_ack: Duration,
    /// How long an ACK that is due at once (one of the quick ACKs, or of a FIN) waits for an answer
    /// to ride on; zero: not at all. [`Tcb::acknowledge_put_off`](super::Tcb::acknowledge_put_off)
    /// ends that.
    pub quick_ack_delay: Duration,
    /// Longest time that a corked partial segment waits.
    pub cork: Duration,
    /// Length of TIME-WAIT.
    pub time_wait: Duration,
    /// Length of FIN-WAIT-2 once the application has closed.
    pub fin_wait2_timeout: Duration,
    /// Idle time before the first keepalive probe.
    pub keepalive_idle: Duration,
    /// Time between keepalive probes.
    pub keepalive_interval: Duration,
}

impl Default for TcpConfig {
    fn default() -> Self {
        TcpConfig {
            mss: 1460,
            window_scaling: true,
            timestamps: true,
            sack: true,
            dsack: true,
            mtu_probing: MtuProbing::Off,
            congestion: Algorithm::Cubic,
            ecn: EcnMode::Passive,
            initial_window: 10,
            slow_start_after_idle: true,
            quick_acks: 16,
            data_retries: 15,
            orphan_retries: 8,
            syn_retries: 6,
            synack_retries: 5,
            syn_cookies: SynCookieUse::WhenFull,
            fast_open: 1,
            keepalive_count: 9,
            recv_buffer: 64 << 10,
            recv_buffer_max: 6 << 20,
            rto_initial: Duration::from_secs(1),
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(120),
            answer_interval: Duration::from_millis(500),
            delayed_ack: Duration::from_millis(40),
            quick_ack_delay: Duration::ZERO,
            cork: Duration::from_millis(200),
            time_wait: Duration::from_secs(60),
            fin_wait2_timeout: Duration::from_secs(60),
            keepalive_idle: Duration::from_secs(7200),
            keepalive_interval: Duration::from_secs(75),
        }
    }
}

/// Options of one socket. `None` means: as [`TcpConfig`] says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SocketOptions {
    /// TCP_NODELAY: no Nagle.
    pub nodelay: bool,
    /// TCP_CORK: hold partial segments, for at most [`TcpConfig::cork`].
    pub cork: bool,
    /// TCP_QUICKACK: acknowledge all data at once for as long as it is set.
    pub quickack: bool,
    /// SO_KEEPALIVE.
    pub keepalive: bool,
    /// TCP_KEEPCNT.
    pub keepalive_count: Option<u8>,
    /// TCP_SYNCNT.
    pub syn_retries: Option<u8>,
    /// TCP_MAXSEG: bound of the segment size in both directions; counts before the handshake, and
    /// later for what is sent.
    pub maxseg: Option<u16>,
    /// TCP_KEEPIDLE.
    pub keepalive_idle: Option<Duration>,
    /// TCP_KEEPINTVL.
    pub keepalive_interval: Option<Duration>,
    /// TCP_USER_TIMEOUT: longest time that written data may wait for its acknowledgement.
    pub user_timeout: Option<Duration>,
    /// TCP_CONGESTION: counts at once, whatever the state of the connection.
    pub congestion: Option<Algorithm>,
    /// TCP_LINGER2: overrides [`TcpConfig::fin_wait2_timeout`].
    pub fin_wait2_timeout: Option<Duration>,
    /// SO_RCVBUF as the number of bytes that may wait unread. Setting it ends automatic growth.
    pub recv_buffer: Option<u32>,
    /// TCP_WINDOW_CLAMP: upper bound of the advertised window in bytes.
    pub window_clamp: Option<u32>,
    /// SO_MAX_PACING_RATE: upper bound of the pacing rate in bytes per second.
    pub max_pacing_rate: Option<u64>,
}
