//! Decisions for random tests, from a seed or from a fuzzer's bytes.

/// A source of decisions. One made from bytes says 0 once they are used up.
pub struct Dice<'a> {
    state: u64,
    bytes: Option<&'a [u8]>,
}

impl<'a> Dice<'a> {
    /// Endless decisions that depend on `seed` alone.
    pub fn seeded(seed: u64) -> Dice<'static> {
        Dice {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1,
            bytes: None,
        }
    }

    /// Decisions read from `bytes`.
    pub fn from_bytes(bytes: &'a [u8]) -> Dice<'a> {
        Dice {
            state: 0,
            bytes: Some(bytes),
        }
    }

    /// Whether the bytes are used up; never for a seed.
    pub fn is_spent(&self) -> bool {
        self.bytes.is_some_and(<[u8]>::is_empty)
    }

    /// Eight random bytes; from a fuzzer, `width` of them.
    fn raw(&mut self, width: usize) -> u64 {
        if let Some(bytes) = &mut self.bytes {
            let (taken, rest) = bytes.split_at(width.min(bytes.len()));
            *bytes = rest;
            let mut word = [0; 8];
            word[..taken.len()].copy_from_slice(taken);
            return u64::from_le_bytes(word);
        }
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Any word.
    pub fn word(&mut self) -> u64 {
        self.raw(8)
    }

    /// A word that is often at an edge: tiny, near a power of two, or near the largest.
    pub fn odd_word(&mut self) -> u64 {
        match self.below(6) {
            0 => self.below(8),
            1 => u64::MAX - self.below(8),
            2 => (1u64 << self.below(64)).wrapping_sub(self.below(3)),
            3 => u64::from(u32::MAX).wrapping_add(self.below(3)),
            4 => self.raw(2) & 0xffff,
            _ => self.word(),
        }
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        let width = match n {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 8,
        };
        self.raw(width) % n.max(1)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// An index into something of `len` elements.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Fills a buffer.
    pub fn fill(&mut self, to: &mut [u8]) {
        for byte in to {
            *byte = self.raw(1) as u8;
        }
    }
}
