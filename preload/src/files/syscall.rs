//! syscall(2): programs that make system calls by number (libuv closes sockets so) get the same as
//! those that use the functions.
//!
//! A number that is nobody's business here goes to the kernel as in libc's own function, without a
//! stack frame: a child that shares its parent's stack may return from it.

#![allow(unsafe_code)]

use crate::calls::{descriptors, files, io, options, processes, readiness, sockets};
use crate::errno::{self, Errno, ret};
use crate::interpose::Symbol;
use crate::process;
use crate::sharing::confine;
use crate::sharing::vfork::vfork;
use fdmap::Entry;
use libc::{c_int, c_long, c_uint};
use std::arch::naked_asm;
use std::mem::offset_of;

/// This symbol's row of the table.
pub const SYMBOLS: &[Symbol] = &[Symbol {
    name: "syscall",
    family: "files",
    behaviour: "By number, as the function of that name; `io_uring_setup` gives `ENOSYS`.",
}];

/// Numbers from here on are the kernel's.
const NUMBERS: usize = 512;

/// How a system call names the descriptors that decide where it goes.
#[derive(Clone, Copy)]
enum By {
    /// Its first argument.
    First,
    /// Its first or its second.
    FirstTwo,
    /// Its first or its third.
    FirstAndThird,
    /// It has none: it is taken in any case.
    Any,
}

/// The numbers that are looked at here.
const TAKEN: &[(c_long, By)] = &[
    (libc::SYS_read, By::First),
    (libc::SYS_write, By::First),
    (libc::SYS_close, By::First),
    (libc::SYS_fstat, By::First),
    (libc::SYS_ioctl, By::First),
    (libc::SYS_readv, By::First),
    (libc::SYS_writev, By::First),
    (libc::SYS_preadv2, By::First),
    (libc::SYS_pwritev2, By::First),
    (libc::SYS_dup, By::First),
    (libc::SYS_dup2, By::FirstTwo),
    (libc::SYS_dup3, By::FirstTwo),
    (libc::SYS_fcntl, By::First),
    (libc::SYS_sendfile, By::FirstTwo),
    (libc::SYS_splice, By::FirstAndThird),
    (libc::SYS_close_range, By::Any),
    (libc::SYS_socket, By::Any),
    (libc::SYS_connect, By::First),
    (libc::SYS_accept, By::First),
    (libc::SYS_accept4, By::First),
    (libc::SYS_bind, By::First),
    (libc::SYS_listen, By::First),
    (libc::SYS_shutdown, By::First),
    (libc::SYS_getsockname, By::First),
    (libc::SYS_getpeername, By::First),
    (libc::SYS_getsockopt, By::First),
    (libc::SYS_setsockopt, By::First),
    (libc::SYS_sendto, By::First),
    (libc::SYS_recvfrom, By::First),
    // Sockets of the stack may be in a message.
    (libc::SYS_sendmsg, By::Any),
    (libc::SYS_recvmsg, By::Any),
    (libc::SYS_sendmmsg, By::Any),
    (libc::SYS_recvmmsg, By::Any),
    (libc::SYS_epoll_create, By::Any),
    (libc::SYS_epoll_create1, By::Any),
    (libc::SYS_epoll_ctl, By::FirstAndThird),
    (libc::SYS_epoll_wait, By::First),
    (libc::SYS_epoll_pwait, By::First),
    (libc::SYS_epoll_pwait2, By::First),
    (libc::SYS_poll, By::Any),
    (libc::SYS_ppoll, By::Any),
    (libc::SYS_select, By::Any),
    (libc::SYS_io_uring_setup, By::Any),
    (libc::SYS_fork, By::Any),
    (libc::SYS_vfork, By::Any),
    (libc::SYS_clone, By::Any),
    (libc::SYS_clone3, By::Any),
    (libc::SYS_execve, By::Any),
    (libc::SYS_execveat, By::Any),
    (libc::SYS_pidfd_getfd, By::Any),
    (libc::SYS_seccomp, By::Any),
];

/// A bit for each number of [`TAKEN`].
static TABLE: [u64; NUMBERS / 64] = {
    let mut table = [0; NUMBERS / 64];
    let mut i = 0;
    while i < TAKEN.len() {
        let number = TAKEN[i].0 as usize;
        table[number / 64] |= 1 << (number % 64);
        i += 1;
    }
    table
};

