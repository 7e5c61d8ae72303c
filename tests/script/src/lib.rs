//! Scripts in packetdrill's notation: what goes over the wire and through the socket calls of one
//! side of a connection, line by line with times. The script plays the application, the network and
//! the peer; what answers is our stack under a fake clock ([`stack::Stack`]) or Linux's TCP behind
//! a TUN in a network namespace of its own ([`kernel::Kernel`]). A script that both pass describes
//! TCP, and not only us.
//!
//! The notation is a subset of that of google/packetdrill; `tests/scripts/README.md` says which.

#[path = "../../../engine/tests/worker/app.rs"]
#[allow(dead_code)]
mod app;
#[path = "../../../engine/tests/worker/bed.rs"]
#[allow(dead_code)]
mod bed;
#[path = "../../../engine/tests/worker/frames.rs"]
#[allow(dead_code)]
mod frames;

pub mod call;
pub mod check;
pub mod constants;
pub mod expression;
pub mod flow;
pub mod info;
pub mod kernel;
pub mod parse;
pub mod run;
pub mod script;
pub mod stack;
pub mod wire;

use script::Script;
use std::path::Path;

/// Reads a script from a file.
///
/// # Errors
/// The file cannot be read, or is no script.
pub fn load(file: &Path) -> Result<Script, String> {
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    parse::parse(&text).map_err(|e| e.to_string())
}

/// Scripts, by family and name, that our stack is known to fail, with the reason.
const KNOWN_FAILURES: &str = include_str!("../../scripts/expected-to-fail");

/// Why our stack is known to fail a script, if it is.
pub fn known_failure(script: &Path) -> Option<&'static str> {
    let mut lines = KNOWN_FAILURES
        .lines()
        .filter_map(|line| line.split_once(": "));
    lines
        .find(|(name, _)| script.ends_with(name))
        .map(|(_, reason)| reason)
}
