//! Processes of the application: how they come, what they have, and their end.

use super::lease::Pin;
use super::{Answer, Control, is_descendant};
use crate::shared::Message;
use crate::sys;
use context::control::Name;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// A process of the application.
pub struct Process {
    /// Its number in the stack.
    pub number: u32,
    /// Number of the process that has forked it; 0 if it has come by itself.
    pub parent: u32,
    /// The control connection.
    pub fd: OwnedFd,
    /// Process id, for logs.
    pub pid: i32,
    /// Its user when it came.
    pub uid: u32,
    /// Its contexts.
    pub contexts: Vec<u32>,
    /// Its ready sets.
    pub sets: Vec<u32>,
    /// What it has sent to others that have not asked for it yet.
    pub pins: Vec<Pin>,
}

impl Control {
    /// A process connects.
    pub(super) fn accept(&mut self) {
        let Ok(fd) = sys::accept(&self.listener) else {
            return;
        };
        let Ok((pid, uid)) = sys::peer(&fd) else {
            return;
        };
        // The name of the socket is no secret: only what this launcher has started may come in.
        if !is_descendant(pid, std::process::id() as i32) {
            if self.may_warn() {
                tracing::warn!(
                    pid,
                    "a process that mtcp-run has not started was turned away"
                );
            }
            return;
        }
        // Without a number or memory for it, the connection ends, and the process knows.
        let _ = self.admit(fd, 0, pid, uid);
    }

    pub(super) fn admit(
        &mut self,
        fd: OwnedFd,
        parent: u32,
        pid: i32,
        uid: u32,
    ) -> Result<u32, i32> {
        let number = self.number()?;
        let added = self.epoll.add_readable(fd.as_fd(), number.into());
        added.map_err(|_| libc::ENOMEM)?;
        let process = Process {
            number,
            parent,
            fd,
            pid,
            uid,
            contexts: Vec::new(),
            sets: Vec::new(),
            pins: Vec::new(),
        };
        self.processes.insert(number, process);
        Ok(number)
    }

    pub(super) fn hello(&mut self, process: &mut Process, pid: u32) -> Answer {
        process.pid = i32::try_from(pid).unwrap_or(process.pid);
        let mut answer = Answer::value(process.number);
        answer.borrowed.push(self.shared.segment.fd().as_raw_fd());
        let doorbells = self.shared.inboxes.iter().map(|i| i.doorbell.as_raw_fd());
        answer.borrowed.extend(doorbells);
        tracing::debug!(
            pid = process.pid,
            number = process.number,
            "process attached"
        );
        answer
    }

    /// `process` is about to fork a child that holds `names`.
    pub(super) fn fork(&mut self, process: &Process, names: Arc<[Name]>) -> Result<Answer, i32> {
        let (ours, theirs) = sys::seqpacket_pair().map_err(|_| libc::EMFILE)?;
        let (parent, pid, uid) = (process.number, process.pid, process.uid);
        let child = self.admit(ours, parent, pid, uid)?;
        self.share(process, child, names)?;
        tracing::debug!(pid, parent, child, "process forks");
        let mut answer = Answer::value(child);
        answer.given = Some(theirs);
        Ok(answer)
    }

    pub(super) fn share_with_child(
        &mut self,
        process: &Process,
        child: u32,
        names: Arc<[Name]>,
    ) -> Result<(), i32> {
        let is_its = |other: &Process| other.parent == process.number;
        if self.processes.get(&child).is_some_and(is_its) {
            return self.share(process, child, names).map(drop);
        }
        // The child itself asks for what it has inherited at the last moment.
        match self.processes.get(&process.parent) {
            Some(parent) if child == process.number => self.share(parent, child, names).map(drop),
            _ => Err(libc::ECHILD),
        }
    }

    /// What `process` holds of `names`, `to` holds as well from now on. Returns how many those are.
    pub(super) fn share(
        &self,
        process: &Process,
        to: u32,
        names: Arc<[Name]>,
    ) -> Result<usize, i32> {
        let contexts: Arc<[u32]> = process.contexts.as_slice().into();
        let counts = self.ask(|done| Message::Share {
            from: process.number,
            contexts: contexts.clone(),
            to,
            names: names.clone(),
            done,
        })?;
        Ok(counts.into_iter().sum())
    }

    pub(super) fn new_context(&mut self, process: &mut Process, tid: u32) -> Result<u32, i32> {
        let context = self.free_contexts.take().ok_or(libc::ENOMEM)?;
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

    pub(super) fn free_context(&mut self, process: &mut Process, context: u32) -> Result<(), i32> {
        let place = process.contexts.iter().position(|c| *c == context);
        process.contexts.swap_remove(place.ok_or(libc::EINVAL)?);
        self.ask(|done| Message::CloseContext { context, done })?;
        self.recycle_context(context);
        Ok(())
    }

    /// Nobody uses a context any more.
    fn recycle_context(&mut self, context: u32) {
        if let Some(cold) = self.free_contexts.give_back(context) {
            self.shared.segment.discard_context(cold);
        }
    }

    pub(super) fn new_set(
        &mut self,
        process: &mut Process,
        eventfd: Option<OwnedFd>,
    ) -> Result<u32, i32> {
        let set = self.free_sets.take().ok_or(libc::ENOMEM)?;
        if let Some(record) = self.shared.segment.ready_set(set) {
            record.reset();
        }
        let state = &self.shared.sets[set as usize];
        let eventfd = eventfd.map_or(-1, IntoRawFd::into_raw_fd);
        state.eventfd.store(eventfd, SeqCst);
        state.process.store(process.number, SeqCst);
        state.generation.fetch_add(1, SeqCst);
        process.sets.push(set);
        self.ask(|done| Message::RenewSet { set, done })?;
        Ok(set)
    }

    pub(super) fn free_set(&mut self, process: &mut Process, set: u32) -> Result<(), i32> {
        let place = process.sets.iter().position(|s| *s == set);
        process.sets.swap_remove(place.ok_or(libc::EINVAL)?);
        self.retire_set(set);
        Ok(())
    }

    fn retire_set(&mut self, set: u32) {
        let state = &self.shared.sets[set as usize];
        state.generation.fetch_add(1, SeqCst);
        let eventfd = state.eventfd.swap(-1, SeqCst);
        // Workers may be about to ring it: it is closed once each has been elsewhere since.
        if self.ask(|done| Message::RenewSet { set, done }).is_ok()
            && let Some(cold) = self.free_sets.give_back(set)
        {
            self.shared.segment.discard_ready_set(cold);
        }
        sys::close(eventfd);
    }

    pub(super) fn gone(&mut self, process: Process) {
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
            for context in process.contexts {
                self.recycle_context(context);
            }
        }
        for pin in process.pins {
            self.tell_gone(pin.number, pin.name);
        }
        for set in process.sets {
            self.retire_set(set);
        }
    }
}
