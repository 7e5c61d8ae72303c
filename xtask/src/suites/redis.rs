//! redis's tests (Tcl), against Debian's redis.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::side::Place;
use super::{Outcomes, sources};
use crate::shell::{Error, at};

/// Programs that the tests expect beside the sources.
const PROGRAMS: [&str; 5] = [
    "redis-server",
    "redis-cli",
    "redis-benchmark",
    "redis-check-aof",
    "redis-check-rdb",
];
/// The tests' own limit on one of them, seconds.
const LIMIT: &str = "240";
const STALL: Duration = Duration::from_secs(400);

fn tree(place: &Place) -> PathBuf {
    place.directory.join("tree")
}

pub fn prepare(place: &Place, _: &str) -> Result<(), Error> {
    let tree = tree(place);
    sources::copy(&sources::fetch("redis")?, &tree)?;
    for program in PROGRAMS {
        let link = tree.join("src").join(program);
        symlink(Path::new("/usr/bin").join(program), &link).map_err(at(link))?;
    }
    // Servers write their files here.
    let scratch = tree.join("tests/tmp");
    fs::create_dir_all(&scratch).map_err(at(scratch))
}

pub fn run(place: &Place, _: &str) -> Result<Outcomes, Error> {
    let run = ["tclsh", "tests/test_helper.tcl", "--clients", "1"];
    let limits = ["--durable", "--timeout", LIMIT];
    place.run(&[&run[..], &limits].concat(), &tree(place), STALL)?;
    Ok(outcomes(&place.printed()?))
}

/// `[ok]: name (5 ms)`, `[err]: name in tests/unit/x.tcl`, `[ignore]: name…`; a unit of tests begins with
/// `Testing unit/x`.
fn outcomes(printed: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut unit = "";
    for line in printed.lines() {
        if let Some(name) = line.strip_prefix("Testing ") {
            unit = name.trim();
        }
        let Some((mark, name)) = line.strip_prefix('[').and_then(|l| l.split_once("]: ")) else {
            continue;
        };
        let outcome = match mark {
            "ok" => "ok",
            "err" | "exception" => "failed",
            "timeout" => "hung",
            "ignore" | "skip" => "skipped",
            _ => continue,
        };
        let name = name.split(" in tests/").next().unwrap_or(name);
        let name = without_time(name);
        let base = format!("{unit}: {}", name.trim());
        // Some tests are run several times by one name.
        let name = (1..)
            .map(|n| {
                if n == 1 {
                    base.clone()
                } else {
                    format!("{base} #{n}")
                }
            })
            .find(|name| !outcomes.contains_key(name));
        outcomes.insert(name.unwrap_or(base), outcome.to_owned());
    }
    outcomes
}

/// Leaves out what a test took: ` (5 ms)`.
fn without_time(name: &str) -> &str {
    match name.rsplit_once(" (") {
        Some((name, time)) if time.ends_with(" ms)") => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runners_lines_are_understood() {
        let printed = "Testing unit/a\n[ok]: x (5 ms)\n[ok]: x (6 ms)\n[err]: y in tests/unit/a.tcl\n\
                       [ignore]: z: no\n[1/2 done]: unit/a (1 seconds)\n[testing]: w\n";
        let outcomes = outcomes(printed);
        assert_eq!(outcomes["unit/a: x"], "ok");
        assert_eq!(outcomes["unit/a: x #2"], "ok");
        assert_eq!(outcomes["unit/a: y"], "failed");
        assert_eq!(outcomes["unit/a: z: no"], "skipped");
        assert_eq!(outcomes.len(), 4);
    }
}
