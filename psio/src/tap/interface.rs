//! The kernel's side of a TAP: making the interface and setting it up (tun.rst in the kernel's
//! documentation, netdevice(7)).
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::zeroed;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::Error;
use crate::steering::Steering;
use crate::sys::{check, datagram_socket};
use crate::vnet;

const CLONE_DEVICE: &str = "/dev/net/tun";

/// `_IOR('T', 224, int)` of linux/if_tun.h.
const TUNSETSTEERINGEBPF: libc::Ioctl = 0x8004_54e0;

/// What was made.
pub struct Interface {
    /// The name the kernel has given it.
    pub name: String,
    /// One descriptor to each queue; the interface lives as long as any of them.
    pub queues: Vec<File>,
    /// Whether the kernel hands over TCP super-segments.
    pub coalescing: bool,
}

/// Makes a TAP interface called `name` (which may hold `%d`) with `queues` queues.
pub fn create(name: &str, queues: usize) -> Result<Interface, Error> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(['/', ':', ' ', '\0']) {
        return Err(Error::Description(format!(
            "{name:?} is no interface name: 1 to 15 characters, none of them '/', ':' or a space"
        )));
    }
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if queues > 1 {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    let mut interface = Interface {
        name: name.into(),
        queues: Vec::new(),
        coalescing: false,
    };
    for _ in 0..queues {
        let file = open_clone_device()?;
        interface.name = attach(&file, &interface.name, flags)?;
        interface.queues.push(file);
    }
    if let Some(file) = interface.queues.first() {
        interface.coalescing = set_offloads(file, &interface.name);
    }
    Ok(interface)
}

fn open_clone_device() -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(CLONE_DEVICE)
        .map_err(open_error)
}

/// Says what is missing when the clone device does not open.
pub fn open_error(error: io::Error) -> Error {
    let missing = |what: &str, remedy: &str| Error::Missing {
        what: format!("{CLONE_DEVICE} {what}"),
        remedy: remedy.into(),
    };
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => missing(
            "is missing",
            "load the driver with `modprobe tun`; in a container, pass the device in",
        ),
        Some(libc::EACCES | libc::EPERM) => missing(
            "may not be opened by this user",
            "run as root, or open it to all with `chmod 666 /dev/net/tun` and use --rootless",
        ),
        _ => Error::io(format!("open {CLONE_DEVICE}"))(error),
    }
}

/// Makes `file` a queue of the interface, which comes into being with its first; returns its name.
fn attach(file: &File, name: &str, flags: libc::c_int) -> Result<String, Error> {
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq.
    let result = check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) });
    match result {
        Ok(_) => {
            let name = request.ifr_name.iter().take_while(|&&c| c != 0);
            Ok(name.map(|&c| char::from(c as u8)).collect())
        }
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => Err(Error::Missing {
            what: format!("CAP_NET_ADMIN is missing, without which no TAP ({name}) can be made"),
            remedy: "run as root, or give mtcp-run the capability \
                     (`setcap cap_net_admin+ep mtcp-run`), or use --rootless"
                .into(),
        }),
        Err(e) => Err(match e.raw_os_error() {
            Some(libc::EINVAL) => Error::Missing {
                what: format!(
                    "there is an interface {name}, which is no TAP or has another number of queues"
                ),
                remedy: "choose another name, or `tap` for one that is free".into(),
            },
            Some(libc::EBUSY) => Error::Missing {
                what: format!("the TAP interface {name} is in use by another process"),
                remedy: "choose another name, or `tap` for one that is free".into(),
            },
            _ => Error::io(format!("make the TAP interface {name}"))(e),
        }),
    }
}

/// Lets the kernel choose the queue of each frame by a program. Without one it remembers for some
/// thousand flows which queue last sent on them, and spreads others by a hash of its own.
pub fn steer(queue: &File, steering: &Steering) -> io::Result<()> {
    let program = steering.as_raw_fd();
    // SAFETY: TUNSETSTEERINGEBPF reads one int.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), TUNSETSTEERINGEBPF, &raw const program) };
    check(result).map(drop)
}

/// Takes what the kernel gives of the offloads; says whether super-segments are among it.
fn set_offloads(file: &File, name: &str) -> bool {
    let size = vnet::LEN as libc::c_int;
    // SAFETY: TUNSETVNETHDRSZ reads one int.
    let result =
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size) });
    if let Err(error) = result {
        // The size asked for is the one that the kernel starts with.
        tracing::warn!(interface = name, %error, "setting the TAP's header size was refused");
    }

    let tcp = libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    for offloads in [libc::TUN_F_CSUM | tcp, libc::TUN_F_CSUM] {
        let offloads = libc::c_ulong::from(offloads);
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        match check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) }) {
            Ok(_) => return offloads & libc::c_ulong::from(tcp) != 0,
            Err(error) => {
                tracing::warn!(interface = name, offloads, %error, "TAP offloads refused");
            }
        }
    }
    false
}

/// A socket to set interfaces up with.
pub struct Control(OwnedFd);

impl Control {
    pub fn new() -> Result<Control, Error> {
        datagram_socket().map(Control).map_err(Error::io("socket"))
    }

    /// Largest IP packet, in bytes.
    pub fn set_mtu(&self, name: &str, mtu: usize) -> Result<(), Error> {
        let mut request = request(name);
        request.ifr_ifru.ifru_mtu = mtu.try_into().unwrap_or(libc::c_int::MAX);
        self.set(libc::SIOCSIFMTU, request)
            .map_err(Error::io(format!("set the MTU of {name} to {mtu}")))
    }

    /// Frames that the kernel keeps for us before it drops any.
    pub fn set_queue_len(&self, name: &str, frames: u16) -> Result<(), Error> {
        let mut request = request(name);
        request.ifr_ifru.ifru_metric = frames.into();
        self.set(libc::SIOCSIFTXQLEN, request)
            .map_err(Error::io(format!("set the queue length of {name}")))
    }

    /// The kernel's own address on the interface, which brings a route to its network.
    pub fn set_address(&self, name: &str, address: Ipv4Addr, prefix: u8) -> Result<(), Error> {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        for (call, value) in [
            (libc::SIOCSIFADDR, address),
            (libc::SIOCSIFNETMASK, Ipv4Addr::from_bits(mask)),
        ] {
            let mut request = request(name);
            request.ifr_ifru.ifru_addr = socket_address(value);
            self.set(call, request).map_err(Error::io(format!(
                "set the address of {name} to {address}/{prefix}"
            )))?;
        }
        Ok(())
    }

    /// Makes the interface carry frames.
    pub fn bring_up(&self, name: &str) -> Result<(), Error> {
        let mut request = request(name);
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        self.set(libc::SIOCSIFFLAGS, request)
            .map_err(Error::io(format!("bring {name} up")))
    }

    fn set(&self, call: libc::Ioctl, request: libc::ifreq) -> io::Result<()> {
        // SAFETY: all the calls made here read one ifreq.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), call, &raw const request) }).map(drop)
    }
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { zeroed() };
    // The last byte stays zero.
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(name.bytes())
    {
        *to = from as libc::c_char;
    }
    request
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    // A sockaddr_in: the port in two bytes, then the address.
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    libc::sockaddr {
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data: data,
    }
}
