//! dprintf(3) and its kin on a socket of the stack: formatted by libc, then written.
//!
//! Rust cannot define a function with `...`, so two of them begin in assembly: they save the argument
//! registers as the System V ABI (x86-64 supplement, 3.5.7) lays them out for a `va_list`.

#![allow(unsafe_code)]

use crate::calls;
use crate::descriptor::{Behind, behind};
use crate::errno::{Errno, ret};
use crate::interpose::Symbol;
use libc::{c_char, c_int, c_void, size_t};
use std::arch::naked_asm;

/// These symbols' rows of the table.
pub const SYMBOLS: &[Symbol] = &[
    Symbol {
        name: "dprintf",
        family: "files",
        behaviour: "Formats, then writes.",
    },
    Symbol {
        name: "__dprintf_chk",
        family: "files",
        behaviour: "As `dprintf`.",
    },
];

unsafe extern "C" {
    fn vasprintf(to: *mut *mut c_char, format: *const c_char, args: *mut c_void) -> c_int;
}

/// dprintf(3).
///
/// # Safety
/// As dprintf(3).
#[unsafe(naked)]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C-unwind" fn dprintf(fd: c_int, format: *const c_char) -> c_int {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        // A va_list (24 bytes, padded to 32), and the area of saved registers (176).
        "sub rsp, 208",
        "mov [rsp + 48], rdx",
        "mov [rsp + 56], rcx",
        "mov [rsp + 64], r8",
        "mov [rsp + 72], r9",
        "test al, al",
        "je 2f",
        "movaps [rsp + 80], xmm0",
        "movaps [rsp + 96], xmm1",
        "movaps [rsp + 112], xmm2",
        "movaps [rsp + 128], xmm3",
        "movaps [rsp + 144], xmm4",
        "movaps [rsp + 160], xmm5",
        "movaps [rsp + 176], xmm6",
        "movaps [rsp + 192], xmm7",
        "2:",
        // Two arguments have names.
        "mov dword ptr [rsp], 16",
        "mov dword ptr [rsp + 4], 48",
        "lea rax, [rbp + 16]",
        "mov [rsp + 8], rax",
        "lea rax, [rsp + 32]",
        "mov [rsp + 16], rax",
        "mov rdx, rsp",
        "call {print}",
        "leave",
        "ret",
        print = sym print,
    )
}

/// `dprintf` of programs built with `_FORTIFY_SOURCE`.
///
/// # Safety
/// As dprintf(3).
#[unsafe(naked)]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C-unwind" fn __dprintf_chk(
    fd: c_int,
    flag: c_int,
    format: *const c_char,
) -> c_int {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "sub rsp, 208",
        "mov [rsp + 56], rcx",
        "mov [rsp + 64], r8",
        "mov [rsp + 72], r9",
        "test al, al",
        "je 2f",
        "movaps [rsp + 80], xmm0",
        "movaps [rsp + 96], xmm1",
        "movaps [rsp + 112], xmm2",
        "movaps [rsp + 128], xmm3",
        "movaps [rsp + 144], xmm4",
        "movaps [rsp + 160], xmm5",
        "movaps [rsp + 176], xmm6",
        "movaps [rsp + 192], xmm7",
        "2:",
        // Three arguments have names.
        "mov dword ptr [rsp], 24",
        "mov dword ptr [rsp + 4], 48",
        "lea rax, [rbp + 16]",
        "mov [rsp + 8], rax",
        "lea rax, [rsp + 32]",
        "mov [rsp + 16], rax",
        "mov rsi, rdx",
        "mov rdx, rsp",
        "call {print}",
        "leave",
        "ret",
        print = sym print,
    )
}

/// Where both go on: the rest of their arguments as a `va_list`.
unsafe extern "C-unwind" fn print(fd: c_int, format: *const c_char, args: *mut c_void) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { calls::files::vdprintf(fd, format, args) }
}

/// vdprintf(3) on any descriptor; `real` is libc's own.
///
/// # Safety
/// `format` and `args` are what vdprintf(3) wants.
pub unsafe fn vdprintf(
    fd: c_int,
    format: *const c_char,
    args: *mut c_void,
    real: impl FnOnce() -> c_int,
) -> c_int {
    match behind(fd) {
        Behind::Kernel | Behind::Epoll(_) => real(),
        Behind::Hidden => ret(Err(Errno(libc::EBADF))),
        Behind::Stack(_) => {
            let mut text = std::ptr::null_mut();
            // SAFETY: the caller's promise; the text is allocated by libc and freed below.
            unsafe {
                let len = vasprintf(&raw mut text, format, args);
                let Ok(size) = size_t::try_from(len) else {
                    return -1;
                };
                let wrote = write_all(fd, text.cast(), size);
                libc::free(text.cast());
                if wrote == size { len } else { -1 }
            }
        }
    }
}

/// Writes `len` bytes, however many calls it takes. Returns how many were written; fewer mean an
/// error, which `errno` names.
///
/// # Safety
/// `from` points to that many bytes.
pub(super) unsafe fn write_all(fd: c_int, from: *const u8, len: usize) -> usize {
    let mut done = 0;
    while done < len {
        // SAFETY: the caller's promise.
        let n = unsafe { calls::io::write(fd, from.add(done).cast(), len - done) };
        match usize::try_from(n) {
            Ok(1..) => done += n as usize,
            _ => break,
        }
    }
    done
}
