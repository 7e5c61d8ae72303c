//! What a process has of the stack: the segment, the settings, the doorbells, and the control
//! connection that stands for the process.

#![allow(unsafe_code)]

mod connection;
mod exchange;
mod private;

use crate::errno::Errno;
use crate::thread::Contexts;
use crate::{cancel, hold, log, readiness, real, sharing, thread, trace};
use config::ClientSettings;
use connection::{connect, hello};
use context::control::SOCKET_VARIABLE;
use context::lock::Lock;
use context::{MAX_WORKERS, Segment};
use private::open_private;
pub use private::{close_private, descriptor_limit, make_private};
use std::ffi::CStr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, Ordering};

static PROCESS: AtomicPtr<Process> = AtomicPtr::new(std::ptr::null_mut());
static EPOCH: AtomicU32 = AtomicU32::new(1);

/// Under mtcp-run: everything that a process has of the stack.
pub struct Process {
    /// The shared segment.
    pub segment: Segment,
    /// What mtcp-run was told.
    pub settings: ClientSettings,
    /// The program's file name, for the policy's rules.
    pub program: String,
    pub(crate) contexts: Contexts,
    doorbells: [RawFd; MAX_WORKERS],
    name: Vec<u8>,
    library: Vec<u8>,
    control: AtomicI32,
    number: AtomicU32,
    lock: Lock,
    gone: AtomicBool,
}

/// The process's share of the stack; `None` if it does not run under mtcp-run. One load.
#[inline]
pub fn process() -> Option<&'static Process> {
    // SAFETY: null, or a process that was leaked on purpose and is never freed.
    unsafe { PROCESS.load(Ordering::Acquire).as_ref() }
}

/// Changes when this process comes out of a fork: what threads hold of an earlier one is not theirs.
/// Never 0, as far as anybody can fork.
#[inline]
pub fn epoch() -> u32 {
    EPOCH.load(Ordering::Relaxed)
}

/// Set once this process has attached to a stack, or has found that there is none.
static STARTED: AtomicU8 = AtomicU8::new(0);

/// Attaches to the stack, if the environment names one. The first call counts; later ones cost a
/// load.
pub fn start() {
    if STARTED.load(Ordering::Relaxed) != 0 {
        return;
    }
    // SAFETY: the name is a C string; the value is copied before anything could change it.
    let value = unsafe {
        let name = std::ffi::CString::new(SOCKET_VARIABLE).unwrap_or_default();
        let value = libc::getenv(name.as_ptr());
        (!value.is_null()).then(|| CStr::from_ptr(value).to_bytes().to_vec())
    };
    match value {
        Some(value) => drop(attach(&value)),
        None => STARTED.store(1, Ordering::Relaxed),
    }
}

/// Attaches to the stack behind `name`, unless this process has attached before.
fn attach(name: &[u8]) -> Option<&'static Process> {
    if STARTED.swap(1, Ordering::Relaxed) == 0 || process().is_none() {
        match Process::attach(name) {
            Ok(process) => install(process),
            Err(reason) => log::format(format_args!(
                "the kernel serves this program: mtcp-run cannot be reached: {reason}"
            )),
        }
    }
    process()
}

/// For a program that hosts the engine itself and loads this library with dlopen(3): attaches to the
/// stack behind the control socket `name`. 0, or -1 if nobody serves there.
///
/// The library's constructor could not do that: it runs under the dynamic linker's lock, for which
/// the engine's threads may wait before they answer.
///
/// # Safety
/// `name` is a C string. No other thread has called this library yet.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn mtcp_preload_attach(name: *const libc::c_char) -> libc::c_int {
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    if attach(name).is_some() { 0 } else { -1 }
}

fn install(process: Process) {
    if let Some(fd) = process.settings.log_file.as_deref().and_then(open_private) {
        log::set_sink(fd);
    }
    let trace = process.settings.trace;
    if trace.calls || trace.policy {
        let file = process.settings.trace_file.as_deref();
        let fd = file.and_then(open_private).unwrap_or(2);
        let calls = if trace.calls {
            trace::Calls::Stack
        } else {
            trace::Calls::None
        };
        trace::start(calls, trace.policy, fd);
    }
    PROCESS.store(Box::into_raw(Box::new(process)), Ordering::Release);
    thread::start();
    if let Some(process) = self::process() {
        sharing::inherit::adopt_all(process);
    }
    // SAFETY: the handlers keep to what fork(2) allows: atomics, locks of their own, a close.
    unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
}

/// Before a fork by whatever function.
pub extern "C" fn before_fork() {
    sharing::fork::before();
    readiness::before_fork();
}

/// After it, in the parent.
pub extern "C" fn in_parent() {
    readiness::after_fork(false);
    sharing::fork::in_parent();
}

/// After it, in the child.
pub extern "C" fn in_child() {
    EPOCH.fetch_add(1, Ordering::SeqCst);
    cancel::forget();
    hold::forget();
    if let Some(process) = process() {
        thread::forget_guests();
        sharing::guest::forget();
        process.contexts.forget();
        sharing::fork::in_child(process);
    }
    readiness::after_fork(true);
}

