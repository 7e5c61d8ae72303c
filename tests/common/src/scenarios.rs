//! What every program is asked to do, on any testbed: one function for each pair of a server and
//! a client.
//!
//! Each checks the bytes that arrive, ends the server as a user would, and checks that nothing is
//! left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::artifacts;
use crate::bed::{LIMIT, Testbed};
use crate::data;
use crate::program::Finished;
use crate::servers::{self, PYTHON, Server};

/// Makes every pair of programs a test of its own, on the testbed that the expression makes.
#[macro_export]
macro_rules! test_every_program_on {
    ($bed:expr) => {
        $crate::test_every_program_on!($bed;
            nginx_serves_curl, nginx_serves_wget, nginx_serves_wrk, nginx_serves_ab,
            nginx_serves_python, lighttpd_serves_curl, lighttpd_serves_wrk,
            redis_serves_redis_benchmark, memcached_serves_python_threads,
            python_http_server_serves_curl, asyncio_serves_asyncio, iperf3_serves_iperf3,
            epserver_serves_epwget);
    };
    ($bed:expr; $($scenario:ident),+) => {
        $(
            #[test]
            fn $scenario() {
                $crate::scenarios::$scenario(&$bed);
            }
        )+
    };
}

/// Files to serve: name, and SHA-256 of the content.
struct Site {
    root: PathBuf,
    files: Vec<(String, String)>,
}

/// Sizes around what fits a segment, a window and a buffer.
const SIZES: [u64; 6] = [0, 1, 1460, 4096, 65_537, 16 << 20];

impl Site {
    fn new(bed: &Testbed) -> Site {
        let root = bed.path("site");
        fs::create_dir(&root).expect("a directory for the site");
        let write = |size: &u64| {
            let name = format!("file-{size}");
            let digest =
                data::write_noise(&root.join(&name), *size, *size).expect("a file of the site");
            (name, digest)
        };
        let files = SIZES.iter().map(write).collect();
        Site { root, files }
    }
}

/// Ends the server with SIGTERM and checks that nothing stays.
fn end(bed: &Testbed, server: Server) {
    server.into_program().stop(LIMIT);
    bed.assert_nothing_left();
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("the harness's paths are UTF-8")
}

fn curl_gets_every_file(bed: &Testbed, site: &Site, server: &Server) {
    curl_gets_every_file_by(bed, site, |name| bed.url(server.port, name));
}

fn curl_gets_every_file_by(bed: &Testbed, site: &Site, url: impl Fn(&str) -> String) {
    for (name, digest) in &site.files {
        let copy = bed.client.path("copy");
        let url = url(name);
        bed.client
            .run("curl", &["-sS", "--fail", "-o", path_text(&copy), &url])
            .expect_success("curl");
        let received = fs::File::open(&copy).expect("what curl wrote");
        let (len, received) = data::digest(received).expect("a file can be read");
        assert_eq!(&received, digest, "{name}: {len} bytes arrived");
    }
    let url = url("missing");
    let missing = bed.client.run(
        "curl",
        &["-sS", "-o", "/dev/null", "-w", "%{http_code}", &url],
    );
    assert_eq!(missing.expect_success("curl").stdout, "404");
}

/// nginx's files of many sizes arrive whole at curl; so does a refusal.
pub fn nginx_serves_curl(bed: &Testbed) {
    let site = Site::new(bed);
    let server = servers::nginx(bed, &site.root);
    curl_gets_every_file(bed, &site, &server);
    end(bed, server);
}

/// nginx's files of many sizes arrive whole at curl over IPv6, and over IPv4 beside it.
pub fn nginx_serves_curl_over_ipv6(bed: &Testbed) {
    let site = Site::new(bed);
    let server = servers::nginx_of_both_families(bed, &site.root);
    curl_gets_every_file_by(bed, &site, |name| bed.url6(server.port, name));
    curl_gets_every_file(bed, &site, &server);
    end(bed, server);
}

