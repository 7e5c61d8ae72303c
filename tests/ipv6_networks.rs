//! Our stack in networks of IPv6 that are larger than a link: an address and a way out that a router
//! advertises, and a configured route.

use std::fs;
use std::time::Duration;

use testbed::servers::PYTHON;
use testbed::{LIMIT, Program, Testbed};

/// Listens on the port that it prints, and tells one client the address that it comes from.
const SERVER: &str = "
import socket
server = socket.create_server(('::', 0), family=socket.AF_INET6)
print(server.getsockname()[1], flush=True)
peer, address = server.accept()
peer.sendall(address[0].encode())
peer.close()
";

/// Connects to the address and port that it is given; prints its own address, and what it is told.
const CLIENT: &str = "
import socket, sys
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])), 60)
own = peer.getsockname()[0]
print(own, peer.makefile().read())
";

/// Advertises 2001:db8:7::/64 and itself as a router for half an hour, twice a second.
const ROUTER: &str = "
import socket, struct, time
PREFIX = socket.inet_pton(socket.AF_INET6, '2001:db8:7::')
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
index = socket.if_nametoindex('veth0')
raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
advertisement = struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0)
prefix = struct.pack('!BBBBIII', 3, 4, 64, 0xc0, 3600, 1800, 0) + PREFIX
while True:
    raw.sendto(advertisement + prefix, ('ff02::1', 0, 0, index))
    time.sleep(0.5)
";

/// A server in the server's namespace, and its port.
fn start_server(bed: &Testbed) -> (Program, String) {
    let mut server = bed.server.start(PYTHON, &["-c", SERVER]);
    let limit = Duration::from_secs(20);
    server.wait_until("listens", limit, |server| server.stdout().ends_with('\n'));
    let port = server.stdout().trim().to_owned();
    (server, port)
}

/// The client's own address, as both ends see it.
fn seen_by_both(output: &str) -> &str {
    let (own, told) = output.trim().split_once(' ').expect("two addresses");
    assert_eq!(own, told);
    own
}

#[test]
fn a_kernels_router_gives_an_address_and_a_way_out() {
    let bed = Testbed::client_on_interface();
    let router = bed.server.namespace();
    // Beyond the link: the way there is the router's.
    router.ip("-6 address add 2001:db8:8::1/128 dev lo");
    router.sysctl("net.ipv6.conf.all.forwarding", "1");
    router.ip("-6 address add 2001:db8:7::1/64 dev veth0 nodad");
    let _advertises = bed.server.start(PYTHON, &["-c", ROUTER]);
    for server_address in ["2001:db8:7::1", "2001:db8:8::1"] {
        let (server, port) = start_server(&bed);
        let client = bed.client.clone().with_options(&["--address6", "auto"]);
        let run = client.run(PYTHON, &["-c", CLIENT, server_address, &port]);
        let output = run.expect_success("the client").stdout;
        let own = seen_by_both(&output);
        assert!(own.starts_with("2001:db8:7:"), "{own}");
        server.finish(LIMIT).expect_success("the server");
    }
}

#[test]
fn a_configured_route_leads_through_its_router() {
    let bed = Testbed::client_behind_router();
    let (server, router) = (bed.server.namespace(), bed.client.namespace());
    router.sysctl("net.ipv6.conf.all.forwarding", "1");
    router.ip("-6 address add 2001:db8:9::2/64 dev veth0 nodad");
    server.ip("-6 address add 2001:db8:9::1/64 dev veth0 nodad");
    server.ip("-6 route add fd77::/64 via 2001:db8:9::2");
    let file = bed.path("mtcp.toml");
    let route = "[[route]]\nto = \"2001:db8:9::/64\"\nvia = \"fd77::1\"\n";
    fs::write(&file, route).expect("the test's directory");
    let config = file.to_str().expect("a path of ASCII");
    let (server, port) = start_server(&bed);
    let client = bed.client.clone().with_options(&["--config", config]);
    let run = client.run(PYTHON, &["-c", CLIENT, "2001:db8:9::1", &port]);
    let output = run.expect_success("the client").stdout;
    assert_eq!(seen_by_both(&output), "fd77::2");
    server.finish(LIMIT).expect_success("the server");
}