/// syscall(2).
///
/// # Safety
/// As the system call.
#[unsafe(naked)]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C-unwind" fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    naked_asm!(
        "cmp rdi, {numbers}",
        "jae 2f",
        "lea rax, [rip + {table}]",
        "bt qword ptr [rax], rdi",
        "jc 4f",
        "2:",
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rdx, rcx",
        "mov r10, r8",
        "mov r8, r9",
        "mov r9, [rsp + 8]",
        "syscall",
        "cmp rax, -4095",
        "jae 3f",
        "ret",
        "3:",
        "neg eax",
        "mov edi, eax",
        "jmp {fail}",
        // A child that shares its parent's memory, or starts on a stack of its own, must not return
        // through frames of this library.
        "4:",
        "cmp rdi, {vfork_number}",
        "je {vfork}",
        "cmp rdi, {clone}",
        "jne 5f",
        "test esi, {vm}",
        "jnz 2b",
        "test rdx, rdx",
        "jnz 2b",
        "5:",
        "cmp rdi, {clone3}",
        "jne {dispatch}",
        "test rsi, rsi",
        "jz 2b",
        "cmp rdx, {clone3_least}",
        "jb 2b",
        "test dword ptr [rsi], {vm}",
        "jnz 2b",
        "cmp qword ptr [rsi + {clone3_stack}], 0",
        "jne 2b",
        "jmp {dispatch}",
        numbers = const NUMBERS,
        table = sym TABLE,
        dispatch = sym dispatch,
        fail = sym fail,
        vfork = sym vfork,
        vfork_number = const libc::SYS_vfork,
        clone = const libc::SYS_clone,
        clone3 = const libc::SYS_clone3,
        vm = const libc::CLONE_VM,
        clone3_least = const offset_of!(libc::clone_args, set_tid),
        clone3_stack = const offset_of!(libc::clone_args, stack),
    )
}

extern "C-unwind" fn fail(errno: c_int) -> c_long {
    ret(Err(Errno(errno)))
}

/// A system call whose number is in the table.
unsafe extern "C-unwind" fn dispatch(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    let by = TAKEN.iter().find(|(taken, _)| *taken == number);
    let is_ours = process::process().is_some()
        && match by.map(|(_, by)| *by) {
            Some(By::First) => is_known(a),
            Some(By::FirstTwo) => is_known(a) || is_known(b),
            Some(By::FirstAndThird) => is_known(a) || is_known(c),
            Some(By::Any) => true,
            None => false,
        };
    if is_ours {
        // SAFETY: the caller's arguments.
        unsafe { call(number, [a, b, c, d, e, f]) }
    } else {
        // SAFETY: as above.
        let result = unsafe { crate::real::syscall(number, [a, b, c, d, e, f]) };
        errno::ret(result.map(|n| n as c_long))
    }
}

/// Whether anything but the kernel stands behind a descriptor.
fn is_known(fd: usize) -> bool {
    fdmap::get(fd as c_int) != Entry::Kernel
}

