//! When a schedule fires: a cron expression in a time zone.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};

/// The longest cron expression, bytes.
const EXPRESSION_BYTES_MAX: usize = 200;

/// A cron expression in a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronTimes {
    cron: Cron,
    zone: Tz,
}

/// Why an expression in a time zone can't be used. The caller is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTimes {
    /// The expression can't be read.
    #[error(
        "`cron` is not a cron expression: {0}. Write minute, hour, day of the month, month and day of the week, such as `30 6 * * MON-FRI`"
    )]
    Expression(String),
    /// No moment matches.
    #[error("`cron` never comes true: there is no such day")]
    Never,
    /// There is no such zone.
    #[error("`time_zone` is not a zone of the IANA database, such as `Europe/Zurich` or `UTC`")]
    Zone,
}

impl CronTimes {
    /// Reads a cron expression with five fields, or six if it begins with seconds, and the name of a zone in the IANA database.
    ///
    /// # Errors
    /// [`InvalidTimes`] for what is wrong.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, InvalidTimes> {
        let zone: Tz = zone.parse().map_err(|_| InvalidTimes::Zone)?;
        if expression.len() > EXPRESSION_BYTES_MAX {
            return Err(InvalidTimes::Expression(format!("it has more than {EXPRESSION_BYTES_MAX} bytes")));
        }
        if !expression.is_ascii() {
            return Err(InvalidTimes::Expression("it has characters beyond ASCII".to_owned()));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(expression).map_err(|error| InvalidTimes::Expression(reason(&error)))?;
        let times = Self { cron, zone };
        if times.after(0).is_none() {
            return Err(InvalidTimes::Never);
        }
        Ok(times)
    }

    /// Returns the first moment after this one, both Unix milliseconds. `None` if there is none.
    ///
    /// A fixed time of day that is left out where clocks go forward comes when they have; one that comes twice where they go back counts the first
    /// time. Expressions with `*`, lists, ranges or steps in the minute or the hour come at each moment that matches.
    #[must_use]
    pub fn after(&self, moment_ms: i64) -> Option<i64> {
        let moment = DateTime::<Utc>::from_timestamp_millis(moment_ms)?.with_timezone(&self.zone);
        Some(self.cron.find_next_occurrence(&moment, false).ok()?.timestamp_millis())
    }

    /// Returns the last moment before this one.
    pub(crate) fn before(&self, moment_ms: i64) -> Option<i64> {
        // The search knows whole seconds only. One that has begun is before this moment.
        let second =
            DateTime::<Utc>::from_timestamp(moment_ms.div_euclid(1000), 0)?.with_timezone(&self.zone);
        let has_begun = moment_ms.rem_euclid(1000) > 0;
        Some(self.cron.find_previous_occurrence(&second, has_begun).ok()?.timestamp_millis())
    }
}

/// Returns what is wrong, in words that can stand in a sentence.
fn reason(error: &CronError) -> String {
    let text = match error {
        CronError::EmptyPattern => "it is empty".to_owned(),
        CronError::InvalidPattern(why)
        | CronError::IllegalCharacters(why)
        | CronError::ComponentError(why) => why.clone(),
        error => error.to_string(),
    };
    text.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a moment as Unix milliseconds.
    fn ms(moment: &str) -> i64 {
        DateTime::parse_from_rfc3339(moment).expect(moment).timestamp_millis()
    }

    /// Returns the moments after this one, as they are written in UTC.
    fn moments(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let times = CronTimes::parse(cron, zone).expect(cron);
        let mut moment_ms = ms(after);
        let next = || {
            moment_ms = times.after(moment_ms).expect("a further moment");
            DateTime::<Utc>::from_timestamp_millis(moment_ms)
                .expect("a time")
                .format("%d %H:%M:%S")
                .to_string()
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    #[test]
    fn moments_follow_the_zone() {
        let daily = moments("30 6 * * MON-FRI", "Europe/Zurich", "2026-11-20T12:00:00Z", 3);
        assert_eq!(daily, ["23 05:30:00", "24 05:30:00", "25 05:30:00"], "a Friday is followed by a Monday");
        assert_eq!(
            moments("@hourly", "Asia/Kolkata", "2026-11-20T12:00:00Z", 2),
            ["20 12:30:00", "20 13:30:00"]
        );
        assert_eq!(
            moments("*/20 * * * * *", "UTC", "2026-11-20T12:00:00.5Z", 2),
            ["20 12:00:20", "20 12:00:40"]
        );
        assert_eq!(moments("0 12 L * *", "UTC", "2027-02-01T00:00:00Z", 1), ["28 12:00:00"]);
    }

    #[test]
    fn clocks_that_go_forward_leave_out_no_fixed_time_and_no_hour_too_many() {
        // In Zurich, 02:00 becomes 03:00 on 28 March 2027, at 01:00 UTC.
        let daily = moments("30 2 * * *", "Europe/Zurich", "2027-03-27T00:00:00Z", 3);
        assert_eq!(daily, ["27 01:30:00", "28 01:00:00", "29 00:30:00"]);
        let hourly = moments("0 * * * *", "Europe/Zurich", "2027-03-28T00:00:00Z", 3);
        assert_eq!(hourly, ["28 01:00:00", "28 02:00:00", "28 03:00:00"]);
    }

    #[test]
    fn clocks_that_go_back_repeat_no_fixed_time_and_leave_out_no_hour() {
        // In Zurich, 03:00 becomes 02:00 on 31 October 2027, at 01:00 UTC.
        let daily = moments("30 2 * * *", "Europe/Zurich", "2027-10-30T00:00:00Z", 3);
        assert_eq!(daily, ["30 00:30:00", "31 00:30:00", "01 01:30:00"]);
        let hourly = moments("0 * * * *", "Europe/Zurich", "2027-10-30T23:30:00Z", 3);
        assert_eq!(hourly, ["31 00:00:00", "31 01:00:00", "31 02:00:00"]);
    }

    #[test]
    fn the_moment_before_is_the_last_one_that_has_begun() {
        let times = CronTimes::parse("0 * * * *", "Europe/Zurich").expect("good");
        let at = ms("2026-11-20T12:00:00Z");
        assert_eq!((times.before(at), times.before(at + 1)), (Some(at - 3_600_000), Some(at)));
        assert_eq!(times.before(at + 5_000), Some(at));
    }

    #[test]
    fn what_can_not_be_read_is_named() {
        for cron in [
            "",
            "* * * *",
            "60 * * * *",
            "* * * * * * *",
            "soon",
            "ä * * * *",
            "* 25 * * *",
            "*/0 * * * *",
            "\0",
        ] {
            let error = CronTimes::parse(cron, "UTC").expect_err(cron);
            assert!(matches!(error, InvalidTimes::Expression(_)), "{cron:?}: {error}");
        }
        let long = format!("{} * * * *", "1,".repeat(200));
        assert!(CronTimes::parse(&long, "UTC").is_err());
        for zone in ["", "Zurich", "Mars/Olympus", "../etc/passwd"] {
            assert_eq!(CronTimes::parse("* * * * *", zone), Err(InvalidTimes::Zone), "{zone}");
        }
    }

    #[test]
    fn an_expression_that_never_comes_true_is_refused() {
        for cron in ["0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
            assert_eq!(CronTimes::parse(cron, "Europe/Zurich"), Err(InvalidTimes::Never), "{cron}");
        }
    }
}
