//! Runs `mtcp-run` in a clean environment.

use std::process::{Command, Output, Stdio};

/// `mtcp-run` with nothing of ours in its environment, and nothing on its input.
pub fn mtcp_run(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mtcp-run"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MTCP_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn output(command: &mut Command) -> Output {
    command.output().expect("mtcp-run starts")
}

/// What it wrote, as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("mtcp-run writes UTF-8")
}
