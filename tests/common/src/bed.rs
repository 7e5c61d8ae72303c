//! A place for one test: a server's host and a client's host, each on the kernel's stack or on ours.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::artifacts;
use crate::data;
use crate::namespace::Namespace;
use crate::program::{Finished, Program, describe, until};
use crate::sys;

/// No single client command takes longer, even on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Says how many workers the stacks of all tests have that do not ask for a number themselves.
pub const WORKERS_VARIABLE: &str = "TESTBED_WORKERS";

const WORKERS_OPTION: &str = "--workers";

/// Where programs run: in a network namespace, as they are or under `mtcp-run`.
#[derive(Clone, Debug)]
pub struct Host {
    namespace: Arc<Namespace>,
    stack: Option<Vec<String>>,
    core: Option<usize>,
    directory: PathBuf,
}

impl Host {
    fn kernel(namespace: Arc<Namespace>, directory: &Path) -> Host {
        Host {
            namespace,
            stack: None,
            core: None,
            directory: directory.to_owned(),
        }
    }

    fn stack(namespace: Arc<Namespace>, directory: &Path, options: &[&str]) -> Host {
        Host {
            namespace,
            stack: Some(options.iter().map(|&option| option.to_owned()).collect()),
            core: None,
            directory: directory.to_owned(),
        }
    }

    /// On our stack over an interface that the kernel of its namespace has.
    fn on_interface(namespace: Namespace, directory: &Path, device: &str) -> Host {
        let address = format!("{INTERFACE_STACK}/24");
        let options = ["--device", device, "--address", &address];
        Host::stack(Arc::new(namespace), directory, &options)
    }

    /// The namespace that its programs run in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Whether its programs run under `mtcp-run`.
    pub fn is_on_stack(&self) -> bool {
        self.stack.is_some()
    }

    /// The same host with more options for `mtcp-run`; on the kernel's stack they mean nothing.
    #[must_use]
    pub fn with_options(mut self, options: &[&str]) -> Host {
        if let Some(stack) = &mut self.stack {
            stack.extend(options.iter().map(|&option| option.to_owned()));
        }
        self
    }

    /// The same host with its programs, and its engine if it has one, on one core.
    #[must_use]
    pub fn on_core(mut self, core: usize) -> Host {
        self.core = Some(core);
        let core = core.to_string();
        self.with_options(&["--engine-cores", &core, "--app-cores", &core])
    }

    /// A command that runs `program` on this host; arguments go to the program.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match &self.stack {
            None => {
                let mut command = self.namespace.command(program);
                if let Some(core) = self.core {
                    sys::run_on_core(&mut command, core);
                }
                command
            }
            Some(options) => {
                let mut command = self.namespace.command(artifacts::mtcp_run());
                command.args(options);
                // An interface under AF_XDP has as many workers as queues.
                let is_fixed =
                    |option: &String| option == WORKERS_OPTION || option.starts_with("xdp:");
                if let Some(workers) = std::env::var_os(WORKERS_VARIABLE)
                    && !options.iter().any(is_fixed)
                {
                    command.arg(WORKERS_OPTION).arg(workers);
                }
                command.arg("--").arg(program);
                command
            }
        }
    }

    /// Starts a program and lets it run.
    pub fn start(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Program {
        let mut command = self.command(program);
        command.args(arguments);
        Program::start(command, &self.directory)
    }

    /// Runs a program to its end.
    pub fn run(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Finished {
        self.start(program, arguments).finish(LIMIT)
    }

    /// Runs a program to its end and answers how many bytes it wrote to standard output, and their
    /// SHA-256.
    ///
    /// # Panics
    /// If it fails, or is not done within `limit`.
    pub fn digest_output(
        &self,
        program: &str,
        arguments: &[&str],
        limit: Duration,
    ) -> (u64, String) {
        let mut command = self.command(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let line = describe(&command);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        let output = child.stdout.take().expect("it is piped");
        let reader = std::thread::spawn(move || data::digest(output));
        let ended = sys::wait_for_exit(child.id(), Instant::now() + limit).expect("pidfd");
        if !ended {
            let _ = child.kill();
        }
        let status = child.wait().expect("it is our child");
        let digest = reader
            .join()
            .expect("the reader does not panic")
            .expect("a pipe can be read");
        assert!(
            ended,
            "still running after {limit:?} and {} bytes: {line}",
            digest.0
        );
        assert!(status.success(), "{line}: {status}");
        digest
    }

    /// A path for a file of this test's.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// The two hosts of a test, joined by a wire, and a directory for its files.
///
/// Dropping it ends every program on both hosts.
#[derive(Debug)]
pub struct Testbed {
    /// Where servers run.
    pub server: Host,
    /// Where clients run.
    pub client: Host,
    /// Where clients find the servers.
    pub address: Ipv4Addr,
    /// The same by IPv6, as the stack's settings derive it; a testbed of two kernels has none.
    pub address6: Option<Ipv6Addr>,
    directory: tempfile::TempDir,
}

const KERNEL_SERVER: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);
const KERNEL_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 2);
const INTERFACE_STACK: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 9);
const TAP_KERNEL: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const TAP_STACK: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const WIRE_SERVER: &str = "10.78.0.1/24";
const WIRE_CLIENT: &str = "10.78.0.2/24";

