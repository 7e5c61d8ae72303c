//! The kernel is the oracle where it can be: the same calls on a socket of each.

#![allow(unsafe_code)]

use super::*;
use crate::calls::descriptors as calls;
use crate::socket::create;
use crate::testing::{commands, engine, established, fresh};
use context::command::Op;
use libc::c_ulong;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering::SeqCst;

/// A C call's result, or its errno.
fn answer(result: impl Into<i64>) -> std::result::Result<i64, c_int> {
    match result.into() {
        -1 => Err(crate::errno::get()),
        result => Ok(result),
    }
}

/// A connected socket of the stack behind a descriptor.
fn stack() -> (RawFd, SocketRef) {
    let socket = established();
    let fd = create::attach(socket, false).unwrap();
    commands();
    (fd, socket)
}

fn kernel() -> OwnedFd {
    // SAFETY: makes a descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0)) }
}

/// A pipe: reading end, writing end.
fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: makes two descriptors that nobody else owns.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    }
}

/// A descriptor from `minimum` on, where no other test makes any.
fn far(fd: RawFd, minimum: RawFd) -> RawFd {
    real::duplicate(fd, minimum, true).expect("descriptors up to 1024 are allowed")
}

fn is_at_eof(pipe: &OwnedFd) -> bool {
    real::read(pipe.as_raw_fd(), &mut [0; 1]) == Ok(0)
}

fn close(fd: RawFd) {
    // SAFETY: the test's own descriptor.
    assert_eq!(unsafe { calls::close(fd) }, 0);
}

#[test]
fn a_duplicate_keeps_the_socket_alive() {
    let (fd, socket) = stack();
    // SAFETY: a call with a descriptor.
    let copy = unsafe { calls::dup(fd) };
    assert!(matches!(behind(copy), Behind::Stack(s) if s.index == socket.index));
    close(fd);
    assert_eq!(commands(), []);
    close(copy);
    assert_eq!(commands(), [socket.command(Op::Close, 0)]);
}

#[test]
fn a_kernel_descriptor_that_replaces_a_socket_closes_it() {
    let (reading, writing) = pipe();
    let (fd, socket) = stack();
    // SAFETY: calls with descriptors.
    assert_eq!(unsafe { calls::dup2(writing.as_raw_fd(), fd) }, fd);
    assert_eq!(commands(), [socket.command(Op::Close, 0)]);
    assert!(matches!(behind(fd), Behind::Kernel));
    real::write(fd, b"x").unwrap();
    assert_eq!(real::read(reading.as_raw_fd(), &mut [0; 1]), Ok(1));
    close(fd);
}

#[test]
fn a_socket_that_replaces_a_kernel_descriptor_closes_that() {
    let (reading, writing) = pipe();
    let number = far(writing.as_raw_fd(), 800);
    drop(writing);
    assert!(!is_at_eof(&reading));
    let (fd, socket) = stack();
    // SAFETY: calls with descriptors.
    assert_eq!(unsafe { calls::dup3(fd, number, libc::O_CLOEXEC) }, number);
    assert!(is_at_eof(&reading));
    assert_eq!(real::is_cloexec(number), Ok(true));
    close(fd);
    assert_eq!(commands(), []);
    assert!(matches!(behind(number), Behind::Stack(s) if s.index == socket.index));
    close(number);
    assert_eq!(commands(), [socket.command(Op::Close, 0)]);
}

#[test]
fn a_socket_that_replaces_another_closes_that() {
    let ((a, first), (b, second)) = (stack(), stack());
    // SAFETY: a call with descriptors.
    assert_eq!(unsafe { calls::dup2(a, b) }, b);
    assert_eq!(commands(), [second.command(Op::Close, 0)]);
    close(a);
    close(b);
    assert_eq!(commands(), [first.command(Op::Close, 0)]);
}

#[test]
fn a_failed_dup2_closes_nothing() {
    let (fd, socket) = stack();
    // SAFETY: calls with descriptors.
    unsafe {
        assert_eq!(answer(calls::dup2(-1, fd)), Err(libc::EBADF));
        assert_eq!(answer(calls::dup2(fd, -1)), Err(libc::EBADF));
        assert_eq!(answer(calls::dup2(fd, 1 << 25)), Err(libc::EBADF));
        assert_eq!(answer(calls::dup2(fd, fd)), Ok(fd.into()));
        assert_eq!(answer(calls::dup3(fd, fd, 0)), Err(libc::EINVAL));
        assert_eq!(
            answer(calls::dup3(fd, 850, libc::O_APPEND)),
            Err(libc::EINVAL)
        );
    }
    assert_eq!(commands(), []);
    close(fd);
    assert_eq!(
        commands(),
        [socket.command(Op::Close, 0)],
        "no count was lost"
    );
}

