//! The program that an interface runs for each frame (bpf(2)): it hands the frames of a receive queue
//! to the AF_XDP socket of that queue, and those of a queue without one to the kernel.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::Error;
use crate::bpf::{self, EXIT, Instruction, op};

/// Commands of bpf(2).
const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_LINK_CREATE: libc::c_int = 28;

const BPF_MAP_TYPE_XSKMAP: u32 = 17;
/// The place at which a program sits: an interface's receive path.
const BPF_XDP: u32 = 37;
/// The helper `bpf_redirect_map`.
const REDIRECT_MAP: i32 = 51;
/// What the program answers for a frame that goes on to the kernel.
const XDP_PASS: i32 = 2;
/// Where `struct xdp_md` has the receive queue's number.
const RX_QUEUE_INDEX: i16 = 16;
/// Says that the source register's place in an instruction holds a map's descriptor.
const BPF_PSEUDO_MAP_FD: u8 = 1;

/// The commands' parts of `union bpf_attr`, as far as they are used.
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

#[repr(C)]
struct MapUpdate {
    map: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    place: u32,
    flags: u32,
}

/// `return bpf_redirect_map(map, ctx->rx_queue_index, XDP_PASS)`: five instructions, of which the
/// second takes two places.
fn code(map: BorrowedFd<'_>) -> [Instruction; 6] {
    [
        // r2 = *(u32 *)(r1 + RX_QUEUE_INDEX)
        op(0x61, 2, 1, RX_QUEUE_INDEX, 0),
        // r1 = map
        op(0x18, 1, BPF_PSEUDO_MAP_FD, 0, map.as_raw_fd()),
        op(0, 0, 0, 0, 0),
        // r3 = XDP_PASS, for a queue that is not in the map
        op(0xb7, 3, 0, 0, XDP_PASS),
        // call bpf_redirect_map
        op(0x85, 0, 0, 0, REDIRECT_MAP),
        EXIT,
    ]
}

/// The program, loaded, with its map from queues to sockets.
pub struct Program {
    map: OwnedFd,
    program: OwnedFd,
}

/// The program's place at an interface. It is taken away when this is dropped, or the process ends.
pub struct Link {
    _link: OwnedFd,
}

impl Program {
    /// Loads the program for `queues` queues. No interface runs it yet.
    pub fn load(device: &str, queues: usize) -> Result<Program, Error> {
        let map = MapCreate {
            kind: BPF_MAP_TYPE_XSKMAP,
            key_size: size_of::<u32>() as u32,
            value_size: size_of::<u32>() as u32,
            max_entries: queues as u32,
            flags: 0,
        };
        // SAFETY: the command reads the attributes only.
        let map = unsafe { bpf::make(BPF_MAP_CREATE, &map) };
        let map = map.map_err(|error| refused(device, error, "make a map of its sockets"))?;
        let program = bpf::load(bpf::XDP, &code(map.as_fd()));
        let program = program.map_err(|error| refused(device, error, "load its program"))?;
        Ok(Program { map, program })
    }

    /// Has the interface run the program from now on, unless it runs one already.
    pub fn attach(&self, device: &str, interface: u32) -> Result<Link, Error> {
        let link = LinkCreate {
            program: self.program.as_raw_fd() as u32,
            interface,
            place: BPF_XDP,
            // The driver runs it if it can, else the kernel does before it looks at the frame.
            flags: 0,
        };
        // SAFETY: the command reads the attributes only.
        let link = unsafe { bpf::make(BPF_LINK_CREATE, &link) };
        let link = link.map_err(|error| not_attached(device, error))?;
        Ok(Link { _link: link })
    }

    /// Has the program hand the frames of a queue to a socket.
    pub fn redirect(&self, queue: usize, socket: BorrowedFd<'_>) -> io::Result<()> {
        let (key, value) = (queue as u32, socket.as_raw_fd() as u32);
        let update = MapUpdate {
            map: self.map.as_raw_fd() as u32,
            reserved: 0,
            key: (&raw const key).addr() as u64,
            value: (&raw const value).addr() as u64,
            flags: 0,
        };
        // SAFETY: the command reads the attributes and, where they point to, a key and a value of the
        // map's sizes, which outlive the call.
        unsafe { bpf::call(BPF_MAP_UPDATE_ELEM, &update) }.map(drop)
    }
}

/// Says what is missing when the kernel refuses map or program.
fn refused(device: &str, error: io::Error, what: &str) -> Error {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => missing_privileges(device),
        Some(libc::ENOSYS | libc::EINVAL) => Error::Missing {
            what: format!("this kernel has no AF_XDP, without which {device} cannot be opened"),
            remedy: "CONFIG_BPF_SYSCALL and CONFIG_XDP_SOCKETS turn it on; without, \
                     packet:IF works"
                .into(),
        },
        _ => Error::io(format!("{device}: {what}"))(error),
    }
}

/// The error of a process that may not do what an AF_XDP device needs.
pub fn missing_privileges(device: &str) -> Error {
    Error::Missing {
        what: format!(
            "CAP_BPF, CAP_NET_ADMIN or CAP_NET_RAW is missing, without which {device} cannot be opened"
        ),
        remedy: "run as root, or give mtcp-run the capabilities (`setcap \
                 cap_bpf,cap_net_admin,cap_net_raw,cap_ipc_lock+ep mtcp-run`); a user namespace's own \
                 root does not have them"
            .into(),
    }
}

fn not_attached(device: &str, error: io::Error) -> Error {
    let interface = device.trim_start_matches("xdp:");
    let missing = |what: String, remedy: String| Error::Missing { what, remedy };
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => missing_privileges(device),
        Some(libc::EBUSY | libc::EEXIST) => missing(
            format!("{interface} runs another XDP program already, which stays"),
            format!(
                "`ip link show {interface}` names it; end the process that it belongs to, or take it \
                 away with `ip link set {interface} xdp off`"
            ),
        ),
        Some(libc::ERANGE) => missing(
            format!(
                "the driver of {interface} runs no XDP program with frames as long as its MTU, or its peer's, lets them be"
            ),
            format!("lower it (`ip link set {interface} mtu 1500`), or take packet:{interface}"),
        ),
        Some(libc::ENOSPC) => missing(
            format!("the driver of {interface} has no queues left for an XDP program"),
            format!(
                "lower its number of queues (`ethtool -L {interface} combined 1`); a veth pair sends by \
                 no more queues than the other end receives by"
            ),
        ),
        Some(libc::EOPNOTSUPP) => missing(
            format!("the driver of {interface} refuses an XDP program"),
            format!(
                "the kernel's log may say why (offloads such as LRO have to be off: `ethtool -K \
                 {interface} lro off gro-hw off`); or take packet:{interface}"
            ),
        ),
        _ => Error::io(format!("have {interface} run an XDP program"))(error),
    }
}
