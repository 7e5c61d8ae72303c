//! The worker: one thread, one queue pair, and all connections that arrive there.
//!
//! Each round takes a burst from the device, what applications ask for, and what is due; lets every
//! connection that has something to send do so; and tells applications, once for the whole round.

mod beginning;
pub mod chunks;
pub mod commands;
mod congestion_info;
pub mod connection;
mod control_frames;
mod datagram;
mod events;
mod fast_open;
mod flows;
mod frame;
mod grants;
mod half_open;
mod holders;
mod idle;
mod info;
mod input;
mod ipv6;
mod lifecycle;
pub mod listeners;
mod loopback;
mod manners;
mod opening;
mod options;
mod orphans;
mod output;
mod owner;
mod path;
mod port_conflict;
mod pressure;
mod put_off;
mod remains;
mod slab;
pub mod slots;
mod source_port;
mod spin;
pub mod streams;
mod time_wait;
pub mod timers;

use crate::binds::EPHEMERAL;
use crate::net::icmp::ErrorSender;
use crate::net::{
    Address, LocalAddresses, NeighborConfig, NeighborTable, PathMtus, PlainFrames, RateLimit,
    RoutingTable,
};
use crate::shared::{Message, Shared, lock};
use crate::stats::{Counter, Counters};
use crate::sys;
use crate::tcp::{Instant, IsnGenerator, PortSelector, SynCookies, TcpConfig};
use chunks::ChunkPool;
use connection::Connections;
use context::socket::state;
use control_frames::ControlFrames;
use fast_open::FastOpenCache;
use grants::ContextState;
use ipv6::Host6;
use listeners::Listeners;
use loopback::Loopback;
use manners::Manners;
use psio::{BURST, Capabilities, MacAddr, Queue};
use put_off::PutOff;
use remains::Remains;
use slots::{Role, Slots};
use spin::Spin;
use std::collections::{HashMap, VecDeque};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use timers::TimerWheel;

/// Longest sleep while an application on the same core may have commands that it has not rung for.
const SHARED_CORE_SLEEP: u64 = 1_000;
/// How long after the last work that holds; later the sleep is ten times as long.
const SHARED_CORE_ACTIVE: u64 = 10_000;
/// Sleep while the device takes no more frames: nothing tells when it does again.
const FULL_RING_SLEEP: u64 = 100;

/// How often the device is asked what it has dropped, in microseconds: it may take a system call.
const ASK_DEVICE_EVERY: u64 = 1_000_000;
/// RSTs to segments that match no connection, for each worker.
const RESETS_PER_SECOND: u32 = 10_000;
/// The same at once.
const RESETS_BURST: u32 = 1_000;

