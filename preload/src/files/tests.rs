//! The kernel is the oracle where it can be: the same calls on a connection of each.

#![allow(unsafe_code)]

use super::{print, syscall};
use crate::calls::{descriptors, files as calls};
use crate::socket::{SocketRef, create, find};
use crate::testing::{TX_LIMIT, commands, engine, established, when_waiting};
use crate::{errno, real};
use libc::{c_char, c_int, c_long};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering::SeqCst;

/// A C call's result, or its errno.
fn answer(result: isize) -> std::result::Result<isize, c_int> {
    match result {
        -1 => Err(errno::get()),
        result => Ok(result),
    }
}

/// A connected socket of the stack, not blocking.
fn stack() -> (RawFd, SocketRef) {
    let socket = established();
    let fd = create::attach(socket, false).unwrap();
    let flags = &socket.record().app.file_flags;
    flags.store(libc::O_NONBLOCK as u32, SeqCst);
    commands();
    (fd, socket)
}

fn close(fd: RawFd) {
    // SAFETY: the test's own descriptor.
    assert_eq!(unsafe { descriptors::close(fd) }, 0);
}

/// A kernel connection over the loopback.
fn kernel() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

/// A file of these bytes, at its start.
fn file(bytes: &[u8]) -> OwnedFd {
    // SAFETY: makes a descriptor that nobody else owns.
    let file = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"test".as_ptr(), 0)) };
    assert_eq!(real::write(file.as_raw_fd(), bytes), Ok(bytes.len()));
    seek(&file, 0);
    file
}

fn seek(file: &OwnedFd, to: i64) {
    // SAFETY: a call with numbers.
    let at = unsafe { libc::lseek(file.as_raw_fd(), to, libc::SEEK_SET) };
    assert_eq!(at, to);
}

fn position(file: &OwnedFd) -> i64 {
    // SAFETY: a call with numbers.
    unsafe { libc::lseek(file.as_raw_fd(), 0, libc::SEEK_CUR) }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: makes two descriptors that nobody else owns.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    }
}

fn sendfile(
    out: RawFd,
    file: RawFd,
    offset: Option<&mut i64>,
    count: usize,
) -> std::result::Result<isize, c_int> {
    let offset = offset.map_or(std::ptr::null_mut(), |offset| &raw mut *offset);
    // SAFETY: the offset lives through the call.
    answer(unsafe { calls::sendfile(out, file, offset, count) })
}

#[test]
fn a_file_is_sent_from_its_position_which_moves() {
    let (fd, socket) = stack();
    let bytes = pattern(10_000);
    let file = file(&bytes);
    seek(&file, 1000);
    assert_eq!(sendfile(fd, file.as_raw_fd(), None, 5000), Ok(5000));
    assert_eq!(position(&file), 6000);
    assert_eq!(engine().sent(socket), bytes[1000..6000]);
    close(fd);
}

#[test]
fn an_offset_moves_and_the_files_position_does_not() {
    let (fd, socket) = stack();
    let bytes = pattern(10_000);
    let file = file(&bytes);
    let mut offset = 7000;
    assert_eq!(
        sendfile(fd, file.as_raw_fd(), Some(&mut offset), 1000),
        Ok(1000)
    );
    assert_eq!((offset, position(&file)), (8000, 0));
    assert_eq!(engine().sent(socket), bytes[7000..8000]);
    close(fd);
}

#[test]
fn the_end_of_the_file_stops_it() {
    let (fd, socket) = stack();
    let bytes = pattern(3000);
    let file = file(&bytes);
    let mut offset = 500;
    assert_eq!(
        sendfile(fd, file.as_raw_fd(), Some(&mut offset), 1 << 40),
        Ok(2500)
    );
    assert_eq!(offset, 3000);
    assert_eq!(sendfile(fd, file.as_raw_fd(), Some(&mut offset), 10), Ok(0));
    assert_eq!(engine().sent(socket), bytes[500..]);
    close(fd);
}

#[test]
fn a_full_stream_gives_a_part_and_then_eagain() {
    let (fd, socket) = stack();
    let limit = TX_LIMIT as usize;
    let bytes = pattern(limit + 5000);
    let file = file(&bytes);
    let mut offset = 0;
    let count = bytes.len();
    let result = sendfile(fd, file.as_raw_fd(), Some(&mut offset), count);
    assert_eq!(result, Ok(limit as isize));
    assert_eq!(offset, limit as i64);
    let result = sendfile(fd, file.as_raw_fd(), Some(&mut offset), count);
    assert_eq!(result, Err(libc::EAGAIN));
    assert_eq!(offset, limit as i64, "unmoved");
    assert_eq!(engine().sent(socket), bytes[..limit]);
    let result = sendfile(fd, file.as_raw_fd(), Some(&mut offset), count);
    assert_eq!(result, Ok(5000));
    close(fd);
}

