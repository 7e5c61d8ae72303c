//! `futex(2)` as loom can see it: a wait looks at the word and falls asleep in one step, of which a
//! wake is either before or after.

use crate::sync::{AtomicU32, Ordering};
use loom::sync::{Condvar, Mutex};
use std::time::Duration;

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Woken, or the word had already changed.
    Woken,
}

loom::lazy_static! {
    static ref BUCKET: Mutex<()> = Mutex::new(());
    static ref WAITERS: Condvar = Condvar::new();
}

/// Sleeps while `word` holds `expected`. A time limit is not kept: what relies on one has lost a
/// wake-up, and loom reports that as a deadlock.
pub fn wait(word: &AtomicU32, expected: u32, _timeout: Option<Duration>) -> Wait {
    let held = BUCKET.lock();
    if word.load(Ordering::SeqCst) == expected
        && let Ok(held) = held
    {
        drop(WAITERS.wait(held));
    }
    Wait::Woken
}

/// Wakes all sleepers, on whatever word: a wake-up for nothing is allowed.
pub fn wake(_word: &AtomicU32, _count: i32) {
    drop(BUCKET.lock());
    WAITERS.notify_all();
}
