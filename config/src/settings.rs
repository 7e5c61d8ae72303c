//! The settings themselves, their defaults, and what must hold between them.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use crate::choice::{Congestion, Ecn, HostAddress, Loopback, SynCookies, TimeWaitReuse, Trace};
use crate::client::{ClientSettings, ClientTcp};
use crate::device::Device;
use crate::mtu_probing::MtuProbing;
use crate::net::{Ipv4Net, Neighbor, Route};
use crate::net6::{Address6, Ipv6Net};
use crate::policy::{Policy, Rule};

/// Everything that `mtcp-run` can be told. [`crate::reference`] describes each key.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// The packet device.
    pub device: Device,
    /// Largest IP packet on the wire, in bytes.
    pub mtu: usize,
    /// Queue pairs of the device; `None` for one per engine core.
    pub queues: Option<usize>,
    /// The stack's own address and network.
    pub address: Ipv4Net,
    /// The kernel's address on its side of a TAP; see [`Settings::kernel_address`].
    pub host_address: HostAddress,
    /// Router for everything that no other route matches.
    pub gateway: Option<Ipv4Addr>,
    /// The stack's own IPv6 address; see [`Settings::fixed_address6`].
    pub address6: Address6,
    /// IPv6 router for everything outside the stack's network.
    pub gateway6: Option<Ipv6Addr>,
    /// File that receives every frame, in pcapng form.
    pub pcap: Option<PathBuf>,
    /// Faults to inject, in the form of `psio`'s fault injector.
    pub faults: Option<String>,
    /// Further routes.
    pub routes: Vec<Route>,
    /// Further routes of IPv6.
    pub routes6: Vec<Route<Ipv6Net>>,
    /// Static neighbours.
    pub neighbors: Vec<Neighbor>,
    /// Static neighbours of IPv6.
    pub neighbors6: Vec<Neighbor<Ipv6Net>>,

    /// Cores of the engine's workers; empty for workers that are not pinned.
    pub engine_cores: Vec<usize>,
    /// Workers of the engine, which take the cores in turn; `None` for one on each core.
    pub workers: Option<usize>,
    /// Cores that the program may use; empty for those that `mtcp-run` was given.
    pub app_cores: Vec<usize>,
    /// How long an idle worker that has a core of its own looks for work before it sleeps.
    pub spin: Duration,

    /// Bytes that the segment shared with the program may grow to.
    pub memory: u64,
    /// Sockets that may exist at one time.
    pub max_sockets: usize,
    /// How long `mtcp-run` goes on sending for a program that is gone.
    pub drain: Duration,
    /// Parameters of TCP.
    pub tcp: TcpSettings,

    /// Who carries 127.0.0.0/8 and connections to the stack's own address.
    pub loopback: Loopback,
    /// Which sockets go to the stack; the first match counts.
    pub rules: Vec<Rule>,

    /// What is logged, in the form of tracing-subscriber's `EnvFilter`, e.g. `warn,engine=debug`.
    pub log: String,
    /// Where the log goes; `None` for standard error.
    pub log_file: Option<PathBuf>,
    /// What the preload library traces.
    pub trace: Trace,
    /// Where the trace goes; `None` for standard error.
    pub trace_file: Option<PathBuf>,
    /// Interval between two lines of statistics; `None` for no statistics.
    pub stats: Option<Duration>,
}

