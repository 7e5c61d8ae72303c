//! Running commands, visibly.

use std::any::Any;
use std::env;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use testbed::{artifacts, describe};
use thiserror::Error;

/// Why a task has failed.
#[derive(Debug, Error)]
pub enum Error {
    /// A command could not be started.
    #[error("cannot run `{line}`: {error}")]
    NotStarted {
        /// The command.
        line: String,
        /// What the system said.
        error: io::Error,
    },
    /// A command has failed.
    #[error("`{line}` has failed ({status})")]
    Failed {
        /// The command.
        line: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

/// Attaches the file's name to its error.
pub fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into().display().to_string();
    move |error| Error::File { path, error }
}

/// Prints the command, runs it on our own terminal, and waits for its end.
pub fn run(command: &mut Command) -> Result<(), Error> {
    eprintln!("$ {}", describe(command));
    let status = command.status();
    check(command, status)
}

fn check(command: &Command, status: io::Result<ExitStatus>) -> Result<(), Error> {
    let line = describe(command);
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::Failed { line, status }),
        Err(error) => Err(Error::NotStarted { line, error }),
    }
}

/// What a command prints, without the last line's end.
pub fn output(command: &mut Command) -> Result<String, Error> {
    let output = command.output();
    let text = output
        .as_ref()
        .map(|output| output.stdout.clone())
        .unwrap_or_default();
    check(command, output.map(|output| output.status))?;
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// A cargo command in the workspace.
pub fn cargo(arguments: &[&str]) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(artifacts::workspace());
    command
}

/// Builds every program that the tests and benchmarks run and answers the directory that has them;
/// a directory named by `TESTBED_BIN` is taken as it is.
pub fn build_programs() -> Result<PathBuf, Error> {
    if let Some(directory) = env::var_os(artifacts::DIRECTORY_VARIABLE) {
        return Ok(directory.into());
    }
    run(&mut cargo(&artifacts::BUILD_ARGUMENTS))?;
    Ok(target_directory().join("release"))
}

/// Where cargo builds to.
pub fn target_directory() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    artifacts::workspace().join(target)
}

/// Whether we are root.
pub fn is_root() -> bool {
    let own = std::fs::metadata("/proc/self");
    own.is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// An error unless we are root: network namespaces and devices need it.
pub fn need_root(what: &str) -> Result<(), Error> {
    if is_root() {
        return Ok(());
    }
    let text = format!(
        "{what} makes network namespaces and TAP devices: run it as root (sudo -E cargo xtask …)"
    );
    Err(Error::Other(text))
}

/// Does work that fails by panicking, as the harness of the tests does, and answers the text.
pub fn attempt<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let panicked = |panic: Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        Error::Other(text.unwrap_or_else(|| "failed without a word".to_owned()))
    };
    panic::set_hook(Box::new(|_| ())); // The text is in the error.
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    let _ = panic::take_hook();
    result.unwrap_or_else(|panic| Err(panicked(panic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_text() {
        let error = attempt::<()>(|| panic!("server {} is gone", 1)).unwrap_err();
        assert_eq!(error.to_string(), "server 1 is gone");
    }
}
