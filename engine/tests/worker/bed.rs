//! A worker with nobody around it: the test is its network, its applications, its control thread
//! and its clock.

use crate::app::App;
use crate::frames::{IP, TCP, TcpFrame};
use context::Segment;
use context::control::Name;
use context::layout::Plan;
use engine::binds::Bind;
use engine::net::ipv6::{Ipv6Config, Prefix6};
use engine::net::{InterfaceAddress, Prefix};
use engine::shared::{Listener, Message, Shared, lock};
use engine::stats::Counter;
use engine::tcp::{Duration, TcpConfig};
use engine::worker::Worker;
use engine::{EngineConfig, TimeWaitReuse, tcp};
use psio::pair::{PairConfig, pair};
use psio::{ChecksumOffload, Device, Gso, GsoKind, MacAddr, Queue, RxChecksum, RxMeta, TxMeta};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};

/// What a bed is made from; tests change what matters to them.
pub struct Setup {
    pub config: EngineConfig,
    pub plan: Plan,
    pub pair: PairConfig,
    /// What the network speaks.
    pub family: Family,
}

impl Setup {
    /// A stack at 10.0.0.`host` that knows its neighbours' addresses already.
    pub fn host(host: u8) -> Setup {
        let neighbors = (1..9).map(|n| (Prefix::host(address(n)), mac(n))).collect();
        Setup {
            config: EngineConfig {
                addresses: vec![InterfaceAddress::new(address(host), 24).unwrap()],
                local: Vec::new(),
                routes: Vec::new(),
                ipv6: None,
                neighbors,
                tcp: TcpConfig {
                    time_wait: Duration::from_secs(1),
                    fin_wait2_timeout: Duration::from_secs(1),
                    orphan_retries: 3,
                    ..TcpConfig::default()
                },
                send_buffer: 64 << 10,
                send_buffer_max: 1 << 20,
                somaxconn: 4095,
                loopback: true,
                memory: 64 << 20,
                cores: vec![None],
                spin_us: 0,
                own_cores: false,
                max_time_wait: 1000,
                time_wait_reuse: TimeWaitReuse::Loopback,
                max_orphans: 1000,
                keepalive: false,
            },
            plan: Plan {
                workers: 1,
                sockets: 1024,
                contexts: 64,
                ready_sets: 8,
                memory: 64 << 20,
            },
            pair: PairConfig::plain(),
            family: Family::V4,
        }
    }

    /// A stack at the address of `host` that the family has, and which knows its neighbours.
    pub fn over(family: Family, host: u8) -> Setup {
        let mut setup = Setup::host(host);
        setup.family = family;
        if family == Family::V6 {
            let known = |n| (Prefix6::new(address6(n), 128).unwrap(), mac(n));
            setup.config.ipv6 = Some(Ipv6Config {
                addresses: vec![(address6(host), 64)],
                neighbors: (1..9).map(known).collect(),
                silent: true,
                ..Ipv6Config::default()
            });
        }
        setup
    }

    /// The same at fd00::`host` as well, where it has to find out its neighbours' stations.
    pub fn dual(host: u8) -> Setup {
        let mut setup = Setup::host(host);
        setup.config.ipv6 = Some(Ipv6Config {
            addresses: vec![(address6(host), 64)],
            ..Ipv6Config::default()
        });
        setup
    }

    /// The bed.
    pub fn build(self) -> Bed {
        let (mut near, mut far) = pair(self.pair).unwrap();
        let wire = far.open_queue(0).unwrap();
        self.build_on(&mut near, wire)
    }

    /// The bed on a device, and the other end of its wire.
    pub fn build_on(self, device: &mut dyn Device, wire: Box<dyn Queue>) -> Bed {
        let segment = Segment::create(&self.plan, b"", false, 0).unwrap();
        let host = self.config.addresses[0].address.octets()[3];
        let mut shared = Shared::new(segment, self.config).unwrap();
        shared.secret = [1, 2];
        let shared = Arc::new(shared);
        let queue = device.open_queue(0).unwrap();
        let capabilities = device.capabilities();
        let worker = Worker::new(shared.clone(), 0, queue, mac(host), capabilities).unwrap();
        Bed {
            shared,
            worker,
            wire,
            // Beyond whatever the clock of the machine says.
            now: 1 << 50,
            host,
            family: self.family,
            index: 0,
            offloads: self.pair.capabilities.rx_coalescing,
            next_context: 0,
        }
    }
}

