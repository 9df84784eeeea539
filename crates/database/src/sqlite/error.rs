//! What SQLite's errors mean to a caller.

use rusqlite::ErrorCode;

use crate::Error;

/// What a failed statement means.
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
