//! A thread's context: its rings to and from the workers.
//!
//! Each thread has a context of its own and needs no lock. A signal handler that runs in the
//! midst of a call, and a thread for which the engine had no context left, borrow one of the
//! process's spare contexts for the length of one operation.

#![allow(unsafe_code)]

use crate::errno::{Errno, Result};
use crate::own::own;
use crate::process::{self, Process};
use crate::section::Section;
use crate::{cancel, hold, log, real};
use context::chunk::Class;
use context::command::{Command, Op};
use context::context::{ContextLane, REPLY_WORDS};
use context::control::Request;
use context::worker::WorkerShared;
use context::{MAX_WORKERS, NONE, futex};
use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering, compiler_fence};
use std::time::{Duration, Instant};

/// On a shared core, so many commands may wait for the thread's next sleep.
const BATCH: u32 = 64;
/// So often may a thread that has slept be told that it would have to wait before it is taken for one
/// that does not sleep again.
const PATIENCE_AT_EAGAIN: u32 = 64;
/// Contexts kept for handlers, homeless threads and threads to come.
const SPARES: usize = 8;
/// How long an answer of the engine is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a fresh socket record or chunk is waited for.
const GRANT_PATIENCE: Duration = Duration::from_millis(100);

/// A context that the caller uses alone.
pub struct Thread {
    process: &'static Process,
    /// What it shares with each worker.
    lanes: &'static [ContextLane],
    workers: &'static [WorkerShared],
    /// Whether application and worker share a core.
    shared_core: bool,
    context: u32,
    tid: u32,
    /// The worker whose sockets this thread prefers.
    preferred: usize,
    /// Commands pushed since the doorbells were last looked after.
    pushed: u32,
    /// Workers that were sent some of them, by bit.
    unrung: u32,
    /// How often it may still go on without ringing, as it is likely to sleep soon.
    patience: u32,
    /// Own cursors in the command rings, by worker.
    commands: [u32; MAX_WORKERS],
}

/// The contexts of a process.
pub(crate) struct Contexts {
    /// A place is filled when its context is got. Untouched places take no memory.
    threads: Box<[UnsafeCell<MaybeUninit<Thread>>]>,
    /// Context + 1 each; 0: none.
    spares: [AtomicU32; SPARES],
}

// SAFETY: a place of the table is touched only by who holds that context: one thread, or the one
// that took it out of `spares`.
unsafe impl Sync for Contexts {}
// SAFETY: as above.
unsafe impl Send for Contexts {}

/// What a thread knows of its context and of itself.
pub(crate) struct Local {
    /// Its context, if it has got one in this epoch.
    context: Cell<*mut Thread>,
    epoch: Cell<u32>,
    busy: Cell<bool>,
    tid: Cell<u32>,
    tid_epoch: Cell<u32>,
    guests: Cell<u32>,
}

/// No process is in this epoch.
const NO_EPOCH: u32 = 0;

/// This thread's id, from memory.
#[inline]
pub fn id() -> u32 {
    let local = &own().thread;
    if local.tid_epoch.get() != process::epoch() {
        local.tid.set(real::thread_id());
        // A signal handler must not find the epoch before the number.
        compiler_fence(Ordering::SeqCst);
        local.tid_epoch.set(process::epoch());
    }
    local.tid.get()
}

/// Whether the caller is a child of vfork(2), which runs on this thread's memory: what it does to its
/// own descriptors must not touch what is known about the parent's.
#[inline]
pub fn is_guest() -> bool {
    own().thread.guests.get() != 0
}

/// A child comes to run on this thread's memory, or is gone from it.
pub fn count_guest(comes: bool) {
    let guests = &own().thread.guests;
    let n = guests.get();
    guests.set(if comes { n + 1 } else { n.saturating_sub(1) });
}

/// In the child of a fork, which has memory of its own whoever has forked it.
pub(crate) fn forget_guests() {
    own().thread.guests.set(0);
}

/// Runs `body` with a context that nobody else uses meanwhile: the thread's own if possible.
/// `body` should be short, and must not sleep.
///
/// # Errors
/// `ENETDOWN` outside mtcp-run, or if the engine is gone.
#[inline]
pub fn with_thread<R>(body: impl FnOnce(&mut Thread) -> R) -> Result<R> {
    let local = &own().thread;
    let process = process::process().ok_or(Errno(libc::ENETDOWN))?;
    if local.busy.get() || !has_own(local) && !adopt(local, process) {
        return with_spare(process, body);
    }
    let _section = Section::enter();
    local.busy.set(true);
    compiler_fence(Ordering::SeqCst);
    let _idle = Idle(local);
    // SAFETY: this thread's own context, which `adopt` has found in the table of a process that is never
    // freed, and nothing below it on the stack uses it.
    Ok(body(unsafe { &mut *local.context.get() }))
}

