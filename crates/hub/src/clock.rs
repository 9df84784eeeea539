//! The time of day, durations in milliseconds, and the interval of work that is done each second. Only this module asks the system for the time.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

/// How often a node does its regular work.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// Returns the current time, Unix milliseconds.
pub fn now_ms() -> i64 {
    i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX)
}

/// Returns the current time, Unix microseconds.
pub fn now_us() -> u64 {
    u64::try_from(since_epoch().as_micros()).unwrap_or(u64::MAX)
}

/// Returns a duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Makes an interval of a second. The first tick comes at once.
pub(crate) fn every_second() -> Interval {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

#[cfg(feature = "simulation")]
fn since_epoch() -> Duration {
    crate::simulation::since_epoch().unwrap_or_else(by_the_system)
}

#[cfg(not(feature = "simulation"))]
fn since_epoch() -> Duration {
    by_the_system()
}

#[expect(clippy::disallowed_types, reason = "this is the clock that all others use")]
fn by_the_system() -> Duration {
    use std::time::{SystemTime, UNIX_EPOCH};
    // A time before 1970 means that the machine has no clock. Then the epoch is as good as any time.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
