//! A histogram of the last seconds' delivery times, for the node's record. Any thread may write to it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Number of buckets: four for each doubling from 1 µs to some 65 s.
const BUCKETS: usize = 4 * 26;

/// A histogram of times.
#[derive(Debug)]
pub struct LatencyWindow {
    counts: [AtomicU64; BUCKETS],
}

impl Default for LatencyWindow {
    fn default() -> LatencyWindow {
        LatencyWindow { counts: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl LatencyWindow {
    /// Counts a time, microseconds.
    pub fn record(&self, us: u64) {
        self.counts[bucket(us)].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the 50th and 99th percentile since the last call, microseconds; 0 if nothing was counted.
    pub fn take_percentiles(&self) -> (u64, u64) {
        let counts: Vec<u64> = self.counts.iter().map(|count| count.swap(0, Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let at = |share: u64| {
            let mut left = (total * share).div_ceil(100);
            for (bucket, count) in counts.iter().enumerate() {
                if left <= *count && left > 0 {
                    return upper(bucket);
                }
                left = left.saturating_sub(*count);
            }
            0
        };
        (at(50), at(99))
    }
}

fn bucket(us: u64) -> usize {
    let us = us.max(4);
    let octave = us.ilog2();
    let quarter = (us >> (octave - 2)) & 3;
    ((octave - 2) as usize * 4 + quarter as usize).min(BUCKETS - 1)
}

fn upper(bucket: usize) -> u64 {
    let (octave, quarter) = (bucket / 4 + 2, bucket as u64 % 4);
    (4 + quarter + 1) << (octave - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_within_a_quarter() {
        let window = LatencyWindow::default();
        for us in 1..=1_000 {
            window.record(us);
        }
        let (p50, p99) = window.take_percentiles();
        assert!((500..=640).contains(&p50), "{p50}");
        assert!((990..=1_250).contains(&p99), "{p99}");
        assert_eq!(window.take_percentiles(), (0, 0));
    }
}
