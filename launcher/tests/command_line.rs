//! What `mtcp-run` says and returns before any stack is started.

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::{mtcp_run, output, text};

#[test]
fn a_program_that_is_not_there_gives_127() {
    let run = output(&mut mtcp_run(&["no-such-program"]));
    assert_eq!(run.status.code(), Some(127));
    assert_eq!(text(&run.stderr), "mtcp-run: no-such-program: not found\n");
}

#[test]
fn a_program_that_cannot_be_executed_gives_126() {
    for program in ["/etc/passwd", "/"] {
        let run = output(&mut mtcp_run(&[program]));
        assert_eq!(run.status.code(), Some(126), "{program}");
        let message = text(&run.stderr);
        let expected = format!("mtcp-run: {program}: cannot execute: ");
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn a_wrong_command_line_gives_125() {
    for arguments in [&["--devise", "tap", "true"][..], &[], &["--mtu"]] {
        let run = output(&mut mtcp_run(arguments));
        assert_eq!(run.status.code(), Some(125), "{arguments:?}");
        assert!(!run.stderr.is_empty());
    }
}

#[test]
fn a_wrong_setting_gives_125_and_one_line() {
    let run = output(mtcp_run(&["true"]).env("MTCP_MTU", "1"));
    assert_eq!(run.status.code(), Some(125));
    assert_eq!(
        text(&run.stderr),
        "mtcp-run: MTCP_MTU: expected a number of bytes from 576 to 65521, found \"1\"\n"
    );
}

#[test]
fn a_wrong_file_gives_125_and_names_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mtcp.toml");
    fs::write(&path, "mtu = 1500\nloopback = 5\n").unwrap();
    let run = output(mtcp_run(&["true"]).env("MTCP_CONFIG", &path));
    assert_eq!(run.status.code(), Some(125));
    assert_eq!(
        text(&run.stderr),
        format!(
            "mtcp-run: {}:2: loopback: expected kernel or stack, found \"5\"\n",
            path.display()
        )
    );
}

#[test]
fn a_wrong_log_filter_is_one_line() {
    let run = output(&mut mtcp_run(&["--log", "a=b=c", "true"]));
    assert_eq!(run.status.code(), Some(125));
    assert_eq!(
        text(&run.stderr),
        "mtcp-run: --log: expected a filter such as warn,engine=debug, found \"a=b=c\"\n"
    );
}

#[test]
fn wrong_faults_give_125_and_one_line() {
    for last in ["true", "--check"] {
        let run = output(&mut mtcp_run(&["--faults", "loss=2", last]));
        assert_eq!(run.status.code(), Some(125));
        assert_eq!(
            text(&run.stderr),
            "mtcp-run: --faults: faults: \"loss=2\": expected a rate from 0 to 1, or 0% to 100%\n"
        );
        assert_eq!(text(&run.stdout), "");
    }
}

#[test]
fn a_log_file_that_cannot_be_opened_is_named() {
    let run = output(&mut mtcp_run(&[
        "--log-file",
        "/no/such/folder/log",
        "true",
    ]));
    assert_eq!(run.status.code(), Some(125));
    let message = text(&run.stderr);
    let expected = "mtcp-run: --log-file: /no/such/folder/log: cannot open: ";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn an_unknown_variable_is_warned_about_by_name() {
    let mut command = mtcp_run(&["--kernel", "true"]);
    let run = output(command.env("MTCP_ENGINE_CORE", "1"));
    assert_eq!(run.status.code(), Some(0), "a warning is no error");
    let message = text(&run.stderr);
    assert!(message.contains("WARN"), "{message}");
    assert!(message.contains("MTCP_ENGINE_CORE is ignored"), "{message}");
    assert!(
        message.contains("did you mean MTCP_ENGINE_CORES?"),
        "{message}"
    );
}

#[test]
fn warnings_go_to_the_log_file() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut command = mtcp_run(&["--log-file", log.to_str().unwrap(), "--kernel", "true"]);
    let run = output(command.env("MTCP_NONSENSE", "1"));
    assert_eq!(text(&run.stderr), "");
    let logged = fs::read_to_string(log).unwrap();
    assert!(logged.contains("MTCP_NONSENSE"), "{logged}");
}

#[test]
fn the_help_lists_variables_groups_and_exit_codes() {
    let run = output(&mut mtcp_run(&["--help"]));
    assert_eq!(run.status.code(), Some(0));
    let help = text(&run.stdout);
    for key in config::KEYS {
        assert!(help.contains(&key.variable()), "{}", key.variable());
        assert!(help.contains(key.section.title()));
    }
    for (variable, _) in config::VARIABLES {
        assert!(help.contains(variable), "{variable}");
    }
    for code in ["125", "126", "127", "128+N"] {
        assert!(help.contains(code), "{code}");
    }
}

#[test]
fn the_version_is_the_packages() {
    let run = output(&mut mtcp_run(&["--version"]));
    assert_eq!(run.status.code(), Some(0));
    let expected = format!("mtcp-run {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&run.stdout), expected);
}

#[test]
fn check_shows_settings_with_their_origins() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mtcp.toml");
    fs::write(&file, "mtu = 9000\n").unwrap();
    let library = dir.path().join("preload.so");
    fs::write(&library, "").unwrap();
    let mut command = mtcp_run(&["--check", "--device", "wire:/tmp/w"]);
    command
        .env("MTCP_CONFIG", &file)
        .env("MTCP_PRELOAD", &library)
        .env("MTCP_STATS", "1");
    let run = output(&mut command);
    let shown = text(&run.stdout);
    assert_eq!(run.status.code(), Some(0), "{shown}");
    let line = |name: &str| {
        let found = shown.lines().find(|l| l.starts_with(name));
        let words = found.map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
        words.unwrap_or_else(|| panic!("{name} is missing from\n{shown}"))
    };
    assert_eq!(line("mtu "), format!("mtu = 9000 # {}:1", file.display()));
    assert_eq!(line("device "), "device = wire:/tmp/w # --device");
    assert_eq!(line("stats "), "stats = 1 # MTCP_STATS");
    assert_eq!(line("loopback "), "loopback = kernel # default");
    let library = library.canonicalize().unwrap();
    assert_eq!(
        line("preload library "),
        format!("preload library good {}", library.display())
    );
}

#[test]
fn check_finds_what_is_missing() {
    let arguments = [
        "--check",
        "--device",
        "wire:/tmp/w",
        "--engine-cores",
        "8000",
    ];
    let mut command = mtcp_run(&arguments);
    let run = output(command.env("MTCP_PRELOAD", "/no/such/library"));
    assert_eq!(run.status.code(), Some(125));
    let shown = text(&run.stdout);
    let missing: Vec<&str> = shown.lines().filter(|l| l.contains(" missing ")).collect();
    assert_eq!(missing.len(), 2, "{shown}");
    assert!(missing[0].starts_with("engine_cores"), "{shown}");
    assert!(missing[1].contains("/no/such/library"), "{shown}");
}

#[test]
fn check_doubts_a_rule_for_the_loopback_that_stays_with_the_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mtcp.toml");
    fs::write(&file, "[[rule]]\naddress = \"127.0.0.1\"\nto = \"mtcp\"\n").unwrap();
    let doubts = |loopback: &str| {
        let arguments = ["--check", "--device", "none", "--loopback", loopback];
        let run = output(mtcp_run(&arguments).env("MTCP_CONFIG", &file));
        let shown = text(&run.stdout);
        shown.contains("needs loopback = \"stack\"")
    };
    assert!(doubts("kernel"));
    assert!(!doubts("stack"));
}