/// Clears the busy flag, also when a panic passes.
struct Idle<'a>(&'a Local);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        self.0.busy.set(false);
    }
}

#[inline]
fn has_own(local: &Local) -> bool {
    local.epoch.get() == process::epoch()
}

/// Gets the thread a context of its own.
#[cold]
fn adopt(local: &Local, process: &'static Process) -> bool {
    // The last spare stays for signal handlers.
    let spares = process.contexts.spares.iter();
    let have = spares.filter(|s| s.load(Ordering::Relaxed) != 0).count();
    let spare = (have > 1).then(|| process.contexts.take_spare()).flatten();
    let Some(context) = spare.or_else(|| request(process).ok()) else {
        return false;
    };
    // SAFETY: the context is ours alone.
    let own = unsafe { process.contexts.with(context, Thread::settle) };
    let Some(own) = own else { return false };
    local.context.set(own);
    // A handler that sees the epoch sees the context.
    compiler_fence(Ordering::SeqCst);
    local.epoch.set(process::epoch());
    remember_to_free();
    if have == 0
        && let Ok(spare) = request(process)
    {
        process.contexts.put_spare(process, spare);
    }
    true
}

#[cold]
fn with_spare<R>(process: &'static Process, body: impl FnOnce(&mut Thread) -> R) -> Result<R> {
    let mut waited = Duration::ZERO;
    let context = loop {
        let spare = process.contexts.take_spare();
        if let Some(context) = spare.or_else(|| request(process).ok()) {
            break context;
        }
        if process.is_engine_gone() {
            return Err(Errno(libc::ENETDOWN));
        }
        if waited > PATIENCE {
            log::line("no context of the engine is free: a call fails with ENETDOWN");
            return Err(Errno(libc::ENETDOWN));
        }
        waited += Duration::from_micros(50);
        real::sleep(Duration::from_micros(50));
    };
    let body = |thread: &mut Thread| {
        thread.tid = id();
        let result = body(thread);
        // Nobody would ring for it later.
        thread.ring(WorkerShared::note_going_on);
        result
    };
    // SAFETY: the context was taken out of the spares, or is fresh: ours alone.
    let result = unsafe { process.contexts.with(context, body) };
    process.contexts.put_spare(process, context);
    result.ok_or(Errno(libc::ENETDOWN))
}

/// Asks the engine for a fresh context.
fn request(process: &'static Process) -> Result<u32> {
    let tid = id();
    let context = process.control(Request::NewContext { tid }, &[])?;
    let lanes = process.segment.lanes(context);
    if lanes.is_empty() {
        return Err(Errno(libc::ENETDOWN));
    }
    let mut commands = [0; MAX_WORKERS];
    for (tail, lane) in commands.iter_mut().zip(lanes) {
        *tail = lane.commands.tail();
    }
    let place = process.contexts.threads.get(context as usize);
    let place = place.ok_or(Errno(libc::ENETDOWN))?;
    // SAFETY: the engine gave this context to us, so no other thread uses its place.
    unsafe {
        (*place.get()).write(Thread {
            process,
            lanes,
            workers: process.segment.workers(),
            shared_core: process.segment.shared_core(),
            context,
            tid,
            preferred: context as usize % lanes.len(),
            pushed: 0,
            unrung: 0,
            patience: 0,
            commands,
        });
    }
    Ok(context)
}

impl Contexts {
    pub(crate) fn new(contexts: u32) -> Contexts {
        Contexts {
            threads: (0..contexts)
                .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
                .collect(),
            spares: [const { AtomicU32::new(0) }; SPARES],
        }
    }

    /// # Safety
    /// The caller holds the context, which it got from [`request`] or from the spares, and nothing
    /// else uses its thread meanwhile.
    #[inline]
    unsafe fn with<R>(&self, context: u32, body: impl FnOnce(&mut Thread) -> R) -> Option<R> {
        let place = self.threads.get(context as usize)?;
        // SAFETY: the caller's promise; `request` has filled the place.
        Some(body(unsafe { (*place.get()).assume_init_mut() }))
    }

