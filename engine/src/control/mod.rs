//! The control thread: serves applications' requests ([`context::control`]) and notices when their
//! processes die and their leases end.

mod ancestry;
mod bind;
mod free;
mod lease;
mod process;
#[cfg(test)]
mod tests;

use crate::net::RateLimit;
use crate::shared::{Message, Shared};
use crate::sys::Epoll;
pub use ancestry::{is_descendant, parent_of};
use context::control::{self, MAX_NAMES, NAME_LEN, Name, REQUEST_LEN, Reply, Request};
use free::FreeNumbers;
use lease::Leases;
use process::Process;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

/// How long a worker may take to answer before it counts as dead.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is asked meanwhile whether the worker has failed.
const LOOK_UP: Duration = Duration::from_millis(50);

/// Keys of the descriptors that are waited for; those of processes and leases are their numbers.
const STOP: u64 = 1 << 32;
const LISTENER: u64 = STOP + 1;

/// The control thread's state.
pub struct Control {
    shared: Arc<Shared>,
    epoll: Epoll,
    listener: OwnedFd,
    /// Stays open as long as it is waited for.
    _stop: OwnedFd,
    processes: BTreeMap<u32, Process>,
    leases: Leases,
    /// The last number given to a process or a lease.
    last_number: u32,
    free_contexts: FreeNumbers,
    free_sets: FreeNumbers,
    buffer: Box<[u8]>,
    /// What a program can have logged again and again.
    warnings: RateLimit,
    started: Instant,
}

/// What a request is answered with: a value, and descriptors that go along.
struct Answer {
    value: u32,
    borrowed: Vec<RawFd>,
    given: Option<OwnedFd>,
}

impl Answer {
    fn value(value: u32) -> Answer {
        Answer {
            value,
            borrowed: Vec::new(),
            given: None,
        }
    }
}

impl Control {
    /// Serves on `listener` until `stop` becomes readable.
    ///
    /// # Errors
    /// If no epoll descriptor can be made.
    pub fn new(shared: Arc<Shared>, listener: OwnedFd, stop: OwnedFd) -> std::io::Result<Self> {
        let g = shared.segment.geometry();
        let free_contexts = FreeNumbers::below(g.contexts);
        let free_sets = FreeNumbers::below(g.ready_sets);
        let epoll = Epoll::new()?;
        epoll.add_readable(stop.as_fd(), STOP)?;
        epoll.add_readable(listener.as_fd(), LISTENER)?;
        Ok(Control {
            shared,
            epoll,
            listener,
            _stop: stop,
            processes: BTreeMap::new(),
            leases: Leases::default(),
            last_number: 0,
            free_contexts,
            free_sets,
            buffer: vec![0; REQUEST_LEN + MAX_NAMES * NAME_LEN].into(),
            warnings: RateLimit::new(1, 10),
            started: Instant::now(),
        })
    }

    /// The thread's body.
    pub fn run(&mut self) {
        while self.turn() {}
        while let Some((_, process)) = self.processes.pop_first() {
            self.gone(process);
        }
        self.end_leases();
    }

    /// Waits for what happens next and handles it. False if it was the stop.
    fn turn(&mut self) -> bool {
        let ready = self.epoll.wait();
        if ready.contains(&STOP) {
            return false;
        }
        for key in ready {
            match u32::try_from(key) {
                Err(_) => self.accept(),
                Ok(number) if self.processes.contains_key(&number) => self.serve(number),
                Ok(number) => self.lease_gone(number),
            }
        }
        true
    }

    /// A number for a process or a lease.
    fn number(&mut self) -> Result<u32, i32> {
        let next = self.last_number.checked_add(1);
        self.last_number = next.ok_or(libc::EAGAIN)?;
        Ok(self.last_number)
    }

    /// Whether a line may be logged that a program can cause as often as it likes.
    fn may_warn(&mut self) -> bool {
        let now = self.started.elapsed().as_micros();
        self.warnings.allow(u64::try_from(now).unwrap_or(u64::MAX))
    }

    fn serve(&mut self, number: u32) {
        let Some(mut process) = self.processes.remove(&number) else {
            return;
        };
        let (n, mut fds) = match control::receive(process.fd.as_fd(), &mut self.buffer) {
            Ok((n, fds)) if n > 0 => (n, fds),
            _ => {
                self.gone(process);
                return;
            }
        };
        let Some(request) = Request::from_bytes(&self.buffer[..n]) else {
            if self.may_warn() {
                tracing::warn!(
                    pid = process.pid,
                    "an unknown request; the process is cut off"
                );
            }
            self.gone(process);
            return;
        };
        let names = || -> Arc<[Name]> { control::names(&self.buffer[..n]).collect() };
        let result = match request {
            Request::Hello { pid } => Ok(self.hello(&mut process, pid)),
            Request::NewContext { tid } => self.new_context(&mut process, tid).map(Answer::value),
            Request::FreeContext(context) => self
                .free_context(&mut process, context)
                .map(|()| Answer::value(0)),
            Request::NewReadySet => self.new_set(&mut process, fds.pop()).map(Answer::value),
            Request::FreeReadySet(set) => {
                self.free_set(&mut process, set).map(|()| Answer::value(0))
            }
            Request::Bind { socket, to } => {
                self.bind(&process, socket, to).map(|()| Answer::value(0))
            }
            Request::Listen { socket, backlog } => self
                .listen(&process, socket, backlog)
                .map(|()| Answer::value(0)),
            Request::Fork => {
                let names = names();
                self.fork(&process, names)
            }
            Request::Share { child } => {
                let names = names();
                self.share_with_child(&process, child, names)
                    .map(|()| Answer::value(0))
            }
            Request::Lease(name) => self.lease(&process, name),
            Request::Hold => self.hold(&process, fds.pop()).map(Answer::value),
            Request::Pin(name) => self.pin(&mut process, name).map(|()| Answer::value(0)),
        };
        self.reply(process, result);
    }

    fn reply(&mut self, process: Process, result: Result<Answer, i32>) {
        let (reply, answer) = match result {
            Ok(answer) => {
                let value = answer.value;
                (Reply { error: 0, value }, answer)
            }
            Err(error) => (Reply { error, value: 0 }, Answer::value(0)),
        };
        let mut sent = answer.borrowed;
        sent.extend(answer.given.as_ref().map(AsRawFd::as_raw_fd));
        if control::send(process.fd.as_fd(), &reply.to_bytes(), &sent).is_err() {
            self.gone(process);
            return;
        }
        self.processes.insert(process.number, process);
    }

    /// Sends each worker a message and waits until all have answered.
    fn ask<T: Send>(&self, message: impl Fn(Sender<T>) -> Message) -> Result<Vec<T>, i32> {
        let (sender, receiver) = mpsc::channel();
        for inbox in &self.shared.inboxes {
            inbox.send(message(sender.clone()));
        }
        drop(sender);
        let deadline = Instant::now() + PATIENCE;
        let answer = || loop {
            match receiver.recv_timeout(LOOK_UP) {
                Ok(answer) => return Ok(answer),
                Err(_) if self.shared.failed.load(SeqCst) || Instant::now() > deadline => {
                    return Err(libc::EIO);
                }
                Err(_) => {}
            }
        };
        self.shared.inboxes.iter().map(|_| answer()).collect()
    }
}
