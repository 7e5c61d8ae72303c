//! Programs for the kernel, instruction by instruction (bpf(2), RFC 9669).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::sys::check;

const PROG_LOAD: libc::c_int = 5;

/// Kinds of programs.
pub const SOCKET_FILTER: u32 = 1;
pub const XDP: u32 = 6;

/// One instruction.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the high ones.
    registers: u8,
    offset: i16,
    value: i32,
}

pub const fn op(code: u8, destination: u8, source: u8, offset: i16, value: i32) -> Instruction {
    Instruction {
        code,
        registers: destination | source << 4,
        offset,
        value,
    }
}

pub const EXIT: Instruction = op(0x95, 0, 0, 0, 0);

/// What loads a program: the first part of `union bpf_attr` for that.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
}

/// Loads a program, which stays for as long as somebody uses it.
pub fn load(kind: u32, code: &[Instruction]) -> io::Result<OwnedFd> {
    let load = Load {
        kind,
        instructions: code.len() as u32,
        code: code.as_ptr().addr() as u64,
        license: c"MIT OR Apache-2.0".as_ptr().addr() as u64,
    };
    // SAFETY: the command reads the attributes and what they point to: as many instructions as they
    // say, and a C string. All outlive the call.
    unsafe { make(PROG_LOAD, &load) }
}

/// Calls bpf(2).
///
/// # Safety
/// `attributes` are those of the command, and what they point to is there for the kernel to use.
pub unsafe fn call<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    let pointer = &raw const *attributes;
    // SAFETY: pointer and length are those of `attributes`; for the rest the caller answers.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<T>()) };
    check(result as libc::c_int)
}

/// Calls bpf(2) for something that is known by a descriptor, which is closed by exec.
///
/// # Safety
/// As for [`call`], of a command that answers with a new descriptor.
pub unsafe fn make<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller answers for the call; the descriptor is fresh from the kernel, so nobody
    // else owns it.
    unsafe { call(command, attributes).map(|fd| OwnedFd::from_raw_fd(fd)) }
}
