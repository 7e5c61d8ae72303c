//! The stack behind the program: the engine, seen from the launcher.

use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use config::{Address6, Congestion, Device, Ecn, Loopback, MtuProbing, Settings};
use context::control::SOCKET_VARIABLE;
use context::layout::Plan;
use engine::net::ipv6::{Ipv6Config, Prefix6, Route6};
use engine::net::{InterfaceAddress, Prefix, Route};
use engine::shared::Shared;
use engine::tcp::{self, Algorithm, EcnMode, TcpConfig};
use engine::{Engine, EngineConfig, TimeWaitReuse};
use psio::bundle::BundleDevice;
use psio::fault::{FaultConfig, FaultyDevice};
use psio::offload::OffloadDevice;
use psio::pcapng::{CaptureDevice, CaptureFile};
use psio::{MacAddr, OpenOptions};

/// TIME-WAIT connections of one worker.
const MAX_TIME_WAIT: usize = 65_536;

/// Why the stack does not start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// A running stack.
pub struct Stack {
    engine: Engine,
    stats: Option<Stats>,
}

/// What was left when the stack ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DrainReport {
    /// Connections that still had something to send.
    pub connections: usize,
    /// Why the stack had failed before, if it had.
    pub failure: Option<String>,
}

impl Stack {
    /// Opens the device, makes the shared segment and starts the workers.
    ///
    /// # Errors
    /// [`Error`] with the reason.
    pub fn start(settings: &Settings) -> Result<Stack, Error> {
        let reason = |error: &dyn std::fmt::Display| Error(error.to_string());
        let mut device = open_device(settings).map_err(|error| reason(&error))?;
        let config = engine_config(settings)?;
        let plan = Plan {
            workers: settings.workers(),
            sockets: settings.max_sockets,
            memory: settings.memory,
            ..Plan::default()
        };
        let client = settings.client().to_bytes();
        let engine = Engine::start(
            config,
            &plan,
            &client,
            shares_core(settings),
            spin_of_threads(settings).as_micros() as u32,
            &mut *device,
        )
        .map_err(|error| reason(&error))?;
        let stats = settings
            .stats
            .map(|interval| Stats::start(engine.shared(), interval));
        Ok(Stack { engine, stats })
    }

    /// Variables by which the preload library finds the stack.
    pub fn child_env(&self) -> Vec<(OsString, OsString)> {
        vec![(SOCKET_VARIABLE.into(), self.engine.control_name().into())]
    }

    /// Becomes readable once the stack has failed, after which no connection works any more.
    pub fn failed(&self) -> BorrowedFd<'_> {
        self.engine.end()
    }

    /// Sends what is unsent until nothing is left or `deadline` is over, then ends the stack.
    pub fn drain(self, deadline: Duration) -> DrainReport {
        let failure = self.engine.failure();
        let report = self.engine.stop(deadline);
        drop(self.stats);
        DrainReport {
            connections: report.unfinished,
            failure,
        }
    }
}

/// Whether some engine core is also the program's, so that the two take turns.
fn shares_core(settings: &Settings) -> bool {
    let pinned_together = settings
        .engine_cores
        .iter()
        .any(|core| settings.app_cores.contains(core));
    let single = std::thread::available_parallelism().is_ok_and(|n| n.get() == 1);
    pinned_together || single
}

/// Whether the program keeps off the cores of all workers.
fn has_own_cores(settings: &Settings) -> bool {
    let mut engine = settings.engine_cores.iter();
    !settings.engine_cores.is_empty() && engine.all(|core| settings.is_engine_only(*core))
}

/// How long a thread of the program looks for work before it sleeps: where a worker may want its core,
/// not at all.
fn spin_of_threads(settings: &Settings) -> Duration {
    match has_own_cores(settings) {
        true => settings.spin,
        false => Duration::ZERO,
    }
}

/// How long a worker looks for work: where workers share a core, not at all.
fn spin_of_workers(settings: &Settings) -> Duration {
    match settings.workers() <= settings.engine_cores.len().max(1) {
        true => settings.spin,
        false => Duration::ZERO,
    }
}

