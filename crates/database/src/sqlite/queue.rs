//! Errors of calls that had no turn.

use std::time::Duration;

use crate::Error;

/// The error if the thread behind a queue has ended.
pub(super) fn closed() -> Error {
    Error::Unavailable("the database is closed".into())
}

/// The error if the queue is too long or the disk too slow.
pub(super) fn late(limit: Duration) -> Error {
    Error::Unavailable(format!("no answer within {limit:?}"))
}
