//! A list that mostly holds nothing or one thing, in two words.

use std::ops::{Deref, DerefMut};

/// Things in the order in which they came.
#[derive(Clone, Debug, Default)]
pub enum Few<T> {
    /// Nothing.
    #[default]
    None,
    /// One thing.
    One([T; 1]),
    /// Any number of things; seldom there, and a box of a list is one word instead of three.
    More(Box<Vec<T>>),
}

impl<T> Few<T> {
    /// Adds a thing behind the others.
    pub fn push(&mut self, thing: T) {
        *self = match std::mem::take(self) {
            Few::None => Few::One([thing]),
            Few::One([first]) => Few::More(Box::new(vec![first, thing])),
            Few::More(mut all) => {
                all.push(thing);
                Few::More(all)
            }
        };
    }

    /// Keeps the things of which that is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        match self {
            Few::None => {}
            Few::One([thing]) if keep(thing) => {}
            Few::One(_) => *self = Few::None,
            Few::More(all) => all.retain(keep),
        }
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match self {
            Few::None => &[],
            Few::One(one) => one,
            Few::More(all) => all,
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Few::None => &mut [],
            Few::One(one) => one,
            Few::More(all) => all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_out_in_the_order_in_which_they_went_in() {
        let mut few = Few::default();
        let mut all = Vec::new();
        for n in 0..4 {
            assert_eq!(few[..], all);
            few.push(n);
            all.push(n);
        }
        few.retain(|n| n % 2 == 1);
        assert_eq!(few[..], [1, 3]);
        let mut one = Few::One([1]);
        one.retain(|n| *n == 1);
        assert_eq!(one[..], [1]);
        one.retain(|n| *n == 2);
        assert!(one.is_empty());
    }
}
