//! The system calls of the harness: namespaces, process descriptors, reaping.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Moves the calling thread, and nobody else, into a new network namespace.
pub fn leave_network_namespace() -> io::Result<()> {
    // SAFETY: no pointers are passed; CLONE_NEWNET concerns only the calling thread.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(drop)
}

/// Moves the calling thread, and nobody else, into an existing network namespace.
pub fn enter_network_namespace(namespace: BorrowedFd) -> io::Result<()> {
    // SAFETY: no pointers are passed; CLONE_NEWNET concerns only the calling thread.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

/// Has `command` start inside `namespace`, and die with the thread that started it.
pub fn start_in(command: &mut Command, namespace: Arc<OwnedFd>) {
    let enter = move || {
        // SAFETY: setns and prctl are async-signal-safe system calls without pointers.
        unsafe {
            check(libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET))?;
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing.
    unsafe { command.pre_exec(enter) };
}

/// Has `command` run on one core.
pub fn run_on_core(command: &mut Command, core: usize) {
    let pin = move || {
        // SAFETY: an all-zero cpu_set_t is the empty set, CPU_SET checks its bound, and the call
        // reads no more than the set; all of it is async-signal-safe.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(core, &mut set);
            check(libc::sched_setaffinity(
                0,
                size_of::<libc::cpu_set_t>(),
                &set,
            ))?;
        }
        Ok(())
    };
    // SAFETY: as in `start_in`.
    unsafe { command.pre_exec(pin) };
}

/// Makes orphans of our children our own children, so that they can be reaped.
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }).map(drop)
}

/// Sends a signal to one process.
pub fn signal(pid: u32, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    if pid <= 0 {
        return Err(io::ErrorKind::InvalidInput.into()); // 0 would mean a whole group.
    }
    // SAFETY: no pointers are passed.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Waits until the process has ended; false if `deadline` came first. Does not reap it.
pub fn wait_for_exit(pid: u32, deadline: Instant) -> io::Result<bool> {
    // SAFETY: no pointers are passed; the descriptor is new and ours.
    let process = unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) as libc::c_int;
        match check(fd) {
            Ok(fd) => OwnedFd::from_raw_fd(fd),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(true),
            Err(error) => return Err(error),
        }
    };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        let mut poll = libc::pollfd {
            fd: process.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: `poll` is one pollfd that lives through the call.
        match check(unsafe { libc::poll(&mut poll, 1, timeout) }) {
            Ok(0) if left > Duration::ZERO => continue,
            Ok(count) => return Ok(count > 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
    }
}

/// Reaps the process if it is a child of ours that has ended.
pub fn reap(pid: u32) {
    // SAFETY: a null status pointer means that the status is not wanted.
    unsafe { libc::waitpid(pid as libc::pid_t, std::ptr::null_mut(), libc::WNOHANG) };
}

/// Raises this process's limit of open descriptors as far as it may.
pub fn raise_file_limit() -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` lives through both calls; the first fills it, the second reads it.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &limit))?;
    }
    Ok(())
}
