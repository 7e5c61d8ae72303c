//! Interfaces of the kernel (netdevice(7)).
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::sys::{check, datagram_socket};
use crate::{Error, MacAddr};

/// What is known of an interface.
pub struct Interface {
    pub index: u32,
    pub mac: MacAddr,
    pub mtu: usize,
}

/// Looks an interface up by its name.
pub fn look_up(name: &str) -> Result<Interface, Error> {
    let missing = |what: String, remedy: &str| Error::Missing {
        what,
        remedy: remedy.into(),
    };
    let unknown = || {
        missing(
            format!("there is no interface {name:?}"),
            "`ip link` lists those of this network namespace",
        )
    };
    let text = CString::new(name).map_err(|_| unknown())?;
    // SAFETY: a C string.
    let index = unsafe { libc::if_nametoindex(text.as_ptr()) };
    if index == 0 || name.len() >= libc::IFNAMSIZ {
        return Err(unknown());
    }
    let socket = datagram_socket().map_err(Error::io("socket"))?;
    let ask = |call: libc::Ioctl, what: &str| {
        let mut request = request(name);
        // SAFETY: the calls made here read and write one ifreq.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), call, &raw mut request) })
            .map_err(Error::io(format!("{what} of {name}")))?;
        Ok(request.ifr_ifru)
    };
    // SAFETY: SIOCGIFFLAGS fills the flags in.
    let flags = unsafe { ask(libc::SIOCGIFFLAGS, "flags")?.ifru_flags };
    if libc::c_int::from(flags) & libc::IFF_UP == 0 {
        let remedy = format!("`ip link set {name} up`");
        return Err(missing(format!("interface {name} is down"), &remedy));
    }
    // SAFETY: SIOCGIFHWADDR fills the hardware address in.
    let hardware = unsafe { ask(libc::SIOCGIFHWADDR, "address")?.ifru_hwaddr };
    if hardware.sa_family != libc::ARPHRD_ETHER {
        return Err(missing(
            format!("interface {name} carries no Ethernet frames"),
            "name an Ethernet interface",
        ));
    }
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(hardware.sa_data) {
        *to = from as u8;
    }
    // SAFETY: SIOCGIFMTU fills the MTU in.
    let mtu = unsafe { ask(libc::SIOCGIFMTU, "MTU")?.ifru_mtu };
    Ok(Interface {
        index,
        mac: MacAddr(mac),
        mtu: usize::try_from(mtu).unwrap_or(0).min(65_521),
    })
}

/// A question about the interface of that name, which is shorter than `IFNAMSIZ`.
pub fn request(name: &str) -> libc::ifreq {
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

/// Whether there still is an interface of that index.
pub fn exists(index: u32) -> bool {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the length that if_indextoname(3) asks for.
    !unsafe { libc::if_indextoname(index, name.as_mut_ptr()) }.is_null()
}

/// Has an interface receive all multicast frames as long as the packet socket is open: neighbour
/// discovery of IPv6 is by multicast.
pub fn hear_all_multicast(packet_socket: &impl AsRawFd, interface: u32) -> io::Result<()> {
    let membership = libc::packet_mreq {
        mr_ifindex: interface as libc::c_int,
        mr_type: libc::PACKET_MR_ALLMULTI as libc::c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    let len = size_of_val(&membership) as libc::socklen_t;
    // SAFETY: the pointer and the length are those of `membership`.
    check(unsafe {
        libc::setsockopt(
            packet_socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const membership).cast(),
            len,
        )
    })
    .map(drop)
}

/// A packet socket that receives nothing.
pub fn deaf_packet_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the result is checked.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: fresh from the kernel: nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
