//! Web servers: nginx, apache and lighttpd with their masters and workers.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use testbed::{Testbed, signal};

use crate::load::Load;
use crate::service::{Service, wait, wait_for_lines, write};

crate::on_both_stacks!(
    nginx_reloads_its_workers_under_load,
    nginx_reloads_workers_with_listeners_of_their_own_under_load,
    nginx_is_replaced_by_a_new_binary_under_load,
    apache_prefork_restarts_under_load,
    apache_event_restarts_under_load,
    lighttpd_restarts_under_load_as_a_daemon,
);

const REQUESTS: u32 = 4000;

/// A directory with one page, some segments long.
fn site(bed: &Testbed) -> PathBuf {
    let root = bed.path("site");
    fs::create_dir(&root).expect("a directory for the site");
    testbed::data::write_noise(&root.join("page"), 20_000, 1).expect("a page");
    root
}

/// nginx as a daemon with a master and two workers.
fn nginx<'bed>(bed: &'bed Testbed, listen: &str) -> Service<'bed> {
    let root = site(bed);
    let single = testbed::servers::nginx_configuration(&bed.path(""), &root, 80);
    let log = bed.path("nginx.log").display().to_string();
    let text = single
        .replace("daemon off;", "daemon on;")
        .replace("master_process off;", "worker_processes 2;")
        .replace("error_log stderr;", &format!("error_log {log} notice;"))
        .replace("listen 80", listen);
    let file = write(bed, "nginx.conf", &text);
    // An upgrade starts the program anew by the name that it was started with.
    let command = ["/usr/sbin/nginx", "-e", &log, "-c", &file];
    Service::start(bed, &command, 80).with_pid_file("nginx.pid")
}

const WORKER: &str = "nginx: worker process";
const LEAVING: &str = "shutting down";

/// The two workers that are not about to leave. A new one bears its master's name for a moment.
fn workers(nginx: &Service) -> BTreeSet<u32> {
    let mut workers = BTreeSet::new();
    wait(|| {
        workers = nginx.processes(WORKER, LEAVING);
        workers.len() == 2
    });
    workers
}

/// Waits until two workers have started besides the earlier ones.
fn wait_for_new_workers(nginx: &Service, earlier: &BTreeSet<u32>) {
    wait(|| nginx.processes(WORKER, LEAVING).difference(earlier).count() == 2);
}

/// HUP: new workers take over, the old ones end when their connections have.
fn reload(nginx: &mut Service) {
    let before = workers(nginx);
    nginx.signal(libc::SIGHUP);
    wait_for_new_workers(nginx, &before);
    wait(|| nginx.processes(WORKER, LEAVING).is_disjoint(&before));
}

fn nginx_reloads(bed: &Testbed, listen: &str) {
    let mut nginx = nginx(bed, listen);
    Load::start(bed, &bed.url(80, "page"), REQUESTS).disturbed_by(|| reload(&mut nginx));
    nginx.end(libc::SIGQUIT);
}

fn nginx_reloads_its_workers_under_load(bed: &Testbed) {
    nginx_reloads(bed, "listen 80");
}

fn nginx_reloads_workers_with_listeners_of_their_own_under_load(bed: &Testbed) {
    nginx_reloads(bed, "listen 80 reuseport");
}

/// The number of a process's parent (proc(5)).
fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.and_then(|number| number.trim().parse().ok())
        .expect("the number of the parent")
}

/// USR2 starts a new master with the listeners of the old one, which then leaves.
fn nginx_is_replaced_by_a_new_binary_under_load(bed: &Testbed) {
    let mut nginx = nginx(bed, "listen 80");
    Load::start(bed, &bed.url(80, "page"), REQUESTS).disturbed_by(|| {
        let old = nginx.pid();
        let workers = workers(&nginx);
        signal(old, libc::SIGUSR2).expect("the old master runs");
        wait_for_new_workers(&nginx, &workers);
        signal(old, libc::SIGQUIT).expect("the old master runs");
        wait(|| nginx.processes("nginx: ", LEAVING).is_disjoint(&workers));
        let new = nginx.pid();
        assert_ne!(new, old);
        // It takes no further USR2 while the old master is its parent.
        wait(|| parent(new) != old);
    });
    nginx.end(libc::SIGQUIT);
}

/// apache as a daemon with the named way of processing; USR1 restarts it gracefully.
fn apache_restarts(bed: &Testbed, mpm: &str) {
    let root = site(bed);
    let (directory, root) = (bed.path("").display().to_string(), root.display());
    let modules = "/usr/lib/apache2/modules";
    let text = format!(
        "ServerRoot {directory}
DefaultRuntimeDir {directory}
PidFile apache.pid
ServerName test
Listen 80
LoadModule mpm_{mpm}_module {modules}/mod_mpm_{mpm}.so
LoadModule authz_core_module {modules}/mod_authz_core.so
DocumentRoot {root}
ErrorLog apache.log
User www-data
Group www-data
"
    );
    let file = write(bed, "apache.conf", &text);
    let mut apache = Service::start(bed, &["apache2", "-f", &file], 80).with_pid_file("apache.pid");
    let mut starts = 1;
    Load::start(bed, &bed.url(80, "page"), REQUESTS).disturbed_by(|| {
        apache.signal(libc::SIGUSR1);
        starts += 1;
        wait_for_lines(
            &bed.path("apache.log"),
            "resuming normal operations",
            starts,
        );
    });
    // As `apachectl graceful-stop`.
    apache.end(libc::SIGWINCH);
}

fn apache_prefork_restarts_under_load(bed: &Testbed) {
    apache_restarts(bed, "prefork");
}

fn apache_event_restarts_under_load(bed: &Testbed) {
    apache_restarts(bed, "event");
}

fn lighttpd_restarts_under_load_as_a_daemon(bed: &Testbed) {
    let directory = bed.path("").display().to_string();
    let text = format!(
        "server.document-root = \"{}\"
server.bind = \"0.0.0.0\"
server.port = 80
server.pid-file = \"{directory}/lighttpd.pid\"
server.errorlog = \"{directory}/lighttpd.log\"
mimetype.assign = (\"\" => \"application/octet-stream\")
",
        site(bed).display()
    );
    let file = write(bed, "lighttpd.conf", &text);
    let mut lighttpd =
        Service::start(bed, &["lighttpd", "-f", &file], 80).with_pid_file("lighttpd.pid");
    let mut starts = 1;
    Load::start(bed, &bed.url(80, "page"), REQUESTS).disturbed_by(|| {
        lighttpd.signal(libc::SIGUSR1);
        starts += 1;
        wait_for_lines(&bed.path("lighttpd.log"), "server started", starts);
    });
    lighttpd.end(libc::SIGINT);
}
