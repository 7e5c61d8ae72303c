//! What packetdrill calls: its table over the preload library's functions and the wire.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_longlong, c_uint, c_ulong, c_void};
use std::io::Write;
use std::mem::transmute;

use libc::{
    epoll_event, iovec, loff_t, msghdr, nfds_t, off_t, pollfd, size_t, sockaddr, socklen_t,
    ssize_t, timeval, timezone, useconds_t,
};

use crate::adapter::{self, Adapter, adapter};
use crate::interface::Interface;
use crate::library::{Error, Library};
use crate::redirect::{self, Redirect};

/// Socket memory in nine words (`linux/sock_diag.h`, `SK_MEMINFO_…`).
const SO_MEMINFO: c_int = 55;
const MEMINFO_RCVBUF: usize = 1;
const MEMINFO_SNDBUF: usize = 3;
const MEMINFO_WORDS: usize = 9;

macro_rules! calls {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        /// The preload library's functions.
        #[allow(missing_docs)]
        #[derive(Clone, Copy)]
        pub struct Functions {
            $(pub $name: unsafe extern "C" fn($($type),*) -> $result,)*
        }

        impl Functions {
            /// Finds them.
            ///
            /// # Errors
            /// If one is missing.
            pub fn of(library: &Library) -> Result<Functions, Error> {
                $(
                    const _: () = assert!(stringify!($name).len() < 32);
                    let name = concat!(stringify!($name), "\0").as_bytes();
                    let name = CStr::from_bytes_until_nul(name).unwrap_or_default();
                    let symbol = library.find(name)?;
                    // SAFETY: the C function of this name, which has this type.
                    let $name = unsafe {
                        transmute::<*mut c_void, unsafe extern "C" fn($($type),*) -> $result>(symbol)
                    };
                )*
                Ok(Functions { $($name),* })
            }
        }

        mod table {
            use super::*;
            $(
                #[doc = concat!("The library's `", stringify!($name), "`, done once it returns.")]
                ///
                /// # Safety
                /// As the C function.
                pub unsafe extern "C" fn $name(_: *mut c_void, $($arg: $type),*) -> $result {
                    // SAFETY: the caller's arguments, as they are.
                    done(|adapter| unsafe { (adapter.functions.$name)($($arg),*) })
                }
            )*
        }
    };
}

calls! {
    socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    bind(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int;
    listen(fd: c_int, backlog: c_int) -> c_int;
    accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int;
    connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int;
    read(fd: c_int, buffer: *mut c_void, count: size_t) -> ssize_t;
    readv(fd: c_int, vector: *const iovec, count: c_int) -> ssize_t;
    recv(fd: c_int, buffer: *mut c_void, count: size_t, flags: c_int) -> ssize_t;
    recvfrom(fd: c_int, buffer: *mut c_void, count: size_t, flags: c_int, address: *mut sockaddr, len: *mut socklen_t) -> ssize_t;
    recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t;
    write(fd: c_int, buffer: *const c_void, count: size_t) -> ssize_t;
    writev(fd: c_int, vector: *const iovec, count: c_int) -> ssize_t;
    send(fd: c_int, buffer: *const c_void, count: size_t, flags: c_int) -> ssize_t;
    sendto(fd: c_int, buffer: *const c_void, count: size_t, flags: c_int, address: *const sockaddr, len: socklen_t) -> ssize_t;
    sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t;
    sendfile(to: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t;
    fcntl(fd: c_int, command: c_int, argument: usize) -> c_int;
    ioctl(fd: c_int, request: c_ulong, argument: usize) -> c_int;
    close(fd: c_int) -> c_int;
    shutdown(fd: c_int, how: c_int) -> c_int;
    getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t) -> c_int;
    setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t) -> c_int;
    poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int;
    epoll_create(size: c_int) -> c_int;
    epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *mut epoll_event) -> c_int;
    epoll_wait(epoll: c_int, events: *mut epoll_event, count: c_int, timeout: c_int) -> c_int;
    pipe(fds: *mut c_int) -> c_int;
    splice(from: c_int, from_offset: *mut loff_t, to: c_int, to_offset: *mut loff_t, count: size_t, flags: c_uint) -> ssize_t;
}

