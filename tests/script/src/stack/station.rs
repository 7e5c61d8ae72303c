//! The station at the other end of the wire: the router that everything remote is behind.

use crate::bed::{Bed, Setup, mac};
use crate::run::Addresses;
use crate::wire::{Datagram, Message, Payload};
use engine::binds::Bind;
use engine::net::ipv6::{Ipv6Config, Prefix6, Route6};
use engine::net::{InterfaceAddress, Prefix, Route};
use engine::shared::{Listener, Message as Order, lock};
use psio::MacAddr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

const ROUTER4: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 2);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfd3d, 0x0a0b, 0x17d6, 0, 0, 0, 0, 2);
/// Neighbour discovery: solicitation and advertisement (RFC 4861 4.3, 4.4).
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const NEXT_HEADER_ICMP6: u8 = 58;
/// "Solicited" and "override".
const SOLICITED: u32 = 0x6000_0000;

/// The router's address on the wire.
pub fn station() -> MacAddr {
    mac(2)
}

/// Gives the stack its address, and a default route to the router.
///
/// # Errors
/// An address that no interface can have.
pub fn configure(setup: &mut Setup, addresses: Addresses) -> Result<(), String> {
    let config = &mut setup.config;
    let prefix = Prefix::new(Ipv4Addr::UNSPECIFIED, 0).ok_or("no prefix")?;
    config.neighbors = vec![(Prefix::host(ROUTER4), station())];
    config.routes = vec![Route {
        prefix,
        interface: 0,
        gateway: Some(ROUTER4),
        source: None,
        metric: 0,
    }];
    let local = match addresses.local {
        IpAddr::V4(local) => local,
        IpAddr::V6(local) => {
            config.ipv6 = Some(Ipv6Config {
                addresses: vec![(local, 64)],
                routes: vec![Route6 {
                    prefix: Prefix6::new(Ipv6Addr::UNSPECIFIED, 0).ok_or("no prefix")?,
                    gateway: Some(ROUTER6),
                }],
                ..Ipv6Config::default()
            });
            Ipv4Addr::new(192, 168, 0, 1)
        }
    };
    config.addresses = vec![InterfaceAddress::new(local, 16).ok_or("no interface address")?];
    Ok(())
}

/// What the router answers to a datagram for itself: that it is there.
pub fn answer(datagram: &[u8]) -> Option<Vec<u8>> {
    if datagram[0] >> 4 != 6 || *datagram.get(6)? != NEXT_HEADER_ICMP6 {
        return None;
    }
    let target = <[u8; 16]>::try_from(datagram.get(48..64)?).ok()?;
    if *datagram.get(40)? != SOLICITATION || Ipv6Addr::from(target) != ROUTER6 {
        return None;
    }
    let asker = <[u8; 16]>::try_from(datagram.get(8..24)?).ok()?;
    let mut data = target.to_vec();
    // Option 2, one unit of eight bytes: the target's station.
    data.extend([2, 1]);
    data.extend(station().0);
    let advertisement = Datagram {
        src: ROUTER6.into(),
        dst: Ipv6Addr::from(asker).into(),
        tos: 0,
        ttl: 255,
        payload: Payload::Icmp(Message {
            kind: ADVERTISEMENT,
            code: 0,
            rest: SOLICITED,
            data,
        }),
    };
    Some(advertisement.bytes())
}

/// The router's own question after the stack, by which the stack learns its station.
pub fn introduction(addresses: Addresses) -> Option<Vec<u8>> {
    let IpAddr::V6(local) = addresses.local else {
        return None;
    };
    let mut data = local.octets().to_vec();
    // Option 1, one unit of eight bytes: the asker's station.
    data.extend([1, 1]);
    data.extend(station().0);
    let solicitation = Datagram {
        src: ROUTER6.into(),
        dst: addresses.local,
        tos: 0,
        ttl: 255,
        payload: Payload::Icmp(Message {
            kind: SOLICITATION,
            code: 0,
            rest: 0,
            data,
        }),
    };
    Some(solicitation.bytes())
}

fn any(addresses: Addresses) -> IpAddr {
    match addresses.local {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// `bind(2)` to the any-address of the script's family, as the control thread serves it. False if the
/// address is taken.
pub fn bind(bed: &mut Bed, addresses: Addresses, socket: u32, port: u16) -> bool {
    let record = bed.shared.segment.socket(socket).expect("a granted record");
    let bits = record.options.bits.load(SeqCst);
    let bind = Bind {
        socket,
        address: any(addresses),
        only_v6: false,
        reuse_address: bits & context::socket::option::REUSEADDR != 0,
        reuse_port: bits & context::socket::option::REUSEPORT != 0,
        listens: false,
        uid: 0,
    };
    if lock(&bed.shared.binds).bind(port, bind, 1, |_| false) != Some(port) {
        return false;
    }
    record.names.set((any(addresses), port).into(), None);
    let bound = context::socket::state::BOUND;
    record.engine.state.fetch_or(bound, SeqCst);
    true
}

/// `listen(2)` on a bound socket, as the control thread serves it.
pub fn listen(bed: &mut Bed, addresses: Addresses, socket: u32, backlog: u32) -> bool {
    let Some((_, port)) = lock(&bed.shared.binds).claim(socket) else {
        return false;
    };
    let listener = Arc::new(Listener {
        socket,
        address: any(addresses),
        only_v6: false,
        port,
        backlog: backlog.into(),
        watches: Default::default(),
    });
    bed.ask(|done| Order::Listen { listener, done })
}
