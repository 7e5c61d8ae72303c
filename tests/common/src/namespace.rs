//! Anonymous network namespaces.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::sys;

/// A network namespace without a name: it lives as long as this value and the processes in it,
/// and dropping the value kills those processes.
pub struct Namespace {
    handle: Arc<OwnedFd>,
    inode: u64,
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode)
    }
}

impl Namespace {
    /// A new namespace with its loopback interface up and ports enough for a load test.
    ///
    /// # Panics
    /// If this process may not make one: it says what is missing.
    pub fn new() -> Namespace {
        sys::adopt_orphans().expect("PR_SET_CHILD_SUBREAPER");
        let handle = thread::spawn(|| {
            sys::leave_network_namespace()?;
            File::open("/proc/thread-self/ns/net")
        })
        .join()
        .expect("the thread does not panic")
        .unwrap_or_else(|error| {
            panic!("cannot make a network namespace ({error}): run as root, or with CAP_SYS_ADMIN")
        });
        let inode = handle.metadata().expect("fstat of a namespace").ino();
        let namespace = Namespace {
            handle: Arc::new(handle.into()),
            inode,
        };
        namespace.ip("link set lo up");
        // A client that closes first fills the usual range with TIME_WAIT within two seconds.
        namespace.sysctl("net.ipv4.ip_local_port_range", "1024 65535");
        namespace.sysctl("net.ipv4.tcp_tw_reuse", "1");
        namespace.sysctl("net.core.somaxconn", "65535");
        namespace.sysctl("net.ipv4.tcp_max_syn_backlog", "65535");
        namespace
    }

    /// Two namespaces joined by a veth pair: `veth0` with `first` here, `veth0` with `second` there.
    pub fn pair(first: Ipv4Addr, second: Ipv4Addr) -> (Namespace, Namespace) {
        let (here, there) = (Namespace::new(), Namespace::new());
        // `ip` wants a process or a path to name the other namespace; it inherits no descriptor
        // of ours, but can look at them.
        let path = format!("/proc/{}/fd/{}", std::process::id(), there.raw_handle());
        here.ip(&format!(
            "link add veth0 type veth peer name veth0 netns {path}"
        ));
        for (namespace, address) in [(&here, first), (&there, second)] {
            namespace.ip(&format!("address add {address}/24 dev veth0"));
            namespace.ip("link set veth0 up");
        }
        (here, there)
    }

    fn raw_handle(&self) -> i32 {
        use std::os::fd::AsRawFd;
        self.handle.as_raw_fd()
    }

    /// A command that will run in this namespace and die with the thread that starts it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        sys::start_in(&mut command, self.handle.clone());
        command
    }

    /// Runs `ip` with these arguments.
    ///
    /// # Panics
    /// If it fails.
    pub fn ip(&self, arguments: &str) {
        let output = self
            .command("ip")
            .args(arguments.split_whitespace())
            .output()
            .unwrap_or_else(|error| panic!("ip (package iproute2): {error}"));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {arguments}: {error}");
    }

    /// Sets a network sysctl of this namespace, named with dots.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn sysctl(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        self.run(|| fs::write(&path, value))
            .unwrap_or_else(|error| panic!("sysctl {name}={value}: {error}"));
    }

    /// Runs `work` on a thread inside this namespace. Sockets that it opens stay there for good.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            sys::enter_network_namespace(self.handle.as_fd()).expect("setns");
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Connects from this namespace.
    pub fn connect(&self, address: SocketAddrV4, timeout: Duration) -> io::Result<TcpStream> {
        self.run(|| TcpStream::connect_timeout(&address.into(), timeout))
    }

    /// Whether a socket of the kernel's listens on `port` here.
    pub fn listens(&self, port: u16) -> bool {
        const LISTEN: &str = "0A";
        let wanted = format!(":{port:04X}");
        let tables = self.run(|| {
            ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]
                .map(|table| fs::read_to_string(table).unwrap_or_default())
        });
        tables.iter().flat_map(|table| table.lines()).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|local| local.ends_with(&wanted))
                && fields.nth(1) == Some(LISTEN)
        })
    }

    /// The processes that live in this namespace now: number and command line.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
                continue;
            };
            // A process may vanish between two lines; one that has is none of ours any more.
            let inode = fs::metadata(entry.path().join("ns/net")).map(|ns| ns.ino());
            if inode.is_ok_and(|inode| inode == self.inode) {
                let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
            }
        }
        found
    }

    /// The network interfaces of this namespace, without the loopback.
    pub fn interfaces(&self) -> Vec<String> {
        let table = self.run(|| fs::read_to_string("/proc/thread-self/net/dev"));
        table
            .expect("/proc/net/dev")
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
            .filter(|name| name != "lo")
            .collect()
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nobody else can be in a namespace without a name. A process may fork while it is being
        // killed, so look again until none is left.
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let left = self.processes();
            if left.is_empty() || Instant::now() > deadline {
                return;
            }
            for (pid, _) in &left {
                let _ = sys::signal(*pid, libc::SIGKILL);
            }
            for (pid, _) in &left {
                let _ = sys::wait_for_exit(*pid, deadline);
                sys::reap(*pid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_new_namespace_has_only_a_loopback_and_nobody_in_it() {
        let namespace = Namespace::new();
        assert_eq!(namespace.interfaces(), Vec::<String>::new());
        assert_eq!(namespace.processes(), []);
    }

    #[test]
    fn a_pair_of_namespaces_can_talk_and_sees_listeners_of_its_own_only() {
        let (here, there) = Namespace::pair([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let listener = there.run(|| TcpListener::bind("10.0.0.2:4321")).unwrap();
        assert!(there.listens(4321) && !here.listens(4321));
        let mut client = here
            .connect("10.0.0.2:4321".parse().unwrap(), LIMIT)
            .unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"hello").unwrap();
        drop(server);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn dropping_a_namespace_ends_processes_that_have_left_their_parents() {
        let namespace = Namespace::new();
        // The shell ends at once; what it started is in a session of its own and an orphan.
        let script = "setsid --fork sleep 1000";
        let status = namespace
            .command("sh")
            .args(["-c", script])
            .status()
            .unwrap();
        assert!(status.success());
        let orphans = namespace.processes();
        assert_eq!(orphans.len(), 1, "{orphans:?}");
        drop(namespace);
        let gone = !std::path::Path::new(&format!("/proc/{}", orphans[0].0)).exists();
        assert!(gone, "{orphans:?} is still there");
    }
}
