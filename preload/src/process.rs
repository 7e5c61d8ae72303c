//! What a process has of the stack: the segment, the settings, the doorbells, and the control
//! connection that stands for the process.

#![allow(unsafe_code)]

use crate::errno::{Errno, Result};
use crate::exchange::exchange;
use crate::thread::Contexts;
use crate::{log, readiness, real, thread, trace};
use config::ClientSettings;
use context::control::{Request, SOCKET_VARIABLE};
use context::lock::Lock;
use context::{MAX_WORKERS, Segment};
use fdmap::Entry;
use std::ffi::CStr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, Ordering};

/// The library's own descriptors lie at this number at most: the kernel's table grows to it.
const HIGHEST_PRIVATE: usize = 1 << 14;
/// Room above the lowest private descriptor.
const PRIVATE_ROOM: usize = 64;

static PROCESS: AtomicPtr<Process> = AtomicPtr::new(std::ptr::null_mut());
static EPOCH: AtomicU32 = AtomicU32::new(0);

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

/// How often this process has come out of a fork: what threads hold of an earlier one is not theirs.
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
    // SAFETY: the handlers keep to what fork(2) allows: atomics, locks of their own, a close.
    unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
}

extern "C" fn before_fork() {
    readiness::before_fork();
}

extern "C" fn in_parent() {
    readiness::after_fork(false);
}

/// In the child of a fork. The parent's connection stands for the parent: the child must not hold
/// it open, and gets its own when it first needs the engine.
extern "C" fn in_child() {
    EPOCH.fetch_add(1, Ordering::SeqCst);
    let Some(process) = process() else { return };
    process.lock.reset();
    process.contexts.forget();
    fdmap::inherit_all();
    let control = process.control.swap(-1, Ordering::SeqCst);
    if control >= 0 {
        fdmap::take(control);
        real::close(control);
    }
    readiness::after_fork(true);
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
            control: AtomicI32::new(control),
            number: AtomicU32::new(number),
            lock: Lock::default(),
            gone: AtomicBool::new(false),
        })
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

    /// Asks the engine something and waits for the answer.
    ///
    /// # Errors
    /// The engine's answer; `ENETDOWN` if it is gone.
    pub fn control(&self, request: Request, fds: &[RawFd]) -> Result<u32> {
        // A signal handler that comes here while the thread holds the lock would wait for itself.
        let _blocked = real::SignalsBlocked::new();
        let _guard = self.lock.lock(real::thread_id());
        let mut fd = self.control.load(Ordering::Relaxed);
        if fd < 0 {
            fd = self.attach_again()?;
        }
        let reply = exchange(fd, request, fds).map(|(reply, _)| reply);
        let Ok(reply) = reply else {
            self.gone.store(true, Ordering::Relaxed);
            return Err(Errno(libc::ENETDOWN));
        };
        match reply.error {
            0 => Ok(reply.value),
            error => Err(Errno(error)),
        }
    }

    /// The child of a fork greets the engine as a process of its own. The segment and the doorbells
    /// are the ones it inherited.
    fn attach_again(&self) -> Result<RawFd> {
        let control = connect(&self.name)?;
        match hello(control) {
            Ok((number, fds)) => {
                fds.as_slice().iter().for_each(|fd| real::close(*fd));
                self.number.store(number, Ordering::Relaxed);
                self.control.store(control, Ordering::Relaxed);
                Ok(control)
            }
            Err(error) => {
                fdmap::take(control);
                real::close(control);
                Err(error)
            }
        }
    }

    /// Whether the engine is still there. Waits ask once a second, so that none outlives it.
    pub fn is_engine_alive(&self) -> bool {
        if self.gone.load(Ordering::Relaxed) {
            return false;
        }
        let fd = self.control.load(Ordering::Relaxed);
        if fd < 0 {
            return true;
        }
        let mut byte = 0u8;
        let flags = (libc::MSG_PEEK | libc::MSG_DONTWAIT) as usize;
        let args = [fd as usize, &raw mut byte as usize, 1, flags, 0, 0];
        // SAFETY: at most one byte is written there. A reply that another thread waits for stays.
        let result = unsafe { real::syscall(libc::SYS_recvfrom, args) };
        let alive = !matches!(result, Ok(0) | Err(Errno(libc::ECONNRESET)));
        if !alive && !self.gone.swap(true, Ordering::Relaxed) {
            log::line("mtcp-run is gone: sockets of the stack are dead");
        }
        alive
    }

    /// Whether the engine was found gone.
    #[inline]
    pub fn is_engine_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

