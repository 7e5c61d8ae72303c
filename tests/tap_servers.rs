//! Servers on our stack over a TAP device, clients on the kernel.

use testbed::{Testbed, scenarios};

testbed::test_every_program_on!(Testbed::server_on_tap());

#[test]
fn nginx_serves_curl_over_ipv6() {
    scenarios::nginx_serves_curl_over_ipv6(&Testbed::server_on_tap());
}
