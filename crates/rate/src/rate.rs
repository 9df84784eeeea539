use std::num::NonZeroU32;
use std::time::Duration;

/// The longest period, a year: longer ones count as this one, so that microseconds never overflow.
const PERIOD_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The length of the line of a rate per second.
const LINE_PER_SECOND: Duration = Duration::from_secs(30);

/// How many cells may pass in a period, how many of them at once, and how far ahead refused cells are told to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Cells per period.
    count: NonZeroU32,
    /// Cells that may come at once; at least 1.
    burst: u32,
    period_us: u64,
    /// The time between two cells that come evenly, rounded up.
    interval_us: u64,
    line_us: u64,
}

impl Rate {
    /// Returns the rate of `count` cells per period. A whole period's cells may come at once, and the line is one period long. `None`,
    /// which is no limit, if either is 0.
    pub fn new(count: u32, period: Duration) -> Option<Rate> {
        let count = NonZeroU32::new(count)?;
        let period_us = micros(period.min(PERIOD_MAX));
        let cells = u64::from(count.get());
        let interval_us = period_us.div_ceil(cells);
        let line_us = interval_us * cells;
        (period_us > 0).then_some(Rate { count, burst: count.get(), period_us, interval_us, line_us })
    }

    /// Returns the rate of `count` cells per second, with a burst of a second's cells and a line of 30 s. `None`, which is no limit, for 0.
    pub fn per_second(count: u32) -> Option<Rate> {
        Some(Rate { line_us: micros(LINE_PER_SECOND), ..Rate::new(count, Duration::from_secs(1))? })
    }

    /// Returns the same rate with another burst, which is at least one cell.
    #[must_use]
    pub fn with_burst(self, burst: u32) -> Rate {
        Rate { burst: burst.max(1), ..self }
    }

    /// Returns the time between two cells that come evenly. It is rounded up, so that no more pass than the rate allows.
    pub fn interval_us(self) -> u64 {
        self.interval_us
    }

    /// Returns how much too early a cell may come.
    pub fn tolerance_us(self) -> u64 {
        self.interval_us * u64::from(self.burst - 1)
    }

    /// Returns the time in which so many cells come evenly.
    pub(crate) fn cost_us(self, cells: u64) -> u64 {
        cells.saturating_mul(self.period_us) / u64::from(self.count.get())
    }

    pub(crate) fn period_us(self) -> u64 {
        self.period_us
    }

    pub(crate) fn line_us(self) -> u64 {
        self.line_us
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_cells_or_a_period_there_is_no_limit() {
        assert_eq!(Rate::per_second(0), None);
        assert_eq!(Rate::new(0, Duration::from_secs(1)), None);
        assert_eq!(Rate::new(1, Duration::ZERO), None);
    }

    #[test]
    fn an_interval_is_rounded_up() {
        let rate = Rate::new(7, Duration::from_secs(1)).unwrap();
        assert_eq!((rate.interval_us(), rate.tolerance_us()), (142_858, 6 * 142_858));
        assert_eq!(Rate::per_second(50).unwrap().interval_us(), 20_000);
    }

    #[test]
    fn the_largest_figures_do_not_overflow() {
        for count in [1, 2, u32::MAX] {
            let rate = Rate::new(count, Duration::MAX).unwrap();
            assert!(rate.tolerance_us() + rate.interval_us() <= rate.period_us() + u64::from(count));
            assert!(rate.cost_us(u64::MAX) > 0);
        }
    }
}