#[test]
fn what_is_no_file_is_refused_as_in_linux() {
    let (fd, _) = stack();
    let (kernel, _peer) = kernel();
    let (reading, writing) = pipe();
    let plain = file(b"text");
    // SAFETY: makes descriptors that nobody else owns.
    let [directory, write_only] = [
        (c"/".as_ptr(), libc::O_RDONLY),
        (c"/dev/null".as_ptr(), libc::O_WRONLY),
    ]
    .map(|(path, flags)| unsafe { OwnedFd::from_raw_fd(libc::open(path, flags)) });
    let inputs = [
        ("a pipe", reading.as_raw_fd()),
        ("the wrong end", writing.as_raw_fd()),
        ("a directory", directory.as_raw_fd()),
        ("write-only", write_only.as_raw_fd()),
        ("a socket", kernel.as_raw_fd()),
        ("closed", -1),
        ("a file", plain.as_raw_fd()),
    ];
    for (what, input) in inputs {
        for offset in [None, Some(0), Some(-1)] {
            let (mut ours, mut theirs) = (offset, offset);
            let theirs = theirs
                .as_mut()
                .map_or(std::ptr::null_mut(), |o| &raw mut *o);
            // SAFETY: the offset lives through the call.
            let expected = unsafe { libc::sendfile(kernel.as_raw_fd(), input, theirs, 4) };
            let expected = answer(expected);
            seek(&plain, 0);
            assert_eq!(
                sendfile(fd, input, ours.as_mut(), 4),
                expected,
                "{what} {offset:?}"
            );
        }
    }
    close(fd);
}

#[test]
fn a_socket_of_the_stack_is_no_file() {
    let (fd, _) = stack();
    let (kernel, _peer) = kernel();
    assert_eq!(sendfile(kernel.as_raw_fd(), fd, None, 4), Err(libc::EINVAL));
    assert_eq!(sendfile(fd, fd, None, 4), Err(libc::EINVAL));
    close(fd);
}

fn splice(from: RawFd, to: RawFd, len: usize, flags: u32) -> std::result::Result<isize, c_int> {
    let none = std::ptr::null_mut();
    // SAFETY: a call with numbers.
    answer(unsafe { calls::splice(from, none, to, none, len, flags) })
}

#[test]
fn received_bytes_go_into_a_pipe_as_far_as_it_takes_them() {
    let (fd, socket) = stack();
    let (reading, writing) = pipe();
    assert_eq!(splice(fd, writing.as_raw_fd(), 100, 0), Err(libc::EAGAIN));
    let bytes = pattern(200_000);
    engine().receive(socket, &bytes);
    let mut moved = Vec::new();
    while moved.len() < bytes.len() {
        let n = splice(fd, writing.as_raw_fd(), bytes.len(), 0).unwrap();
        assert!(
            n > 0 && n as u64 + socket.record().readable() == (bytes.len() - moved.len()) as u64
        );
        let mut piece = vec![0; n as usize];
        let mut got = 0;
        while got < piece.len() {
            got += real::read(reading.as_raw_fd(), &mut piece[got..]).unwrap();
        }
        moved.extend(piece);
    }
    assert_eq!(moved, bytes);
    engine().add_state(socket, context::socket::state::RX_SHUT);
    assert_eq!(splice(fd, writing.as_raw_fd(), 100, 0), Ok(0));
    close(fd);
}

/// A pair of connected sockets of the kernel, the first of which has read up to an urgent byte.
fn kernel_at_mark() -> (TcpStream, TcpStream) {
    let (mut ours, mut theirs) = kernel();
    theirs.write_all(b"abc").unwrap();
    // SAFETY: the byte lives through the call.
    let sent = unsafe { libc::send(theirs.as_raw_fd(), b"d".as_ptr().cast(), 1, libc::MSG_OOB) };
    assert_eq!(sent, 1);
    let mut before = [0; 3];
    ours.read_exact(&mut before).unwrap();
    let mut ready = libc::pollfd {
        fd: ours.as_raw_fd(),
        events: libc::POLLPRI,
        revents: 0,
    };
    // SAFETY: one entry, which lives through the call.
    assert_eq!(unsafe { libc::poll(&raw mut ready, 1, 10_000) }, 1);
    (ours, theirs)
}

