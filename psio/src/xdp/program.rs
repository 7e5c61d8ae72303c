//! The program that an interface runs for each frame (bpf(2)): it hands the frames of a receive queue
//! to the AF_XDP socket of that queue, and those of a queue without one to the kernel.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::Error;
use crate::sys::check;

/// Commands of bpf(2).
const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;

const BPF_MAP_TYPE_XSKMAP: u32 = 17;
const BPF_PROG_TYPE_XDP: u32 = 6;
/// The place at which a program sits: an interface's receive path.
const BPF_XDP: u32 = 37;
/// The helper `bpf_redirect_map`.
const REDIRECT_MAP: u32 = 51;
/// What the program answers for a frame that goes on to the kernel.
const XDP_PASS: u32 = 2;
/// Where `struct xdp_md` has the receive queue's number.
const RX_QUEUE_INDEX: u16 = 16;
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
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    place: u32,
    flags: u32,
}

/// One instruction: operation, destination and source register, offset, immediate value.
const fn instruction(operation: u8, to: u8, from: u8, offset: u16, value: u32) -> u64 {
    operation as u64
        | (to as u64) << 8
        | (from as u64) << 12
        | (offset as u64) << 16
        | (value as u64) << 32
}

/// `return bpf_redirect_map(map, ctx->rx_queue_index, XDP_PASS)`: five instructions, of which the
/// second takes two places.
fn instructions(map: BorrowedFd<'_>) -> [u64; 6] {
    let map = map.as_raw_fd() as u32;
    [
        // r2 = *(u32 *)(r1 + RX_QUEUE_INDEX)
        instruction(0x61, 2, 1, RX_QUEUE_INDEX, 0),
        // r1 = map
        instruction(0x18, 1, BPF_PSEUDO_MAP_FD, 0, map),
        0,
        // r3 = XDP_PASS, for a queue that is not in the map
        instruction(0xb7, 3, 0, 0, XDP_PASS),
        // call bpf_redirect_map
        instruction(0x85, 0, 0, 0, REDIRECT_MAP),
        // exit
        instruction(0x95, 0, 0, 0, 0),
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
        let map = unsafe { make(BPF_MAP_CREATE, &map) };
        let map = map.map_err(|error| refused(device, error, "make a map of its sockets"))?;
        let instructions = instructions(map.as_fd());
        let license = c"MIT";
        let load = ProgramLoad {
            kind: BPF_PROG_TYPE_XDP,
            instruction_count: instructions.len() as u32,
            instructions: instructions.as_ptr().addr() as u64,
            license: license.as_ptr().addr() as u64,
        };
        // SAFETY: the command reads the attributes and what they point to: as many instructions as
        // they say, and a C string. All outlive the call.
        let program = unsafe { make(BPF_PROG_LOAD, &load) };
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
        let link = unsafe { make(BPF_LINK_CREATE, &link) };
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
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &update) }.map(drop)
    }
}

/// Calls bpf(2).
///
/// # Safety
/// `attributes` are those of the command, and what they point to is there for the kernel to use.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    let pointer = (&raw const *attributes).addr();
    // SAFETY: pointer and length are those of `attributes`; for the rest the caller answers.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<T>()) };
    check(result as libc::c_int)
}

/// Calls bpf(2) for something that is known by a descriptor, which is closed by exec.
///
/// # Safety
/// As for [`bpf`], of a command that answers with a new descriptor.
unsafe fn make<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller answers for the call; the descriptor is fresh from the kernel, so nobody
    // else owns it.
    unsafe { bpf(command, attributes).map(|fd| OwnedFd::from_raw_fd(fd)) }
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