/// Parameters of TCP. The defaults are Linux's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TcpSettings {
    /// Bytes of a send buffer to begin with.
    pub send_buffer: usize,
    /// Bytes that a send buffer may grow to; see [`Settings::send_buffer_max`].
    pub send_buffer_max: Option<usize>,
    /// Bytes of a receive buffer to begin with.
    pub recv_buffer: usize,
    /// Bytes that a receive buffer may grow to; see [`Settings::recv_buffer_max`].
    pub recv_buffer_max: Option<usize>,
    /// How long a connection stays in TIME-WAIT (2 MSL of RFC 9293 §3.6.1).
    pub time_wait: Duration,
    /// Shortest retransmission time-out (RFC 6298 §2.4).
    pub rto_min: Duration,
    /// Longest retransmission timeout, Linux's `tcp_rto_max_ms`.
    pub rto_max: Duration,
    /// Least time between two answers to segments that should not have come, Linux's
    /// `tcp_invalid_ratelimit`.
    pub invalid_ratelimit: Duration,
    /// Longest delay of an acknowledgement (RFC 9293 §3.8.6.3).
    pub delayed_ack: Duration,
    /// Path MTU discovery by probes (RFC 4821), Linux's `tcp_mtu_probing`.
    pub mtu_probing: MtuProbing,
    /// Congestion control.
    pub congestion: Congestion,
    /// Explicit congestion notification.
    pub ecn: Ecn,
    /// Probes idle connections, even of sockets without SO_KEEPALIVE.
    pub keepalive: bool,
    /// Idle time before the first keepalive probe (TCP_KEEPIDLE).
    pub keepalive_time: Duration,
    /// Time between two keepalive probes (TCP_KEEPINTVL).
    pub keepalive_interval: Duration,
    /// Unanswered keepalive probes that end a connection (TCP_KEEPCNT).
    pub keepalive_probes: u32,
    /// Retransmissions of a SYN before connect() fails (TCP_SYNCNT).
    pub syn_retries: u32,
    /// Retransmissions of a SYN-ACK.
    pub synack_retries: u32,
    /// Retransmissions of data before a connection is given up, Linux's `tcp_retries2`.
    pub retries2: u32,
    /// The same once the program has closed.
    pub orphan_retries: u32,
    /// Connections that programs have closed and that still have something to send.
    pub max_orphans: u32,
    /// How long a closed connection waits in FIN-WAIT-2 (TCP_LINGER2).
    pub fin_timeout: Duration,
    /// Offers selective acknowledgements (RFC 2018).
    pub sack: bool,
    /// Reports what was received twice (RFC 2883).
    pub dsack: bool,
    /// Offers timestamps (RFC 7323).
    pub timestamps: bool,
    /// Offers window scaling (RFC 7323).
    pub window_scaling: bool,
    /// Initial congestion window in segments (RFC 6928).
    pub initial_window: u32,
    /// A connection that was idle begins again with the initial window, Linux's
    /// `tcp_slow_start_after_idle`.
    pub slow_start_after_idle: bool,
    /// Fast Open (RFC 7413): bits as of Linux's `tcp_fastopen`.
    pub fastopen: u32,
    /// Which connections in TIME-WAIT connect() may take the place of.
    pub tw_reuse: TimeWaitReuse,
    /// When SYNs are answered with cookies.
    pub syn_cookies: SynCookies,
    /// Upper bound of listen()'s backlog, Linux's `somaxconn`.
    pub backlog_max: usize,
}

/// Bytes that a packet of IPv6 has to have room for (RFC 8200 §5).
pub(crate) const MIN_MTU6: usize = 1280;

/// Bits of [`TcpSettings::fastopen`], by Linux's numbers.
pub mod fastopen {
    /// Programs that ask for it send data with their SYN.
    pub const CLIENT: u32 = 1;
    /// Listeners that ask for it take data with a SYN.
    pub const SERVER: u32 = 2;
    /// Data goes with a SYN without a cookie.
    pub const CLIENT_NO_COOKIE: u32 = 4;
    /// Data is taken from a SYN without a cookie.
    pub const SERVER_NO_COOKIE: u32 = 0x200;
    /// All listeners take data with a SYN.
    pub const EVERY_LISTENER: u32 = 0x400;
    /// All bits that there are.
    pub const ALL: u32 = CLIENT | SERVER | CLIENT_NO_COOKIE | SERVER_NO_COOKIE | EVERY_LISTENER;
}

impl Default for Settings {
    fn default() -> Settings {
        let address = Ipv4Addr::new(10, 77, 0, 2);
        Settings {
            device: Device::Tap(None),
            mtu: 1500,
            queues: None,
            address: Ipv4Net::new(address, 24).unwrap_or(Ipv4Net::host(address)),
            host_address: HostAddress::Auto,
            gateway: None,
            address6: Address6::Derived,
            gateway6: None,
            pcap: None,
            faults: None,
            routes: Vec::new(),
            routes6: Vec::new(),
            neighbors: Vec::new(),
            neighbors6: Vec::new(),
            engine_cores: Vec::new(),
            workers: None,
            app_cores: Vec::new(),
            spin: Duration::from_micros(200),
            memory: 1 << 30,
            max_sockets: 65_536,
            drain: Duration::from_secs(10),
            tcp: TcpSettings::default(),
            loopback: Loopback::Kernel,
            rules: Vec::new(),
            log: "warn".to_owned(),
            log_file: None,
            trace: Trace::default(),
            trace_file: None,
            stats: None,
        }
    }
}

