//! The database's clock, which is the machine's clock here.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the time in milliseconds of Unix time; 0 if the clock shows a time before 1970.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
