//! Descriptors: close, dup, fcntl, ioctl, stat.

use crate::descriptor::{
    Behind, behind, close as closing, duplicate, fcntl as control, ioctl as request, status,
    visible,
};
use crate::errno::{Errno, ret};
use crate::interpose::run;
use crate::socket::urgent;
use crate::trace::{self, About};
use libc::{c_char, c_int, c_uint, c_ulong, c_void, off_t, stat64};

crate::interpose! {
    family: "descriptors";

    /// Keeps the number for the next socket; the last descriptor closes the connection.
    fn close(fd: c_int) -> c_int {
        trace::call("close", fd, |_, _| (), || match behind(fd) {
            // SAFETY: the caller's descriptor.
            Behind::Kernel => unsafe { close::real()(fd) },
            _ => run(|| closing::close(fd).map(|()| 0)),
        })
    }

    /// As `close`.
    fn __close(fd: c_int) -> c_int {
        trace::call("close", fd, |_, _| (), || match behind(fd) {
            // SAFETY: the caller's descriptor.
            Behind::Kernel => unsafe { __close::real()(fd) },
            _ => run(|| closing::close(fd).map(|()| 0)),
        })
    }

    /// Closes the stack's sockets properly and leaves the library's own descriptors alone.
    fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
        trace::call(
            "close_range",
            About::Concerns(&|| is_any_in(first, last)),
            |line, _| {
                line.arg(first).arg(last).arg(flags);
            },
            || run(|| closing::close_range(first, last, flags).map(|()| 0)),
        )
    }

    /// As `close_range`.
    fn closefrom(first: c_int) {
        let first = c_uint::try_from(first).unwrap_or(0);
        trace::call(
            "closefrom",
            About::Concerns(&|| is_any_in(first, c_uint::MAX)),
            |line, _| {
                line.arg(first);
            },
            || run(|| closing::close_range(first, c_uint::MAX, 0).map(|()| 0)),
        );
    }

    /// One more descriptor of the socket, which lives until the last is closed.
    fn dup(fd: c_int) -> c_int {
        trace::call(
            "dup",
            fd,
            |line, _| line.returns_fd(),
            || run(|| duplicate::duplicate(fd, 0, false)),
        )
    }

    /// As `dup`; a socket that is replaced is closed properly.
    fn dup2(from: c_int, to: c_int) -> c_int {
        trace::call(
            "dup2",
            About::Concerns(&|| trace::is_stack(from) || trace::is_stack(to)),
            |line, _| {
                line.fd(from).arg(to).returns_fd();
            },
            || run(|| duplicate::dup2(from, to)),
        )
    }

    /// As `dup2`.
    fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int {
        trace::call(
            "dup3",
            About::Concerns(&|| trace::is_stack(from) || trace::is_stack(to)),
            |line, _| {
                line.fd(from).arg(to).flags(flags, OPEN_FLAGS).returns_fd();
            },
            || run(|| duplicate::dup3(from, to, flags)),
        )
    }

    /// `F_DUPFD`, `F_GETFD`, `F_SETFD`, `F_GETFL`, `F_SETFL` with `O_NONBLOCK`; `O_ASYNC` and locks are refused.
    fn fcntl(fd: c_int, command: c_int, arg: usize) -> c_int {
        controlled(fd, command, arg, fcntl::real())
    }

    /// As `fcntl`.
    fn fcntl64(fd: c_int, command: c_int, arg: usize) -> c_int {
        controlled(fd, command, arg, fcntl64::real())
    }

    /// As `fcntl`.
    fn __fcntl(fd: c_int, command: c_int, arg: usize) -> c_int {
        controlled(fd, command, arg, __fcntl::real())
    }

    /// `FIONBIO`, `FIONREAD`, `SIOCOUTQ`, `SIOCOUTQNSD`, `SIOCATMARK`, `FIOCLEX`; others as a kernel socket.
    fn ioctl(fd: c_int, number: c_ulong, arg: usize) -> c_int {
        trace::call(
            "ioctl",
            fd,
            move |line, result| {
                line.name(number as c_int, REQUESTS);
                match number {
                    libc::FIONBIO | libc::FIOASYNC | libc::FIONREAD | libc::TIOCOUTQ
                        if result >= 0 =>
                    {
                        line.pointee(arg as *const c_int)
                    }
                    _ => line.pointer(arg as *const c_void),
                };
            },
            move || match behind(fd) {
                // SAFETY: the caller's arguments, as they are.
                Behind::Kernel | Behind::Epoll(_) => unsafe { ioctl::real()(fd, number, arg) },
                Behind::Hidden => ret(Err(Errno(libc::EBADF))),
                Behind::Stack(socket) if socket.is_current() => {
                    // SAFETY: the caller's argument.
                    run(|| unsafe { request::ioctl(socket, fd, number, arg) })
                }
                Behind::Stack(_) => ret(Err(Errno(libc::EBADF))),
            },
        )
    }

    /// A socket with an inode number of its own.
    fn fstat(fd: c_int, to: *mut stat64) -> c_int {
        // SAFETY: the caller's arguments, as they are.
        shown("fstat", fd, to, move || unsafe { fstat::real()(fd, to) })
    }

    /// As `fstat`.
    fn fstat64(fd: c_int, to: *mut stat64) -> c_int {
        // SAFETY: the caller's arguments, as they are.
        shown("fstat", fd, to, move || unsafe { fstat64::real()(fd, to) })
    }

    /// As `fstat`.
    fn __fxstat(version: c_int, fd: c_int, to: *mut stat64) -> c_int {
        // SAFETY: the caller's arguments, as they are.
        shown("fstat", fd, to, move || unsafe { __fxstat::real()(version, fd, to) })
    }

    /// As `fstat`.
    fn __fxstat64(version: c_int, fd: c_int, to: *mut stat64) -> c_int {
        // SAFETY: the caller's arguments, as they are.
        shown("fstat", fd, to, move || unsafe { __fxstat64::real()(version, fd, to) })
    }

    /// As `fstat`, with an empty path.
    fn fstatat(fd: c_int, path: *const c_char, to: *mut stat64, flags: c_int) -> c_int {
        // SAFETY: the caller's arguments, as they are.
        let real = || unsafe { fstatat::real()(fd, path, to, flags) };
        // SAFETY: the caller's path.
        if unsafe { is_descriptor_meant(path, flags) } {
            shown("fstatat", fd, to, real)
        } else {
            real()
        }
    }

    /// As `fstat`, with an empty path.
    fn fstatat64(fd: c_int, path: *const c_char, to: *mut stat64, flags: c_int) -> c_int {
        // SAFETY: the caller's arguments, as they are.
        let real = || unsafe { fstatat64::real()(fd, path, to, flags) };
        // SAFETY: the caller's path.
        if unsafe { is_descriptor_meant(path, flags) } {
            shown("fstatat", fd, to, real)
        } else {
            real()
        }
    }

    /// As `fstat`, with an empty path.
    fn statx(
        fd: c_int,
        path: *const c_char,
        flags: c_int,
        mask: c_uint,
        to: *mut libc::statx,
    ) -> c_int {
        // SAFETY: the caller's path.
        let is_descriptor_meant = unsafe { is_descriptor_meant(path, flags) };
        let meant = if is_descriptor_meant { fd } else { -1 };
        trace::call(
            "statx",
            meant,
            |line, _| {
                line.arg("\"\"").arg(flags).arg(mask).pointer(to);
            },
            || {
                if let Err(error) = visible(meant) {
                    return ret(Err(error));
                }
                // SAFETY: the caller's arguments, as they are.
                let result = unsafe { statx::real()(fd, path, flags, mask, to) };
                if let Behind::Stack(socket) = behind(meant)
                    && let Some(inode) = status::inode(socket)
                    && result == 0
                {
                    // SAFETY: the call has filled it.
                    unsafe { (*to).stx_ino = inode };
                }
                result
            },
        )
    }

    /// `ESPIPE`.
    fn lseek(fd: c_int, offset: off_t, whence: c_int) -> off_t {
        // SAFETY: the caller's arguments, as they are.
        unless_hidden(fd, || unsafe { lseek::real()(fd, offset, whence) })
    }

    /// `ESPIPE`.
    fn lseek64(fd: c_int, offset: off_t, whence: c_int) -> off_t {
        // SAFETY: the caller's arguments, as they are.
        unless_hidden(fd, || unsafe { lseek64::real()(fd, offset, whence) })
    }

    /// 0, `ENOTTY`.
    fn isatty(fd: c_int) -> c_int {
        match visible(fd) {
            // SAFETY: the caller's descriptor.
            Ok(()) => unsafe { isatty::real()(fd) },
            Err(error) => {
                crate::errno::set(error.0);
                0
            }
        }
    }

    /// A socket.
    fn isfdtype(fd: c_int, kind: c_int) -> c_int {
        // SAFETY: the caller's arguments, as they are.
        unless_hidden(fd, || unsafe { isfdtype::real()(fd, kind) })
    }

    /// Whether the next byte is the urgent one.
    fn sockatmark(fd: c_int) -> c_int {
        match behind(fd) {
            Behind::Stack(socket) if socket.is_current() => urgent::is_at_mark(socket).into(),
            // SAFETY: the caller's descriptor.
            Behind::Kernel | Behind::Epoll(_) => unsafe { sockatmark::real()(fd) },
            Behind::Stack(_) | Behind::Hidden => ret(Err(Errno(libc::EBADF))),
        }
    }

    /// `EINVAL`.
    fn fsync(fd: c_int) -> c_int {
        // SAFETY: the caller's descriptor.
        unless_hidden(fd, || unsafe { fsync::real()(fd) })
    }

    /// `EINVAL`.
    fn fdatasync(fd: c_int) -> c_int {
        // SAFETY: the caller's descriptor.
        unless_hidden(fd, || unsafe { fdatasync::real()(fd) })
    }

    /// `EINVAL`.
    fn ftruncate(fd: c_int, len: off_t) -> c_int {
        // SAFETY: the caller's arguments, as they are.
        unless_hidden(fd, || unsafe { ftruncate::real()(fd, len) })
    }

    /// `EINVAL`.
    fn ftruncate64(fd: c_int, len: off_t) -> c_int {
        // SAFETY: the caller's arguments, as they are.
        unless_hidden(fd, || unsafe { ftruncate64::real()(fd, len) })
    }
}

