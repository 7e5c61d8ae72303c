//! `cargo xtask soak --servers`: nginx, redis and PostgreSQL on one stack, under mixed load, while
//! their processes are forked, reloaded and killed at random.
//!
//! A request may fail only while a process of its own server is being killed. The stack's memory
//! and descriptors must not grow.

mod clients;
mod footprint;
mod mischief;
mod tally;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use testbed::{LIMIT, Program, Testbed, postgresql, servers, until};

use crate::shell::Error;
use clients::{Pages, Transactions, Values};
use footprint::{Footprint, History};
use mischief::Mischief;
use tally::{Deeds, Tally};

/// Connections in TIME-WAIT take memory for 60 s, and their table is full within the first third.
const LEAST: Duration = Duration::from_secs(300);
/// Between two looks at what the stack holds.
const INTERVAL: Duration = Duration::from_secs(5);
/// Looks between two reports.
const LOOKS: usize = 12;

/// The servers, all on one stack.
pub struct Soak {
    bed: Testbed,
    launcher: u32,
    nginx: Tally,
    redis: Tally,
    postgresql: Tally,
    deeds: Deeds,
}

/// Runs for `time`. The seed decides what is done to the servers, though not when it hits them.
///
/// # Errors
/// The first request that failed without excuse, what has grown, or what is left at the end.
pub fn run(time: Duration, seed: u64) -> Result<(), Error> {
    if time < LEAST {
        let text = "needs five minutes, the first third of them to fill the table of TIME-WAIT";
        return Err(Error::Other(text.to_owned()));
    }
    eprintln!("seed {seed}");
    let (soak, program) = start();
    let result = soak.run(time, seed);
    program.stop(LIMIT);
    soak.bed.assert_nothing_left();
    result.map_err(Error::Other)
}

/// Starts the servers with one `mtcp-run`, which ends them all.
fn start() -> (Soak, Program) {
    let bed = Testbed::server_on_tap();
    let root = bed.path("site");
    fs::create_dir(&root).expect("a directory for the site");
    fs::write(root.join("page"), [b'x'; clients::PAGE]).expect("a page");
    let directory = bed.path("").display().to_string();
    let nginx = servers::nginx_configuration(&bed.path(""), &root, 80)
        .replace("daemon off;", "daemon on;")
        .replace("master_process off;", "worker_processes 2;")
        .replace("error_log stderr;", "error_log /dev/null;");
    fs::write(bed.path("nginx.conf"), nginx).expect("a configuration");
    let script = format!(
        "cd {directory}
nginx -e /dev/null -c {directory}/nginx.conf
redis-server --daemonize yes --bind 0.0.0.0 --protected-mode no --save '' --dir {directory} >/dev/null
exec {}",
        postgresql::prepare(&bed).join(" ")
    );
    let mut program = bed.server.start("sh", &["-euc", &script]);
    for port in [80, 6379, postgresql::PORT] {
        bed.wait_for_server(&mut program, port);
    }
    program.wait_until("accepts queries", LIMIT, |_| postgresql::is_ready(&bed));
    postgresql::pgbench(&bed, &["-i", "-s", "1", "-q"]).expect_success("pgbench");
    let soak = Soak {
        launcher: program.pid(),
        bed,
        nginx: Tally::new("nginx"),
        redis: Tally::new("redis"),
        postgresql: Tally::new("PostgreSQL"),
        deeds: Deeds::default(),
    };
    (soak, program)
}

impl Soak {
    fn run(&self, time: Duration, seed: u64) -> Result<(), String> {
        let start = Instant::now();
        let goes_on = || start.elapsed() < time && self.failure().is_none();
        let pages = Pages(&self.bed);
        let values = Values(&self.bed);
        let transactions = Transactions(&self.bed);
        let mut history = History::default();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    self.nginx
                        .count_while(&self.deeds, goes_on, || pages.request())
                });
            }
            for n in 0..2 {
                let values = &values;
                scope.spawn(move || {
                    self.redis
                        .count_while(&self.deeds, goes_on, || values.request(n))
                });
            }
            for fresh in [false, true] {
                let transactions = &transactions;
                let request = move || transactions.request(fresh);
                scope.spawn(move || self.postgresql.count_while(&self.deeds, goes_on, request));
            }
            scope.spawn(|| {
                let mut mischief = Mischief::new(self, seed);
                while goes_on() {
                    mischief.happen();
                }
            });
            for look in 1.. {
                until(Instant::now() + INTERVAL, || !goes_on());
                if !goes_on() {
                    return;
                }
                let footprint = Footprint::of(self.launcher);
                history.add(footprint);
                if look % LOOKS == 0 {
                    let seconds = start.elapsed().as_secs();
                    eprintln!("{seconds:5} s  {self}  {footprint}");
                }
            }
        });
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let flat = history.judge()?;
        eprintln!("no request failed without excuse: {self}; {flat}");
        Ok(())
    }

    fn failure(&self) -> Option<String> {
        let tallies = [&self.nginx, &self.redis, &self.postgresql];
        tallies.into_iter().find_map(Tally::failure)
    }
}

impl std::fmt::Display for Soak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}  {}  {}", self.nginx, self.redis, self.postgresql)
    }
}
