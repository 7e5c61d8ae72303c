//! `cargo xtask soak`: the tests over faulty links, with ever new seeds; or servers under load while
//! their processes are forked, reloaded and killed.

mod servers;

use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use testbed::{artifacts, describe};

use crate::setup;
use crate::shell::{Error, build_programs, cargo, need_root, run as run_visibly};

#[derive(Args)]
pub struct Options {
    /// Only the links that are simulated in one process, not the transfers with the kernel over a
    /// TAP: needs no root.
    #[arg(long)]
    link: bool,
    /// Instead of the tests: nginx, redis and PostgreSQL on one stack under mixed load, while their
    /// processes are reloaded and killed at random.
    #[arg(long, conflicts_with = "link")]
    servers: bool,
    /// How long to go on; the round that is under way then is finished.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// The first seed; otherwise a new one, by the clock.
    #[arg(long)]
    from: Option<u64>,
    /// Seeds in a round. (The transfers with the kernel take the first of them.)
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    runs: u64,
}

/// A test that draws what happens from a seed.
struct Soaked {
    /// The package and the target, as cargo wants them.
    target: &'static [&'static str],
    /// Which tests of the target; all if empty.
    filter: &'static str,
    /// Whether one call goes through a range of seeds.
    ranges: bool,
}

const SIMULATED: [Soaked; 2] = [
    Soaked {
        target: &["-p", "engine", "--lib"],
        filter: "tcp::tests::link::",
        ranges: true,
    },
    Soaked {
        target: &["-p", "engine", "--test", "worker"],
        filter: "link::whole_streams",
        ranges: true,
    },
];

const WITH_THE_KERNEL: Soaked = Soaked {
    target: &["-p", "mtcp", "--test", "faulty_link"],
    filter: "",
    ranges: false,
};

impl Soaked {
    fn build(&self) -> Result<(), Error> {
        run_visibly(cargo(&["test", "--no-run"]).args(self.target))
    }

    /// The seeds of a round that this test uses.
    fn takes(&self, round: &Range<u64>) -> Range<u64> {
        match self.ranges {
            true => round.clone(),
            false => round.start..round.start + 1,
        }
    }

    fn command(&self, seeds: &Range<u64>) -> Command {
        let mut command = cargo(&["test", "--quiet"]);
        command.args(self.target).arg(self.filter);
        if self.ranges {
            command.env("MTCP_TEST_FROM", seeds.start.to_string());
            command.env("MTCP_TEST_RUNS", (seeds.end - seeds.start).to_string());
            command.env_remove("MTCP_TEST_SEED");
        } else {
            command.env("MTCP_TEST_SEED", seeds.start.to_string());
        }
        command
    }

    fn run(&self, seeds: &Range<u64>, programs: Option<&Path>) -> Result<(), Error> {
        let mut command = self.command(seeds);
        if let Some(programs) = programs {
            command.env(artifacts::DIRECTORY_VARIABLE, programs);
        }
        let line = describe(&command);
        let output = command.output().map_err(|error| Error::NotStarted {
            line: line.clone(),
            error,
        })?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        if output.status.success() && has_run(&text) {
            return Ok(());
        }
        eprintln!("{text}");
        let seed = match failed_seed(&text) {
            Some(seed) => format!("seed {seed}: MTCP_TEST_SEED={seed} {line}"),
            None if !self.ranges => {
                format!("seed {0}: MTCP_TEST_SEED={0} {line}", seeds.start)
            }
            None => format!("one of the seeds {seeds:?}: {line}"),
        };
        Err(Error::Other(format!(
            "failed ({}) with {seed}",
            output.status
        )))
    }
}

/// Whether a test has run at all: a filter that nothing matches is no success.
fn has_run(output: &str) -> bool {
    output
        .lines()
        .filter_map(|line| line.strip_prefix("test result: ok. "))
        .any(|counts| !counts.starts_with("0 passed"))
}

/// The seed that a failed test has named.
fn failed_seed(output: &str) -> Option<u64> {
    let (_, rest) = output.split_once("MTCP_TEST_SEED=")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Far from the seeds of other days, and with room for thousands of rounds before the next second's.
fn seed_of_the_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() * 1_000_000)
}

/// Runs round after round, or the servers, until the time is up.
///
/// # Errors
/// The first failure, with the seed that repeats it.
pub fn run(options: &Options) -> Result<(), Error> {
    let mut tests = Vec::from(SIMULATED);
    let mut programs = None;
    if !options.link {
        need_root("the transfers with the kernel (not `--link`)")?;
        setup::provide()?;
        programs = Some(build_programs()?);
        tests.push(WITH_THE_KERNEL);
    }
    if options.servers {
        let programs = programs.expect("built above: not `--link`");
        artifacts::use_directory(programs);
        let seed = options.from.unwrap_or_else(seed_of_the_clock);
        return servers::run(Duration::from_secs(options.minutes * 60), seed);
    }
    tests.iter().try_for_each(Soaked::build)?;

    let (start, limit) = (Instant::now(), Duration::from_secs(options.minutes * 60));
    let first = options.from.unwrap_or_else(seed_of_the_clock);
    let mut next = first;
    loop {
        let round = next..next.saturating_add(options.runs);
        for test in &tests {
            let seeds = test.takes(&round);
            eprint!("seeds {seeds:?}: {} {}", test.target.join(" "), test.filter);
            let start = Instant::now();
            let result = test.run(&seeds, programs.as_deref());
            let verdict = if result.is_ok() { "passed" } else { "FAILED" };
            eprintln!(" {verdict} ({:.0} s)", start.elapsed().as_secs_f64());
            result?;
        }
        next = round.end;
        if start.elapsed() >= limit {
            let minutes = start.elapsed().as_secs_f64() / 60.0;
            eprintln!("all seeds {first}..{next} passed in {minutes:.1} minutes");
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_of_a_failure_is_found_in_what_the_test_says() {
        let output = "running 1 test\nMTCP_TEST_SEED=1234 repeats it: Run {}\nMTCP_TEST_SEED=9";
        assert_eq!(failed_seed(output), Some(1234));
        assert_eq!(failed_seed("error: could not compile"), None);
    }

    #[test]
    fn a_filter_that_matches_no_test_is_no_success() {
        assert!(has_run(
            "\ntest result: ok. 1 passed; 0 failed; 3 filtered out"
        ));
        assert!(!has_run(
            "\ntest result: ok. 0 passed; 0 failed; 4 filtered out"
        ));
    }

    #[test]
    fn a_round_s_seeds_are_given_as_the_test_takes_them() {
        let variable = |test: &Soaked, name: &str| {
            let command = test.command(&test.takes(&(70..90)));
            let mut set = command.get_envs().filter(|(key, _)| *key == name);
            let value = set.next().and_then(|(_, value)| value)?;
            value.to_str().map(str::to_owned)
        };
        let simulated = |name| variable(&SIMULATED[0], name);
        assert_eq!(simulated("MTCP_TEST_FROM").as_deref(), Some("70"));
        assert_eq!(simulated("MTCP_TEST_RUNS").as_deref(), Some("20"));
        let seed = variable(&WITH_THE_KERNEL, "MTCP_TEST_SEED");
        assert_eq!(seed.as_deref(), Some("70"));
    }
}