#[test]
fn splicing_never_passes_the_mark_of_urgent_data() {
    let (fd, socket) = stack();
    let blocking = |socket: SocketRef, on: bool| {
        let flags = if on { 0 } else { libc::O_NONBLOCK as u32 };
        socket.record().app.file_flags.store(flags, SeqCst);
    };
    let (reading, writing) = pipe();
    socket.record().app.urgent.received.store(4, SeqCst);
    engine().add_state(socket, context::socket::state::URGENT);
    engine().receive(socket, b"abcdef");
    assert_eq!(splice(fd, writing.as_raw_fd(), 100, 0), Ok(3));
    let mut bytes = [0; 9];
    assert_eq!(real::read(reading.as_raw_fd(), &mut bytes), Ok(3));
    assert_eq!(&bytes[..3], b"abc");

    let (theirs, _peer) = kernel_at_mark();
    for (block, expected) in [(true, Ok(0)), (false, Err(libc::EAGAIN))] {
        theirs.set_nonblocking(!block).unwrap();
        let theirs = splice(theirs.as_raw_fd(), writing.as_raw_fd(), 100, 0);
        blocking(socket, block);
        let ours = splice(fd, writing.as_raw_fd(), 100, 0);
        assert_eq!((ours, theirs), (expected, expected));
    }
    assert_eq!(socket.record().readable(), 3);
    close(fd);
}

#[test]
fn splicing_that_finds_nothing_sleeps_until_the_urgent_byte_comes() {
    let (fd, socket) = stack();
    socket.record().app.file_flags.store(0, SeqCst);
    let (_reading, writing) = pipe();
    socket.record().app.urgent.received.store(1, SeqCst);
    engine().add_state(socket, context::socket::state::URGENT);
    let arrive = || engine().receive(socket, b"u");
    let to_pipe = || splice(fd, writing.as_raw_fd(), 100, 0);
    assert_eq!(when_waiting(socket, arrive, to_pipe), Ok(0));
    close(fd);
}

#[test]
fn a_full_pipe_keeps_the_bytes_in_the_stream() {
    let (fd, socket) = stack();
    let (_reading, writing) = pipe();
    while real::write(writing.as_raw_fd(), &[0; 4096]).is_ok() {}
    engine().receive(socket, b"stay");
    assert_eq!(splice(fd, writing.as_raw_fd(), 100, 0), Err(libc::EAGAIN));
    assert_eq!(socket.record().readable(), 4);
    close(fd);
}

#[test]
fn bytes_of_a_pipe_are_sent() {
    let (fd, socket) = stack();
    let (reading, writing) = pipe();
    let flags = libc::SPLICE_F_NONBLOCK;
    assert_eq!(
        splice(reading.as_raw_fd(), fd, 100, flags),
        Err(libc::EAGAIN)
    );
    let bytes = pattern(3000);
    real::write(writing.as_raw_fd(), &bytes).unwrap();
    assert_eq!(splice(reading.as_raw_fd(), fd, 1000, flags), Ok(1000));
    assert_eq!(splice(reading.as_raw_fd(), fd, 1 << 20, 0), Ok(2000));
    assert_eq!(engine().sent(socket), bytes);
    drop(writing);
    assert_eq!(splice(reading.as_raw_fd(), fd, 100, 0), Ok(0));
    close(fd);
}

#[test]
fn splicing_needs_a_pipe_and_no_offset() {
    let (fd, _) = stack();
    let plain = file(b"text");
    let (_reading, writing) = pipe();
    assert_eq!(splice(fd, plain.as_raw_fd(), 4, 0), Err(libc::EINVAL));
    assert_eq!(splice(plain.as_raw_fd(), fd, 4, 0), Err(libc::EINVAL));
    assert_eq!(splice(fd, fd, 4, 0), Err(libc::EINVAL));
    assert_eq!(splice(fd, -1, 4, 0), Err(libc::EBADF));
    let mut offset = 0;
    let none = std::ptr::null_mut();
    // SAFETY: the offset lives through the call.
    let result = unsafe { calls::splice(fd, &raw mut offset, writing.as_raw_fd(), none, 4, 0) };
    assert_eq!(answer(result), Err(libc::EINVAL), "of the socket");
    // SAFETY: as above.
    let result = unsafe { calls::splice(fd, none, writing.as_raw_fd(), &raw mut offset, 4, 0) };
    assert_eq!(answer(result), Err(libc::ESPIPE), "of the pipe");
    close(fd);
}