/// The IPv6 address that goes with an address of the TAP's or the wire's network.
fn address6(address: Ipv4Addr) -> Option<Ipv6Addr> {
    match address.octets() {
        [10, 77, 0, host] => Some(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, host.into())),
        [10, 78, 0, host] => Some(Ipv6Addr::new(0xfd77, 0, 3, 0, 0, 0, 0, host.into())),
        _ => None,
    }
}

/// Has the kernel fill in the checksums of what it sends over the veth pair, as on a cable: AF_XDP
/// does not tell whether they are left out.
fn fill_in_checksums(namespace: &Namespace) {
    let command = namespace
        .command("ethtool")
        .args(["-K", "veth0", "tx", "off"])
        .output();
    let output = command.expect("ethtool (package ethtool)");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ethtool: {error}");
}

impl Testbed {
    fn new(make: impl FnOnce(&Path) -> (Host, Host, Ipv4Addr)) -> Testbed {
        sys::raise_file_limit().expect("RLIMIT_NOFILE");
        let directory = tempfile::Builder::new()
            .prefix("mtcp-test-")
            .tempdir()
            .expect("a temporary directory");
        // Servers that drop to another user must still reach their files.
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(directory.path(), permissions).expect("chmod");
        let (server, client, address) = make(directory.path());
        Testbed {
            server,
            client,
            address,
            address6: address6(address),
            directory,
        }
    }

    /// Both ends on the kernel, joined by a veth pair: what every test must pass first.
    pub fn kernel() -> Testbed {
        Testbed::new(|directory| {
            let (server, client) = Namespace::pair(KERNEL_SERVER, KERNEL_CLIENT);
            let server = Host::kernel(Arc::new(server), directory);
            let client = Host::kernel(Arc::new(client), directory);
            (server, client, KERNEL_SERVER)
        })
    }

    /// As [`Testbed::kernel`], but under `mtcp-run --kernel`: it starts, watches and ends programs
    /// as always, without a stack.
    pub fn kernel_under_mtcp_run() -> Testbed {
        Testbed::new(|directory| {
            let (server, client) = Namespace::pair(KERNEL_SERVER, KERNEL_CLIENT);
            let server = Host::stack(Arc::new(server), directory, &["--kernel"]);
            let client = Host::stack(Arc::new(client), directory, &["--kernel"]);
            (server, client, KERNEL_SERVER)
        })
    }

    /// Servers on our stack over a TAP device, clients on the kernel.
    pub fn server_on_tap() -> Testbed {
        Testbed::new(|directory| {
            let namespace = Arc::new(Namespace::new());
            let server = Host::stack(namespace.clone(), directory, &["--device", "tap"]);
            (server, Host::kernel(namespace, directory), TAP_STACK)
        })
    }