fn connect(name: &[u8]) -> Result<RawFd> {
    let name = name.strip_prefix(b"@").unwrap_or(name);
    // SAFETY: zero is a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    if name.len() >= address.sun_path.len() {
        return Err(Errno(libc::ENAMETOOLONG));
    }
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // The first byte stays 0: an abstract name.
    for (to, from) in address.sun_path[1..].iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    let fd = make_private(real::socket(libc::AF_UNIX, kind, 0)?)?;
    let len = std::mem::offset_of!(libc::sockaddr_un, sun_path) + 1 + name.len();
    let args = [fd as usize, &raw const address as usize, len, 0, 0, 0];
    loop {
        // SAFETY: the kernel reads `len` bytes of the address.
        match unsafe { real::syscall(libc::SYS_connect, args) } {
            Err(Errno(libc::EINTR)) => {}
            Ok(_) => return Ok(fd),
            Err(error) => {
                fdmap::take(fd);
                real::close(fd);
                return Err(error);
            }
        }
    }
}

fn hello(fd: RawFd) -> Result<(u32, Vec<RawFd>)> {
    let pid = real::process_id();
    let (reply, fds) = exchange(fd, Request::Hello { pid }, &[])?;
    match reply.error {
        0 => Ok((reply.value, fds)),
        error => Err(Errno(error)),
    }
}

/// Moves a descriptor to a high number, out of the way of the program's own, and protects it from
/// the program. Takes `fd` in any case.
///
/// # Errors
/// `EMFILE`.
pub fn make_private(fd: RawFd) -> Result<RawFd> {
    let mut minimum = lowest_private();
    let moved = loop {
        match real::duplicate(fd, minimum, true) {
            Err(Errno(libc::EMFILE | libc::EINVAL)) if minimum > 3 => minimum /= 2,
            result => break result,
        }
    };
    real::close(fd);
    let moved = moved?;
    fdmap::set(moved, Entry::Private);
    Ok(moved)
}

fn lowest_private() -> RawFd {
    let limit = (descriptor_limit() as usize).min(HIGHEST_PRIVATE);
    limit.saturating_sub(PRIVATE_ROOM).max(256) as RawFd
}

/// The soft limit on descriptors (`RLIMIT_NOFILE`).
pub fn descriptor_limit() -> u32 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let resource = libc::RLIMIT_NOFILE as usize;
    let args = [0, resource, 0, &raw mut limit as usize, 0, 0];
    // SAFETY: the kernel fills the struct.
    let _ = unsafe { real::syscall(libc::SYS_prlimit64, args) };
    u32::try_from(limit.rlim_cur).unwrap_or(u32::MAX)
}

fn open_private(path: &std::path::Path) -> Option<RawFd> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
    let args = [
        libc::AT_FDCWD as usize,
        path.as_ptr() as usize,
        flags as usize,
        0o644,
        0,
        0,
    ];
    // SAFETY: the path is a C string.
    let fd = unsafe { real::syscall(libc::SYS_openat, args) }.ok()?;
    make_private(fd as RawFd).ok()
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

    #[test]
    fn a_private_descriptor_lies_high_and_is_known() {
        let fd = make_private(real::eventfd().unwrap()).unwrap();
        assert!(fd >= 256, "{fd}");
        assert_eq!(fdmap::get(fd), Entry::Private);
        assert_eq!(real::is_cloexec(fd), Ok(true));
        fdmap::take(fd);
        real::close(fd);
    }

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
