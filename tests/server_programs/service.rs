//! A server of several processes: how it is started, told to do something, and ended.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testbed::servers::Server;
use testbed::{LIMIT, Program, Testbed, signal, until};

/// A server with the bed that it runs on.
pub struct Service<'bed> {
    bed: &'bed Testbed,
    server: Server,
    pid_file: Option<PathBuf>,
}

impl<'bed> Service<'bed> {
    /// Starts a server and waits until it accepts connections.
    pub fn start(bed: &'bed Testbed, command: &[&str], port: u16) -> Service<'bed> {
        let (program, arguments) = command.split_first().expect("a program");
        Service {
            bed,
            server: Server::start(bed, program, arguments, port),
            pid_file: None,
        }
    }

    /// Has the signals go to the process whose number is in this file of the test's directory, as
    /// that of a daemon. Others are told through `mtcp-run`.
    #[must_use]
    pub fn with_pid_file(mut self, name: &str) -> Service<'bed> {
        self.pid_file = Some(self.bed.path(name));
        self
    }

    /// The number of the server's first process, which an upgrade changes.
    pub fn pid(&mut self) -> u32 {
        let Some(file) = self.pid_file.clone() else {
            return self.server.pid();
        };
        let mut pid = None;
        self.wait_until("has written its pid file", || {
            pid = first_number(&file);
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

    /// Waits until the server has said something that many times on its standard output.
    pub fn wait_until_it_says(&mut self, text: &str, times: usize) {
        let said = |server: &Program| server.stdout().matches(text).count() >= times;
        self.server.wait_until(text, LIMIT, said);
    }

    /// Waits until the server has said something that many times on its standard error.
    pub fn wait_until_it_complains(&mut self, text: &str, times: usize) {
        let said = |server: &Program| server.stderr().matches(text).count() >= times;
        self.server.wait_until(text, LIMIT, said);
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
    pub fn end(self, number: i32) {
        self.end_with(number, 0);
    }

    /// As [`Service::end`], with the exit status that the server has then.
    pub fn end_with(mut self, number: i32, status: i32) {
        self.signal(number);
        self.has_ended_with(status);
    }

    /// The server ends well, and nothing of it is left.
    pub fn has_ended(self) {
        self.has_ended_with(0);
    }

    fn has_ended_with(self, status: i32) {
        let finished = self.server.into_program().finish(LIMIT);
        assert_eq!(finished.code(), status, "{finished}");
        self.bed.assert_nothing_left();
    }
}

/// The number in the first line of a pid file.
fn first_number(file: &Path) -> Option<u32> {
    fs::read_to_string(file)
        .ok()?
        .lines()
        .next()?
        .trim()
        .parse()
        .ok()
}

/// Writes a file of the test's and answers its path as text.
pub fn write(bed: &Testbed, name: &str, text: &str) -> String {
    let path = bed.path(name);
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path.display().to_string()
}

/// Waits for something that is about to happen.
#[track_caller]
pub fn wait(condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    assert!(until(deadline, condition), "it has not come about");
}

/// Waits until a file contains `text` at least `times` times.
pub fn wait_for_lines(file: &Path, text: &str, times: usize) {
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
