//! Processes: fork, exec, and what is made of them.

#![allow(non_snake_case)]

use crate::cancel;
use crate::interpose::run;
use crate::process;
use crate::sharing::exec::{Program, execute};
use crate::sharing::{confine, lease, passing};
use crate::socket;
use libc::{
    FILE, c_char, c_int, c_uint, c_void, pid_t, posix_spawn_file_actions_t, posix_spawnattr_t,
    pthread_t,
};

type Strings = *const *const c_char;

unsafe extern "C" {
    static environ: Strings;
}

crate::interpose! {
    family: "processes";

    /// As `fork`, of which the library hears by itself (pthread_atfork): the child has its parent's sockets.
    fn _Fork() -> pid_t {
        process::before_fork();
        // SAFETY: the child goes on with a copy of this stack.
        let child = unsafe { _Fork::real()() };
        match child {
            0 => process::in_child(),
            _ => process::in_parent(),
        }
        child
    }

    /// A child with memory and descriptors of its own has its parent's sockets, as one of `fork` has.
    fn clone(
        body: *mut c_void,
        stack: *mut c_void,
        flags: c_int,
        arg: *mut c_void,
        parent_tid: *mut c_void,
        tls: *mut c_void,
        child_tid: *mut c_void,
    ) -> c_int {
        // SAFETY: the caller's arguments, as they are; those that it has not given are not looked at.
        let real = |body, arg| unsafe {
            clone::real()(body, stack, flags, arg, parent_tid, tls, child_tid)
        };
        if flags & libc::CLONE_VM != 0 || body.is_null() || stack.is_null() {
            return real(body, arg);
        }
        // SAFETY: a function that takes and returns what clone(2) says.
        let body = unsafe { std::mem::transmute::<*mut c_void, Body>(body) };
        let mut birth = Birth { body, arg };
        if flags & libc::CLONE_FILES != 0 {
            return real(born_apart as *mut c_void, (&raw mut birth).cast());
        }
        process::before_fork();
        // The child has a copy of this frame.
        let child = real(born as *mut c_void, (&raw mut birth).cast());
        process::in_parent();
        child
    }

    /// The new program has the sockets without `FD_CLOEXEC`, and finds the stack though its environment was cut.
    fn execve(path: *const c_char, argv: Strings, envp: Strings) -> c_int {
        // SAFETY: the caller's arguments, as in the functions below.
        unsafe { execute(Program::Path(path), envp, |envp| execve::real()(path, argv, envp)) }
    }

    /// As `execve`.
    fn execv(path: *const c_char, argv: Strings) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe { execute(Program::Path(path), environ, |envp| execve::real()(path, argv, envp)) }
    }

    /// As `execve`.
    fn execvp(name: *const c_char, argv: Strings) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe { execute(Program::Name(name), environ, |envp| execvpe::real()(name, argv, envp)) }
    }

    /// As `execve`.
    fn execvpe(name: *const c_char, argv: Strings, envp: Strings) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe { execute(Program::Name(name), envp, |envp| execvpe::real()(name, argv, envp)) }
    }

    /// As `execve`.
    fn fexecve(fd: c_int, argv: Strings, envp: Strings) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe { execute(Program::Descriptor(fd), envp, |envp| fexecve::real()(fd, argv, envp)) }
    }

    /// As `execve`.
    fn execveat(
        directory: c_int,
        path: *const c_char,
        argv: Strings,
        envp: Strings,
        flags: c_int,
    ) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe {
            let program = if flags & libc::AT_EMPTY_PATH != 0 {
                Program::Descriptor(directory)
            } else {
                Program::Path(path)
            };
            execute(program, envp, |envp| {
                execveat::real()(directory, path, argv, envp, flags)
            })
        }
    }

    /// As `execve`, in a child.
    fn posix_spawn(
        pid: *mut pid_t,
        path: *const c_char,
        actions: *const posix_spawn_file_actions_t,
        attributes: *const posix_spawnattr_t,
        argv: Strings,
        envp: Strings,
    ) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe {
            execute(Program::Path(path), envp, |envp| {
                posix_spawn::real()(pid, path, actions, attributes, argv, envp)
            })
        }
    }

    /// As `execve`, in a child.
    fn posix_spawnp(
        pid: *mut pid_t,
        name: *const c_char,
        actions: *const posix_spawn_file_actions_t,
        attributes: *const posix_spawnattr_t,
        argv: Strings,
        envp: Strings,
    ) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe {
            execute(Program::Name(name), envp, |envp| {
                posix_spawnp::real()(pid, name, actions, attributes, argv, envp)
            })
        }
    }

    /// The descriptor can be copied although it has `FD_CLOEXEC`.
    fn posix_spawn_file_actions_adddup2(
        actions: *mut posix_spawn_file_actions_t,
        fd: c_int,
        to: c_int,
    ) -> c_int {
        if let Some(socket) = socket::find(fd) {
            // Without a lease the program gets a descriptor that is of no use to it.
            let _ = lease::lend(socket, &[fd]);
        }
        // SAFETY: the caller's arguments.
        unsafe { posix_spawn_file_actions_adddup2::real()(actions, fd, to) }
    }

    /// `EOPNOTSUPP` for a socket of the stack.
    fn pidfd_getfd(pidfd: c_int, fd: c_int, flags: c_uint) -> c_int {
        // SAFETY: numbers only.
        let taken = unsafe { pidfd_getfd::real()(pidfd, fd, flags) };
        match taken {
            0.. => run(|| passing::taken(taken)),
            _ => taken,
        }
    }

    /// Before `PR_SET_SECCOMP`, the calling thread asks the engine for all that it may need from it.
    fn prctl(option: c_int, a: usize, b: usize, c: usize, d: usize) -> c_int {
        if option == libc::PR_SET_SECCOMP {
            confine::prepare();
        }
        // SAFETY: the caller's arguments, as they are.
        unsafe { prctl::real()(option, a, b, c, d) }
    }

    /// Ends a wait for sockets of the stack as well, which is a cancellation point.
    fn pthread_cancel(thread: pthread_t) -> c_int {
        cancel::announce();
        // SAFETY: the caller's argument.
        let result = unsafe { pthread_cancel::real()(thread) };
        if result == 0 {
            cancel::wake(thread);
        }
        result
    }

    /// A call of the stack is not ended at any instant, but where it waits, and at its end.
    fn pthread_setcanceltype(kind: c_int, before: *mut c_int) -> c_int {
        cancel::choose(kind);
        // SAFETY: the caller's arguments.
        unsafe { pthread_setcanceltype::real()(kind, before) }
    }

    /// The shell has the sockets without `FD_CLOEXEC`.
    fn popen(command: *const c_char, mode: *const c_char) -> *mut FILE {
        let _companions = lease::before_exec();
        // SAFETY: the caller's arguments.
        unsafe { popen::real()(command, mode) }
    }

    /// As `popen`.
    fn system(command: *const c_char) -> c_int {
        let _companions = lease::before_exec();
        // SAFETY: the caller's argument.
        unsafe { system::real()(command) }
    }
}