#[test]
fn a_stream_reads_and_writes_the_socket_and_closes_it() {
    let (fd, socket) = stack();
    engine().receive(socket, b"first\nsecond\n");
    // SAFETY: a stream of our own, used as stdio wants it.
    unsafe {
        let file = calls::fdopen(fd, c"r+".as_ptr());
        assert!(!file.is_null());
        assert_eq!(libc::fileno(file), fd);
        let mut line: [c_char; 32] = [0; 32];
        assert!(!libc::fgets(line.as_mut_ptr(), 32, file).is_null());
        assert_eq!(std::ffi::CStr::from_ptr(line.as_ptr()), c"first\n");
        assert_eq!(libc::fclose(file), 0);
        let (fd, _) = (fd, ());
        assert!(find(fd).is_none_or(|s| s.index != socket.index));
    }
    let (fd, socket) = stack();
    // SAFETY: as above.
    unsafe {
        let file = calls::fdopen(fd, c"w".as_ptr());
        assert!(libc::fputs(c"hello".as_ptr(), file) >= 0);
        assert_eq!(libc::fflush(file), 0);
        assert_eq!(engine().sent(socket), b"hello");
        assert_eq!(libc::fclose(file), 0);
        let (fd, _) = stack();
        assert!(calls::fdopen(fd, c"x".as_ptr()).is_null());
        assert_eq!(errno::get(), libc::EINVAL);
        close(fd);
    }
}

#[test]
fn a_standard_stream_over_a_socket_writes_there_what_it_has_and_will_have() {
    let (fd, socket) = stack();
    let (reading, writing) = pipe();
    // SAFETY: streams of our own, used as stdio wants it.
    unsafe {
        let before = libc::fdopen(writing.into_raw_fd(), c"w".as_ptr());
        libc::fputs(c"unwritten, ".as_ptr(), before);
        let mut variable = before;
        super::standard::replace(&raw mut variable, fd, c"w");
        assert_ne!(variable, before);
        libc::fputs(c"then this".as_ptr(), variable);
        assert_eq!(libc::fclose(variable), 0);
        assert_eq!(engine().sent(socket), b"unwritten, then this");
        assert_eq!(libc::fclose(before), 0);
    }
    assert_eq!(
        std::io::read_to_string(std::fs::File::from(reading)).unwrap(),
        ""
    );
}

type Print = unsafe extern "C" fn(c_int, *const c_char, ...) -> c_int;
type CheckedPrint = unsafe extern "C" fn(c_int, c_int, *const c_char, ...) -> c_int;

#[test]
fn formatted_text_is_sent_with_all_kinds_of_arguments() {
    let (fd, socket) = stack();
    let format = c"%d %s %ld %.1f %c %d %d %.2f %d %s".as_ptr();
    let expected = b"1 two 3 4.5 x 6 7 8.25 9 ten".to_vec();
    // SAFETY: the functions take variable arguments in the C ABI, and the arguments fit the format.
    unsafe {
        let function = print::dprintf as *const ();
        let dprintf = std::mem::transmute::<*const (), Print>(function);
        let (two, ten) = (c"two".as_ptr(), c"ten".as_ptr());
        let x = c_int::from(b'x');
        let n = dprintf(
            fd,
            format,
            1,
            two,
            3 as c_long,
            4.5f64,
            x,
            6,
            7,
            8.25f64,
            9,
            ten,
        );
        assert_eq!(n as usize, expected.len());
        assert_eq!(engine().sent(socket), expected);
        let function = print::__dprintf_chk as *const ();
        let checked = std::mem::transmute::<*const (), CheckedPrint>(function);
        let n = checked(
            fd,
            1,
            format,
            1,
            two,
            3 as c_long,
            4.5f64,
            x,
            6,
            7,
            8.25f64,
            9,
            ten,
        );
        assert_eq!(n as usize, expected.len());
        assert_eq!(engine().sent(socket), expected);
        let (reading, writing) = pipe();
        assert_eq!(dprintf(writing.as_raw_fd(), c"%d-%s".as_ptr(), 42, two), 6);
        let mut text = [0; 16];
        assert_eq!(real::read(reading.as_raw_fd(), &mut text), Ok(6));
        assert_eq!(&text[..6], b"42-two");
    }
    close(fd);
}

/// A system call by number.
fn by_number(number: c_long, args: [usize; 6]) -> std::result::Result<isize, c_int> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the tests give each call what it wants.
    answer(unsafe { syscall::syscall(number, a, b, c, d, e, f) as isize })
}

