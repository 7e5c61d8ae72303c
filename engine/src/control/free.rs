//! Numbers that nobody has at the moment, of contexts or of ready sets.

/// Numbers whose memory is kept for who comes next; that of the others goes back to the system.
const KEPT: usize = 64;

/// Free numbers. Those that were given back last, and whose memory is still there, go out first.
pub struct FreeNumbers {
    numbers: Vec<u32>,
    /// How many at the end have memory.
    warm: usize,
}

impl FreeNumbers {
    /// All below `count`; none has memory yet.
    pub fn below(count: u32) -> FreeNumbers {
        FreeNumbers {
            numbers: (0..count).rev().collect(),
            warm: 0,
        }
    }

    /// Takes one.
    pub fn take(&mut self) -> Option<u32> {
        self.warm = self.warm.saturating_sub(1);
        self.numbers.pop()
    }

    /// Gives one back. If too much memory is kept, returns the number that loses its own.
    #[must_use = "the memory of this number is to be given back"]
    pub fn give_back(&mut self, number: u32) -> Option<u32> {
        self.numbers.push(number);
        self.warm += 1;
        (self.warm > KEPT).then(|| {
            self.warm -= 1;
            self.numbers[self.numbers.len() - 1 - self.warm]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_loses_its_memory_once_unless_it_is_used_again_soon() {
        let mut free = FreeNumbers::below(200);
        let mut taken: Vec<_> = std::iter::from_fn(|| free.take()).collect();
        assert_eq!(taken, (0..200).collect::<Vec<_>>());
        let mut lost: Vec<_> = taken.drain(..).filter_map(|n| free.give_back(n)).collect();
        assert_eq!(lost, (0..200 - KEPT as u32).collect::<Vec<_>>());
        // Few come and go: they have the memory that was kept.
        for _ in 0..1000 {
            let few: Vec<_> = (0..KEPT / 2).filter_map(|_| free.take()).collect();
            assert!(few.iter().all(|n| !lost.contains(n)));
            assert!(few.into_iter().all(|n| free.give_back(n).is_none()));
        }
        // Many come again: some without memory, which they lose anew.
        taken.extend((0..100).filter_map(|_| free.take()));
        lost = taken
            .into_iter()
            .filter_map(|n| free.give_back(n))
            .collect();
        assert_eq!(lost.len(), 100 - KEPT);
    }
}