    /// Servers on the kernel, clients on our stack over a TAP device.
    pub fn client_on_tap() -> Testbed {
        Testbed::new(|directory| {
            let namespace = Arc::new(Namespace::new());
            let client = Host::stack(namespace.clone(), directory, &["--device", "tap"]);
            (Host::kernel(namespace, directory), client, TAP_KERNEL)
        })
    }

    /// Servers on the kernel, clients on our stack over an interface of the kernel, joined to the
    /// servers' by a veth pair.
    pub fn client_on_interface() -> Testbed {
        Testbed::client_on("packet:veth0")
    }

    /// Servers on our stack over an interface of the kernel, joined to the clients' by a veth pair.
    pub fn server_on_interface() -> Testbed {
        Testbed::server_on("packet:veth0")
    }

    /// As [`Testbed::client_on_interface`], with the interface taken whole by AF_XDP.
    pub fn client_on_xdp() -> Testbed {
        let bed = Testbed::client_on("xdp:veth0");
        fill_in_checksums(bed.server.namespace());
        bed
    }

    /// As [`Testbed::server_on_interface`], with the interface taken whole by AF_XDP.
    pub fn server_on_xdp() -> Testbed {
        let bed = Testbed::server_on("xdp:veth0");
        fill_in_checksums(bed.client.namespace());
        bed
    }

    fn client_on(device: &str) -> Testbed {
        Testbed::new(|directory| {
            let (server, client) = Namespace::pair(KERNEL_SERVER, KERNEL_CLIENT);
            let client = Host::on_interface(client, directory, device);
            let server = Host::kernel(Arc::new(server), directory);
            (server, client, KERNEL_SERVER)
        })
    }

    fn server_on(device: &str) -> Testbed {
        Testbed::new(|directory| {
            let (server, client) = Namespace::pair(KERNEL_SERVER, KERNEL_CLIENT);
            let server = Host::on_interface(server, directory, device);
            let client = Host::kernel(Arc::new(client), directory);
            (server, client, INTERFACE_STACK)
        })
    }

    /// Servers on the kernel, clients on our stack over a TAP device, and the kernel of the clients'
    /// namespace between them, joined to the servers' by a veth pair.
    pub fn client_behind_router() -> Testbed {
        Testbed::new(|directory| {
            let (server, client) = Namespace::pair(KERNEL_SERVER, KERNEL_CLIENT);
            let client = Host::stack(Arc::new(client), directory, &["--device", "tap"]);
            let server = Host::kernel(Arc::new(server), directory);
            (server, client, KERNEL_SERVER)
        })
    }

    /// Both ends on our stack, joined by a wire of shared memory; a namespace for each.
    pub fn wire() -> Testbed {
        Testbed::new(|directory| {
            let device = format!("wire:{}", directory.join("wire").display());
            let host = |address| {
                let options = ["--device", &device, "--address", address];
                Host::stack(Arc::new(Namespace::new()), directory, &options)
            };
            let address = WIRE_SERVER
                .split('/')
                .next()
                .expect("an address and a prefix");
            let address = address.parse().expect("an IPv4 address");
            (host(WIRE_SERVER), host(WIRE_CLIENT), address)
        })
    }

    /// Programs on our stack that have nobody to talk to but each other: every program that a host
    /// starts, with all that this starts in turn, has a stack of its own.
    pub fn loopback() -> Testbed {
        Testbed::new(|directory| {
            let options = ["--device", "none", "--loopback", "stack"];
            let host = Host::stack(Arc::new(Namespace::new()), directory, &options);
            (host.clone(), host, Ipv4Addr::LOCALHOST)
        })
    }

    /// The same testbed with the server on one core and the client on another.
    #[must_use]
    pub fn on_cores(mut self, server: usize, client: usize) -> Testbed {
        self.server = self.server.on_core(server);
        self.client = self.client.on_core(client);
        self
    }

