//! The randomness of a simulation. Every number follows from the seed and from its purpose.

use std::time::Duration;

/// A stream of random numbers by SplitMix64 (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, 2014).
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

/// The increment of SplitMix64: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Chance {
    /// Makes the stream of a seed for one purpose. Streams of different purposes are independent, so the draws of one part never change
    /// those of another.
    pub fn new(seed: u64, purpose: &str) -> Chance {
        let hash = purpose.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut chance = Chance { state: seed.wrapping_mul(STEP) ^ hash };
        chance.draw();
        chance
    }

    /// Returns the next number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from `low` to `high`, inclusive.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.draw() % (high.saturating_sub(low) + 1)
    }

    /// Returns an index below `count`, which must not be 0.
    pub fn index(&mut self, count: usize) -> usize {
        (self.draw() % count as u64) as usize
    }

    /// Returns `true` once in `times` calls on average; never if `times` is 0.
    pub fn one_in(&mut self, times: u64) -> bool {
        times > 0 && self.draw().is_multiple_of(times)
    }

    /// Returns one of these values.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// Returns a time from `low` to `high` milliseconds.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    /// Returns the duration of something that usually takes about `typical` milliseconds. Now and then it is up to twenty times as long, so
    /// that one thing overtakes another.
    pub fn delay(&mut self, typical: u64) -> Duration {
        let longest = if self.one_in(12) { typical * 20 } else { typical * 2 };
        self.millis(u64::from(typical > 0), longest)
    }
}
