//! What came of the requests to one server, and what was done to it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The requests to one server.
pub struct Tally {
    name: &'static str,
    done: AtomicU64,
    excused: AtomicU64,
    /// Odd while a process of the server is being killed and replaced.
    kills: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl Tally {
    /// Of a server by that name.
    pub fn new(name: &'static str) -> Tally {
        Tally {
            name,
            done: AtomicU64::new(0),
            excused: AtomicU64::new(0),
            kills: AtomicU64::new(0),
            failure: Mutex::new(None),
        }
    }

    /// Makes requests one after the other; each answers how many it was. One that fails ends the
    /// soak, unless a process of the server was being killed meanwhile.
    pub fn count_while(
        &self,
        deeds: &Deeds,
        goes_on: impl Fn() -> bool,
        request: impl Fn() -> Result<u64, String>,
    ) {
        while goes_on() {
            let before = self.kills.load(Ordering::SeqCst);
            let start = Instant::now();
            match request() {
                Ok(count) => drop(self.done.fetch_add(count, Ordering::Relaxed)),
                Err(_) if before % 2 == 1 || self.kills.load(Ordering::SeqCst) != before => {
                    self.excused.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    let after = start.elapsed().as_secs_f64();
                    self.fail(&format!("{error}, {after:.3} s after its start{deeds}"));
                }
            }
        }
    }

    /// Does `work`, which kills a process of the server and waits for the next one: requests that
    /// fail meanwhile are excused.
    pub fn excuse(&self, work: impl FnOnce()) {
        self.kills.fetch_add(1, Ordering::SeqCst);
        work();
        self.kills.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends the soak; the first failure is kept.
    pub fn fail(&self, error: &str) {
        let mut failure = self.failure.lock().expect("nobody panics with it");
        failure.get_or_insert_with(|| format!("{}: {error}", self.name));
    }

    /// What ended the soak.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().expect("nobody panics with it").clone()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let (done, excused) = (count(&self.done), count(&self.excused));
        write!(f, "{} {done} (+{excused} killed)", self.name)
    }
}

/// What was done to the servers last.
#[derive(Default)]
pub struct Deeds(Mutex<VecDeque<(Instant, String)>>);

impl Deeds {
    /// Adds one; the last eight are kept.
    pub fn add(&self, what: String) {
        let mut deeds = self.0.lock().expect("nobody panics with it");
        deeds.push_back((Instant::now(), what));
        if deeds.len() > 8 {
            deeds.pop_front();
        }
    }
}

impl fmt::Display for Deeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deeds = self.0.lock().expect("nobody panics with it");
        deeds.iter().try_for_each(|(at, what)| {
            let before = at.elapsed().as_secs_f64();
            write!(f, "\n  {before:.3} s before: {what}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// One request that fails, and what becomes of it when `meanwhile` happens.
    fn failing(meanwhile: impl Fn(&Tally)) -> Tally {
        let tally = Tally::new("server");
        let first = Cell::new(true);
        let request = || {
            meanwhile(&tally);
            Err("gone".to_owned())
        };
        tally.count_while(&Deeds::default(), || first.replace(false), request);
        tally
    }

    #[test]
    fn a_failed_request_is_remembered() {
        let failure = failing(|_| ()).failure().expect("it is remembered");
        assert!(failure.starts_with("server: gone, 0.0"), "{failure}");
    }

    #[test]
    fn a_request_that_fails_while_a_process_is_killed_is_excused() {
        let tally = failing(|tally| tally.excuse(|| ()));
        assert_eq!(tally.failure(), None);
        assert_eq!(tally.to_string(), "server 0 (+1 killed)");
    }
}
