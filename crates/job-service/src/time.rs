//! Times: the present one, and helpers to show and to spread them.

use std::time::{Duration, SystemTime};

/// Returns the present time, Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Returns a time in milliseconds as seconds; a negative one as 0, since the database has a clock of its own.
#[expect(clippy::cast_precision_loss, reason = "waiting times have few digits")]
pub(crate) fn seconds(ms: i64) -> f64 {
    ms.max(0) as f64 / 1e3
}

/// Returns a time that is up to a quarter shorter or longer, so that nodes that started together do not ask together.
pub(crate) fn about(time: Duration) -> Duration {
    time.mul_f64(0.75 + rand::random::<f64>() / 2.0)
}
