//! The engine's side for unit tests: a control server, and what a worker would do to the segment,
//! played by hand.
//!
//! All tests of the crate share one process and one segment, as threads of a program do; each has
//! its own context and makes its own sockets.

#![allow(unsafe_code)]

use crate::process;
use crate::socket::SocketRef;
use crate::thread::{self, with_thread};
use config::Settings;
use context::chunk::Class;
use context::command::{Command, Op};
use context::control::{self, REQUEST_LEN, Reply, Request};
use context::layout::Plan;
use context::socket::{AcceptRing, Socket, Waiting, state};
use context::{NONE, Segment};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Workers of the fake engine.
pub const WORKERS: usize = 2;
const PLAN: Plan = Plan {
    workers: WORKERS,
    sockets: 32_768,
    contexts: 512,
    ready_sets: 256,
    memory: 128 << 20,
};
/// Bytes that a fresh socket may have unacknowledged.
pub const TX_LIMIT: u32 = 64 * 1024;

/// The engine, as far as tests need one.
pub struct Engine {
    /// The engine's own mapping of the segment.
    pub segment: Segment,
    doorbells: Vec<OwnedFd>,
    grants: Mutex<Grants>,
    streams: Mutex<HashMap<u32, (u32, u64)>>,
}

#[derive(Default)]
struct Grants {
    contexts: u32,
    free_contexts: Vec<u32>,
    ready_sets: u32,
    eventfds: HashMap<u32, OwnedFd>,
    sockets: [u32; WORKERS],
    chunks: [[u32; 3]; WORKERS],
    bound: HashSet<SocketAddr>,
    next_port: u16,
}

/// The engine of this test process, with the process attached to it.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    static SERVING: OnceLock<()> = OnceLock::new();
    let engine = ENGINE.get_or_init(Engine::new);
    SERVING.get_or_init(|| {
        let name = format!("mtcp-preload-test-{}", std::process::id());
        let listener = listen(&name);
        std::thread::spawn(move || serve(engine, &listener));
        process::start_for_test(name.as_bytes());
    });
    engine
}

/// A fresh socket of the stack, as `socket()` would get it, not yet behind a descriptor.
pub fn fresh() -> SocketRef {
    thread_local! {
        static DRAINED: Cell<bool> = const { Cell::new(false) };
    }
    let engine = engine();
    if !DRAINED.replace(true) {
        // The context may have been that of another test's thread.
        commands();
        engine.grant(with_thread(|t| t.context()).unwrap());
    }
    let index = with_thread(|t| t.socket()).unwrap().expect("a grant");
    let generation = engine.record(index).engine.generation.load(Acquire) as u16;
    SocketRef::new(index, generation).unwrap()
}

/// A fresh socket that is connected.
pub fn established() -> SocketRef {
    let socket = fresh();
    engine().establish(socket);
    socket
}

/// Runs `act` once the call sleeps on the socket, which it has to do within ten seconds.
pub fn when_waiting<T>(
    socket: SocketRef,
    act: impl FnOnce() + Send,
    call: impl FnOnce() -> T,
) -> T {
    std::thread::scope(|s| {
        let helper = s.spawn(|| {
            let deadline = Instant::now() + Duration::from_secs(10);
            let sleeps = || socket.record().app.waiters.load(SeqCst) != 0;
            while !sleeps() && Instant::now() < deadline {
                std::thread::yield_now();
            }
            let slept = sleeps();
            act();
            slept
        });
        let answer = call();
        assert!(helper.join().unwrap(), "the call did not sleep");
        answer
    })
}

/// Does `ask` while the worker is played that answers this thread's next question.
pub fn answer<T>(question: Op, words: &[u64], ask: impl FnOnce() -> T) -> T {
    let context = with_thread(|thread| thread.context()).unwrap();
    commands();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let segment = &engine().segment;
            loop {
                for worker in 0..WORKERS {
                    let ring = &segment.lane(context, worker).unwrap().commands;
                    let first = ring.pop(&mut ring.head()).unwrap();
                    if let Some(command) = first.and_then(Command::from_words)
                        && command.op == question
                    {
                        let shared = segment.context(context).unwrap();
                        return shared.answer(command.arg as u32, words);
                    }
                }
                std::thread::yield_now();
            }
        });
        ask()
    })
}