#[test]
fn check_names_a_device_that_cannot_be_opened() {
    for (device, why) in [
        ("packet:nope", "there is no interface \"nope\""),
        ("xdp:lo", "carries no Ethernet frames"),
        ("0000:ff:1f.7", "no PCI device 0000:ff:1f.7"),
    ] {
        for last in ["--check", "true"] {
            let run = output(&mut mtcp_run(&["--device", device, last]));
            assert_eq!(run.status.code(), Some(125), "{device} {last}");
            let shown = text(&run.stdout) + &text(&run.stderr);
            let told = |l: &str| l.contains("device") && l.contains(why);
            assert!(shown.lines().any(told), "{shown}");
        }
    }
}

#[test]
fn check_survives_an_output_that_takes_nothing() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let mut command = mtcp_run(&["--check"]);
    let run = output(command.stdout(full.unwrap()));
    assert_eq!(run.status.code(), Some(1));
    let message = text(&run.stderr);
    assert!(
        message.starts_with("mtcp-run: standard output: "),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = mtcp_run(&["--check"]);
    let run = output(command.stdout(writer));
    assert_eq!(text(&run.stderr), "");
    assert!(matches!(run.status.code(), Some(0 | 125)), "{run:?}");
}

/// Needs root, to make a network namespace, in which nothing is up.
#[test]
fn no_address_counts_as_taken_while_no_interface_is_up() {
    let run_it = mtcp_run(&["--check"]);
    let mut command = Command::new("unshare");
    command.arg("-n").arg(run_it.get_program());
    let run = output(command.args(run_it.get_args()).stdin(Stdio::null()));
    let shown = text(&run.stdout);
    assert!(shown.contains("CAP_NET_ADMIN"), "{run:?}");
    assert!(!shown.contains("is the kernel's already"), "{shown}");
}

