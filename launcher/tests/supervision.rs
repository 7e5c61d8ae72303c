//! How `mtcp-run` starts a program, passes signals on and waits, seen with `--kernel`: the same
//! code, without a stack.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use common::{mtcp_run, output, text};

/// `mtcp-run --kernel sh -c SCRIPT`, with its output to be read while it runs.
struct Shell {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Shell {
    fn new(script: &str) -> Shell {
        let mut command = mtcp_run(&["--kernel", "sh", "-c", script]);
        Shell::start(&mut command)
    }

    fn start(command: &mut Command) -> Shell {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let lines = BufReader::new(child.stdout.take().expect("its output is piped"));
        Shell { child, lines }
    }

    /// Waits for a line of output.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("output is text");
        line.trim_end().to_owned()
    }

    /// Sends a signal to mtcp-run alone.
    fn kill(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(status.expect("kill starts").success());
    }

    /// Asks again and again for the end, as nobody does by accident.
    fn insist(&mut self) {
        while let Ok(None) = self.child.try_wait() {
            self.kill("-TERM");
        }
    }

    fn status(&mut self) -> Option<i32> {
        self.child
            .wait()
            .expect("mtcp-run can be waited for")
            .code()
    }
}

/// Ends what mtcp-run leaves running if a test fails.
impl Drop for Shell {
    fn drop(&mut self) {
        self.insist();
    }
}

/// A script that waits, but lets its traps run at once. They end the sleeper with SIGKILL, since any
/// other signal could still meet the handlers that it has of the shell's.
const WAIT: &str = "sleep 1000 & echo ready; wait";

#[test]
fn the_exit_status_is_the_programs() {
    for (script, status) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -KILL $$", 137),
        ("kill -SEGV $$", 139),
    ] {
        let run = output(&mut mtcp_run(&["--kernel", "sh", "-c", script]));
        assert_eq!(run.status.code(), Some(status), "{script}");
    }
}

#[test]
fn a_script_whose_interpreter_is_missing_is_an_error_of_exec() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script");
    fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&path, mode).unwrap();
    let run = output(&mut mtcp_run(&["--kernel", path.to_str().unwrap()]));
    assert_eq!(run.status.code(), Some(127));
}

#[test]
fn arguments_output_and_environment_pass_through() {
    let script = r#"cat; echo "$0|$1|$MARK|$LD_PRELOAD""#;
    let mut command = mtcp_run(&["--kernel", "sh", "-c", script, "zero", "-x"]);
    command.env("MARK", "m").env_remove("LD_PRELOAD");
    let mut shell = Shell::start(&mut command);
    let mut input = shell.child.stdin.take().unwrap();
    input.write_all(b"in\n").unwrap();
    drop(input);
    assert_eq!(shell.line(), "in");
    assert_eq!(shell.line(), "zero|-x|m|");
    assert_eq!(shell.status(), Some(0));
}

#[test]
fn a_signal_to_mtcp_run_alone_reaches_the_program() {
    for signal in ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH"] {
        let script = format!("trap 'kill -KILL $!; exit 3' {signal}; {WAIT}");
        let mut shell = Shell::new(&script);
        assert_eq!(shell.line(), "ready");
        shell.kill(&format!("-{signal}"));
        assert_eq!(shell.status(), Some(3), "{signal}");
    }
}

#[test]
fn a_signal_that_ends_the_program_shows_in_the_status() {
    let mut shell = Shell::new("echo ready; exec sleep 1000");
    assert_eq!(shell.line(), "ready");
    shell.kill("-TERM");
    assert_eq!(shell.status(), Some(128 + 15));
}

#[test]
fn a_second_request_to_end_kills_what_is_left() {
    // The shell and its child ignore the signal, and so does a daemon that has left them.
    let script = "trap '' TERM INT; setsid sleep 1000 & sh -c 'echo ready; exec sleep 1000'";
    let mut command = mtcp_run(&["--kernel", "sh", "-c", script]);
    let mut shell = Shell::start(command.stderr(Stdio::piped()));
    assert_eq!(shell.line(), "ready");
    shell.insist();
    assert_eq!(shell.status(), Some(128 + 9));
    let mut rest = String::new();
    shell.lines.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "the output is closed: nobody is left to write");
    let mut log = String::new();
    let errors = shell.child.stderr.as_mut().unwrap();
    errors.read_to_string(&mut log).unwrap();
    assert!(
        log.contains("WARN") && log.contains("killed (SIGKILL)"),
        "{log}"
    );
}