impl Default for TcpSettings {
    fn default() -> TcpSettings {
        TcpSettings {
            send_buffer: 16 << 10,
            send_buffer_max: None,
            recv_buffer: 64 << 10,
            recv_buffer_max: None,
            time_wait: Duration::from_secs(60),
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(120),
            invalid_ratelimit: Duration::from_millis(500),
            delayed_ack: Duration::from_millis(40),
            mtu_probing: MtuProbing::Off,
            congestion: Congestion::Cubic,
            ecn: Ecn::Passive,
            keepalive: false,
            keepalive_time: Duration::from_secs(7200),
            keepalive_interval: Duration::from_secs(75),
            keepalive_probes: 9,
            syn_retries: 6,
            synack_retries: 5,
            retries2: 15,
            orphan_retries: 8,
            max_orphans: 65_536,
            fin_timeout: Duration::from_secs(60),
            sack: true,
            dsack: true,
            timestamps: true,
            window_scaling: true,
            initial_window: 10,
            slow_start_after_idle: true,
            fastopen: fastopen::CLIENT,
            tw_reuse: TimeWaitReuse::Loopback,
            syn_cookies: SynCookies::On,
            backlog_max: 4096,
        }
    }
}

impl Settings {
    /// Number of the engine's workers: as set, else one per engine core, at least one.
    pub fn workers(&self) -> usize {
        self.workers.unwrap_or(self.engine_cores.len().max(1))
    }

    /// The core of each worker, or `None` where the system decides.
    pub fn worker_cores(&self) -> Vec<Option<usize>> {
        let cores = self.engine_cores.iter().copied().map(Some);
        let cores: Vec<_> = if self.engine_cores.is_empty() {
            vec![None]
        } else {
            cores.collect()
        };
        cores.into_iter().cycle().take(self.workers()).collect()
    }

    /// Queue pairs to open: as set, else one per worker.
    pub fn queue_count(&self) -> usize {
        self.queues.unwrap_or_else(|| self.workers())
    }

    /// Bytes that a send buffer may grow to: as set, else what suits the device.
    pub fn send_buffer_max(&self) -> usize {
        let fits = |suits: usize| suits.max(self.tcp.send_buffer);
        let max = self.tcp.send_buffer_max;
        max.unwrap_or_else(|| fits(self.near_buffer().unwrap_or(4 << 20)))
    }

    /// Bytes that a receive buffer may grow to: as set, else what suits the device.
    pub fn recv_buffer_max(&self) -> usize {
        let fits = |suits: usize| suits.max(self.tcp.recv_buffer);
        let max = self.tcp.recv_buffer_max;
        max.unwrap_or_else(|| fits(self.near_buffer().unwrap_or(6 << 20)))
    }

    /// Bytes that are enough for any rate where the peer is microseconds away, and stay in the
    /// processor's cache.
    fn near_buffer(&self) -> Option<usize> {
        matches!(self.device, Device::Wire(_)).then_some(3 << 19)
    }

    /// Whether the program keeps off `core`, so that a worker there may spin.
    pub fn is_engine_only(&self, core: usize) -> bool {
        !self.app_cores.is_empty() && !self.app_cores.contains(&core)
    }

    /// The address that the kernel gets on its side of the device; `None` for a device that has no
    /// such side, or if it is to stay without one.
    pub fn kernel_address(&self) -> Option<Ipv4Net> {
        match (&self.device, self.host_address) {
            (Device::Tap(_), HostAddress::Is(net)) => Some(net),
            (Device::Tap(_), HostAddress::Auto) => self.address.neighbour(),
            _ => None,
        }
    }

    /// Whether the stack has IPv6: not on a link with packets of less than 1,280 bytes
    /// (RFC 8200 §5).
    pub fn speaks_ipv6(&self) -> bool {
        self.address6 != Address6::Off && self.mtu >= MIN_MTU6
    }

    /// Whether it is the MTU that keeps IPv6 away.
    pub(crate) fn is_too_narrow(&self) -> bool {
        self.address6 != Address6::Off && self.mtu < MIN_MTU6
    }

    /// `address6` with what it comes to: the derived address itself, off if packets are too small.
    pub(crate) fn address6_in_force(&self) -> Address6 {
        match self.fixed_address6() {
            Some(net) => Address6::Is(net),
            None if self.speaks_ipv6() => self.address6,
            None => Address6::Off,
        }
    }

    /// The stack's static IPv6 address, if it has one.
    pub fn fixed_address6(&self) -> Option<Ipv6Net> {
        self.speaks_ipv6()
            .then(|| self.address6.fixed(self.address))
            .flatten()
    }