/// The commands that this thread has sent since the last call, to all workers.
pub fn commands() -> Vec<Command> {
    let context = with_thread(|t| t.context()).unwrap();
    let mut commands = Vec::new();
    for worker in 0..WORKERS {
        let ring = &engine().segment.lane(context, worker).unwrap().commands;
        let mut head = ring.head();
        while let Some(words) = ring.pop(&mut head).unwrap() {
            commands.push(Command::from_words(words).unwrap());
        }
    }
    commands
}

impl Engine {
    fn new() -> Engine {
        let mut settings = Settings::default().client();
        settings.log_file = None;
        let segment = Segment::create(&PLAN, &settings.to_bytes(), false, 0).unwrap();
        let doorbells = (0..WORKERS)
            // SAFETY: makes a descriptor that we own.
            .map(|_| unsafe { OwnedFd::from_raw_fd(crate::real::eventfd().unwrap()) })
            .collect();
        for index in 0..segment.geometry().sockets() {
            segment.socket(index).unwrap().reset();
        }
        Engine {
            segment,
            doorbells,
            grants: Mutex::new(Grants {
                next_port: 40_000,
                ..Grants::default()
            }),
            streams: Mutex::default(),
        }
    }

    /// The record of a socket, seen from the engine.
    pub fn record(&self, index: u32) -> &Socket {
        self.segment.socket(index).unwrap()
    }

    /// Makes the socket an established connection.
    pub fn establish(&self, socket: SocketRef) {
        let record = self.record(socket.index);
        record.engine.tx_limit.store(TX_LIMIT, SeqCst);
        let local = "10.77.0.2:80".parse().unwrap();
        record
            .names
            .set(local, Some("10.77.0.1:40000".parse().unwrap()));
        let bits = state::ESTABLISHED | state::BOUND | state::WAS_CONNECTED;
        record.engine.state.store(bits, SeqCst);
        record.wake_waiters();
    }

    /// The state's bits become `bits` in addition to what they are.
    pub fn add_state(&self, socket: SocketRef, bits: u32) {
        let record = self.record(socket.index);
        record.engine.state.fetch_or(bits, SeqCst);
        record.wake_waiters();
    }

    /// The connection fails: state CLOSE, both directions shut, and a pending error.
    pub fn fail(&self, socket: SocketRef, error: i32) {
        let record = self.record(socket.index);
        let kept = record.engine.state.load(SeqCst) & !state::MASK;
        record.engine.error.store(error, SeqCst);
        let bits = kept | state::CLOSE | state::RX_SHUT | state::TX_SHUT;
        record.engine.state.store(bits, SeqCst);
        record.wake_waiters();
    }

    /// Bytes arrive.
    pub fn receive(&self, socket: SocketRef, mut data: &[u8]) {
        let record = self.record(socket.index);
        let mut streams = self.streams.lock().unwrap();
        let (chunk, start) = streams.entry(socket.index).or_insert((NONE, 0));
        let mut pos = record.engine.rx_tail.load(Relaxed);
        while !data.is_empty() {
            let size = Class::ALL[0].size() as u64;
            if *chunk == NONE || pos == *start + size {
                let next = self.take_chunk(socket.worker(), 0).expect("a chunk");
                if *chunk == NONE {
                    record.engine.rx_seek_chunk.store(next, Relaxed);
                    record.engine.rx_seek_pos.store(pos, Relaxed);
                } else {
                    self.segment.link(*chunk).unwrap().store(next, Release);
                }
                (*chunk, *start) = (next, pos);
            }
            let offset = (pos - *start) as usize;
            let n = data.len().min(size as usize - offset);
            assert!(self.segment.copy_in(*chunk, offset, &data[..n]));
            data = &data[n..];
            pos += n as u64;
        }
        record.engine.rx_tail.store(pos, SeqCst);
        record.wake_waiters();
    }

