//! Things found by number, with a stamp that tells one user of a number from the next.

/// A table whose places are used again.
pub struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// How many things are in it.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Adds what `make` makes of its number and stamp; returns both.
    pub fn insert(&mut self, make: impl FnOnce((u32, u32)) -> T) -> (u32, u32) {
        let id = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            self.places.len() as u32 - 1
        });
        let (stamp, place) = &mut self.places[id as usize];
        *stamp = stamp.wrapping_add(1);
        let token = (id, *stamp);
        *place = Some(make(token));
        token
    }

    /// Takes one out.
    pub fn remove(&mut self, id: u32) -> Option<T> {
        let thing = self.places.get_mut(id as usize)?.1.take()?;
        self.free.push(id);
        Some(thing)
    }

    /// One by number.
    #[inline]
    pub fn get(&mut self, id: u32) -> Option<&mut T> {
        self.places.get_mut(id as usize)?.1.as_mut()
    }

    /// One by number, to look at.
    pub fn peek(&self, id: u32) -> Option<&T> {
        self.places.get(id as usize)?.1.as_ref()
    }

    /// One by number, if its stamp is still the same.
    pub fn get_stamped(&mut self, (id, stamp): (u32, u32)) -> Option<&mut T> {
        let (current, thing) = self.places.get_mut(id as usize)?;
        thing.as_mut().filter(|_| *current == stamp)
    }

    /// All, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let numbered = (0..).zip(&self.places);
        numbered.filter_map(|(id, (_, thing))| thing.as_ref().map(|thing| (id, thing)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_again_under_another_stamp() {
        let mut slab = Slab::default();
        let first = slab.insert(|token| token);
        let second = slab.insert(|token| token);
        assert_eq!(slab.remove(first.0), Some(first));
        assert_eq!(slab.remove(first.0), None);
        let third = slab.insert(|token| token);
        assert_eq!(third.0, first.0);
        assert_eq!(slab.get_stamped(first), None);
        assert_eq!(slab.get_stamped(third), Some(&mut third.clone()));
        assert_eq!(slab.iter().map(|(id, _)| id).collect::<Vec<_>>(), [0, 1]);
        assert_eq!((slab.len(), second.0), (2, 1));
    }
}
