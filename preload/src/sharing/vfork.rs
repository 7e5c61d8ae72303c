//! Functions that cannot be written in Rust: vfork(2), which returns twice to the same memory, and
//! execl(3) with its relatives, which take any number of arguments.

#![allow(unsafe_code)]

use super::{environment, guest};
use crate::calls::processes::{execl_vector, execle_vector, execlp_vector};
use crate::errno;
use crate::interpose::Symbol;
use crate::thread;
use libc::{c_char, c_int, pid_t};
use std::arch::naked_asm;

/// These symbols' rows of the table.
pub const SYMBOLS: &[Symbol] = &[
    Symbol {
        name: "vfork",
        family: "processes",
        behaviour: "What the child does to its descriptors does not touch its parent's.",
    },
    Symbol {
        name: "execl",
        family: "processes",
        behaviour: "As `execve`.",
    },
    Symbol {
        name: "execlp",
        family: "processes",
        behaviour: "As `execve`.",
    },
    Symbol {
        name: "execle",
        family: "processes",
        behaviour: "As `execve`.",
    },
];

/// vfork(2). The return address is kept in a register while the child uses the stack, as glibc does.
///
/// # Safety
/// As vfork(2).
#[unsafe(naked)]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C-unwind" fn vfork() -> pid_t {
    naked_asm!(
        "sub rsp, 8",
        "call {before}",
        "add rsp, 8",
        "pop rdi",
        "mov eax, {number}",
        "syscall",
        "push rdi",
        "test eax, eax",
        "jz 2f",
        "sub rsp, 8",
        "mov rdi, rax",
        "call {after}",
        "add rsp, 8",
        "2:",
        "ret",
        number = const libc::SYS_vfork,
        before = sym before,
        after = sym after,
    )
}

extern "C" fn before() {
    thread::count_guest(true);
}

/// In the parent, once the child has memory of its own or is gone, or if there is none.
extern "C" fn after(result: isize) -> pid_t {
    thread::count_guest(false);
    guest::release();
    environment::clean();
    if result < 0 {
        errno::set(-result as c_int);
        return -1;
    }
    result as pid_t
}

/// Defines a function whose arguments are a list: it is given to another as a vector.
macro_rules! takes_a_list {
    ($(#[$documentation:meta])* $name:ident, by $execute:path) => {
        $(#[$documentation])*
        ///
        /// # Safety
        /// As execl(3).
        #[unsafe(naked)]
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C-unwind" fn $name(path: *const c_char, first: *const c_char) -> c_int {
            // The arguments in registers are put in front of those on the stack, behind which they
            // belong: together they are the vector. The call returns only if it fails.
            naked_asm!(
                "pop rax", "push r9", "push r8", "push rcx", "push rdx", "push rsi",
                "mov rsi, rsp", "push rax",
                "call {execute}",
                "pop rcx", "add rsp, 40", "push rcx", "ret",
                execute = sym $execute,
            )
        }
    };
}

takes_a_list!(
    /// execl(3).
    execl, by execl_vector
);
takes_a_list!(
    /// execlp(3).
    execlp, by execlp_vector
);
takes_a_list!(
    /// execle(3).
    execle, by execle_vector
);