/// packetdrill's entry: starts the stack and fills in the table of calls. `flags` is what
/// `--so_flags` says, or null. Ends the process with a message if there can be no stack, since
/// packetdrill asks for no result.
///
/// # Safety
/// `flags` is null or a C string, and `interface` points to packetdrill's table.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn packetdrill_interface_init(
    flags: *const c_char,
    interface: *mut Interface,
) {
    let text = match flags.is_null() {
        true => "".into(),
        // SAFETY: the caller's promise.
        false => unsafe { CStr::from_ptr(flags) }.to_string_lossy(),
    };
    let started = std::panic::catch_unwind(|| adapter::start(&text));
    let reason = match started {
        Ok(Ok(_)) => {
            // SAFETY: the caller's promise.
            unsafe { interface.write(INTERFACE) };
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "a bug".to_owned(),
    };
    let _ = writeln!(std::io::stderr(), "libmtcp_packetdrill: {reason}");
    std::process::exit(1);
}

const INTERFACE: Interface = Interface {
    userdata: std::ptr::null_mut(),
    free,
    socket: table::socket,
    bind: table::bind,
    listen: table::listen,
    accept: table::accept,
    connect: table::connect,
    read: table::read,
    readv: table::readv,
    recv: table::recv,
    recvfrom: table::recvfrom,
    recvmsg: table::recvmsg,
    write: table::write,
    writev: table::writev,
    send: table::send,
    sendto: table::sendto,
    sendmsg: table::sendmsg,
    fcntl: table::fcntl,
    ioctl: table::ioctl,
    close: table::close,
    shutdown: table::shutdown,
    getsockopt: table::getsockopt,
    setsockopt: table::setsockopt,
    poll: table::poll,
    netdev_send,
    netdev_receive,
    usleep,
    gettimeofday,
    epoll_create: table::epoll_create,
    epoll_ctl: table::epoll_ctl,
    epoll_wait: table::epoll_wait,
    pipe: table::pipe,
    splice,
};

/// Makes a call and waits until the stack has done what it brought about, as in the kernel. `errno`
/// stays as the call has left it.
fn done<T>(call: impl FnOnce(&Adapter) -> T) -> T {
    let Some(adapter) = adapter() else {
        // The table is filled in after the stack has started.
        std::process::abort();
    };
    let result = call(adapter);
    // SAFETY: the thread's own errno.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        adapter.wire.settle();
        *errno = saved;
    }
    result
}

/// packetdrill has closed all sockets before. The stack stays for the process's next test.
unsafe extern "C" fn free(_: *mut c_void) {
    done(|adapter| adapter.wire.clear());
}

unsafe extern "C" fn netdev_send(_: *mut c_void, packet: *const c_void, count: size_t) -> c_int {
    if packet.is_null() {
        return -1;
    }
    // SAFETY: packetdrill's packet of that length.
    let packet = unsafe { std::slice::from_raw_parts(packet.cast(), count) };
    match adapter().is_some_and(|adapter| adapter.wire.send(packet)) {
        true => 0,
        false => -1,
    }
}

unsafe extern "C" fn netdev_receive(
    _: *mut c_void,
    packet: *mut c_void,
    count: *mut size_t,
    time_usecs: *mut c_longlong,
) -> c_int {
    let received = adapter().and_then(|a| a.wire.receive(a.flags.receive_timeout));
    // SAFETY: packetdrill's variables, and its buffer of as many bytes as `count` says.
    unsafe {
        let room = *count;
        *count = 0;
        let Some(received) = received else {
            // What packetdrill looks at should say that it is no packet.
            packet.cast::<u8>().write_bytes(0, room.min(64));
            return 0;
        };
        if received.bytes.len() > room {
            return -1;
        }
        packet
            .cast::<u8>()
            .copy_from(received.bytes.as_ptr(), received.bytes.len());
        *count = received.bytes.len();
        *time_usecs = received.time_us;
    }
    0
}