#[test]
fn calls_by_number_reach_the_stack() {
    let (fd, socket) = stack();
    engine().receive(socket, b"ping");
    let mut buffer = [0u8; 8];
    let (at, fd_word) = (buffer.as_mut_ptr() as usize, fd as usize);
    assert_eq!(by_number(libc::SYS_read, [fd_word, at, 8, 0, 0, 0]), Ok(4));
    assert_eq!(&buffer[..4], b"ping");
    assert_eq!(
        by_number(libc::SYS_read, [fd_word, at, 8, 0, 0, 0]),
        Err(libc::EAGAIN)
    );
    assert_eq!(
        by_number(libc::SYS_sendto, [fd_word, at, 4, 0, 0, 0]),
        Ok(4)
    );
    assert_eq!(engine().sent(socket), b"ping");
    assert_eq!(by_number(libc::SYS_close, [fd_word, 0, 0, 0, 0, 0]), Ok(0));
    let close = socket.command(context::command::Op::Close, 0);
    assert!(commands().contains(&close));
}

/// Forks by number a child that exits at once, with status 7. It runs on this stack.
fn fork_by_number(number: c_long, first: usize, second: usize) -> c_int {
    let child: isize;
    // SAFETY: the child writes to nothing; the parent goes on as after any call.
    unsafe {
        std::arch::asm!(
            "call {syscall}",
            "test eax, eax",
            "jnz 2f",
            "mov edi, 7",
            "mov eax, {exit}",
            "syscall",
            "2:",
            syscall = sym syscall::syscall,
            exit = const libc::SYS_exit,
            in("rdi") number,
            in("rsi") first,
            in("rdx") second,
            in("rcx") 0,
            in("r8") 0,
            in("r9") 0,
            lateout("rax") child,
            clobber_abi("C"),
        );
    }
    child as c_int
}

#[test]
fn children_by_number_may_share_memory_and_stack() {
    engine();
    let shares = (libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD) as usize;
    let own = libc::SIGCHLD as usize;
    let mut arguments = [0u64; 8];
    arguments[0] = (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    arguments[4] = libc::SIGCHLD as u64;
    let at = arguments.as_ptr() as usize;
    let size = size_of_val(&arguments);
    for (number, first, second) in [
        (libc::SYS_vfork, 0, 0),
        (libc::SYS_clone, shares, 0),
        (libc::SYS_clone3, at, size),
        (libc::SYS_fork, 0, 0),
        (libc::SYS_clone, own, 0),
    ] {
        let child = fork_by_number(number, first, second);
        assert!(child > 0, "{number}: {}", errno::get());
        let mut status = 0;
        // SAFETY: a child of our own.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(libc::WEXITSTATUS(status), 7, "{number}");
        assert!(!crate::thread::is_guest());
    }
    let invalid = by_number(libc::SYS_clone3, [0; 6]);
    assert_eq!(invalid, Err(libc::EINVAL));
}

#[test]
fn calls_by_number_on_the_kernels_descriptors_pass() {
    let (mut client, peer) = kernel();
    let fd = peer.as_raw_fd() as usize;
    let text = b"pong";
    let args = [fd, text.as_ptr() as usize, 4, 0, 0, 0];
    assert_eq!(by_number(libc::SYS_write, args), Ok(4));
    let mut buffer = [0; 4];
    client.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, text);
    let bad = [usize::MAX, 0, 0, 0, 0, 0];
    assert_eq!(by_number(libc::SYS_close, bad), Err(libc::EBADF));
}

#[test]
fn a_call_that_is_nobodys_business_passes_with_all_six_arguments() {
    let mut bytes = vec![1; 4096];
    bytes.extend([2; 4096]);
    let file = file(&bytes);
    let (protection, flags) = (libc::PROT_READ as usize, libc::MAP_PRIVATE as usize);
    let args = [0, 4096, protection, flags, file.as_raw_fd() as usize, 4096];
    let at = by_number(libc::SYS_mmap, args).unwrap();
    // SAFETY: the mapping is 4096 bytes long, and readable.
    let first = unsafe { *std::ptr::with_exposed_provenance::<u8>(at as usize) };
    assert_eq!(first, 2);
    assert_eq!(
        by_number(libc::SYS_munmap, [at as usize, 4096, 0, 0, 0, 0]),
        Ok(0)
    );
    assert_eq!(by_number(5000, [0; 6]), Err(libc::ENOSYS));
    assert_eq!(by_number(-1, [0; 6]), Err(libc::ENOSYS));
}

#[test]
fn io_uring_is_not_there() {
    engine();
    let mut params = [0u64; 15];
    let args = [8, params.as_mut_ptr() as usize, 0, 0, 0, 0];
    assert_eq!(by_number(libc::SYS_io_uring_setup, args), Err(libc::ENOSYS));
}
