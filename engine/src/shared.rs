//! What the workers and the control thread share.

use crate::binds::{Bind, Binds};
use crate::few::Few;
use crate::net::icmp::IcmpError;
use crate::net::ipv6::Ipv6Config;
use crate::net::{InterfaceAddress, Prefix, Route};
use crate::port_use::PortUse;
use crate::stats::Counters;
use crate::sys;
use crate::tcp::TcpConfig;
use crate::wire::arp::ArpPacket;
use context::Segment;
use context::control::Name;
use psio::{MacAddr, Rss, RxMeta};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Messages, and bytes of frames in them, that may wait for a worker before frames for it are dropped.
const OFFER_LIMIT: usize = 4096;
const OFFER_BYTES: usize = 4 << 20;

/// No process holds the socket.
pub const NO_PROCESS: u32 = 0;

/// What the engine is to do and be.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Addresses of the stack; the first is preferred.
    pub addresses: Vec<InterfaceAddress>,
    /// Networks all of whose addresses are the stack's own (Linux's local routes).
    pub local: Vec<Prefix>,
    /// Routes besides those to connected networks.
    pub routes: Vec<Route>,
    /// IPv6; `None`: the stack does not speak it.
    pub ipv6: Option<Ipv6Config>,
    /// Static neighbours: prefix and Ethernet address.
    pub neighbors: Vec<(Prefix, MacAddr)>,
    /// TCP's parameters; the segment size is derived from the device's MTU.
    pub tcp: TcpConfig,
    /// Send buffer of a new connection, bytes.
    pub send_buffer: u32,
    /// Up to where it grows by itself, bytes.
    pub send_buffer_max: u32,
    /// Upper bound of a listener's backlog.
    pub somaxconn: u32,
    /// Whether 127.0.0.0/8 and the stack's own addresses are reached inside the stack.
    pub loopback: bool,
    /// Bytes of stream memory in all.
    pub memory: u64,
    /// Core of each worker; also says how many workers there are. `None`: wherever it falls.
    pub cores: Vec<Option<usize>>,
    /// How long an idle worker polls before it sleeps, microseconds.
    pub spin_us: u64,
    /// Whether no thread of the program may want a worker's core.
    pub own_cores: bool,
    /// TIME-WAIT connections of one worker; at the bound the oldest ends early.
    pub max_time_wait: usize,
    /// Which of them connect() may take the place of.
    pub time_wait_reuse: TimeWaitReuse,
    /// Connections of one worker that their applications have left and that still have something to
    /// send; beyond, one that is left is reset.
    pub max_orphans: usize,
    /// Probe idle connections even without `SO_KEEPALIVE`.
    pub keepalive: bool,
}

/// Which connections in TIME-WAIT connect() may take the place of, if timestamps keep the segments of
/// both apart (Linux's `tcp_tw_reuse`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeWaitReuse {
    /// None.
    Off,
    /// Those inside this stack.
    Loopback,
    /// All.
    On,
}

/// A watch: which ready set is told of a socket's edges, and under which name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watch {
    /// The ready set.
    pub set: u32,
    /// The set's generation when the watch was made.
    pub set_generation: u32,
    /// The application's name for it.
    pub cookie: u32,
    /// Of several such watches, one that sleeps is told (`EPOLLEXCLUSIVE`).
    pub exclusive: bool,
}

/// The watches of one socket. A watch keeps its place, which is its slot in the events.
pub type Watches = Few<Option<Watch>>;

/// A listening socket, as all workers see it.
pub struct Listener {
    /// The socket's number.
    pub socket: u32,
    /// Address to accept for; unspecified for any. The any-address of IPv6 means IPv4, too,
    /// unless `only_v6`.
    pub address: IpAddr,
    /// `IPV6_V6ONLY`.
    pub only_v6: bool,
    /// Port.
    pub port: u16,
    /// Connections that may wait, half-open ones included.
    pub backlog: AtomicU32,
    /// Who is told when a connection waits.
    pub watches: Mutex<Watches>,
}

/// The engine's side of a ready set.
pub struct SetState {
    /// Changes whenever the set changes hands; odd while it is in use.
    pub generation: AtomicU32,
    /// Wakes threads that sleep in the kernel; -1 if there is none.
    pub eventfd: AtomicI32,
    /// The process whose set it is.
    pub process: AtomicU32,
}

/// What the control thread tells a worker.
pub enum Message {
    /// A thread has a context now.
    OpenContext {
        /// The context.
        context: u32,
        /// Its process.
        process: u32,
        /// Told when it is done.
        done: Sender<()>,
    },
    /// A context is no longer used; its rings are to be drained.
    CloseContext {
        /// The context.
        context: u32,
        /// Told when it is done.
        done: Sender<()>,
    },
    /// A socket listens now.
    Listen {
        /// The socket.
        listener: Arc<Listener>,
        /// Told whether it worked.
        done: Sender<bool>,
    },
    /// `listen(2)` was called again.
    SetBacklog {
        /// The socket.
        socket: u32,
        /// The backlog.
        backlog: u32,
        /// Told when it is done.
        done: Sender<()>,
    },
    /// A listener was closed.
    Unlisten(u32),
    /// A process is gone: close what it held.
    ProcessGone {
        /// The process.
        process: u32,
        /// Its contexts.
        contexts: Vec<u32>,
        /// Told when it is done.
        done: Sender<()>,
    },
    /// What `from` holds of some sockets, `to` holds from now on.
    Share {
        /// A process, or a lease.
        from: u32,
        /// Contexts of the process that asks for it.
        contexts: Arc<[u32]>,
        /// Who holds them as well.
        to: u32,
        /// The sockets.
        names: Arc<[Name]>,
        /// Told how many sockets of this worker that were.
        done: Sender<usize>,
    },
    /// The last copy of a lease of this socket is gone.
    LeaseGone(u32, Name),
    /// Do what applications have asked for so far.
    Sync {
        /// Told when it is done.
        done: Sender<()>,
    },
    /// Say whether a connection stands in the way of a bind.
    Conflict {
        /// What is wanted.
        bind: Bind,
        /// The port that is wanted.
        port: u16,
        /// Told whether there is one.
        done: Sender<bool>,
    },
    /// A frame that arrived at another worker's queue belongs to a connection of this one's, or may
    /// do so; and how many workers have had it before.
    Frame(Vec<u8>, RxMeta, usize),
    /// A datagram that another worker has sent back into the stack likewise, with the segment size of
    /// a super-segment, or 0.
    Looped(Vec<u8>, u16),
    /// An ARP packet, which arrives at one worker and concerns all.
    Arp(ArpPacket),
    /// A packet of IPv6's neighbour discovery, likewise.
    Ndp(Vec<u8>),
    /// An ICMP error about a flow that the worker it arrived at does not have.
    IcmpError(IcmpError),
    /// A ready set changes hands: start its ring anew.
    RenewSet {
        /// The set.
        set: u32,
        /// Told when it is done.
        done: Sender<()>,
    },
    /// Say which connections still have something to tell their peers, a line each.
    ListBusy(Sender<Vec<String>>),
    /// Reset what is left, and end.
    Stop,
}