/// lighttpd's files of many sizes arrive whole at curl.
pub fn lighttpd_serves_curl(bed: &Testbed) {
    let site = Site::new(bed);
    let server = servers::lighttpd(bed, &site.root);
    curl_gets_every_file(bed, &site, &server);
    end(bed, server);
}

/// python3 -m http.server's files of many sizes arrive whole at curl.
pub fn python_http_server_serves_curl(bed: &Testbed) {
    let site = Site::new(bed);
    let server = servers::python_http(bed, &site.root);
    curl_gets_every_file(bed, &site, &server);
    end(bed, server);
}

/// wget fetches files of many sizes over one connection.
pub fn nginx_serves_wget(bed: &Testbed) {
    let site = Site::new(bed);
    let server = servers::nginx(bed, &site.root);
    let copies = bed.client.path("copies");
    let urls: Vec<String> = site
        .files
        .iter()
        .map(|(name, _)| bed.url(server.port, name))
        .collect();
    let mut arguments = vec!["-nv", "--tries=1", "-P", path_text(&copies)];
    arguments.extend(urls.iter().map(String::as_str));
    bed.client.run("wget", &arguments).expect_success("wget");
    for (name, digest) in &site.files {
        let copy = fs::File::open(copies.join(name)).expect("what wget wrote");
        assert_eq!(
            &data::digest(copy).expect("a file can be read").1,
            digest,
            "{name}"
        );
    }
    end(bed, server);
}

/// Python's urllib fetches files of many sizes.
pub fn nginx_serves_python(bed: &Testbed) {
    let site = Site::new(bed);
    let server = servers::nginx(bed, &site.root);
    let mut arguments = vec![servers::script(bed, "fetch.py")];
    arguments.extend(
        site.files
            .iter()
            .map(|(name, _)| bed.url(server.port, name)),
    );
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = bed
        .client
        .run(PYTHON, &arguments)
        .expect_success("fetch.py");
    let expected: Vec<&str> = site
        .files
        .iter()
        .map(|(_, digest)| digest.as_str())
        .collect();
    assert_eq!(output.stdout.lines().collect::<Vec<_>>(), expected);
    end(bed, server);
}

/// Runs wrk for two seconds and checks that it got answers, all of them good.
fn wrk_finds_no_fault(bed: &Testbed, url: &str, header: &str) {
    let arguments = ["-t", "1", "-c", "32", "-d", "2s", "-H", header, url];
    let output = bed.client.run("wrk", &arguments).expect_success("wrk");
    let requests = output
        .stdout
        .lines()
        .find_map(|line| line.trim().split_once(" requests in "));
    let requests: u64 = requests
        .and_then(|(count, _)| count.parse().ok())
        .unwrap_or_else(|| panic!("wrk counts no requests: {output}"));
    assert!(requests > 0, "no answer: {output}");
    for complaint in ["Socket errors", "Non-2xx"] {
        assert!(!output.stdout.contains(complaint), "{output}");
    }
}

fn serves_wrk(bed: &Testbed, server: Server) {
    let url = bed.url(server.port, "file-4096");
    wrk_finds_no_fault(bed, &url, "Connection: keep-alive");
    wrk_finds_no_fault(bed, &url, "Connection: close");
    end(bed, server);
}

/// wrk gets good answers from nginx on connections that stay and on connections that close.
pub fn nginx_serves_wrk(bed: &Testbed) {
    let site = Site::new(bed);
    serves_wrk(bed, servers::nginx(bed, &site.root));
}

/// wrk gets good answers from lighttpd on connections that stay and on connections that close.
pub fn lighttpd_serves_wrk(bed: &Testbed) {
    let site = Site::new(bed);
    serves_wrk(bed, servers::lighttpd(bed, &site.root));
}

