//! Which way leads to a peer, and from which address of the stack.

use super::Stack;
use super::connection::Hop;
use crate::net::{Address, Destination};
use std::net::{IpAddr, Ipv4Addr};

impl Stack {
    /// Whether an address is reached inside this stack.
    pub fn is_local(&self, address: Address) -> bool {
        let ours = match address.ip() {
            IpAddr::V4(v4) => v4.is_loopback() || self.addresses.is_ours(v4),
            IpAddr::V6(_) => false,
        };
        self.shared.config.loopback && ours
    }

    /// The address to connect to `remote` from, and whether that leads back into this stack.
    /// `bound` is the address that the socket is bound to, unspecified for none.
    ///
    /// # Errors
    /// ENETUNREACH.
    pub fn source_for(&self, bound: IpAddr, remote: Address) -> Result<(Address, Hop), i32> {
        let local = self.is_local(remote);
        let chosen = match (local, remote.ip()) {
            (true, ip) => ip,
            (false, IpAddr::V4(v4)) => self.source_v4(v4).ok_or(libc::ENETUNREACH)?.into(),
            (false, IpAddr::V6(_)) => return Err(libc::ENETUNREACH),
        };
        let source = match bound.is_unspecified() {
            true => chosen,
            false if bound.is_ipv4() == chosen.is_ipv4() => bound,
            false => return Err(libc::ENETUNREACH),
        };
        let hop = if local { Hop::Loopback } else { Hop::Unknown };
        Ok((source.into(), hop))
    }

    fn source_v4(&self, remote: Ipv4Addr) -> Option<Ipv4Addr> {
        let to = self.addresses.classify(remote);
        if to != Destination::Elsewhere || remote.is_unspecified() {
            return None;
        }
        let hop = self.routes.lookup(remote)?;
        hop.source
            .or_else(|| self.addresses.source_for(hop.neighbor))
    }
}