unsafe extern "C" fn usleep(_: *mut c_void, usecs: useconds_t) -> c_int {
    // SAFETY: no pointers.
    unsafe { libc::usleep(usecs) }
}

unsafe extern "C" fn gettimeofday(
    _: *mut c_void,
    time: *mut timeval,
    zone: *mut timezone,
) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    unsafe { libc::gettimeofday(time, zone.cast()) }
}

/// packetdrill passes pointers to the script's numbers, where sockets and pipes have no offset at
/// all: 0 is none.
unsafe extern "C" fn splice(
    userdata: *mut c_void,
    from: c_int,
    from_offset: *mut loff_t,
    to: c_int,
    to_offset: *mut loff_t,
    count: size_t,
    flags: c_uint,
) -> ssize_t {
    let offset = |at: *mut loff_t| {
        // SAFETY: null, or a number of packetdrill's.
        match unsafe { at.as_ref() } {
            None | Some(0) => std::ptr::null_mut(),
            Some(_) => at,
        }
    };
    // SAFETY: the caller's arguments.
    unsafe {
        let (from_offset, to_offset) = (offset(from_offset), offset(to_offset));
        table::splice(userdata, from, from_offset, to, to_offset, count, flags)
    }
}

/// Sends packetdrill's own calls of libc to the stack.
pub fn redirect_main_program() {
    let sendfile = main_sendfile as *const c_void;
    let redirects = [
        Redirect {
            name: c"getsockopt",
            to: main_getsockopt as *const c_void,
        },
        Redirect {
            name: c"sendfile",
            to: sendfile,
        },
        Redirect {
            name: c"sendfile64",
            to: sendfile,
        },
    ];
    // SAFETY: functions of the same types, in a library that packetdrill does not unload
    // (RTLD_NODELETE).
    unsafe { redirect::in_main_program(&redirects) };
}

unsafe extern "C" fn main_sendfile(
    to: c_int,
    from: c_int,
    offset: *mut off_t,
    count: size_t,
) -> ssize_t {
    // SAFETY: the caller's arguments, as they are.
    unsafe { table::sendfile(std::ptr::null_mut(), to, from, offset, count) }
}

/// getsockopt(2) for packetdrill's `%{ … }%`. packetdrill insists on structures as long as its own:
/// what the stack's lacks at the end is zero. SO_MEMINFO, without which it gives up, says the
/// buffers' sizes.
unsafe extern "C" fn main_getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    // SAFETY: the caller's arguments; with a length there is a value of that length.
    done(|adapter| unsafe {
        let room = len.as_ref().copied().unwrap_or(0) as usize;
        let getsockopt = adapter.functions.getsockopt;
        let result = getsockopt(fd, level, name, value, len);
        match (level, name) {
            (libc::IPPROTO_TCP, libc::TCP_INFO) if result == 0 && (*len as usize) < room => {
                let have = *len as usize;
                value.cast::<u8>().add(have).write_bytes(0, room - have);
                *len = room as socklen_t;
            }
            (libc::SOL_SOCKET, SO_MEMINFO) if result < 0 && room >= MEMINFO_WORDS * 4 => {
                let mut words = [0u32; MEMINFO_WORDS];
                let buffers = [
                    (MEMINFO_RCVBUF, libc::SO_RCVBUF),
                    (MEMINFO_SNDBUF, libc::SO_SNDBUF),
                ];
                for (word, option) in buffers {
                    let at = (&raw mut words[word]).cast();
                    let result = getsockopt(fd, level, option, at, &mut 4);
                    if result < 0 {
                        return result;
                    }
                }
                value.copy_from(words.as_ptr().cast(), size_of_val(&words));
                *len = size_of_val(&words) as socklen_t;
                return 0;
            }
            _ => {}
        }
        result
    })
}