type Fcntl = unsafe extern "C-unwind" fn(c_int, c_int, usize) -> c_int;

fn controlled(fd: c_int, command: c_int, arg: usize, real: Fcntl) -> c_int {
    trace::call(
        "fcntl",
        fd,
        |line, _| {
            line.name(command, COMMANDS);
            match command {
                libc::F_SETFL => line.flags(arg as c_int, OPEN_FLAGS),
                libc::F_GETFL | libc::F_GETFD => line,
                libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
                    line.returns_fd();
                    line.arg(arg as c_int)
                }
                _ => line.arg(arg as c_int),
            };
        },
        || match (behind(fd), command) {
            (_, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) => {
                let cloexec = command == libc::F_DUPFD_CLOEXEC;
                run(|| duplicate::duplicate(fd, arg as c_int, cloexec))
            }
            // SAFETY: the caller's arguments, as they are.
            (Behind::Kernel | Behind::Epoll(_), _) => unsafe { real(fd, command, arg) },
            (Behind::Stack(socket), _) if socket.is_current() => {
                run(|| control::fcntl(socket, fd, command, arg))
            }
            (Behind::Stack(_) | Behind::Hidden, _) => ret(Err(Errno(libc::EBADF))),
        },
    )
}

/// fstat(2) of any name: what the kernel says of the placeholder, with the socket's own inode.
fn shown(name: &'static str, fd: c_int, to: *mut stat64, real: impl FnOnce() -> c_int) -> c_int {
    trace::call(
        name,
        fd,
        move |line, _| {
            line.pointer(to);
        },
        move || match behind(fd) {
            Behind::Kernel | Behind::Epoll(_) => real(),
            Behind::Hidden => ret(Err(Errno(libc::EBADF))),
            Behind::Stack(socket) => {
                let result = real();
                if let Some(inode) = status::inode(socket)
                    && result == 0
                {
                    // SAFETY: the call has filled it.
                    unsafe { (*to).st_ino = inode };
                }
                result
            }
        },
    )
}

