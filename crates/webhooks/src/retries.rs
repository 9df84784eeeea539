//! When a failed delivery is tried again.

use std::time::Duration;

/// Retries with growing delays, until a time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// The delay after the first attempt. It doubles with each further one.
    pub first: Duration,
    /// The longest delay.
    pub delay_max: Duration,
    /// How long after the first attempt there are others.
    pub window: Duration,
}

impl Default for Retries {
    /// From 1 s, up to 1 h, for 24 h.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            delay_max: Duration::from_secs(60 * 60),
            window: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl Retries {
    /// Returns when to try again after `attempts` failed attempts, the first of which began `since_first` ago; `None` if the time is over.
    ///
    /// `chance`, from 0 to 1, changes the delay by up to 20 %, so that deliveries that failed together don't come back together.
    /// `retry_after` is what the backend asked for; it makes a delay longer, but there is still one attempt before the time is over.
    #[must_use]
    pub fn next(
        &self,
        attempts: u32,
        since_first: Duration,
        retry_after: Option<Duration>,
        chance: f64,
    ) -> Option<Duration> {
        let left = self.window.checked_sub(since_first).filter(|left| !left.is_zero())?;
        let doublings = attempts.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.delay_max);
        let delay = whole.mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0)).min(self.delay_max);
        Some(delay.max(retry_after.unwrap_or_default()).min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn next(attempts: u32, since_first: u64, retry_after: Option<u64>) -> Option<u64> {
        let seconds = Duration::from_secs;
        Retries::default()
            .next(attempts, seconds(since_first), retry_after.map(seconds), 0.5)
            .map(|delay| delay.as_secs())
    }

    #[test]
    fn delays_double_up_to_an_hour_and_end_after_a_day() {
        let (mut since_first, mut attempts, mut delays) = (0, 1, Vec::new());
        while let Some(delay) = next(attempts, since_first, None) {
            delays.push(delay);
            (since_first, attempts) = (since_first + delay, attempts + 1);
        }
        assert_eq!(delays[..13], [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, HOUR]);
        assert!(delays[13..].iter().all(|delay| *delay <= HOUR));
        assert_eq!((since_first, attempts), (24 * HOUR, 36), "the last attempt is at the end of the window");
    }

    #[test]
    fn a_backend_may_ask_for_more_time_but_not_for_less_and_not_for_ever() {
        assert_eq!(next(1, 0, Some(300)), Some(300));
        assert_eq!(next(10, 0, Some(1)), Some(512));
        assert_eq!(next(1, HOUR, Some(1_000_000)), Some(23 * HOUR));
        assert_eq!(next(2, 24 * HOUR, Some(1)), None);
    }

    #[test]
    fn chance_changes_a_delay_by_a_fifth() {
        let delay = |chance| Retries::default().next(5, Duration::ZERO, None, chance).unwrap().as_millis();
        assert_eq!(
            (delay(0.0), delay(0.5), delay(1.0), delay(f64::INFINITY)),
            (12_800, 16_000, 19_200, 19_200)
        );
    }
}