/// Everything of a worker but its queue.
pub struct Stack {
    #[expect(
        clippy::redundant_allocation,
        reason = "counted by this thread alone: nearly every step takes a reference"
    )]
    shared: Rc<Arc<Shared>>,
    index: usize,
    /// Read once a round.
    now: Instant,
    mac: MacAddr,
    capabilities: Capabilities,
    tcp: TcpConfig,
    settings: options::KnownSettings,
    addresses: LocalAddresses,
    /// What most received frames look like.
    plain: Option<PlainFrames>,
    routes: RoutingTable,
    /// Connections wait for the address of their neighbour.
    neighbors: NeighborTable<(u32, u32)>,
    /// The address that was last looked for in this round, its neighbour, and the neighbour's station.
    latest_way: Option<(Address, Address, MacAddr)>,
    path_mtus: PathMtus,
    icmp_errors: ErrorSender,
    /// RSTs to what matches no connection.
    resets: RateLimit,
    /// Lines that name a station with this stack's address.
    conflict_log: RateLimit,
    nonsense_log: RateLimit,
    ipv6: Option<Box<Host6>>,
    icmpv6: crate::net::ipv6::icmp::Sender,
    /// While sockets wait for an IPv6 address to connect from: the version of the addresses when they
    /// were last tried.
    awaiting: Option<u64>,
    /// Version of the IPv6 addresses that the control thread knows.
    published_addresses: u64,
    isns: IsnGenerator,
    /// The addresses between which a connection began last, and the offset of their timestamps.
    latest_offset: Option<((Address, Address), u32)>,
    cookies: SynCookies,
    /// What is known of servers that take data in SYNs.
    servers: FastOpenCache,
    secret: [u8; 16],
    ports: PortSelector,
    connections: Connections,
    listeners: Listeners,
    slots: Slots,
    pool: ChunkPool,
    contexts: Vec<ContextState>,
    edges: events::Edges,
    manners: Manners,
    wheel: TimerWheel,
    /// Connections whose streams a burst has changed.
    changed: Vec<(u32, u32)>,
    /// Connections that may have something to send.
    dirty: Vec<(u32, u32)>,
    /// Empty memory for those whose turn it is.
    turns: Vec<(u32, u32)>,
    /// Connections whose ACK waits for what the program answers.
    put_off: PutOff,
    /// Connections whose memory is looked at later, with the time in microseconds.
    idle: [VecDeque<(u64, (u32, u32))>; 2],
    /// Connections whose writers wait for chunks.
    starved: VecDeque<(u32, u32)>,
    /// Whether memory was scarce in the round before.
    pressed: bool,
    /// Whether so little is left that only those who hold none get some.
    rationed: bool,
    /// When unused memory was last looked for, microseconds.
    swept_at: u64,
    /// When unused grants were last taken back, microseconds.
    chunks_recalled_at: u64,
    sockets_recalled_at: u64,
    /// Connections that have only to wait, the oldest first; some may be gone.
    time_wait: VecDeque<(u32, u32)>,
    /// What is left of connections whose sockets are not closed yet.
    remains: HashMap<u32, Remains>,
    looped: Loopback,
    /// Frames of ARP, ICMP and resets.
    control: ControlFrames,
    announced: Vec<u32>,
    due: Vec<(u32, u32)>,
}

/// A worker.
pub struct Worker {
    stack: Stack,
    queue: Box<dyn Queue>,
    spin: Spin,
    /// When the device is asked again what it has dropped.
    ask_device_at: u64,
    stopping: bool,
}

