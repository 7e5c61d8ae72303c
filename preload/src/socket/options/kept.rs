//! Options that have no place in the shared record, because the stack does nothing with them: kept
//! in the process, to be read back and to be set on a kernel socket that takes over.

use crate::errno::{Errno, Result};
use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most options kept in one process.
const MOST: usize = 1 << 16;

/// A socket in one of its lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    /// Number of the record.
    pub index: u32,
    /// Low bits of the record's generation.
    pub generation: u16,
}

type Kept = BTreeMap<(Key, c_int, c_int), i32>;

static KEPT: Mutex<Kept> = Mutex::new(BTreeMap::new());
/// How many there are, so that a process that keeps none takes no lock.
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn kept() -> Option<MutexGuard<'static, Kept>> {
    let is_any = COUNT.load(Ordering::Relaxed) != 0;
    is_any.then(|| KEPT.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What is kept of an option.
pub fn get(key: Key, level: c_int, name: c_int) -> Option<i32> {
    kept()?.get(&(key, level, name)).copied()
}

/// Keeps an option.
///
/// # Errors
/// `ENOBUFS` if too many are kept.
pub fn set(key: Key, level: c_int, name: c_int, value: i32) -> Result<()> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let at = (key, level, name);
    if kept.len() >= MOST && !kept.contains_key(&at) {
        return Err(Errno(libc::ENOBUFS));
    }
    kept.insert(at, value);
    COUNT.store(kept.len(), Ordering::Relaxed);
    Ok(())
}

/// Forgets all options of one socket.
pub fn forget(key: Key) {
    if let Some(mut kept) = kept() {
        kept.retain(|(of, ..), _| *of != key);
        COUNT.store(kept.len(), Ordering::Relaxed);
    }
}
