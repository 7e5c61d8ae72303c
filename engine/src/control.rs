//! The control thread: serves applications' requests ([`context::control`]) and notices when their
//! processes die.

use crate::binds::Bind;
use crate::shared::{Listener, Message, Shared, lock};
use crate::sys;
use context::control::{self, REPLY_LEN, REQUEST_LEN, Reply, Request};
use context::socket::{AcceptRing, option, state};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

/// How long a worker may take to answer before it counts as dead.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is asked meanwhile whether the worker has failed.
const LOOK_UP: Duration = Duration::from_millis(50);
/// Ports below this are for root (`ip_unprivileged_port_start`).
const PRIVILEGED: u16 = 1024;

/// A process of the application.
struct Process {
    number: u32,
    fd: OwnedFd,
    pid: i32,
    uid: u32,
    contexts: Vec<u32>,
    sets: Vec<u32>,
}

/// The control thread's state.
pub struct Control {
    shared: Arc<Shared>,
    listener: OwnedFd,
    stop: OwnedFd,
    processes: BTreeMap<RawFd, Process>,
    next_process: u32,
    free_contexts: Vec<u32>,
    free_sets: Vec<u32>,
}

impl Control {
    /// Serves on `listener` until `stop` becomes readable.
    pub fn new(shared: Arc<Shared>, listener: OwnedFd, stop: OwnedFd) -> Self {
        let g = shared.segment.geometry();
        let free_contexts = (0..g.contexts).rev().collect();
        let free_sets = (0..g.ready_sets).rev().collect();
        Control {
            shared,
            listener,
            stop,
            processes: BTreeMap::new(),
            next_process: 1,
            free_contexts,
            free_sets,
        }
    }

    /// The thread's body.
    pub fn run(&mut self) {
        loop {
            let mut fds = vec![self.stop.as_raw_fd(), self.listener.as_raw_fd()];
            fds.extend(self.processes.keys());
            let ready = sys::poll_readable(&fds);
            if ready.contains(&fds[0]) {
                while let Some((_, process)) = self.processes.pop_first() {
                    self.gone(process);
                }
                return;
            }
            for fd in ready {
                if fd == fds[1] {
                    self.accept();
                } else {
                    self.serve(fd);
                }
            }
        }
    }

    fn accept(&mut self) {
        let Ok(fd) = sys::accept(&self.listener) else {
            return;
        };
        let Ok((pid, uid)) = sys::peer(&fd) else {
            return;
        };
        // The name of the socket is no secret: only what this launcher has started may come in.
        if !is_descendant(pid, std::process::id() as i32) {
            tracing::warn!(
                pid,
                "a process that mtcp-run has not started was turned away"
            );
            return;
        }
        let number = self.next_process;
        self.next_process += 1;
        let process = Process {
            number,
            pid,
            uid,
            contexts: Vec::new(),
            sets: Vec::new(),
            fd,
        };
        self.processes.insert(process.fd.as_raw_fd(), process);
    }

