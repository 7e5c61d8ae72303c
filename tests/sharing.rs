//! Sockets that several processes have, on our stack over a TAP device: what holds for the kernel's
//! holds for ours.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use testbed::servers::{self, Server};
use testbed::{LIMIT, Testbed};

fn serve(case: &str) -> (Testbed, Server) {
    let bed = Testbed::server_on_tap();
    let server = servers::sharing(&bed, case);
    (bed, server)
}

fn connect(bed: &Testbed, server: &Server) -> TcpStream {
    let to = bed.endpoint(server.port);
    let stream = bed.client.namespace().connect(to, LIMIT);
    let stream = stream.expect("the server accepts");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    stream
}

/// Says something and returns what comes back until the end.
fn ask(mut stream: TcpStream, text: &[u8]) -> String {
    stream.write_all(text).expect("the server takes it");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("a proper end");
    answer
}

/// The server ends by itself, and well.
fn ends(bed: &Testbed, server: Server) {
    server
        .into_program()
        .finish(LIMIT)
        .expect_success("the server");
    bed.assert_nothing_left();
}

#[test]
fn a_connection_that_the_parent_closes_belongs_to_the_child() {
    let (bed, server) = serve("accepted");
    let answer = ask(connect(&bed, &server), b"hello\n");
    assert_eq!(answer, "from the child\necho hello\n");
    ends(&bed, server);
}

#[test]
fn a_child_that_closes_everything_harms_nobody() {
    let (bed, server) = serve("closes_everything");
    let mut stream = connect(&bed, &server);
    stream.write_all(b"hello\n").expect("the server takes it");
    let again = connect(&bed, &server);
    assert_eq!(ask(again, b""), "still listening\n");
    assert_eq!(ask(stream, b""), "echo hello\n");
    ends(&bed, server);
}

#[test]
fn two_processes_that_read_one_connection_get_each_byte_once() {
    let (bed, server) = serve("readers");
    let mut stream = connect(&bed, &server);
    let bytes: Vec<u8> = (0..2_000_000u32).map(|n| ((n * 7) >> 3) as u8).collect();
    let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
    let mut writing = stream.try_clone().expect("a second descriptor");
    let writer = thread::spawn(move || {
        writing.write_all(&bytes).expect("the server takes it");
        writing.shutdown(Shutdown::Write).expect("shutdown");
    });
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("a proper end");
    writer.join().expect("the writer does not panic");
    assert_eq!(answer, format!("2000000 bytes, sum {sum}\n"));
    ends(&bed, server);
}

#[test]
fn two_processes_that_write_to_one_connection_do_not_mix_their_lines() {
    let (bed, server) = serve("writers");
    let answer = ask(connect(&bed, &server), b"");
    let count = |wanted: &str| answer.lines().filter(|line| *line == wanted).count();
    assert_eq!([count("abcdefg"), count("1234567")], [1000, 1000]);
    ends(&bed, server);
}

#[test]
fn workers_share_a_listener() {
    let (bed, server) = serve("workers");
    for _ in 0..30 {
        let answer = ask(connect(&bed, &server), b"");
        assert!(answer.starts_with("worker "), "{answer}");
    }
    server.into_program().stop(LIMIT);
    bed.assert_nothing_left();
}

#[test]
fn processes_that_block_in_accept_get_a_connection_each() {
    let (bed, server) = serve("blocking_workers");
    let streams = [connect(&bed, &server), connect(&bed, &server)];
    for stream in streams {
        assert_eq!(ask(stream, b""), "served\n");
    }
    ends(&bed, server);
}

#[test]
fn a_program_that_becomes_a_daemon_after_listen_serves_on() {
    let (bed, server) = serve("daemon");
    assert_eq!(ask(connect(&bed, &server), b""), "from the daemon\n");
    ends(&bed, server);
}

#[test]
fn an_epoll_set_is_inherited_with_its_watches() {
    let (bed, server) = serve("epoll");
    assert_eq!(ask(connect(&bed, &server), b"hello\n"), "echo hello\n");
    ends(&bed, server);
}

#[test]
fn a_connection_ends_with_the_last_process_that_has_it() {
    let (bed, server) = serve("killed");
    assert_eq!(ask(connect(&bed, &server), b""), "");
    connect(&bed, &server);
    ends(&bed, server);
}

#[test]
fn a_connection_passes_through_generations() {
    let (bed, server) = serve("generations");
    let lines: String = (0..5).map(|n| format!("generation {n}\n")).collect();
    assert_eq!(ask(connect(&bed, &server), b""), lines);
    ends(&bed, server);
}

/// What `talk` of the script answers.
const AFTER_EXEC: &str = "after exec from 10.77.0.1\necho hello\n";