/// # Safety
/// As the system call.
unsafe fn call(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> c_long {
    let fd = a as c_int;
    // SAFETY: each function gets what the system call of its name was given; where the kernel's own
    // form differs, the difference is noted.
    unsafe {
        match number {
            libc::SYS_read => io::read(fd, b as _, c) as c_long,
            libc::SYS_write => io::write(fd, b as _, c) as c_long,
            libc::SYS_readv => io::readv(fd, b as _, c as c_int) as c_long,
            libc::SYS_writev => io::writev(fd, b as _, c as c_int) as c_long,
            // The fifth argument is the upper half of the offset where a register is too narrow.
            libc::SYS_preadv2 => io::preadv2(fd, b as _, c as c_int, d as _, f as c_int) as c_long,
            libc::SYS_pwritev2 => {
                io::pwritev2(fd, b as _, c as c_int, d as _, f as c_int) as c_long
            }
            libc::SYS_close => descriptors::close(fd).into(),
            libc::SYS_fstat => descriptors::fstat(fd, b as _).into(),
            libc::SYS_ioctl => descriptors::ioctl(fd, b as _, c).into(),
            libc::SYS_dup => descriptors::dup(fd).into(),
            libc::SYS_dup2 => descriptors::dup2(fd, b as c_int).into(),
            libc::SYS_dup3 => descriptors::dup3(fd, b as c_int, c as c_int).into(),
            libc::SYS_fcntl => descriptors::fcntl(fd, b as c_int, c).into(),
            libc::SYS_close_range => {
                descriptors::close_range(a as c_uint, b as c_uint, c as c_int).into()
            }
            libc::SYS_sendfile => files::sendfile(fd, b as c_int, c as _, d) as c_long,
            libc::SYS_splice => {
                files::splice(fd, b as _, c as c_int, d as _, e, f as c_uint) as c_long
            }
            libc::SYS_socket => sockets::socket(fd, b as c_int, c as c_int).into(),
            libc::SYS_connect => sockets::connect(fd, b as _, c as _).into(),
            libc::SYS_accept => sockets::accept(fd, b as _, c as _).into(),
            libc::SYS_accept4 => sockets::accept4(fd, b as _, c as _, d as c_int).into(),
            libc::SYS_bind => sockets::bind(fd, b as _, c as _).into(),
            libc::SYS_listen => sockets::listen(fd, b as c_int).into(),
            libc::SYS_shutdown => sockets::shutdown(fd, b as c_int).into(),
            libc::SYS_getsockname => sockets::getsockname(fd, b as _, c as _).into(),
            libc::SYS_getpeername => sockets::getpeername(fd, b as _, c as _).into(),
            libc::SYS_getsockopt => {
                options::getsockopt(fd, b as c_int, c as c_int, d as _, e as _).into()
            }
            libc::SYS_setsockopt => {
                options::setsockopt(fd, b as c_int, c as c_int, d as _, e as _).into()
            }
            libc::SYS_sendto => io::sendto(fd, b as _, c, d as c_int, e as _, f as _) as c_long,
            libc::SYS_recvfrom => io::recvfrom(fd, b as _, c, d as c_int, e as _, f as _) as c_long,
            libc::SYS_sendmsg => io::sendmsg(fd, b as _, c as c_int) as c_long,
            libc::SYS_recvmsg => io::recvmsg(fd, b as _, c as c_int) as c_long,
            libc::SYS_sendmmsg => io::sendmmsg(fd, b as _, c as c_uint, d as c_int).into(),
            libc::SYS_recvmmsg => io::recvmmsg(fd, b as _, c as c_uint, d as c_int, e as _).into(),
            libc::SYS_epoll_create => readiness::epoll_create(fd).into(),
            libc::SYS_epoll_create1 => readiness::epoll_create1(fd).into(),
            libc::SYS_epoll_ctl => readiness::epoll_ctl(fd, b as c_int, c as c_int, d as _).into(),
            libc::SYS_epoll_wait => {
                readiness::epoll_wait(fd, b as _, c as c_int, d as c_int).into()
            }
            // The kernel's forms of these three end with the size of the mask, which is one word.
            libc::SYS_epoll_pwait => {
                readiness::epoll_pwait(fd, b as _, c as c_int, d as c_int, e as _).into()
            }
            libc::SYS_epoll_pwait2 => {
                readiness::epoll_pwait2(fd, b as _, c as c_int, d as _, e as _).into()
            }
            // The kernel writes the time left to the timeout; who asks by number and relies on it
            // gets the timeout unchanged.
            libc::SYS_ppoll => readiness::ppoll(a as _, b as _, c as _, d as _).into(),
            libc::SYS_poll => readiness::poll(a as _, b as _, c as c_int).into(),
            libc::SYS_select => readiness::select(fd, b as _, c as _, d as _, e as _).into(),
            // Its rings would bypass this library. libuv and others fall back.
            libc::SYS_io_uring_setup => ret(Err(Errno(libc::ENOSYS))),
            // glibc's function is the bare system call.
            libc::SYS_fork => processes::_Fork().into(),
            // Only those whose child has memory of its own, on a copy of this stack.
            libc::SYS_clone | libc::SYS_clone3 => {
                let flags = match number {
                    libc::SYS_clone => a as u64,
                    // What calls this has looked at the struct before.
                    _ => (*(a as *const libc::clone_args)).flags,
                };
                if flags & libc::CLONE_FILES as u64 != 0 {
                    let child = crate::real::syscall(number, [a, b, c, d, e, f]);
                    if child == Ok(0) {
                        process::leave();
                    }
                    return errno::ret(child.map(|pid| pid as c_long));
                }
                process::before_fork();
                let child = crate::real::syscall(number, [a, b, c, d, e, f]);
                match child {
                    Ok(0) => process::in_child(),
                    _ => process::in_parent(),
                }
                errno::ret(child.map(|pid| pid as c_long))
            }
            libc::SYS_execve => processes::execve(a as _, b as _, c as _).into(),
            libc::SYS_execveat => {
                processes::execveat(fd, b as _, c as _, d as _, e as c_int).into()
            }
            libc::SYS_pidfd_getfd => processes::pidfd_getfd(fd, b as c_int, c as c_uint).into(),
            libc::SYS_seccomp => {
                confine::prepare();
                let result = crate::real::syscall(number, [a, b, c, d, e, f]);
                errno::ret(result.map(|n| n as c_long))
            }
            _ => ret(Err(Errno(libc::ENOSYS))),
        }
    }
}