impl Message {
    /// Bytes of the frame that it carries.
    fn frame_len(&self) -> usize {
        match self {
            Message::Frame(bytes, ..) | Message::Looped(bytes, _) | Message::Ndp(bytes) => {
                bytes.len()
            }
            _ => 0,
        }
    }
}

/// Messages for one worker.
pub struct Inbox {
    queue: Mutex<Waiting>,
    waiting: AtomicBool,
    /// Wakes the worker.
    pub doorbell: OwnedFd,
}

/// What waits in an inbox.
#[derive(Default)]
struct Waiting {
    messages: VecDeque<Message>,
    /// Bytes of frames in them.
    bytes: usize,
}

impl Waiting {
    fn push(&mut self, message: Message) {
        self.bytes += message.frame_len();
        self.messages.push_back(message);
    }
}

impl Inbox {
    /// Adds a message and wakes the worker.
    pub fn send(&self, message: Message) {
        lock(&self.queue).push(message);
        self.announce();
    }

    /// Adds a message that may be lost, unless too much waits: then it is, and the answer is false.
    pub fn offer(&self, message: Message) -> bool {
        let mut queue = lock(&self.queue);
        if queue.messages.len() >= OFFER_LIMIT || queue.bytes >= OFFER_BYTES {
            return false;
        }
        queue.push(message);
        drop(queue);
        self.announce();
        true
    }

    /// Wakes the worker, unless it has yet to come for an earlier message.
    fn announce(&self) {
        if !self.waiting.swap(true, Ordering::AcqRel) {
            sys::ring(self.doorbell.as_raw_fd());
        }
    }

    /// Whether a message waits.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Takes the next message.
    pub fn take(&self) -> Option<Message> {
        let mut queue = lock(&self.queue);
        let message = queue.messages.pop_front();
        queue.bytes -= message.as_ref().map_or(0, Message::frame_len);
        if queue.messages.is_empty() {
            self.waiting.store(false, Ordering::Release);
        }
        message
    }
}

/// Takes a lock; a thread that panicked with it has left nothing half done that matters.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the workers and the control thread share.
pub struct Shared {
    /// The segment.
    pub segment: Segment,
    /// Settings.
    pub config: EngineConfig,
    /// Messages, by worker.
    pub inboxes: Vec<Inbox>,
    /// Ready sets, by number.
    pub sets: Vec<SetState>,
    /// Bound addresses.
    pub binds: Mutex<Binds>,
    /// Ports that connections have, by worker.
    pub ports: Vec<Arc<PortUse>>,
    /// The IPv6 addresses in use now.
    pub addresses6: Mutex<Vec<Ipv6Addr>>,
    /// How the device spreads flows over the workers, if that is known.
    pub rss: OnceLock<Arc<Rss>>,
    /// Counters, by worker.
    pub counters: Vec<Counters>,
    /// Secret of initial sequence numbers and source ports (RFC 6528, RFC 6056).
    pub secret: [u64; 2],
    /// A worker has ended by itself: nothing works any more.
    pub failed: AtomicBool,
    /// Why.
    pub failure: OnceLock<String>,
}

impl Shared {
    /// Everything but the threads.
    ///
    /// # Errors
    /// If no eventfd can be made.
    pub fn new(segment: Segment, config: EngineConfig) -> std::io::Result<Shared> {
        let workers = segment.geometry().workers as usize;
        let inboxes = (0..workers)
            .map(|_| {
                Ok(Inbox {
                    queue: Mutex::default(),
                    waiting: AtomicBool::new(false),
                    doorbell: sys::eventfd()?,
                })
            })
            .collect::<std::io::Result<_>>()?;
        let sets = (0..segment.geometry().ready_sets)
            .map(|_| SetState {
                generation: AtomicU32::new(0),
                eventfd: AtomicI32::new(-1),
                process: AtomicU32::new(NO_PROCESS),
            })
            .collect();
        Ok(Shared {
            inboxes,
            sets,
            config,
            binds: Mutex::default(),
            ports: (0..workers).map(|_| Arc::default()).collect(),
            addresses6: Mutex::default(),
            rss: OnceLock::new(),
            counters: (0..workers).map(|_| Counters::default()).collect(),
            secret: [sys::random(), sys::random()].map(u64::from_ne_bytes),
            failed: AtomicBool::new(false),
            failure: OnceLock::new(),
            segment,
        })
    }
}
