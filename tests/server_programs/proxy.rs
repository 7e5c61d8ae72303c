//! haproxy with two threads in front of nginx, reloaded under load: the new process gets the
//! listeners of the old one in a message (SCM_RIGHTS).

use std::fs;

use testbed::Testbed;

use crate::load::Load;
use crate::service::{Service, wait, write};

crate::on_both_stacks!(
    haproxy_s_master_reloads_its_worker_under_load,
    haproxy_hands_its_listeners_to_the_next_under_load,
);

/// On our stack with its own loopback, which also carries what haproxy and nginx say to each other.
mod stack_with_loopback {
    use testbed::Testbed;

    #[test]
    fn haproxy_s_master_reloads_its_worker_under_load() {
        let bed = Testbed::server_on_tap().with_server_options(&["--loopback", "stack"]);
        super::haproxy_s_master_reloads_its_worker_under_load(&bed);
    }
}

const REQUESTS: u32 = 2000;
const PORT: u16 = 8000;

/// The configurations of both, and a shell's script that starts nginx and then does `and_then`.
fn script(bed: &Testbed, and_then: &str) -> String {
    let (directory, root) = (bed.path("").display().to_string(), bed.path("site"));
    fs::create_dir(&root).expect("a directory for the site");
    testbed::data::write_noise(&root.join("page"), 20_000, 1).expect("a page");
    let nginx = testbed::servers::nginx_configuration(&bed.path(""), &root, 8080)
        .replace("daemon off;", "daemon on;")
        .replace("listen 8080", "listen 127.0.0.1:8080");
    write(bed, "nginx.conf", &nginx);
    let haproxy = format!(
        "global
    nbthread 2
    maxconn 1000
    stats socket {directory}/haproxy.sock mode 600 level admin expose-fd listeners
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
listen web
    bind 0.0.0.0:{PORT}
    server nginx 127.0.0.1:8080
"
    );
    write(bed, "haproxy.conf", &haproxy);
    let start = format!("cd {directory}\nnginx -e stderr -c {directory}/nginx.conf\n{and_then}\n");
    write(bed, "start.sh", &start)
}

/// USR2: the master executes itself anew and forks a worker, to which the former one sends the
/// listeners before it leaves.
fn haproxy_s_master_reloads_its_worker_under_load(bed: &Testbed) {
    let script = script(bed, "exec haproxy -W -f haproxy.conf");
    let mut haproxy = Service::start(bed, &["sh", &script], PORT);
    let mut reloads = 0;
    Load::start(bed, &bed.url(PORT, "page"), REQUESTS).disturbed_by(|| {
        haproxy.signal(libc::SIGUSR2);
        reloads += 1;
        // With a status of its own: haproxy 2.6.12 may fall when all is done (mended in 2.6.14).
        haproxy.wait_until_it_complains("Former worker", reloads);
    });
    haproxy.end(libc::SIGTERM);
}

/// A new process asks the old one for its listeners (-x), and has it leave (-sf).
fn haproxy_hands_its_listeners_to_the_next_under_load(bed: &Testbed) {
    let next = "haproxy -D -f haproxy.conf -p haproxy.pid";
    let and_then = format!(
        "{next}
trap '{next} -x haproxy.sock -sf $(cat haproxy.pid)' USR1
trap 'kill -USR1 $(cat haproxy.pid); kill $(cat nginx.pid); exit 0' TERM
while :; do sleep 0.05; done"
    );
    let script = script(bed, &and_then);
    let mut shell = Service::start(bed, &["sh", &script], PORT);
    Load::start(bed, &bed.url(PORT, "page"), REQUESTS).disturbed_by(|| {
        let before = shell.processes("haproxy -D", "sh ");
        shell.signal(libc::SIGUSR1);
        wait(|| {
            let now = shell.processes("haproxy -D", "sh ");
            now.len() == 1 && now.is_disjoint(&before)
        });
    });
    shell.end(libc::SIGTERM);
}
