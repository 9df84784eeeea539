//! Classifying SQLite's errors.

use rusqlite::ErrorCode;

use crate::Error;

/// Translates a failed statement.
fn of_statement(error: &rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::ReadOnly,
        ) => Error::Unavailable(error.to_string()),
        _ => Error::Refused(error.to_string()),
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        of_statement(&error)
    }
}
