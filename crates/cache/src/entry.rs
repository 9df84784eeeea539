//! An entry in the process, its lifetime, and when to load it before it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// A value and its version.
#[derive(Debug, PartialEq, Eq)]
pub struct Versioned<V> {
    /// The version, as the source gave it.
    pub version: u64,
    /// The value, shared by all who ask for it.
    pub value: Arc<V>,
}

impl<V> Clone for Versioned<V> {
    fn clone(&self) -> Self {
        Self { version: self.version, value: Arc::clone(&self.value) }
    }
}

/// What is known of a key for a while. `None` says that the source has nothing.
#[derive(Debug)]
pub(crate) struct Entry<V> {
    pub(crate) known: Option<Versioned<V>>,
    /// Time at which it was certainly the newest: the begin of the load, or of the request to Redis.
    pub(crate) as_of: Instant,
    pub(crate) expires: Instant,
    /// What it took to get it.
    pub(crate) cost: Duration,
    /// Bytes in memory.
    pub(crate) weight: u32,
}

impl<V> Entry<V> {
    /// Returns whether this one must not be replaced by the other. Versions tell; where one of the two has none, the time does.
    pub(crate) fn is_newer_than(&self, other: &Self) -> bool {
        match (&self.known, &other.known) {
            (Some(own), Some(others)) => own.version > others.version,
            _ => self.as_of > other.as_of,
        }
    }
}

/// Lifetimes are shortened by up to this part, so that entries that were made together do not expire together.
const JITTER: f64 = 0.1;

/// Shortens a lifetime by jitter; `random` is from 0 to 1.
pub(crate) fn with_jitter(ttl: Duration, random: f64) -> Duration {
    ttl.mul_f64(1.0 - JITTER * random)
}

/// Returns how long before its expiry an entry is refreshed, in multiples of its load time: `-beta · ln(random)`, with `random` above 0 and at
/// most 1.
///
/// This is XFetch, from Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", PVLDB 8(8), 2015. With the
/// exponential distribution, the number of callers that load early stays small however many there are.
pub(crate) fn earliness(beta: f64, random: f64) -> f64 {
    (-beta.max(0.0) * random.ln()).max(0.0)
}

/// Returns whether an entry with this time left and this cost is to be loaded now.
pub(crate) fn is_due(left: Duration, cost: Duration, earliness: f64) -> bool {
    left.as_secs_f64() < cost.as_secs_f64() * earliness
}

/// Returns a number above 0 and at most 1.
pub(crate) fn random() -> f64 {
    1.0 - rand::random::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Duration = Duration::from_millis(100);

    #[test]
    fn a_lifetime_is_shortened_by_a_tenth_at_most() {
        let ttl = Duration::from_secs(10);
        assert_eq!(with_jitter(ttl, 0.0), ttl);
        assert_eq!(with_jitter(ttl, 1.0), Duration::from_secs(9));
    }

    #[test]
    fn early_loads_become_likely_only_near_the_end() {
        let share = |left_ms: u64| {
            let due = |step: u32| {
                is_due(Duration::from_millis(left_ms), COST, earliness(1.0, f64::from(step) / 1_000.0))
            };
            (1..=1_000).filter(|step| due(*step)).count()
        };
        // e^(-left/cost) of the callers.
        assert_eq!([share(1_000), share(200), share(100), share(10)], [0, 135, 367, 904]);
    }

    #[test]
    fn without_eagerness_nothing_is_loaded_early() {
        assert!(!is_due(Duration::ZERO, COST, earliness(0.0, 1e-300)));
        assert!(!is_due(Duration::from_nanos(1), COST, earliness(-1.0, 0.5)));
    }
}
