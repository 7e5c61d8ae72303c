//! Starting and stopping the engine.

use crate::control::Control;
use crate::net::NetError;
use crate::placement::near;
use crate::shared::{EngineConfig, Message, Shared};
use crate::sys;
use crate::worker::Worker;
use context::Segment;
use context::layout::Plan;
use psio::Device;
use psio::numa::{SYSFS, Topology};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Why the engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The segment cannot be made.
    #[error(transparent)]
    Segment(#[from] context::Error),
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] psio::Error),
    /// Addresses or routes contradict each other.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// The call.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A worker's core does not exist, or may not be used.
    #[error("core {core} cannot be used by the engine: {source}")]
    Core {
        /// The core.
        core: usize,
        /// The system's reason.
        source: std::io::Error,
    },
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { what, source }
}

/// What was left when the engine stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EngineReport {
    /// Connections that were reset because they had not finished in time.
    pub unfinished: usize,
}

/// A running engine.
pub struct Engine {
    shared: Arc<Shared>,
    name: String,
    workers: Vec<JoinHandle<()>>,
    control: Option<JoinHandle<()>>,
    stop: OwnedFd,
}

impl Engine {
    /// Makes the segment, opens the device's queues and starts the threads.
    ///
    /// `client_settings` is for the preload library; `shared_core` says that application and
    /// engine run on the same core; applications spin `spin_us` microseconds before they sleep.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn start(
        config: EngineConfig,
        plan: &Plan,
        client_settings: &[u8],
        shared_core: bool,
        spin_us: u32,
        device: &mut dyn Device,
    ) -> Result<Engine, Error> {
        let segment = Segment::create(plan, client_settings, shared_core, spin_us)?;
        let cores = config.cores.clone();
        let shared = Arc::new(Shared::new(segment, config).map_err(io("eventfd"))?);
        let stop = sys::eventfd().map_err(io("eventfd"))?;

        if let Some(rss) = device.rss() {
            let _ = shared.rss.set(Arc::new(rss));
        }
        let mut nodes = Topology::read(Path::new(SYSFS));
        if nodes.is_uniform() {
            nodes = Topology::default();
        }
        let mut workers = Vec::new();
        for (index, core) in cores.iter().enumerate().take(shared.inboxes.len()) {
            let node = core.and_then(|core| nodes.node_of(core));
            let _near = node.and_then(|node| near(&shared.segment, index, node));
            let queue = device.open_queue(index)?;
            let (mac, capabilities) = (device.mac(), device.capabilities());
            let (core, shared) = (*core, shared.clone());
            let (started, result) = mpsc::channel();
            let stop_control = stop.try_clone().map_err(io("dup"))?;
            let thread = std::thread::Builder::new()
                .name(format!("mtcp-worker-{index}"))
                .spawn(move || {
                    let pinned = core.map_or(Ok(()), |core| {
                        sys::pin_to_core(core).map_err(|source| Error::Core { core, source })
                    });
                    let made = pinned.and_then(|()| {
                        let shared = shared.clone();
                        Ok(Worker::new(shared, index, queue, mac, capabilities)?)
                    });
                    let mut worker = match made {
                        Ok(worker) => worker,
                        Err(error) => {
                            let _ = started.send(error);
                            return;
                        }
                    };
                    drop(started);
                    let guard = FailureGuard(&shared.failed, &stop_control);
                    match worker.run() {
                        Ok(()) => std::mem::forget(guard),
                        Err(error) => {
                            tracing::error!("worker {index} has failed: {error}");
                            let _ = shared.failure.set(error.to_string());
                        }
                    }
                })
                .map_err(io("thread"))?;
            workers.push(thread);
            if let Ok(error) = result.recv() {
                return Err(error);
            }
        }

        let suffix = u64::from_ne_bytes(sys::random());
        let name = format!("mtcp-{}-{suffix:016x}", std::process::id());
        let listener = sys::listen_abstract(&name).map_err(io("control socket"))?;
        let stop_control = stop.try_clone().map_err(io("dup"))?;
        let mut control =
            Control::new(shared.clone(), listener, stop_control).map_err(io("epoll"))?;
        let control = std::thread::Builder::new()
            .name("mtcp-control".into())
            .spawn(move || control.run())
            .map_err(io("thread"))?;
        Ok(Engine {
            shared,
            name,
            workers,
            control: Some(control),
            stop,
        })
    }

    /// Name of the control socket, for the preload library's environment.
    pub fn control_name(&self) -> &str {
        &self.name
    }

    /// What workers and control thread share: counters, settings, segment.
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Whether a worker has ended by itself, after which no connection works any more.
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::SeqCst)
    }

    /// Becomes readable once it has failed, or is told to stop.
    pub fn end(&self) -> BorrowedFd<'_> {
        self.stop.as_fd()
    }

    /// Why it has failed, if it has.
    pub fn failure(&self) -> Option<String> {
        let reason = || match self.shared.failure.get() {
            Some(reason) => reason.clone(),
            None => "a worker has panicked".into(),
        };
        self.has_failed().then(reason)
    }

    fn busy(&self) -> Vec<String> {
        let (sender, receiver) = mpsc::channel();
        for inbox in &self.shared.inboxes {
            inbox.send(Message::ListBusy(sender.clone()));
        }
        drop(sender);
        receiver.iter().flatten().collect()
    }

    /// Waits at most `patience` until what applications wrote has reached their peers, then resets
    /// what is left and stops.
    pub fn stop(mut self, patience: Duration) -> EngineReport {
        let deadline = Instant::now() + patience;
        // Its processes are gone, or cut off now: their sockets are closed before the wait begins.
        sys::ring(self.stop.as_raw_fd());
        if let Some(control) = self.control.take() {
            let _ = control.join();
        }
        let mut busy = Vec::new();
        while !self.has_failed() {
            busy = self.busy();
            if busy.is_empty() || Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        for line in &busy {
            tracing::info!("not finished in time: {line}");
        }
        for inbox in &self.shared.inboxes {
            inbox.send(Message::Stop);
        }
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
        EngineReport {
            unfinished: busy.len(),
        }
    }
}

/// Marks the engine as failed unless forgotten: a worker ended with an error or a panic.
struct FailureGuard<'a>(&'a AtomicBool, &'a OwnedFd);

impl Drop for FailureGuard<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
        // The control thread ends with its connections, by which applications notice.
        sys::ring(self.1.as_raw_fd());
    }
}
