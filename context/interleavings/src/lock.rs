//! A stand-in for the application's lock, which these tests do not take.

/// No lock.
#[derive(Default)]
pub struct Lock;

impl Lock {
    /// Frees it.
    pub fn reset(&self) {}
}