/// In a child that has its parent's descriptors, not a copy of them, and memory of its own: what it
/// closed would be closed in its parent, so it has nothing of the stack.
pub fn leave() {
    PROCESS.store(std::ptr::null_mut(), Ordering::Release);
}

impl Process {
    fn attach(name: &[u8]) -> std::result::Result<Process, String> {
        let fail = |what: &str| {
            let what = what.to_owned();
            move |e: Errno| format!("{what}: {e}")
        };
        let control = connect(name).map_err(fail("control socket"))?;
        let (number, fds) = hello(control).map_err(fail("greeting"))?;
        let (segment, bells) = fds.as_slice().split_first().ok_or("no segment came")?;
        // The segment keeps its descriptor: it must be where it stays.
        let segment = make_private(*segment).map_err(fail("descriptors"))?;
        // SAFETY: just made, and owned by nobody else.
        let segment = unsafe { OwnedFd::from_raw_fd(segment) };
        let segment = Segment::open(segment).map_err(|e| e.to_string())?;
        let mut doorbells = [-1; MAX_WORKERS];
        for (doorbell, bell) in doorbells.iter_mut().zip(bells) {
            *doorbell = make_private(*bell).map_err(fail("descriptors"))?;
        }
        let settings =
            ClientSettings::from_bytes(segment.client_settings()).map_err(|e| e.to_string())?;
        Ok(Process {
            contexts: Contexts::new(segment.geometry().contexts),
            segment,
            settings,
            program: program(),
            doorbells,
            name: name.to_vec(),
            library: library(),
            control: AtomicI32::new(control),
            number: AtomicU32::new(number),
            lock: Lock::default(),
            gone: AtomicBool::new(false),
        })
    }

    /// The control socket's name, as the environment has it.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The path that this library was loaded from.
    pub fn library(&self) -> &[u8] {
        &self.library
    }

    /// The process's number in the stack.
    pub fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// Wakes a worker that sleeps. Ask [`must_ring`](context::worker::WorkerShared::must_ring) first.
    pub fn ring_doorbell(&self, worker: usize) {
        if let Some(fd) = self.doorbells.get(worker) {
            // A full counter has rung already.
            let _ = real::write(*fd, &1u64.to_ne_bytes());
        }
    }

    /// Whether the engine was found gone.
    #[inline]
    pub fn is_engine_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

/// The running program's file name.
fn program() -> String {
    // SAFETY: glibc keeps a C string there.
    unsafe {
        let name = program_invocation_short_name;
        if name.is_null() {
            return String::new();
        }
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

/// The path that this library was loaded from; empty if the dynamic linker does not know.
fn library() -> Vec<u8> {
    // SAFETY: zero is a valid struct, which is filled; the name in it is a C string that lives as long
    // as the library.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let own = library as fn() -> Vec<u8> as *const libc::c_void;
        if libc::dladdr(own, &raw mut info) == 0 || info.dli_fname.is_null() {
            return Vec::new();
        }
        CStr::from_ptr(info.dli_fname).to_bytes().to_vec()
    }
}

unsafe extern "C" {
    // What the program was called, which is what the user knows it by (python3 as well as gunicorn).
    static program_invocation_short_name: *const libc::c_char;
}

/// At exit: whatever this process has told the engine last must not wait for anybody.
extern "C" fn at_exit() {
    let Some(process) = process() else { return };
    for worker in 0..process.segment.geometry().workers as usize {
        if process.segment.worker(worker).must_ring() {
            process.ring_doorbell(worker);
        }
    }
}

extern "C" fn at_start() {
    start();
}

#[cfg_attr(not(test), unsafe(link_section = ".init_array"))]
#[used]
static AT_START: extern "C" fn() = at_start;

#[cfg_attr(not(test), unsafe(link_section = ".fini_array"))]
#[used]
static AT_EXIT: extern "C" fn() = at_exit;

/// Makes a process of its own for unit tests, as if attached to the engine behind `name`.
#[cfg(test)]
pub(crate) fn start_for_test(name: &[u8]) {
    static ONCE: std::sync::OnceLock<()> = std::sync::OnceLock::new();
    ONCE.get_or_init(|| install(Process::attach(name).expect("the fake engine answers")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use context::control::Request;

    #[test]
    fn nobody_behind_the_name_is_an_error() {
        let nobody = Process::attach(b"mtcp-nobody-listens-here").err();
        assert!(nobody.unwrap().contains("refused"));
        assert!(Process::attach(&[b'x'; 200]).is_err());
    }

    #[test]
    fn the_engines_refusal_comes_back() {
        crate::testing::engine();
        let request = Request::Bind {
            socket: crate::testing::fresh().index,
            to: "10.77.0.2:7301".parse().unwrap(),
        };
        let process = process().unwrap();
        assert_eq!(process.control(request, &[]), Ok(0));
        assert_eq!(process.control(request, &[]), Err(Errno(libc::EINVAL)));
        assert!(process.is_engine_alive());
    }
}
