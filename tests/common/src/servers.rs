//! The servers that the tests run, with the configuration each of them needs.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use crate::artifacts;
use crate::bed::Testbed;
use crate::program::Program;

/// Debian's Python, whatever else is installed.
pub const PYTHON: &str = "/usr/bin/python3";

/// A server that accepts connections.
#[derive(Debug)]
pub struct Server {
    program: Program,
    /// The port that it listens on.
    pub port: u16,
}

impl Server {
    /// Starts a program on the server's host and waits until it accepts connections on `port`.
    pub fn start(
        bed: &Testbed,
        program: impl AsRef<std::ffi::OsStr>,
        arguments: &[&str],
        port: u16,
    ) -> Server {
        let mut program = bed.server.start(program, arguments);
        bed.wait_for_server(&mut program, port);
        Server { program, port }
    }

    /// Waits until it listens (again).
    pub fn wait_until_it_listens(&mut self, bed: &Testbed) {
        bed.wait_for_server(&mut self.program, self.port);
    }

    /// The running program, for whoever wants to wait for its end.
    pub fn into_program(self) -> Program {
        self.program
    }
}

impl Deref for Server {
    type Target = Program;
    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}

/// Writes a file of the test's and answers its path as text.
fn write(path: PathBuf, content: &str) -> String {
    fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path.display().to_string()
}

/// A configuration of nginx as a single process that serves `root` on `port`.
pub fn nginx_configuration(directory: &Path, root: &Path, port: u16) -> String {
    let (directory, root) = (directory.display(), root.display());
    format!(
        "daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 100000000;
    client_body_temp_path {directory}/nginx-body;
    proxy_temp_path {directory}/nginx-proxy;
    fastcgi_temp_path {directory}/nginx-fastcgi;
    uwsgi_temp_path {directory}/nginx-uwsgi;
    scgi_temp_path {directory}/nginx-scgi;
    server {{
        listen {port} backlog=4096;
        root {root};
    }}
}}
"
    )
}

/// nginx in one process, serving `root`.
pub fn nginx(bed: &Testbed, root: &Path) -> Server {
    let port = 80;
    let text = nginx_configuration(&bed.path(""), root, port);
    let file = write(bed.path("nginx.conf"), &text);
    Server::start(bed, "nginx", &["-e", "stderr", "-c", &file], port)
}

/// nginx as [`nginx`], which keeps the files that it serves open (`open_file_cache`).
pub fn nginx_with_open_files(bed: &Testbed, root: &Path) -> Server {
    let port = 80;
    let cache = "sendfile on;\n    open_file_cache max=1000;";
    let text = nginx_configuration(&bed.path(""), root, port).replace("sendfile on;", cache);
    let file = write(bed.path("nginx.conf"), &text);
    Server::start(bed, "nginx", &["-e", "stderr", "-c", &file], port)
}

/// nginx as [`nginx`], with a second listener for IPv6 alone.
pub fn nginx_of_both_families(bed: &Testbed, root: &Path) -> Server {
    let port = 80;
    let v4 = format!("listen {port} backlog=4096;");
    let both = format!("{v4}\n        listen [::]:{port} ipv6only=on backlog=4096;");
    let text = nginx_configuration(&bed.path(""), root, port).replace(&v4, &both);
    let file = write(bed.path("nginx.conf"), &text);
    Server::start(bed, "nginx", &["-e", "stderr", "-c", &file], port)
}