/// The version of IP that a test runs over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The address of a host of the test network.
    pub fn address(self, host: u8) -> IpAddr {
        match self {
            Family::V4 => address(host).into(),
            Family::V6 => address6(host).into(),
        }
    }

    /// The address of the `n`th host elsewhere, where no route leads.
    pub fn stranger(self, n: u32) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::from_bits(0xc000_0000 + n).into(),
            Family::V6 => Ipv6Addr::from_bits((0xfd01 << 112) + u128::from(n)).into(),
        }
    }

    /// The any-address.
    pub fn any(self) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// The loopback address.
    pub fn loopback(self) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::LOCALHOST.into(),
            Family::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// Bytes of the IP header.
    pub fn header(self) -> usize {
        match self {
            Family::V4 => 20,
            Family::V6 => 40,
        }
    }

    /// The segment size on an Ethernet.
    pub fn mss(self) -> u16 {
        1500 - 20 - self.header() as u16
    }
}

/// The address of a host of the test network.
pub fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, host)
}

/// The IPv6 address of a host of the test network.
pub fn address6(host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into())
}

/// The station of a host of the test network.
pub fn mac(host: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, host])
}

/// A worker, and the other end of its wire.
pub struct Bed {
    pub shared: Arc<Shared>,
    pub worker: Worker,
    pub wire: Box<dyn Queue>,
    /// Microseconds.
    pub now: u64,
    pub family: Family,
    host: u8,
    index: usize,
    offloads: bool,
    next_context: u32,
}

impl Bed {
    /// Another worker of the same stack, with a queue of its own.
    pub fn another_worker(&self, index: usize) -> Bed {
        let (mut near, mut far) = pair(PairConfig::plain()).unwrap();
        let (queue, wire) = (near.open_queue(0).unwrap(), far.open_queue(0).unwrap());
        let (shared, capabilities) = (self.shared.clone(), near.capabilities());
        let worker = Worker::new(shared, index, queue, mac(self.host), capabilities).unwrap();
        Bed {
            shared: self.shared.clone(),
            worker,
            wire,
            now: self.now,
            host: self.host,
            family: self.family,
            index,
            offloads: false,
            next_context: self.next_context,
        }
    }

    /// Rounds until the worker finds nothing to do. Returns whether it ever did.
    ///
    /// # Panics
    /// If it does not come to rest, or its device fails.
    pub fn settle(&mut self) -> bool {
        for round in 0..10_000 {
            if !self.worker.round(self.now).unwrap() {
                return round > 0;
            }
        }
        panic!("the worker does not come to rest");
    }

    /// Lets time pass, in steps that let every timer fire near its time.
    pub fn pass(&mut self, micros: u64) {
        let end = self.now + micros;
        let step = (micros / 200).max(1000);
        while self.now < end {
            self.now = (self.now + step).min(end);
            self.settle();
        }
    }

    /// Puts a frame on the wire, for the worker to receive.
    pub fn inject(&mut self, frame: &[u8]) {
        self.inject_with(frame, RxMeta::default());
    }

    /// The same with what the device says of it, as far as it has the offloads for that.
    pub fn inject_with(&mut self, frame: &[u8], about: RxMeta) {
        let good = self.offloads && about.checksum == RxChecksum::Good;
        let (start, kind) = match frame.get(12..14) {
            Some([0x86, 0xdd]) => (IP as u16 + 40, GsoKind::TcpV6),
            _ => (TCP as u16, GsoKind::TcpV4),
        };
        let checksum = good.then_some(ChecksumOffload { start, offset: 16 });
        let gso = (good && about.gso_size > 0).then_some(Gso {
            kind,
            size: about.gso_size,
            header_len: start + 20,
        });
        if let Some(room) = self.wire.reserve(frame.len()) {
            room.copy_from_slice(frame);
            self.wire.commit(frame.len(), TxMeta { checksum, gso });
        }
        self.wire.flush().unwrap();
    }

