//! The time of day.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, Unix milliseconds.
pub fn now_ms() -> i64 {
    i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX)
}

/// Now, Unix microseconds.
pub fn now_us() -> u64 {
    u64::try_from(since_epoch().as_micros()).unwrap_or(u64::MAX)
}

fn since_epoch() -> std::time::Duration {
    // A clock before 1970 is a machine without a clock: the epoch is as good as any.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
