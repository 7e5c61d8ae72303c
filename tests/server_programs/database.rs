//! Databases: redis, memcached, PostgreSQL and MariaDB.

use std::io::{BufRead, BufReader, Write};

use testbed::{LIMIT, Program, Testbed, postgresql};

use crate::service::Service;

crate::on_both_stacks!(
    redis_saves_in_the_background_under_load,
    memcached_serves_as_a_daemon,
    postgresql_serves_pgbench,
    mariadb_serves_mariadb_slap,
);

/// What `redis-cli` says.
fn redis_cli(bed: &Testbed, arguments: &[&str]) -> String {
    let host = bed.address.to_string();
    let arguments = [&["-h", &host], arguments].concat();
    bed.client
        .run("redis-cli", &arguments)
        .expect_success("redis-cli")
        .stdout
}

fn redis_saves_in_the_background_under_load(bed: &Testbed) {
    let directory = bed.path("").display().to_string();
    let pid_file = bed.path("redis.pid").display().to_string();
    let command = [
        "redis-server",
        "--bind",
        "0.0.0.0",
        "--protected-mode",
        "no",
        "--daemonize",
        "yes",
        "--io-threads",
        "2",
        "--io-threads-do-reads",
        "yes",
        "--save",
        "",
        "--dir",
        &directory,
        "--pidfile",
        &pid_file,
    ];
    let mut redis = Service::start(bed, &command, 6379);
    let host = bed.address.to_string();
    let arguments = [
        "-h", &host, "-c", "20", "-n", "5000", "-r", "10000", "-t", "set,get", "--csv",
    ];
    let start = || bed.client.start("redis-benchmark", &arguments);
    let served = |load: Program| {
        let output = load.finish(LIMIT).expect_success("redis-benchmark");
        assert!(
            output.stdout.contains("\"SET\"") && output.stdout.contains("\"GET\""),
            "{output}"
        );
    };
    let mut load = start();
    for _ in 0..3 {
        if !load.is_running() {
            served(std::mem::replace(&mut load, start()));
        }
        redis_cli(bed, &["bgsave"]);
        let is_saving =
            || redis_cli(bed, &["info", "persistence"]).contains("rdb_bgsave_in_progress:1");
        redis.wait_until("has saved", || !is_saving());
    }
    served(load);
    let info = redis_cli(bed, &["info", "persistence"]);
    assert!(info.contains("rdb_last_bgsave_status:ok"), "{info}");
    redis_cli(bed, &["shutdown", "nosave"]);
    redis.has_ended();
}

fn memcached_serves_as_a_daemon(bed: &Testbed) {
    let pid_file = bed.path("memcached.pid").display().to_string();
    let command = [
        "memcached",
        "-d",
        "-P",
        &pid_file,
        "-u",
        "root",
        "-t",
        "4",
        "-U",
        "0",
        "-l",
        "0.0.0.0",
    ];
    let memcached = Service::start(bed, &command, 11211).with_pid_file("memcached.pid");
    for round in 0..50 {
        let stream = bed.client.namespace().connect(bed.endpoint(11211), LIMIT);
        let mut stream = BufReader::new(stream.expect("memcached accepts"));
        let value = "x".repeat(round * 100 + 1);
        let request = format!("set key 0 0 {}\r\n{value}\r\nget key\r\n", value.len());
        stream
            .get_mut()
            .write_all(request.as_bytes())
            .expect("it is sent");
        let lines: Vec<String> = stream
            .lines()
            .take(4)
            .map(|line| line.expect("a line"))
            .collect();
        let header = format!("VALUE key 0 {}", value.len());
        assert_eq!(lines, ["STORED", &header, &value, "END"]);
    }
    memcached.end(libc::SIGTERM);
}

fn postgresql_serves_pgbench(bed: &Testbed) {
    let command = postgresql::prepare(bed);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut server = Service::start(bed, &command, postgresql::PORT);
    server.wait_until("accepts queries", || postgresql::is_ready(bed));
    let pgbench = |arguments: &[&str]| {
        let finished = postgresql::pgbench(bed, arguments);
        finished.expect_success("pgbench").stdout
    };
    pgbench(&["-i", "-s", "1", "-q"]);
    // Eight connections, then a connection and so a process for every transaction.
    let steady = pgbench(&["-c", "8", "-j", "2", "-t", "100"]);
    assert!(steady.contains("actually processed: 800/800"), "{steady}");
    let fresh = pgbench(&["-C", "-S", "-c", "4", "-t", "25"]);
    assert!(fresh.contains("actually processed: 100/100"), "{fresh}");
    server.end(libc::SIGINT);
}

fn mariadb_serves_mariadb_slap(bed: &Testbed) {
    let directory = postgresql::directory_of(bed, "mysql");
    let path = |name: &str| directory.join(name).display().to_string();
    let data = format!("--datadir={}", path("data"));
    let options = ["--no-defaults", "--user=mysql", &data];
    let make = [
        &options[..],
        &["--auth-root-authentication-method=normal", "--skip-test-db"],
    ];
    bed.client
        .run("mariadb-install-db", &make.concat())
        .expect_success("mariadb-install-db");
    let socket = path("socket");
    let (socket, pid) = (
        format!("--socket={socket}"),
        format!("--pid-file={}", path("mariadb.pid")),
    );
    let server = [
        "--bind-address=0.0.0.0",
        "--skip-grant-tables",
        "--skip-name-resolve",
    ];
    let command = [&["mariadbd"], &options[..], &server, &[&socket, &pid]].concat();
    let mariadb = Service::start(bed, &command, 3306);
    let host = bed.address.to_string();
    let arguments = [
        "--no-defaults",
        "-h",
        &host,
        "-u",
        "test",
        "--auto-generate-sql",
        "--concurrency=10",
        "--number-of-queries=500",
    ];
    let output = bed
        .client
        .run("mariadb-slap", &arguments)
        .expect_success("mariadb-slap");
    assert!(
        output
            .stdout
            .contains("Number of clients running queries: 10"),
        "{output}"
    );
    mariadb.end(libc::SIGTERM);
}
