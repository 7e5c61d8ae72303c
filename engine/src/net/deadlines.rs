//! The deadlines of a table's entries, at most one for each, soonest first.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// When the entries named `K` are due, in the caller's unit of time.
#[derive(Debug)]
pub(super) struct Deadlines<K> {
    due: HashMap<K, u64>,
    soonest_first: BTreeSet<(u64, K)>,
}

impl<K: Copy + Ord + Hash> Deadlines<K> {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            due: HashMap::new(),
            soonest_first: BTreeSet::new(),
        }
    }

    /// `key` is due at `at`, and no longer at another time.
    pub(super) fn set(&mut self, key: K, at: u64) {
        self.clear(key);
        self.due.insert(key, at);
        self.soonest_first.insert((at, key));
    }

    /// `key` is never due.
    pub(super) fn clear(&mut self, key: K) {
        // A look at an empty map costs no hash, and mostly it is empty.
        if let Some(&at) = self.due.get(&key) {
            self.due.remove(&key);
            self.soonest_first.remove(&(at, key));
        }
    }

    /// Takes the deadline that has passed for longest, if one has.
    pub(super) fn take_due(&mut self, now: u64) -> Option<K> {
        let &(at, key) = self.soonest_first.first()?;
        if at > now {
            return None;
        }
        self.clear(key);
        Some(key)
    }

    /// The soonest.
    pub(super) fn next(&self) -> Option<u64> {
        self.soonest_first.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_the_order_of_time_and_once() {
        let mut deadlines = Deadlines::new();
        deadlines.set('a', 30);
        deadlines.set('b', 10);
        deadlines.set('c', 20);
        assert_eq!(deadlines.next(), Some(10));
        assert_eq!(deadlines.take_due(20), Some('b'));
        assert_eq!(deadlines.take_due(20), Some('c'));
        assert_eq!(deadlines.take_due(20), None);
        assert_eq!(deadlines.next(), Some(30));
    }

    #[test]
    fn an_entry_has_its_last_deadline_only() {
        let mut deadlines = Deadlines::new();
        deadlines.set('a', 10);
        deadlines.set('a', 30);
        deadlines.set('b', 20);
        deadlines.clear('b');
        assert_eq!(deadlines.take_due(29), None);
        assert_eq!(deadlines.take_due(30), Some('a'));
        assert_eq!(deadlines.next(), None);
    }
}
