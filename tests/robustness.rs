//! Size, number, loss, and sudden ends: a server on our stack over a TAP device, peers on the kernel.

use std::fs;
use std::process::Command;
use std::time::Duration;

use testbed::servers;
use testbed::{LIMIT, Program, Testbed, artifacts, scenarios};

#[test]
fn a_gigabyte_arrives_whole() {
    scenarios::nginx_serves_a_large_file(
        &Testbed::server_on_tap(),
        1 << 30,
        Duration::from_secs(300),
    );
}

#[test]
fn a_large_file_arrives_whole_despite_loss_and_reordering() {
    let faults = ["--faults", "loss=0.01,reorder=0.01,seed=1"];
    let bed = Testbed::server_on_tap().with_server_options(&faults);
    scenarios::nginx_serves_a_large_file(&bed, 64 << 20, Duration::from_secs(300));
}

#[test]
fn a_hundred_thousand_short_connections_all_succeed() {
    scenarios::short_connections_all_succeed(&Testbed::server_on_tap(), 100_000);
}

#[test]
fn a_thousand_concurrent_connections_are_all_served() {
    scenarios::concurrent_connections_are_all_served(&Testbed::server_on_tap(), 1000);
}

#[test]
fn idle_connections_survive() {
    scenarios::idle_connections_survive(&Testbed::server_on_tap());
}

#[test]
fn a_killed_server_leaves_no_peer_waiting() {
    scenarios::a_killed_server_leaves_no_peer_waiting(&Testbed::server_on_tap());
}

#[test]
fn data_unsent_at_exit_still_arrives() {
    scenarios::data_unsent_at_exit_still_arrives(&Testbed::server_on_tap());
}

#[test]
fn an_interrupt_ends_the_server() {
    scenarios::an_interrupt_ends_the_server(&Testbed::server_on_tap());
}

#[test]
fn the_exit_status_is_the_program_s_own() {
    scenarios::the_exit_status_is_the_program_s_own(&Testbed::server_on_tap());
}

#[test]
fn a_port_without_a_listener_refuses() {
    let bed = Testbed::server_on_tap();
    let server = servers::bench_server(&bed, "echo", 64);
    let error = bed
        .client
        .namespace()
        .connect(bed.endpoint(server.port - 1), Duration::from_secs(5))
        .expect_err("nobody listens there");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    server.into_program().stop(LIMIT);
}

#[test]
fn two_stacks_in_two_namespaces_do_not_disturb_each_other() {
    let beds = [Testbed::server_on_tap(), Testbed::server_on_tap()];
    let servers = beds
        .each_ref()
        .map(|bed| servers::bench_server(bed, "echo", 64));
    for (bed, server) in beds.iter().zip(&servers) {
        let address = bed.endpoint(server.port).to_string();
        let arguments = ["short", &address, "--connections", "16", "--total", "1000"];
        bed.client
            .run(testbed::artifacts::bench_client(), &arguments)
            .expect_success("bench-client");
    }
}

