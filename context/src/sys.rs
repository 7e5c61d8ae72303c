//! System calls made directly. The application's side of this crate lives in a library that
//! intercepts libc's wrappers, `syscall(2)` among them, and must not disturb `errno`.

#![allow(unsafe_code)]

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("system calls are made here as Linux on x86-64 wants them");

/// Makes system call `number` and returns what the kernel returns: below 0, an error's negative.
///
/// # Safety
/// As the system call.
#[inline]
pub unsafe fn syscall(number: i64, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the kernel's convention (syscall(2)): rcx and r11 are lost, memory is what the call
    // makes of it, for which the caller answers.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// The error that a system call returned.
pub(crate) fn error(result: isize) -> std::io::Error {
    std::io::Error::from_raw_os_error(-result as i32)
}