fn open_device(settings: &Settings) -> Result<Box<dyn psio::Device>, psio::Error> {
    let kernel = settings.kernel_address();
    let options = OpenOptions {
        queues: settings.queue_count(),
        mtu: settings.mtu,
        host_addr: kernel.map(|net| (net.address(), net.prefix())),
        host_addr6: settings
            .kernel_address6()
            .map(|net| (net.address(), net.prefix())),
        mac: Some(settings.address.address().into()),
        ..OpenOptions::default()
    };
    let mut device = psio::open(&settings.device.to_string(), &options)?;
    if settings.queue_count() > settings.workers() {
        device = Box::new(BundleDevice::new(device, settings.workers()));
    }
    if let Some(faults) = &settings.faults {
        let faults: FaultConfig = faults.parse()?;
        device = Box::new(FaultyDevice::new(device, faults));
    }
    if !device.capabilities().tx_segmentation {
        device = Box::new(OffloadDevice::new(device));
    }
    if let Some(path) = &settings.pcap {
        device = Box::new(CaptureDevice::new(device, CaptureFile::create(path)?));
    }
    Ok(device)
}

/// IPv6 for the engine. On a TAP and on a wire the other end is known, and without a device there is
/// none: static addresses are not probed for there, so that nobody waits for that.
fn ipv6_config(settings: &Settings) -> Result<Option<Ipv6Config>, Error> {
    let fixed = settings.fixed_address6();
    let alone = matches!(
        settings.device,
        Device::Tap(_) | Device::Wire(_) | Device::None
    );
    if !settings.speaks_ipv6() {
        return Ok(None);
    }
    let net = |net: config::Ipv6Net| {
        Prefix6::new(net.address(), net.prefix())
            .ok_or_else(|| Error(format!("{net} is no network")))
    };
    let mut routes = Vec::new();
    for route in &settings.routes6 {
        routes.push(Route6 {
            prefix: net(route.to)?,
            gateway: route.via,
        });
    }
    routes.extend(settings.gateway6.map(|gateway| Route6 {
        prefix: Prefix6::ALL,
        gateway: Some(gateway),
    }));
    let mut neighbors = Vec::new();
    for entry in &settings.neighbors6 {
        neighbors.push((net(entry.ip)?, MacAddr(entry.mac)));
    }
    Ok(Some(Ipv6Config {
        addresses: fixed
            .map(|net| (net.address(), net.prefix()))
            .into_iter()
            .collect(),
        routes,
        neighbors,
        autoconf: settings.address6 == Address6::Auto,
        dad_probes: u8::from(fixed.is_none() || !alone),
        ..Ipv6Config::default()
    }))
}

/// The engine's configuration that `settings` ask for.
///
/// # Errors
/// Addresses or networks that cannot be.
pub fn engine_config(settings: &Settings) -> Result<EngineConfig, Error> {
    let net = |net: config::Ipv4Net| {
        Prefix::new(net.network().address(), net.prefix())
            .ok_or_else(|| Error(format!("{net} is no network")))
    };
    let address = InterfaceAddress::new(settings.address.address(), settings.address.prefix())
        .ok_or_else(|| Error(format!("{} is no address", settings.address)))?;
    let mut routes = Vec::new();
    for route in &settings.routes {
        routes.push(Route {
            prefix: net(route.to)?,
            interface: 0,
            gateway: route.via,
            source: None,
            metric: 0,
        });
    }
    if let Some(gateway) = settings.gateway {
        routes.push(Route {
            prefix: Prefix::ALL,
            interface: 0,
            gateway: Some(gateway),
            source: None,
            metric: 0,
        });
    }
    let mut neighbors = Vec::new();
    for entry in &settings.neighbors {
        neighbors.push((net(entry.ip)?, MacAddr(entry.mac)));
    }
    let bytes = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(EngineConfig {
        addresses: vec![address],
        local: Vec::new(),
        ipv6: ipv6_config(settings)?,
        routes,
        neighbors,
        tcp: tcp_config(settings),
        send_buffer: bytes(settings.tcp.send_buffer),
        send_buffer_max: bytes(settings.send_buffer_max()),
        somaxconn: bytes(settings.tcp.backlog_max),
        loopback: settings.loopback == Loopback::Stack,
        memory: settings.memory,
        cores: settings.worker_cores(),
        spin_us: spin_of_workers(settings).as_micros() as u64,
        own_cores: has_own_cores(settings),
        max_time_wait: MAX_TIME_WAIT,
        time_wait_reuse: match settings.tcp.tw_reuse {
            config::TimeWaitReuse::Off => TimeWaitReuse::Off,
            config::TimeWaitReuse::Loopback => TimeWaitReuse::Loopback,
            config::TimeWaitReuse::On => TimeWaitReuse::On,
        },
        max_orphans: (settings.tcp.max_orphans as usize).div_ceil(settings.workers()),
        keepalive: settings.tcp.keepalive,
    })
}

