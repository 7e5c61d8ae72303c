//! Keeps the two ends of a wire together: a thread that waits for the peer, joins with it, and
//! begins again when it is gone. The queues see no more of it than a number that changes.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::meeting::{Address, NoLink, Role, Session, introduce_first, introduce_second, refuse};
use super::shared::Shape;
use crate::Error;
use crate::sys::{Bell, wait_readable};

/// How long an end rests before it tries again.
const RETRY: Duration = Duration::from_millis(50);

/// How long opening waits for a peer that listens already.
const FIRST_MEETING: Duration = Duration::from_millis(500);

/// No descriptor: poll(2) passes over it.
const NONE: RawFd = -1;

/// A wire's thread, which ends with the value.
pub struct Link {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    name: String,
    shape: Shape,
    address: Address,
    /// Counts the sessions' beginnings and ends.
    generation: AtomicU64,
    session: Mutex<Option<Arc<Session>>>,
    /// The generation which a queue has found to be broken.
    broken: AtomicU64,
    /// Rung by the peer, and by the thread when the generation changes: one to each queue.
    bells: Vec<Bell>,
    /// Wakes the thread.
    control: Bell,
    stop: AtomicBool,
}

impl Link {
    /// Meets the peer, or waits for one in the background.
    ///
    /// # Errors
    /// What the system says of the socket, or [`Error::Refused`] if a peer that is there already
    /// does not join with this end.
    pub fn open(
        name: String,
        address: Address,
        queues: usize,
        capacity: usize,
    ) -> Result<Link, Error> {
        let bell = || Bell::new().map_err(Error::io("eventfd"));
        let role = address.meet().map_err(Error::io(name.clone()))?;
        let is_second = matches!(role, Role::Second(_));
        let state = Arc::new(State {
            shape: Shape {
                rings: 2 * queues,
                capacity,
            },
            address,
            generation: AtomicU64::new(0),
            session: Mutex::new(None),
            broken: AtomicU64::new(0),
            bells: (0..queues).map(|_| bell()).collect::<Result<_, _>>()?,
            control: bell()?,
            stop: AtomicBool::new(false),
            name: name.clone(),
        });
        let (tried, first_meeting) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("wire".into())
            .spawn({
                let state = Arc::clone(&state);
                move || state.run(role, &tried)
            })
            .map_err(Error::io(format!("{name}: thread")))?;
        let link = Link {
            state,
            thread: Some(thread),
        };
        // So that the very first frames are not lost. That the peer is slow is no error.
        if is_second && let Ok(Some(refusal)) = first_meeting.recv_timeout(FIRST_MEETING) {
            let reason = refusal.to_string();
            return Err(Error::Refused { name, reason });
        }
        Ok(link)
    }

    /// Changes whenever a session begins or ends.
    pub fn generation(&self) -> u64 {
        self.state.generation.load(Ordering::Acquire)
    }

    /// The session, if there is one, and its generation.
    pub fn session(&self) -> (u64, Option<Arc<Session>>) {
        let session = self.state.session.lock();
        let session = session.unwrap_or_else(PoisonError::into_inner);
        (self.generation(), session.clone())
    }

    /// The bell of queue `index`.
    pub fn bell(&self, index: usize) -> &Bell {
        &self.state.bells[index]
    }

    /// Ends the session of a generation, because the peer does not keep the rules.
    pub fn give_up(&self, generation: u64) {
        self.state.broken.store(generation, Ordering::Release);
        self.state.control.ring();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Release);
        self.state.control.ring();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(wire = self.state.name, "the wire's thread has panicked");
        }
    }
}

