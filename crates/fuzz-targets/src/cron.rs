//! Times of a schedule: a cron expression, and after a line break the name of a time zone.

use starling_jobs::CronTimes;

/// A moment in November 2026, Unix milliseconds.
const MOMENT_MS: i64 = 1_795_000_000_000;

/// Reads the times of a schedule, and looks for the next moments.
pub fn cron(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (expression, zone) = text.split_once('\n').unwrap_or((text, "UTC"));
    let Ok(times) = CronTimes::parse(expression, zone) else { return };
    let mut moment_ms = MOMENT_MS;
    for _ in 0..3 {
        let Some(next_ms) = times.after(moment_ms) else { return };
        assert!(next_ms > moment_ms, "{next_ms} comes after {moment_ms}");
        moment_ms = next_ms;
    }
}