    /// Takes all bytes that were sent, and acknowledges them.
    pub fn sent(&self, socket: SocketRef) -> Vec<u8> {
        let record = self.record(socket.index);
        record
            .app
            .flags
            .fetch_and(!context::socket::flag::TX_PENDING, SeqCst);
        let head = record.engine.tx_head.load(Relaxed);
        let tail = record.app.tx_tail.load(Acquire);
        let mut bytes = Vec::new();
        let (mut chunk, mut start) = {
            let streams = self.streams.lock().unwrap();
            let place = streams.get(&(socket.index | 1 << 31)).copied();
            place.unwrap_or((NONE, head))
        };
        let mut pos = head;
        while pos < tail {
            if pos == record.app.tx_seek_pos.load(Relaxed) && chunk == NONE {
                (chunk, start) = (record.app.tx_seek_chunk.load(Relaxed), pos);
            }
            let size = self.segment.geometry().chunks.class(chunk).unwrap().size() as u64;
            if pos == start + size {
                (chunk, start) = (self.segment.link(chunk).unwrap().load(Acquire), pos);
                continue;
            }
            let n = (tail - pos).min(start + size - pos) as usize;
            let mut piece = vec![0; n];
            assert!(
                self.segment
                    .copy_out(chunk, (pos - start) as usize, &mut piece)
            );
            bytes.extend_from_slice(&piece);
            pos += n as u64;
        }
        let mut streams = self.streams.lock().unwrap();
        streams.insert(socket.index | 1 << 31, (chunk, start));
        record.engine.tx_head.store(tail, SeqCst);
        record.wake_waiters();
        bytes
    }

    /// A connection from `remote` waits to be accepted from `listener`; returns it.
    pub fn incoming(&self, listener: SocketRef, remote: SocketAddr) -> SocketRef {
        self.incoming_at(listener, remote, (listener.worker(), 0))
    }

    /// The same at this worker, at this time.
    pub fn incoming_at(
        &self,
        listener: SocketRef,
        remote: SocketAddr,
        (worker, since): (usize, u32),
    ) -> SocketRef {
        let index = self.take_socket(worker).expect("a socket");
        let record = self.record(index);
        let generation = record.engine.generation.load(Relaxed) as u16;
        let socket = SocketRef::new(index, generation).unwrap();
        self.establish(socket);
        let listening = self.record(listener.index);
        record.inherit(&listening.options);
        let inet6 = listening.app.flags.load(SeqCst) & context::socket::flag::INET6;
        record.app.flags.fetch_or(inet6, SeqCst);
        let local = SocketAddr::new("10.77.0.2".parse().unwrap(), listening.names.local().port());
        record.names.set(local, Some(remote));
        let ring = self.accept_ring(listener, worker);
        let waiting = Waiting {
            socket: index,
            since,
        };
        assert!(ring.push(&mut ring.tail(), [waiting.to_word()]).unwrap());
        listening.wake_waiters();
        socket
    }

    fn accept_ring(&self, listener: SocketRef, worker: usize) -> &AcceptRing {
        let chunk = self.record(listener.index).accept_rings[worker].load(Acquire);
        self.segment.accept_ring(chunk).expect("it listens")
    }

    /// The eventfd that came with a ready set.
    pub fn eventfd(&self, set: u32) -> RawFd {
        self.grants.lock().unwrap().eventfds[&set].as_raw_fd()
    }

    /// Tells a ready set of an edge, as a worker does.
    pub fn push_event(&self, set: u32, worker: usize, event: context::ready::Event) {
        if event.slot < context::ready::COALESCED {
            let queued = &self.record(event.socket).app.queued;
            if queued.fetch_or(1 << event.slot, SeqCst) & 1 << event.slot != 0 {
                return;
            }
        }
        let ring = self.segment.event_ring(set, worker).unwrap();
        let record = self.segment.ready_set(set).unwrap();
        if !ring.push(&mut ring.tail(), event.to_words()).unwrap() {
            record.set_overflow();
        }
        record.wake(|| {
            crate::real::write(self.eventfd(set), &1u64.to_ne_bytes()).unwrap();
        });
    }

