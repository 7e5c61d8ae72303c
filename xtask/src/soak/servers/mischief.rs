//! What is done to the servers while they are under load.

use std::path::Path;
use std::time::{Duration, Instant};

use testbed::{LIMIT, postgresql, signal, until};

use super::Soak;

/// Does one thing after the other, as a seed decides.
pub struct Mischief<'a> {
    soak: &'a Soak,
    random: u64,
}

const WORKER: &str = "nginx: worker process";

impl<'a> Mischief<'a> {
    pub fn new(soak: &'a Soak, seed: u64) -> Mischief<'a> {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Mischief { soak, random }
    }

    /// A number below `n` (xorshift64).
    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % n
    }

    /// Waits a while, then does something.
    pub fn happen(&mut self) {
        let pause = Duration::from_millis(100 + self.below(900));
        until(Instant::now() + pause, || self.soak.failure().is_some());
        match self.below(20) {
            0..5 => drop(self.tell("nginx: master process", libc::SIGHUP)),
            5..9 => self.kill_nginx_worker(),
            9..12 => self.redis_cli("bgsave"),
            12..14 => drop(self.tell("redis-rdb-bgsave", libc::SIGKILL)),
            14..16 => drop(self.tell("postgres/data", libc::SIGHUP)),
            16 => self.kill_backend(),
            _ => self.kill_client(),
        }
    }

    /// Remembers what is being done, for the text of a failure.
    fn note(&self, what: String) {
        self.soak.deeds.add(what);
    }

    /// The servers' processes with `title` in their command lines.
    fn processes(&self, title: &str) -> Vec<u32> {
        let processes = self.soak.bed.server.namespace().processes().into_iter();
        let is_it = |line: &str| {
            line.contains(title) && !line.contains("mtcp-run") && !line.contains("shutting down")
        };
        let found = processes.filter(|(_, line)| is_it(line));
        found.map(|(pid, _)| pid).collect()
    }

    /// Sends a signal to one of them, if there are any, and answers which.
    fn tell(&mut self, title: &str, number: i32) -> Option<u32> {
        let found = self.processes(title);
        if found.is_empty() {
            return None;
        }
        let told = found[self.below(found.len() as u64) as usize];
        self.note(format!("signal {number} to {title} ({told})"));
        // It may have ended meanwhile.
        let _ = signal(told, number);
        Some(told)
    }

    fn redis_cli(&self, command: &str) {
        let host = self.soak.bed.address.to_string();
        self.note(format!("redis-cli {command}"));
        // "Already in progress" is as good.
        self.soak
            .bed
            .client
            .run("redis-cli", &["-h", &host, command]);
    }

    /// The connections that the worker has accepted are lost; the master starts another.
    fn kill_nginx_worker(&mut self) {
        let soak = self.soak;
        soak.nginx.excuse(|| {
            let killed = self.tell(WORKER, libc::SIGKILL);
            let replaced = || {
                let workers = self.processes(WORKER);
                workers.len() >= 2 && !killed.is_some_and(|pid| workers.contains(&pid))
            };
            if !until(Instant::now() + LIMIT, replaced) {
                soak.nginx.fail("the killed worker was not replaced");
            }
        });
    }

    /// PostgreSQL then ends all other backends, as their memory may be damaged, and recovers.
    fn kill_backend(&mut self) {
        let soak = self.soak;
        soak.postgresql.excuse(|| {
            let Some(killed) = self.tell("postgres: postgres postgres", libc::SIGKILL) else {
                return;
            };
            // Until its parent has noticed the death, PostgreSQL serves as before.
            let is_noticed = || !Path::new(&format!("/proc/{killed}")).exists();
            let recovered = || is_noticed() && postgresql::is_ready(&soak.bed);
            if !until(Instant::now() + LIMIT, recovered) {
                soak.postgresql.fail("it has not recovered");
            }
        });
    }

    /// A client with twenty connections is gone in the midst of its requests.
    fn kill_client(&mut self) {
        let soak = self.soak;
        let host = soak.bed.address.to_string();
        let arguments = [
            "-h", &host, "-c", "20", "-d", "10000", "-l", "-t", "set,get", "-q",
        ];
        let client = soak.bed.client.start("redis-benchmark", &arguments);
        let pause = Duration::from_millis(50 + self.below(300));
        until(Instant::now() + pause, || false);
        self.note("a client is killed".to_owned());
        client.signal(libc::SIGKILL);
        client.finish(LIMIT);
    }
}