impl Worker {
    /// Worker `index` over a queue pair of a device with address `mac`.
    ///
    /// # Errors
    /// Addresses or routes that contradict each other.
    pub fn new(
        shared: Arc<Shared>,
        index: usize,
        queue: Box<dyn Queue>,
        mac: MacAddr,
        capabilities: Capabilities,
    ) -> Result<Worker, crate::net::NetError> {
        let config = &shared.config;
        let mut addresses = LocalAddresses::default();
        let mut routes = RoutingTable::default();
        for address in &config.addresses {
            addresses.add(*address)?;
            if address.network.len() < 32 {
                routes.add_connected(0, *address)?;
            }
        }
        for network in &config.local {
            addresses.add_network(*network)?;
        }
        for route in &config.routes {
            routes.add(*route)?;
        }
        let mut neighbors = NeighborTable::new(
            mac,
            addresses.clone(),
            NeighborConfig {
                // Connections wait here, and their number is bounded elsewhere.
                max_held: 4096,
                ..NeighborConfig::default()
            },
        );
        for (prefix, station) in &config.neighbors {
            neighbors.add_static(*prefix, *station)?;
        }
        let now = sys::now_micros();
        let ipv6 = match &config.ipv6 {
            Some(ipv6) => {
                let neighbors = crate::net::ipv6::neighbor::Config {
                    // As above.
                    max_held: 4096,
                    ..Default::default()
                };
                let mtu = u16::try_from(capabilities.mtu).unwrap_or(u16::MAX);
                let host = Host6::new(ipv6, (mac, mtu), neighbors, now, index == 0)?;
                Some(Box::new(host))
            }
            None => None,
        };
        let workers = shared.inboxes.len();
        let [k0, k1] = shared.secret;
        let key = (u128::from(k0) << 64 | u128::from(k1)).to_ne_bytes();
        let tcp = TcpConfig {
            mss: (capabilities.mtu.saturating_sub(40)).clamp(88, 65_000) as u16,
            ..config.tcp
        };
        let mut stack = Stack {
            index,
            now: Instant::from_micros(now),
            mac,
            capabilities,
            tcp,
            settings: options::KnownSettings::default(),
            plain: PlainFrames::to(mac, &addresses),
            routes,
            latest_way: None,
            path_mtus: PathMtus::default(),
            icmp_errors: ErrorSender::jittered(sys::random()),
            conflict_log: RateLimit::new(1, 5),
            nonsense_log: RateLimit::new(1, 10),
            resets: RateLimit::jittered(RESETS_PER_SECOND, RESETS_BURST, sys::random()),
            ipv6,
            icmpv6: crate::net::ipv6::icmp::Sender::jittered(sys::random()),
            awaiting: None,
            published_addresses: 0,
            isns: IsnGenerator::new(key),
            latest_offset: None,
            cookies: SynCookies::new(key),
            servers: FastOpenCache::default(),
            secret: key,
            ports: PortSelector::new(key, EPHEMERAL),
            connections: Connections::new([k1, k0], shared.ports[index].clone()),
            listeners: Listeners::new([k0, k1]),
            slots: Slots::new(&shared.segment, index),
            pool: ChunkPool::new(
                shared.segment.geometry().chunks,
                index,
                config.memory / workers as u64,
            ),
            contexts: Vec::new(),
            edges: events::Edges::default(),
            manners: Manners::default(),
            wheel: TimerWheel::new(now),
            changed: Vec::new(),
            dirty: Vec::new(),
            turns: Vec::new(),
            put_off: PutOff::default(),
            idle: Default::default(),
            starved: VecDeque::new(),
            pressed: false,
            rationed: false,
            swept_at: now,
            chunks_recalled_at: 0,
            sockets_recalled_at: 0,
            time_wait: VecDeque::new(),
            remains: HashMap::new(),
            looped: Loopback::default(),
            control: ControlFrames::default(),
            announced: Vec::new(),
            due: Vec::new(),
            neighbors,
            addresses,
            shared: Rc::new(shared.clone()),
        };
        stack.publish_addresses();
        Ok(Worker {
            spin: Spin::at_most(shared.config.spin_us),
            stack,
            queue,
            ask_device_at: 0,
            stopping: false,
        })
    }

    /// Works until told to stop.
    ///
    /// # Errors
    /// Of the device, when it is of no use any more.
    pub fn run(&mut self) -> Result<(), psio::Error> {
        let announcements: Vec<_> = self.stack.neighbors.announcements().collect();
        if self.stack.index == 0 {
            for packet in announcements {
                self.stack.send_arp(&packet, MacAddr::BROADCAST);
            }
        }
        self.stack.note_core();
        let mut worked_at = self.stack.now;
        // When it last worked or was rung for.
        let mut called_at = worked_at;
        loop {
            if self.stack.now.as_micros() >= self.ask_device_at {
                self.count_device_drops();
            }
            if self.round(sys::now_micros())? {
                worked_at = self.stack.now;
                called_at = worked_at;
                continue;
            }
            if self.stopping {
                self.queue.flush()?;
                self.count_device_drops();
                return Ok(());
            }
            let all_sleep = self.stack.all_sleep();
            if all_sleep && self.acknowledge_put_off() {
                continue;
            }
            let looked_for = self.stack.now.since(called_at).as_micros();
            let may_spin = all_sleep || self.stack.shared.config.own_cores;
            if may_spin && looked_for < self.spin.budget() {
                std::hint::spin_loop();
                continue;
            }
            let slept_from = Instant::from_micros(sys::now_micros());
            let called = self.sleep(worked_at);
            let awake_at = Instant::from_micros(sys::now_micros());
            if may_spin {
                let slept = awake_at.since(slept_from).as_micros();
                self.spin.slept(looked_for, slept);
            }
            if called {
                called_at = awake_at;
            }
        }
    }

