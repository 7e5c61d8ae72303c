//! Leases: how a descriptor of a socket goes where the preload library is not: through exec(2), or in
//! a message to another process.
//!
//! A lease is a pair of UNIX sockets. One end lies under the descriptor, so that its inode names the
//! socket wherever it turns up; the other is kept here, and hangs up once no process has the first.
//! Until then the lease holds the socket, as a process does.

use super::process::Process;
use super::{Answer, Control};
use crate::shared::{Message, NO_PROCESS, lock};
use crate::sys;
use context::control::Name;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Leases at a time. A request for one more is answered with `ENOBUFS`.
const MOST: usize = 1 << 16;

/// Messages of one process on their way that hold a listener so. One more is refused with `ENOBUFS`.
const MOST_PINS: usize = 4096;

/// The engine's end of a lease.
struct Lease {
    name: Name,
    inode: u64,
    /// Hangs up with the last copy of the other end.
    _end: OwnedFd,
}

/// Holds a socket for which a process has sent the kernel's socket that is bound beside it.
pub struct Pin {
    /// The holder's number.
    pub number: u32,
    /// The socket.
    pub name: Name,
}

/// All leases.
#[derive(Default)]
pub struct Leases {
    by_number: BTreeMap<u32, Lease>,
    by_inode: HashMap<u64, u32>,
}

impl Control {
    /// A lease for a socket that `process` holds.
    pub(super) fn lease(&mut self, process: &Process, name: Name) -> Result<Answer, i32> {
        if self.leases.by_number.len() >= MOST {
            return Err(libc::ENOBUFS);
        }
        let (ours, theirs) = sys::seqpacket_pair().map_err(|_| libc::EMFILE)?;
        // Who writes into the other end without knowing what it is gets EPIPE, and does not wait.
        sys::refuse_input(&ours);
        let inode = sys::inode(theirs.as_fd()).map_err(|_| libc::EBADF)?;
        let number = self.number()?;
        let added = self.epoll.add_hang_up(ours.as_fd(), number.into());
        added.map_err(|_| libc::ENOMEM)?;
        if self.share(process, number, [name].into())? == 0 {
            return Err(libc::EBADF);
        }
        let lease = Lease {
            name,
            inode,
            _end: ours,
        };
        self.leases.by_number.insert(number, lease);
        self.leases.by_inode.insert(inode, number);
        let mut answer = Answer::value(number);
        answer.given = Some(theirs);
        Ok(answer)
    }

    /// `process` shows the lease that it has come by: it holds the socket from now on.
    pub(super) fn hold(&mut self, process: &Process, shown: Option<OwnedFd>) -> Result<u32, i32> {
        let shown = shown.ok_or(libc::EINVAL)?;
        let inode = sys::inode(shown.as_fd()).map_err(|_| libc::EBADF)?;
        let (from, name) = match self.leases.by_inode.get(&inode) {
            Some(number) => {
                let lease = self.leases.by_number.get(number).ok_or(libc::ENOENT)?;
                (*number, lease.name)
            }
            None => (NO_PROCESS, self.beside(inode).ok_or(libc::ENOENT)?),
        };
        // What it has closed just now, it holds anew.
        let contexts: Arc<[u32]> = process.contexts.as_slice().into();
        let counts = self.ask(|done| Message::Share {
            from,
            contexts: contexts.clone(),
            to: process.number,
            names: [name].into(),
            done,
        })?;
        match counts.into_iter().sum::<usize>() {
            0 => Err(libc::EBADF),
            _ => {
                self.unpin(name);
                Ok(name.socket)
            }
        }
    }

    /// The socket of the stack beside which the kernel's socket of that inode listens.
    fn beside(&self, inode: u64) -> Option<Name> {
        let binds = lock(&self.shared.binds);
        let segment = &self.shared.segment;
        let mut records = binds
            .sockets()
            .filter_map(|socket| Some((socket, segment.socket(socket)?)));
        let (socket, record) = records.find(|(_, record)| record.names.kernel_inode() == inode)?;
        let generation = record.engine.generation.load(Relaxed) as u16;
        Some(Name { socket, generation })
    }

    /// `process` sends the kernel's half of a listener to another process.
    pub(super) fn pin(&mut self, process: &mut Process, name: Name) -> Result<(), i32> {
        if process.pins.len() >= MOST_PINS {
            return Err(libc::ENOBUFS);
        }
        let number = self.number()?;
        if self.share(process, number, [name].into())? == 0 {
            return Err(libc::EBADF);
        }
        process.pins.push(Pin { number, name });
        Ok(())
    }

    /// Somebody has come to hold what was sent: one message has arrived.
    fn unpin(&mut self, name: Name) {
        let mut processes = self.processes.values_mut();
        let pin = processes.find_map(|process| {
            let at = process.pins.iter().position(|pin| pin.name == name)?;
            Some(process.pins.swap_remove(at))
        });
        if let Some(pin) = pin {
            self.tell_gone(pin.number, pin.name);
        }
    }

    /// The last copy of a lease is gone.
    pub(super) fn lease_gone(&mut self, number: u32) {
        let Some(lease) = self.leases.by_number.remove(&number) else {
            return;
        };
        self.leases.by_inode.remove(&lease.inode);
        self.tell_gone(number, lease.name);
    }

    /// A holder that is no process holds a socket no more.
    pub(super) fn tell_gone(&self, number: u32, name: Name) {
        let worker = self.shared.segment.geometry().worker_of(name.socket);
        if let Some(inbox) = self.shared.inboxes.get(worker) {
            inbox.send(Message::LeaseGone(number, name));
        }
    }

    pub(super) fn end_leases(&mut self) {
        while let Some((number, _)) = self.leases.by_number.first_key_value() {
            self.lease_gone(*number);
        }
    }
}
