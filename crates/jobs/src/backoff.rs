//! How long a failed job waits before its next attempt.

use std::time::Duration;

/// Exponential back-off: the delay doubles with every failed attempt, up to a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first failed attempt.
    pub first: Duration,
    /// The longest delay.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), max: Duration::from_secs(3600) }
    }
}

impl Backoff {
    /// Returns the delay after `attempts` failed attempts. `chance`, from 0 to 1, makes it up to a fifth shorter or longer, so that jobs that
    /// failed together don't come back together. It is never longer than the limit.
    #[must_use]
    pub fn delay(&self, attempts: u16, chance: f64) -> Duration {
        let doublings = u32::from(attempts.saturating_sub(1)).min(31);
        let doubled = self.first.saturating_mul(1 << doublings).min(self.max);
        doubled.mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0)).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit_and_chance_changes_a_fifth() {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(60) };
        let middle: Vec<_> =
            [1, 2, 3, 7, 40, u16::MAX].map(|attempts| backoff.delay(attempts, 0.5).as_secs()).into();
        assert_eq!(middle, [1, 2, 4, 60, 60, 60]);
        assert_eq!(backoff.delay(3, 0.0), Duration::from_millis(3200));
        assert_eq!(backoff.delay(3, f64::INFINITY), Duration::from_millis(4800));
        assert_eq!(backoff.delay(9, 1.0), Duration::from_secs(60), "the limit holds for chance, too");
    }
}
