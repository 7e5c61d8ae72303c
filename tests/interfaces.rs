//! Our stack over an interface of the kernel, shared with it by packet sockets or taken whole by
//! AF_XDP, with the kernel at the other end of the cable.

use std::time::{Duration, Instant};

use testbed::{LIMIT, Namespace, Testbed, scenarios, until};

/// Bytes of the file that is fetched.
const LARGE: u64 = 50_000_000;

fn a_large_file_arrives_whole(bed: &Testbed) {
    scenarios::nginx_serves_a_large_file(bed, LARGE, LIMIT);
}

#[test]
fn a_large_file_arrives_whole_from_a_server_on_a_shared_interface() {
    a_large_file_arrives_whole(&Testbed::server_on_interface());
}

#[test]
fn a_large_file_arrives_whole_at_a_client_on_a_shared_interface() {
    a_large_file_arrives_whole(&Testbed::client_on_interface());
}

#[test]
fn a_large_file_arrives_whole_from_a_server_on_af_xdp() {
    a_large_file_arrives_whole(&Testbed::server_on_xdp());
}

#[test]
fn a_large_file_arrives_whole_at_a_client_on_af_xdp() {
    a_large_file_arrives_whole(&Testbed::client_on_xdp());
}

#[test]
fn short_connections_over_af_xdp_all_succeed() {
    scenarios::short_connections_all_succeed(&Testbed::server_on_xdp(), 5_000);
    scenarios::short_connections_all_succeed(&Testbed::client_on_xdp(), 5_000);
}

#[test]
fn data_unsent_at_exit_still_arrives_over_af_xdp() {
    scenarios::data_unsent_at_exit_still_arrives(&Testbed::server_on_xdp());
}

fn ethtool(namespace: &Namespace, arguments: &[&str]) -> String {
    let output = namespace.command("ethtool").args(arguments).output();
    let output = output.expect("ethtool (package ethtool)");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("ethtool writes text")
}

/// The stack of one host receives on two queues of its interface, the other end sends by two.
fn over_two_queues(bed: &Testbed, interface: &Namespace) {
    for host in [&bed.client, &bed.server] {
        ethtool(host.namespace(), &["-L", "veth0", "rx", "2", "tx", "2"]);
    }
    scenarios::short_connections_all_succeed(bed, 2_000);
    let counters = ethtool(interface, &["-S", "veth0"]);
    for queue in [0, 1] {
        let name = format!("rx_queue_{queue}_xdp_redirect: ");
        let count = counters
            .split_once(&name)
            .and_then(|(_, rest)| rest.lines().next());
        let count: u64 = count.and_then(|count| count.parse().ok()).expect(&counters);
        assert!(count > 1_000, "{counters}");
    }
}

#[test]
fn a_server_of_two_workers_serves_the_two_queues_of_an_interface() {
    let bed = Testbed::server_on_xdp().with_server_options(&["--workers", "2"]);
    over_two_queues(&bed, bed.server.namespace());
}

#[test]
fn a_client_of_two_workers_is_answered_on_the_two_queues_of_an_interface() {
    let mut bed = Testbed::client_on_xdp();
    bed.client = bed.client.with_options(&["--workers", "2"]);
    over_two_queues(&bed, bed.client.namespace());
}

#[test]
fn a_server_of_one_worker_serves_the_two_queues_of_an_interface() {
    let bed = Testbed::server_on_xdp().with_server_options(&["--workers", "1", "--queues", "2"]);
    over_two_queues(&bed, bed.server.namespace());
}

fn runs_a_program(namespace: &Namespace) -> bool {
    let command = namespace
        .command("ip")
        .args(["link", "show", "veth0"])
        .output();
    let output = command.expect("ip (package iproute2)");
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).contains("prog/xdp")
}

#[test]
fn a_killed_mtcp_run_leaves_the_interface_to_the_kernel() {
    let bed = Testbed::client_on_xdp();
    let mut program = bed.client.start("sh", &["-c", "echo up; exec sleep 3600"]);
    program.wait_until("came up", LIMIT, |program| program.stdout().contains("up"));
    let interface = bed.client.namespace();
    assert!(runs_a_program(interface));
    program.signal(libc::SIGKILL);
    program.finish(LIMIT);
    // The kernel takes a dying process's descriptors a moment after it has reported its end.
    let deadline = Instant::now() + Duration::from_secs(10);
    assert!(until(deadline, || !runs_a_program(interface)));
    // The kernel's own address on the interface answers again.
    let address = "10.79.0.2:1".parse().expect("an address");
    let refused = bed.server.namespace().connect(address, LIMIT);
    let error = refused.expect_err("nobody listens there");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}