    fn take_spare(&self) -> Option<u32> {
        let mut spares = self.spares.iter();
        spares.find_map(|spare| spare.swap(0, Ordering::Acquire).checked_sub(1))
    }

    fn put_spare(&self, process: &Process, context: u32) {
        let word = context + 1;
        let put = self.spares.iter().any(|spare| {
            let empty = spare.compare_exchange(0, word, Ordering::Release, Ordering::Relaxed);
            empty.is_ok()
        });
        if !put {
            // The engine frees what a dead process held in any case.
            let _ = process.control(Request::FreeContext(context), &[]);
        }
    }

    /// In the child of a fork: the contexts are the parent's.
    pub(crate) fn forget(&self) {
        for spare in &self.spares {
            spare.store(0, Ordering::Relaxed);
        }
    }
}

static EXIT_KEY: AtomicI64 = AtomicI64::new(-1);

/// Prepares for threads that exit.
pub(crate) fn start() {
    let mut key = 0;
    // SAFETY: fills the key; the destructor stays loaded as long as the process lives.
    if unsafe { libc::pthread_key_create(&raw mut key, Some(at_thread_exit)) } == 0 {
        EXIT_KEY.store(key.into(), Ordering::Release);
    }
}

/// Has [`at_thread_exit`] called at this thread's end.
pub fn remember_to_free() {
    if let Ok(key) = libc::pthread_key_t::try_from(EXIT_KEY.load(Ordering::Acquire)) {
        // SAFETY: the value only has to differ from null for the destructor to be called.
        unsafe { libc::pthread_setspecific(key, std::ptr::without_provenance(1)) };
    }
}

unsafe extern "C" fn at_thread_exit(_: *mut c_void) {
    cancel::retire();
    hold::release();
    let Some(process) = process::process() else {
        return;
    };
    let local = &own().thread;
    if has_own(local) && !local.busy.get() {
        let own = local.context.get();
        // A handler that comes from here on adopts another one, for which this is called again.
        compiler_fence(Ordering::SeqCst);
        local.epoch.set(NO_EPOCH);
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the thread's own context; it has just given it up.
        let thread = unsafe { &mut *own };
        thread.before_sleep();
        process.contexts.put_spare(process, thread.context);
    }
}

impl Thread {
    /// The thread's id.
    #[inline]
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// The context's number.
    #[inline]
    pub fn context(&self) -> u32 {
        self.context
    }

    /// The worker whose sockets this thread prefers.
    #[inline]
    pub fn preferred_worker(&self) -> usize {
        self.preferred
    }

    /// The context is this thread's own now. All threads of the stack prefer each worker in turn: their
    /// contexts' numbers would be uneven, for each process has spare ones as well.
    fn settle(&mut self) -> *mut Thread {
        self.tid = id();
        self.preferred = self.process.segment.count_thread() as usize % self.workers();
        self
    }

    /// Workers of the stack.
    #[inline]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Tells the socket's worker something. Waits while the ring is full, and never loses a command
    /// unless the engine is gone.
    #[inline]
    pub fn command(&mut self, command: Command) {
        let worker = self.process.segment.geometry().worker_of(command.socket);
        self.command_to(worker, command);
    }

    /// As [`command`](Thread::command), for commands that concern no socket.
    #[inline]
    pub fn command_to(&mut self, worker: usize, command: Command) {
        let (Some(lane), Some(record)) = (self.lanes.get(worker), self.workers.get(worker)) else {
            return;
        };
        let words = command.to_words();
        if lane.commands.push(&mut self.commands[worker], words) != Ok(true)
            && !self.command_later(worker, lane, words)
        {
            return;
        }
        record.announce(self.context);
        self.pushed += 1;
        self.unrung |= 1 << worker;
        let waits = match command.op {
            Op::Adopt | Op::Unwatch => true,
            Op::Refill | Op::Info | Op::FastOpen => false,
            _ => self.shared_core,
        };
        if !waits || self.pushed >= BATCH {
            self.ring(WorkerShared::note_going_on);
        }
    }

    /// Waits until there is room for a command. False if it was not sent, as the engine is gone.
    #[cold]
    fn command_later(&mut self, worker: usize, lane: &ContextLane, words: [u64; 2]) -> bool {
        let mut rounds = 0u32;
        loop {
            match lane.commands.push(&mut self.commands[worker], words) {
                Ok(true) => return true,
                Ok(false) if self.wait_for_engine(worker, &mut rounds) => {}
                _ => return false,
            }
        }
    }

