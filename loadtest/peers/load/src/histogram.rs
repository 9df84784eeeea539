//! Times with their percentiles, to 3 %: 32 classes for each power of two of nanoseconds.

/// Classes for each power of two, as a power of two.
const FINE_BITS: u32 = 5;

/// Times in nanoseconds.
#[derive(Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; 64 << FINE_BITS], total: 0 }
    }
}

impl Histogram {
    /// Adds a time.
    pub fn record(&mut self, time_ns: u64) {
        let time = time_ns.max(1 << FINE_BITS);
        let power = time.ilog2();
        let fine = (time >> (power - FINE_BITS)) & ((1 << FINE_BITS) - 1);
        self.counts[((power << FINE_BITS) as u64 + fine) as usize] += 1;
        self.total += 1;
    }

    /// The time in milliseconds that so many per cent do not exceed; nothing if it is empty.
    pub fn percentile_ms(&self, percent: f64) -> Option<f64> {
        let wanted = (self.total as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        let class = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        let (power, fine) = ((class >> FINE_BITS) as u32, (class & ((1 << FINE_BITS) - 1)) as u64);
        let begin = ((1 << FINE_BITS) | fine) << power.saturating_sub(FINE_BITS);
        Some(begin as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_three_per_cent() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile_ms(50.0), None);
        for time in 1..=1000 {
            histogram.record(time * 1_000_000);
        }
        for (percent, expected) in [(50.0, 500.0), (99.0, 990.0), (99.9, 999.0)] {
            let found = histogram.percentile_ms(percent).unwrap();
            assert!((found / expected - 1.0).abs() < 0.04, "{percent}: {found}");
        }
    }
}