    fn serve(&mut self, fd: RawFd) {
        let Some(mut process) = self.processes.remove(&fd) else {
            return;
        };
        let mut bytes = [0; REQUEST_LEN];
        let (request, mut fds) = match control::receive(process.fd.as_fd(), &mut bytes) {
            Ok((n, fds)) if n > 0 => (Request::from_bytes(&bytes[..n]), fds),
            _ => {
                self.gone(process);
                return;
            }
        };
        let Some(request) = request else {
            tracing::warn!(
                pid = process.pid,
                "an unknown request; the process is cut off"
            );
            self.gone(process);
            return;
        };
        let mut sent = Vec::new();
        let result = match request {
            Request::Hello { .. } => {
                sent.push(self.shared.segment.fd().as_raw_fd());
                sent.extend(self.shared.inboxes.iter().map(|i| i.doorbell.as_raw_fd()));
                tracing::debug!(
                    pid = process.pid,
                    number = process.number,
                    "process attached"
                );
                Ok(process.number)
            }
            Request::NewContext { tid } => self.new_context(&mut process, tid),
            Request::FreeContext(context) => self.free_context(&mut process, context),
            Request::NewReadySet => self.new_set(&mut process, fds.pop()),
            Request::FreeReadySet(set) => self.free_set(&mut process, set),
            Request::Bind { socket, to } => self.bind(process.uid, socket, to).map(|()| 0),
            Request::Listen { socket, backlog } => self.listen(socket, backlog).map(|()| 0),
        };
        let reply = match result {
            Ok(value) => Reply { error: 0, value },
            Err(error) => Reply { error, value: 0 },
        };
        let bytes: [u8; REPLY_LEN] = reply.to_bytes();
        if control::send(process.fd.as_fd(), &bytes, &sent).is_err() {
            self.gone(process);
            return;
        }
        self.processes.insert(fd, process);
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

    fn new_context(&mut self, process: &mut Process, tid: u32) -> Result<u32, i32> {
        let context = self.free_contexts.pop().ok_or(libc::ENOMEM)?;
        if let Some(record) = self.shared.segment.context(context) {
            record.process.store(process.number, Relaxed);
            record.tid.store(tid, Relaxed);
            record.reply_seq.store(0, SeqCst);
        }
        process.contexts.push(context);
        let number = process.number;
        self.ask(|done| Message::OpenContext {
            context,
            process: number,
            done,
        })?;
        Ok(context)
    }

    fn free_context(&mut self, process: &mut Process, context: u32) -> Result<u32, i32> {
        let place = process.contexts.iter().position(|c| *c == context);
        process.contexts.swap_remove(place.ok_or(libc::EINVAL)?);
        self.ask(|done| Message::CloseContext { context, done })?;
        self.free_contexts.push(context);
        Ok(0)
    }

    fn new_set(&mut self, process: &mut Process, eventfd: Option<OwnedFd>) -> Result<u32, i32> {
        let set = self.free_sets.pop().ok_or(libc::ENOMEM)?;
        if let Some(record) = self.shared.segment.ready_set(set) {
            record.reset();
        }
        let state = &self.shared.sets[set as usize];
        let eventfd = eventfd.map_or(-1, IntoRawFd::into_raw_fd);
        state.eventfd.store(eventfd, SeqCst);
        state.generation.fetch_add(1, SeqCst);
        process.sets.push(set);
        self.ask(|done| Message::RenewSet { set, done })?;
        Ok(set)
    }

    fn free_set(&mut self, process: &mut Process, set: u32) -> Result<u32, i32> {
        let place = process.sets.iter().position(|s| *s == set);
        process.sets.swap_remove(place.ok_or(libc::EINVAL)?);
        self.retire_set(set);
        Ok(0)
    }

    fn retire_set(&mut self, set: u32) {
        let state = &self.shared.sets[set as usize];
        state.generation.fetch_add(1, SeqCst);
        let eventfd = state.eventfd.swap(-1, SeqCst);
        // Workers may be about to ring it: it is closed once each has been elsewhere since.
        if self.ask(|done| Message::RenewSet { set, done }).is_ok() {
            self.free_sets.push(set);
        }
        sys::close(eventfd);
    }

    fn gone(&mut self, process: Process) {
        tracing::debug!(
            pid = process.pid,
            number = process.number,
            "process detached"
        );
        let asked = self.ask(|done| Message::ProcessGone {
            process: process.number,
            contexts: process.contexts.clone(),
            done,
        });
        if asked.is_ok() {
            self.free_contexts.extend(&process.contexts);
        }
        for set in process.sets {
            self.retire_set(set);
        }
    }

    fn bind(&self, uid: u32, socket: u32, to: SocketAddr) -> Result<(), i32> {
        let record = self.shared.segment.socket(socket).ok_or(libc::EBADF)?;
        if record.engine.state.load(SeqCst) & state::BOUND != 0 {
            return Err(libc::EINVAL);
        }
        let address = to.ip();
        let bits = record.options.bits.load(Relaxed);
        let config = &self.shared.config;
        let ours = match address {
            any if any.is_unspecified() => true,
            IpAddr::V4(v4) => {
                config.addresses.iter().any(|a| a.address == v4)
                    || config.local.iter().any(|network| network.contains(v4))
                    || (config.loopback && v4.is_loopback())
            }
            IpAddr::V6(v6) => {
                let local = config.ipv6.as_ref().map_or(&[][..], |ipv6| &ipv6.local);
                lock(&self.shared.addresses6).contains(&v6)
                    || local.iter().any(|network| network.contains(v6))
                    || (config.loopback && v6.is_loopback())
            }
        };
        if !ours && bits & option::FREEBIND == 0 {
            return Err(libc::EADDRNOTAVAIL);
        }
        if (1..PRIVILEGED).contains(&to.port()) && uid != 0 {
            return Err(libc::EACCES);
        }
        let bind = Bind {
            socket,
            address,
            only_v6: bits & option::V6ONLY != 0,
            reuse_address: bits & option::REUSEADDR != 0,
            reuse_port: bits & option::REUSEPORT != 0,
            listens: false,
        };
        let claim = || {
            let seed = u16::from_ne_bytes(sys::random());
            lock(&self.shared.binds).bind(to.port(), bind, seed)
        };
        // Whoever has the port may have closed it, by a command that is still on its way.
        let port = claim()
            .or_else(|| {
                self.ask(|done| Message::Sync { done }).ok()?;
                claim()
            })
            .ok_or(libc::EADDRINUSE)?;
        record.names.set((address, port).into(), None);
        record.engine.state.fetch_or(state::BOUND, SeqCst);
        Ok(())
    }

    fn listen(&self, socket: u32, backlog: u32) -> Result<(), i32> {
        let record = self.shared.segment.socket(socket).ok_or(libc::EBADF)?;
        let backlog = backlog
            .min(self.shared.config.somaxconn)
            .min(AcceptRing::CAPACITY - 1);
        match record.tcp_state() {
            state::CLOSE => {}
            state::LISTEN => {
                return self.set_backlog(socket, backlog);
            }
            _ => return Err(libc::EINVAL),
        }
        if record.engine.state.load(SeqCst) & state::BOUND == 0 {
            self.bind(0, socket, (Ipv4Addr::UNSPECIFIED, 0).into())?;
        }
        let only_v6 = record.options.bits.load(Relaxed) & option::V6ONLY != 0;
        let (address, port) = {
            let mut binds = lock(&self.shared.binds);
            let claim = binds.claim(socket).ok_or(libc::EINVAL)?;
            if !binds.listen(socket) {
                return Err(libc::EADDRINUSE);
            }
            claim
        };
        let listener = Arc::new(Listener {
            socket,
            address,
            only_v6,
            port,
            backlog: backlog.into(),
            watches: Default::default(),
        });
        let added = self.ask(|done| Message::Listen {
            listener: listener.clone(),
            done,
        })?;
        if !added.into_iter().all(|ok| ok) {
            for inbox in &self.shared.inboxes {
                inbox.send(Message::Unlisten(socket));
            }
            return Err(libc::ENOBUFS);
        }
        tracing::debug!(%address, port, backlog, "listening");
        Ok(())
    }

    fn set_backlog(&self, socket: u32, backlog: u32) -> Result<(), i32> {
        self.ask(|done| Message::SetBacklog {
            socket,
            backlog,
            done,
        })?;
        Ok(())
    }
}

/// Whether `pid` is `ancestor` or descends from it, by the parents in `/proc`.
fn is_descendant(mut pid: i32, ancestor: i32) -> bool {
    // A bound on the depth, should /proc be strange.
    for _ in 0..1000 {
        if pid == ancestor {
            return true;
        }
        match parent_of(pid) {
            Ok(parent) if parent > 0 => pid = parent,
            _ => return false,
        }
    }
    false
}

fn parent_of(pid: i32) -> io::Result<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may contain anything; state and parent follow the last one.
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_descends_from_its_parent_and_not_the_other_way_round() {
        let me = std::process::id() as i32;
        let parent = parent_of(me).unwrap();
        assert!(is_descendant(me, me));
        assert!(is_descendant(me, parent));
        assert!(!is_descendant(parent, me));
        assert!(!is_descendant(i32::MAX, me));
    }
}