#[test]
fn descriptors_of_the_library_cannot_be_replaced_or_closed() {
    let (fd, _) = stack();
    let private = far(fd, 810);
    fdmap::set(private, Entry::Private);
    // SAFETY: calls with descriptors.
    unsafe {
        assert_eq!(answer(calls::dup2(fd, private)), Err(libc::EBADF));
        assert_eq!(answer(calls::close(private)), Err(libc::EBADF));
        assert_eq!(
            answer(calls::close_range(private as u32, private as u32, 0)),
            Ok(0)
        );
    }
    assert_eq!(fdmap::take(private), Entry::Private);
    assert!(real::is_cloexec(private).is_ok(), "still open");
    real::close(private);
    close(fd);
}

#[test]
fn a_pooled_number_looks_closed_to_every_call() {
    let (fd, _) = stack();
    let pooled = far(fd, 820);
    fdmap::set(pooled, Entry::Pooled);
    let mut number = 0;
    let at = &raw mut number as usize;
    // SAFETY: calls with the arguments they want; all-zero structs are valid.
    unsafe {
        let mut stat = std::mem::zeroed();
        let mut statx = std::mem::zeroed();
        for result in [
            answer(calls::close(pooled)),
            answer(calls::__close(pooled)),
            answer(calls::dup(pooled)),
            answer(calls::dup2(pooled, 830)),
            answer(calls::dup2(pooled, pooled)),
            answer(calls::dup3(pooled, 830, 0)),
            answer(calls::fcntl(pooled, libc::F_GETFL, 0)),
            answer(calls::fcntl64(pooled, libc::F_GETFD, 0)),
            answer(calls::__fcntl(pooled, libc::F_DUPFD, 0)),
            answer(calls::ioctl(pooled, libc::FIONREAD, at)),
            answer(calls::fstat(pooled, &raw mut stat)),
            answer(calls::fstat64(pooled, &raw mut stat)),
            answer(calls::fstatat(
                pooled,
                c"".as_ptr(),
                &raw mut stat,
                libc::AT_EMPTY_PATH,
            )),
            answer(calls::statx(
                pooled,
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                0,
                &raw mut statx,
            )),
            answer(calls::lseek(pooled, 0, 0)),
            answer(calls::isfdtype(pooled, libc::S_IFSOCK as c_int)),
            answer(calls::sockatmark(pooled)),
            answer(calls::fsync(pooled)),
            answer(calls::fdatasync(pooled)),
            answer(calls::ftruncate(pooled, 0)),
        ] {
            assert_eq!(result, Err(libc::EBADF));
        }
        assert_eq!(calls::isatty(pooled), 0);
        assert_eq!(crate::errno::get(), libc::EBADF);
    }
    fdmap::take(pooled);
    real::close(pooled);
    close(fd);
}

#[test]
fn flags_are_as_in_linux_and_shared_by_duplicates() {
    let (kernel, (fd, socket)) = (kernel(), stack());
    // SAFETY: calls with descriptors and numbers.
    unsafe {
        let copy = calls::dup(fd);
        for flags in [
            0,
            libc::O_NONBLOCK,
            libc::O_NONBLOCK | libc::O_RDWR,
            libc::O_APPEND,
            libc::O_DIRECT,
            libc::O_CREAT | libc::O_NONBLOCK,
        ] {
            assert_eq!(
                answer(calls::fcntl(fd, libc::F_SETFL, flags as usize)),
                answer(libc::fcntl(kernel.as_raw_fd(), libc::F_SETFL, flags)),
                "{flags:#x}"
            );
            assert_eq!(
                answer(calls::fcntl(copy, libc::F_GETFL, 0)),
                answer(libc::fcntl(kernel.as_raw_fd(), libc::F_GETFL)),
                "{flags:#x}"
            );
        }
        assert!(socket.is_nonblocking(0), "set by the last round");
        for command in [libc::F_GETOWN, libc::F_GETPIPE_SZ, libc::F_GETLEASE, 9999] {
            assert_eq!(
                answer(calls::fcntl(fd, command, 0)),
                answer(libc::fcntl(kernel.as_raw_fd(), command, 0)),
                "command {command}"
            );
        }
        close(copy);
    }
    close(fd);
}