    /// Tells a worker to look at this context, and gives it time. False if the engine is gone.
    fn wait_for_engine(&mut self, worker: usize, rounds: &mut u32) -> bool {
        self.process.segment.worker(worker).announce(self.context);
        if self.process.segment.worker(worker).must_ring() {
            self.process.ring_doorbell(worker);
        }
        if self.process.is_engine_gone() {
            return false;
        }
        *rounds += 1;
        match *rounds {
            0..100 if !self.process.segment.shared_core() => std::hint::spin_loop(),
            n => {
                real::sleep(Duration::from_micros(50));
                if n.is_multiple_of(200) {
                    return self.process.is_engine_alive();
                }
            }
        }
        true
    }

    /// Rings the doorbells of workers that sleep although they were sent commands. Call it before
    /// the program is told that it would have to wait. A thread that slept not long ago is likely to be
    /// an event loop that is about to sleep again, and rings then.
    #[inline]
    pub fn before_return(&mut self) {
        match self.patience.checked_sub(1) {
            Some(left) => self.patience = left,
            None => self.ring(WorkerShared::note_going_on),
        }
    }

    /// As [`before_return`](Thread::before_return), just before this thread sleeps. The thread's own
    /// worker is rung in any case, as it may spin then.
    #[inline]
    pub fn before_sleep(&mut self) {
        self.workers.iter().for_each(WorkerShared::note_sleep);
        if self.shared_core {
            self.unrung |= 1 << self.preferred_worker();
        }
        self.patience = PATIENCE_AT_EAGAIN;
        self.ring(|_| ());
    }

    fn ring(&mut self, note: impl Fn(&WorkerShared)) {
        while self.unrung != 0 {
            let worker = self.unrung.trailing_zeros() as usize;
            self.unrung &= self.unrung - 1;
            let record = &self.workers[worker];
            if record.must_ring() {
                note(record);
                self.process.ring_doorbell(worker);
            }
        }
        self.pushed = 0;
    }

    /// A fresh chunk of a worker, of `class` if possible; `None` if none is granted at the moment.
    #[inline]
    pub fn chunk(&mut self, worker: usize, class: Class) -> Option<u32> {
        let lane = self.lanes.get(worker)?;
        let chunk = take_chunk(lane, class);
        chunk.or_else(|| {
            let mut others = Class::ALL.into_iter().filter(|other| *other != class);
            others.find_map(|other| take_chunk(lane, other))
        })
    }

    /// Asks a worker to fill this context's rings of grants.
    pub fn refill(&mut self, worker: usize) {
        self.command_to(
            worker,
            Command {
                op: Op::Refill,
                socket: NONE,
                generation: 0,
                arg: 0,
            },
        );
    }

    /// A fresh socket record, of the preferred worker if possible. Waits a moment for the engine;
    /// `None` if it has none.
    pub fn socket(&mut self) -> Option<u32> {
        let preferred = self.preferred_worker();
        let workers = self.workers();
        let mut deadline = None;
        loop {
            for worker in (0..workers).map(|w| (preferred + w) % workers) {
                let lane = self.lanes.get(worker)?;
                if let Some([socket]) = lane.sockets.take() {
                    let socket = u32::try_from(socket).ok()?;
                    return self.process.segment.socket(socket).map(|_| socket);
                }
            }
            let now = Instant::now();
            match deadline {
                None => {
                    deadline = Some(now + GRANT_PATIENCE);
                    (0..workers).for_each(|worker| self.refill(worker));
                }
                Some(deadline) if now >= deadline => return None,
                Some(_) => real::sleep(Duration::from_micros(50)),
            }
        }
    }

    /// What the engine answers to a question about a socket; `None` if it does not.
    pub fn ask(&mut self, question: Op, socket: u32) -> Option<[u64; REPLY_WORDS]> {
        let context = self.process.segment.context(self.context)?;
        let record = self.process.segment.socket(socket)?;
        let before = context.reply_seq.load(Ordering::Acquire);
        let seq = before.wrapping_add(1);
        self.command(Command {
            op: question,
            socket,
            generation: record.engine.generation.load(Ordering::Acquire) as u16,
            arg: u64::from(seq),
        });
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = context.reply_seq.load(Ordering::Acquire);
            if seen == seq {
                let words = context
                    .reply
                    .iter()
                    .map(|word| word.load(Ordering::Relaxed));
                let mut reply = [0; REPLY_WORDS];
                reply
                    .iter_mut()
                    .zip(words)
                    .for_each(|(to, from)| *to = from);
                return Some(reply);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            futex::wait(&context.reply_seq, seen, Some(left));
        }
    }
}

