//! Options that mean nothing to TCP, or nothing to the stack: a kernel socket made for the question says
//! what Linux takes, to whom, and how it reads back.

#![allow(unsafe_code)]

use super::kept::{self, Key};
use crate::errno::Result;
use crate::{placeholder, real};
use std::ffi::c_int;
use std::os::fd::RawFd;

/// A kernel socket, closed when dropped.
struct Oracle(RawFd);

impl Drop for Oracle {
    fn drop(&mut self) {
        real::close(self.0);
    }
}

/// One option of one socket.
#[derive(Clone, Copy)]
pub struct Question {
    /// Whose.
    pub key: Key,
    /// Its family.
    pub family: c_int,
    /// Level, as setsockopt(2) takes it.
    pub level: c_int,
    /// Number within the level.
    pub number: c_int,
}

impl Question {
    /// What the option reads as.
    ///
    /// # Errors
    /// As getsockopt(2).
    pub fn get(self) -> Result<i32> {
        match self.kept() {
            Some(value) => Ok(value),
            None => self.read(&self.ask()?),
        }
    }

    /// Sets it, and keeps it as Linux shows it then.
    ///
    /// # Errors
    /// As setsockopt(2); `ENOBUFS` if too many are kept.
    pub fn set(self, value: &[u8]) -> Result<()> {
        let shown = self.try_set(value)?;
        kept::set(self.key, self.level, self.number, shown)
    }

    /// What it would read as if it were set; nothing changes.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn try_set(self, value: &[u8]) -> Result<i32> {
        let oracle = self.ask()?;
        if let Some(before) = self.kept() {
            // What cannot be set again does not bear on what comes next.
            let _ = self.write(&oracle, &before.to_ne_bytes());
        }
        self.write(&oracle, value)?;
        self.read(&oracle)
    }

    fn kept(self) -> Option<i32> {
        kept::get(self.key, self.level, self.number)
    }

    fn ask(self) -> Result<Oracle> {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        placeholder::with_room(|| real::socket(self.family, kind, 0)).map(Oracle)
    }

    fn read(self, oracle: &Oracle) -> Result<i32> {
        real::option_of(oracle.0, self.level, self.number)
    }

    fn write(self, oracle: &Oracle, value: &[u8]) -> Result<()> {
        let args = [
            oracle.0 as usize,
            self.level as usize,
            self.number as usize,
            value.as_ptr() as usize,
            value.len(),
            0,
        ];
        // SAFETY: the kernel only reads the value.
        unsafe { real::syscall(libc::SYS_setsockopt, args) }.map(drop)
    }
}