/// The number behind `label` in ab's table.
fn ab_count(output: &Finished, label: &str) -> Option<u64> {
    let line = output
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

/// ab completes 2,000 requests on 20 connections at once, with and without keep-alive.
pub fn nginx_serves_ab(bed: &Testbed) {
    let site = Site::new(bed);
    let server = servers::nginx(bed, &site.root);
    let url = bed.url(server.port, "file-4096");
    for keep_alive in [&["-k"][..], &[]] {
        let mut arguments = vec!["-q", "-n", "2000", "-c", "20"];
        arguments.extend(keep_alive);
        arguments.push(&url);
        let output = bed.client.run("ab", &arguments).expect_success("ab");
        assert_eq!(
            ab_count(&output, "Complete requests:"),
            Some(2000),
            "{output}"
        );
        assert_eq!(ab_count(&output, "Failed requests:"), Some(0), "{output}");
        assert_eq!(ab_count(&output, "Non-2xx responses:"), None, "{output}");
    }
    end(bed, server);
}

/// redis-benchmark completes, pipelined and not; redis-cli reads back what it wrote.
pub fn redis_serves_redis_benchmark(bed: &Testbed) {
    let server = servers::redis(bed);
    let host = bed.address.to_string();
    for depth in ["1", "16"] {
        let arguments = [
            "-h",
            &host,
            "-t",
            "set,get,lpush",
            "-n",
            "20000",
            "-c",
            "50",
            "-P",
            depth,
            "--csv",
        ];
        let output = bed
            .client
            .run("redis-benchmark", &arguments)
            .expect_success("redis-benchmark");
        let tests = output
            .stdout
            .lines()
            .filter(|line| line.starts_with('"'))
            .skip(1);
        assert_eq!(tests.count(), 3, "{output}");
    }
    let value = data::Noise::new(1).bytes(20_000);
    let value = data::hex(&value);
    let cli = |words: &[&str]| {
        let arguments = [&["-h", &host, "--raw"], words].concat();
        bed.client
            .run("redis-cli", &arguments)
            .expect_success("redis-cli")
            .stdout
    };
    assert_eq!(cli(&["set", "key", &value]).trim(), "OK");
    assert_eq!(cli(&["get", "key"]).trim(), value);
    end(bed, server);
}

/// Sixteen Python threads store values of up to 100 KB in memcached and read them back.
pub fn memcached_serves_python_threads(bed: &Testbed) {
    let server = servers::memcached(bed);
    let script = servers::script(bed, "memcached_client.py");
    let (host, port) = (bed.address.to_string(), server.port.to_string());
    bed.client
        .run(PYTHON, &[&script, &host, &port, "16"])
        .expect_success("memcached_client.py");
    end(bed, server);
}

/// Thirty-two asyncio connections at once each get a megabyte echoed, while they still send.
pub fn asyncio_serves_asyncio(bed: &Testbed) {
    let server = servers::python_echo(bed);
    let script = servers::script(bed, "echo_client.py");
    let (host, port) = (bed.address.to_string(), server.port.to_string());
    let output = bed
        .client
        .run(PYTHON, &[&script, &host, &port, "32", "1000000"]);
    assert_eq!(
        output.expect_success("echo_client.py").stdout.trim(),
        "echoed 32000000"
    );
    end(bed, server);
}

/// Clients that ask for Fast Open: the first connection gets a cookie, the SYNs of the others carry
/// data, however the program asks. The server is the kernel's.
pub fn the_second_fast_open_carries_its_data_in_the_syn(bed: &Testbed) {
    // Client and server, and every listener without having asked.
    let all = "1027";
    bed.server.namespace().sysctl("net.ipv4.tcp_fastopen", all);
    let server = servers::python_echo(bed);
    let script = servers::script(bed, "fast_open_client.py");
    let (host, port) = (bed.address.to_string(), server.port.to_string());
    let output = bed.client.run(PYTHON, &[&script, &host, &port]);
    assert_eq!(
        output.expect_success("fast_open_client.py").stdout,
        "blocking late\nblocking early\nnonblocking early\ndeferred early\n"
    );
    end(bed, server);
}

/// iperf3 carries 128 MB up, down, and over eight streams at once.
pub fn iperf3_serves_iperf3(bed: &Testbed) {
    let mut server = servers::iperf3(bed);
    let host = bed.address.to_string();
    for direction in [&[][..], &["-R"], &["-P", "8"]] {
        let arguments = [
            &["-c", &host, "-n", "128M", "--connect-timeout", "10000"],
            direction,
        ]
        .concat();
        let output = bed
            .client
            .run("iperf3", &arguments)
            .expect_success("iperf3");
        assert!(output.stdout.contains("iperf Done."), "{output}");
        // After each test it closes its listener and opens another.
        server.wait_until_it_listens(bed);
    }
    end(bed, server);
}

/// epwget's flows all succeed against epserver: one request each, many each, and into files.
pub fn epserver_serves_epwget(bed: &Testbed) {
    let site = Site::new(bed);
    let server = servers::epserver(bed, &site.root);
    let epwget = artifacts::example("epwget");
    let small = bed.url(server.port, "file-4096");
    let flows = |arguments: &[&str]| bed.client.run(&epwget, arguments).expect_success("epwget");
    for arguments in [
        &[small.as_str(), "5000", "-N", "1", "-c", "64"][..],
        &[&small, "-n", "500", "-N", "2", "-c", "64", "-k", "10"],
    ] {
        let output = flows(arguments);
        assert!(output.stderr.contains(" 0 errors"), "{output}");
    }
    let copies = bed.client.path("copy-of");
    let large = bed.url(server.port, "file-65537");
    flows(&[&large, "8", "-N", "1", "-c", "4", "-o", path_text(&copies)]);
    let expected = site.files.iter().find(|(name, _)| name == "file-65537");
    for flow in 1..=8 {
        let copy =
            fs::File::open(format!("{}.0.{flow}", copies.display())).expect("what epwget wrote");
        let digest = data::digest(copy).expect("a file can be read").1;
        assert_eq!(
            Some(&digest),
            expected.map(|(_, digest)| digest),
            "flow {flow}"
        );
    }
    end(bed, server);
}

/// One file of `len` bytes, fetched from nginx by curl: the right bytes arrive.
pub fn nginx_serves_a_large_file(bed: &Testbed, len: u64, limit: Duration) {
    let root = bed.path("site");
    fs::create_dir(&root).expect("a directory for the site");
    let expected = data::write_noise(&root.join("large"), len, len).expect("a large file");
    let server = servers::nginx(bed, &root);
    let url = bed.url(server.port, "large");
    let received = bed
        .client
        .digest_output("curl", &["-sS", "--fail", &url], limit);
    assert_eq!(received, (len, expected));
    end(bed, server);
}

/// `total` connections, 64 at once, each of which sends 64 bytes, gets 64 and closes: none fails.
pub fn short_connections_all_succeed(bed: &Testbed, total: u64) {
    let server = servers::bench_server(bed, "echo", 64);
    let (address, total) = (bed.endpoint(server.port).to_string(), total.to_string());
    let arguments = [
        "short",
        &address,
        "--ports",
        "16",
        "--connections",
        "64",
        "--size",
        "64",
        "--total",
        &total,
    ];
    let output = bed
        .client
        .run(artifacts::bench_client(), &arguments)
        .expect_success("bench-client");
    assert!(
        output.stdout.contains(&format!("\"connections\": {total}")),
        "{output}"
    );
    end(bed, server);
}

/// `count` connections at once exchange messages, twenty each: every one is answered.
pub fn concurrent_connections_are_all_served(bed: &Testbed, count: u64) {
    let server = servers::bench_server(bed, "echo", 1000);
    let address = bed.endpoint(server.port).to_string();
    let (connections, total) = (count.to_string(), (count * 20).to_string());
    let arguments = [
        "latency",
        &address,
        "--connections",
        &connections,
        "--size",
        "1000",
        "--total",
        &total,
    ];
    let output = bed
        .client
        .run(artifacts::bench_client(), &arguments)
        .expect_success("bench-client");
    assert!(
        output.stdout.contains(&format!("\"connections\": {count}")),
        "{output}"
    );
    end(bed, server);
}

/// Idle connections that are left alone for longer than any default timeout of thirty seconds
/// still carry messages.
pub fn idle_connections_survive(bed: &Testbed) {
    let server = servers::bench_server(bed, "echo", 64);
    let address = bed.endpoint(server.port).to_string();
    let arguments = ["idle", &address, "--connections", "200", "--duration", "35"];
    let output = bed
        .client
        .run(artifacts::bench_client(), &arguments)
        .expect_success("bench-client");
    assert!(output.stdout.contains("\"connections\": 200"), "{output}");
    end(bed, server);
}

/// The number of the process that really is the server: under `mtcp-run` its child.
fn server_process(bed: &Testbed, name: &str) -> u32 {
    let processes = bed.server.namespace().processes();
    let is_it = |line: &str| line.contains(name) && !line.contains("mtcp-run");
    let found = processes.iter().find(|(_, line)| is_it(line));
    found
        .unwrap_or_else(|| panic!("no {name} among {processes:?}"))
        .0
}

/// When the server is killed with SIGKILL, each of 100 idle peers hears of it, which it does not by
/// itself; `mtcp-run` ends as the server did, and nothing is left.
pub fn a_killed_server_leaves_no_peer_waiting(bed: &Testbed) {
    let server = servers::bench_server(bed, "echo", 64);
    let address = bed.endpoint(server.port).to_string();
    let mut client = bed.client.start(
        artifacts::bench_client(),
        &["idle", &address, "--connections", "100"],
    );
    client.wait_until("has all its connections", LIMIT, |client| {
        client.stdout().contains("parked")
    });
    let victim = server_process(bed, "bench-server");
    crate::sys::signal(victim, libc::SIGKILL).expect("the server can be killed");
    // A second on a machine that does nothing else, and less than any timer of TCP would take.
    let output = client.finish(Duration::from_secs(10));
    assert!(output.stdout.contains("\"errors\": 100"), "{output}");
    assert_eq!(
        server.into_program().finish(LIMIT).code(),
        128 + libc::SIGKILL
    );
    bed.assert_nothing_left();
}

/// What a program has sent arrives whole although it is gone by then, whichever end it is.
pub fn data_unsent_at_exit_still_arrives(bed: &Testbed) {
    const SIZE: usize = 5_000_000;
    let (host, size) = (bed.address.to_string(), SIZE.to_string());
    for (server_role, client_role) in [("send", "receive"), ("receive", "send")] {
        let server = servers::transfer(bed, server_role, SIZE);
        let script = servers::script(bed, "transfer.py");
        let port = server.port.to_string();
        let arguments = [&script, client_role, "connect", &host, &port, &size];
        bed.client
            .run(PYTHON, &arguments)
            .expect_success("the client's end");
        server
            .into_program()
            .finish(LIMIT)
            .expect_success("the server's end");
    }
    bed.assert_nothing_left();
}

/// SIGINT, as ^C sends it, ends the server in good order.
pub fn an_interrupt_ends_the_server(bed: &Testbed) {
    let server = servers::bench_server(bed, "echo", 64).into_program();
    server.signal(libc::SIGINT);
    let output = server.finish(LIMIT).expect_success("bench-server");
    assert!(output.stdout.contains("\"errors\":0"), "{output}");
    bed.assert_nothing_left();
}

/// The exit status of `mtcp-run` is the program's own, 128 + n for a signal, and 127 for a program
/// that does not exist.
pub fn the_exit_status_is_the_program_s_own(bed: &Testbed) {
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
    ] {
        let output = bed.server.run("sh", &["-c", script]);
        assert_eq!(output.code(), code, "sh -c '{script}': {output}");
    }
    let output = bed.server.run("no-such-program", &[]);
    assert_eq!(output.code(), 127, "{output}");
    bed.assert_nothing_left();
}
