//! Clients on our stack over a TAP device, servers on the kernel.

use testbed::{Testbed, scenarios};

testbed::test_every_program_on!(Testbed::client_on_tap());

#[test]
fn nginx_serves_curl_over_ipv6() {
    scenarios::nginx_serves_curl_over_ipv6(&Testbed::client_on_tap());
}

#[test]
fn short_connections_all_succeed() {
    scenarios::short_connections_all_succeed(&Testbed::client_on_tap(), 20_000);
}

#[test]
fn data_unsent_at_exit_still_arrives() {
    scenarios::data_unsent_at_exit_still_arrives(&Testbed::client_on_tap());
}

#[test]
fn the_second_fast_open_carries_its_data_in_the_syn() {
    scenarios::the_second_fast_open_carries_its_data_in_the_syn(&Testbed::client_on_tap());
}