#[test]
fn a_request_to_the_child_and_then_to_its_group_is_one() {
    // timeout(1) does so at the end of its time, and when it is told to end itself.
    let script = format!("trap 'kill -KILL $!; exit 3' TERM; {WAIT}");
    let mut command = Command::new("timeout");
    command.args(["1000", env!("CARGO_BIN_EXE_mtcp-run")]);
    let mut shell = Shell::start(command.args(["--kernel", "sh", "-c", &script]));
    assert_eq!(shell.line(), "ready");
    shell.kill("-TERM");
    assert_eq!(shell.status(), Some(3));
}

#[test]
fn what_mtcp_run_waits_for_after_the_programs_end_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let script = r#"setsid sh -c 'read go <"$FIFO"' & exit 0"#;
    let mut command = mtcp_run(&["--kernel", "sh", "-c", script]);
    let mut shell = Shell::start(command.env("FIFO", &fifo).stderr(Stdio::piped()));
    let mut log = BufReader::new(shell.child.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    let told = "sh has ended; mtcp-run stays until 1 further process has";
    assert!(line.contains(told), "{line:?}");
    fs::write(&fifo, "go\n").unwrap();
    assert_eq!(shell.status(), Some(0));
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "it is said once");
}

#[test]
fn mtcp_run_stays_until_a_daemon_is_gone_and_returns_the_programs_status() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    // The daemon says who its parent is once the program, its parent, is gone.
    let daemon = r#"read go <"$FIFO"; grep PPid: /proc/$$/status"#;
    let script = format!("setsid sh -c '{daemon}' & echo $PPID; exit 5");
    let mut command = mtcp_run(&["--kernel", "sh", "-c", &script]);
    let mut shell = Shell::start(command.env("FIFO", &fifo));
    let launcher = shell.line();
    assert_eq!(launcher, shell.child.id().to_string());
    wait_until_only_child(&launcher);
    assert!(shell.child.try_wait().unwrap().is_none(), "it stays");
    fs::write(&fifo, "go\n").unwrap();
    assert_eq!(shell.line(), format!("PPid:\t{launcher}"));
    assert_eq!(shell.status(), Some(5));
}

/// Waits until the program is reaped, and the daemon is the child that is left.
fn wait_until_only_child(launcher: &str) {
    let children = format!("/proc/{launcher}/task/{launcher}/children");
    let is_daemon = |pid: &str| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        text(&line).contains("read go")
    };
    loop {
        let now = fs::read_to_string(&children).expect("the launcher stays");
        let now: Vec<&str> = now.split_whitespace().collect();
        let is_alone = now.len() == 1;
        if is_alone && is_daemon(now[0]) && is_orphan(now[0], launcher) {
            return;
        }
        std::thread::yield_now();
    }
}

fn is_orphan(pid: &str, launcher: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains(&format!("PPid:\t{launcher}\n"))
}

#[test]
fn a_daemon_gets_the_signals_once_the_program_is_gone() {
    let daemon = "trap \"kill -KILL \\$!; echo got it; exit\" USR1; sleep 1000 & echo $$; wait";
    let script = format!("setsid sh -c '{daemon}' & exit 0");
    let mut shell = Shell::new(&script);
    let daemon = shell.line();
    while !is_orphan(&daemon, &shell.child.id().to_string()) {
        std::thread::yield_now();
    }
    shell.kill("-USR1");
    assert_eq!(shell.line(), "got it");
    assert_eq!(shell.status(), Some(0));
}

#[test]
fn a_key_on_the_terminal_reaches_the_program_once() {
    // script(1) gives mtcp-run a terminal of its own, and its input is the keyboard. INT has a
    // lower number than USR1, so that a second INT would be delivered before it.
    let script = r#"trap 'n=$((n+1)); echo "INT $n"' INT; trap 'kill -KILL $!; exit' USR1;
        sleep 1000 & echo "launcher $PPID"; while :; do wait; done"#;
    let inner = format!(
        "'{}' --kernel sh -c '{}'",
        env!("CARGO_BIN_EXE_mtcp-run"),
        { script.replace('\'', r"'\''") }
    );
    let mut command = Command::new("script");
    command.args(["-qec", &inner, "/dev/null"]);
    let mut shell = Shell::start(&mut command);
    let launcher = shell.line().replace("launcher ", "");
    let mut keyboard = shell.child.stdin.take().unwrap();
    keyboard.write_all(b"\x03").unwrap();
    // The terminal shows the key as ^C in front of what the program writes.
    let line = shell.line();
    assert!(line.ends_with("INT 1"), "{line:?}");
    let killed = Command::new("kill").args(["-USR1", &launcher]).status();
    assert!(killed.unwrap().success());
    let mut rest = String::new();
    shell.lines.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("INT 2"), "{rest:?}");
}

