//! `cargo xtask setup`: the programs of others that we run.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{Error, at, is_root, run};

/// A program, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 35] = [
    ("ab", "apache2-utils"),
    ("apache2", "apache2"),
    ("cc", "gcc"),
    ("/usr/include/stdio.h", "libc6-dev"),
    ("curl", "curl"),
    ("ethtool", "ethtool"),
    ("/usr/lib/git-core/git-http-backend", "git"),
    ("h2load", "nghttp2-client"),
    ("haproxy", "haproxy"),
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("javac", "default-jdk-headless"),
    ("lighttpd", "lighttpd"),
    ("mariadbd", "mariadb-server"),
    ("memcached", "memcached"),
    ("modprobe", "kmod"),
    ("nft", "nftables"),
    ("nginx", "nginx"),
    ("node", "nodejs"),
    ("openssl", "openssl"),
    ("/usr/lib/postgresql", "postgresql"),
    (
        "/usr/lib/python3/dist-packages/gunicorn",
        "python3-gunicorn",
    ),
    ("/usr/lib/python3/dist-packages/uvicorn", "python3-uvicorn"),
    ("/usr/lib/python3/dist-packages/uvloop", "python3-uvloop"),
    ("/usr/bin/python3", "python3"),
    ("redis-benchmark", "redis-tools"),
    ("redis-server", "redis-server"),
    ("scp", "openssh-client"),
    ("sshd", "openssh-server"),
    ("strace", "strace"),
    ("tshark", "tshark"),
    ("unshare", "util-linux"),
    ("valgrind", "valgrind"),
    ("wget", "wget"),
    ("wrk", "wrk"),
];

/// What the suites of others need beyond that (`cargo xtask suites`).
const FOR_SUITES: [(&str, &str); 11] = [
    ("autoreconf", "autoconf"),
    ("automake", "automake"),
    ("dpkg-source", "dpkg-dev"),
    ("/usr/include/event.h", "libevent-dev"),
    ("/usr/include/openssl/ssl.h", "libssl-dev"),
    ("libtoolize", "libtool"),
    ("make", "make"),
    ("memcached", "memcached"),
    ("perl", "perl"),
    ("tclsh", "tcl"),
    (
        "/usr/lib/python3.11/test/test_socket.py",
        "libpython3.11-testsuite",
    ),
];

/// Where Debian's package scripts ask whether they may start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing, or says what to install.
pub fn provide() -> Result<(), Error> {
    provide_all(&PROGRAMS)?;
    provide_tun()
}

/// Installs what the suites of others need, or says what to install.
pub fn provide_for_suites() -> Result<(), Error> {
    provide_all(&PROGRAMS)?;
    provide_all(&FOR_SUITES)
}

fn provide_all(programs: &[(&str, &'static str)]) -> Result<(), Error> {
    let missing = missing_packages(programs);
    if missing.is_empty() {
        eprintln!("setup: every program is there");
        return Ok(());
    }
    eprintln!("setup: missing: {}", missing.join(" "));
    install(&missing)?;
    let missing = missing_packages(programs);
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!(
        "still missing after the installation: {}",
        missing.join(" ")
    );
    Err(Error::Other(text))
}

/// Whether a program is in a directory of PATH or of the system's.
fn exists(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(system)
        .any(|directory| directory.join(program).exists())
}

fn missing_packages(programs: &[(&str, &'static str)]) -> Vec<&'static str> {
    let missing = programs.iter().filter(|(program, _)| !exists(program));
    missing.map(|(_, package)| *package).collect()
}

fn install(packages: &[&str]) -> Result<(), Error> {
    let by_hand = format!(
        "apt-get install --no-install-recommends {}",
        packages.join(" ")
    );
    if !exists("apt-get") {
        let text = format!(
            "this is no Debian: install what corresponds to these packages of Debian's: {}",
            packages.join(" ")
        );
        return Err(Error::Other(text));
    }
    if !is_root() {
        return Err(Error::Other(format!(
            "not root, so please run: sudo {by_hand}"
        )));
    }
    let _no_services = NoServices::new()?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut command)
    };
    apt(&["update", "-q"])?;
    apt(&[
        &["install", "-q", "-y", "--no-install-recommends"],
        packages,
    ]
    .concat())
}

/// While it lives, no package starts a service. A policy that is there already is left alone.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn new() -> Result<NoServices, Error> {
        let ours = !Path::new(POLICY).exists();
        if ours {
            // 101: the action is forbidden (invoke-rc.d's policy-rc.d interface).
            fs::write(POLICY, "#!/bin/sh\nexit 101\n").map_err(at(POLICY))?;
            let executable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(POLICY, executable).map_err(at(POLICY))?;
        }
        Ok(NoServices { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("setup: {POLICY} forbids services to start; please remove it: {error}");
        }
    }
}

fn provide_tun() -> Result<(), Error> {
    let tun = Path::new("/dev/net/tun");
    if !tun.exists() && is_root() {
        // It fails where the module is built in or may not be loaded; what counts comes after.
        let _ = run(Command::new("modprobe").arg("tun"));
    }
    if tun.exists() {
        return Ok(());
    }
    let text =
        "/dev/net/tun is missing: run `modprobe tun` as root (in a container: give it the device)";
    Err(Error::Other(text.to_owned()))
}
