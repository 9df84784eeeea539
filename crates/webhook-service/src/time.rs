//! The time of day, and pauses that differ from node to node.

use std::time::{Duration, SystemTime};

/// Returns the time, Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Returns about this time, so that nodes do not do the same at the same moment.
pub(crate) fn about(time: Duration) -> Duration {
    time.mul_f64(0.8 + 0.4 * rand::random::<f64>())
}
