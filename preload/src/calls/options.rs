//! Socket options.

use crate::descriptor::{Behind, behind};
use crate::errno::{Errno, Result, ret};
use crate::interpose::run;
use crate::socket::SocketRef;
use crate::socket::options::{self, table};
use crate::trace::{self, Line};
use context::socket::flag;
use libc::{c_int, c_void, socklen_t};

crate::interpose! {
    family: "options";

    /// Reads from the shared record, as the table of options says.
    fn getsockopt(
        fd: c_int,
        level: c_int,
        name: c_int,
        value: *mut c_void,
        len: *mut socklen_t,
    ) -> c_int {
        trace::call(
            "getsockopt",
            fd,
            move |line, result| {
                show_name(line, level, name);
                match result {
                    0 => line.value(value, len).pointee(len),
                    _ => line.pointer(value).pointer(len),
                };
            },
            move || match behind(fd) {
                // SAFETY: the caller's arguments, as they are.
                Behind::Kernel | Behind::Epoll(_) => unsafe {
                    getsockopt::real()(fd, level, name, value, len)
                },
                Behind::Hidden => ret(Err(Errno(libc::EBADF))),
                // SAFETY: value and length are the caller's.
                Behind::Stack(socket) => run(|| unsafe { get(socket, level, name, value, len) }),
            },
        )
    }

    /// Writes to the shared record and tells the engine, as the table of options says.
    fn setsockopt(
        fd: c_int,
        level: c_int,
        name: c_int,
        value: *const c_void,
        len: socklen_t,
    ) -> c_int {
        trace::call(
            "setsockopt",
            fd,
            move |line, _| {
                show_name(line, level, name);
                line.bytes(value, len as usize).arg(len);
            },
            move || match behind(fd) {
                // SAFETY: the caller's arguments, as they are.
                Behind::Kernel | Behind::Epoll(_) => unsafe {
                    setsockopt::real()(fd, level, name, value, len)
                },
                Behind::Hidden => ret(Err(Errno(libc::EBADF))),
                Behind::Stack(socket) => run(|| {
                    // SAFETY: value and length are the caller's.
                    unsafe { set(socket, level, name, value, len) }?;
                    if socket.flags() & flag::BOTH != 0 {
                        // The kernel's half of the listener has its own idea of an option that
                        // the stack has taken; nobody could be told of a difference.
                        // SAFETY: as above.
                        let _ = unsafe { set_in_kernel(fd, level, name, value, len) };
                    }
                    Ok(0)
                }),
            },
        )
    }
}

