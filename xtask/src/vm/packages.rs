//! Packages of Debian, unpacked into a folder of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::link;
use crate::shell::{Error, at, output, run};

/// A folder of packages.
pub struct Set {
    name: &'static str,
    /// Roughly what is downloaded, in MB.
    megabytes: u32,
    suites: &'static [&'static str],
    /// From which of them the packages are.
    suite: &'static str,
    packages: &'static [&'static str],
}

/// QEMU, at least 10.1 for vfio-user.
pub const HOST: Set = Set {
    name: "host",
    megabytes: 40,
    suites: &["trixie", "trixie-backports"],
    suite: "trixie-backports",
    packages: &["qemu-system-x86"],
};

/// What the guest runs, a kernel of Debian 12 first.
pub const GUEST: Set = Set {
    name: "guest",
    megabytes: 110,
    suites: &["bookworm"],
    suite: "bookworm",
    packages: &[
        "linux-image-amd64",
        "busybox-static",
        "iproute2",
        "ethtool",
        "iperf3",
        "nginx",
        "apache2-utils",
        "curl",
    ],
};

/// DPDK's testpmd, and all that it is linked with.
pub const DPDK: Set = Set {
    name: "dpdk",
    megabytes: 55,
    suites: &["bookworm"],
    suite: "bookworm",
    packages: &["dpdk-dev"],
};

const MIRROR: &str = "http://deb.debian.org/debian";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Downloads and unpacks a set, unless that has been done; returns the folder.
pub fn provide(place: &Path, set: &Set) -> Result<PathBuf, Error> {
    let root = place.join(set.name);
    let done = place.join(format!("{}.done", set.name));
    let packages = set.packages.join(", ");
    if fs::read_to_string(&done).is_ok_and(|provided| provided == packages) {
        return Ok(root);
    }
    let state = place.join(format!("{}.apt", set.name));
    eprintln!(
        "{}: about {} MB of packages are downloaded into {} (nothing is installed)",
        packages,
        set.megabytes,
        state.display()
    );
    prepare(&state, set)?;
    run(apt(&state).arg("update"))?;
    run(apt(&state)
        .args([
            "install",
            "--yes",
            "--no-install-recommends",
            "--download-only",
        ])
        .args(["--target-release", set.suite])
        .args(set.packages))?;
    unpack(&state.join("var/cache/apt/archives"), &root)?;
    fs::write(&done, packages).map_err(at(&done))?;
    Ok(root)
}

/// A state of apt in which nothing is installed.
fn prepare(state: &Path, set: &Set) -> Result<(), Error> {
    for folder in [
        "etc/apt/apt.conf.d",
        "etc/apt/preferences.d",
        "var/lib/apt/lists/partial",
        "var/lib/dpkg",
        "var/cache/apt/archives/partial",
    ] {
        let folder = state.join(folder);
        fs::create_dir_all(&folder).map_err(at(&folder))?;
    }
    let status = state.join("var/lib/dpkg/status");
    fs::write(&status, "").map_err(at(&status))?;
    let line = |suite: &&str| format!("deb [signed-by={KEYS}] {MIRROR} {suite} main\n");
    let list = state.join("etc/apt/sources.list");
    fs::write(&list, set.suites.iter().map(line).collect::<String>()).map_err(at(&list))
}

fn apt(state: &Path) -> Command {
    let mut command = Command::new("apt-get");
    let option = |name: &str, path: &Path| format!("{name}={}", path.display());
    command.args(["-qq", "-o", &option("Dir", state)]);
    let status = state.join("var/lib/dpkg/status");
    command.args(["-o", &option("Dir::State::status", &status)]);
    command.args([
        "-o",
        "APT::Architecture=amd64",
        "-o",
        "APT::Sandbox::User=root",
    ]);
    command.args(["-o", "Acquire::Languages=none"]);
    command
}

/// Unpacks all packages of a folder, in the layout in which /bin and /lib are links.
fn unpack(packages: &Path, root: &Path) -> Result<(), Error> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        let folder = root.join("usr").join(name);
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        link(&format!("usr/{name}"), &root.join(name))?;
    }
    for entry in fs::read_dir(packages).map_err(at(packages))? {
        let path = entry.map_err(at(packages))?.path();
        if path.extension().is_some_and(|kind| kind == "deb") {
            let tar = path.with_extension("tar");
            let file = fs::File::create(&tar).map_err(at(&tar))?;
            output(
                Command::new("dpkg-deb")
                    .arg("--fsys-tarfile")
                    .arg(&path)
                    .stdout(file),
            )?;
            output(
                Command::new("tar")
                    .args(["--extract", "--keep-directory-symlink", "--file"])
                    .arg(&tar)
                    .arg("--directory")
                    .arg(root),
            )?;
            fs::remove_file(&tar).map_err(at(&tar))?;
        }
    }
    Ok(())
}