    /// The kernel's IPv6 address on its side of the device, as [`Settings::kernel_address`].
    pub fn kernel_address6(&self) -> Option<Ipv6Net> {
        self.speaks_ipv6()
            .then(|| self.address6.of_kernel(self.kernel_address()))
            .flatten()
    }

    /// What decides whether a socket goes to the stack.
    pub fn policy(&self) -> Policy {
        let default_route = self.gateway.map(|_| Ipv4Net::ALL);
        let has_router6 = self.gateway6.is_some() || self.address6 == Address6::Auto;
        let routes6 = self.routes6.iter().map(|route| route.to);
        let routes6 = routes6.chain(has_router6.then_some(Ipv6Net::ALL));
        Policy {
            addresses: vec![self.address],
            routes: self
                .routes
                .iter()
                .map(|route| route.to)
                .chain(default_route)
                .collect(),
            addresses6: self.fixed_address6().into_iter().collect(),
            routes6: routes6.filter(|_| self.speaks_ipv6()).collect(),
            loopback: self.loopback,
            rules: self.rules.clone(),
        }
    }

    /// The part that the preload library needs.
    pub fn client(&self) -> ClientSettings {
        let absolute =
            |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        ClientSettings {
            policy: self.policy(),
            trace: self.trace,
            trace_file: self.trace_file.as_ref().map(absolute),
            tcp: ClientTcp::of(&self.tcp),
            log: self.log.clone(),
            log_file: self.log_file.as_ref().map(absolute),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_go_together() {
        assert_eq!(Settings::default().conflict(), None);
    }

    #[test]
    fn the_kernel_gets_an_address_on_a_tap_only() {
        let mut settings = Settings::default();
        assert_eq!(
            settings.kernel_address(),
            Some("10.77.0.1/24".parse().unwrap())
        );
        settings.host_address = HostAddress::None;
        assert_eq!(settings.kernel_address(), None);
        settings.host_address = HostAddress::Auto;
        settings.device = Device::Wire("/tmp/w".to_owned());
        assert_eq!(settings.kernel_address(), None);
    }

    #[test]
    fn buffers_grow_to_what_suits_the_device_unless_told_otherwise() {
        let mut settings = Settings::default();
        let most = |s: &Settings| (s.send_buffer_max(), s.recv_buffer_max());
        assert_eq!(most(&settings), (4 << 20, 6 << 20));
        settings.device = Device::Wire("/tmp/w".to_owned());
        assert_eq!(most(&settings), (3 << 19, 3 << 19));
        settings.tcp.recv_buffer = 8 << 20;
        assert_eq!(most(&settings), (3 << 19, 8 << 20));
        settings.tcp.recv_buffer_max = Some(2 << 20);
        assert_eq!(settings.recv_buffer_max(), 2 << 20);
    }

    #[test]
    fn workers_take_the_engines_cores_in_turn() {
        let mut settings = Settings::default();
        assert_eq!(settings.worker_cores(), [None]);
        settings.engine_cores = vec![2, 5];
        assert_eq!(settings.worker_cores(), [Some(2), Some(5)]);
        settings.workers = Some(3);
        assert_eq!(settings.worker_cores(), [Some(2), Some(5), Some(2)]);
        settings.workers = Some(1);
        assert_eq!(settings.worker_cores(), [Some(2)]);
        settings.engine_cores.clear();
        settings.workers = Some(2);
        assert_eq!(settings.worker_cores(), [None, None]);
    }

    #[test]
    fn each_worker_has_a_queue_or_more() {
        let mut settings = Settings {
            queues: Some(2),
            workers: Some(3),
            ..Settings::default()
        };
        let said = "2 queues for 3 workers: each worker needs one of its own";
        assert_eq!(settings.conflict(), Some(("queues", said.to_owned())));
        for workers in [1, 2] {
            settings.workers = Some(workers);
            assert_eq!(settings.conflict(), None);
        }
        settings.workers = None;
        settings.queues = None;
        settings.engine_cores = (0..17).collect();
        assert_eq!(
            settings.conflict().map(|(key, _)| key),
            Some("engine_cores")
        );
    }

    #[test]
    fn a_worker_owns_its_core_only_if_the_program_is_kept_off_it() {
        let mut settings = Settings::default();
        assert!(!settings.is_engine_only(1), "the program may run anywhere");
        settings.app_cores = vec![0];
        assert!(settings.is_engine_only(1));
        assert!(!settings.is_engine_only(0));
    }
}
