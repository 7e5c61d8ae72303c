//! Things found by number, with a stamp that tells one user of a number from the next.

/// What bears the stamp that it was given.
pub trait Stamped {
    /// The stamp.
    fn stamp(&self) -> u32;
}

/// A table whose places are used again.
pub struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
    /// The last that was given.
    stamp: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            places: Vec::new(),
            free: Vec::new(),
            stamp: 0,
        }
    }
}

impl<T: Stamped> Slab<T> {
    /// How many things are in it.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Adds what `make` makes of its stamp; returns its number and stamp.
    pub fn insert(&mut self, make: impl FnOnce(u32) -> T) -> (u32, u32) {
        self.stamp = self.stamp.wrapping_add(1);
        let thing = Some(make(self.stamp));
        let id = match self.free.pop() {
            Some(id) => {
                self.places[id as usize] = thing;
                id
            }
            None => {
                self.places.push(thing);
                self.places.len() as u32 - 1
            }
        };
        (id, self.stamp)
    }

    /// Takes one out.
    pub fn remove(&mut self, id: u32) -> Option<T> {
        let thing = self.places.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(thing)
    }

    /// Gives back the memory of a table in which nothing stands.
    pub fn give_back(&mut self) {
        if self.len() == 0 {
            (self.places, self.free) = (Vec::new(), Vec::new());
        }
    }

    /// One by number.
    #[inline]
    pub fn get(&mut self, id: u32) -> Option<&mut T> {
        self.places.get_mut(id as usize)?.as_mut()
    }

    /// One by number, to look at.
    pub fn peek(&self, id: u32) -> Option<&T> {
        self.places.get(id as usize)?.as_ref()
    }

    /// One by number, if its stamp is still the same.
    pub fn get_stamped(&mut self, (id, stamp): (u32, u32)) -> Option<&mut T> {
        self.get(id).filter(|thing| thing.stamp() == stamp)
    }

    /// All, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let numbered = (0..).zip(&self.places);
        numbered.filter_map(|(id, thing)| thing.as_ref().map(|thing| (id, thing)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Stamped for u32 {
        fn stamp(&self) -> u32 {
            *self
        }
    }

    #[test]
    fn a_number_is_used_again_under_another_stamp() {
        let mut slab = Slab::default();
        let first = slab.insert(|stamp| stamp);
        let second = slab.insert(|stamp| stamp);
        assert_eq!(slab.remove(first.0), Some(first.1));
        assert_eq!(slab.remove(first.0), None);
        let third = slab.insert(|stamp| stamp);
        assert_eq!(third.0, first.0);
        assert_eq!(slab.get_stamped(first), None);
        assert_eq!(slab.get_stamped(third), Some(&mut third.1.clone()));
        assert_eq!(slab.iter().map(|(id, _)| id).collect::<Vec<_>>(), [0, 1]);
        assert_eq!((slab.len(), second.0), (2, 1));
    }

    #[test]
    fn a_table_that_gave_back_its_memory_gives_no_stamp_again() {
        let mut slab = Slab::default();
        let first = slab.insert(|stamp| stamp);
        slab.give_back();
        assert_eq!(slab.get_stamped(first), Some(&mut first.1.clone()));
        slab.remove(first.0);
        slab.give_back();
        assert_eq!((slab.len(), slab.places.capacity()), (0, 0));
        let second = slab.insert(|stamp| stamp);
        assert_eq!(second.0, first.0);
        assert_eq!(slab.get_stamped(first), None);
    }
}
