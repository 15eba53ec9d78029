//! Choices that follow from a seed: a failure is played again with it.

use serde_json::Value;

/// A sequence of choices (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `end`, without it.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    /// True this many times of a hundred.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    pub(crate) fn text(&mut self, from: &[&str]) -> String {
        self.pick(from).to_owned()
    }

    /// Fewer than `end` of what `make` makes.
    pub(crate) fn some<T>(&mut self, end: usize, mut make: impl FnMut(&mut Dice) -> T) -> Vec<T> {
        (0..self.below(end)).map(|_| make(self)).collect()
    }

    /// One of these, or the key is left out.
    pub(crate) fn key(&mut self, table: &mut Value, key: &str, from: &[Value]) {
        if self.chance(50) {
            table[key] = self.pick(from);
        }
    }
}