#[test]
fn a_capture_shows_the_conversation_to_wireshark() {
    let capture = tempfile::Builder::new()
        .suffix(".pcapng")
        .tempfile()
        .expect("a file");
    let path = capture.path().display().to_string();
    let bed = Testbed::server_on_tap().with_server_options(&["--pcap", &path]);
    let root = bed.path("site");
    fs::create_dir(&root).expect("a directory for the site");
    fs::write(root.join("page"), "a page").expect("a file");
    let server = servers::nginx(&bed, &root);
    bed.client
        .run("curl", &["-sS", "--fail", &bed.url(server.port, "page")])
        .expect_success("curl");
    server.into_program().stop(LIMIT);
    let arguments = [
        "-n",
        "-r",
        &path,
        "-Y",
        "http",
        "-T",
        "fields",
        "-e",
        "http.request.uri",
        "-e",
        "http.response.code",
    ];
    let output = std::process::Command::new("tshark")
        .args(arguments)
        .output()
        .expect("tshark (`cargo xtask setup` installs it)");
    let seen = String::from_utf8_lossy(&output.stdout);
    let seen: Vec<&str> = seen.split_whitespace().collect();
    assert_eq!(
        seen,
        ["/page", "200"],
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_device_that_is_removed_ends_mtcp_run_with_the_reason() {
    let bed = Testbed::server_on_tap();
    let host = &bed.server;
    // The shell leaves its child behind, which is told to end as well.
    let mut program = host.start("sh", &["-c", "echo up; sleep 3600; true"]);
    program.wait_until("came up", LIMIT, |program| program.stdout().contains("up"));
    host.namespace().ip("link del mtcp0");
    let finished = program.finish(LIMIT);
    assert_eq!(finished.code(), 125);
    let said = "mtcp-run: the stack failed while the program ran: tap:mtcp0 is gone";
    assert!(finished.stderr.contains(said), "{}", finished.stderr);
}

#[test]
fn a_second_tap_in_one_namespace_is_refused_and_the_first_serves_on() {
    let bed = Testbed::server_on_tap();
    let server = servers::sharing(&bed, "accepted");
    let second = bed.server.run("echo", &["started"]);
    assert_eq!((second.code(), &*second.stdout), (125, ""));
    let said = "10.77.0.1 is the kernel's already, on mtcp0 (another mtcp-run's TAP?)";
    assert!(second.stderr.contains(said), "{second}");
    let to = bed.endpoint(server.port);
    let stream = bed.client.namespace().connect(to, LIMIT);
    stream.expect("the first still accepts");
}

/// Connects to the engine again and again and says what it does not know.
const NONSENSE: &str = r#"
import os, socket
name = "\0" + os.environ["MTCP_STACK_CONTROL"].lstrip("@")
for _ in range(300):
    engine = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    engine.connect(name)
    engine.send(b"\xff" * 16)
    assert engine.recv(100) == b"", "it is cut off"
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
server.accept()[0].send(b"served")
print(client.recv(100))
"#;

#[test]
fn a_program_that_talks_nonsense_to_the_engine_is_served_on_and_fills_no_log() {
    let bed = Testbed::loopback();
    let finished = bed.server.run("python3", &["-c", NONSENSE]);
    assert_eq!(finished.stdout, "b'served'\n", "{finished}");
    let lines = finished.stderr.matches("an unknown request").count();
    assert!((1..100).contains(&lines), "{lines} lines");
}

/// Accepts until that has failed three times, and fails if that took the processor's time.
const LOOP_OF_ACCEPTS: &str = r#"
import errno, signal, socket, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
listener = socket.create_server(("10.77.0.2", 7000))
print("up", flush=True)
failures = []
while len(failures) < 3:
    try:
        listener.accept()
    except OSError as error:
        failures.append(errno.errorcode[error.errno])
print(set(failures), "slept" if time.process_time() < 1 else "spun", flush=True)
"#;

#[test]
fn a_server_that_only_accepts_does_not_spin_when_its_stack_has_failed() {
    let bed = Testbed::server_on_tap();
    let mut program = bed.server.start("python3", &["-c", LOOP_OF_ACCEPTS]);
    program.wait_until("came up", LIMIT, |program| program.stdout().contains("up"));
    bed.server.namespace().ip("link del mtcp0");
    let finished = program.finish(LIMIT);
    let said = "{'ENETDOWN'} slept";
    assert!(finished.stdout.contains(said), "{finished}");
    assert_eq!(finished.code(), 125);
}

/// A server on the stack, asked by the kernel of the same namespace.
const SERVE_AND_ASK: &str = r#"
import os, socket
listener = socket.create_server(("10.77.0.2", 80))
if os.fork() == 0:
    os.environ.pop("LD_PRELOAD")
    os.execvp("curl", ["curl", "-sS", "--max-time", "30", "http://10.77.0.2/"])
client = listener.accept()[0]
client.recv(1000)
client.send(b"HTTP/1.0 200 OK\r\n\r\nserved")
client.close()
os.wait()
"#;

#[test]
fn a_server_runs_in_namespaces_of_its_own_without_privileges() {
    // As the user to whom /dev/net/tun and this build belong, without any capability but the one that
    // root must have to map itself (user_namespaces(7)).
    let drop = ["--bounding-set=-all,+setfcap", "--inh-caps=-all"];
    let program = [
        "--rootless",
        "--stats",
        "1",
        "--",
        "python3",
        "-c",
        SERVE_AND_ASK,
    ];
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("setpriv");
    command.args(drop).arg(artifacts::mtcp_run()).args(program);
    let finished = Program::start(command, directory.path()).finish(LIMIT);
    assert_eq!(finished.stdout, "served", "{finished}");
    assert!(finished.stderr.contains("accepts=1"), "{finished}");
}
