//! A suite on one side: in fresh namespaces, on the kernel or under mtcp-run.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{Outcomes, directory, make_directory};
use crate::shell::{Error, at};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Kernel,
    Stack,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Kernel => "the kernel",
            Side::Stack => "the stack",
        })
    }
}

/// What runs in the namespaces: the loopback comes up, then the program, and what the kernel's TCP has
/// done meanwhile is written down.
const INSIDE: &str =
    r#"ip link set lo up && "$@"; status=$?; cat /proc/net/snmp >>"$COUNTERS"; exit $status"#;

/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// A directory, and the side that what lies there belongs to.
pub struct Place {
    side: Side,
    programs: PathBuf,
    /// Where a suite may do as it likes.
    pub directory: PathBuf,
}

impl Place {
    /// An empty log and no outcomes, for a part on a side.
    pub fn new(side: Side, part: &str, programs: &Path) -> Result<Place, Error> {
        let place = Place::left(side, part, programs);
        make_directory(&place.directory)?;
        for file in [place.log(), place.counters()] {
            File::create(&file).map_err(at(file))?;
        }
        Ok(place)
    }

    /// What the last run of a part on a side has left.
    pub fn left(side: Side, part: &str, programs: &Path) -> Place {
        let name = match side {
            Side::Kernel => "kernel",
            Side::Stack => "stack",
        };
        Place {
            side,
            programs: programs.to_owned(),
            directory: directory().join(name).join(part),
        }
    }

    /// What the suite has printed.
    pub fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn counters(&self) -> PathBuf {
        self.directory.join("kernel-counters")
    }

    /// Runs a command in fresh namespaces, its output to the log, until it ends; all processes of it
    /// are ended once nothing has been printed for `stall`. Whether it ended by itself.
    pub fn run(&self, command: &[&str], within: &Path, stall: Duration) -> Result<bool, Error> {
        let log = File::options().append(true).open(self.log());
        let log = log.map_err(at(self.log()))?;
        let mut run = Command::new("unshare");
        run.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", INSIDE, "sh"])
            .env("COUNTERS", self.counters())
            .current_dir(within)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(at(self.log()))?)
            .stderr(log);
        if self.side == Side::Stack {
            let launcher = self.programs.join("mtcp-run");
            run.arg(launcher);
            run.args(["--device", "none", "--loopback", "stack", "--"]);
        }
        let child = run.args(command).spawn();
        let child = child.map_err(|error| Error::NotStarted {
            line: testbed::describe(&run),
            error,
        })?;
        self.watch(child, stall)
    }

    fn watch(&self, mut child: Child, stall: Duration) -> Result<bool, Error> {
        let ended = |error| Error::Other(format!("cannot wait for the suite: {error}"));
        let (mut size, mut since) = (self.size(), Instant::now());
        loop {
            if child.try_wait().map_err(ended)?.is_some() {
                return Ok(true);
            }
            thread::sleep(LOOK);
            let now = self.size();
            if now != size {
                (size, since) = (now, Instant::now());
            } else if since.elapsed() > stall {
                // The namespace's first process goes with it, and takes all others along.
                child.kill().map_err(ended)?;
                child.wait().map_err(ended)?;
                return Ok(false);
            }
        }
    }

    fn size(&self) -> u64 {
        fs::metadata(self.log()).map_or(0, |log| log.len())
    }

    /// What was printed so far, colours left out.
    pub fn printed(&self) -> Result<String, Error> {
        let bytes = fs::read(self.log()).map_err(at(self.log()))?;
        Ok(plain(&String::from_utf8_lossy(&bytes)))
    }

    /// TCP connections that the kernel has opened or accepted in the runs that ended by themselves.
    pub fn kernel_connections(&self) -> Option<u64> {
        opened(&fs::read_to_string(self.counters()).ok()?)
    }

    fn outcomes(&self) -> PathBuf {
        self.directory.join("outcomes")
    }

    /// Writes the outcomes down.
    pub fn keep(&self, outcomes: &Outcomes) -> Result<(), Error> {
        let lines: String = outcomes
            .iter()
            .map(|(test, outcome)| format!("{outcome}\t{test}\n"))
            .collect();
        let file = self.outcomes();
        fs::write(&file, lines).map_err(at(file))
    }

    /// The outcomes that were written down last.
    pub fn kept(&self) -> Result<Outcomes, Error> {
        let file = self.outcomes();
        let text = fs::read_to_string(&file).map_err(at(file))?;
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        Ok(lines
            .map(|(outcome, test)| (test.to_owned(), outcome.to_owned()))
            .collect())
    }
}

/// The sum of ActiveOpens over /proc/net/snmp's of several runs: on the loopback, what was accepted was
/// opened there, too.
fn opened(counters: &str) -> Option<u64> {
    let mut lines = counters.lines().filter(|line| line.starts_with("Tcp:"));
    let mut sum = None;
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let at = names.split(' ').position(|name| name == "ActiveOpens")?;
        let opens: u64 = values.split(' ').nth(at)?.parse().ok()?;
        sum = Some(sum.unwrap_or(0) + opens);
    }
    sum
}

/// Text without terminal control sequences.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            // CSI: up to and with a letter.
            rest.by_ref().find(char::is_ascii_alphabetic);
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_left_out() {
        assert_eq!(plain("[\u{1b}[0;32;49mok\u{1b}[0m]: a"), "[ok]: a");
    }

    #[test]
    fn connections_of_several_runs_are_added() {
        let one = "Ip: A\nIp: 1\nTcp: RtoMin ActiveOpens PassiveOpens\nTcp: 200 7 3\n";
        assert_eq!(opened(&one.repeat(2)), Some(14));
        assert_eq!(opened(""), None);
    }
}