/// Whether a call with a path is about the descriptor itself.
///
/// # Safety
/// `path` is null or a C string.
unsafe fn is_descriptor_meant(path: *const c_char, flags: c_int) -> bool {
    // SAFETY: the caller's promise: at least one byte.
    flags & libc::AT_EMPTY_PATH != 0 && (path.is_null() || unsafe { *path } == 0)
}

/// Lets a call through that does with a placeholder what it does with a kernel socket.
fn unless_hidden<T: crate::errno::Failure>(fd: c_int, real: impl FnOnce() -> T) -> T {
    match visible(fd) {
        Ok(()) => real(),
        Err(error) => ret(Err(error)),
    }
}

fn is_any_in(first: c_uint, last: c_uint) -> bool {
    let mut entries = fdmap::entries();
    entries.any(|(fd, _)| (first..=last).contains(&(fd as c_uint)) && trace::is_stack(fd))
}

const OPEN_FLAGS: &[(c_int, &str)] = &[
    (libc::O_RDWR, "O_RDWR"),
    (libc::O_NONBLOCK, "O_NONBLOCK"),
    (libc::O_APPEND, "O_APPEND"),
    (libc::O_ASYNC, "O_ASYNC"),
    (libc::O_CLOEXEC, "O_CLOEXEC"),
];

const COMMANDS: &[(c_int, &str)] = &[
    (libc::F_DUPFD, "F_DUPFD"),
    (libc::F_DUPFD_CLOEXEC, "F_DUPFD_CLOEXEC"),
    (libc::F_GETFD, "F_GETFD"),
    (libc::F_SETFD, "F_SETFD"),
    (libc::F_GETFL, "F_GETFL"),
    (libc::F_SETFL, "F_SETFL"),
    (libc::F_GETLK, "F_GETLK"),
    (libc::F_SETLK, "F_SETLK"),
    (libc::F_SETLKW, "F_SETLKW"),
    (libc::F_GETOWN, "F_GETOWN"),
    (libc::F_SETOWN, "F_SETOWN"),
];

const REQUESTS: &[(c_int, &str)] = &[
    (libc::FIONBIO as c_int, "FIONBIO"),
    (libc::FIOASYNC as c_int, "FIOASYNC"),
    (libc::FIONREAD as c_int, "FIONREAD"),
    (libc::TIOCOUTQ as c_int, "SIOCOUTQ"),
    (libc::FIOCLEX as c_int, "FIOCLEX"),
    (libc::FIONCLEX as c_int, "FIONCLEX"),
    (libc::TCGETS as c_int, "TCGETS"),
];
