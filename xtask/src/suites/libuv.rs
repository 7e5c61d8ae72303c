//! libuv's own tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Outcomes;
use super::side::Place;
use super::sources;
use crate::shell::{Error, run as run_visibly};

/// The runner gives each test five seconds or a few minutes, and prints when it is over.
const STALL: Duration = Duration::from_secs(150);

fn runner(source: &Path) -> PathBuf {
    source.join("test/.libs/run-tests")
}

pub fn prepare(_: &Place, _: &str) -> Result<(), Error> {
    let source = sources::fetch("libuv1")?;
    if runner(&source).exists() {
        return Ok(());
    }
    let steps: [&[&str]; 3] = [
        &["./autogen.sh"],
        &["./configure", "--quiet"],
        &["make", "-s", "-j2", "check", "TESTS="],
    ];
    steps.iter().try_for_each(|step| {
        run_visibly(Command::new(step[0]).args(&step[1..]).current_dir(&source))
    })
}

pub fn run(place: &Place, _: &str) -> Result<Outcomes, Error> {
    let source = sources::fetch("libuv1")?;
    let runner = runner(&source);
    // As Debian's build does not, we run as root.
    let command = ["env", "UV_RUN_AS_ROOT=1", &runner.to_string_lossy()];
    place.run(&command, &source, STALL)?;
    let mut all = outcomes(&place.printed()?);
    // A process that one test leaves behind may hold the port that others want: what counts is how a
    // test ends that is alone.
    for (name, outcome) in all.iter_mut().filter(|(_, outcome)| *outcome == "failed") {
        let before = place.printed()?.len();
        place.run(&[&command[..], &[name]].concat(), &source, STALL)?;
        let alone = outcomes(&place.printed()?[before..]);
        *outcome = alone.get(name).cloned().unwrap_or("hung".to_owned());
    }
    Ok(all)
}

/// Lines of the Test Anything Protocol: `not ok 48 - fs_copyfile`.
fn outcomes(printed: &str) -> Outcomes {
    let line = |line: &str| {
        let (failed, rest) = match line.strip_prefix("not ") {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let (_, rest) = rest.strip_prefix("ok ")?.split_once(" - ")?;
        let (name, skipped) = match rest.split_once(" # SKIP") {
            Some((name, _)) => (name, true),
            None => (rest, false),
        };
        let outcome = match (failed, skipped) {
            (true, _) => "failed",
            (_, true) => "skipped",
            _ => "ok",
        };
        Some((name.trim().to_owned(), outcome.to_owned()))
    };
    printed.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runners_lines_are_understood() {
        let outcomes =
            outcomes("1..3\nok 1 - a\nnot ok 2 - b\n# exit code 6\nok 3 - c # SKIP why\n");
        let ends = ["a", "b", "c"].map(|test| outcomes[test].as_str());
        assert_eq!(ends, ["ok", "failed", "skipped"]);
        assert_eq!(outcomes.len(), 3);
    }
}
