//! All that is random in a simulation: numbers that follow from the seed and from what they are for.

use std::time::Duration;

/// A stream of numbers: SplitMix64 (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, 2014).
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

/// The step of SplitMix64: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Chance {
    /// The stream of a seed for one purpose. Streams of different purposes have nothing to do with each other, so that what one part
    /// draws never moves what another one gets.
    pub fn new(seed: u64, purpose: &str) -> Chance {
        let hash = purpose.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut chance = Chance { state: seed.wrapping_mul(STEP) ^ hash };
        chance.draw();
        chance
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both possible.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.draw() % (high.saturating_sub(low) + 1)
    }

    /// An index below `count`, which is not 0.
    pub fn index(&mut self, count: usize) -> usize {
        (self.draw() % count as u64) as usize
    }

    /// `true` once in so many times; never for 0.
    pub fn one_in(&mut self, times: u64) -> bool {
        times > 0 && self.draw().is_multiple_of(times)
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// A time from `low` to `high` milliseconds.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    /// How long something takes that takes about `typical` milliseconds: mostly that, now and then twenty times as long, which is what
    /// lets one overtake the other.
    pub fn delay(&mut self, typical: u64) -> Duration {
        let longest = if self.one_in(12) { typical * 20 } else { typical * 2 };
        self.millis(u64::from(typical > 0), longest)
    }
}
