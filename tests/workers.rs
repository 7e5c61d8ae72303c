//! Several workers in one stack, on fewer cores than workers too: programs notice nothing of it, and
//! each worker has its share of the connections.

use std::process::Command;

use testbed::{LIMIT, Program, Testbed, artifacts, scenarios, servers};

mod two_workers {
    use super::*;

    mod serve_over_a_tap {
        use super::*;

        testbed::test_every_program_on!(Testbed::server_on_tap().with_workers(2);
            nginx_serves_curl, redis_serves_redis_benchmark, epserver_serves_epwget);
    }

    mod connect_over_a_tap {
        use super::*;

        testbed::test_every_program_on!(Testbed::client_on_tap().with_workers(2);
            nginx_serves_wrk, asyncio_serves_asyncio);

        #[test]
        fn short_connections_all_succeed() {
            let bed = Testbed::client_on_tap().with_workers(2);
            scenarios::short_connections_all_succeed(&bed, 5_000);
        }
    }

    mod serve_over_an_interface {
        use super::*;

        testbed::test_every_program_on!(Testbed::server_on_interface().with_workers(2);
            nginx_serves_wrk, redis_serves_redis_benchmark);
    }

    mod talk_over_a_wire {
        use super::*;

        testbed::test_every_program_on!(Testbed::wire().with_workers(2);
            nginx_serves_ab, iperf3_serves_iperf3);

        #[test]
        fn data_unsent_at_exit_still_arrives() {
            scenarios::data_unsent_at_exit_still_arrives(&Testbed::wire().with_workers(2));
        }
    }
}

mod four_workers {
    use super::*;

    mod serve_over_a_tap {
        use super::*;

        testbed::test_every_program_on!(Testbed::server_on_tap().with_workers(4);
            nginx_serves_wrk, lighttpd_serves_curl);
    }

    mod connect_over_an_interface {
        use super::*;

        testbed::test_every_program_on!(Testbed::client_on_interface().with_workers(4);
            memcached_serves_python_threads);
    }
}

/// A counter of each worker, from the last numbers of `--stats` that a stack has printed.
fn of_each_worker(said: &str, workers: usize, counter: &str) -> Vec<u64> {
    let of = |worker| {
        let start = format!("mtcp-run: worker {worker} stats ");
        let mut lines = said.lines().filter_map(|line| line.strip_prefix(&start));
        let last = lines
            .next_back()
            .unwrap_or_else(|| panic!("worker {worker}: {said}"));
        let values = last.split(' ').filter_map(|pair| pair.split_once('='));
        let mut values = values.filter(|(name, _)| *name == counter);
        values.next().map_or(0, |(_, value)| value.parse().unwrap())
    };
    (0..workers).map(of).collect()
}

/// Checks that each worker of a stack has some of all connections, and that each frame has come to
/// the worker that it was for.
fn assert_shared(said: &str, workers: usize, counter: &str, all: u64) {
    let shares = of_each_worker(said, workers, counter);
    assert!(
        shares.iter().all(|share| *share > 0),
        "{counter}: {shares:?}"
    );
    assert!(shares.iter().sum::<u64>() >= all, "{counter}: {shares:?}");
    let redirected = of_each_worker(said, workers, "redirected");
    assert!(
        redirected.iter().all(|frames| *frames == 0),
        "redirected: {redirected:?}"
    );
}

/// Stores and fetches values over so many connections; what each end has said on standard error.
fn with_connections(bed: &Testbed, connections: u64) -> (String, String) {
    let server = servers::memcached(bed);
    let script = servers::script(bed, "memcached_client.py");
    let (host, port) = (bed.address.to_string(), server.port.to_string());
    let client = bed
        .client
        .run(
            servers::PYTHON,
            &[&script, &host, &port, &connections.to_string()],
        )
        .expect_success("memcached_client.py");
    let server = server.into_program().stop(LIMIT);
    bed.assert_nothing_left();
    (server.stderr, client.stderr)
}

fn counting(mut bed: Testbed, workers: usize) -> Testbed {
    bed = bed.with_workers(workers);
    bed.server = bed.server.with_options(&["--stats", "3600"]);
    bed.client = bed.client.with_options(&["--stats", "3600"]);
    bed
}

#[test]
fn each_worker_serves_its_share_over_a_tap() {
    let (server, _) = with_connections(&counting(Testbed::server_on_tap(), 2), 48);
    assert_shared(&server, 2, "accepts", 48);
}

#[test]
fn each_worker_serves_its_share_of_more_queues_than_there_are_workers() {
    let bed = counting(Testbed::server_on_tap(), 2).with_server_options(&["--queues", "5"]);
    let (server, _) = with_connections(&bed, 48);
    assert_shared(&server, 2, "accepts", 48);
}

#[test]
fn each_worker_gets_the_answers_to_its_own_connections_on_any_of_its_queues() {
    let mut bed = counting(Testbed::client_on_interface(), 2);
    bed.client = bed.client.with_options(&["--queues", "4"]);
    let (_, client) = with_connections(&bed, 48);
    assert_shared(&client, 2, "connects", 48);
}

#[test]
fn each_worker_serves_its_share_over_an_interface() {
    let (server, _) = with_connections(&counting(Testbed::server_on_interface(), 4), 48);
    assert_shared(&server, 4, "accepts", 48);
}