    fn take_socket(&self, worker: usize) -> Option<u32> {
        let per_worker = self.segment.geometry().sockets_per_worker;
        let mut grants = self.grants.lock().unwrap();
        let next = grants.sockets[worker];
        grants.sockets[worker] += 1;
        (next < per_worker).then(|| worker as u32 * per_worker + next)
    }

    fn take_chunk(&self, worker: usize, class: usize) -> Option<u32> {
        let range = self
            .segment
            .geometry()
            .chunks
            .range(Class::ALL[class], worker);
        let mut grants = self.grants.lock().unwrap();
        // Chunk 0 stands for "none" among the accept rings.
        let next = range.start + grants.chunks[worker][class] + 1;
        grants.chunks[worker][class] += 1;
        range.contains(&next).then_some(next)
    }

    /// Fills the grant rings of a context up to what a new one gets.
    pub fn grant(&self, context: u32) {
        for worker in 0..WORKERS {
            let lane = self.segment.lane(context, worker).unwrap();
            while lane.sockets.len() < 32 {
                let Some(socket) = self.take_socket(worker) else {
                    break;
                };
                lane.sockets
                    .push(&mut lane.sockets.tail(), [socket.into()])
                    .unwrap();
            }
            for (class, enough) in [16, 6, 3].into_iter().enumerate() {
                let mut missing = match class {
                    0 => enough - lane.small.len().min(enough),
                    1 => enough - lane.medium.len().min(enough),
                    _ => enough - lane.large.len().min(enough),
                };
                while missing > 0
                    && let Some(chunk) = self.take_chunk(worker, class)
                {
                    let words = [chunk.into()];
                    match class {
                        0 => lane.small.push(&mut lane.small.tail(), words),
                        1 => lane.medium.push(&mut lane.medium.tail(), words),
                        _ => lane.large.push(&mut lane.large.tail(), words),
                    }
                    .unwrap();
                    missing -= 1;
                }
            }
        }
    }

    fn bind(&self, index: u32, mut to: SocketAddr) -> Result<(), i32> {
        let record = self.record(index);
        if record.engine.state.load(Acquire) & state::BOUND != 0 {
            return Err(libc::EINVAL);
        }
        let mut grants = self.grants.lock().unwrap();
        if to.port() == 0 {
            grants.next_port += 1;
            to.set_port(grants.next_port);
        }
        if !grants.bound.insert(to) {
            return Err(libc::EADDRINUSE);
        }
        record.names.set(to, None);
        record
            .engine
            .state
            .fetch_or(state::CLOSE | state::BOUND, AcqRel);
        Ok(())
    }

    fn listen(&self, index: u32) -> Result<(), i32> {
        let record = self.record(index);
        if record.engine.state.load(Acquire) & state::BOUND == 0 {
            self.bind(index, "0.0.0.0:0".parse().unwrap())?;
        }
        for (worker, ring) in record.accept_rings.iter().enumerate().take(WORKERS) {
            if ring.load(Acquire) == 0 {
                let chunk = self.take_chunk(worker, 2).ok_or(libc::ENOMEM)?;
                self.segment.accept_ring(chunk).unwrap().reset();
                ring.store(chunk, Release);
            }
        }
        record
            .engine
            .state
            .store(state::LISTEN | state::BOUND, SeqCst);
        Ok(())
    }

