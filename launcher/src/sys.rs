//! System calls that the standard library has no name for.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A process, by its number.
pub type Pid = libc::pid_t;

/// A signal, by its number.
pub type Signal = libc::c_int;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

/// Whether this process may execute the file, by its effective ids (faccessat(2), AT_EACCESS).
pub fn may_execute(path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the path is a string that ends with 0, and the call only reads it.
    let result =
        unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) };
    check(result).map(drop)
}

/// The kernel's addresses, each with the name of its interface (getifaddrs(3)).
pub fn interface_addresses() -> io::Result<Vec<(IpAddr, String)>> {
    let mut first = std::ptr::null_mut();
    // SAFETY: on success the call stores a list that is ours until freeifaddrs.
    check(unsafe { libc::getifaddrs(&raw mut first) })?;
    let mut found = Vec::new();
    let mut next = first;
    // SAFETY: each entry, and the name in it, lives until freeifaddrs; the last one's link is null.
    while let Some(entry) = unsafe { next.as_ref() } {
        if let Some(ip) = ip_address(entry.ifa_addr) {
            // SAFETY: the name is a string that ends with 0.
            let name = unsafe { CStr::from_ptr(entry.ifa_name) };
            found.push((ip, name.to_string_lossy().into_owned()));
        }
        next = entry.ifa_next;
    }
    // SAFETY: the list came from getifaddrs, and nothing points into it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// The IP address at `address`, which is null or points to what its family says (getifaddrs(3)).
fn ip_address(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: not null, it points to a sockaddr at least.
    let family = i32::from(unsafe { address.as_ref() }?.sa_family);
    match family {
        libc::AF_INET => {
            // SAFETY: of this family it is a sockaddr_in, with whatever alignment.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: of this family it is a sockaddr_in6, with whatever alignment.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// Whether the file has capabilities attached (capabilities(7), "File capabilities").
pub fn has_capabilities(path: &Path) -> bool {
    let Ok(path) = c_path(path) else {
        return false;
    };
    let name = c"security.capability";
    // SAFETY: both strings end with 0; with a size of 0 the call writes nothing and tells the
    // length of the attribute.
    let len = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) };
    len > 0
}

/// Effective user and group.
pub fn effective_ids() -> (libc::uid_t, libc::gid_t) {
    // SAFETY: these calls take nothing and cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// A set of cores, as sched_setaffinity(2) takes it. Cores from 1024 on do not fit.
#[derive(Clone, Copy)]
pub struct CoreSet(libc::cpu_set_t);

impl CoreSet {
    /// A set of these cores; those that do not fit are left out.
    pub fn new(cores: &[usize]) -> CoreSet {
        // SAFETY: a cpu_set_t is an array of integers, for which all bits 0 is the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        for core in cores {
            if *core < libc::CPU_SETSIZE as usize {
                // SAFETY: the core's bit lies within the set, as just checked.
                unsafe { libc::CPU_SET(*core, &mut set) };
            }
        }
        CoreSet(set)
    }

    fn cores(&self) -> Vec<usize> {
        // SAFETY: every core below CPU_SETSIZE has its bit within the set.
        let is_set = |core: &usize| unsafe { libc::CPU_ISSET(*core, &self.0) };
        (0..libc::CPU_SETSIZE as usize).filter(is_set).collect()
    }
}

/// The cores that this thread may use, in ascending order.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    let mut set = CoreSet::new(&[]);
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: the call writes at most `size` bytes to the set, which has as many.
    check(unsafe { libc::sched_getaffinity(0, size, &mut set.0) })?;
    Ok(set.cores())
}

/// A resource limit's soft value; `None` if there is no limit.
pub fn limit(resource: libc::__rlimit_resource_t) -> io::Result<Option<u64>> {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: the call fills in the structure it is given, and only then is it read.
    let limit = unsafe {
        check(libc::getrlimit(resource, limit.as_mut_ptr()))?;
        limit.assume_init()
    };
    Ok((limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur))
}

/// Makes this process the parent of every descendant that loses its own (PR_SET_CHILD_SUBREAPER).
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: this operation takes an integer and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// Moves this process, which must have one thread, to new user and network namespaces.
pub fn unshare_user_and_network() -> io::Result<()> {
    // SAFETY: the flags change what this process belongs to, no memory.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) }).map(drop)
}

/// Sets IFF_UP on the loopback interface of this network namespace (netdevice(7)).
pub fn bring_loopback_up() -> io::Result<()> {
    // SAFETY: the call takes integers and returns a new descriptor.
    let fd =
        check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: an ifreq is plain integers and bytes, for which all bits 0 is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq with a name that ends with 0, as this one does.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) }).map(drop)
}

