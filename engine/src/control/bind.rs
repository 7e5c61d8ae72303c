//! bind(2) and listen(2).

use super::Control;
use super::process::Process;
use crate::binds::Bind;
use crate::shared::{Listener, Message, lock};
use crate::sys;
use context::control::Name;
use context::socket::{AcceptRing, option, state};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Ports below this are for root (`ip_unprivileged_port_start`).
const PRIVILEGED: u16 = 1024;

impl Control {
    /// `process` asks for a name for its socket.
    pub(super) fn bind(&self, process: &Process, socket: u32, to: SocketAddr) -> Result<(), i32> {
        self.require_holder(process, socket)?;
        self.name(process.uid, socket, to)
    }

    /// `EBADF` unless `process` holds the socket.
    fn require_holder(&self, process: &Process, socket: u32) -> Result<(), i32> {
        let record = self.shared.segment.socket(socket).ok_or(libc::EBADF)?;
        let generation = record.engine.generation.load(Relaxed) as u16;
        let name = Name { socket, generation };
        match self.share(process, process.number, [name].into())? {
            0 => Err(libc::EBADF),
            _ => Ok(()),
        }
    }

    fn name(&self, uid: u32, socket: u32, to: SocketAddr) -> Result<(), i32> {
        let record = self.shared.segment.socket(socket).ok_or(libc::EBADF)?;
        let is_bound = record.engine.state.load(SeqCst) & state::BOUND != 0;
        if is_bound || record.tcp_state() != state::CLOSE {
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
            uid,
            listens: false,
        };
        // Whoever has the port may have closed it, by a command that is still on its way.
        let port = self
            .claim(to.port(), bind)
            .or_else(|| {
                self.ask(|done| Message::Sync { done }).ok()?;
                self.claim(to.port(), bind)
            })
            .ok_or(libc::EADDRINUSE)?;
        record.names.set((address, port).into(), None);
        record.engine.state.fetch_or(state::BOUND, SeqCst);
        Ok(())
    }

    /// Claims a port (0: a free one) for a socket. `None`: it is in use.
    fn claim(&self, port: u16, bind: Bind) -> Option<u16> {
        let seed = u16::from_ne_bytes(sys::random());
        let sharing = |socket| {
            let record = self.shared.segment.socket(socket)?;
            let bits = record.options.bits.load(Relaxed);
            Some((bits & option::REUSEADDR != 0, bits & option::REUSEPORT != 0))
        };
        let in_use = |port| self.shared.ports.iter().any(|worker| worker.has(port));
        let claimed = {
            let mut binds = lock(&self.shared.binds);
            binds.refresh(port, sharing);
            binds.bind(port, bind, seed, in_use)?
        };
        let conflict = |done| Message::Conflict { bind, port, done };
        let refused =
            in_use(port) && !matches!(self.ask(conflict), Ok(found) if !found.contains(&true));
        if refused {
            lock(&self.shared.binds).release(bind.socket);
            return None;
        }
        Some(claimed)
    }

    /// `process` makes its socket a listener, or changes its backlog.
    pub(super) fn listen(&self, process: &Process, socket: u32, backlog: u32) -> Result<(), i32> {
        self.require_holder(process, socket)?;
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
            self.name(process.uid, socket, (Ipv4Addr::UNSPECIFIED, 0).into())?;
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