#[test]
fn signals_and_locks_are_refused() {
    let (fd, socket) = stack();
    let on = 1;
    let at = &raw const on as usize;
    // SAFETY: calls with the arguments they want.
    unsafe {
        let result = calls::fcntl(fd, libc::F_SETFL, libc::O_ASYNC as usize);
        assert_eq!(answer(result), Err(libc::EINVAL));
        assert_eq!(
            answer(calls::fcntl(fd, libc::F_SETOWN, 1)),
            Err(libc::EINVAL)
        );
        assert_eq!(
            answer(calls::fcntl(fd, libc::F_SETLK, at)),
            Err(libc::EINVAL)
        );
        assert_eq!(
            answer(calls::ioctl(fd, libc::FIOASYNC, at)),
            Err(libc::ENOTTY)
        );
    }
    assert!(!socket.is_nonblocking(0));
    close(fd);
}

#[test]
fn close_on_exec_belongs_to_the_descriptor() {
    let (fd, _) = stack();
    // SAFETY: calls with descriptors and numbers.
    unsafe {
        let copy = calls::fcntl(fd, libc::F_DUPFD_CLOEXEC, 840);
        assert!(copy >= 840);
        assert_eq!(calls::fcntl(copy, libc::F_GETFD, 0), libc::FD_CLOEXEC);
        assert_eq!(calls::fcntl(fd, libc::F_GETFD, 0), 0);
        assert_eq!(calls::ioctl(fd, libc::FIOCLEX, 0), 0);
        assert_eq!(calls::fcntl(fd, libc::F_GETFD, 0), libc::FD_CLOEXEC);
        assert_eq!(calls::fcntl(copy, libc::F_SETFD, 0), 0);
        assert_eq!(real::is_cloexec(copy), Ok(false));
        assert_eq!(
            answer(calls::fcntl(fd, libc::F_DUPFD, usize::MAX)),
            Err(libc::EINVAL)
        );
        close(copy);
    }
    close(fd);
}

#[test]
fn requests_are_as_in_linux() {
    let (kernel, (fd, socket)) = (kernel(), stack());
    let both = |request: c_ulong, value: c_int| {
        let (mut ours, mut theirs) = (value, value);
        // SAFETY: each request here takes a pointer to an int, or to more than is ever written.
        let results = unsafe {
            (
                answer(calls::ioctl(fd, request, &raw mut ours as usize)),
                answer(libc::ioctl(kernel.as_raw_fd(), request, &raw mut theirs)),
            )
        };
        assert_eq!(results.0, results.1, "request {request:#x}");
        assert_eq!(ours, theirs, "request {request:#x}");
    };
    for request in [
        libc::FIONREAD,
        libc::TIOCOUTQ,
        0x8905,
        libc::TIOCGWINSZ,
        0xdead,
    ] {
        both(request, 0);
    }
    both(libc::FIONBIO, 7);
    assert!(socket.is_nonblocking(0));
    both(libc::FIONBIO, 0);
    assert!(!socket.is_nonblocking(0));
    for request in [libc::FIONREAD, libc::FIONBIO, libc::TIOCOUTQ] {
        // SAFETY: a null pointer is what is asked about.
        let results = unsafe {
            (
                answer(calls::ioctl(fd, request, 0)),
                answer(libc::ioctl(kernel.as_raw_fd(), request, 0)),
            )
        };
        assert_eq!(results.0, results.1, "request {request:#x} with NULL");
    }
    close(fd);
}

#[test]
fn queues_are_counted_in_bytes() {
    let (fd, socket) = stack();
    engine().receive(socket, &[1; 1234]);
    socket.record().app.tx_tail.store(99, SeqCst);
    let ask = |request| {
        let mut number = 0;
        // SAFETY: the request writes an int.
        let result = unsafe { calls::ioctl(fd, request, &raw mut number as usize) };
        assert_eq!(result, 0);
        number
    };
    assert_eq!(ask(libc::FIONREAD), 1234);
    assert_eq!(ask(libc::TIOCOUTQ), 99);
    close(fd);
}

#[test]
fn a_listener_has_no_queues() {
    let (kernel, (fd, socket)) = (kernel(), stack());
    let bits = context::socket::state::LISTEN | context::socket::state::BOUND;
    socket.record().engine.state.store(bits, SeqCst);
    // SAFETY: calls with the arguments they want.
    unsafe {
        assert_eq!(libc::listen(kernel.as_raw_fd(), 1), 0);
        for request in [libc::FIONREAD, libc::TIOCOUTQ] {
            let mut number = 0;
            assert_eq!(
                answer(calls::ioctl(fd, request, &raw mut number as usize)),
                answer(libc::ioctl(kernel.as_raw_fd(), request, &raw mut number)),
            );
        }
    }
    close(fd);
}