/// # Safety
/// As getsockopt(2).
unsafe fn get(
    socket: SocketRef,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> Result<c_int> {
    if !socket.is_current() {
        return Err(Errno(libc::EBADF));
    }
    if len.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    // SAFETY: the caller's promise: a length.
    let room = unsafe { len.read_unaligned() };
    let room = usize::try_from(room as c_int).map_err(|_| Errno(libc::EINVAL))?;
    let to = Room { value, room, len };
    // Asked after each connect(2) that did not wait.
    if (level, name) == (libc::SOL_SOCKET, libc::SO_ERROR) {
        let error = options::take_error(socket).to_ne_bytes();
        // SAFETY: the caller's promise.
        return unsafe { to.fill(&error[..room.min(error.len())]) };
    }
    let answer = options::get(socket, level, name)?;
    // SAFETY: the caller's promise.
    unsafe { to.fill(answer.cut(level, room)) }
}

/// Where getsockopt(2) puts a value, how many bytes there are for it, and where its length goes.
struct Room {
    value: *mut c_void,
    room: usize,
    len: *mut socklen_t,
}

impl Room {
    /// # Safety
    /// As getsockopt(2).
    #[inline]
    unsafe fn fill(self, bytes: &[u8]) -> Result<c_int> {
        debug_assert!(bytes.len() <= self.room);
        if self.value.is_null() && !bytes.is_empty() {
            return Err(Errno(libc::EFAULT));
        }
        // SAFETY: the caller's promise: there is room for that many bytes. No more are written.
        unsafe {
            self.value
                .cast::<u8>()
                .copy_from(bytes.as_ptr(), bytes.len());
            self.len.write_unaligned(bytes.len() as socklen_t);
        }
        Ok(0)
    }
}

/// # Safety
/// As setsockopt(2).
unsafe fn set(
    socket: SocketRef,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> Result<()> {
    if !socket.is_current() {
        return Err(Errno(libc::EBADF));
    }
    let len = usize::try_from(len as c_int).map_err(|_| Errno(libc::EINVAL))?;
    if value.is_null() && len > 0 {
        return Err(Errno(libc::EFAULT));
    }
    // No option's value is longer; what is behind it has no meaning.
    let mut copy = [0u8; 256];
    let len = len.min(copy.len());
    if len > 0 {
        // SAFETY: the caller's promise: at least that many bytes.
        unsafe { copy.as_mut_ptr().copy_from(value.cast(), len) };
    }
    options::set(socket, level, name, &copy[..len])
}

/// # Safety
/// As setsockopt(2).
unsafe fn set_in_kernel(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> Result<usize> {
    let args = [
        fd as usize,
        level as usize,
        name as usize,
        value as usize,
        len as usize,
        0,
    ];
    // SAFETY: the caller's promise.
    unsafe { crate::real::syscall(libc::SYS_setsockopt, args) }
}

fn show_name(line: &mut Line, level: c_int, name: c_int) {
    line.name(
        level,
        &[
            (libc::SOL_SOCKET, "SOL_SOCKET"),
            (libc::IPPROTO_TCP, "SOL_TCP"),
            (libc::IPPROTO_IP, "SOL_IP"),
            (libc::IPPROTO_IPV6, "SOL_IPV6"),
        ],
    );
    let mut rows = table::ROWS.iter();
    match rows.find(|row| (row.level, row.number) == (level, name)) {
        Some(row) => line.arg(row.name),
        None => line.arg(name),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::{close, create};
    use crate::testing::{engine, established};
    use fdmap::Entry;

    type Get =
        unsafe extern "C-unwind" fn(c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int;
    type Set = unsafe extern "C-unwind" fn(c_int, c_int, c_int, *const c_void, socklen_t) -> c_int;

    /// What getsockopt and setsockopt answer to pointers and lengths that are wrong in each way: the
    /// errno, or the length.
    fn answers(fd: c_int, get: Get, set: Set) -> Vec<i64> {
        let (level, name) = (libc::SOL_SOCKET, libc::SO_KEEPALIVE);
        let mut value = [1u8; 64];
        let none = std::ptr::null_mut();
        let at: *mut c_void = value.as_mut_ptr().cast();
        let mut answers = Vec::new();
        let mut note = |result: c_int, len: socklen_t| {
            let failed = result != 0;
            answers.push(if failed {
                -i64::from(crate::errno::get())
            } else {
                len.into()
            });
        };
        for (to, room) in [
            (at, 4),
            (at, 0),
            (at, 64),
            (at, u32::MAX),
            (none, 4),
            (none, 0),
        ] {
            let mut len = room;
            // SAFETY: the value is longer than what is ever written to it.
            note(unsafe { get(fd, level, name, to, &raw mut len) }, len);
        }
        // SAFETY: as above.
        note(unsafe { get(fd, level, name, at, std::ptr::null_mut()) }, 0);
        for (from, len) in [
            (at, 4),
            (at, 64),
            (at, 0),
            (at, u32::MAX),
            (none, 4),
            (none, 0),
        ] {
            // SAFETY: the value is as long as the longest length that is no negative one.
            note(unsafe { set(fd, level, name, from, len) }, 0);
        }
        answers
    }

    #[test]
    fn wrong_pointers_and_lengths_are_refused_as_in_linux() {
        let socket = established();
        let fd = create::attach(socket, true).unwrap();
        let kernel = crate::real::socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        assert_eq!(
            answers(fd, getsockopt, setsockopt),
            answers(kernel, getsockopt::real(), setsockopt::real()),
        );
        crate::real::close(kernel);
        close::descriptor(fd, socket).unwrap();
    }

    #[test]
    fn what_is_closed_is_a_bad_descriptor() {
        let socket = established();
        let fd = create::attach(socket, true).unwrap();
        let pooled = crate::real::duplicate(fd, 890, true).unwrap();
        fdmap::set(pooled, Entry::Pooled);
        engine().record(socket.index).reset();
        for fd in [fd, pooled] {
            let all = answers(fd, getsockopt, setsockopt);
            assert_eq!(all, vec![-i64::from(libc::EBADF); all.len()]);
        }
        fdmap::take(pooled);
        crate::real::close(pooled);
        close::descriptor(fd, socket).unwrap();
    }
}
