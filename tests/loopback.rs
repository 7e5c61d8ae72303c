//! Programs of one stack that talk to each other on 127.0.0.1 and ::1, without any device. The
//! kernel's own loopback is down: what works, the stack has carried.

use std::fs;
use std::net::TcpListener;

use testbed::{Host, Testbed};

/// A place whose programs have nothing but the stack's loopback.
fn alone(bed: &Testbed) -> &Host {
    bed.server.namespace().ip("link set lo down");
    &bed.server
}

/// Runs a shell's script on the stack: all that it starts shares one loopback.
fn run(host: &Host, script: &str) -> String {
    let finished = host.run("sh", &["-euc", script]);
    finished.expect_success("the script").stdout
}

#[test]
fn redis_serves_redis_benchmark() {
    let bed = Testbed::loopback();
    let script = "
        redis-server --bind 127.0.0.1 --save '' --appendonly no >redis.log &
        until redis-cli -h 127.0.0.1 ping 2>/dev/null; do sleep 0.02; done
        redis-benchmark -h 127.0.0.1 -c 50 -n 20000 -t set,get,lrange_100 --csv
        redis-benchmark -h 127.0.0.1 -c 20 -n 50000 -P 16 -d 4000 -t set,get --csv
        redis-cli -h 127.0.0.1 shutdown nosave
        wait $!";
    let said = run(
        alone(&bed),
        &format!("cd {}{script}", bed.path("").display()),
    );
    assert!(said.starts_with("PONG\n"), "{said}");
    for test in ["\"SET\"", "\"GET\"", "\"LRANGE_100"] {
        assert!(said.contains(test), "{test} in {said}");
    }
    bed.assert_nothing_left();
}

#[test]
fn python_http_server_serves_curl_by_ipv6() {
    let bed = Testbed::loopback();
    fs::create_dir(bed.path("site")).expect("a directory");
    testbed::data::write_noise(&bed.path("site/file"), 20_000_000, 1).expect("a file");
    let script = "
        python3 -m http.server 8000 --bind ::1 --directory site >http.log 2>&1 &
        until curl -gsS -o copy 'http://[::1]:8000/file' 2>/dev/null; do sleep 0.02; done
        cmp copy site/file
        for i in $(seq 20); do curl -gsS -o copy 'http://[::1]:8000/file'; cmp copy site/file; done
        kill $!";
    run(
        alone(&bed),
        &format!("cd {}{script}", bed.path("").display()),
    );
    bed.assert_nothing_left();
}

#[test]
fn a_program_of_one_thread_talks_to_itself() {
    let bed = Testbed::loopback();
    let script = "
import select, socket

def talk(server, client):
    client.sendall(b'blocking')
    assert server.recv(100) == b'blocking'
    for end in (server, client):
        end.setblocking(False)
    data, sent, got = bytes(range(256)) * 40000, 0, bytearray()
    while len(got) < len(data):
        readable, writable, _ = select.select([server], [client] * (sent < len(data)), [], 10)
        assert readable or writable
        if writable:
            sent += client.send(data[sent:])
        if readable:
            got += server.recv(1 << 20)
    assert got == data
    client.close()
    assert select.select([server], [], [], 10)[0] and server.recv(1) == b''

for family, address in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1'),
                        (socket.AF_INET, '10.77.0.2'), (socket.AF_INET, '127.9.9.9')):
    with socket.create_server((address, 0), family=family) as listener:
        name = listener.getsockname()
        with socket.create_connection(name[:2]) as client:
            server, peer = listener.accept()
            assert peer == client.getsockname(), (peer, client.getsockname())
            with server:
                talk(server, client)
    client = socket.socket(family)
    assert client.connect_ex(name) == 111
";
    let host = alone(&bed);
    host.run("python3", &["-c", script])
        .expect_success("the program");
    bed.assert_nothing_left();
}

#[test]
fn a_rule_leaves_a_service_of_the_kernel_within_reach() {
    let bed = Testbed::loopback();
    let service = bed
        .server
        .namespace()
        .run(|| TcpListener::bind("127.0.0.53:53"));
    let service = service.expect("a port of the namespace");
    let connect =
        "import socket; print(socket.create_connection(('127.0.0.53', 53)).getsockname()[0])";
    let refused = bed.server.run("python3", &["-c", connect]);
    assert!(
        refused.stderr.contains("ConnectionRefusedError"),
        "{refused}"
    );
    let rules = bed.path("rules.toml");
    let rule = "[[rule]]\naddress = \"127.0.0.53/32\"\nto = \"kernel\"\n";
    fs::write(&rules, rule).expect("a file");
    let bed = bed.with_server_options(&["--config", &rules.display().to_string()]);
    let reached = bed.server.run("python3", &["-c", connect]);
    assert_eq!(reached.expect_success("the client").stdout, "127.0.0.1\n");
    drop(service);
}