#[test]
fn a_descriptor_shows_as_a_socket_with_an_inode_of_its_own() {
    let (kernel, (a, _), (b, _)) = (kernel(), stack(), stack());
    // SAFETY: calls with the arguments they want; all-zero structs are valid.
    let stat = |fd| unsafe {
        let mut stat: libc::stat64 = std::mem::zeroed();
        assert_eq!(calls::fstat(fd, &raw mut stat), 0);
        let mut again: libc::stat64 = std::mem::zeroed();
        let (path, flags) = (c"".as_ptr(), libc::AT_EMPTY_PATH);
        assert_eq!(calls::fstatat64(fd, path, &raw mut again, flags), 0);
        let mut statx: libc::statx = std::mem::zeroed();
        assert_eq!(
            calls::statx(fd, path, flags, libc::STATX_BASIC_STATS, &raw mut statx),
            0
        );
        assert_eq!([again.st_ino, statx.stx_ino], [stat.st_ino; 2]);
        stat
    };
    // SAFETY: as above.
    let copy = unsafe { calls::dup(a) };
    let (first, second, third) = (stat(a), stat(b), stat(copy));
    assert_eq!(first.st_mode, stat(kernel.as_raw_fd()).st_mode);
    assert_ne!(first.st_ino, second.st_ino);
    assert_eq!(first.st_ino, third.st_ino);
    for fd in [a, b, copy] {
        close(fd);
    }
}

#[test]
fn what_files_can_do_is_refused_as_in_linux() {
    let (kernel, (fd, _)) = (kernel(), stack());
    let other = kernel.as_raw_fd();
    // SAFETY: calls with descriptors and numbers.
    unsafe {
        assert_eq!(
            answer(calls::lseek(fd, 0, 1)),
            answer(libc::lseek(other, 0, 1))
        );
        assert_eq!(answer(calls::fsync(fd)), answer(libc::fsync(other)));
        assert_eq!(answer(calls::fdatasync(fd)), answer(libc::fdatasync(other)));
        assert_eq!(
            answer(calls::ftruncate(fd, 0)),
            answer(libc::ftruncate(other, 0))
        );
        assert_eq!(calls::isfdtype(fd, libc::S_IFSOCK as c_int), 1);
        assert_eq!(answer(calls::sockatmark(fd)), Ok(0));
        assert_eq!(calls::isatty(fd), 0);
        assert_eq!(crate::errno::get(), libc::ENOTTY);
    }
    close(fd);
}

#[test]
fn a_range_is_closed_except_for_the_librarys_own() {
    let (reading, writing) = pipe();
    let (fd, socket) = stack();
    let first = far(writing.as_raw_fd(), 870);
    drop(writing);
    // SAFETY: calls with descriptors and numbers.
    unsafe {
        let ours = calls::fcntl(fd, libc::F_DUPFD, first as usize + 1);
        let private = far(fd, ours + 1);
        fdmap::set(private, Entry::Private);
        let pooled = far(fd, private + 1);
        fdmap::set(pooled, Entry::Pooled);
        close(fd);
        let range = (first as u32, pooled as u32 + 1);
        let cloexec = libc::CLOSE_RANGE_CLOEXEC as c_int;
        assert_eq!(calls::close_range(range.0, range.1, cloexec), 0);
        assert_eq!(real::is_cloexec(ours), Ok(true));
        assert_eq!(commands(), []);
        assert_eq!(calls::close_range(range.0, range.1, 0), 0);
        assert_eq!(commands(), [socket.command(Op::Close, 0)]);
        assert!(is_at_eof(&reading));
        assert!(real::is_cloexec(private).is_ok());
        assert!(real::is_cloexec(ours).is_err() && real::is_cloexec(pooled).is_err());
        assert!(matches!(
            (behind(ours), behind(pooled)),
            (Behind::Kernel, Behind::Kernel)
        ));
        fdmap::take(private);
        real::close(private);
        assert_eq!(answer(calls::close_range(9, 8, 0)), Err(libc::EINVAL));
        assert_eq!(
            answer(calls::close_range(900, 901, 1 << 10)),
            Err(libc::EINVAL)
        );
    }
}

#[test]
fn a_socket_closed_by_another_process_is_a_bad_descriptor() {
    let socket = fresh();
    let fd = create::attach(socket, false).unwrap();
    commands();
    engine().record(socket.index).reset();
    let mut number = 0;
    // SAFETY: calls with the arguments they want.
    unsafe {
        let result = calls::ioctl(fd, libc::FIONREAD, &raw mut number as usize);
        assert_eq!(answer(result), Err(libc::EBADF));
        assert_eq!(answer(calls::fcntl(fd, libc::F_GETFL, 0)), Err(libc::EBADF));
        close(fd);
    }
    assert_eq!(commands(), [], "it is another's now");
}
