//! Options that have no place in the shared record, because the stack does nothing with them: kept
//! in the process, to be read back and to be set on a kernel socket that takes over.

use crate::errno::{Errno, Result};
use dashmap::DashMap;
use once_cell::sync::Lazy;
use std::ffi::c_int;

/// Most options kept in one process.
const MOST: usize = 1 << 16;

/// A socket in one of its lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key {
    /// Number of the record.
    pub index: u32,
    /// Low bits of the record's generation.
    pub generation: u16,
}

type Kept = DashMap<(Key, c_int, c_int), i32>;

static KEPT: Lazy<Kept> = Lazy::new(DashMap::new);

/// What is kept of an option.
pub fn get(key: Key, level: c_int, name: c_int) -> Option<i32> {
    Lazy::get(&KEPT)?.get(&(key, level, name)).map(|kept| *kept)
}

/// Keeps an option.
///
/// # Errors
/// `ENOBUFS` if too many are kept.
pub fn set(key: Key, level: c_int, name: c_int, value: i32) -> Result<()> {
    let at = (key, level, name);
    if KEPT.len() >= MOST && !KEPT.contains_key(&at) {
        return Err(Errno(libc::ENOBUFS));
    }
    KEPT.insert(at, value);
    Ok(())
}

/// Forgets all options of one socket.
pub fn forget(key: Key) {
    // A process that keeps none, as most do, has no table to look through.
    if let Some(kept) = Lazy::get(&KEPT).filter(|kept| !kept.is_empty()) {
        kept.retain(|(of, ..), _| *of != key);
    }
}
