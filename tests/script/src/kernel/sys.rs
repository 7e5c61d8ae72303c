//! System calls: the namespace, the TUN, and those that a script makes.
#![allow(unsafe_code)]

use crate::call::{Call, Outcome};
use crate::flow::pattern;
use crate::run::{Addresses, PORT};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Moves this thread, and nobody else, into a new network namespace.
pub fn leave_network_namespace() -> io::Result<()> {
    // SAFETY: no pointers are passed; CLONE_NEWNET concerns only the calling thread.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A TUN interface, which carries IP datagrams without any header before them.
pub fn open_tun(name: &str) -> io::Result<File> {
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(name.bytes())
    {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq.
    match unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } {
        0 => Ok(tun),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has the scheduler prefer this thread and those that it starts, where that is allowed.
pub fn ask_for_real_time() {
    // SAFETY: the parameter block lives through the calls.
    unsafe {
        let priority = libc::sched_get_priority_min(libc::SCHED_RR);
        let mut parameters: libc::sched_param = zeroed();
        parameters.sched_priority = priority;
        // Without it, the run is only less exact.
        libc::sched_setscheduler(0, libc::SCHED_RR, &raw const parameters);
    }
}

/// Whether there is something to read, waiting for it at most so long.
pub fn is_readable(file: &File, patience: Duration) -> bool {
    let mut poll = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: `poll` is one pollfd that lives through the call.
    unsafe { libc::poll(&raw mut poll, 1, patience.as_millis() as i32) > 0 }
}

/// Bytes written to each descriptor, so that streams carry the pattern.
static WRITTEN: Mutex<Option<HashMap<i32, u64>>> = Mutex::new(None);

fn written<T>(with: impl FnOnce(&mut HashMap<i32, u64>) -> T) -> T {
    let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    with(written.get_or_insert_default())
}

fn outcome(result: i64) -> Outcome {
    match result {
        -1 => Outcome::failed(io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        value => Outcome::done(value),
    }
}

/// An address as the kernel wants it, and its length.
fn name(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: an all-zero sockaddr_storage is valid, and it is large and aligned enough for both.
    unsafe {
        let mut storage: libc::sockaddr_storage = zeroed();
        match address {
            SocketAddr::V4(v4) => {
                let to = (&raw mut storage).cast::<libc::sockaddr_in>();
                (*to).sin_family = libc::AF_INET as libc::sa_family_t;
                (*to).sin_port = v4.port().to_be();
                (*to).sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                (storage, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(v6) => {
                let to = (&raw mut storage).cast::<libc::sockaddr_in6>();
                (*to).sin6_family = libc::AF_INET6 as libc::sa_family_t;
                (*to).sin6_port = v6.port().to_be();
                (*to).sin6_addr.s6_addr = v6.ip().octets();
                (storage, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }
}

/// Makes a call; it may block.
pub fn call(call: &Call, addresses: Addresses) -> Outcome {
    match call {
        Call::Socket {
            family,
            kind,
            protocol,
        } => {
            let family = match (family, addresses.local) {
                (0, IpAddr::V4(_)) => libc::AF_INET,
                (0, IpAddr::V6(_)) => libc::AF_INET6,
                (family, _) => *family,
            };
            // SAFETY: no pointers.
            let fd = outcome(unsafe { libc::socket(family, *kind, *protocol) }.into());
            written(|w| w.insert(fd.value as i32, 0));
            fd
        }
        Call::Bind { fd, port } => {
            let any = match addresses.local {
                IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
            };
            let (name, len) = name(SocketAddr::new(any, *port));
            // SAFETY: pointers and lengths are those of values that live through the call.
            outcome(unsafe { libc::bind(*fd, (&raw const name).cast(), len) }.into())
        }
        // SAFETY: no pointers.
        Call::Listen { fd, backlog } => outcome(unsafe { libc::listen(*fd, *backlog) }.into()),
        Call::Accept { fd, flags } => {
            let null = std::ptr::null_mut();
            // SAFETY: null means that the address is not wanted.
            let fd =
                outcome(unsafe { libc::accept4(*fd, null, std::ptr::null_mut(), *flags) }.into());
            written(|w| w.insert(fd.value as i32, 0));
            fd
        }
        Call::Connect { fd } => {
            let (name, len) = name(SocketAddr::new(addresses.remote, PORT));
            // SAFETY: pointers and lengths are those of values that live through the call.
            outcome(unsafe { libc::connect(*fd, (&raw const name).cast(), len) }.into())
        }
        Call::Send { .. } => send(call, addresses),
        Call::Receive { fd, len, flags } => {
            let mut bytes = vec![0u8; *len];
            // SAFETY: pointers and lengths are those of values that live through the call.
            let n = unsafe { libc::recv(*fd, bytes.as_mut_ptr().cast(), *len, *flags) };
            bytes.truncate(n.max(0) as usize);
            Outcome {
                bytes,
                ..outcome(n as i64)
            }
        }
        // SAFETY: the script's own descriptor, which nobody else has closed.
        Call::Close { fd } => outcome(unsafe { libc::close(*fd) }.into()),
        // SAFETY: no pointers.
        Call::Shutdown { fd, how } => outcome(unsafe { libc::shutdown(*fd, *how) }.into()),
        Call::SetOption {
            fd,
            level,
            name,
            value,
        } => {
            let (at, len) = (value.as_ptr().cast(), value.len() as libc::socklen_t);
            // SAFETY: pointers and lengths are those of values that live through the call.
            outcome(unsafe { libc::setsockopt(*fd, *level, *name, at, len) }.into())
        }
        Call::GetOption {
            fd,
            level,
            name,
            len,
        } => {
            let mut bytes = vec![0u8; *len];
            let mut got = *len as libc::socklen_t;
            let at = bytes.as_mut_ptr().cast();
            // SAFETY: pointers and lengths are those of values that live through the call.
            let result = unsafe { libc::getsockopt(*fd, *level, *name, at, &raw mut got) };
            bytes.truncate(got as usize);
            Outcome {
                bytes,
                ..outcome(result.into())
            }
        }
        Call::Fcntl {
            fd,
            command,
            argument,
        } => {
            // SAFETY: both commands that scripts use take a number.
            outcome(unsafe { libc::fcntl(*fd, *command, *argument) }.into())
        }
        Call::Ioctl { fd, request } => {
            let mut number: libc::c_int = 0;
            // SAFETY: the requests that scripts use write one int.
            let result = unsafe { libc::ioctl(*fd, *request as libc::Ioctl, &raw mut number) };
            Outcome {
                bytes: number.to_ne_bytes().to_vec(),
                ..outcome(result.into())
            }
        }
        Call::Poll { .. }
        | Call::EpollCreate
        | Call::EpollControl { .. }
        | Call::EpollWait { .. } => wait(call),
    }
}

/// Chooses a socket's congestion control.
pub fn set_congestion(fd: i32, name: &str) {
    let (at, len) = (name.as_ptr().cast(), name.len() as libc::socklen_t);
    // SAFETY: pointer and length are those of `name`.
    unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_CONGESTION, at, len) };
}

fn send(call: &Call, addresses: Addresses) -> Outcome {
    let Call::Send {
        fd,
        len,
        flags,
        to_peer,
    } = call
    else {
        return Outcome::failed(libc::EINVAL);
    };
    let start = written(|w| w.get(fd).copied().unwrap_or(0));
    let bytes: Vec<u8> = (0..*len as u64).map(|i| pattern(start + i)).collect();
    let (name, name_len) = name(SocketAddr::new(addresses.remote, PORT));
    let (to, name_len) = match to_peer {
        true => ((&raw const name).cast(), name_len),
        false => (std::ptr::null(), 0),
    };
    let flags = flags | libc::MSG_NOSIGNAL;
    // SAFETY: buffer and address live through the call, with these lengths.
    let n = unsafe { libc::sendto(*fd, bytes.as_ptr().cast(), *len, flags, to, name_len) };
    let outcome = outcome(n as i64);
    written(|w| w.insert(*fd, start + n.max(0) as u64));
    outcome
}

fn wait(call: &Call) -> Outcome {
    match call {
        Call::Poll { fds, timeout } => {
            let mut polls: Vec<libc::pollfd> = fds
                .iter()
                .map(|(fd, events)| libc::pollfd {
                    fd: *fd,
                    events: *events,
                    revents: 0,
                })
                .collect();
            let count = polls.len() as libc::nfds_t;
            // SAFETY: as many pollfds as `count` says live through the call.
            let result = unsafe { libc::poll(polls.as_mut_ptr(), count, *timeout) };
            Outcome {
                events: polls.iter().map(|p| (p.fd, p.revents as u32)).collect(),
                ..outcome(result.into())
            }
        }
        // SAFETY: no pointers.
        Call::EpollCreate => outcome(unsafe { libc::epoll_create1(0) }.into()),
        Call::EpollControl {
            set,
            operation,
            fd,
            events,
        } => {
            let mut event = libc::epoll_event {
                events: *events,
                u64: *fd as u64,
            };
            // SAFETY: one event that lives through the call.
            outcome(unsafe { libc::epoll_ctl(*set, *operation, *fd, &raw mut event) }.into())
        }
        Call::EpollWait { set, most, timeout } => {
            let none = libc::epoll_event { events: 0, u64: 0 };
            let mut events = vec![none; (*most).max(1) as usize];
            // SAFETY: room for as many events as `most` says.
            let n = unsafe { libc::epoll_wait(*set, events.as_mut_ptr(), *most, *timeout) };
            events.truncate(n.max(0) as usize);
            Outcome {
                events: events.iter().map(|e| (e.u64 as i32, e.events)).collect(),
                ..outcome(n.into())
            }
        }
        _ => Outcome::failed(libc::EINVAL),
    }
}
