//! An estimate of the server's clock.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a reading is preferred to a later one whose answer took longer. (Clocks drift some tens of microseconds in a second.)
const GOOD_FOR: Duration = Duration::from_secs(60);
/// By how much two readings of one clock may differ beyond the times that their answers took, microseconds. The server tells
/// milliseconds.
const SLACK_US: i64 = 2_000;

/// Half a millisecond: the greatest error of a time in whole milliseconds.
const HALF_MS_US: i64 = 500;

/// The difference between the server's clock and this process's, by Cristian's algorithm (*Probabilistic clock synchronization*, 1989).
/// The time in an answer is taken as the time half-way between question and answer; the quickest answer has the least error.
#[derive(Debug)]
pub(super) struct ServerClock {
    origin: Instant,
    reading: Mutex<Option<Reading>>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    /// The server's time at the origin, microseconds.
    offset_us: i64,
    /// The time that the answer took, microseconds.
    took_us: i64,
}

impl ServerClock {
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), reading: Mutex::default() }
    }

    /// Notes a reading: the server's time in milliseconds, and the moments of the question and of the answer.
    pub(super) fn read(&self, asked: Instant, answered: Instant, server_ms: i64) {
        let took_us = us(answered.saturating_duration_since(asked));
        let server_us = server_ms.saturating_mul(1_000).saturating_add(HALF_MS_US);
        let offset_us = server_us - us(asked.saturating_duration_since(self.origin)) - took_us / 2;
        let new = Reading { at: answered, offset_us, took_us };
        let mut reading = self.reading.lock();
        let keeps = |old: &Reading| {
            let apart_us = (old.offset_us - offset_us).abs();
            old.took_us < took_us
                && answered.saturating_duration_since(old.at) < GOOD_FOR
                // If they are further apart, it is another server, or its clock was set.
                && apart_us <= (old.took_us + took_us) / 2 + SLACK_US
        };
        if !reading.as_ref().is_some_and(keeps) {
            *reading = Some(new);
        }
    }

    /// Returns the server's time at this moment, in microseconds of Unix time; `None` if it was never read.
    pub(super) fn at(&self, moment: Instant) -> Option<i64> {
        let reading = *self.reading.lock();
        Some(reading?.offset_us + self.since_origin(moment))
    }

    /// Returns the latest time that the server's clock may show at this moment.
    pub(super) fn latest_at(&self, moment: Instant) -> Option<i64> {
        let reading = *self.reading.lock();
        reading
            .map(|reading| reading.offset_us + self.since_origin(moment) + reading.took_us / 2 + HALF_MS_US)
    }

    fn since_origin(&self, moment: Instant) -> i64 {
        let since = us(moment.saturating_duration_since(self.origin));
        let before = us(self.origin.saturating_duration_since(moment));
        since - before
    }
}

fn us(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_answer_counts_until_it_is_old_or_the_clock_was_set() {
        let clock = ServerClock::new();
        let after = |ms: u64| clock.origin + Duration::from_millis(ms);
        assert_eq!(clock.at(after(0)), None);
        clock.read(after(0), after(100), 50_050);
        assert_eq!(clock.at(after(0)), Some(50_000_500));
        assert_eq!(clock.latest_at(after(0)), Some(50_051_000));
        clock.read(after(1_000), after(1_002), 51_021);
        assert_eq!(clock.at(after(1_000)), Some(51_020_500), "a quicker one");
        clock.read(after(2_000), after(2_100), 52_080);
        assert_eq!(clock.at(after(2_000)), Some(52_020_500), "a slower one");
        clock.read(after(3_000), after(3_100), 90_050);
        assert_eq!(clock.at(after(3_000)), Some(90_000_500), "another clock");
        clock.read(after(100_000), after(100_200), 187_100);
        assert_eq!(clock.at(after(100_000)), Some(187_000_500), "the older one is too old");
    }
}
