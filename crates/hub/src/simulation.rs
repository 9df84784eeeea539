//! The time of day and the randomness of simulations. Both follow from a seed, on one thread.
//!
//! Threads that never called [`begin`] use the system's clock and real randomness. So a build with this feature, such as that of the whole
//! workspace's tests, otherwise behaves as usual.

use std::cell::Cell;
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::SharedSeed;
use foldhash::fast::{FoldHasher, SeedableRandomState};

thread_local! {
    static CLOCK: Cell<Option<fn() -> Duration>> = const { Cell::new(None) };
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// The increment of SplitMix64: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Begins a simulation on this thread. `clock` returns the time since 1970, and all randomness follows from `seed`.
pub fn begin(seed: u64, clock: fn() -> Duration) {
    CLOCK.set(Some(clock));
    STATE.set(seed.wrapping_mul(STEP));
}

/// Returns the simulated time since 1970. `None`: this thread does not simulate.
pub(crate) fn since_epoch() -> Option<Duration> {
    CLOCK.get().map(|clock| clock())
}

/// Returns the next bytes that follow from the seed. `None`: this thread does not simulate.
pub(crate) fn bytes<const COUNT: usize>() -> Option<[u8; COUNT]> {
    CLOCK.get()?;
    let mut bytes = [0; COUNT];
    for part in bytes.chunks_mut(size_of::<u64>()) {
        part.copy_from_slice(&draw().to_le_bytes()[..part.len()]);
    }
    Some(bytes)
}

/// Draws the next number by SplitMix64 (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, 2014).
fn draw() -> u64 {
    let state = STATE.get().wrapping_add(STEP);
    STATE.set(state);
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The seed of one map.
#[derive(Clone, Debug)]
pub struct Seeds(SeedableRandomState);

impl Default for Seeds {
    fn default() -> Seeds {
        Seeds(match bytes() {
            Some(seed) => {
                SeedableRandomState::with_seed(u64::from_le_bytes(seed), SharedSeed::global_fixed())
            }
            None => SeedableRandomState::random(),
        })
    }
}

impl BuildHasher for Seeds {
    type Hasher = FoldHasher<'static>;

    fn build_hasher(&self) -> FoldHasher<'static> {
        self.0.build_hasher()
    }
}
