//! CPython's tests of what uses sockets, from Debian's libpython3.11-testsuite.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::Outcomes;
use super::side::Place;
use crate::shell::{Error, at};

/// The modules of the package `test`.
pub const MODULES: [&str; 19] = [
    "test_select",
    "test_selectors",
    "test_poll",
    "test_epoll",
    "test_timeout",
    "_test_eintr",
    "test_socket",
    "test_socketserver",
    "test_ssl",
    "test_httplib",
    "test_httpservers",
    "test_wsgiref",
    "test_ftplib",
    "test_poplib",
    "test_imaplib",
    "test_smtplib",
    "test_xmlrpc",
    "test_urllib2_localnet",
    "test_asyncio",
];

const PYTHON: &str = "/usr/bin/python3.11";
/// What runs a module's tests and writes a line for each.
const DRIVER: &str = include_str!("cpython.py");
/// A test that takes longer has hung. Some take a minute on the kernel.
const LIMIT: Duration = Duration::from_secs(120);
/// How often a module is taken up again behind a test that hung.
const ATTEMPTS: usize = 40;

pub fn prepare(place: &Place, _: &str) -> Result<(), Error> {
    let driver = driver(place);
    fs::write(&driver, DRIVER).map_err(at(driver))?;
    fs::write(lines(place), "").map_err(at(lines(place)))
}

fn driver(place: &Place) -> PathBuf {
    place.directory.join("cpython.py")
}

fn lines(place: &Place) -> PathBuf {
    place.directory.join("lines")
}

pub fn run(place: &Place, module: &str) -> Result<Outcomes, Error> {
    let (driver, file) = (driver(place), lines(place));
    let (module, limit) = (format!("test.{module}"), LIMIT.as_secs().to_string());
    let words = [driver.to_string_lossy(), file.to_string_lossy()];
    let command = [PYTHON, &words[0], &module, &words[1], &limit];
    let mut before = String::new();
    for _ in 0..ATTEMPTS {
        // The driver ends by itself after a test that hangs, but not what that has started.
        place.run(&command, &place.directory, LIMIT + LIMIT / 4)?;
        let now = fs::read_to_string(&file).map_err(at(&file))?;
        if now.lines().any(|line| line == "done") {
            return Ok(outcomes(&now));
        }
        if now == before {
            let text = format!("{module} does not run: see {}", place.log().display());
            return Err(Error::Other(text));
        }
        before = now;
    }
    Ok(outcomes(&before))
}

/// The driver's lines: what began and has not ended has hung.
fn outcomes(lines: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in lines.lines() {
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("begin"), Some(test), None) => outcomes.insert(short(test), "hung".to_owned()),
            (Some("end"), Some(test), Some(end)) => outcomes.insert(short(test), end.to_owned()),
            _ => None,
        };
    }
    outcomes
}

/// A test's name without its package.
fn short(test: &str) -> String {
    test.strip_prefix("test.").unwrap_or(test).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_without_an_end_has_hung() {
        let outcomes =
            outcomes("begin test.a.b\nend test.a.b failed as expected\nbegin test.a.c\n");
        assert_eq!(outcomes["a.b"], "failed as expected");
        assert_eq!(outcomes["a.c"], "hung");
    }
}
