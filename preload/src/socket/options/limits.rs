//! Linux's limits of the buffer sizes that a program may ask for (socket(7)).

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};

/// `net.core.wmem_max`
pub fn send() -> u32 {
    static LIMIT: AtomicU32 = AtomicU32::new(0);
    read_once(&LIMIT, c"/proc/sys/net/core/wmem_max")
}

/// `net.core.rmem_max`
pub fn receive() -> u32 {
    static LIMIT: AtomicU32 = AtomicU32::new(0);
    read_once(&LIMIT, c"/proc/sys/net/core/rmem_max")
}

fn read_once(limit: &AtomicU32, path: &std::ffi::CStr) -> u32 {
    match limit.load(Ordering::Relaxed) {
        0 => {
            // Linux's own default, for where the file cannot be read.
            let value = read(path).unwrap_or(212_992);
            limit.store(value, Ordering::Relaxed);
            value
        }
        value => value,
    }
}

fn read(path: &std::ffi::CStr) -> Option<u32> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    let args = [
        libc::AT_FDCWD as usize,
        path.as_ptr() as usize,
        flags as usize,
        0,
        0,
        0,
    ];
    // SAFETY: the path ends with 0, and the kernel only reads it.
    let fd = unsafe { crate::real::syscall(libc::SYS_openat, args) }.ok()? as i32;
    let mut text = [0; 16];
    let len = crate::real::read(fd, &mut text);
    crate::real::close(fd);
    let text = str::from_utf8(text.get(..len.ok()?)?).ok()?;
    text.trim().parse().ok().filter(|limit| *limit > 0)
}