    /// One round at the time `now`, in microseconds of any clock that never goes back (tests have
    /// their own); returns whether there was anything to do.
    ///
    /// # Errors
    /// Of the device, when it is of no use any more.
    pub fn round(&mut self, now: u64) -> Result<bool, psio::Error> {
        let stack = &mut self.stack;
        stack.now = Instant::from_micros(now);
        let received = self
            .queue
            .receive(BURST, &mut |frame, meta| stack.on_frame(frame, meta, 0))?;
        stack.counters().add(Counter::frames_in, received as u64);
        let mut worked = received > 0;
        worked |= stack.receive_looped(BURST);
        stack.end_burst();
        worked |= stack.take_commands();
        if stack.shared.inboxes[stack.index].is_waiting() {
            worked = true;
            while let Some(message) = stack.shared.inboxes[stack.index].take() {
                self.stopping |= stack.on_message(message);
            }
            stack.end_burst();
        }
        worked |= stack.run_timers();
        stack.tend_memory();
        worked |= stack.transmit(&mut *self.queue);
        self.queue.flush()?;
        // While input waits, more events will come: one wake-up for all of them.
        stack.publish_edges(received < BURST && stack.looped.is_empty());
        Ok(worked)
    }

    /// No thread is about to answer: the ACKs that waited for answers are due with the next round. Returns
    /// whether there are any.
    pub fn acknowledge_put_off(&mut self) -> bool {
        self.stack.acknowledge_put_off()
    }

    /// When [`round`](Worker::round) has something to do although nobody asks, in microseconds;
    /// `u64::MAX` for never.
    pub fn next_deadline(&self) -> u64 {
        self.stack.next_deadline()
    }

    /// Brings those counters up to date that say how much there is now.
    pub fn report(&mut self) {
        self.stack.report();
        self.count_device_drops();
    }

    fn count_device_drops(&mut self) {
        self.ask_device_at = self.stack.now.as_micros() + ASK_DEVICE_EVERY;
        let device = self.queue.stats();
        let counters = self.stack.counters();
        counters.set(Counter::rx_dropped, device.rx_dropped);
        counters.set(Counter::tx_dropped, device.tx_dropped);
    }

    /// Sleeps until it is called or something is due. Returns whether it was called.
    fn sleep(&mut self, worked_at: Instant) -> bool {
        let stack = &mut self.stack;
        stack.wake_sets();
        stack.report();
        let shared = stack.shared.clone();
        let inbox = &shared.inboxes[stack.index];
        let record = shared.segment.worker(stack.index);
        if !record.fall_asleep() {
            return true;
        }
        let quiet = stack.looped.is_empty() && !inbox.is_waiting();
        let (mut called, mut device, mut doorbell) = (true, false, false);
        if quiet && self.queue.arm() {
            let now = stack.now.as_micros();
            let mut until = stack.next_deadline();
            if let Some(most) = self.queue.longest_sleep() {
                until = until.min(now + most.as_micros() as u64);
            }
            if shared.segment.shared_core() && !stack.connections.is_empty() {
                let active = stack.now.since(worked_at).as_micros() < SHARED_CORE_ACTIVE;
                let bound = SHARED_CORE_SLEEP * if active { 1 } else { 10 };
                until = until.min(now + bound);
            }
            if !stack.dirty.is_empty() || !stack.control.is_empty() {
                until = until.min(now + FULL_RING_SLEEP);
            }
            let timeout =
                (until != u64::MAX).then(|| Duration::from_micros(until.saturating_sub(now)));
            let fds = [Some(inbox.doorbell.as_raw_fd()), self.queue.wait_fd()];
            stack.count(Counter::sleeps);
            [doorbell, device] = sys::wait_readable(fds, timeout);
            called = doorbell || device;
            if !called {
                stack.manners.forget();
            }
        }
        self.queue.disarm(device);
        record.wake_up();
        stack.note_core();
        if doorbell {
            sys::clear(&inbox.doorbell);
        }
        called
    }
}

impl Stack {
    /// Whether all threads that were woken sleep again, as far as can be known.
    fn all_sleep(&mut self) -> bool {
        let record = self.shared.segment.worker(self.index);
        self.manners.all_sleep(record)
    }

    fn counters(&self) -> &Counters {
        &self.shared.counters[self.index]
    }

    fn count(&self, counter: Counter) {
        self.counters().count(counter);
    }

    /// For `SO_INCOMING_CPU`.
    fn note_core(&self) {
        if let Some(core) = sys::current_core() {
            self.shared.segment.worker(self.index).runs_on(core);
        }
    }