fn take_chunk(lane: &ContextLane, class: Class) -> Option<u32> {
    let taken = match class.index() {
        0 => lane.small.take(),
        1 => lane.medium.take(),
        _ => lane.large.take(),
    };
    u32::try_from(taken?[0]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{commands, engine, fresh};
    use context::context::COMMANDS;

    #[test]
    fn a_full_ring_waits_and_loses_nothing() {
        let socket = fresh();
        commands();
        let context = with_thread(|thread| thread.context()).unwrap();
        let total = 3 * COMMANDS as u64;
        std::thread::scope(|s| {
            s.spawn(move || {
                let lane = engine().segment.lane(context, socket.worker()).unwrap();
                let (mut head, mut next) = (lane.commands.head(), 0);
                while next < total {
                    match lane.commands.pop(&mut head).unwrap() {
                        Some(words) => {
                            let command = Command::from_words(words).unwrap();
                            assert_eq!(command, socket.command(Op::Watch, next));
                            next += 1;
                        }
                        None => std::thread::yield_now(),
                    }
                }
            });
            for n in 0..total {
                socket.tell(Op::Watch, n).unwrap();
            }
        });
    }

    #[test]
    fn an_answer_of_the_engine_is_waited_for() {
        let socket = fresh();
        commands();
        let context = with_thread(|thread| thread.context()).unwrap();
        let info = std::thread::scope(|s| {
            s.spawn(move || {
                let lane = engine().segment.lane(context, socket.worker()).unwrap();
                let mut head = lane.commands.head();
                let words = loop {
                    if let Some(words) = lane.commands.pop(&mut head).unwrap() {
                        break words;
                    }
                    std::thread::yield_now();
                };
                let command = Command::from_words(words).unwrap();
                let place = engine().segment.context(context).unwrap();
                place.answer(command.arg as u32, &[7, 8]);
            });
            with_thread(|thread| thread.ask(Op::Info, socket.index)).unwrap()
        });
        assert_eq!(info.unwrap()[..2], [7, 8]);
    }

    #[test]
    fn a_handler_in_the_midst_of_a_call_uses_another_context() {
        fresh();
        let outer = with_thread(|thread| thread.context()).unwrap();
        let inner = with_thread(|_| with_thread(|thread| thread.context()).unwrap());
        assert_ne!(inner.unwrap(), outer);
    }

    /// The processor's trap flag: SIGTRAP after each instruction.
    const TRAP_FLAG: i64 = 0x100;

    unsafe extern "C" fn step(_: i32, _: *mut libc::siginfo_t, context: *mut c_void) {
        if own().thread.epoch.get() != NO_EPOCH {
            return;
        }
        // As a handler of the program does that uses a socket.
        with_thread(|thread| thread.context()).unwrap();
        let context = context.cast::<libc::ucontext_t>();
        // SAFETY: the kernel gives a handler with SA_SIGINFO the context to go on with.
        let flags = unsafe { &mut (*context).uc_mcontext.gregs[libc::REG_EFL as usize] };
        *flags &= !TRAP_FLAG;
    }

    #[test]
    fn what_a_handler_adopts_while_its_thread_ends_is_nobody_else_s() {
        fresh();
        let ending = || {
            with_thread(|thread| thread.context()).unwrap();
            // SAFETY: the handler lets only what a signal handler may do be done; the flag is taken back
            // by it, once the thread has given its context up.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = step as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO;
                libc::sigaction(libc::SIGTRAP, &raw const action, std::ptr::null_mut());
                std::arch::asm!("pushfq", "or qword ptr [rsp], {}", "popfq", const TRAP_FLAG);
                at_thread_exit(std::ptr::null_mut());
            }
            let own = with_thread(|thread| thread.context()).unwrap();
            let spares = &process::process().unwrap().contexts.spares;
            let is_own = |spare: &AtomicU32| spare.load(Ordering::SeqCst) == own + 1;
            assert!(!spares.iter().any(is_own));
        };
        std::thread::spawn(ending).join().unwrap();
    }
}