/// Needs root, to make a network namespace with an interface that has addresses.
#[test]
fn an_address_that_the_kernel_has_on_the_interface_is_refused() {
    // The library is not what is tested here, and need not have been built.
    let library = tempfile::NamedTempFile::new().unwrap();
    let on_west_with = |option, address, last| {
        let mut command = mtcp_run(&["--device", "packet:west", option, address, last]);
        on_west(command.env("MTCP_PRELOAD", library.path()))
    };
    for (option, address, said) in [
        ("--address", "10.9.0.1/24", "address: 10.9.0.1"),
        ("--address6", "fd09::1/64", "address6: fd09::1"),
    ] {
        let run = on_west_with(option, address, "true");
        let message = text(&run.stderr);
        assert_eq!(run.status.code(), Some(125), "{message}");
        let lines: Vec<&str> = message.lines().collect();
        let expected = format!("mtcp-run: {said} is the kernel's already, on west: ");
        assert!(lines[0].starts_with(&expected), "{message}");
        assert_eq!(lines.len(), 1, "{message}");

        let check = on_west_with(option, address, "--check");
        assert_eq!(check.status.code(), Some(125));
        let shown = text(&check.stdout);
        assert!(
            shown.contains("is the kernel's already, on west"),
            "{shown}"
        );
    }
    let free = on_west_with("--address", "10.9.0.3/24", "--check");
    assert!(free.status.success(), "{}", text(&free.stdout));
}

/// Needs root, as above.
#[test]
fn check_names_the_addresses_that_the_kernel_does_not_hear_beside_af_xdp() {
    let check = |device: &str| {
        let check = ["--check", "--device", device, "--address", "10.9.0.3/24"];
        text(&on_west(&mtcp_run(&check)).stdout)
    };
    let told = "does not hear what comes there for 10.9.0.1, fd09::1;";
    assert!(check("xdp:west").contains(told), "{}", check("xdp:west"));
    assert!(!check("packet:west").contains("does not hear"));
}

/// Runs it in a network namespace with an interface `west` that is up and has addresses.
fn on_west(command: &Command) -> std::process::Output {
    const SETUP: &str = "ip link add west type veth peer name east && ip link set east up && \
        ip link set west up && ip address add 10.9.0.1/24 dev west && \
        ip address add fd09::1/64 dev west nodad && exec \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare.args(["-n", "sh", "-c", SETUP, "sh"]);
    unshare.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => unshare.env(name, value),
            None => unshare.env_remove(name),
        };
    }
    output(unshare.stdin(Stdio::null()))
}

#[test]
fn a_core_that_is_not_there_gives_125() {
    let run = output(&mut mtcp_run(&["--kernel", "--app-cores", "8000", "true"]));
    assert_eq!(run.status.code(), Some(125));
    let message = text(&run.stderr);
    assert!(
        message.starts_with("mtcp-run: app_cores: core 8000 is not among those"),
        "{message}"
    );
}

#[test]
fn a_trace_file_that_cannot_be_opened_is_an_error_before_the_program_starts() {
    let file = "/nowhere/at/all";
    let arguments = ["--device", "none", "--trace", file, "echo", "started"];
    let run = output(&mut mtcp_run(&arguments));
    assert_eq!(run.status.code(), Some(125));
    let said = "mtcp-run: opening the trace's file: No such file or directory";
    assert!(text(&run.stderr).contains(said), "{}", text(&run.stderr));
    assert_eq!(text(&run.stdout), "");
}