    fn answer(&self, request: Request, fds: Vec<OwnedFd>) -> (Reply, Vec<RawFd>) {
        let mut out = Vec::new();
        let result = match request {
            Request::Hello { .. } => {
                out.push(self.segment.fd().as_raw_fd());
                out.extend(self.doorbells.iter().map(AsRawFd::as_raw_fd));
                Ok(1)
            }
            Request::NewContext { .. } => {
                let mut grants = self.grants.lock().unwrap();
                let context = grants.free_contexts.pop().unwrap_or_else(|| {
                    grants.contexts += 1;
                    grants.contexts - 1
                });
                drop(grants);
                if context < self.segment.geometry().contexts {
                    self.grant(context);
                    Ok(context)
                } else {
                    Err(libc::ENOMEM)
                }
            }
            Request::FreeContext(context) => {
                self.grants.lock().unwrap().free_contexts.push(context);
                Ok(0)
            }
            Request::NewReadySet => {
                let mut grants = self.grants.lock().unwrap();
                let set = grants.ready_sets;
                grants.ready_sets += 1;
                match (self.segment.ready_set(set), fds.into_iter().next()) {
                    (Some(record), Some(eventfd)) => {
                        record.reset();
                        grants.eventfds.insert(set, eventfd);
                        Ok(set)
                    }
                    _ => Err(libc::ENOMEM),
                }
            }
            Request::FreeReadySet(_) => Ok(0),
            Request::Bind { socket, to } => self.bind(socket, to).map(|()| 0),
            Request::Listen { socket, .. } => self.listen(socket).map(|()| 0),
            Request::Fork
            | Request::Share { .. }
            | Request::Lease(_)
            | Request::Hold
            | Request::Pin(_) => Err(libc::ENOSYS),
        };
        let reply = match result {
            Ok(value) => Reply { error: 0, value },
            Err(error) => Reply { error, value: 0 },
        };
        (reply, out)
    }
}

fn listen(name: &str) -> OwnedFd {
    // SAFETY: zero is a valid address; the descriptor is ours.
    unsafe {
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, from) in address.sun_path[1..].iter_mut().zip(name.as_bytes()) {
            *to = *from as libc::c_char;
        }
        let fd = libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0);
        let len = std::mem::offset_of!(libc::sockaddr_un, sun_path) + 1 + name.len();
        assert_eq!(libc::bind(fd, (&raw const address).cast(), len as u32), 0);
        assert_eq!(libc::listen(fd, 16), 0);
        OwnedFd::from_raw_fd(fd)
    }
}

fn serve(engine: &'static Engine, listener: &OwnedFd) {
    loop {
        // SAFETY: the descriptor is ours.
        let fd = unsafe {
            let fd = libc::accept(
                listener.as_raw_fd(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            );
            assert!(fd >= 0);
            OwnedFd::from_raw_fd(fd)
        };
        std::thread::spawn(move || {
            let mut bytes = [0; REQUEST_LEN];
            while let Ok((n, fds)) = control::receive(fd.as_fd(), &mut bytes) {
                let Some(request) = Request::from_bytes(&bytes[..n]) else {
                    return;
                };
                let (reply, out) = engine.answer(request, fds);
                if control::send(fd.as_fd(), &reply.to_bytes(), &out).is_err() {
                    return;
                }
            }
        });
    }
}

#[test]
fn each_thread_has_its_own_context_and_a_handler_another() {
    engine();
    let own = with_thread(|t| t.context()).unwrap();
    let nested = with_thread(|_| with_thread(|t| t.context()).unwrap()).unwrap();
    assert_ne!(own, nested);
    let other = std::thread::spawn(|| with_thread(|t| t.context()).unwrap()).join();
    assert_ne!(own, other.unwrap());
    assert_eq!(own, with_thread(|t| t.context()).unwrap());
    assert_eq!(thread::id(), crate::real::thread_id());
}

#[test]
fn what_the_fake_engine_moves_arrives() {
    let socket = established();
    engine().receive(socket, &[7; 5000]);
    assert_eq!(socket.record().readable(), 5000);
    let mut writer = socket.writer(true).unwrap();
    let grant = |class| with_thread(|t| t.chunk(socket.worker(), class)).unwrap();
    assert_eq!(writer.write(3000, grant, |_, n| n), 3000);
    assert_eq!(engine().sent(socket).len(), 3000);
}