/// How a child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It exited with a status.
    Status(u8),
    /// A signal ended it.
    Signal(Signal),
}

/// What waiting for children came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaped {
    /// This child ended so.
    Child(Pid, Exit),
    /// There are children, and all of them run.
    AllRunning,
    /// There are no children.
    NoChildren,
}

/// Reaps one child that has ended, without waiting for one.
pub fn reap() -> io::Result<Reaped> {
    let mut status = 0;
    // SAFETY: the call writes one integer, the status.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    match check(pid) {
        Ok(0) => Ok(Reaped::AllRunning),
        Ok(pid) if libc::WIFSIGNALED(status) => {
            Ok(Reaped::Child(pid, Exit::Signal(libc::WTERMSIG(status))))
        }
        Ok(pid) => {
            let status = libc::WEXITSTATUS(status) as u8;
            Ok(Reaped::Child(pid, Exit::Status(status)))
        }
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(Reaped::NoChildren),
        Err(error) => Err(error),
    }
}

/// Sends a signal to a child of ours that has not been reaped yet, so that its number is its own.
pub fn send(child: Pid, signal: Signal) {
    // SAFETY: the call touches no memory. It can only fail if the child has changed its user, which
    // nobody can mend.
    unsafe { libc::kill(child, signal) };
}

/// Whether a process is in our own process group.
pub fn is_in_our_group(pid: Pid) -> bool {
    // SAFETY: both calls take and return integers.
    unsafe { libc::getpgid(pid) == libc::getpgrp() }
}

/// A set of signals that are held back and read from a descriptor instead (signalfd(2)).
pub struct HeldSignals {
    fd: OwnedFd,
    before: libc::sigset_t,
}

/// A signal that was read.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// The signal.
    pub signal: Signal,
    /// The kernel itself sent it: a key on the terminal, a change of its size, a hang-up.
    pub is_from_kernel: bool,
    /// The process that sent it, as far as a process did.
    pub sender: Pid,
}

/// What [`HeldSignals::next`] has waited for.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A signal.
    Signal(Received),
    /// The other descriptor is readable.
    Alarm,
    /// The time is over, or something that concerns nobody.
    Nothing,
}

impl HeldSignals {
    /// Holds back SIGCHLD and `signals`; those that this process ignores as well, since Linux queues
    /// what is both held back and ignored. To be called before any thread is started, so that all
    /// threads inherit it.
    pub fn new(signals: &[Signal]) -> io::Result<HeldSignals> {
        let mut held = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset makes `held` a valid set, to which valid signal numbers are added;
        // sigprocmask reads it and fills in `before`; signalfd reads it and returns a descriptor
        // which is new and nobody else's.
        unsafe {
            libc::sigemptyset(held.as_mut_ptr());
            // An ignored SIGCHLD, inherited from the parent, would reap children behind our back.
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            libc::sigaddset(held.as_mut_ptr(), libc::SIGCHLD);
            for signal in signals {
                libc::sigaddset(held.as_mut_ptr(), *signal);
            }
            check(libc::sigprocmask(
                libc::SIG_BLOCK,
                held.as_ptr(),
                before.as_mut_ptr(),
            ))?;
            let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
            let fd = check(libc::signalfd(-1, held.as_ptr(), flags))?;
            Ok(HeldSignals {
                fd: OwnedFd::from_raw_fd(fd),
                before: before.assume_init(),
            })
        }
    }