fn a_program_gets_the_connection(case: &str) {
    let (bed, server) = serve(case);
    assert_eq!(ask(connect(&bed, &server), b"hello\n"), AFTER_EXEC);
    ends(&bed, server);
}

#[test]
fn a_program_executed_by_a_child_has_the_connection_as_0_and_1() {
    a_program_gets_the_connection("exec_connection");
}

#[test]
fn a_program_executed_with_an_empty_environment_has_the_connection() {
    a_program_gets_the_connection("exec_with_environment_cut");
}

#[test]
fn a_program_that_is_spawned_has_the_connection() {
    a_program_gets_the_connection("spawned");
}

#[test]
fn a_spawned_program_has_a_copy_of_a_connection_that_would_be_closed() {
    a_program_gets_the_connection("spawned_with_actions");
}

#[test]
fn a_program_executed_anew_has_its_listener() {
    let (bed, server) = serve("exec_listener");
    assert_eq!(ask(connect(&bed, &server), b""), "served after exec\n");
    ends(&bed, server);
}

#[test]
fn an_exec_that_fails_changes_nothing() {
    let (bed, server) = serve("exec_that_fails");
    let (stream, again) = (connect(&bed, &server), connect(&bed, &server));
    let mut talking = stream.try_clone().expect("a second descriptor");
    talking.write_all(b"hello\n").expect("the server takes it");
    assert_eq!(ask(again, b""), "still listening\n");
    assert_eq!(ask(stream, b""), "echo hello\n");
    ends(&bed, server);
}

#[test]
fn programs_executed_by_vfork_children_have_the_connections_they_are_given() {
    let (bed, server) = serve("vforked");
    let streams = [connect(&bed, &server), connect(&bed, &server)];
    for stream in streams {
        assert_eq!(ask(stream, b"hello\n"), AFTER_EXEC);
    }
    assert_eq!(ask(connect(&bed, &server), b""), "still listening\n");
    ends(&bed, server);
}

#[test]
fn what_a_vfork_child_closes_stays_open_in_its_parent() {
    let (bed, server) = serve("closes_in_vfork");
    let stream = connect(&bed, &server);
    assert_eq!(ask(stream, b"hello\n"), "echo hello\n");
    ends(&bed, server);
}

#[test]
fn children_made_by_the_number_of_a_system_call_have_the_connections() {
    let (bed, server) = serve("cloned_by_number");
    for _ in ["fork", "clone", "clone3"] {
        let stream = connect(&bed, &server);
        assert_eq!(ask(stream, b"hello\n"), "echo hello\n");
    }
    ends(&bed, server);
}

#[test]
fn a_shell_writes_to_a_connection() {
    let (bed, server) = serve("by_shell");
    assert_eq!(ask(connect(&bed, &server), b""), "from the shell\n");
    ends(&bed, server);
}

#[test]
fn a_connection_in_a_message_belongs_to_its_receiver() {
    a_program_gets_the_connection("passed");
}

#[test]
fn connections_and_listeners_go_to_a_process_that_never_had_them() {
    let (bed, server) = serve("passed_to_stranger");
    assert_eq!(ask(connect(&bed, &server), b""), "passed\n");
    assert_eq!(ask(connect(&bed, &server), b""), "served by the receiver\n");
    ends(&bed, server);
}

#[test]
fn a_bound_socket_listens_where_a_message_took_it() {
    let (bed, server) = serve("bound_in_message");
    let port: u16 = ask(connect(&bed, &server), b"").trim().parse().unwrap();
    let stream = bed.client.namespace().connect(bed.endpoint(port), LIMIT);
    assert_eq!(ask(stream.unwrap(), b""), "served by the receiver\n");
    ends(&bed, server);
}

#[test]
fn a_socket_cannot_be_taken_away_from_a_process() {
    let (bed, server) = serve("taken");
    assert_eq!(ask(connect(&bed, &server), b""), "refused\n");
    let finished = server.into_program().finish(LIMIT);
    assert!(
        finished.stderr.contains("pidfd_getfd"),
        "{}",
        finished.stderr
    );
    finished.expect_success("the server");
}

#[test]
fn a_process_that_has_locked_itself_in_talks() {
    let (bed, server) = serve("confined");
    let stream = connect(&bed, &server);
    assert_eq!(ask(stream, b"hello\n"), "echo hello\n");
    ends(&bed, server);
}

#[test]
fn a_static_program_cannot_use_a_connection_and_a_line_says_why() {
    let (bed, server) = serve("cannot_enter");
    assert_eq!(ask(connect(&bed, &server), b""), "");
    let finished = server.into_program().finish(LIMIT);
    let text = "is statically linked: this library cannot enter it";
    assert!(finished.stderr.contains(text), "{}", finished.stderr);
    finished.expect_success("the server");
}
