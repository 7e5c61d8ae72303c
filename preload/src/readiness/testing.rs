//! The engine's side for the tests of readiness, played by hand. Each test has a segment of its own.

#![allow(unsafe_code)]

use super::poll::PollSets;
use super::stack::{SocketId, Stack};
use crate::errno::{Errno, Result};
use crate::real;
use context::Segment;
use context::command::{Command, EXCLUSIVE, Op};
use context::layout::Plan;
use context::ready::{COALESCED, Event};
use context::socket::{Socket, flag, state};
use fdmap::Entry;
use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Mutex, MutexGuard};

/// Bytes that a socket may have unacknowledged.
const TX_LIMIT: u32 = 9000;

/// An engine that does what a test tells it, and the application's attachment to it in one.
pub struct Engine {
    segment: Segment,
    attachment: AtomicU32,
    dead: AtomicBool,
    poll_sets: PollSets,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    eventfds: HashMap<u32, RawFd>,
    sets: u32,
    /// Socket, set, cookie; the place among those of a socket is the slot.
    watches: Vec<(u32, u32, u32)>,
    commands: Vec<Command>,
    slept: usize,
}

impl Engine {
    /// One whose applications do not spin.
    pub fn new() -> Engine {
        Engine::with_spin(0)
    }

    /// One whose applications spin for that many microseconds.
    pub fn with_spin(spin_us: u32) -> Engine {
        let plan = Plan {
            workers: 2,
            sockets: 4096,
            contexts: 1,
            ready_sets: 64,
            memory: 8 << 20,
        };
        Engine {
            segment: Segment::create(&plan, b"", false, spin_us).unwrap(),
            attachment: AtomicU32::new(1),
            dead: AtomicBool::new(false),
            poll_sets: PollSets::new(),
            inner: Mutex::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// The shared memory.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// The record of a socket.
    pub fn record(&self, index: u32) -> &Socket {
        self.segment.socket(index).unwrap()
    }

    /// A record as `socket()` finds it.
    pub fn fresh_socket(&self, index: u32) -> &Socket {
        self.record(index).reset();
        self.record(index)
    }

    /// A connection.
    pub fn established(&self, index: u32) -> &Socket {
        self.fresh_socket(index);
        self.establish(index);
        self.record(index)
    }

    /// A listener with an accept ring for each worker.
    pub fn listener(&self, index: u32) -> &Socket {
        let socket = self.fresh_socket(index);
        for worker in 0..2 {
            let large = context::chunk::Class::ALL[2];
            let chunk = self.segment.geometry().chunks.range(large, worker).start + index % 8;
            self.segment.accept_ring(chunk).unwrap().reset();
            socket.accept_rings[worker].store(chunk, SeqCst);
        }
        socket
            .engine
            .state
            .store(state::LISTEN | state::BOUND, SeqCst);
        socket
    }

    /// The connection is made; raises an edge.
    pub fn establish(&self, index: u32) {
        let socket = self.record(index);
        let bits = state::ESTABLISHED | state::BOUND | state::WAS_CONNECTED;
        socket.engine.tx_limit.store(TX_LIMIT, SeqCst);
        socket.engine.state.store(bits, SeqCst);
        self.edge(index);
    }

    /// Bytes arrive.
    pub fn data(&self, index: u32, bytes: u64) {
        self.record(index).engine.rx_tail.fetch_add(bytes, SeqCst);
        self.edge(index);
    }

    /// The application reads all there is.
    pub fn read(&self, index: u32) {
        let socket = self.record(index);
        let tail = socket.engine.rx_tail.load(SeqCst);
        socket.app.rx_head.store(tail, SeqCst);
    }

    /// The peer's FIN arrives.
    pub fn fin(&self, index: u32) {
        let state = &self.record(index).engine.state;
        state.fetch_or(state::RX_SHUT, SeqCst);
        self.edge(index);
    }

    /// The connection fails.
    pub fn fail(&self, index: u32, error: i32) {
        let socket = self.record(index);
        socket.engine.error.store(error, SeqCst);
        let kept = socket.engine.state.load(SeqCst) & !state::MASK;
        let bits = kept | state::CLOSE | state::RX_SHUT | state::TX_SHUT;
        socket.engine.state.store(bits, SeqCst);
        self.edge(index);
    }

    /// The application writes until there is no room.
    pub fn fill(&self, index: u32) {
        let socket = self.record(index);
        let head = socket.engine.tx_head.load(SeqCst);
        let end = head + u64::from(TX_LIMIT);
        socket.app.tx_tail.store(end, SeqCst);
    }

    /// The peer acknowledges everything; raises an edge if one was asked for.
    pub fn acknowledge(&self, index: u32) {
        let socket = self.record(index);
        let tail = socket.app.tx_tail.load(SeqCst);
        socket.engine.tx_head.store(tail, SeqCst);
        if socket.app.flags.fetch_and(!flag::NOSPACE, SeqCst) & flag::NOSPACE != 0 {
            self.edge(index);
        }
    }

    /// A connection waits to be accepted.
    pub fn incoming(&self, index: u32, connection: u32) {
        let chunk = self.record(index).accept_rings[1].load(SeqCst);
        let ring = self.segment.accept_ring(chunk).unwrap();
        assert!(ring.push(&mut ring.tail(), [connection.into()]).unwrap());
        self.edge(index);
    }

    /// The application accepts one.
    pub fn accept(&self, index: u32) {
        let chunk = self.record(index).accept_rings[1].load(SeqCst);
        let ring = self.segment.accept_ring(chunk).unwrap();
        assert!(ring.pop(&mut ring.head()).unwrap().is_some());
    }

    /// Raises an edge: an event for each watch, and a wake-up of whoever sleeps.
    pub fn edge(&self, index: u32) {
        let inner = self.inner();
        let watches = inner.watches.iter().filter(|(socket, ..)| *socket == index);
        for (slot, (socket, set, cookie)) in watches.enumerate() {
            let event = Event {
                cookie: *cookie,
                slot: slot as u32,
                socket: *socket,
            };
            self.push(&inner, *set, event);
        }
        drop(inner);
        self.record(index).wake_waiters();
    }

    fn push(&self, inner: &Inner, set: u32, event: Event) {
        let bit = 1u32.checked_shl(event.slot).unwrap_or(0);
        let queued = &self.record(event.socket).app.queued;
        if event.slot < COALESCED && queued.fetch_or(bit, SeqCst) & bit != 0 {
            return;
        }
        let worker = self.segment.geometry().worker_of(event.socket);
        let ring = self.segment.event_ring(set, worker).unwrap();
        let record = self.segment.ready_set(set).unwrap();
        if !ring.push(&mut ring.tail(), event.to_words()).unwrap() {
            queued.fetch_and(!bit, SeqCst);
            record.set_overflow();
        }
        record.wake(|| super::kernel::ring(inner.eventfds[&set]));
    }

    /// Fills the ring of `index`'s worker in its set with edges that mean nothing.
    pub fn flood(&self, index: u32) {
        let inner = self.inner();
        let (_, set, _) = inner.watches[0];
        let worker = self.segment.geometry().worker_of(index);
        let ring = self.segment.event_ring(set, worker).unwrap();
        let event = Event {
            cookie: u32::MAX,
            slot: COALESCED,
            socket: index,
        };
        while ring.push(&mut ring.tail(), event.to_words()).unwrap() {}
    }

    /// Watches that the engine holds for a socket.
    pub fn watches(&self, index: u32) -> usize {
        let inner = self.inner();
        let watches = inner.watches.iter().filter(|(socket, ..)| *socket == index);
        watches.count()
    }

    /// Commands since the last call.
    pub fn commands(&self) -> Vec<Op> {
        let commands = std::mem::take(&mut self.inner().commands);
        commands.into_iter().map(|command| command.op).collect()
    }

    /// How often a thread was about to sleep, or to return with nothing.
    pub fn slept(&self) -> usize {
        self.inner().slept
    }

    /// Returns once `threads` threads have gone to sleep after `before` earlier sleeps.
    pub fn wait_for_sleepers(&self, before: usize, threads: usize) {
        while self.slept() < before + threads {
            std::thread::yield_now();
        }
    }

    /// The engine dies.
    pub fn die(&self) {
        self.dead.store(true, SeqCst);
    }

    /// The process becomes a forked child, of which the engine knows nothing yet.
    pub fn fork(&self) {
        self.attachment.fetch_add(1, SeqCst);
        self.inner().watches.clear();
    }
}

impl Stack for Engine {
    fn segment(&self) -> &Segment {
        &self.segment
    }

    fn attachment(&self) -> u32 {
        self.attachment.load(SeqCst)
    }

    fn tid(&self) -> u32 {
        real::thread_id()
    }

    fn command(&self, command: Command) {
        let arg = command.arg & !EXCLUSIVE;
        let (set, cookie) = ((arg >> 32) as u32, arg as u32);
        let watch = (command.socket, set, cookie);
        let mut inner = self.inner();
        inner.commands.push(command);
        match command.op {
            Op::Watch => inner.watches.push(watch),
            Op::Unwatch => inner.watches.retain(|other| *other != watch),
            op => panic!("{op:?} is not for readiness"),
        }
    }

    fn hold(&self, _: SocketId) {}

    fn before_return(&self) {
        self.inner().slept += 1;
    }

    fn before_sleep(&self) {
        self.inner().slept += 1;
    }

    fn open_set(&self) -> Result<(u32, RawFd)> {
        let mut inner = self.inner();
        let set = inner.sets;
        if set == self.segment.geometry().ready_sets {
            return Err(Errno(libc::ENOMEM));
        }
        inner.sets += 1;
        self.segment.ready_set(set).unwrap().reset();
        let eventfd = real::eventfd()?;
        inner.eventfds.insert(set, eventfd);
        Ok((set, eventfd))
    }

    fn close_set(&self, set: u32, eventfd: RawFd) {
        let mut inner = self.inner();
        inner.watches.retain(|(_, other, _)| *other != set);
        inner.eventfds.remove(&set);
        real::close(eventfd);
    }

    fn poll_sets(&self) -> &PollSets {
        &self.poll_sets
    }

    fn is_alive(&self) -> bool {
        !self.dead.load(SeqCst)
    }
}

/// A descriptor behind which a socket of the test's engine stands; closed when dropped.
pub struct Descriptor(pub RawFd);

impl Descriptor {
    /// A number for socket `index`.
    pub fn new(engine: &Engine, index: u32) -> Descriptor {
        let fd = Descriptor::kernel();
        fdmap::set(fd.0, Engine::entry(engine, index));
        fd
    }

    /// An eventfd of the kernel.
    pub fn kernel() -> Descriptor {
        Descriptor(real::eventfd().unwrap())
    }

    /// Makes the kernel's eventfd ready.
    pub fn ring(&self) {
        super::kernel::ring(self.0);
    }

    /// Makes it not ready.
    pub fn drain(&self) {
        super::kernel::drain(self.0);
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        fdmap::take(self.0);
        real::close(self.0);
    }
}

impl Engine {
    /// A socket in its present life.
    pub fn id(&self, index: u32) -> SocketId {
        let generation = self.record(index).engine.generation.load(SeqCst) as u16;
        SocketId { index, generation }
    }

    /// What the descriptor table says of a socket.
    pub fn entry(&self, index: u32) -> Entry {
        let SocketId { index, generation } = self.id(index);
        Entry::Socket { index, generation }
    }
}

extern "C" fn ignore(_: i32) {}

fn handle(signal: i32) {
    // SAFETY: the handler does nothing; zero is a valid sigaction otherwise.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(
            libc::sigaction(signal, &raw const action, std::ptr::null_mut()),
            0
        );
    }
}

