//! The stack behind the program: the engine, seen from the launcher.

use std::ffi::OsString;
use std::time::Duration;

use config::Settings;

use crate::error::Error;

/// A running stack.
#[derive(Debug)]
pub struct Stack {
    environment: Vec<(OsString, OsString)>,
}

/// What was left when the stack ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DrainReport {
    /// Connections that still had something to send.
    pub connections: usize,
    /// Bytes that were not sent or not acknowledged.
    pub unsent: u64,
}

impl Stack {
    /// Opens the device, makes the shared segment and starts the workers.
    ///
    /// # Errors
    /// [`Error::Stack`] with the reason.
    pub fn start(_settings: &Settings) -> Result<Stack, Error> {
        Err(Error::Stack("engine not linked yet".to_owned()))
    }

    /// Variables by which the preload library finds the stack.
    pub fn child_env(&self) -> Vec<(OsString, OsString)> {
        self.environment.clone()
    }

    /// Sends what is unsent until nothing is left or `deadline` is over, then ends the stack.
    pub fn drain(self, _deadline: Duration) -> DrainReport {
        DrainReport::default()
    }
}