fn tcp_config(settings: &Settings) -> TcpConfig {
    let t = &settings.tcp;
    let micros =
        |d: Duration| tcp::Duration::from_micros(d.as_micros().min(u128::from(u64::MAX)) as u64);
    let small = |n: u32| n.min(255) as u8;
    let bytes = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    TcpConfig {
        mtu_probing: match t.mtu_probing {
            MtuProbing::Off => tcp::MtuProbing::Off,
            MtuProbing::BlackHole => tcp::MtuProbing::BlackHole,
            MtuProbing::Always => tcp::MtuProbing::Always,
        },
        congestion: match t.congestion {
            Congestion::NewReno => Algorithm::NewReno,
            Congestion::Cubic => Algorithm::Cubic,
            Congestion::Bbr => Algorithm::Bbr,
            Congestion::Dctcp => Algorithm::Dctcp,
        },
        ecn: match t.ecn {
            Ecn::Off => EcnMode::Off,
            Ecn::Passive => EcnMode::Passive,
            Ecn::On => EcnMode::On,
        },
        syn_retries: small(t.syn_retries),
        synack_retries: small(t.synack_retries),
        data_retries: small(t.retries2),
        orphan_retries: small(t.orphan_retries),
        fin_wait2_timeout: micros(t.fin_timeout),
        sack: t.sack,
        dsack: t.dsack,
        timestamps: t.timestamps,
        window_scaling: t.window_scaling,
        initial_window: small(t.initial_window),
        slow_start_after_idle: t.slow_start_after_idle,
        syn_cookies: match t.syn_cookies {
            config::SynCookies::Off => tcp::SynCookieUse::Never,
            config::SynCookies::On => tcp::SynCookieUse::WhenFull,
            config::SynCookies::Always => tcp::SynCookieUse::Always,
        },
        fast_open: t.fastopen,
        recv_buffer: bytes(t.recv_buffer),
        recv_buffer_max: bytes(settings.recv_buffer_max()),
        rto_min: micros(t.rto_min),
        rto_max: micros(t.rto_max),
        answer_interval: micros(t.invalid_ratelimit),
        delayed_ack: micros(t.delayed_ack),
        quick_ack_delay: tcp::Duration::from_millis(5),
        time_wait: micros(t.time_wait),
        keepalive_idle: micros(t.keepalive_time),
        keepalive_interval: micros(t.keepalive_interval),
        keepalive_count: small(t.keepalive_probes),
        ..TcpConfig::default()
    }
}

/// Prints the counters at an interval, on standard error.
struct Stats {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Stats {
    fn start(shared: Arc<Shared>, interval: Duration) -> Stats {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut running = true;
            while running {
                running = stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout);
                for line in lines(&shared) {
                    eprintln!("mtcp-run: {line}");
                }
            }
        });
        Stats {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// All counters that are not zero: of each worker, if there are several, and their sums.
fn lines(shared: &Shared) -> Vec<String> {
    let mut lines = Vec::new();
    let mut sums: Vec<(&str, u64)> = Vec::new();
    for (worker, counters) in shared.counters.iter().enumerate() {
        let own = counters.nonzero();
        for (name, value) in &own {
            match sums.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += value,
                None => sums.push((name, *value)),
            }
        }
        if shared.counters.len() > 1 {
            lines.push(format!("worker {worker} stats {}", pairs(&own)));
        }
    }
    lines.push(format!("stats {}", pairs(&sums)));
    lines
}

fn pairs(counters: &[(&str, u64)]) -> String {
    if counters.is_empty() {
        return "nothing counted".into();
    }
    let pair = |(name, value): &(&str, u64)| format!("{name}={value}");
    let pairs: Vec<String> = counters.iter().map(pair).collect();
    pairs.join(" ")
}
