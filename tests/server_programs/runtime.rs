//! Servers in languages that bring a runtime of their own: Node, Java and Python.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use testbed::{LIMIT, Testbed};

use crate::load::Load;
use crate::service::{Service, wait_for_lines, write};

crate::on_both_stacks!(
    node_serves_http,
    node_replaces_the_workers_of_a_cluster_under_load,
    node_workers_accept_from_one_listener,
    java_serves_http_from_threads_and_echoes_by_nio,
    uvicorn_serves_by_uvloop,
    uvicorn_serves_from_workers_that_inherit_the_listener,
    gunicorn_replaces_its_workers_under_load,
);

const REQUESTS: u32 = 2000;

/// Sends a megabyte and expects the answer to tell so.
fn takes_an_upload(bed: &Testbed, port: u16) {
    let upload = bed.path("upload");
    testbed::data::write_noise(&upload, 1 << 20, 2).expect("a file");
    let data = format!("@{}", upload.display());
    let arguments = ["-sS", "--fail", "--data-binary", &data, &bed.url(port, "")];
    let output = bed.client.run("curl", &arguments).expect_success("curl");
    assert!(
        output.stdout.ends_with("\n1048576\n"),
        "{:?}",
        output.stdout.lines().last()
    );
}

fn node<'bed>(bed: &'bed Testbed, before: &[&str], mode: &str) -> Service<'bed> {
    let script = write(bed, "server.js", include_str!("scripts/server.js"));
    let command = [before, &["node", &script, "8000", mode]].concat();
    Service::start(bed, &command, 8000)
}

fn node_serves_http(bed: &Testbed) {
    let node = node(bed, &[], "single");
    Load::start(bed, &bed.url(8000, ""), REQUESTS).finish();
    takes_an_upload(bed, 8000);
    node.end(libc::SIGTERM);
}

/// The primary accepts, and passes each connection to a worker.
fn node_replaces_the_workers_of_a_cluster_under_load(bed: &Testbed) {
    let mut node = node(bed, &[], "cluster");
    let mut replacements = 0;
    Load::start(bed, &bed.url(8000, ""), REQUESTS).disturbed_by(|| {
        node.signal(libc::SIGHUP);
        replacements += 1;
        node.wait_until_it_says("replaced", replacements);
    });
    takes_an_upload(bed, 8000);
    node.end(libc::SIGTERM);
}

/// The primary passes its listener to the workers.
fn node_workers_accept_from_one_listener(bed: &Testbed) {
    let node = node(bed, &["env", "NODE_CLUSTER_SCHED_POLICY=none"], "cluster");
    Load::start(bed, &bed.url(8000, ""), REQUESTS).finish();
    takes_an_upload(bed, 8000);
    node.end(libc::SIGTERM);
}

fn java_serves_http_from_threads_and_echoes_by_nio(bed: &Testbed) {
    let source = write(bed, "Server.java", include_str!("scripts/Server.java"));
    let classes = bed.path("classes").display().to_string();
    bed.client
        .run("javac", &["-d", &classes, &source])
        .expect_success("javac");
    let java = Service::start(
        bed,
        &["java", "-cp", &classes, "Server", "8000", "8001"],
        8000,
    );
    Load::start(bed, &bed.url(8000, ""), REQUESTS).finish();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| echoes(bed, 8001));
        }
    });
    // The JVM ends as if the signal had.
    java.end_with(libc::SIGTERM, 128 + libc::SIGTERM);
}

/// What one connection sends, in more pieces than any buffer holds, comes back.
fn echoes(bed: &Testbed, port: u16) {
    let stream = bed.client.namespace().connect(bed.endpoint(port), LIMIT);
    let mut stream = stream.expect("the server accepts");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    let sent: Vec<u8> = (0..3_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut received = Vec::new();
    thread::scope(|scope| {
        let mut writing = stream.try_clone().expect("a second descriptor");
        let sent = &sent;
        scope.spawn(move || {
            writing.write_all(sent).expect("the server takes it");
            writing.shutdown(Shutdown::Write).expect("shutdown");
        });
        stream.read_to_end(&mut received).expect("a proper end");
    });
    assert!(
        received == sent,
        "{} of {} bytes came back, or others",
        received.len(),
        sent.len()
    );
}

/// Puts the application where Python finds it, and answers how to run a module there.
fn python(bed: &Testbed, module: &str) -> Vec<String> {
    write(
        bed,
        "application.py",
        include_str!("scripts/application.py"),
    );
    let path = format!("PYTHONPATH={}", bed.path("").display());
    ["env", &path, testbed::servers::PYTHON, "-m", module]
        .map(str::to_owned)
        .to_vec()
}

fn uvicorn<'bed>(bed: &'bed Testbed, workers: &str) -> Service<'bed> {
    let mut command = python(bed, "uvicorn");
    let options = [
        "--host",
        "0.0.0.0",
        "--port",
        "8000",
        "--loop",
        "uvloop",
        "--workers",
        workers,
        "--log-level",
        "warning",
        "application:asgi",
    ];
    command.extend(options.map(str::to_owned));
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    Service::start(bed, &command, 8000)
}

fn uvicorn_serves_by_uvloop(bed: &Testbed) {
    let server = uvicorn(bed, "1");
    Load::start(bed, &bed.url(8000, ""), REQUESTS).finish();
    takes_an_upload(bed, 8000);
    server.end(libc::SIGTERM);
}

/// The workers are started anew (fork and exec) with the parent's listener.
fn uvicorn_serves_from_workers_that_inherit_the_listener(bed: &Testbed) {
    let server = uvicorn(bed, "2");
    Load::start(bed, &bed.url(8000, ""), REQUESTS).finish();
    takes_an_upload(bed, 8000);
    server.end(libc::SIGTERM);
}

fn gunicorn_replaces_its_workers_under_load(bed: &Testbed) {
    let (pid, log) = (bed.path("gunicorn.pid"), bed.path("gunicorn.log"));
    let (pid, log_file) = (pid.display().to_string(), log.display().to_string());
    let mut command = python(bed, "gunicorn");
    let options = [
        "--bind",
        "0.0.0.0:8000",
        "--workers",
        "2",
        "--pid",
        &pid,
        "--log-file",
        &log_file,
        "--daemon",
        "application:wsgi",
    ];
    command.extend(options.map(str::to_owned));
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut server = Service::start(bed, &command, 8000).with_pid_file("gunicorn.pid");
    let mut workers = 2;
    Load::start(bed, &bed.url(8000, ""), REQUESTS).disturbed_by(|| {
        wait_for_lines(&log, "Booting worker", workers);
        server.signal(libc::SIGHUP);
        workers += 2;
        wait_for_lines(&log, "Booting worker", workers);
    });
    takes_an_upload(bed, 8000);
    server.end(libc::SIGTERM);
    let said = fs::read_to_string(&log).expect("gunicorn's log");
    assert!(!said.contains("[ERROR]"), "{said}");
}