#[test]
fn each_worker_gets_the_answers_to_its_own_connections_over_a_tap() {
    let (_, client) = with_connections(&counting(Testbed::client_on_tap(), 4), 48);
    assert_shared(&client, 4, "connects", 48);
}

#[test]
fn each_worker_gets_the_answers_to_its_own_connections_over_an_interface() {
    let (_, client) = with_connections(&counting(Testbed::client_on_interface(), 2), 48);
    assert_shared(&client, 2, "connects", 48);
}

#[test]
fn each_worker_talks_with_its_like_over_a_wire() {
    let (server, client) = with_connections(&counting(Testbed::wire(), 2), 48);
    assert_shared(&server, 2, "accepts", 48);
    assert_shared(&client, 2, "connects", 48);
}

/// Four processes of one thread each, forked by a fifth, open twelve connections each.
const FORKED: &str = r#"
import os, socket, sys
address = (sys.argv[1], int(sys.argv[2]))
listener = socket.create_server(("0.0.0.0", 7300))
for _ in range(4):
    if os.fork() == 0:
        opened = [socket.create_connection(address) for _ in range(12)]
        os._exit(0)
for _ in range(4):
    assert os.wait()[1] == 0
"#;

#[test]
fn processes_of_one_thread_each_share_the_workers_evenly() {
    let bed = counting(Testbed::client_on_tap(), 2);
    let server = servers::memcached(&bed);
    let to = [&*bed.address.to_string(), &*server.port.to_string()];
    let arguments = ["-c", FORKED, to[0], to[1]];
    let client = bed.client.run(servers::PYTHON, &arguments);
    let client = client.expect_success("the client");
    assert_eq!(of_each_worker(&client.stderr, 2, "connects"), [24, 24]);
}

/// 48 connections from the kernel of the same namespace, and 48 to it from four threads, all kept open
/// meanwhile.
const BOTH_WAYS: &str = r#"
import os, socket, sys, threading

listener = socket.create_server(("10.77.0.2", 80), backlog=100)
if os.fork() == 0:
    os.environ.pop("LD_PRELOAD")
    kernel = """
import socket
listener = socket.create_server(("10.77.0.1", 81), backlog=100)
opened = [socket.create_connection(("10.77.0.2", 80)) for _ in range(48)]
opened += [listener.accept()[0] for _ in range(48)]
for connection in opened:
    connection.sendall(connection.recv(1))
for connection in opened:
    assert connection.recv(1) == b""
"""
    os.execvp(sys.executable, [sys.executable, "-c", kernel])
opened = [listener.accept()[0] for _ in range(48)]
def connect():
    for _ in range(12):
        opened.append(socket.create_connection(("10.77.0.1", 81)))
threads = [threading.Thread(target=connect) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(opened) == 96
for connection in opened:
    connection.sendall(b"x")
for connection in opened:
    assert connection.recv(1) == b"x"
    connection.close()
assert os.wait()[1] == 0
print("exchanged")
"#;

/// Without privileges no program in the kernel sees to it that a flow's frames come to its worker.
#[test]
fn flows_that_the_kernel_spreads_by_a_hash_of_its_own_reach_their_workers() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all,+setfcap", "--inh-caps=-all"]);
    command.arg(artifacts::mtcp_run());
    command.args(["--rootless", "--workers", "4", "--stats", "3600", "--"]);
    command.args([servers::PYTHON, "-c", BOTH_WAYS]);
    let finished = Program::start(command, directory.path()).finish(LIMIT);
    let finished = finished.expect_success("the exchange");
    assert_eq!(finished.stdout, "exchanged\n", "{finished}");
    for counter in ["accepts", "connects"] {
        let shares = of_each_worker(&finished.stderr, 4, counter);
        assert_eq!(shares.iter().sum::<u64>(), 48, "{counter}: {shares:?}");
        assert!(
            shares.iter().all(|share| *share > 0),
            "{counter}: {shares:?}"
        );
    }
}

/// Prints the core of each connection that it accepts.
const CORES: &str = r#"
import socket, sys
server = socket.create_server(("0.0.0.0", 7100), backlog=100)
print("listens", flush=True)
for _ in range(48):
    connection = server.accept()[0]
    print("core", connection.getsockopt(socket.SOL_SOCKET, 49), flush=True)
"#;

#[test]
fn a_connection_names_the_core_of_the_worker_that_has_it() {
    let bed = Testbed::server_on_tap().with_workers(2);
    let bed = bed.with_server_options(&["--engine-cores", "0,1"]);
    let mut server = bed.server.start(servers::PYTHON, &["-c", CORES]);
    server.wait_until("listens", LIMIT, |server| {
        server.stdout().contains("listens")
    });
    bed.wait_for_server(&mut server, 7100);
    let to = bed.endpoint(7100);
    let connect = |_| bed.client.namespace().connect(to, LIMIT).expect("accepted");
    let _clients: Vec<_> = (0..48).map(connect).collect();
    let said = server.finish(LIMIT).expect_success("the server").stdout;
    let mut cores: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("core"))
        .collect();
    assert_eq!(cores.len(), 48, "{said}");
    cores.sort_unstable();
    cores.dedup();
    assert_eq!(cores, ["core 0", "core 1"]);
}
