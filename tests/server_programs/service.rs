//! A server of several processes: how it is started, told to do something, and ended.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use testbed::servers::Server;
use testbed::{LIMIT, Testbed, signal, until};

/// A server with the bed that it runs on.
pub struct Service<'bed> {
    bed: &'bed Testbed,
    server: Server,
    pid_file: PathBuf,
}

impl<'bed> Service<'bed> {
    /// Starts a server that writes the number of its first process to `NAME.pid` in the test's
    /// directory, and waits until it accepts connections.
    pub fn start(bed: &'bed Testbed, name: &str, command: &[&str], port: u16) -> Service<'bed> {
        let (program, arguments) = command.split_first().expect("a program");
        Service {
            bed,
            server: Server::start(bed, program, arguments, port),
            pid_file: bed.path(&format!("{name}.pid")),
        }
    }

    /// The number in the pid file, which an upgrade changes.
    pub fn pid(&mut self) -> u32 {
        let file = self.pid_file.clone();
        let read = || {
            fs::read_to_string(&file)
                .ok()?
                .lines()
                .next()?
                .trim()
                .parse()
                .ok()
        };
        let mut pid: Option<u32> = None;
        self.wait_until("has written its pid file", || {
            pid = read();
            pid.is_some()
        });
        pid.expect("it was read")
    }

    /// Sends a signal to the server's first process.
    pub fn signal(&mut self, number: i32) {
        let pid = self.pid();
        signal(pid, number).expect("the server runs");
    }

    /// Waits for something that the server brings about.
    pub fn wait_until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        self.server.wait_until(what, LIMIT, |_| condition());
    }

    /// The server's processes whose command line has `title` in it and `not` not.
    pub fn processes(&self, title: &str, not: &str) -> BTreeSet<u32> {
        let is_it =
            |line: &str| line.contains(title) && !line.contains(not) && !line.contains("mtcp-run");
        let processes = self.bed.server.namespace().processes().into_iter();
        let found = processes.filter(|(_, line)| is_it(line));
        found.map(|(pid, _)| pid).collect()
    }

    /// Ends the server by a signal to its first process.
    pub fn end(mut self, number: i32) {
        self.signal(number);
        self.has_ended();
    }

    /// The server ends well, and nothing of it is left.
    pub fn has_ended(self) {
        let finished = self.server.into_program().finish(LIMIT);
        finished.expect_success("the server");
        self.bed.assert_nothing_left();
    }
}

/// Waits until a file contains `text` at least `times` times.
pub fn wait_for_lines(file: &std::path::Path, text: &str, times: usize) {
    let count = || {
        let content = fs::read(file).unwrap_or_default();
        String::from_utf8_lossy(&content).matches(text).count()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    assert!(
        until(deadline, || count() >= times),
        "{}: {} of {times} times {text:?}:\n{}",
        file.display(),
        count(),
        fs::read_to_string(file).unwrap_or_default()
    );
}
