//! The programs of this workspace that the tests run: found, and first of all built.
//!
//! Cargo builds binaries of other packages, and the preload library, only when it is asked to. So
//! the first test that wants one has cargo bring all of them up to date in the release profile
//! (what is shipped is what is tested), next to wherever this test was built. `TESTBED_BIN`
//! names a directory that holds them already and skips this; `cargo xtask test` sets it.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Names the directory of up-to-date programs, if whoever starts the tests has built them.
pub const DIRECTORY_VARIABLE: &str = "TESTBED_BIN";

/// What cargo is asked for to build every program that the tests and benchmarks run.
pub const BUILD_ARGUMENTS: [&str; 13] = [
    "build",
    "--release",
    "-p",
    "launcher",
    "-p",
    "preload",
    "-p",
    "bench",
    "-p",
    "mtcp",
    "--lib",
    "--bins",
    "--examples",
];

/// `mtcp-run`.
pub fn mtcp_run() -> PathBuf {
    find("mtcp-run")
}

/// `libmtcp_preload.so`.
pub fn preload_library() -> PathBuf {
    find("libmtcp_preload.so")
}

/// `bench-server`.
pub fn bench_server() -> PathBuf {
    find("bench-server")
}

/// `bench-client`.
pub fn bench_client() -> PathBuf {
    find("bench-client")
}

/// `bench-calls`.
pub fn bench_calls() -> PathBuf {
    find("bench-calls")
}

/// `bench-handover`.
pub fn bench_handover() -> PathBuf {
    find("bench-handover")
}

/// `bench-smoltcp`.
pub fn bench_smoltcp() -> PathBuf {
    find("bench-smoltcp")
}

/// `bench-copies`.
pub fn bench_copies() -> PathBuf {
    find("bench-copies")
}

/// One of the programs in `examples/`.
pub fn example(name: &str) -> PathBuf {
    find(&format!("examples/{name}"))
}

fn find(name: &str) -> PathBuf {
    let path = directory().join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo {}`",
        path.display(),
        BUILD_ARGUMENTS.join(" ")
    );
    path
}

static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

/// Has this process take the programs from a directory where they are up to date. The first word
/// counts: once a program has been looked for, its directory stays.
pub fn use_directory(directory: PathBuf) {
    DIRECTORY.get_or_init(|| directory);
}

fn directory() -> &'static Path {
    DIRECTORY.get_or_init(|| match env::var_os(DIRECTORY_VARIABLE) {
        Some(directory) => directory.into(),
        None => build(),
    })
}

/// The workspace's target directory: this program stands in TARGET/PROFILE/deps or TARGET/PROFILE.
fn target_directory() -> PathBuf {
    let program = env::current_exe().expect("the path of this program");
    let mut directory = program.parent().expect("a program is in a directory");
    if directory.ends_with("deps") {
        directory = directory
            .parent()
            .expect("deps is in a profile's directory");
    }
    directory
        .parent()
        .expect("a profile is in the target directory")
        .to_owned()
}

fn build() -> PathBuf {
    let target = target_directory();
    let release = target.join("release");
    // Under nextest every test is a process: the first of a run builds, the others wait for the
    // lock and see the run's name in it.
    let lock = File::options()
        .create(true)
        .append(true)
        .open(target.join("testbed.lock"))
        .expect("a lock file in the target directory");
    if let Err(TryLockError::WouldBlock) = lock.try_lock() {
        eprintln!("waiting for another test that builds mtcp-run");
        lock.lock().expect("flock");
    }
    let stamp = target.join("testbed.run");
    let run = env::var("NEXTEST_RUN_ID").ok();
    if run.is_some() && fs::read_to_string(&stamp).ok() == run {
        return release;
    }
    let arguments = BUILD_ARGUMENTS;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .arg("--target-dir")
        .arg(&target)
        .current_dir(workspace())
        .output()
        .unwrap_or_else(|error| panic!("cargo: {error}"));
    assert!(
        output.status.success(),
        "cargo {} failed:\n{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    if let Some(run) = run {
        fs::write(&stamp, run).expect("a file in the target directory");
    }
    release
}

/// The workspace's root.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("tests/common is two below the root")
        .to_owned()
}