    /// Frames that the worker has sent since the last call.
    pub fn sent(&mut self) -> Vec<Vec<u8>> {
        self.sent_with().into_iter().map(|sent| sent.0).collect()
    }

    /// The same with what the device says of them.
    pub fn sent_with(&mut self) -> Vec<(Vec<u8>, RxMeta)> {
        let mut frames = Vec::new();
        let mut keep = |frame: &[u8], about: RxMeta| frames.push((frame.to_vec(), about));
        while self.wire.receive(64, &mut keep).unwrap() > 0 {}
        frames
    }

    /// TCP segments that the worker has sent since the last call.
    pub fn sent_segments(&mut self) -> Vec<TcpFrame> {
        let frames = self.sent();
        frames.iter().filter_map(|f| TcpFrame::parse(f)).collect()
    }

    /// Injects a segment and returns what the worker sends in answer.
    pub fn answer(&mut self, frame: &TcpFrame) -> Vec<TcpFrame> {
        self.inject(&frame.bytes());
        self.settle();
        self.sent_segments()
    }

    /// A segment from `host` to this stack.
    pub fn segment_from(&self, host: u8, ports: (u16, u16), flags: tcp::Flags) -> TcpFrame {
        TcpFrame {
            dst_mac: mac(self.host),
            src_mac: mac(host),
            src: (self.family.address(host), ports.0),
            dst: (self.family.address(self.host), ports.1),
            seq: 1000,
            ack: 0,
            flags,
            window: 60_000,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// Sends the worker a message as the control thread does, and returns the answer.
    pub fn ask<T>(&mut self, message: impl FnOnce(Sender<T>) -> Message) -> T {
        let (done, answer) = mpsc::channel();
        self.shared.inboxes[self.index].send(message(done));
        self.settle();
        answer.try_recv().expect("the worker answers")
    }

    /// A thread of `process` with a context of its own.
    pub fn app(&mut self, process: u32) -> App {
        let context = self.next_context;
        self.next_context += 1;
        self.open_context(context, process)
    }

    /// Hands a context to a thread of `process`.
    pub fn open_context(&mut self, context: u32, process: u32) -> App {
        self.ask(|done| Message::OpenContext {
            context,
            process,
            done,
        });
        App::new(self.shared.clone(), self.index, context, process)
    }

    /// `bind(2)` and `listen(2)` as the control thread serves them. False if refused.
    pub fn listen(&mut self, socket: u32, port: u16, backlog: u32) -> bool {
        self.bind(socket, port) && self.listen_bound(socket, port, backlog)
    }

    /// The same at an address of either family; `only_v6` is `IPV6_V6ONLY`.
    pub fn listen_at(
        &mut self,
        socket: u32,
        (address, port): (IpAddr, u16),
        only_v6: bool,
    ) -> bool {
        self.bind_to(socket, (address, port), only_v6)
            && self.listen_bound_to(socket, (address, port), only_v6, 10)
    }

    /// `bind(2)` to the any-address.
    pub fn bind(&mut self, socket: u32, port: u16) -> bool {
        self.bind_to(socket, (self.family.any(), port), false)
    }

    /// `bind(2)` to an address of either family.
    pub fn bind_at(&mut self, socket: u32, to: (IpAddr, u16)) -> bool {
        self.bind_to(socket, to, false)
    }

    /// `bind(2)` to an address of either family.
    pub fn bind_to(&mut self, socket: u32, (address, port): (IpAddr, u16), only_v6: bool) -> bool {
        let bind = Bind {
            socket,
            address,
            only_v6,
            reuse_address: false,
            reuse_port: false,
            uid: 0,
            listens: false,
        };
        if lock(&self.shared.binds).bind(port, bind, 1, |_| false) != Some(port) {
            return false;
        }
        let record = self.shared.segment.socket(socket).unwrap();
        record.names.set((address, port).into(), None);
        let bound = context::socket::state::BOUND;
        record
            .engine
            .state
            .fetch_or(bound, std::sync::atomic::Ordering::SeqCst);
        true
    }

    /// `listen(2)` on a bound socket.
    pub fn listen_bound(&mut self, socket: u32, port: u16, backlog: u32) -> bool {
        let any = self.family.any();
        self.listen_bound_to(socket, (any, port), false, backlog)
    }

    fn listen_bound_to(
        &mut self,
        socket: u32,
        (address, port): (IpAddr, u16),
        only_v6: bool,
        backlog: u32,
    ) -> bool {
        let listener = Arc::new(Listener {
            socket,
            address,
            only_v6,
            port,
            backlog: backlog.into(),
            watches: Default::default(),
        });
        let added = self.ask(|done| Message::Listen { listener, done });
        if !added {
            self.shared.inboxes[self.index].send(Message::Unlisten(socket));
            self.settle();
        }
        added
    }

    /// The address of a port of this stack.
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.family.address(self.host), port).into()
    }