/// lighttpd, serving `root`.
pub fn lighttpd(bed: &Testbed, root: &Path) -> Server {
    let port = 81;
    let text = format!(
        "server.document-root = \"{}\"
server.bind = \"0.0.0.0\"
server.port = {port}
server.max-connections = 4096
server.max-fds = 16384
server.max-keep-alive-requests = 1000000
mimetype.assign = (\"\" => \"application/octet-stream\")
",
        root.display()
    );
    let file = write(bed.path("lighttpd.conf"), &text);
    Server::start(bed, "lighttpd", &["-D", "-f", &file], port)
}

/// redis without persistence.
pub fn redis(bed: &Testbed) -> Server {
    let directory = bed.path("").display().to_string();
    let options = [
        "--port",
        "6379",
        "--bind",
        "0.0.0.0",
        "--protected-mode",
        "no",
        "--save",
        "",
        "--appendonly",
        "no",
        "--daemonize",
        "no",
        "--dir",
        &directory,
    ];
    Server::start(bed, "redis-server", &options, 6379)
}

/// memcached with four threads.
pub fn memcached(bed: &Testbed) -> Server {
    let options = [
        "-u", "root", "-t", "4", "-p", "11211", "-U", "0", "-l", "0.0.0.0", "-c", "4096",
    ];
    Server::start(bed, "memcached", &options, 11211)
}

/// python3 -m http.server, serving `root`.
pub fn python_http(bed: &Testbed, root: &Path) -> Server {
    let root = root.display().to_string();
    let arguments = [
        "-m",
        "http.server",
        "8000",
        "--bind",
        "0.0.0.0",
        "--directory",
        &root,
    ];
    Server::start(bed, PYTHON, &arguments, 8000)
}

/// A Python script of the harness, as a path to run it from.
pub fn script(bed: &Testbed, name: &str) -> String {
    let text = match name {
        "echo_server.py" => include_str!("scripts/echo_server.py"),
        "fast_open_client.py" => include_str!("scripts/fast_open_client.py"),
        "echo_client.py" => include_str!("scripts/echo_client.py"),
        "memcached_client.py" => include_str!("scripts/memcached_client.py"),
        "transfer.py" => include_str!("scripts/transfer.py"),
        "sharing_server.py" => include_str!("scripts/sharing_server.py"),
        "fetch.py" => include_str!("scripts/fetch.py"),
        _ => panic!("there is no script {name}"),
    };
    write(bed.path(name), text)
}

/// An asyncio server that echoes.
pub fn python_echo(bed: &Testbed) -> Server {
    let script = script(bed, "echo_server.py");
    Server::start(bed, PYTHON, &[&script, "7000"], 7000)
}

/// A server whose sockets are used by several processes, as `case` of its script says.
pub fn sharing(bed: &Testbed, case: &str) -> Server {
    let script = script(bed, "sharing_server.py");
    Server::start(bed, PYTHON, &[&script, case, "7003"], 7003)
}

/// iperf3.
pub fn iperf3(bed: &Testbed) -> Server {
    Server::start(bed, "iperf3", &["-s", "-p", "5201"], 5201)
}

/// The example server, serving `root`.
pub fn epserver(bed: &Testbed, root: &Path) -> Server {
    let root = root.display().to_string();
    let arguments = [
        "-p", &root, "-N", "2", "-c", "4096", "-b", "4096", "-P", "8080",
    ];
    Server::start(bed, artifacts::example("epserver"), &arguments, 8080)
}

/// `bench-server` in one of its modes (`echo`, `sink`, `source`) with messages of `size` bytes, on
/// sixteen ports from its first on.
pub fn bench_server(bed: &Testbed, mode: &str, size: usize) -> Server {
    let size = size.to_string();
    let arguments = [mode, "--size", &size, "--port", "9000", "--ports", "16"];
    Server::start(bed, artifacts::bench_server(), &arguments, 9000)
}

/// `bench-server` as an echo; on the kernel's stack it asks epoll without end instead of sleeping.
pub fn spinning_bench_server(bed: &Testbed, size: usize) -> Server {
    let size = size.to_string();
    let mut arguments = vec!["echo", "--size", &size, "--port", "9000"];
    if !bed.server.is_on_stack() {
        arguments.push("--spin");
    }
    Server::start(bed, artifacts::bench_server(), &arguments, 9000)
}

/// One end of a transfer of `size` bytes that waits for the other: `send` or `receive`.
pub fn transfer(bed: &Testbed, role: &str, size: usize) -> Server {
    let (script, size) = (script(bed, "transfer.py"), size.to_string());
    let arguments = [&script, role, "listen", "0.0.0.0", "7001", &size];
    Server::start(bed, PYTHON, &arguments, 7001)
}