impl State {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// The thread's body. `tried` hears what came of the first meeting: the reason, if it is final,
    /// why there is none.
    fn run(&self, mut role: Role, tried: &SyncSender<Option<NoLink>>) {
        let mut log = Log::new(&self.name);
        loop {
            match role {
                Role::First(listener) => {
                    let result = self.serve(&listener, &mut log);
                    self.address.clean_up();
                    if let Err(error) = result {
                        log.trouble(&error.into());
                    }
                }
                Role::Second(stream) => match introduce_second(&stream, &self.bells) {
                    Ok(session) => {
                        log.joined();
                        self.begin(session);
                        let _ = tried.try_send(None);
                        let result = self.stay(&stream, None);
                        self.end();
                        log.parted(result.err());
                    }
                    Err(reason) => {
                        log.trouble(&reason);
                        let _ = tried.try_send(Some(reason).filter(NoLink::is_final));
                    }
                },
            }
            role = loop {
                if self.stopped() || self.pause().is_err() || self.stopped() {
                    return;
                }
                match self.address.meet() {
                    Ok(role) => break role,
                    Err(error) => log.trouble(&error.into()),
                }
            };
        }
    }

    /// The first end's life: one peer after the other.
    fn serve(&self, listener: &UnixListener, log: &mut Log) -> io::Result<()> {
        while !self.stopped() {
            let fds = [listener.as_raw_fd(), self.control.as_raw_fd()];
            let [knock, control] = wait_readable(fds, None)?;
            if control {
                self.control.silence();
            }
            if !knock || self.stopped() {
                continue;
            }
            let (stream, _) = listener.accept()?;
            match introduce_first(&stream, self.shape, &self.bells) {
                Ok(session) => {
                    log.joined();
                    self.begin(session);
                    let result = self.stay(&stream, Some(listener));
                    self.end();
                    log.parted(result.err());
                    // A peer that comes and goes does not keep us busy.
                    self.pause()?;
                }
                Err(reason) => log.trouble(&reason),
            }
        }
        Ok(())
    }

    /// Waits until the session is over.
    fn stay(&self, stream: &UnixStream, listener: Option<&UnixListener>) -> io::Result<()> {
        loop {
            let third = listener.map_or(NONE, AsRawFd::as_raw_fd);
            let fds = [stream.as_raw_fd(), self.control.as_raw_fd(), third];
            let [gone, control, knock] = wait_readable(fds, None)?;
            if control {
                self.control.silence();
                let generation = self.generation.load(Ordering::Acquire);
                if self.stopped() || self.broken.load(Ordering::Acquire) == generation {
                    return Ok(());
                }
            }
            // The peer has nothing more to say: whatever comes is its end.
            if gone {
                return Ok(());
            }
            if knock && let Some(listener) = listener {
                let (stream, _) = listener.accept()?;
                refuse(&stream, &self.bells);
            }
        }
    }

    fn begin(&self, session: Session) {
        self.change(Some(Arc::new(session)));
    }

    fn end(&self) {
        self.change(None);
    }

    fn change(&self, to: Option<Arc<Session>>) {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        *session = to;
        self.generation.fetch_add(1, Ordering::AcqRel);
        drop(session);
        for bell in &self.bells {
            bell.ring();
        }
    }

    fn pause(&self) -> io::Result<()> {
        let [control] = wait_readable([self.control.as_raw_fd()], Some(RETRY))?;
        if control {
            self.control.silence();
        }
        Ok(())
    }
}

/// What the log is told: what changes, not every attempt.
struct Log {
    name: String,
    last: String,
}

impl Log {
    fn new(name: &str) -> Log {
        Log {
            name: name.into(),
            last: String::new(),
        }
    }

    fn joined(&mut self) {
        self.last.clear();
        tracing::info!(wire = self.name, "the peer is there");
    }

    fn parted(&mut self, error: Option<io::Error>) {
        let error = error.map(tracing::field::display);
        tracing::info!(wire = self.name, error, "the peer is gone");
    }

    fn trouble(&mut self, reason: &NoLink) {
        let reason = reason.to_string();
        if reason != self.last {
            tracing::warn!(wire = self.name, reason, "no peer yet");
            self.last = reason;
        }
    }
}
