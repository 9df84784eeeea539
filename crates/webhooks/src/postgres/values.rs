//! Values as the database keeps them.

use std::time::Duration;

use starling_database::postgres::column;
use tokio_postgres::Row;

use crate::{Error, Secret};

/// Returns a duration as whole milliseconds.
pub(super) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Reads a secret that the database keeps.
pub(super) fn secret(text: &str) -> Result<Secret, Error> {
    Secret::parse(text).map_err(|error| Error::Refused(error.to_string()))
}

/// Reads the secrets that sign: the newest in this column, and perhaps the one before in the next.
pub(super) fn secrets(row: &Row, position: usize) -> Result<Vec<Secret>, Error> {
    let texts: [Option<&str>; 2] = [column(row, position)?, column(row, position + 1)?];
    texts.into_iter().flatten().map(secret).collect()
}