#[test]
fn a_signal_that_was_ignored_before_stays_ignored() {
    let inner = format!(
        "trap '' INT; exec '{}' --kernel sh -c 'trap \"kill -KILL \\$!; exit 3\" TERM; {WAIT}'",
        env!("CARGO_BIN_EXE_mtcp-run")
    );
    let mut shell = Shell::start(Command::new("sh").args(["-c", &inner]));
    assert_eq!(shell.line(), "ready");
    // Two of them would kill the program if they counted.
    shell.kill("-INT");
    shell.kill("-INT");
    shell.kill("-TERM");
    assert_eq!(shell.status(), Some(3));
}

#[test]
fn a_signal_that_mtcp_run_was_started_to_ignore_reaches_a_program_that_handles_it() {
    for signal in ["HUP", "INT", "QUIT"] {
        let script = format!("trap \"kill -KILL \\$!; exit 3\" {signal}; {WAIT}");
        let inner = format!(
            "trap '' {signal}; exec '{}' --kernel env --default-signal={signal} sh -c '{script}'",
            env!("CARGO_BIN_EXE_mtcp-run")
        );
        let mut shell = Shell::start(Command::new("sh").args(["-c", &inner]));
        assert_eq!(shell.line(), "ready");
        shell.kill(&format!("-{signal}"));
        assert_eq!(shell.status(), Some(3), "{signal}");
    }
}

#[test]
fn the_program_gets_the_signal_mask_and_handlers_that_mtcp_run_got() {
    let masks = "grep -E '^(SigBlk|SigIgn|SigCgt)' /proc/self/status";
    let without = Command::new("sh").args(["-c", masks]).output().unwrap();
    let run = output(&mut mtcp_run(&["--kernel", "sh", "-c", masks]));
    assert_eq!(text(&run.stdout), text(&without.stdout));
}

#[test]
fn the_program_inherits_the_descriptors_of_the_caller_and_none_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let list = "ls /proc/self/fd";
    let with = |before: &str| {
        let script = format!("exec 9</dev/null; exec {before} sh -c '{list}'");
        let run = output(
            Command::new("sh")
                .args(["-c", &script])
                .stdin(Stdio::null()),
        );
        text(&run.stdout)
    };
    let launcher = format!(
        "'{}' --kernel --log-file {}",
        env!("CARGO_BIN_EXE_mtcp-run"),
        log.display()
    );
    let direct = with("");
    assert!(direct.contains("\n9\n"), "{direct}");
    assert_eq!(with(&launcher), direct);
}

#[test]
fn the_program_runs_on_its_cores() {
    let allowed = |output: &[u8]| text(output).trim().to_owned();
    let field = "grep Cpus_allowed_list /proc/self/status | cut -f2";
    let all = allowed(&output(Command::new("sh").args(["-c", field])).stdout);
    let last = all.rsplit([',', '-']).next().unwrap();
    let run = output(&mut mtcp_run(&[
        "--kernel",
        "--app-cores",
        last,
        "sh",
        "-c",
        field,
    ]));
    assert_eq!(allowed(&run.stdout), last);
    let run = output(&mut mtcp_run(&["--kernel", "sh", "-c", field]));
    assert_eq!(allowed(&run.stdout), all);
}

#[test]
fn rootless_gives_a_network_of_its_own() {
    let script = "id -u; cat /proc/net/dev; readlink /proc/self/ns/net";
    let run = output(&mut mtcp_run(&[
        "--rootless",
        "--kernel",
        "sh",
        "-c",
        script,
    ]));
    assert_eq!(
        run.status.code(),
        Some(0),
        "this test needs a kernel that lets this user make namespaces: {}",
        text(&run.stderr)
    );
    let shown = text(&run.stdout);
    assert_eq!(shown.lines().next(), Some("0"), "it is root within");
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert!(!shown.contains(own.to_str().unwrap()), "{shown}");
    let interfaces: Vec<&str> = shown.lines().filter(|line| line.contains(": ")).collect();
    assert!(
        interfaces.iter().any(|l| l.trim().starts_with("lo:")),
        "{shown}"
    );
}

#[test]
fn rootless_brings_the_loopback_up() {
    let run = output(&mut mtcp_run(&[
        "--rootless",
        "--kernel",
        "sh",
        "-c",
        // The local routing table has 127.0.0.0/8 only while the interface is up.
        "grep -c 127.0.0.0 /proc/net/fib_trie",
    ]));
    assert_eq!(
        run.status.code(),
        Some(0),
        "this test needs a kernel that lets this user make namespaces: {}",
        text(&run.stderr)
    );
}