    /// What happens next: a signal, or that `alarm` becomes readable. Without `timeout` it waits for
    /// as long as it takes.
    pub fn next(
        &self,
        alarm: Option<BorrowedFd<'_>>,
        timeout: Option<Duration>,
    ) -> io::Result<Event> {
        // poll(2) passes over a negative descriptor.
        let alarm = alarm.map_or(-1, |alarm| alarm.as_raw_fd());
        let [signal, alarm] = wait_readable([self.fd.as_raw_fd(), alarm], timeout)?;
        match self.read().filter(|_| signal) {
            Some(received) => Ok(Event::Signal(received)),
            None if alarm => Ok(Event::Alarm),
            None => Ok(Event::Nothing),
        }
    }

    fn read(&self) -> Option<Received> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the call writes at most `size` bytes to `info`, which has as many, and it is read
        // only if all were written.
        let info = unsafe {
            match libc::read(self.fd.as_raw_fd(), info.as_mut_ptr().cast(), size) {
                n if n == size as isize => info.assume_init(),
                _ => return None,
            }
        };
        Some(Received {
            signal: info.ssi_signo as Signal,
            is_from_kernel: info.ssi_code == libc::SI_KERNEL,
            sender: info.ssi_pid as Pid,
        })
    }

    /// Lets signals act on this process again as they did before.
    pub fn release(self) -> io::Result<()> {
        // SAFETY: `before` is the set that sigprocmask filled in.
        let result =
            unsafe { libc::sigprocmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
        check(result).map(drop)
    }
}

/// Whether this process ignores a signal, as the programs that it starts do to begin with.
pub fn is_ignored(signal: Signal) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with no new action the call only fills in the old one, which is read only then.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

fn wait_readable(fds: [RawFd; 2], timeout: Option<Duration>) -> io::Result<[bool; 2]> {
    let mut polled = fds.map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    let millis = timeout.map_or(-1, |t| t.as_millis().try_into().unwrap_or(i32::MAX));
    // SAFETY: the call reads and writes two pollfds, which it is given.
    match check(unsafe { libc::poll(polled.as_mut_ptr(), 2, millis) }) {
        Ok(_) => Ok(polled.map(|fd| fd.revents != 0)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok([false; 2]),
        Err(error) => Err(error),
    }
}

/// A limit on the number of descriptors (RLIMIT_NOFILE).
#[derive(Clone, Copy)]
pub struct FileLimit(libc::rlimit);

/// Lets this process have as many descriptors as it may, and returns what the limit was.
///
/// # Errors
/// What the system says.
pub fn raise_file_limit() -> io::Result<FileLimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the call fills the struct.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    let raised = libc::rlimit {
        rlim_cur: limit.rlim_max,
        ..limit
    };
    // SAFETY: the call reads the struct.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) })?;
    Ok(FileLimit(limit))
}

/// Has the child take these cores (none: those that we have), the signal mask from before
/// [`HeldSignals`] and the limit on descriptors, just before it becomes the program.
pub fn prepare(
    command: &mut Command,
    cores: Option<CoreSet>,
    signals: &HeldSignals,
    files: FileLimit,
) {
    let before = signals.before;
    let child_side = move || {
        // SAFETY: the call reads the struct.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &files.0) })?;
        if let Some(CoreSet(set)) = cores {
            // SAFETY: the call reads a set of the size that it is told.
            check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) })?;
        }
        // SAFETY: `before` is the set that sigprocmask filled in.
        let result = unsafe { libc::sigprocmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
        check(result).map(drop)
    };
    // SAFETY: between fork and exec the closure makes three system calls and looks at errno; it
    // neither allocates nor takes a lock, and all it uses it owns.
    unsafe { command.pre_exec(child_side) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_set_keeps_what_fits() {
        assert_eq!(CoreSet::new(&[3, 0, 1023, 1024]).cores(), [0, 3, 1023]);
    }

    #[test]
    fn the_loopback_interface_has_its_address() {
        let found = interface_addresses().unwrap();
        let lo = found.iter().find(|(ip, _)| *ip == Ipv4Addr::LOCALHOST);
        assert_eq!(lo.map(|(_, name)| name.as_str()), Some("lo"), "{found:?}");
    }

    #[test]
    fn this_thread_may_use_some_core() {
        assert!(!allowed_cores().unwrap().is_empty());
    }
}