    /// A process dies, as the control thread notices it.
    pub fn process_gone(&mut self, process: u32, contexts: &[u32]) {
        let contexts = contexts.to_vec();
        self.ask(|done| Message::ProcessGone {
            process,
            contexts,
            done,
        });
    }

    /// What process `from` holds of `sockets`, `to` holds as well from now on. Returns how many those
    /// are.
    pub fn share(&mut self, from: (u32, &[u32]), to: u32, sockets: &[u32]) -> usize {
        let names = sockets.iter().map(|socket| self.name(*socket)).collect();
        self.ask(|done| Message::Share {
            from: from.0,
            contexts: from.1.into(),
            to,
            names,
            done,
        })
    }

    /// The last copy of a lease of `socket` is gone.
    pub fn lease_gone(&mut self, lease: u32, socket: u32) {
        let name = self.name(socket);
        self.shared.inboxes[self.index].send(Message::LeaseGone(lease, name));
        self.settle();
    }

    fn name(&self, socket: u32) -> Name {
        let record = self.shared.segment.socket(socket).unwrap();
        let generation = &record.engine.generation;
        let generation = generation.load(std::sync::atomic::Ordering::SeqCst) as u16;
        Name { socket, generation }
    }

    /// A ready set changes hands. Generations are odd while a set is in use.
    pub fn renew_set(&mut self, set: u32) {
        let state = &self.shared.sets[set as usize];
        state
            .generation
            .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if let Some(record) = self.shared.segment.ready_set(set) {
            record.reset();
        }
        self.ask(|done| Message::RenewSet { set, done });
    }

    /// A counter.
    pub fn count(&mut self, counter: Counter) -> u64 {
        self.worker.report();
        self.shared.counters[self.index].get(counter)
    }

    /// A counter by name, dropped frames and segments included; 0 if it never counted.
    pub fn count_of(&self, name: &str) -> u64 {
        let counters = self.shared.counters[self.index].nonzero();
        counters.iter().find(|c| c.0 == name).map_or(0, |c| c.1)
    }

    /// Bytes of stream memory lent or in use.
    pub fn memory(&mut self) -> u64 {
        self.count(Counter::stream_memory)
    }
}

/// Carries frames between two beds with the same offloads until neither has anything to do. `pass_on` sees each frame on
/// its way (`true`: from `a`) and says whether it arrives.
pub fn exchange(a: &mut Bed, b: &mut Bed, mut pass_on: impl FnMut(bool, &[u8]) -> bool) {
    for _ in 0..10_000 {
        let mut busy = a.settle() | b.settle();
        for (frame, about) in a.sent_with() {
            busy = true;
            if pass_on(true, &frame) {
                b.inject_with(&frame, about);
            }
        }
        for (frame, about) in b.sent_with() {
            busy = true;
            if pass_on(false, &frame) {
                a.inject_with(&frame, about);
            }
        }
        if !busy {
            return;
        }
    }
    panic!("the stacks do not come to rest");
}

/// Lets time pass for two beds that are joined.
pub fn pass_together(a: &mut Bed, b: &mut Bed, micros: u64) {
    let end = a.now + micros;
    let step = (micros / 200).max(1000);
    while a.now < end {
        a.now = (a.now + step).min(end);
        b.now = a.now;
        exchange(a, b, |_, _| true);
    }
}
