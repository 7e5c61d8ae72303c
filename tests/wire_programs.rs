//! Server and client both on our stack, in two processes joined by a wire of shared memory.

use std::time::Duration;

use testbed::{LIMIT, Testbed, scenarios, servers};

testbed::test_every_program_on!(Testbed::wire());

#[test]
fn nginx_serves_curl_over_ipv6() {
    scenarios::nginx_serves_curl_over_ipv6(&Testbed::wire());
}

#[test]
fn a_gigabyte_arrives_whole() {
    scenarios::nginx_serves_a_large_file(&Testbed::wire(), 1 << 30, Duration::from_secs(300));
}

#[test]
fn a_hundred_thousand_short_connections_all_succeed() {
    scenarios::short_connections_all_succeed(&Testbed::wire(), 100_000);
}

#[test]
fn a_thousand_concurrent_connections_are_all_served() {
    scenarios::concurrent_connections_are_all_served(&Testbed::wire(), 1000);
}

#[test]
fn a_killed_server_leaves_no_peer_waiting() {
    scenarios::a_killed_server_leaves_no_peer_waiting(&Testbed::wire());
}

#[test]
fn data_unsent_at_exit_still_arrives() {
    scenarios::data_unsent_at_exit_still_arrives(&Testbed::wire());
}

#[test]
fn a_third_stack_on_a_wire_is_refused() {
    let bed = Testbed::wire();
    let both = [&bed.server, &bed.client].map(|host| {
        let mut program = host.start("sh", &["-c", "echo up; exec sleep 3600"]);
        program.wait_until("came up", LIMIT, |program| program.stdout().contains("up"));
        program
    });
    let third = bed.client.run("true", &[]);
    assert_eq!(third.code(), 125, "{third}");
    let said = "both ends are taken, and a wire has no third";
    assert!(third.stderr.contains(said), "{third}");
    for program in both {
        program.stop(LIMIT);
    }
}

/// Connects again and again, and says of each time how it went.
const CALLER: &str = "
import socket, sys, time
while True:
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1) as s:
            s.sendall(b'x' * 64)
            print('answered' if s.recv(64) else 'closed', flush=True)
    except OSError as error:
        print(error, flush=True)
    time.sleep(0.05)
";

#[test]
fn a_server_whose_stack_starts_anew_is_reached_by_the_one_that_stayed() {
    let bed = Testbed::wire();
    let mut server = servers::bench_server(&bed, "echo", 64);
    let endpoint = bed.endpoint(server.port);
    let (address, port) = (endpoint.ip().to_string(), endpoint.port().to_string());
    let arguments = ["-c", CALLER, &address, &port];
    let mut caller = bed.client.start("python3", &arguments);
    for restarts in 0..3 {
        if restarts > 0 {
            server.into_program().stop(LIMIT);
            server = servers::bench_server(&bed, "echo", 64);
        }
        let before = caller.stdout().matches("answered").count();
        // Much less than a stack takes to forget a station.
        caller.wait_until("was answered", Duration::from_secs(20), |caller| {
            caller.stdout().matches("answered").count() > before + 3
        });
    }
    caller.stop(LIMIT);
    server.into_program().stop(LIMIT);
}
