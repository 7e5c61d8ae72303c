//! exec(2) and its relatives: a program that is executed finds the stack, and the sockets that it
//! inherits.

#![allow(unsafe_code)]

use super::{environment, lease};
use crate::process;
use crate::{log, real};
use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A program as the functions of the exec family name it.
#[derive(Clone, Copy)]
pub enum Program {
    /// By its path.
    Path(*const c_char),
    /// By its name, to be looked for in PATH unless there is a slash in it.
    Name(*const c_char),
    /// By a descriptor.
    Descriptor(c_int),
}

/// Executes `program` by `real`, in this process or in a child of it, with `given` as its environment.
///
/// # Safety
/// `program` is a C string, and `given` null or a vector of C strings that ends with null.
pub unsafe fn execute<R>(
    program: Program,
    given: *const *const c_char,
    real: impl FnOnce(*const *const c_char) -> R,
) -> R {
    let Some(process) = process::process() else {
        return real(given);
    };
    let _companions = lease::before_exec();
    // SAFETY: the caller's promises.
    unsafe {
        warn(program);
        environment::complete(process, given, real)
    }
}

/// Says so if this library cannot enter the program.
///
/// # Safety
/// As [`execute`].
unsafe fn warn(program: Program) {
    // SAFETY: the caller's promise.
    let Some(path) = (unsafe { path_of(program) }) else {
        return;
    };
    if let Some(obstacle) = config::obstacle(&path, real::effective_ids(), has_capabilities) {
        log::format(format_args!(
            "{} {obstacle}: this library cannot enter it, its connections stay with the kernel",
            path.display()
        ));
    }
}

/// # Safety
/// As [`execute`].
unsafe fn path_of(program: Program) -> Option<PathBuf> {
    let path = |name: *const c_char| {
        // SAFETY: the caller's promise.
        let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) })?;
        Some(Path::new(OsStr::from_bytes(name.to_bytes())))
    };
    match program {
        Program::Descriptor(fd) => Some(PathBuf::from(format!("/proc/self/fd/{fd}"))),
        Program::Path(name) => path(name).map(Path::to_owned),
        Program::Name(name) => {
            let name = path(name)?;
            if name.as_os_str().as_bytes().contains(&b'/') {
                return Some(name.to_owned());
            }
            // SAFETY: a C string, or null.
            let search = path(unsafe { libc::getenv(c"PATH".as_ptr()) });
            let search = search.unwrap_or(Path::new("/bin:/usr/bin"));
            let mut candidates = std::env::split_paths(search).map(|folder| folder.join(name));
            candidates.find(|path| real::may_execute(path))
        }
    }
}

fn has_capabilities(path: &Path) -> bool {
    real::has_attribute(path, c"security.capability")
}
