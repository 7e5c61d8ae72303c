//! PostgreSQL: a database of its own for each test, and pgbench.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::bed::Testbed;
use crate::program::Finished;

/// The port that it listens on.
pub const PORT: u16 = 5432;

/// Makes a directory that belongs to a user of the system's.
///
/// # Panics
/// If it cannot.
pub fn directory_of(bed: &Testbed, user: &str) -> PathBuf {
    let path = bed.path(user);
    fs::create_dir(&path).expect("a directory");
    let status = Command::new("chown").arg(user).arg(&path).status();
    assert!(status.expect("chown").success(), "chown {user}");
    path
}

/// The path of one of PostgreSQL's programs; Debian has a directory for each version.
fn program(name: &str) -> String {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("package postgresql");
    let newest = versions.flatten().map(|entry| entry.path()).max();
    let newest = newest.expect("a version of PostgreSQL");
    newest.join("bin").join(name).display().to_string()
}

/// The server refuses to run as root.
const AS_POSTGRES: [&str; 4] = [
    "setpriv",
    "--reuid=postgres",
    "--regid=postgres",
    "--clear-groups",
];

/// Makes an empty database to which everybody has access, and answers the command that serves it.
///
/// # Panics
/// If it cannot.
pub fn prepare(bed: &Testbed) -> Vec<String> {
    let directory = directory_of(bed, "postgres");
    let data = directory.join("data").display().to_string();
    let initdb = program("initdb");
    let made = Command::new(AS_POSTGRES[0])
        .args(&AS_POSTGRES[1..])
        .args([&initdb, "-D", &data, "-A", "trust", "-N", "--locale=C"])
        .output()
        .expect("setpriv (package util-linux)");
    let error = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "initdb: {error}");
    let rules = format!("{data}/pg_hba.conf");
    fs::write(&rules, "host all all 0.0.0.0/0 trust\n").expect("the rules of access");

    let mut command = AS_POSTGRES.map(str::to_owned).to_vec();
    command.extend([program("postgres"), "-D".to_owned(), data]);
    let sockets = format!("unix_socket_directories={}", directory.display());
    for setting in ["listen_addresses=0.0.0.0", "fsync=off", &sockets] {
        command.extend(["-c".to_owned(), setting.to_owned()]);
    }
    command
}

/// Whether the server takes queries now.
pub fn is_ready(bed: &Testbed) -> bool {
    let host = bed.address.to_string();
    let asked = bed.client.run("pg_isready", &["-h", &host]);
    asked.status.success()
}

/// Runs pgbench to its end.
pub fn pgbench(bed: &Testbed, arguments: &[&str]) -> Finished {
    let host = bed.address.to_string();
    let to = ["-h", host.as_str(), "-U", "postgres"];
    let arguments = [&to, arguments, &["postgres"]].concat();
    bed.client.run(program("pgbench"), &arguments)
}
