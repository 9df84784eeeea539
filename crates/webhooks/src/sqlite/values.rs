//! Values as the database keeps them.

use std::time::{Duration, SystemTime};

use rusqlite::Row;

use crate::{Error, Secret};

/// Returns the time, Unix milliseconds. The database is on this machine, so its clock is the database's.
pub(super) fn now_ms() -> i64 {
    ms(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// Returns a duration as whole milliseconds.
pub(super) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Reads a secret that the database keeps.
pub(super) fn secret(text: &str) -> Result<Secret, Error> {
    Secret::parse(text).map_err(|error| Error::Refused(error.to_string()))
}

/// Returns an id as the database keeps it.
pub(super) fn blob(id: uuid::Uuid) -> [u8; 16] {
    id.into_bytes()
}

/// Reads the secrets that sign: the newest in this column, and perhaps the one before in the next.
pub(super) fn secrets(row: &Row<'_>, position: usize) -> Result<Vec<Secret>, Error> {
    let texts: [Option<String>; 2] = [row.get(position)?, row.get(position + 1)?];
    texts.iter().flatten().map(|text| secret(text)).collect()
}