    /// The same testbed with so many workers in each stack.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Testbed {
        let options = [WORKERS_OPTION, &workers.to_string()];
        self.server = self.server.with_options(&options);
        self.client = self.client.with_options(&options);
        self
    }

    /// The same testbed with more options for the `mtcp-run` of its servers.
    #[must_use]
    pub fn with_server_options(mut self, options: &[&str]) -> Testbed {
        self.server = self.server.with_options(options);
        self
    }

    /// A path for a file of this test's.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `http://SERVER:port/path`
    pub fn url(&self, port: u16, path: &str) -> String {
        format!("http://{}:{port}/{path}", self.address)
    }

    /// `http://[SERVER]:port/path` by IPv6.
    ///
    /// # Panics
    /// On a testbed of two kernels.
    pub fn url6(&self, port: u16, path: &str) -> String {
        let address = self.address6.expect("a testbed with our stack");
        format!("http://[{address}]:{port}/{path}")
    }

    /// Where clients find the server on this port.
    pub fn endpoint(&self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, port)
    }

    /// Waits until a server accepts connections on `port`.
    ///
    /// The servers of the tests listen on any address, so a kernel listener in the server's
    /// namespace shows up in the same call, and looking at it disturbs nobody. Where the clients
    /// are on the kernel, an ARP exchange and a refused or accepted connection must work as well.
    pub fn wait_for_server(&self, server: &mut Program, port: u16) {
        let limit = Duration::from_secs(20);
        server.wait_until("listens", limit, |_| self.server.namespace.listens(port));
        if self.server.is_on_stack() && !self.client.is_on_stack() {
            let second = Duration::from_secs(1);
            server.wait_until("answers on the wire", limit, |_| {
                // A port that nobody listens on: the answer proves the wire and bothers no server.
                match self.client.namespace.connect(self.endpoint(1), second) {
                    Ok(_) => true,
                    Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
                }
            });
        }
    }

    /// Checks that nothing of ours is left on the two hosts: no process, no interface (but the
    /// veth pair of the harness), no shared memory.
    ///
    /// # Panics
    /// If something is left; the text says what.
    pub fn assert_nothing_left(&self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        for host in [&self.server, &self.client] {
            // The kernel takes a dying process's namespace and devices away a moment after it
            // has reported its end.
            let gone = until(deadline, || {
                host.namespace.processes().is_empty() && extra_interfaces(host).is_empty()
            });
            let (processes, interfaces) = (host.namespace.processes(), extra_interfaces(host));
            assert!(
                gone,
                "left behind: processes {processes:?}, interfaces {interfaces:?}"
            );
        }
        // Memory without a name (memfd) ends with its last process; memory with one would stay.
        let named: Vec<_> = fs::read_dir("/dev/shm")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| name.to_string_lossy().contains("mtcp"))
            .collect();
        assert!(named.is_empty(), "left behind in /dev/shm: {named:?}");
    }
}

fn extra_interfaces(host: &Host) -> Vec<String> {
    let mut interfaces = host.namespace.interfaces();
    interfaces.retain(|name| name != "veth0");
    interfaces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "sleep 1000")]
    fn a_process_left_behind_fails_the_check() {
        let bed = Testbed::kernel();
        let status = bed
            .server
            .command("setsid")
            .args(["--fork", "sleep", "1000"])
            .status();
        assert!(status.expect("setsid (package util-linux)").success());
        bed.assert_nothing_left();
    }

    #[test]
    #[should_panic(expected = "tap7")]
    fn a_device_left_behind_fails_the_check() {
        let bed = Testbed::kernel();
        bed.client.namespace().ip("tuntap add dev tap7 mode tap");
        bed.assert_nothing_left();
    }

    #[test]
    fn an_untouched_testbed_passes_the_check() {
        Testbed::kernel().assert_nothing_left();
    }

    #[test]
    fn the_output_of_a_program_is_digested_whole() {
        let bed = Testbed::kernel();
        let (len, digest) = bed.client.digest_output("printf", &["abc"], LIMIT);
        assert_eq!(
            (len, digest),
            data::digest(&b"abc"[..]).expect("a slice can be read")
        );
    }
}
