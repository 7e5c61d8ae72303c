//! What keeps `mtcp-run` from running a program, and the exit status that says so.

use std::path::PathBuf;

use crate::preflight::Finding;

/// Exit status for errors of `mtcp-run` itself, as of env(1) and timeout(1).
pub const FAILED: u8 = 125;
/// Exit status if `--check` cannot write what it found.
const UNWRITTEN: u8 = 1;
/// Exit status if the program is there but cannot be executed.
pub const CANNOT_EXECUTE: u8 = 126;
/// Exit status if the program is not there.
pub const NOT_FOUND: u8 = 127;

/// Why the program does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The log filter cannot be understood.
    #[error("{}: expected a filter such as warn,engine=debug, found {filter:?}", origin.place("log"))]
    LogFilter {
        /// Where it was set.
        origin: config::Origin,
        /// The filter.
        filter: String,
    },
    /// The faults cannot be understood.
    #[error("{origin}: {source}")]
    Faults {
        /// Where they were set.
        origin: config::Origin,
        /// Which of them, and what was expected.
        source: psio::Error,
    },
    /// A file that was asked for cannot be opened.
    #[error("{origin}: {}: cannot open: {source}", path.display())]
    Open {
        /// Where it was named.
        origin: config::Origin,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The program is not there.
    #[error("{program}: not found")]
    NotFound {
        /// The program as it was named.
        program: String,
    },
    /// The program is there but cannot be executed.
    #[error("{program}: cannot execute: {reason}")]
    CannotExecute {
        /// The program as it was named.
        program: String,
        /// Why.
        reason: String,
    },
    /// The preload library is not where it should be.
    #[error("{0}")]
    Preload(String),
    /// The machine lacks what the settings need.
    #[error("{}", Finding::summary(.0))]
    Preflight(Vec<Finding>),
    /// `--rootless` is not possible.
    #[error("--rootless: {0}")]
    Rootless(String),
    /// The stack did not start.
    #[error("the stack did not start: {0}")]
    Stack(#[from] launcher::stack::Error),
    /// The stack ended before the program.
    #[error("the stack failed while the program ran: {0}")]
    Failed(String),
    /// Standard output takes no more.
    #[error("standard output: {0}")]
    Output(std::io::Error),
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Error {
    /// The exit status of `mtcp-run` for this error.
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::NotFound { .. } => NOT_FOUND,
            Error::CannotExecute { .. } => CANNOT_EXECUTE,
            Error::Output(_) => UNWRITTEN,
            _ => FAILED,
        }
    }

    /// For `map_err` on a system call.
    pub fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::System { what, source }
    }
}
