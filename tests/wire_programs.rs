//! Server and client both on our stack, in two processes joined by a wire of shared memory.

use std::time::Duration;

use testbed::{LIMIT, Testbed, scenarios};

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
