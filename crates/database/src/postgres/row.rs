//! Reading columns, and converting times.

use std::time::{Duration, SystemTime};

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::error;
use crate::Error;

/// Reads a column by its position.
///
/// # Errors
/// [`Error::Refused`] if it is of another type.
pub fn column<'a, T: FromSql<'a>>(row: &'a Row, position: usize) -> Result<T, Error> {
    row.try_get(position).map_err(|error| error::of_decoding(&error))
}

/// Returns a time as Unix milliseconds.
pub fn to_ms(time: SystemTime) -> i64 {
    let (before, distance) = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (false, after),
        Err(error) => (true, error.duration()),
    };
    let ms = i64::try_from(distance.as_millis()).unwrap_or(i64::MAX);
    if before { -ms } else { ms }
}

/// Returns Unix milliseconds as a time.
///
/// # Errors
/// [`Error::Refused`] for one that is beyond the system's calendar.
pub fn to_time(ms: i64) -> Result<SystemTime, Error> {
    let distance = Duration::from_millis(ms.unsigned_abs());
    let time = if ms < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.ok_or_else(|| Error::Refused(format!("{ms} ms is no time")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_way_there_and_back() {
        for ms in [0, 1, -1, 1_790_000_000_123, -86_400_000] {
            assert_eq!(to_ms(to_time(ms).unwrap()), ms);
        }
    }
}
