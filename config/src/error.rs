//! What can be wrong with settings, where it stands, and what is only odd.

use std::fmt;
use std::path::PathBuf;

/// Where a setting came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of a file, counted from 1.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// An option of the command line.
    CommandLine(String),
}

impl Origin {
    /// Where a key stands, for messages. An option or a variable of the key's own name says which
    /// key it is.
    pub fn place(&self, key: &str) -> String {
        let named = match self {
            Origin::Environment(name) | Origin::CommandLine(name) => name,
            Origin::Default | Origin::File { .. } => return format!("{self}: {key}"),
        };
        let bare = |text: &str| text.replace(['.', '-'], "_").to_ascii_lowercase();
        let name = bare(named);
        match name.trim_start_matches('_').trim_start_matches("mtcp_") == bare(key) {
            true => named.clone(),
            false => format!("{named}: {key}"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Environment(variable) => f.write_str(variable),
            Origin::CommandLine(option) => f.write_str(option),
        }
    }
}

/// A configuration that cannot be used. Each prints as one line: where, which key, what was
/// expected, what was found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: cannot read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not TOML, or a line of mTCP's files has not their form.
    #[error("{origin}: {message}")]
    Syntax {
        /// The line.
        origin: Origin,
        /// What was expected.
        message: String,
    },
    /// The value does not fit the key.
    #[error("{}: expected {expected}, found {found:?}", origin.place(key))]
    Value {
        /// Where the value stands.
        origin: Origin,
        /// The key, e.g. `tcp.rto_min`.
        key: String,
        /// What would fit.
        expected: String,
        /// What stands there (the first 60 characters).
        found: String,
    },
    /// A table of the file lacks a key that it needs.
    #[error("{origin}: {key} is missing: expected {expected}")]
    Missing {
        /// Where the table begins.
        origin: Origin,
        /// The key, e.g. `rule.to`.
        key: String,
        /// What would fit.
        expected: &'static str,
    },
    /// Two settings that do not go together.
    #[error("{}: {message}", origin.place(key))]
    Conflict {
        /// Where the first of them stands.
        origin: Origin,
        /// The first of them.
        key: &'static str,
        /// What is wrong between them.
        message: String,
    },
    /// The command line names a key that does not exist.
    #[error("{origin}: unknown key {key:?}{}", hint(suggestion))]
    UnknownKey {
        /// The option.
        origin: Origin,
        /// The key.
        key: String,
        /// A key of nearly that name.
        suggestion: Option<String>,
    },
}

impl Error {
    pub(crate) fn value(origin: &Origin, key: &str, expected: &str, found: &str) -> Error {
        Error::Value {
            origin: origin.clone(),
            key: key.to_owned(),
            expected: expected.to_owned(),
            found: found.chars().take(60).collect(),
        }
    }
}

/// Something odd that keeps nobody from starting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Warning {
    /// A file has a key that does not exist.
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// Its name.
        key: String,
        /// A key of nearly that name.
        suggestion: Option<String>,
    },
    /// The environment has an `MTCP_` variable that does not exist.
    UnknownVariable {
        /// Its name.
        name: String,
        /// A variable of nearly that name.
        suggestion: Option<String>,
    },
    /// One of mTCP's own keys or lines that means nothing here, or something else.
    Note {
        /// Where it stands.
        origin: Origin,
        /// The key or line.
        key: String,
        /// Why, and what to use in its place.
        message: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::UnknownKey {
                origin,
                key,
                suggestion,
            } => {
                write!(
                    f,
                    "{origin}: unknown key {key:?} is ignored{}",
                    hint(suggestion)
                )
            }
            Warning::UnknownVariable { name, suggestion } => {
                write!(
                    f,
                    "unknown environment variable {name} is ignored{}",
                    hint(suggestion)
                )
            }
            Warning::Note {
                origin,
                key,
                message,
            } => write!(f, "{}: {message}", origin.place(key)),
        }
    }
}

fn hint(suggestion: &Option<String>) -> String {
    match suggestion {
        Some(name) => format!("; did you mean {name}?"),
        None => String::new(),
    }
}
