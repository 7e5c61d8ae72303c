//! Programs under test: started, watched, ended and reaped.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::sys;

/// How often a condition is looked at that raises no event.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Looks at `condition` until it holds; false if `deadline` came first. For conditions that raise
/// no event.
pub fn until(deadline: Instant, mut condition: impl FnMut() -> bool) -> bool {
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// What a program that has ended left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// A running program, its output in files. Dropping it ends it: SIGTERM, and SIGKILL if that has
/// not helped within three seconds.
#[derive(Debug)]
pub struct Program {
    line: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Program {
    /// Starts `command`, its output going to files in `directory` (unless it is piped already).
    ///
    /// # Panics
    /// If the program cannot be started; the text says which and why.
    pub fn start(mut command: Command, directory: &Path) -> Program {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let line = describe(&command);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = |stream: &str| directory.join(format!("program-{number}.{stream}"));
        let (stdout, stderr) = (file("out"), file("err"));
        let create = |path: &Path| File::create(path).expect("a file in the test's directory");
        let child = command
            .stdin(Stdio::null())
            .stdout(create(&stdout))
            .stderr(create(&stderr))
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot start {line}: {error} (`cargo xtask setup` installs the programs)")
            });
        Program {
            line,
            child,
            stdout,
            stderr,
        }
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The command line that it was started with.
    pub fn command_line(&self) -> &str {
        &self.line
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // It may have ended already; whoever asks afterwards sees that.
        let _ = sys::signal(self.pid(), signal);
    }

    /// Waits for its end; `None` if that takes longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let ended = sys::wait_for_exit(self.pid(), Instant::now() + limit).expect("pidfd");
        ended.then(|| self.child.wait().expect("it is our child"))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If that takes longer than `limit`; the text carries the program's output.
    pub fn finish(mut self, limit: Duration) -> Finished {
        let Some(status) = self.wait(limit) else {
            panic!("still running after {limit:?}: {}", self.report());
        };
        Finished {
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }

    /// Asks it to end with SIGTERM and waits.
    ///
    /// # Panics
    /// If it does not end within `limit`.
    pub fn stop(self, limit: Duration) -> Finished {
        self.signal(libc::SIGTERM);
        self.finish(limit)
    }

    /// Looks at `condition` until it holds.
    ///
    /// # Panics
    /// If the program ends first, or `limit` passes; the text carries its output.
    pub fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&Program) -> bool,
    ) {
        let mut ended = false;
        let held = until(Instant::now() + limit, || {
            ended = !self.is_running();
            ended || condition(self)
        });
        if ended && !condition(self) {
            panic!("ended before it {what}: {}", self.report());
        }
        assert!(held, "has not {what} after {limit:?}: {}", self.report());
    }

    /// The command line, status and output, for a failure's text.
    pub fn report(&mut self) -> String {
        let state = match self.child.try_wait() {
            Ok(None) => "running".to_owned(),
            Ok(Some(status)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let (line, stdout, stderr) = (&self.line, self.stdout(), self.stderr());
        format!("{line}\n({state})\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.is_running() {
            return;
        }
        self.signal(libc::SIGTERM);
        if self.wait(Duration::from_secs(3)).is_none() {
            self.signal(libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

impl Finished {
    /// The output, if the program has ended well.
    ///
    /// # Panics
    /// If it has not.
    pub fn expect_success(self, what: &str) -> Finished {
        assert!(self.status.success(), "{what} failed: {self}");
        self
    }

    /// The exit status as a shell shows it: 128 + n for a signal.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n--- stdout\n{}\n--- stderr\n{}\n---",
            self.status, self.stdout, self.stderr
        )
    }
}

/// A command as it would be typed.
pub fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    words.join(" ")
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sh(directory: &Path, script: &str) -> Program {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Program::start(command, directory)
    }

    #[test]
    fn a_finished_program_hands_over_its_output_and_status() {
        let directory = tempfile::tempdir().unwrap();
        let finished = sh(directory.path(), "echo out; echo err >&2; exit 3").finish(10 * SECOND);
        assert_eq!(
            (finished.stdout.as_str(), finished.stderr.as_str()),
            ("out\n", "err\n")
        );
        assert_eq!(finished.code(), 3);
    }

    #[test]
    fn a_killed_program_has_the_code_that_a_shell_shows() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(
            sh(directory.path(), "kill -KILL $$")
                .finish(10 * SECOND)
                .code(),
            137
        );
    }

    #[test]
    #[should_panic(expected = "still running")]
    fn a_program_that_does_not_end_fails_its_test() {
        let directory = tempfile::tempdir().unwrap();
        sh(directory.path(), "exec sleep 60").finish(Duration::from_millis(50));
    }

    #[test]
    #[should_panic(expected = "the reason")]
    fn waiting_for_a_program_that_has_ended_fails_with_what_it_said() {
        let directory = tempfile::tempdir().unwrap();
        let mut program = sh(directory.path(), "echo the reason >&2; exit 1");
        program.wait_until("listens", 60 * SECOND, |_| false);
    }

    #[test]
    fn dropping_a_program_ends_it_even_if_it_ignores_sigterm() {
        let directory = tempfile::tempdir().unwrap();
        let mut program = sh(
            directory.path(),
            "trap '' TERM; echo ready; while :; do sleep 0.1; done",
        );
        program.wait_until("is ready", 10 * SECOND, |program| {
            program.stdout() == "ready\n"
        });
        let pid = program.pid();
        drop(program);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
