//! The time of day: the only place of a node that asks the system for it; and the pace of what a node does each second.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

/// How often a node looks after what it keeps true.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// Now, Unix milliseconds.
pub fn now_ms() -> i64 {
    i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX)
}

/// Now, Unix microseconds.
pub fn now_us() -> u64 {
    u64::try_from(since_epoch().as_micros()).unwrap_or(u64::MAX)
}

/// A turn each second, the first one at once.
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
    // A clock before 1970 is a machine without a clock: the epoch is as good as any.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
