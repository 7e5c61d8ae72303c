//! Leases: how a descriptor of a socket goes where the preload library is not: through exec(2), or in
//! a message to another process.
//!
//! A lease is a pair of UNIX sockets. One end lies under the descriptor, so that its inode names the
//! socket wherever it turns up; the other is kept here, and hangs up once no process has the first.
//! Until then the lease holds the socket, as a process does.

use super::process::Process;
use super::{Answer, Control};
use crate::shared::Message;
use crate::sys;
use context::control::Name;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};

/// Leases at a time. A request for one more is answered with `ENOBUFS`.
const MOST: usize = 1 << 16;

/// The engine's end of a lease.
struct Lease {
    name: Name,
    inode: u64,
    /// Hangs up with the last copy of the other end.
    _end: OwnedFd,
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
        let number = self.leases.by_inode.get(&inode).ok_or(libc::ENOENT)?;
        let name = self.leases.by_number.get(number).ok_or(libc::ENOENT)?.name;
        let counts = self.ask(|done| Message::Share {
            from: *number,
            contexts: [].into(),
            to: process.number,
            names: [name].into(),
            done,
        })?;
        match counts.into_iter().sum::<usize>() {
            0 => Err(libc::EBADF),
            _ => Ok(name.socket),
        }
    }

    /// The last copy of a lease is gone.
    pub(super) fn lease_gone(&mut self, number: u32) {
        let Some(lease) = self.leases.by_number.remove(&number) else {
            return;
        };
        self.leases.by_inode.remove(&lease.inode);
        let worker = self.shared.segment.geometry().worker_of(lease.name.socket);
        if let Some(inbox) = self.shared.inboxes.get(worker) {
            inbox.send(Message::LeaseGone(number, lease.name));
        }
    }

    pub(super) fn end_leases(&mut self) {
        while let Some((number, _)) = self.leases.by_number.first_key_value() {
            self.lease_gone(*number);
        }
    }
}
