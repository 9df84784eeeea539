//! Values as the database keeps them.

use std::time::Duration;

use crate::{Error, Secret};

/// Returns a duration as whole milliseconds.
pub(super) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Reads a secret that the database keeps.
pub(super) fn secret(text: &str) -> Result<Secret, Error> {
    Secret::parse(text).map_err(|error| Error::Refused(error.to_string()))
}
