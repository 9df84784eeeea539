//! What a call hears whose turn did not come.

use std::time::Duration;

use crate::Error;

/// The thread behind a queue has ended.
pub(super) fn closed() -> Error {
    Error::Unavailable("the database is closed".into())
}

/// The queue is too long, or the disk too slow.
pub(super) fn late(limit: Duration) -> Error {
    Error::Unavailable(format!("no answer within {limit:?}"))
}