    /// When there is something to do, in microseconds; `u64::MAX` for never.
    fn next_deadline(&self) -> u64 {
        let neighbors = self.neighbors.next_deadline();
        let idle = |list: &VecDeque<(u64, _)>| list.front().map(|(due, _)| *due);
        let [idle, again] = [idle(&self.idle[0]), idle(&self.idle[1])];
        let ipv6 = self.ipv6.as_ref().and_then(|host| host.next_deadline());
        let memory = self.memory_deadline();
        [
            self.wheel.next_deadline(),
            neighbors,
            ipv6,
            idle,
            again,
            memory,
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(u64::MAX)
    }

    /// Publishes what only changes slowly.
    fn report(&mut self) {
        let waiting = self.connections.time_wait().len() as u64;
        let counters = &self.shared.counters[self.index];
        counters.set(Counter::time_wait, waiting);
        counters.set(Counter::stream_memory, self.pool.used());
    }

    /// Does what the control thread asks; true if it is to stop.
    fn on_message(&mut self, message: Message) -> bool {
        match message {
            Message::OpenContext {
                context,
                process,
                done,
            } => {
                self.open_context(context, process);
                let _ = done.send(());
            }
            Message::CloseContext { context, done } => {
                self.close_context(context);
                let _ = done.send(());
            }
            Message::Listen { listener, done } => {
                let segment = &self.shared.segment;
                // What the record says of its state is not to be relied on.
                let free = match self.slots.get(listener.socket) {
                    Some(slot) => {
                        matches!(slot.role, Role::Open) && !self.is_used_up(listener.socket)
                    }
                    None => segment.geometry().worker_of(listener.socket) != self.index,
                };
                let added = free
                    && self
                        .listeners
                        .add(segment, &mut self.pool, self.index, listener.clone());
                if added && let Some(slot) = self.slots.get(listener.socket) {
                    *lock(&listener.watches) = std::mem::take(&mut slot.watches);
                    slot.role = Role::Listener(listener.clone());
                    if let Some(record) = self.shared.segment.socket(listener.socket) {
                        record
                            .engine
                            .state
                            .store(state::LISTEN | state::BOUND, SeqCst);
                    }
                }
                let _ = done.send(added);
            }
            Message::SetBacklog {
                socket,
                backlog,
                done,
            } => {
                if let Some(slot) = self.slots.get(socket)
                    && let Role::Listener(listener) = &slot.role
                {
                    listener.backlog.store(backlog, SeqCst);
                }
                let _ = done.send(());
            }
            Message::Unlisten(socket) => self.unlisten(socket),
            Message::ProcessGone {
                process,
                contexts,
                done,
            } => {
                self.process_gone(process, &contexts);
                let _ = done.send(());
            }
            Message::Share {
                from,
                contexts,
                to,
                names,
                done,
            } => {
                let _ = done.send(self.share(from, to, &contexts, &names));
            }
            Message::LeaseGone(lease, name) => self.lease_gone(lease, name),
            Message::Sync { done } => {
                self.take_commands();
                let _ = done.send(());
            }
            Message::Conflict { bind, port, done } => {
                let _ = done.send(self.holds_port(&bind, port));
            }
            Message::Frame(frame, meta, before) => {
                self.count(Counter::frames_in);
                self.on_frame(&frame, meta, before);
            }
            Message::Looped(datagram, gso_size) => self.on_looped(&datagram, gso_size),
            Message::Arp(packet) => self.overhear_arp(&packet),
            Message::Ndp(packet) => self.overhear_ndp(&packet),
            Message::IcmpError(error) => {
                self.report_icmp_error(&error);
            }
            Message::RenewSet { set, done } => {
                self.reset_set_cursor(set);
                if let Some(ring) = self.shared.segment.event_ring(set, self.index) {
                    ring.reset();
                }
                let _ = done.send(());
            }
            Message::ListBusy(reply) => {
                let _ = reply.send(self.busy());
            }
            Message::Stop => {
                self.abort_all();
                return true;
            }
        }
        false
    }
}
