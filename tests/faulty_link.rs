//! Our stack against the kernel's over a TAP device on which frames are lost, reordered, doubled,
//! damaged and delayed: whole streams arrive in both directions, whichever end connects.
//!
//! The injector's dice fall the same way each time; `MTCP_TEST_SEED=n` has them fall otherwise.

use std::env;
use std::fs;
use std::time::Duration;

use testbed::servers::{self, PYTHON, Server};
use testbed::{LIMIT, Testbed, data};

/// Longer than a SYN or a segment that is lost again and again backs off for.
const PATIENCE: Duration = Duration::from_secs(110);

const KB: usize = 1 << 10;
const MB: usize = 1 << 20;

/// A bed with our stack at either end of the wire, on which `faults` happen in both directions.
fn faulty(mut bed: Testbed, faults: &str) -> Testbed {
    let seed = env::var("MTCP_TEST_SEED").unwrap_or("1".to_owned());
    let faults = format!("{faults},seed={seed}");
    // What a program leaves unsent may need several time-outs.
    let options = ["--faults", &faults, "--drain", "100s"];
    bed.server = bed.server.with_options(&options);
    bed.client = bed.client.with_options(&options);
    bed
}

/// What the kernel counts when its peer or the wire is not perfect: damaged, missing, late and
/// doubled segments that it got, and what it sent again or was told of.
const SIGNS: [&str; 9] = [
    "InCsumErrors",
    "RetransSegs",
    "TCPOFOQueue",
    "TCPSACKReorder",
    "TCPSackRecovery",
    "TCPDSACKOldSent",
    "TCPDSACKOfoSent",
    "TCPDSACKRecv",
    "TCPDSACKOfoRecv",
];

/// Checks that the kernel at the other end has met faults: without them this would test nothing.
fn assert_the_kernel_noticed(bed: &Testbed) {
    let tables = bed.client.namespace().run(|| {
        ["snmp", "netstat"].map(|name| {
            fs::read_to_string(format!("/proc/thread-self/net/{name}")).expect("the kernel's table")
        })
    });
    // A line of names, then a line of as many values.
    let lines: Vec<&str> = tables.iter().flat_map(|table| table.lines()).collect();
    let counters = lines.chunks_exact(2).flat_map(|pair| {
        let values = pair[1].split_whitespace();
        pair[0].split_whitespace().zip(values)
    });
    let noticed = counters.filter(|(name, value)| SIGNS.contains(name) && *value != "0");
    assert_ne!(noticed.count(), 0, "no fault has happened: {tables:#?}");
}

fn end(bed: &Testbed, server: Server) {
    server.into_program().stop(LIMIT);
    bed.assert_nothing_left();
    assert_the_kernel_noticed(bed);
}

/// A file from nginx arrives whole at curl, by IPv4 or by IPv6.
fn download(bed: &Testbed, len: usize, by_ipv6: bool) {
    let root = bed.path("site");
    fs::create_dir(&root).expect("a directory for the site");
    let len = len as u64;
    let digest = data::write_noise(&root.join("file"), len, len).expect("a file of the site");
    let server = servers::nginx_of_both_families(bed, &root);
    let url = match by_ipv6 {
        true => bed.url6(server.port, "file"),
        false => bed.url(server.port, "file"),
    };
    // Retries are for a neighbour that is not found. After a first byte they would fail the test:
    // that byte would come twice.
    let arguments = ["-sS", "--fail", "--retry", "5", "--retry-all-errors", &url];
    let received = bed.client.digest_output("curl", &arguments, PATIENCE);
    assert_eq!(received, (len, digest));
    end(bed, server);
}

/// What a client sends, and leaves at once, arrives whole at a server, which compares SHA-256.
fn upload(bed: &Testbed, len: usize) {
    let server = servers::transfer(bed, "receive", len);
    let script = servers::script(bed, "transfer.py");
    let (host, port) = (bed.address.to_string(), server.port.to_string());
    let len = len.to_string();
    bed.client
        .run(PYTHON, &[&script, "send", "connect", &host, &port, &len])
        .expect_success("the sender");
    server
        .into_program()
        .finish(PATIENCE)
        .expect_success("the receiver");
    bed.assert_nothing_left();
    assert_the_kernel_noticed(bed);
}

/// For each set of faults a stream with each kind of bed that the stack sends, then one that it
/// receives: what happens to it, and of how many bytes it is. A frame carries up to 64 KB, so a short
/// stream may meet no fault.
macro_rules! transfers {
    ($($faults:ident: $sending:expr, $sent:expr; $receiving:expr, $received:expr;)+) => {
        $(mod $faults {
            use super::*;

            #[test]
            fn the_stack_as_server_sends() {
                download(&faulty(Testbed::server_on_tap(), $sending), $sent, false);
            }

            #[test]
            fn the_stack_as_server_receives() {
                upload(&faulty(Testbed::server_on_tap(), $receiving), $received);
            }

            #[test]
            fn the_stack_as_client_receives() {
                download(&faulty(Testbed::client_on_tap(), $receiving), $received, false);
            }

            #[test]
            fn the_stack_as_client_sends() {
                upload(&faulty(Testbed::client_on_tap(), $sending), $sent);
            }
        })+
    };
}

const ALL_AT_ONCE: &str = "loss=2%,reorder=2%,dup=2%,corrupt=0.5%,delay=1ms,jitter=1ms";

transfers! {
    loss_of_1_percent: "loss=1%", 16 * MB; "loss=1%", 16 * MB;
    loss_of_5_percent: "loss=5%", 4 * MB; "loss=5%", 4 * MB;
    // Not of both: an ACK that is lost before a timeout counts as a round trip as long as that, and
    // after a few of them the timeouts of either stack are minutes.
    loss_of_20_percent_of_data: "tx.loss=20%,rx.loss=1%", 500 * KB; "rx.loss=20%,tx.loss=1%", 2 * MB;
    loss_of_20_percent_of_acks: "rx.loss=20%,tx.loss=2%", 2 * MB; "tx.loss=20%,rx.loss=2%", 4 * MB;
    reordering: "reorder=5%", 16 * MB; "reorder=5%", 16 * MB;
    duplication: "dup=5%", 16 * MB; "dup=5%", 16 * MB;
    corruption: "corrupt=1%", 8 * MB; "corrupt=1%", 8 * MB;
    jitter: "delay=2ms,jitter=2ms", 8 * MB; "delay=2ms,jitter=2ms", 8 * MB;
    all_at_once: ALL_AT_ONCE, 2 * MB; ALL_AT_ONCE, 2 * MB;
}

const BY_IPV6: &str = "loss=2%,reorder=2%,dup=2%,delay=1ms,jitter=1ms";

#[test]
fn the_stack_as_server_sends_by_ipv6() {
    download(&faulty(Testbed::server_on_tap(), BY_IPV6), 2 * MB, true);
}

#[test]
fn the_stack_as_client_receives_by_ipv6() {
    download(&faulty(Testbed::client_on_tap(), BY_IPV6), 2 * MB, true);
}
