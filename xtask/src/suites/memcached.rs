//! memcached's tests (Perl), against a memcached built from the same source as they want it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::side::Place;
use super::{Outcomes, sources};
use crate::shell::{Error, run as run_visibly};

/// Longest time of one file of tests.
const LIMIT: u64 = 120;
/// Each file in turn, and how it ended.
const FILES: &str = r#"for file in t/*.t; do
    timeout -k 5 "$1" perl -I t/lib "$file" 2>&1
    echo "== $file $?"
done"#;

fn tree(place: &Place) -> PathBuf {
    place.directory.join("tree")
}

pub fn prepare(place: &Place, _: &str) -> Result<(), Error> {
    let source = sources::fetch("memcached")?;
    if !source.join("memcached-debug").exists() {
        let steps: [&[&str]; 2] = [
            &["./configure", "--quiet", "--enable-tls"],
            &[
                "make",
                "-s",
                "memcached-debug",
                "timedrun",
                "testapp",
                "sizes",
            ],
        ];
        steps.iter().try_for_each(|step| {
            run_visibly(Command::new(step[0]).args(&step[1..]).current_dir(&source))
        })?;
    }
    sources::copy(&source, &tree(place))
}

pub fn run(place: &Place, _: &str) -> Result<Outcomes, Error> {
    let limit = LIMIT.to_string();
    let stall = Duration::from_secs(LIMIT + 30);
    place.run(&["sh", "-c", FILES, "sh", &limit], &tree(place), stall)?;
    Ok(outcomes(&place.printed()?))
}

/// A test is a line of the Test Anything Protocol, numbered by its file; a file is one more, which says
/// how it ended.
fn outcomes(printed: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut tests: Vec<(String, &str)> = Vec::new();
    for line in printed.lines() {
        if let Some(end) = line.strip_prefix("== ") {
            let (file, status) = end.rsplit_once(' ').unwrap_or((end, ""));
            for (number, outcome) in tests.drain(..) {
                outcomes.insert(format!("{file} {number}"), outcome.to_owned());
            }
            let outcome = match status {
                "0" => "ok",
                "124" | "137" => "hung",
                _ => "failed",
            };
            outcomes.insert(file.to_owned(), outcome.to_owned());
            continue;
        }
        let (rest, outcome) = match line.strip_prefix("not ok ") {
            Some(rest) => (Some(rest), "failed"),
            None => (line.strip_prefix("ok "), "ok"),
        };
        let number = rest.and_then(|rest| rest.split(' ').next());
        if let Some(number) = number.filter(|n| n.parse::<u32>().is_ok()) {
            let skipped = line.contains(" # skip") || line.contains(" # TODO");
            tests.push((number.to_owned(), if skipped { "skipped" } else { outcome }));
        }
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_files_are_counted() {
        let outcomes = outcomes("1..2\nok 1 - a\nnot ok 2\n== t/x.t 1\nok 1\n== t/y.t 124\n");
        assert_eq!(outcomes["t/x.t 1"], "ok");
        assert_eq!(outcomes["t/x.t 2"], "failed");
        assert_eq!(outcomes["t/x.t"], "failed");
        assert_eq!(outcomes["t/y.t"], "hung");
        assert_eq!(outcomes.len(), 5);
    }
}
