//! What a call needs of its thread's memory, in one place that is found by two instructions.
//!
//! In a shared library, each access to a `thread_local!` calls the dynamic linker. This library is loaded with
//! its program, so its share of each thread's memory lies at a distance from the thread pointer that does
//! not change while the program runs: the *initial exec* model of "ELF Handling For Thread-Local Storage"
//! (Drepper, 4.1.6). A program that loads it by dlopen(3) takes all of the library's thread-local memory, 1.4
//! KB, from the 1.6 KB that glibc reserves for such libraries unless it is told otherwise (tunables
//! `glibc.rtld.nns` and `glibc.rtld.optional_static_tls`); under `LD_PRELOAD` there is no such bound.

#![allow(unsafe_code)]

use crate::{cancel, section, thread};
use std::arch::{asm, global_asm};

/// A thread's own. Each part belongs to its module; all zero is the state of a new thread.
#[repr(C, align(64))]
pub struct Own {
    pub(crate) thread: thread::Local,
    pub(crate) section: section::Local,
    pub(crate) cancel: cancel::Local,
}

// Together with what else the library has, less than the reserve.
const _: () = assert!(size_of::<Own>() <= 256 && align_of::<Own>() == 64);

global_asm!(
    ".pushsection .tbss.mtcp_preload_own,\"awT\",@nobits",
    ".balign 64",
    ".globl mtcp_preload_own",
    ".hidden mtcp_preload_own",
    ".type mtcp_preload_own, @object",
    ".size mtcp_preload_own, {size}",
    "mtcp_preload_own:",
    ".zero {size}",
    ".popsection",
    size = const size_of::<Own>(),
);

/// The calling thread's.
#[inline(always)]
pub fn own() -> &'static Own {
    let at: *const Own;
    // SAFETY: the psABI of x86-64 has the thread pointer at fs:0; the symbol is defined above, with the
    // size and alignment of `Own`, for which zeros are valid. The memory lives as long as its thread does,
    // which the reference cannot leave, since `Own` is not `Sync`.
    unsafe {
        asm!(
            "mov {at}, qword ptr fs:[0]",
            "add {at}, qword ptr [rip + mtcp_preload_own@GOTTPOFF]",
            at = out(reg) at,
            options(pure, nomem, nostack),
        );
        &*at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_its_own_which_begins_as_nothing() {
        let at = || std::ptr::from_ref(own()) as usize;
        assert_eq!(at(), at());
        assert_eq!(at() % align_of::<Own>(), 0);
        thread::count_guest(true);
        let others = std::thread::spawn(move || (at(), thread::is_guest()));
        let (other, is_guest) = others.join().unwrap();
        assert_ne!(at(), other);
        assert!(thread::is_guest() && !is_guest);
        thread::count_guest(false);
    }
}