type Body = extern "C-unwind" fn(*mut c_void) -> c_int;

/// What the child of clone(2) is to do.
struct Birth {
    body: Body,
    arg: *mut c_void,
}

extern "C-unwind" fn born(birth: *mut c_void) -> c_int {
    // SAFETY: the parent's, in memory of our own.
    let birth = unsafe { &*birth.cast::<Birth>() };
    process::in_child();
    (birth.body)(birth.arg)
}

extern "C-unwind" fn born_apart(birth: *mut c_void) -> c_int {
    // SAFETY: as above.
    let birth = unsafe { &*birth.cast::<Birth>() };
    process::leave();
    (birth.body)(birth.arg)
}

/// execl(3) and execlp(3), their arguments as a vector.
///
/// # Safety
/// As execv(3).
pub unsafe extern "C-unwind" fn execl_vector(path: *const c_char, argv: Strings) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { execv(path, argv) }
}

/// execlp(3), its arguments as a vector.
///
/// # Safety
/// As execvp(3).
pub unsafe extern "C-unwind" fn execlp_vector(name: *const c_char, argv: Strings) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { execvp(name, argv) }
}

/// execle(3), its arguments as a vector, behind whose null the environment stands.
///
/// # Safety
/// As execve(2).
pub unsafe extern "C-unwind" fn execle_vector(path: *const c_char, argv: Strings) -> c_int {
    // SAFETY: the caller's promise: null comes, and one more word.
    unsafe {
        let mut end = argv;
        while !(*end).is_null() {
            end = end.add(1);
        }
        execve(path, argv, *end.add(1).cast::<Strings>())
    }
}
