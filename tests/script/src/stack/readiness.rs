//! poll(2) and epoll(7) over the shared records: the level of a socket, and sets of descriptors.

use super::sockets::{Descriptor, Sockets, no, yes};
use crate::call::Outcome;
use context::socket::{flag, state};
use std::sync::atomic::Ordering::SeqCst;

impl Sockets {
    /// What poll(2) says of a socket.
    fn level(&self, fd: i32) -> u32 {
        let Some(handle) = self.handle(fd) else {
            return libc::POLLNVAL as u32;
        };
        let record = self.record(handle);
        let word = record.engine.state.load(SeqCst);
        let flags = record.app.flags.load(SeqCst);
        let error = record.engine.error.load(SeqCst) != 0;
        let tcp = record.tcp_state();
        if tcp == state::LISTEN {
            let waits = self.has_connections(handle);
            return if waits { libc::EPOLLIN as u32 } else { 0 };
        }
        let attempted = flags & flag::CONNECTING != 0 && word & state::RX_SHUT == 0 && !error;
        let connecting = tcp == state::CLOSE && attempted;
        let read_shut = word & state::RX_SHUT != 0 || flags & flag::SHUT_RD != 0;
        let write_shut = word & state::TX_SHUT != 0 || flags & flag::SHUT_WR != 0;
        let mut level = 0;
        if (tcp == state::CLOSE && !connecting) || (read_shut && write_shut) {
            level |= libc::EPOLLHUP;
        }
        if read_shut {
            level |= libc::EPOLLIN | libc::EPOLLRDHUP;
        }
        if !connecting && tcp != state::SYN_SENT && tcp != state::SYN_RECV {
            let (_, skip) = self.before_mark(handle, 0);
            if record.readable() > skip {
                level |= libc::EPOLLIN;
            }
            if record.has_urgent() {
                level |= libc::EPOLLPRI;
            }
            if write_shut || tcp == state::CLOSE || record.has_room() {
                level |= libc::EPOLLOUT;
            }
        }
        if error {
            level |= libc::EPOLLERR;
        }
        level as u32
    }

    /// Only a wait without end, or none at all: the clock is not ours.
    fn wait(&self, asked: &[(i32, u32)], timeout: i32) -> Option<Outcome> {
        let always = (libc::EPOLLERR | libc::EPOLLHUP) as u32 | libc::POLLNVAL as u32;
        let events: Vec<_> = asked
            .iter()
            .map(|(fd, events)| (*fd, self.level(*fd) & (events | always)))
            .filter(|(_, events)| *events != 0)
            .collect();
        if events.is_empty() && timeout != 0 {
            return None;
        }
        Some(Outcome {
            value: events.len() as i64,
            events,
            ..Outcome::default()
        })
    }

    pub(super) fn poll(&self, fds: &[(i32, i16)], timeout: i32) -> Option<Outcome> {
        let asked: Vec<(i32, u32)> = fds.iter().map(|(fd, e)| (*fd, *e as u32)).collect();
        self.wait(&asked, timeout)
    }

    pub(super) fn epoll_control(
        &mut self,
        set: i32,
        operation: i32,
        fd: i32,
        events: u32,
    ) -> Option<Outcome> {
        let Some(Descriptor::Set(members)) = self.descriptor(set) else {
            return no(libc::EINVAL);
        };
        members.retain(|(member, _)| *member != fd);
        if operation != libc::EPOLL_CTL_DEL {
            members.push((fd, events));
        }
        yes(0)
    }

    pub(super) fn epoll_wait(&mut self, set: i32, most: i32, timeout: i32) -> Option<Outcome> {
        let Some(Descriptor::Set(members)) = self.descriptor(set) else {
            return no(libc::EINVAL);
        };
        let members = members.clone();
        let mut outcome = self.wait(&members, timeout)?;
        outcome.events.truncate(most.max(0) as usize);
        outcome.value = outcome.events.len() as i64;
        Some(outcome)
    }
}