/// Runs `body` in a thread to which signals are sent until it ends.
pub fn interrupt_until<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    handle(libc::SIGUSR1);
    let tid = &AtomicU32::new(0);
    std::thread::scope(|s| {
        let thread = s.spawn(move || {
            tid.store(real::thread_id(), SeqCst);
            body()
        });
        while !thread.is_finished() {
            let args = [real::process_id(), tid.load(SeqCst), libc::SIGUSR1 as u32];
            let [process, thread, signal] = args.map(|arg| arg as usize);
            // SAFETY: the signal has a handler. One to a thread that has just ended is refused.
            let _ = unsafe { real::syscall(libc::SYS_tgkill, [process, thread, signal, 0, 0, 0]) };
            std::thread::yield_now();
        }
        thread.join().unwrap()
    })
}

/// Runs `body` in a thread in which a blocked signal waits, and gives it a mask that blocks none.
pub fn with_pending_signal<R: Send>(body: impl FnOnce(*const libc::sigset_t) -> R + Send) -> R {
    handle(libc::SIGUSR2);
    std::thread::scope(|s| {
        let thread = s.spawn(|| {
            // SAFETY: the sets are initialised by the calls that take them first; the signal goes to
            // this thread and finds a handler.
            unsafe {
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&raw mut set);
                let nothing = set;
                libc::sigaddset(&raw mut set, libc::SIGUSR2);
                libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
                libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2);
                body(&raw const nothing)
            }
        });
        thread.join().unwrap()
    })
}
