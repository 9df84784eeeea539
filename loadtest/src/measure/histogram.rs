//! Times, with their percentiles.

use std::time::Duration;

use anyhow::Result;

/// The longest time that is told apart from longer ones.
const LONGEST_US: u64 = 600_000_000;

/// Times in microseconds, to two digits.
#[derive(Clone, Debug)]
pub struct Histogram(hdrhistogram::Histogram<u64>);

impl Default for Histogram {
    fn default() -> Self {
        let histogram = hdrhistogram::Histogram::new_with_bounds(1, LONGEST_US, 2);
        // The bounds are constants that the library accepts.
        Self(histogram.unwrap_or_else(|error| unreachable!("bounds of the histogram: {error}")))
    }
}

impl Histogram {
    /// Adds a time.
    pub fn record(&mut self, time_us: u64) {
        self.0.saturating_record(time_us.max(1));
    }

    /// Adds a time.
    pub fn record_duration(&mut self, time: Duration) {
        self.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds all times of another histogram.
    ///
    /// # Errors
    /// Never, since all have the same bounds.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// How many times it holds.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time in milliseconds that so many per cent do not exceed; nothing if it is empty.
    pub fn percentile_ms(&self, percent: f64) -> Option<f64> {
        (self.count() > 0).then(|| self.0.value_at_percentile(percent) as f64 / 1000.0)
    }

    /// The longest time in milliseconds.
    pub fn max_ms(&self) -> Option<f64> {
        (self.count() > 0).then(|| self.0.max() as f64 / 1000.0)
    }
}
