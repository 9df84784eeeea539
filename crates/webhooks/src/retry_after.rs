//! The header `Retry-After` (RFC 9110, section 10.2.3).

use std::time::{Duration, SystemTime};

/// Returns how long the header asks to wait: a number of seconds, or a date. `None` if it is neither.
pub(crate) fn parse(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large is a very long time.
        return Some(Duration::from_secs(value.parse::<u32>().unwrap_or(u32::MAX).into()));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read() {
        // Tue, 01 Dec 2026 12:00:00 GMT
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_796_126_400);
        for (value, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999", Some(u64::from(u32::MAX))),
            ("Tue, 01 Dec 2026 12:00:30 GMT", Some(30)),
            ("Tuesday, 01-Dec-26 12:01:00 GMT", Some(60)),
            ("Tue Dec  1 12:00:05 2026", Some(5)),
            ("Tue, 01 Dec 2026 11:00:00 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
            ("Tue, 99 Dec 2026 12:00:30 GMT", None),
        ] {
            assert_eq!(parse(value, now).map(|wait| wait.as_secs()), seconds, "{value}");
        }
    }
}
