//! Every whole-system test on the kernel's stack at both ends: what fails here is the harness's or
//! the program's own fault.

use std::time::Duration;

use testbed::{Testbed, scenarios};

testbed::test_every_program_on!(Testbed::kernel());

#[test]
fn a_large_file_arrives_whole() {
    scenarios::nginx_serves_a_large_file(&Testbed::kernel(), 64 << 20, Duration::from_secs(60));
}

#[test]
fn short_connections_all_succeed() {
    scenarios::short_connections_all_succeed(&Testbed::kernel(), 20_000);
}

#[test]
fn a_thousand_concurrent_connections_are_all_served() {
    scenarios::concurrent_connections_are_all_served(&Testbed::kernel(), 1000);
}

#[test]
fn idle_connections_survive() {
    scenarios::idle_connections_survive(&Testbed::kernel());
}

#[test]
fn a_killed_server_leaves_no_peer_waiting() {
    scenarios::a_killed_server_leaves_no_peer_waiting(&Testbed::kernel());
}

#[test]
fn data_unsent_at_exit_still_arrives() {
    scenarios::data_unsent_at_exit_still_arrives(&Testbed::kernel());
}

#[test]
fn an_interrupt_ends_the_server() {
    scenarios::an_interrupt_ends_the_server(&Testbed::kernel());
}

/// `mtcp-run` itself, without a stack.
mod under_mtcp_run {
    use super::{Testbed, scenarios};

    #[test]
    fn nginx_serves_curl() {
        scenarios::nginx_serves_curl(&Testbed::kernel_under_mtcp_run());
    }

    #[test]
    fn a_killed_server_leaves_no_peer_waiting() {
        scenarios::a_killed_server_leaves_no_peer_waiting(&Testbed::kernel_under_mtcp_run());
    }

    #[test]
    fn an_interrupt_ends_the_server() {
        scenarios::an_interrupt_ends_the_server(&Testbed::kernel_under_mtcp_run());
    }

    #[test]
    fn the_exit_status_is_the_program_s_own() {
        scenarios::the_exit_status_is_the_program_s_own(&Testbed::kernel_under_mtcp_run());
    }
}
